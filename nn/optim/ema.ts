/** @file Tensors that follow others. */

import { checkOptions } from "../../engine/arguments.ts";
import { inModule, noGrad, sgdStep, type Tensor } from "../../engine/mod.ts";
import { HyperTensor } from "./hyper.ts";

/** Options of {@linkcode EMA}. */
export interface EMAOptions {
  /** Share of what a tensor was that stays at an update, 0 to 1. Default 0.999. */
  decay: number;
}

/**
 * Exponential moving average: tensors that follow others, as the weights of a teacher or of a momentum
 * encoder follow those that are trained,
 *
 *   a ← decay · a + (1 − decay) · x
 *
 * in place, and for f32 in as few dispatches as a step of an optimizer takes. It is one: SGD with learning
 * rate −(1 − decay) and weight decay −1 makes a ← a + (1 − decay) · (x − a).
 *
 * Source: `torch.optim.swa_utils.get_ema_multi_avg_fn`,
 * https://docs.pytorch.org/docs/stable/optim.html#putting-it-all-together-ema
 *
 * @example
 * ```ts
 * import { init, nn } from "../../mod.ts";
 * await init();
 * const [student, teacher] = [new nn.Linear(4, 2), new nn.Linear(4, 2)];
 * const average = new nn.optim.EMA({ decay: 0.99 });
 * average.update(teacher.parameters(), student.parameters()); // after each step of the optimizer
 * ```
 */
export class EMA implements Disposable {
  readonly #rate: number;
  readonly #hyper = new HyperTensor();

  /** @throws {RangeError} If `decay` is not from 0 to 1. */
  constructor(options: Partial<EMAOptions> = {}) {
    checkOptions("make EMA", options, "new EMA({ decay: 0.99 })", ["decay"]);
    const { decay = 0.999 } = options;
    if (!(decay >= 0 && decay <= 1)) {
      throw new RangeError(`Cannot average with decay ${decay}: it must be from 0 to 1`);
    }
    this.#rate = 1 - decay;
  }

  /**
   * Moves every average towards its value, without a gradient.
   *
   * @throws {RangeError} If there are not as many values as averages; nothing moves then.
   * @throws {TypeError} If the shape or dtype of a value is not its average's.
   */
  update(averages: Iterable<Tensor>, values: Iterable<Tensor>): void {
    const [into, from] = [[...averages], [...values]];
    if (into.length !== from.length) {
      throw new RangeError(
        `Cannot average ${from.length} tensors into ${into.length}: give one for each`,
      );
    }
    const pairs = into.map((param, i) => ({ param, grad: from[i]! }));
    const single = pairs.filter(({ param }) => param.dtype === "f32");
    const others = pairs.filter(({ param }) => param.dtype !== "f32");
    inModule("EMA", () => {
      if (single.length > 0) sgdStep(single, this.#hyper.with([-this.#rate, 0, 0, -1, 0]));
      noGrad(() => {
        for (const { param, grad } of others) {
          param.copy_(param.add(grad.sub(param).mul(this.#rate)));
        }
      });
    });
  }

  /** Frees what it holds. */
  [Symbol.dispose](): void {
    this.#hyper[Symbol.dispose]();
  }
}
