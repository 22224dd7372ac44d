/** @file Learning rates over the epochs of a run. */

import { nn } from "../mod.ts";

/** How the learning rate changes. */
export interface EpochPlan {
  readonly lrSchedule: "constant" | "cosine";
  /** Epochs of the run; the cosine ends there. */
  readonly epochs: number;
  /** Epochs at first in which the learning rate rises evenly to its value. Default 0. */
  readonly warmup?: number;
}

/**
 * Learning rates that follow from the number of the epoch alone, so that a run may go on for more epochs
 * than it was started with: it takes the rate that these have there.
 */
export class EpochLR extends nn.optim.LambdaLR {
  constructor(optimizer: nn.optim.Optimizer, { lrSchedule, epochs, warmup = 0 }: EpochPlan) {
    const lrLambda = (epoch: number) => {
      if (epoch < warmup) return (epoch + 1) / (warmup + 1);
      if (lrSchedule === "constant") return 1;
      return (1 + Math.cos(Math.PI * (epoch - warmup) / Math.max(1, epochs - warmup))) / 2;
    };
    super(optimizer, { lrLambda });
  }

  /** Goes on from a saved state, at this plan's rate. Load the optimizer's state before. */
  override loadStateDict(state: nn.optim.LRSchedulerState): void {
    super.loadStateDict({ ...state, lastEpoch: state.lastEpoch - 1 });
    this.step();
  }
}
