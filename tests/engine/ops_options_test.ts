/** What `add`, `sub` and `div` take beside their operands, as PyTorch has it. */

import { assertEquals } from "@std/assert";
import { add, div, init, sub, type Tensor, tensor } from "../../engine/mod.ts";

await init();

const ints = (values: number[]) => tensor(values, { dtype: "i32" });

/** Dtype and elements. */
async function of(y: Tensor): Promise<unknown[]> {
  return [y.dtype, ...await y.data()];
}

Deno.test("add() and sub() multiply the second operand by alpha", async () => {
  const x = tensor([1, 2]), y = tensor([10, -4]), i = ints([3, 5]);
  const cases: [Tensor, unknown[]][] = [
    [x.add(y, { alpha: 2 }), ["f32", 21, -6]],
    [x.sub(y, { alpha: 2 }), ["f32", -19, 10]],
    [x.add(y, { alpha: 0 }), ["f32", 1, 2]],
    [x.add(y, { alpha: 1 }), ["f32", 11, -2]],
    [x.add(y, {}), ["f32", 11, -2]],
    [x.add(3, { alpha: 0.5 }), ["f32", 2.5, 3.5]],
    [x.add(tensor([[1], [2]]), { alpha: -1 }), ["f32", 0, 1, -1, 0]],
    [add(x, y, { alpha: 2 }), ["f32", 21, -6]],
    [add(1, y, { alpha: 2 }), ["f32", 21, -7]],
    [sub(1, y, { alpha: 2 }), ["f32", -19, 9]],
    [sub(x, 3, { alpha: 2 }), ["f32", -5, -4]],
    // Integers stay so, beside a float they are one.
    [i.add(i, { alpha: 2 }), ["i32", 9, 15]],
    [i.sub(2, { alpha: 2 }), ["i32", -1, 1]],
    [i.add(2.5, { alpha: 2 }), ["f32", 8, 10]],
    [x.add(i, { alpha: 0.5 }), ["f32", 2.5, 4.5]],
    [i.add(x, { alpha: 0.5 }), ["f32", 3.5, 6]],
    // The product is as wide as the sum: 2049 is not in f16.
    [x.sub(tensor([2048, 3], { dtype: "f16" }), { alpha: 683 }), ["f32", 1 - 683 * 2048, 2 - 2049]],
  ];
  for (const [k, [y, want]] of cases.entries()) assertEquals(await of(y), want, `case ${k}`);
});

Deno.test("add() and sub() give the second operand alpha times the gradient", async () => {
  const x = tensor([1, 2], { requiresGrad: true }), y = tensor([3, 4], { requiresGrad: true });
  x.add(y, { alpha: 3 }).sub(x, { alpha: 0.5 }).mul(tensor([1, 10])).sum().backward();
  assertEquals([...await x.grad!.data()], [0.5, 5]);
  assertEquals([...await y.grad!.data()], [3, 30]);
});

Deno.test("div() rounds as roundingMode says, and integers stay integers", async () => {
  const a = ints([7, -7, 7, -7, 6, -(2 ** 31), 5]), b = ints([2, 2, -2, -2, 3, 1, 0]);
  const floor = { roundingMode: "floor" } as const, trunc = { roundingMode: "trunc" } as const;
  const cases: [Tensor, unknown[]][] = [
    [a.div(b, floor), ["i32", 3, -4, -4, 3, 2, -(2 ** 31), 5]],
    [a.div(b, trunc), ["i32", 3, -3, -3, 3, 2, -(2 ** 31), 5]],
    [a.div(2, trunc), ["i32", 3, -3, 3, -3, 3, -(2 ** 30), 2]],
    [a.div(2.5, trunc), ["f32", 2, -2, 2, -2, 2, Math.trunc(Math.fround(-(2 ** 31) / 2.5)), 2]],
    [div(a, b, floor), ["i32", 3, -4, -4, 3, 2, -(2 ** 31), 5]],
    [div(7, ints([2, -2]), trunc), ["i32", 3, -3]],
    [tensor([7, 1], { dtype: "u32" }).div(2, trunc), ["u32", 3, 0]],
    [ints([7, -7]).div(2), ["f32", 3.5, -3.5]],
    [ints([7, -7]).div(2, { roundingMode: null }), ["f32", 3.5, -3.5]],
    [tensor([7, -7]).div(2, floor), ["f32", 3, -4]],
    [tensor([7, -7]).div(2, trunc), ["f32", 3, -3]],
  ];
  for (const [k, [y, want]] of cases.entries()) assertEquals(await of(y), want, `case ${k}`);
});
