/** @file What augmentations share: their check, and random numbers: a draw a sample, on the GPU, from the engine's generator. */

import { bernoulli, full, rand, type Tensor } from "../../engine/mod.ts";

/** A range [low, high]. */
export type Range = readonly [number, number];

/** Throws unless x is a batch of images. */
export function checkImages(name: string, x: Tensor): void {
  if (x.ndim === 4 && (x.dtype === "f32" || x.dtype === "f16")) return;
  throw new TypeError(
    `Cannot ${name} [${x.shape.join(", ")}] ${x.dtype}: it must be images [N, C, H, W], f32 or f16`,
  );
}

/** Uniform numbers from low to high. */
export function uniform(shape: readonly number[], [low, high]: Range): Tensor {
  return low === high ? full(shape, low) : rand(shape).mul(high - low).add(low);
}

/** Whole numbers 0 to n, both included, each as likely; n is a tensor or a number of at least 0. */
export function upTo(shape: readonly number[], n: Tensor | number): Tensor {
  const top = typeof n === "number" ? full(shape, n) : n;
  // In f32 a number just below 1 times n + 1 may round up to n + 1.
  return rand(shape).mul(top.add(1)).floor().minimum(top);
}

/** Where a transform of probability p runs: bool, one a sample. */
export function chosen(shape: readonly number[], p: number): Tensor {
  return bernoulli(p, { shape, dtype: "bool" });
}

/**
 * Numbers from the Beta(alpha, alpha) distribution: g / (g + g') of two gamma numbers, each the first
 * of 16 tries that is accepted (one fails with probability below 0.05).
 *
 * Source: Marsaglia, Tsang, "A simple method for generating gamma variables", ACM TOMS 26, 2000; below
 * 1 with their boost by u^(1/alpha).
 */
export function beta(count: number, alpha: number, normal: (shape: number[]) => Tensor): Tensor {
  const tries = 16;
  const logGamma = (): Tensor => {
    const d = Math.max(alpha, alpha + Number(alpha < 1)) - 1 / 3;
    const z = normal([count, tries]);
    const v = z.mul(1 / Math.sqrt(9 * d)).add(1).clamp({ min: 1e-10 });
    const cube = v.mul(v).mul(v);
    const bound = z.square().mul(0.5).add(d).sub(cube.mul(d)).add(cube.log().mul(d));
    const u = rand([count, tries]).neg().add(1); // (0, 1]
    const accepted = u.log().lt(bound).logicalAnd(v.gt(1e-10));
    const first = accepted.to("f32").argmax(1, { keepdim: true });
    const g = cube.gather(1, first).select(1, 0).log();
    return alpha < 1 ? g.add(rand([count]).neg().add(1).log().mul(1 / alpha)) : g;
  };
  return logGamma().sub(logGamma()).sigmoid();
}
