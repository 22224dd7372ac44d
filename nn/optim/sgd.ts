/** @file Stochastic gradient descent. */

import { checkOptions } from "../../engine/arguments.ts";
import { keepState } from "../../engine/capture.ts";
import { full, inModule, sgdStep, type SgdTensors } from "../../engine/mod.ts";
import { HyperTensor } from "./hyper.ts";
import {
  checkNotNegative,
  Optimizer,
  type ParamGroup,
  type ParamInput,
  type StepOptions,
} from "./optimizer.ts";

/** Options of {@linkcode SGD}. */
export interface SGDOptions {
  /** Learning rate. Default 1e-3. */
  lr: number;
  /** Share of the last update's direction that stays. Default 0. */
  momentum: number;
  /** Share of the gradient that momentum leaves out. Default 0. */
  dampening: number;
  /** Factor of the parameter that is added to its gradient. Default 0. */
  weightDecay: number;
  /** Whether to look one step of momentum ahead. Default false. */
  nesterov: boolean;
}

/**
 * Stochastic gradient descent with momentum, in PyTorch's form:
 *
 *   g ← grad + weightDecay · p;  b ← momentum · b + (1 − dampening) · g, and b ← g the first time;
 *   p ← p − lr · b, or p − lr · (g + momentum · b) with nesterov, or p − lr · g without momentum.
 *
 * All parameters of a group take part in a few dispatches. Sources:
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html and Sutskever et al., "On the
 * importance of initialization and momentum in deep learning", ICML 2013.
 *
 * @example
 * ```ts
 * import { init, nn, randn, scope } from "../../mod.ts";
 * await init();
 * const model = new nn.Linear(8, 1);
 * const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
 * scope(() => {
 *   optimizer.zeroGrad();
 *   model.forward(randn([4, 8])).square().mean().backward();
 *   optimizer.step();
 * });
 * ```
 */
export class SGD extends Optimizer<SGDOptions> {
  protected override readonly stateNames: readonly string[] = ["momentumBuffer"];
  readonly #hyper = new Map<ParamGroup<SGDOptions>, HyperTensor>();

  /**
   * @param params Parameters, or groups of them with options.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<SGDOptions>, options: Partial<SGDOptions> = {}) {
    checkOptions("make SGD", options, "new SGD(params, { lr: 0.1 })");
    const { lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false } = options;
    super(params, { lr, momentum, dampening, weightDecay, nesterov }, options);
  }

  protected override check(options: SGDOptions): void {
    const { lr, momentum, dampening, weightDecay, nesterov } = options;
    checkNotNegative("SGD", { lr, momentum, weightDecay });
    if (!Number.isFinite(dampening)) {
      throw new RangeError(`Cannot use SGD with dampening ${dampening}: it must be finite`);
    }
    if (nesterov && (momentum === 0 || dampening !== 0)) {
      throw new RangeError(
        `Cannot use SGD with nesterov, momentum ${momentum} and dampening ${dampening}: nesterov ` +
          "needs momentum above 0 and dampening 0",
      );
    }
  }

  protected override form({ momentum }: SGDOptions): string {
    return momentum === 0 ? "" : "momentum";
  }

  override step(options: StepOptions = {}): void {
    this.beginStep(options);
    const { skip } = options;
    for (const group of this.paramGroups) {
      const entries = this.#entries(group);
      if (entries.length === 0) continue;
      const hyper = this.#hyperOf(group);
      inModule(this.constructor.name, () => sgdStep(entries, hyper.with(numbers(group)), { skip }));
    }
  }

  override writeOptions(): void {
    for (const [group, hyper] of this.#hyper) {
      if (hyper.used) hyper.with(numbers(group));
    }
  }

  /** What a step updates. A momentum that has not begun is -0, which tells the kernel so. */
  #entries(group: ParamGroup<SGDOptions>): SgdTensors[] {
    const entries: SgdTensors[] = [];
    for (const param of group.params) {
      const { grad } = param;
      if (!grad) continue;
      if (group.momentum === 0) {
        entries.push({ param, grad });
        continue;
      }
      const known = this.state.get(param)?.momentumBuffer;
      const buffer = known ?? keepState(full(param.shape, -0));
      if (!known) this.state.set(param, { momentumBuffer: buffer });
      entries.push({ param, grad, buffer });
    }
    return entries;
  }

  #hyperOf(group: ParamGroup<SGDOptions>): HyperTensor {
    let hyper = this.#hyper.get(group);
    if (!hyper) this.#hyper.set(group, hyper = new HyperTensor());
    return hyper;
  }

  override dispose(): void {
    super.dispose();
    for (const hyper of this.#hyper.values()) hyper[Symbol.dispose]();
  }
}

/** A group's options in the order `sgdStep` reads them. */
function numbers({ lr, momentum, dampening, weightDecay, nesterov }: SGDOptions): number[] {
  return [lr, momentum, dampening, weightDecay, Number(nesterov)];
}
