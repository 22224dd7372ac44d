/**
 * Normalisation and linear layers in f16 against f32 on the same numbers. Both are computed and summed in f32, so all that
 * may differ is that the result is rounded once: by half a unit in f16's last place, where a comparison
 * with float64 has to allow dozens.
 */

import { assert } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import { init, type Tensor, tensor } from "../../engine/mod.ts";
import { batchNorm } from "../../engine/ops/batch_norm.ts";
import { groupNorm, layerNorm, rmsNorm } from "../../engine/ops/norm.ts";
import type { Op } from "../../engine/op.ts";
import { apply } from "../../engine/tensor.ts";
import { Draw } from "../helpers/draw.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

/** Half a unit in f16's last place, relative; results below its normal numbers may be 0. */
const ULP = 2 ** -11, TINY = 2 ** -14;

interface Case {
  readonly name: string;
  readonly op: Op<unknown>;
  readonly attrs: Record<string, unknown>;
  readonly shape: readonly number[];
  /** Shape of the weight and of the bias. */
  readonly affine: readonly number[];
}

const affine = { eps: 1e-5, weight: true, bias: true };

// More than 256 elements of a group are several shares; rows of whole fours, and others.
const CASES: readonly Case[] = [320, 321].flatMap((S): Case[] => [
  { name: "batchNorm", op: batchNorm as Op<unknown>, attrs: affine, shape: [2, 3, S], affine: [3] },
  {
    name: "batchNorm",
    op: batchNorm as Op<unknown>,
    attrs: { ...affine, activation: "relu" },
    shape: [2, 3, S],
    affine: [3],
  },
  {
    name: "batchNorm",
    op: batchNorm as Op<unknown>,
    attrs: { ...affine, weight: false, bias: false, activation: "hardswish" },
    shape: [2, 3, S],
    affine: [3],
  },
  {
    name: "layerNorm",
    op: layerNorm as Op<unknown>,
    attrs: { ...affine, dims: 1 },
    shape: [3, S],
    affine: [S],
  },
  {
    name: "rmsNorm",
    op: rmsNorm as Op<unknown>,
    attrs: { ...affine, bias: false, dims: 1 },
    shape: [3, S],
    affine: [S],
  },
  {
    name: "groupNorm",
    op: groupNorm as Op<unknown>,
    attrs: { ...affine, groups: 2 },
    shape: [2, 4, S],
    affine: [4],
  },
]);

/** Numbers of f16, of which those of the second half are four times as large. */
function numbers(draw: Draw, shape: readonly number[]): Float32Array {
  const size = shape.reduce((n, d) => n * d, 1);
  return Float32Array.from({ length: size }, (_, i) => draw.weight() * (2 * i < size ? 1 : 4));
}

/** Outputs and gradients where `half` says which of the inputs are f16. */
async function results({ op, attrs, shape, affine }: Case, half: (input: number) => boolean) {
  // Or a buffer of the run before would hold what a kernel did not write.
  using _fresh = poisoned();
  const draw = new Draw(op.name);
  const shapes = [shape, ...(attrs.weight ? [affine] : []), ...(attrs.bias ? [affine] : [])];
  const inputs = shapes.map((s, i) =>
    tensor(numbers(draw, s), { shape: s, dtype: half(i) ? "f16" : "f32" }).requiresGrad_()
  );
  const outputs = apply(op, inputs, attrs);
  // Every output has a part in the gradients, the batch's statistics, too.
  const parts = outputs.map((y) => y.mul(tensor(numbers(draw, y.shape), { shape: y.shape })).sum());
  parts.reduce((a, b) => a.add(b)).backward();
  const all: Tensor[] = [...outputs, ...inputs.map((x) => x.grad!)];
  return await Promise.all(all.map(async (t) => ({ dtype: t.dtype, data: await t.data() })));
}

for (const [i, each] of CASES.entries()) {
  Deno.test({
    name: `${each.name} of ${each.shape.join(" x ")} in f16 is that in f32, rounded (${i})`,
    ignore: !gpu().info.features.has("shader-f16"),
    async fn() {
      const want = await results(each, () => false);
      // Everything in f16, and the weight and the bias alone.
      for (const half of [() => true, (input: number) => input > 0]) {
        const got = await results(each, half);
        got.forEach(({ dtype, data }, r) => {
          data.forEach((value, e) => {
            const exact = want[r]!.data[e]!;
            const most = dtype === "f16" ? ULP * Math.abs(exact) + TINY : 0;
            assert(Math.abs(value - exact) <= most, `${r} ${dtype} ${e}: ${value}, not ${exact}`);
          });
        });
      }
    },
  });
}

Deno.test({
  name: "linear() with relu in f16 is that in f32, rounded",
  ignore: !gpu().info.features.has("shader-f16"),
  async fn() {
    using _fresh = poisoned();
    // Tiles of 8 rows and of 16, whole fours of K and of columns, and neither.
    for (const M of [5, 17]) {
      for (const K of [11, 12]) {
        for (const N of [33, 36]) {
          const draw = new Draw(`linear ${M} ${K} ${N}`);
          const [x, w, b] = [[M, K], [N, K], [N]].map((shape) =>
            tensor(numbers(draw, shape), { shape })
          ) as [Tensor, Tensor, Tensor];
          const want = await x.linear(w, b, { activation: "relu" }).data();
          const [hx, hw, hb] = [x.to("f16"), w.to("f16"), b.to("f16")];
          const got = await hx.linear(hw, hb, { activation: "relu" }).data();
          got.forEach((value, e) => {
            const most = ULP * Math.abs(want[e]!) + TINY;
            assert(Math.abs(value - want[e]!) <= most, `${M} ${K} ${N} ${e}: ${value}, ${want[e]}`);
          });
        }
      }
    }
  },
});
