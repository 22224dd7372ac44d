/** Gradients of batch normalisation that nothing but the output has, which kernels of their own make. */

import { batchNorm } from "../../engine/ops/batch_norm.ts";
import type { Activation } from "../../engine/ops/epilogue.ts";
import type { Op } from "../../engine/op.ts";
import { init, type Tensor, tensor } from "../../engine/mod.ts";
import { apply } from "../../engine/tensor.ts";
import { assertClose } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

/** The gradients of x, weight and bias, where the batch's mean and variance have one of 0, or none. */
async function gradients(
  shape: readonly number[],
  attrs: { weight: boolean; bias: boolean; activation?: Activation },
  statistics: boolean,
): Promise<Float32Array[]> {
  using _fresh = poisoned();
  const draw = new Draw(`${shape}`);
  const drawn = (shape: readonly number[]) => {
    const size = shape.reduce((n, d) => n * d, 1);
    return tensor(Array.from({ length: size }, () => draw.weight()), { shape });
  };
  const channel = [shape[1]!];
  const inputs = [
    drawn(shape),
    ...(attrs.weight ? [drawn(channel)] : []),
    ...(attrs.bias ? [drawn(channel)] : []),
  ];
  for (const t of inputs) t.requiresGrad_();
  const [y, mean, variance] = apply(batchNorm as Op<unknown>, inputs, { eps: 1e-5, ...attrs }) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const loss = y.mul(drawn(shape)).sum();
  (statistics ? loss.add(mean.mul(0).sum()).add(variance.mul(0).sum()) : loss).backward();
  return await Promise.all(inputs.map(async (t) => await t.grad!.data() as Float32Array));
}

Deno.test("batchNorm's gradients are those with gradients of 0 for the statistics", async () => {
  // One share of a channel's elements and several, by fours and not.
  for (const shape of [[2, 3, 5], [130, 2, 3], [130, 2, 4], [2, 2, 780]]) {
    for (const weight of [true, false]) {
      for (
        const [bias, activation] of [[true], [false], [true, "relu"], [false, "relu"]] as const
      ) {
        const want = await gradients(shape, { weight, bias, activation }, true);
        const got = await gradients(shape, { weight, bias, activation }, false);
        got.forEach((g, i) => {
          // The same sums; a product and a sum may be rounded together or apart.
          const largest = Math.max(...want[i]!.map(Math.abs));
          assertClose(g, [...want[i]!], { rtol: 4 * U, atol: 4 * U * largest });
        });
      }
    }
  }
});
