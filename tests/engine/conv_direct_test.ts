/** Convolutions of few channels by the kernel for them, which plans take on discrete GPUs alone. */

import { assert, assertEquals } from "@std/assert";
import { gpu, init } from "../../engine/gpu/device.ts";
import { onTiledCore } from "../../engine/ops/conv_core.ts";
import { isDirect, isDirectWeightGrad, onDirect } from "../../engine/ops/conv_direct.ts";
import {
  arange,
  conv2d,
  convTranspose2d,
  ones,
  profile,
  randint,
  readAll,
  scope,
  type Tensor,
  tensor,
} from "../../engine/mod.ts";
import { assertSame } from "../helpers/close.ts";
import { poisoned } from "../helpers/poison.ts";

const { features } = await init();

/** Several patches and their ends, blocks of channels in and out, groups, padding below and above the window's. */
const SHAPES = [
  { x: [2, 3, 16, 64], w: [16, 3, 3, 3], padding: 1, groups: 1 },
  { x: [1, 9, 17, 70], w: [20, 9, 3, 3], padding: 1, groups: 1 },
  { x: [2, 10, 9, 37], w: [34, 5, 3, 3], padding: 0, groups: 2 },
  { x: [1, 4, 5, 3], w: [5, 4, 3, 3], padding: 3, groups: 1 },
  { x: [1, 1, 1, 1], w: [1, 1, 3, 3], padding: 1, groups: 1 },
  // Rows of whole fours, as the weight's gradient wants: blocks of channels, strips and shares of them, with their ends.
  { x: [5, 17, 9, 36], w: [18, 17, 3, 3], padding: 1, groups: 1 },
  { x: [2, 40, 7, 66], w: [10, 20, 3, 3], padding: 0, groups: 2 },
  { x: [3, 8, 1, 2], w: [3, 8, 3, 3], padding: 2, groups: 1 },
] as const;

Deno.test("whole numbers are exact in every patch, block and group, forward and back, in f32 and f16", async () => {
  const half = features.has("shader-f16");
  for (const [i, { x: shape, w: window, padding, groups }] of SHAPES.entries()) {
    for (const dtype of half && i % 2 === 1 ? ["f32", "f16"] as const : ["f32"] as const) {
      // Sums of at most 306 products of 3 or less stay below 2048, and f16 has every whole number up to there.
      const draw = (of: readonly number[]) => randint(-1, 2, { shape: of }).to(dtype);
      const [x, w, bias] = [draw(shape), draw(window), draw([window[0]])];
      const run = async () => {
        const results = scope(() => {
          const [gx, gw] = [x, w].map((t) => t.detach().requiresGrad_()) as [Tensor, Tensor];
          const y = conv2d(gx, gw, { bias, padding, groups });
          y.backward(arange(y.size).remainder(3).sub(1).reshape(y.shape).to(dtype));
          return [y.detach(), gx.grad!.detach(), gw.grad!.detach()].map((t) => t.to("f32"));
        });
        const values = await readAll(results);
        for (const t of results) t.dispose();
        return values;
      };
      using _ = poisoned();
      const [got, want] = [await onDirect(run), await onTiledCore(run)];
      got.forEach((values, i) => assertSame(values, want[i]!, `${dtype} ${shape} ${i}`));
      for (const t of [x, w, bias]) t.dispose();
    }
  }
});

Deno.test("every row, column and channel of a full block counts, with a bias and without", async () => {
  const draw = (...shape: number[]) => randint(-1, 2, { shape }).to("f32");
  const range = (n: number) => tensor(Array.from({ length: n }, (_, i) => i + 1));
  // Fewer channels than a step of the loop has, and one more; rows by fours and not.
  const blocks = [[8, 2], [8, 3], [8, 5], [16, 2], [16, 5]].flatMap(([rows, channels]) =>
    [36, 37].map((width) => [rows!, channels!, width] as const)
  );
  for (const [rows, channels, width] of blocks) {
    const [x, w, bias] = [draw(1, channels, 9, width), draw(rows, channels, 3, 3), range(rows)];
    const run = async () => {
      const results = scope(() => [
        conv2d(x, w, { padding: 1 }),
        conv2d(x, w, { padding: 1, bias }),
        // By the kernel that walks over the window backwards.
        convTranspose2d(x, w.transpose(0, 1), { padding: 1 }),
        convTranspose2d(x, w.transpose(0, 1), { padding: 1, bias }),
      ]);
      const values = await readAll(results);
      for (const t of results) t.dispose();
      return values;
    };
    using _ = poisoned();
    const [got, want] = [await onDirect(run), await onTiledCore(run)];
    got.forEach((values, i) => assertSame(values, want[i]!, `${rows} ${channels} ${width} ${i}`));
    for (const t of [x, w, bias]) t.dispose();
  }
});

Deno.test("GPUs take it for few channels whose patches lie inside of the image", async () => {
  const { info, limits } = gpu();
  const before = { ...info };
  const at = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  const sizes = { B: 2, C: 16, O: 16, H: 64, W: 64, OH: 64, OW: 64, KH: 3, KW: 3 };
  try {
    assertEquals(isDirect(sizes, at, false), !info.software);
    Object.assign(info, { software: false });
    assert(isDirect(sizes, at, false) && isDirect(sizes, at, true));
    // 16 rows forward, 64 as dX.
    const uneven = { ...sizes, C: 64 };
    assertEquals([isDirect(uneven, at, false), isDirect(uneven, at, true)], [true, false]);
    const no = [
      { s: { ...sizes, O: 33 } },
      { s: { ...sizes, KW: 1 } },
      // Three of four patches are to be full: 8 x 32 each.
      { s: { ...sizes, OH: 8, OW: 23 } },
      { s: { ...sizes, B: limits.maxComputeWorkgroupsPerDimension + 1 } },
      { at: { ...at, stride: [2, 1] as const } },
      { at: { ...at, dilation: [1, 2] as const } },
    ];
    for (const { s = sizes, at: window = at } of no) assert(!isDirect(s, window, false));
    assert(isDirect({ ...sizes, OH: 8, OW: 24 }, at, false));
    // The weight's gradient wants rows of whole fours and channels for most threads of a workgroup.
    assert(isDirectWeightGrad(sizes, at) && isDirectWeightGrad({ ...sizes, C: 8, O: 1 }, at));
    for (const s of [{ O: 33 }, { C: 7 }, { KW: 1 }, { OW: 66 }, { B: 0 }]) {
      assert(!isDirectWeightGrad({ ...sizes, ...s }, at), JSON.stringify(s));
    }
    const [x, w] = [
      randint(0, 2, { shape: [1, 4, 16, 32] }),
      randint(0, 2, { shape: [8, 4, 3, 3] }),
    ];
    const [a, b] = [x.to("f32"), w.to("f32")];
    const { dispatches } = await profile(() => conv2d(a, b, { padding: 1 }).dispose());
    assertEquals(dispatches.map((d) => d.kernel), ["conv2d_direct_8x4_wide"]);
    // One share, and as many as there are strips for: 4 each.
    for (const [rows, kernels] of [[4, 1], [20, 2]] as const) {
      const [c, d] = [ones([1, 8, rows, 64]), ones([8, 8, 3, 3]).requiresGrad_()];
      const { dispatches } = await profile(() => conv2d(c, d, { padding: 1 }).sum().backward());
      const names = dispatches.map((e) => e.kernel);
      assertEquals(names.slice(names.indexOf("conv2d_direct_dw")).length, kernels, `${names}`);
      for (const t of [c, d]) t.dispose();
    }
    for (const t of [x, w, a, b]) t.dispose();
  } finally {
    Object.assign(info, before);
  }
});
