/** Copies of transposed and strided arrays: every form of the kernels and dtype, edges of a line and of a tile. */

import { assert, assertEquals } from "@std/assert";
import { arange, init, type Tensor, zeros } from "../../mod.ts";
import type { DType } from "../../engine/dtype.ts";
import { gpu, reopen } from "../../engine/gpu/device.ts";

await init();

/** Shapes and the order in which their dimensions are copied. */
const CASES: readonly (readonly [shape: number[], order: number[]])[] = [
  [[8, 8], [1, 0]],
  [[16, 32], [1, 0]],
  [[17, 31], [1, 0]],
  [[33, 9], [1, 0]],
  [[129, 65], [1, 0]],
  [[3, 16, 40], [0, 2, 1]],
  [[5, 47, 15], [0, 2, 1]],
  [[16, 5, 33], [2, 1, 0]],
  [[2, 3, 11, 12], [0, 2, 3, 1]],
  [[2, 6, 2, 48], [0, 3, 1, 2]],
];

/** Element i of the permuted array, from i's coordinates alone. */
function expected(shape: readonly number[], order: readonly number[]): number[] {
  const sizes = order.map((d) => shape[d]!);
  const count = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: count }, (_, i) => {
    const at = new Array<number>(shape.length);
    for (let d = sizes.length - 1, rest = i; d >= 0; d--) {
      at[order[d]!] = rest % sizes[d]!;
      rest = Math.floor(rest / sizes[d]!);
    }
    return at.reduce((sum, c, d) => sum * shape[d]! + c, 0);
  });
}

/** Values that f16 and bool hold, too: the number's bits in turn. */
function numbered(shape: readonly number[], dtype: DType): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return arange(count).reshape(shape).to(dtype);
}

for (const form of ["lines", "tiles"] as const) {
  Deno.test(`transposed copies by ${form} move every element to its place`, async () => {
    await reopen();
    Object.assign(gpu().info, { software: form === "lines" });
    const f16 = gpu().info.features.has("shader-f16") ? ["f16"] as const : [];
    const seen = new Set<string>();
    const { queue } = gpu(), { launch } = queue;
    queue.launch = (run) => {
      seen.add(run.kernel.name);
      launch.call(queue, run);
    };
    for (const dtype of ["f32", "i32", "u32", "bool", ...f16] as const) {
      for (const [shape, order] of CASES) {
        const x = numbered(shape, dtype);
        const source = [...await x.to("f32").data()];
        const got = [...await x.permute(order).contiguous().to("f32").data()];
        assertEquals(got, expected(shape, order).map((i) => source[i]!), `${dtype} ${shape}`);
      }
    }
    const half = f16.length > 0 ? [`transpose_${form}_f16`] : [];
    for (const name of [`transpose_${form}_f32`, `transpose_${form}_u32`, ...half]) {
      assert(seen.has(name), name);
    }
  });
}

Deno.test("a transposed window of a larger array is copied from its own place", async () => {
  await reopen();
  const x = arange(20 * 24).reshape([20, 24]);
  const window = x.narrow(0, 3, 16).narrow(1, 5, 17).transpose(0, 1);
  const got = [...await window.contiguous().data()];
  const right = Array.from({ length: 17 * 16 }, (_, i) => (3 + i % 16) * 24 + 5 + (i >> 4));
  assertEquals(got, right);
});

Deno.test("every other element is filled and converted, the last one too", async () => {
  const x = zeros([9]);
  x.slice(0, 0, 9, 2).fill_(3);
  assertEquals([...await x.data()], [3, 0, 3, 0, 3, 0, 3, 0, 3]);
  const f16 = gpu().info.features.has("shader-f16") ? ["f16"] as const : [];
  for (const dtype of ["i32", "u32", "bool", ...f16] as const) {
    const odd = arange(10).slice(0, 1, 10, 2).to(dtype);
    const want = dtype === "bool" ? [1, 1, 1, 1, 1] : [1, 3, 5, 7, 9];
    assertEquals([...await odd.to("f32").data()], want, dtype);
  }
});
