/** @file Adam and AdamW. */

import { checkOptions } from "../../engine/arguments.ts";
import type { AdaptiveRule } from "../../engine/mod.ts";
import { AdaptiveOptimizer } from "./adaptive.ts";
import { checkNotNegative, type ParamInput } from "./optimizer.ts";

/** Options of {@linkcode Adam} and {@linkcode AdamW}. */
export interface AdamOptions {
  /** Learning rate. Default 1e-3. */
  lr: number;
  /** Shares of the running means of the gradient and of its square that stay. Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Added to the root of the mean square. Default 1e-8. */
  eps: number;
  /** Default 0 for Adam, where it is added to the gradient; 1e-2 for AdamW, where it shrinks p. */
  weightDecay: number;
  /** Whether to divide by the largest mean square so far. Default false. */
  amsgrad: boolean;
}

abstract class AdamBase extends AdaptiveOptimizer<AdamOptions> {
  protected override readonly stateNames: readonly string[] = [
    "step",
    "expAvg",
    "expAvgSq",
    "maxExpAvgSq",
  ];
  protected abstract readonly decoupled: boolean;

  protected override check(options: AdamOptions): void {
    const { lr, betas, eps, weightDecay } = options;
    checkNotNegative(this.constructor.name, { lr, eps, weightDecay });
    for (const beta of betas) {
      if (!(beta >= 0 && beta < 1)) {
        throw new RangeError(
          `Cannot use ${this.constructor.name} with betas [${betas.join(", ")}]: each must be at ` +
            "least 0 and below 1",
        );
      }
    }
  }
  protected override rule({ amsgrad }: AdamOptions): AdaptiveRule {
    return { name: "adam", decoupled: this.decoupled, amsgrad };
  }
  protected override hyper({ lr, betas: [b1, b2], eps, weightDecay }: AdamOptions): number[] {
    // ln 0 as a large negative number: the correction is 1 from the first step on.
    const log = (beta: number) => Math.max(Math.log(beta), -1e30);
    return [lr, b1, b2, 1 - b1, 1 - b2, log(b1), log(b2), eps, weightDecay];
  }
  protected override arrays({ amsgrad }: AdamOptions): readonly string[] {
    return amsgrad ? ["expAvg", "expAvgSq", "maxExpAvgSq"] : ["expAvg", "expAvgSq"];
  }
}

function withDefaults(options: Partial<AdamOptions>, decay: number): AdamOptions {
  const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = decay, amsgrad = false } =
    options;
  return { lr, betas: [...betas], eps, weightDecay, amsgrad };
}

/**
 * Adam in PyTorch's form, at step t:
 *
 *   g ← grad + weightDecay · p;  m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
 *   p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
 *
 * with the largest v so far instead of v under amsgrad. All parameters of a group take part in a few
 * dispatches. Sources: Kingma and Ba, "Adam", ICLR 2015, https://arxiv.org/abs/1412.6980;
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html
 *
 * @example
 * ```ts
 * import { init, nn, randn, scope } from "../../mod.ts";
 * await init();
 * const model = new nn.Linear(8, 1);
 * const optimizer = new nn.optim.Adam(model.parameters(), { lr: 1e-3 });
 * scope(() => {
 *   optimizer.zeroGrad();
 *   model.forward(randn([4, 8])).square().mean().backward();
 *   optimizer.step();
 * });
 * ```
 */
export class Adam extends AdamBase {
  protected override readonly decoupled: boolean = false;

  /**
   * @param params Parameters, or groups of them with options.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<AdamOptions>, options: Partial<AdamOptions> = {}) {
    checkOptions("make Adam", options, "new Adam(params, { lr: 1e-3 })");
    super(params, withDefaults(options, 0), options);
  }
}

/**
 * Adam with decoupled weight decay: p ← p − lr · weightDecay · p before the step of
 * {@linkcode Adam}, and nothing added to the gradient.
 *
 * Sources: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019,
 * https://arxiv.org/abs/1711.05101; https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
 */
export class AdamW extends AdamBase {
  protected override readonly decoupled: boolean = true;

  /**
   * @param params Parameters, or groups of them with options.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<AdamOptions>, options: Partial<AdamOptions> = {}) {
    checkOptions("make AdamW", options, "new AdamW(params, { lr: 1e-3 })");
    super(params, withDefaults(options, 1e-2), options);
  }
}
