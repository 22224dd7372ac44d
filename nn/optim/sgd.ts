/** @file Stochastic gradient descent. */

import { checkOptions } from "../../engine/arguments.ts";
import { beforeReplay, keepState } from "../../engine/capture.ts";
import { inModule, sgdStep, type SgdTensors, zeros } from "../../engine/mod.ts";
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
  /** For each group, the numbers of a first step and of the others. */
  readonly #hyper = new Map<ParamGroup<SGDOptions>, { first: HyperTensor; later: HyperTensor }>();

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

  override step({ skip }: StepOptions = {}): void {
    beforeReplay(this.beforeReplay);
    for (const group of this.paramGroups) {
      const { first, later } = this.#entries(group);
      const hyper = this.#hyperOf(group);
      inModule(this.constructor.name, () => {
        if (first.length > 0) sgdStep(first, hyper.first.with(numbers(group, true)), { skip });
        if (later.length > 0) sgdStep(later, hyper.later.with(numbers(group, false)), { skip });
      });
    }
  }

  override writeOptions(): void {
    for (const [group, { first, later }] of this.#hyper) {
      if (first.used) first.with(numbers(group, true));
      if (later.used) later.with(numbers(group, false));
    }
  }

  /** What a step updates: parameters whose momentum starts now, and the others. */
  #entries(group: ParamGroup<SGDOptions>): { first: SgdTensors[]; later: SgdTensors[] } {
    const first: SgdTensors[] = [], later: SgdTensors[] = [];
    for (const param of group.params) {
      const { grad } = param;
      if (!grad) continue;
      if (group.momentum === 0) {
        later.push({ param, grad });
        continue;
      }
      const known = this.state.get(param)?.momentumBuffer;
      const buffer = known ?? keepState(zeros(param.shape));
      if (!known) this.state.set(param, { momentumBuffer: buffer });
      (known ? later : first).push({ param, grad, buffer });
    }
    return { first, later };
  }

  #hyperOf(group: ParamGroup<SGDOptions>): { first: HyperTensor; later: HyperTensor } {
    let hyper = this.#hyper.get(group);
    if (!hyper) {
      hyper = { first: new HyperTensor(), later: new HyperTensor() };
      this.#hyper.set(group, hyper);
    }
    return hyper;
  }

  override dispose(): void {
    super.dispose();
    for (const { first, later } of this.#hyper.values()) {
      first[Symbol.dispose]();
      later[Symbol.dispose]();
    }
  }
}

/** A group's options in the order `sgdStep` reads them. */
function numbers(options: SGDOptions, first: boolean): number[] {
  const { lr, momentum, dampening, weightDecay, nesterov } = options;
  return [lr, momentum, dampening, weightDecay, Number(nesterov), Number(first)];
}
