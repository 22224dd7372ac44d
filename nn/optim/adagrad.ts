/** @file Adagrad. */

import { checkOptions } from "../../engine/arguments.ts";
import type { AdaptiveRule } from "../../engine/mod.ts";
import { AdaptiveOptimizer } from "./adaptive.ts";
import { checkNotNegative, type ParamInput } from "./optimizer.ts";

/** Options of {@linkcode Adagrad}. */
export interface AdagradOptions {
  /** Learning rate. Default 1e-2. */
  lr: number;
  /** How fast the learning rate falls with the steps. Default 0. */
  lrDecay: number;
  /** Factor of the parameter that is added to its gradient. Default 0. */
  weightDecay: number;
  /** What the sums of squares start from. Default 0. */
  initialAccumulatorValue: number;
  /** Added to the root of the sum. Default 1e-10. */
  eps: number;
}

/**
 * Adagrad in PyTorch's form, at step t:
 *
 *   g ← grad + weightDecay · p;  s ← s + g²;  p ← p − lr / (1 + (t − 1) · lrDecay) · g / (√s + eps)
 *
 * Sources: Duchi et al., "Adaptive subgradient methods", JMLR 2011;
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html
 */
export class Adagrad extends AdaptiveOptimizer<AdagradOptions> {
  protected override readonly stateNames: readonly string[] = ["step", "sum"];

  /**
   * @param params Parameters, or groups of them with options.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<AdagradOptions>, options: Partial<AdagradOptions> = {}) {
    checkOptions("make Adagrad", options, "new Adagrad(params, { lr: 0.01 })");
    const { lr = 1e-2, lrDecay = 0, weightDecay = 0, initialAccumulatorValue = 0, eps = 1e-10 } =
      options;
    super(params, { lr, lrDecay, weightDecay, initialAccumulatorValue, eps }, options);
  }

  protected override check(options: AdagradOptions): void {
    const { lr, lrDecay, weightDecay, initialAccumulatorValue, eps } = options;
    checkNotNegative("Adagrad", { lr, lrDecay, weightDecay, initialAccumulatorValue, eps });
  }
  protected override rule(): AdaptiveRule {
    return { name: "adagrad" };
  }
  protected override hyper({ lr, lrDecay, eps, weightDecay }: AdagradOptions): number[] {
    return [lr, lrDecay, eps, weightDecay];
  }
  protected override arrays(): readonly string[] {
    return ["sum"];
  }
  protected override startValue({ initialAccumulatorValue }: AdagradOptions): number {
    return initialAccumulatorValue;
  }
}
