/** @file Learning rates that fall when a number stops getting better. */

import { checkFinite, checkOneOf, checkOptions } from "../../engine/arguments.ts";
import type { Optimizer } from "./optimizer.ts";

/** Options of {@linkcode ReduceLROnPlateau}. */
export interface ReduceLROnPlateauOptions {
  /** Whether smaller or larger is better. Default "min". */
  mode?: "min" | "max";
  /** Factor of the learning rate, below 1. Default 0.1. */
  factor?: number;
  /** Epochs without a better number that are let pass. Default 10. */
  patience?: number;
  /** How much better counts as better. Default 1e-4. */
  threshold?: number;
  /** Whether the threshold is a share of the best number or a difference. Default "rel". */
  thresholdMode?: "rel" | "abs";
  /** Epochs after a change in which none is counted. Default 0. */
  cooldown?: number;
  /** Least learning rate, one for all groups or one each. Default 0. */
  minLr?: number | readonly number[];
  /** A change of at most this is not made. Default 1e-8. */
  eps?: number;
}

/** What {@linkcode ReduceLROnPlateau.stateDict} gives. */
export interface ReduceLROnPlateauState {
  /** Best number so far. */
  best: number;
  /** Epochs since then that counted. */
  badEpochs: number;
  /** Epochs left in which none is counted. */
  cooldownLeft: number;
  /** Steps since the start. */
  lastEpoch: number;
}

/**
 * lr · factor once a number has not got better for more than `patience` epochs.
 *
 * Source:
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html
 */
export class ReduceLROnPlateau {
  /** Whose learning rates are set. */
  readonly optimizer: Optimizer;
  readonly #options: Required<ReduceLROnPlateauOptions>;
  #state: ReduceLROnPlateauState;

  /**
   * @throws {RangeError} If the factor is not at least 0 and below 1, patience or cooldown below 0, or another number
   *   not finite.
   * @throws {TypeError} If there are not as many least learning rates as groups.
   */
  constructor(optimizer: Optimizer, options: ReduceLROnPlateauOptions = {}) {
    checkOptions(
      "make ReduceLROnPlateau",
      options,
      "new ReduceLROnPlateau(optimizer, { patience: 5 })",
    );
    const { mode = "min", factor = 0.1, patience = 10, threshold = 1e-4 } = options;
    const { thresholdMode = "rel", cooldown = 0, minLr = 0, eps = 1e-8 } = options;
    checkOneOf("use ReduceLROnPlateau", { mode }, ["min", "max"]);
    checkOneOf("use ReduceLROnPlateau", { thresholdMode }, ["rel", "abs"]);
    if (!(factor >= 0 && factor < 1)) {
      throw new RangeError(
        `Cannot use ReduceLROnPlateau with factor ${factor}: it must be at least 0 and below 1`,
      );
    }
    for (const [name, value] of Object.entries({ patience, cooldown })) {
      if (value >= 0) continue;
      throw new RangeError(
        `Cannot use ReduceLROnPlateau with ${name} ${value}: it must be at least 0`,
      );
    }
    for (const least of Array.isArray(minLr) ? minLr : [minLr]) {
      checkFinite("use ReduceLROnPlateau", { threshold, eps, minLr: least });
    }
    const count = optimizer.paramGroups.length;
    if (typeof minLr !== "number" && minLr.length !== count) {
      throw new TypeError(
        `Cannot use ReduceLROnPlateau with ${minLr.length} least learning rates: the optimizer has ` +
          `${count} groups`,
      );
    }
    this.optimizer = optimizer;
    this.#options = {
      mode,
      factor,
      patience,
      threshold,
      thresholdMode,
      cooldown,
      minLr,
      eps,
    };
    this.#state = {
      best: mode === "min" ? Infinity : -Infinity,
      badEpochs: 0,
      cooldownLeft: 0,
      lastEpoch: 0,
    };
  }

  /** Best number so far. */
  get best(): number {
    return this.#state.best;
  }

  /** The groups' learning rates now. */
  getLastLr(): number[] {
    return this.optimizer.paramGroups.map((group) => group.lr);
  }

  /** Takes an epoch's number, such as the validation loss. NaN is never better. */
  step(metric: number): void {
    const state = this.#state;
    state.lastEpoch++;
    if (this.#isBetter(metric)) {
      state.best = metric;
      state.badEpochs = 0;
    } else {
      state.badEpochs++;
    }
    if (state.cooldownLeft > 0) {
      state.cooldownLeft--;
      state.badEpochs = 0;
    }
    if (state.badEpochs > this.#options.patience) {
      this.#reduce();
      state.cooldownLeft = this.#options.cooldown;
      state.badEpochs = 0;
    }
  }

  #isBetter(metric: number): boolean {
    const { mode, threshold, thresholdMode } = this.#options;
    const { best } = this.#state;
    const sign = mode === "min" ? -1 : 1;
    const bound = thresholdMode === "rel" ? best * (1 + sign * threshold) : best + sign * threshold;
    return mode === "min" ? metric < bound : metric > bound;
  }

  #reduce(): void {
    const { factor, minLr, eps } = this.#options;
    this.optimizer.paramGroups.forEach((group, i) => {
      const least = typeof minLr === "number" ? minLr : minLr[i]!;
      const lr = Math.max(group.lr * factor, least);
      if (group.lr - lr > eps) group.lr = lr;
    });
    this.optimizer.writeOptions();
  }

  /** What a checkpoint needs besides the optimizer's state. */
  stateDict(): ReduceLROnPlateauState {
    return { ...this.#state };
  }

  /** Goes on from a saved state; load the optimizer's, too. */
  loadStateDict(state: ReduceLROnPlateauState): void {
    this.#state = { ...state };
  }
}
