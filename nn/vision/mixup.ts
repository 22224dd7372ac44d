/** @file Mixing samples of a batch with each other. */

import { checkOptions } from "../../engine/arguments.ts";
import { noGrad, rand, randn, randperm, scope, type Tensor } from "../../engine/mod.ts";
import { beta } from "./_draw.ts";

/** Options of {@linkcode mixup}. */
export interface MixupOptions {
  /** Parameter of the Beta distribution, above 0; default 0.2. */
  alpha?: number;
  /** A share for each sample instead of one for the batch; default false. */
  perSample?: boolean;
  /**
   * Mixes each sample with a random one of another class: targets are one-hot [N, C], and of two classes
   * if no number but 0 is in both. A sample without such a partner is mixed with any. Default false: a
   * random permutation.
   */
  differentClasses?: boolean;
}

/** What {@linkcode mixup} gives. */
export interface MixupResult {
  /** The mixed samples. */
  readonly x: Tensor;
  /** The targets mixed alike. */
  readonly target: Tensor;
  /** Shares of the samples' own, [1] or [N]. */
  readonly lam: Tensor;
  /** Which sample each was mixed with, [N] i32. */
  readonly index: Tensor;
}

/**
 * lam · x + (1 - lam) · x[index] and the same for float targets [N, ...] (ids through `oneHot`), with lam
 * from Beta(alpha, alpha) and a random permutation. For cross entropy, mixed targets give the mixed loss.
 *
 * Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.
 *
 * @throws {TypeError} if the target has another batch size or is not a float
 * @throws {RangeError} if alpha is not above 0
 */
export function mixup(x: Tensor, target: Tensor, options: MixupOptions = {}): MixupResult {
  checkOptions("mixup", options, "mixup(x, target, { alpha: 0.2 })");
  const { alpha = 0.2, perSample = false, differentClasses = false } = options;
  if (!(alpha > 0 && Number.isFinite(alpha))) {
    throw new RangeError(`Cannot mixup with alpha ${alpha}: it must be above 0`);
  }
  const N = x.shape[0];
  if (
    N === undefined || target.shape[0] !== N || target.dtype !== x.dtype ||
    !/^f(16|32)$/.test(x.dtype)
  ) {
    throw new TypeError(
      `Cannot mixup x [${x.shape.join(", ")}] ${x.dtype} and target [${target.shape.join(", ")}] ` +
        `${target.dtype}: both must be f32 or both f16, with one batch size; make ids oneHot`,
    );
  }
  return noGrad(() =>
    scope(() => {
      const lam = beta(perSample ? N : 1, alpha, randn);
      const index = differentClasses ? otherClass(target) : randperm(N);
      const mixed = (t: Tensor) => {
        const share = lam.reshape([-1, ...t.shape.slice(1).map(() => 1)]);
        const other = t.indexSelect(0, index);
        return other.add(t.sub(other).mul(share)).to(t.dtype);
      };
      return { x: mixed(x), target: mixed(target), lam, index };
    })
  );
}

/** For each row of one-hot targets [N, C] a random row of another class: i32 [N]. */
function otherClass(target: Tensor): Tensor {
  const rows = target.flatten(1);
  const other = rows.matmul(rows.transpose(0, 1)).eq(0);
  const N = target.shape[0]!;
  return rand([N, N]).add(other.to("f32")).argmax(1);
}
