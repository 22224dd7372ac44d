/** @file When to stop. */

import { checkOneOf, checkOptions, checkWhole } from "../../engine/arguments.ts";

/** Options of {@linkcode EarlyStopping}. */
export interface EarlyStoppingOptions {
  /** Steps without a better number after which to stop. */
  patience: number;
  /** Whether smaller or larger is better. Default "min". */
  mode?: "min" | "max";
  /** A number is better only if it is better by more than this. Default 0. */
  minDelta?: number;
}

/** What {@linkcode EarlyStopping.stateDict} gives. */
export interface EarlyStoppingState {
  /** Best number so far. */
  best: number;
  /** Steps since then. */
  badSteps: number;
}

/**
 * Says when a number has stopped getting better.
 *
 * @example
 * ```ts
 * import { nn } from "../../mod.ts";
 * const stopping = new nn.optim.EarlyStopping({ patience: 2 });
 * for (const loss of [1, 0.5, 0.6, 0.7, 0.1]) {
 *   const improved = stopping.step(loss);
 *   if (improved) console.log("save", loss); // 1, then 0.5
 *   if (stopping.stopped) break; // after 0.7
 * }
 * ```
 */
export class EarlyStopping {
  readonly #patience: number;
  readonly #sign: number;
  readonly #minDelta: number;
  #state: EarlyStoppingState;

  /** @throws {RangeError} If patience is not a whole number of at least 1, or minDelta is below 0. */
  constructor(options: EarlyStoppingOptions) {
    checkOptions("stop early", options, "new EarlyStopping({ patience: 5 })");
    const { patience, mode = "min", minDelta = 0 } = options;
    checkOneOf("stop early", { mode }, ["min", "max"]);
    checkWhole("stop early", { patience }, 1);
    if (!(minDelta >= 0)) {
      throw new RangeError(`Cannot stop early with minDelta ${minDelta}: it must be at least 0`);
    }
    this.#patience = patience;
    this.#sign = mode === "min" ? 1 : -1;
    this.#minDelta = minDelta;
    this.#state = { best: this.#sign * Infinity, badSteps: 0 };
  }

  /** Best number so far; ±Infinity before the first. */
  get best(): number {
    return this.#state.best;
  }
  /** Steps since the best number. */
  get badSteps(): number {
    return this.#state.badSteps;
  }
  /** True once `patience` steps in a row were not better. */
  get stopped(): boolean {
    return this.#state.badSteps >= this.#patience;
  }

  /** Takes a step's number; true if it is the best so far. NaN never is. */
  step(value: number): boolean {
    const improved = this.#sign * (this.#state.best - value) > this.#minDelta;
    this.#state = improved
      ? { best: value, badSteps: 0 }
      : { ...this.#state, badSteps: this.#state.badSteps + 1 };
    return improved;
  }

  /** What a checkpoint needs. */
  stateDict(): EarlyStoppingState {
    return { ...this.#state };
  }

  /** Goes on from a saved state. */
  loadStateDict(state: EarlyStoppingState): void {
    this.#state = { ...state };
  }
}
