/** @file RMSprop. */

import { checkOptions } from "../../engine/arguments.ts";
import type { AdaptiveRule } from "../../engine/mod.ts";
import { AdaptiveOptimizer } from "./adaptive.ts";
import { checkNotNegative, type ParamInput } from "./optimizer.ts";

/** Options of {@linkcode RMSprop}. */
export interface RMSpropOptions {
  /** Learning rate. Default 1e-2. */
  lr: number;
  /** Share of the running mean of the squares that stays. Default 0.99. */
  alpha: number;
  /** Added to the root of the mean square. Default 1e-8. */
  eps: number;
  /** Factor of the parameter that is added to its gradient. Default 0. */
  weightDecay: number;
  /** Share of the last update's direction that stays. Default 0. */
  momentum: number;
  /** Whether to divide by the deviation instead of the root mean square. Default false. */
  centered: boolean;
}

/**
 * RMSprop in PyTorch's form:
 *
 *   g ← grad + weightDecay · p;  s ← α s + (1 − α) g²;  d = g / (√s + eps);
 *   p ← p − lr · d, or b ← momentum · b + d and p ← p − lr · b
 *
 * with s − a² instead of s if centered, where a ← α a + (1 − α) g. Sources: Hinton's lecture 6e,
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
 */
export class RMSprop extends AdaptiveOptimizer<RMSpropOptions> {
  protected override readonly stateNames: readonly string[] = [
    "squareAvg",
    "gradAvg",
    "momentumBuffer",
  ];

  /**
   * @param params Parameters, or groups of them with options.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<RMSpropOptions>, options: Partial<RMSpropOptions> = {}) {
    checkOptions("make RMSprop", options, "new RMSprop(params, { lr: 0.01 })");
    const { lr = 1e-2, alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0, centered = false } =
      options;
    super(params, { lr, alpha, eps, weightDecay, momentum, centered }, options);
  }

  protected override check(options: RMSpropOptions): void {
    const { lr, alpha, eps, weightDecay, momentum } = options;
    checkNotNegative("RMSprop", { lr, alpha, eps, weightDecay, momentum });
    if (alpha > 1) {
      throw new RangeError(`Cannot use RMSprop with alpha ${alpha}: it must be 0 to 1`);
    }
  }
  protected override rule({ centered, momentum }: RMSpropOptions): AdaptiveRule {
    return { name: "rmsprop", centered, momentum: momentum > 0 };
  }
  protected override hyper(options: RMSpropOptions): number[] {
    const { lr, alpha, eps, weightDecay, momentum } = options;
    return [lr, alpha, 1 - alpha, eps, weightDecay, momentum];
  }
  protected override arrays({ centered, momentum }: RMSpropOptions): readonly string[] {
    return [
      "squareAvg",
      ...(centered ? ["gradAvg"] : []),
      ...(momentum > 0 ? ["momentumBuffer"] : []),
    ];
  }
}
