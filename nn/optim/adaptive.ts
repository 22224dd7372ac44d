/** @file What Adam, RMSprop and Adagrad share: state by parameter, numbers and step counts on the GPU. */

import { keepState } from "../../engine/capture.ts";
import {
  type AdaptiveRule,
  adaptiveStep,
  type AdaptiveTensors,
  inModule,
  keep,
  noGrad,
  type Tensor,
  zeros,
} from "../../engine/mod.ts";
import { HyperTensor } from "./hyper.ts";
import {
  type BaseOptions,
  Optimizer,
  type OptimizerState,
  type ParamGroup,
  type StepOptions,
} from "./optimizer.ts";

/** Numbers of a group in GPU memory. */
interface GroupNumbers {
  readonly hyper: HyperTensor;
  readonly active: HyperTensor;
  /** Steps taken by each parameter of the group, and what the kernel derives from them. */
  readonly steps: Tensor;
  readonly factors: Tensor;
}

/**
 * Base of the optimizers that scale each element's step by its past gradients. Step counts live on the
 * GPU as one tensor a group; a parameter's state has a view of its own count as `step`.
 *
 * @template O The options.
 */
export abstract class AdaptiveOptimizer<O extends BaseOptions> extends Optimizer<O> {
  readonly #numbers = new Map<ParamGroup<O>, GroupNumbers>();

  /** The kernel for a group, from those of its options that change its text. */
  protected abstract rule(group: O): AdaptiveRule;
  /** A group's numbers in the order the kernel reads them. */
  protected abstract hyper(group: O): number[];
  /** Names of the state arrays that a group's rule has, in the kernel's order. */
  protected abstract arrays(group: O): readonly string[];
  /** What state arrays start as. */
  protected startValue(_group: O): number {
    return 0;
  }

  protected override form(group: O): string {
    return Object.values(this.rule(group)).join();
  }

  override step(options: StepOptions = {}): void {
    this.beginStep(options);
    const { skip } = options;
    for (const group of this.paramGroups) {
      const names = this.arrays(group);
      const entries: AdaptiveTensors[] = [];
      const active: number[] = group.params.map((param, index) => {
        const { grad } = param;
        if (!grad) return 0;
        const state = this.#stateOf(param, { group, index });
        entries.push({ param, grad, states: names.map((name) => state[name]!), index });
        return 1;
      });
      if (entries.length === 0) continue;
      const numbers = this.#numbersOf(group);
      inModule(this.constructor.name, () =>
        adaptiveStep(this.rule(group), entries, {
          hyper: numbers.hyper.with(this.hyper(group)),
          active: numbers.active.with(active),
          steps: numbers.steps,
          factors: numbers.factors,
          skip,
        }));
    }
  }

  override writeOptions(): void {
    for (const [group, { hyper }] of this.#numbers) {
      if (hyper.used) hyper.with(this.hyper(group));
    }
  }

  override loadStateDict(saved: OptimizerState): void {
    super.loadStateDict(saved);
    if (!this.stateNames.includes("step")) return;
    // Counts go back to where the kernel finds them.
    noGrad(() => {
      for (const group of this.paramGroups) {
        group.params.forEach((param, index) => {
          const state = this.state.get(param);
          if (!state && !this.#numbers.has(group)) return;
          using place = this.#numbersOf(group).steps.narrow(0, index, 1);
          if (!state?.step) {
            place.zero_();
            return;
          }
          const count = keep(place.reshape([]));
          if (state.step !== count) count.copy_(state.step);
          state.step.dispose();
          state.step = count;
        });
      }
    });
  }

  protected override stateShape(param: Tensor, name: string): readonly number[] {
    return name === "step" ? [] : param.shape;
  }

  #stateOf(param: Tensor, at: { group: ParamGroup<O>; index: number }): Record<string, Tensor> {
    const state = this.state.get(param) ?? {};
    noGrad(() => {
      if (!state.step && this.stateNames.includes("step")) {
        using place = this.#numbersOf(at.group).steps.narrow(0, at.index, 1);
        state.step = keep(place.reshape([]));
      }
      for (const name of this.arrays(at.group)) {
        state[name] ??= keepState(zeros(param.shape)).fill_(this.startValue(at.group));
      }
    });
    this.state.set(param, state);
    return state;
  }

  #numbersOf(group: ParamGroup<O>): GroupNumbers {
    let numbers = this.#numbers.get(group);
    if (!numbers) {
      const n = group.params.length;
      numbers = {
        hyper: new HyperTensor(),
        active: new HyperTensor({ fixed: true }),
        steps: keepState(zeros([n])),
        factors: keep(zeros([n, 2])),
      };
      this.#numbers.set(group, numbers);
    }
    return numbers;
  }

  override dispose(): void {
    super.dispose();
    for (const { hyper, active, steps, factors } of this.#numbers.values()) {
      hyper[Symbol.dispose]();
      active[Symbol.dispose]();
      steps.dispose();
      factors.dispose();
    }
    this.#numbers.clear();
  }
}
