/** @file Schedulers one after the other. */

import { checkOptions, given } from "../../engine/arguments.ts";
import { checkList, LRScheduler, type LRSchedulerState } from "./lr_scheduler.ts";
import type { Optimizer } from "./optimizer.ts";

/** What {@linkcode SequentialLR.stateDict} gives. */
export interface SequentialLRState {
  /** Steps since the start. */
  lastEpoch: number;
  /** State of each scheduler. */
  schedulers: LRSchedulerState[];
}

/**
 * Runs schedulers one after the other: at each milestone the next one starts from its own epoch 0.
 *
 * @example
 * ```ts
 * import { init, nn } from "../../mod.ts";
 * await init();
 * const { LinearLR, CosineAnnealingLR, SequentialLR, SGD } = nn.optim;
 * const optimizer = new SGD(new nn.Linear(2, 1).parameters(), { lr: 0.1 });
 * const scheduler = new SequentialLR(optimizer, {
 *   schedulers: [new LinearLR(optimizer, { totalIters: 5 }), new CosineAnnealingLR(optimizer, { tMax: 95 })],
 *   milestones: [5],
 * });
 * scheduler.step();
 * ```
 */
export class SequentialLR {
  /** Whose learning rates are set. */
  readonly optimizer: Optimizer;
  readonly #schedulers: readonly LRScheduler[];
  readonly #milestones: readonly number[];
  #lastEpoch = 0;

  /**
   * @throws {TypeError} If schedulers or milestones are no list, or a scheduler is for another optimizer.
   * @throws {RangeError} If there is not one milestone fewer than schedulers, or they do not rise.
   */
  constructor(
    optimizer: Optimizer,
    options: { schedulers: readonly LRScheduler[]; milestones: readonly number[] },
  ) {
    checkOptions(
      "make SequentialLR",
      options,
      "new SequentialLR(optimizer, { schedulers: [a, b], milestones: [5] })",
    );
    const { schedulers, milestones } = options;
    checkList("run schedulers", "schedulers", schedulers, "[a, b]");
    checkList("run schedulers", "milestones", milestones, "[5]");
    if (schedulers.length === 0 || milestones.length !== schedulers.length - 1) {
      throw new RangeError(
        `Cannot run ${schedulers.length} schedulers with ${milestones.length} milestones: there must ` +
          "be one milestone fewer than schedulers",
      );
    }
    if (milestones.some((m, i) => !Number.isInteger(m) || m <= (milestones[i - 1] ?? 0))) {
      throw new RangeError(
        `Cannot switch schedulers at [${
          milestones.join(", ")
        }]: milestones must be whole numbers ` +
          "that rise from 1",
      );
    }
    const other = schedulers.find((scheduler) => !(scheduler instanceof LRScheduler));
    if (other !== undefined) {
      throw new TypeError(
        `Cannot run ${
          given(other)
        } in a sequence: it takes schedulers by epoch; those of another ` +
          "SequentialLR can be listed themselves",
      );
    }
    if (schedulers.some((scheduler) => scheduler.optimizer !== optimizer)) {
      throw new TypeError(
        "Cannot run schedulers of another optimizer: make all of them for this one",
      );
    }
    this.optimizer = optimizer;
    this.#schedulers = [...schedulers];
    this.#milestones = [...milestones];
    // Each of them has set its first learning rate; only the first one counts.
    this.#schedulers[0]!.restart();
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
    const passed = this.#milestones.filter((milestone) => milestone <= epoch).length;
    const scheduler = this.#schedulers[passed]!;
    if (this.#milestones[passed - 1] === epoch) scheduler.restart();
    else scheduler.step();
  }

  /** What a checkpoint needs besides the optimizer's state. */
  stateDict(): SequentialLRState {
    return {
      lastEpoch: this.#lastEpoch,
      schedulers: this.#schedulers.map((scheduler) => scheduler.stateDict()),
    };
  }

  /**
   * Goes on from a saved state; load the optimizer's, too.
   *
   * @throws {TypeError} If the state has another number of schedulers.
   */
  loadStateDict(state: SequentialLRState): void {
    if (state.schedulers.length !== this.#schedulers.length) {
      throw new TypeError(
        `Cannot load the state of ${state.schedulers.length} schedulers: there are ` +
          this.#schedulers.length,
      );
    }
    this.#lastEpoch = state.lastEpoch;
    this.#schedulers.forEach((scheduler, i) => scheduler.loadStateDict(state.schedulers[i]!));
  }
}
