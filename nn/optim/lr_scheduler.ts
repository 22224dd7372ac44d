/**
 * @file Learning rates by epoch.
 *
 * Rules and their order of rounding are those of
 * https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
 */

import { checkFinite, checkOptions, checkWhole, given } from "../../engine/arguments.ts";
import type { Optimizer } from "./optimizer.ts";

/** What a rule knows of a group. */
export interface LrPoint {
  /** Steps since the start; 0 when the scheduler is made. */
  readonly epoch: number;
  /** The group's learning rate now. */
  readonly lr: number;
  /** The group's learning rate before any scheduler. */
  readonly base: number;
  /** Index of the group. */
  readonly group: number;
}

/** What {@linkcode LRScheduler.stateDict} gives; learning rates are in the optimizer's state. */
export interface LRSchedulerState {
  /** Steps since the start. */
  lastEpoch: number;
  /** Learning rates before any scheduler. */
  baseLrs: number[];
}

/** Base of the schedulers: sets each group's learning rate by a rule, at the start and at every step. */
export abstract class LRScheduler {
  /** Whose learning rates are set. */
  readonly optimizer: Optimizer;
  readonly #rule: (at: LrPoint) => number;
  #lastEpoch = -1;
  #baseLrs: number[];

  /**
   * @param optimizer Whose learning rates to set.
   * @param rule The learning rate at a point.
   */
  constructor(optimizer: Optimizer, rule: (at: LrPoint) => number) {
    this.optimizer = optimizer;
    this.#rule = rule;
    this.#baseLrs = optimizer.paramGroups.map((group) => group.initialLr ??= group.lr);
    this.step();
  }

  /** Steps since the start. */
  get lastEpoch(): number {
    return this.#lastEpoch;
  }

  /** The groups' learning rates now. */
  getLastLr(): number[] {
    return this.optimizer.paramGroups.map((group) => group.lr);
  }

  /** Sets the learning rates of the next epoch; call it after the epoch's last `optimizer.step()`. */
  step(): void {
    const epoch = ++this.#lastEpoch;
    this.optimizer.paramGroups.forEach((group, index) => {
      const base = this.#baseLrs[index] ??= group.initialLr ??= group.lr;
      group.lr = this.#rule({ epoch, lr: group.lr, base, group: index });
    });
    this.optimizer.writeOptions();
  }

  /** Starts over from the learning rates before any scheduler. */
  restart(): void {
    this.#lastEpoch = -1;
    this.optimizer.paramGroups.forEach((group, index) => {
      group.lr = this.#baseLrs[index] ?? group.lr;
    });
    this.step();
  }

  /** What a checkpoint needs besides the optimizer's state. */
  stateDict(): LRSchedulerState {
    return { lastEpoch: this.#lastEpoch, baseLrs: [...this.#baseLrs] };
  }

  /** Goes on from a saved state; load the optimizer's, too. */
  loadStateDict(state: LRSchedulerState): void {
    this.#lastEpoch = state.lastEpoch;
    this.#baseLrs = [...state.baseLrs];
  }
}

/** lr · gamma every `stepSize` epochs. */
export class StepLR extends LRScheduler {
  /** @throws {RangeError} If stepSize is not a whole number of at least 1, or gamma not finite. */
  constructor(optimizer: Optimizer, options: { stepSize: number; gamma?: number }) {
    checkOptions("make StepLR", options, "new StepLR(optimizer, { stepSize: 30 })");
    const { stepSize, gamma = 0.1 } = options;
    checkWhole("use StepLR", { stepSize }, 1);
    checkFinite("use StepLR", { gamma });
    super(optimizer, ({ epoch, lr }) => epoch > 0 && epoch % stepSize === 0 ? lr * gamma : lr);
  }
}

/** lr · gamma at each of the milestones; one named twice counts twice. */
export class MultiStepLR extends LRScheduler {
  /**
   * @param options Epochs, and the factor (default 0.1).
   * @throws {TypeError} If milestones are no list.
   * @throws {RangeError} If they are not whole numbers, or gamma not finite.
   */
  constructor(
    optimizer: Optimizer,
    options: { milestones: readonly number[]; gamma?: number },
  ) {
    checkOptions(
      "make MultiStepLR",
      options,
      "new MultiStepLR(optimizer, { milestones: [30, 80] })",
    );
    const { gamma = 0.1 } = options;
    checkList("use MultiStepLR", "milestones", options.milestones, "[30, 80]");
    const milestones = [...options.milestones];
    checkWhole("use MultiStepLR", { milestones });
    checkFinite("use MultiStepLR", { gamma });
    super(optimizer, ({ epoch, lr }) => {
      const times = milestones.filter((milestone) => milestone === epoch).length;
      return times === 0 ? lr : lr * gamma ** times;
    });
  }
}

/** lr · gamma every epoch. */
export class ExponentialLR extends LRScheduler {
  /**
   * @param options The factor.
   * @throws {RangeError} If it is not finite.
   */
  constructor(optimizer: Optimizer, options: { gamma: number }) {
    checkOptions("make ExponentialLR", options, "new ExponentialLR(optimizer, { gamma: 0.9 })");
    const { gamma } = options;
    checkFinite("use ExponentialLR", { gamma });
    super(optimizer, ({ epoch, lr }) => epoch === 0 ? lr : lr * gamma);
  }
}

/**
 * etaMin + (base − etaMin) · (1 + cos(π · epoch / tMax)) / 2, computed step by step so that other
 * schedulers can act on the learning rate as well; it rises again after tMax.
 *
 * Source: Loshchilov and Hutter, "SGDR", ICLR 2017, https://arxiv.org/abs/1608.03983
 */
export class CosineAnnealingLR extends LRScheduler {
  /** @throws {RangeError} If tMax is not a whole number of at least 1, or etaMin not finite. */
  constructor(optimizer: Optimizer, options: { tMax: number; etaMin?: number }) {
    checkOptions(
      "make CosineAnnealingLR",
      options,
      "new CosineAnnealingLR(optimizer, { tMax: 50 })",
    );
    const { tMax, etaMin = 0 } = options;
    checkWhole("use CosineAnnealingLR", { tMax }, 1);
    checkFinite("use CosineAnnealingLR", { etaMin });
    const cosine = (epoch: number) => 1 + Math.cos(Math.PI * epoch / tMax);
    super(optimizer, ({ epoch, lr, base }) => {
      if (epoch === 0) return lr;
      // After a minimum the quotient below is 0 / 0.
      if ((epoch - 1 - tMax) % (2 * tMax) === 0) {
        return lr + (base - etaMin) * (1 - Math.cos(Math.PI / tMax)) / 2;
      }
      return cosine(epoch) / cosine(epoch - 1) * (lr - etaMin) + etaMin;
    });
  }
}

/** base · a factor that goes from startFactor to endFactor in `totalIters` epochs, in equal steps. */
export class LinearLR extends LRScheduler {
  /**
   * @throws {RangeError} If startFactor is not above 0 and at most 1, endFactor not 0 to 1, or totalIters not a
   *   whole number of at least 1.
   */
  constructor(
    optimizer: Optimizer,
    options: { startFactor?: number; endFactor?: number; totalIters?: number } = {},
  ) {
    checkOptions("make LinearLR", options, "new LinearLR(optimizer, { totalIters: 5 })");
    const { startFactor = 1 / 3, endFactor = 1, totalIters = 5 } = options;
    if (!(startFactor > 0 && startFactor <= 1 && endFactor >= 0 && endFactor <= 1)) {
      throw new RangeError(
        `Cannot use LinearLR with startFactor ${startFactor} and endFactor ${endFactor}: the first ` +
          "must be above 0, both at most 1",
      );
    }
    checkWhole("use LinearLR", { totalIters }, 1);
    const rise = endFactor - startFactor;
    super(optimizer, ({ epoch, lr }) => {
      if (epoch === 0) return lr * startFactor;
      if (epoch > totalIters) return lr;
      return lr * (1 + rise / (totalIters * startFactor + (epoch - 1) * rise));
    });
  }
}

/** base · factor for `totalIters` epochs, then base. */
export class ConstantLR extends LRScheduler {
  /** @throws {RangeError} If the factor is not above 0 and at most 1, or totalIters not a whole number from 1. */
  constructor(optimizer: Optimizer, options: { factor?: number; totalIters?: number } = {}) {
    checkOptions("make ConstantLR", options, "new ConstantLR(optimizer, { totalIters: 5 })");
    const { factor = 1 / 3, totalIters = 5 } = options;
    if (!(factor > 0 && factor <= 1)) {
      throw new RangeError(
        `Cannot use ConstantLR with factor ${factor}: it must be above 0 and at most 1`,
      );
    }
    checkWhole("use ConstantLR", { totalIters }, 1);
    super(optimizer, ({ epoch, lr }) => {
      if (epoch === 0) return lr * factor;
      return epoch === totalIters ? lr * (1 / factor) : lr;
    });
  }
}

/** base · (1 − epoch / totalIters)^power, and 0 from there on. */
export class PolynomialLR extends LRScheduler {
  /** @throws {RangeError} If totalIters is not a whole number of at least 1, or power not finite. */
  constructor(optimizer: Optimizer, options: { totalIters?: number; power?: number } = {}) {
    checkOptions("make PolynomialLR", options, "new PolynomialLR(optimizer, { totalIters: 5 })");
    const { totalIters = 5, power = 1 } = options;
    checkWhole("use PolynomialLR", { totalIters }, 1);
    checkFinite("use PolynomialLR", { power });
    super(optimizer, ({ epoch, lr }) => {
      if (epoch === 0 || epoch > totalIters) return lr;
      return lr * ((1 - epoch / totalIters) / (1 - (epoch - 1) / totalIters)) ** power;
    });
  }
}

/**
 * etaMin + (base − etaMin) · (1 + cos(π · t / T)) / 2 in runs of T epochs that each start from base: `t0` epochs,
 * then `tMult` times as many as before.
 *
 * Source: Loshchilov and Hutter, "SGDR", ICLR 2017, https://arxiv.org/abs/1608.03983
 */
export class CosineAnnealingWarmRestarts extends LRScheduler {
  /** @throws {RangeError} If t0 or tMult is not a whole number of at least 1, or etaMin not finite. */
  constructor(optimizer: Optimizer, options: { t0: number; tMult?: number; etaMin?: number }) {
    checkOptions(
      "make CosineAnnealingWarmRestarts",
      options,
      "new CosineAnnealingWarmRestarts(optimizer, { t0: 10 })",
    );
    const { t0, tMult = 1, etaMin = 0 } = options;
    checkWhole("use CosineAnnealingWarmRestarts", { t0 }, 1);
    checkWhole("use CosineAnnealingWarmRestarts", { tMult }, 1);
    checkFinite("use CosineAnnealingWarmRestarts", { etaMin });
    super(optimizer, ({ epoch, base }) => {
      let [t, length] = [epoch, t0];
      if (tMult === 1) t %= length;
      for (; t >= length; length *= tMult) t -= length;
      return etaMin + (base - etaMin) * (1 + Math.cos(Math.PI * t / length)) / 2;
    });
  }
}

/** base · factor(epoch). */
export class LambdaLR extends LRScheduler {
  /**
   * @param options One function, or one for each group.
   * @throws {TypeError} If there are no functions, or not as many as groups.
   */
  constructor(
    optimizer: Optimizer,
    options: { lrLambda: ((epoch: number) => number) | readonly ((epoch: number) => number)[] },
  ) {
    checkOptions(
      "make LambdaLR",
      options,
      "new LambdaLR(optimizer, { lrLambda: (epoch) => 0.9 ** epoch })",
    );
    const { lrLambda } = options;
    const list: readonly unknown[] = Array.isArray(lrLambda) ? lrLambda : [lrLambda];
    const other = list.findIndex((entry) => typeof entry !== "function");
    if (other >= 0) {
      throw new TypeError(
        `Cannot use LambdaLR with lrLambda ${given(list[other])}: it must be a function, as in ` +
          "(epoch) => 0.9 ** epoch, or one for each group",
      );
    }
    const count = optimizer.paramGroups.length;
    if (typeof lrLambda !== "function" && lrLambda.length !== count) {
      throw new TypeError(
        `Cannot use LambdaLR with ${lrLambda.length} functions: the optimizer has ${count} groups`,
      );
    }
    super(optimizer, ({ epoch, base, group }) => {
      const factor = typeof lrLambda === "function" ? lrLambda : lrLambda[group]!;
      return base * factor(epoch);
    });
  }
}

/**
 * Checks that an option is a list.
 *
 * @throws {TypeError} Naming it if it is not.
 */
export function checkList(what: string, name: string, value: unknown, example: string): void {
  if (Array.isArray(value)) return;
  throw new TypeError(
    `Cannot ${what} with ${name} ${given(value)}: it must be a list, as in ${example}`,
  );
}
