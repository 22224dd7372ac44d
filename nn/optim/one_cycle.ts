/** @file One rise and fall of the learning rate over a whole training. */

import { checkFinite, checkOneOf, checkOptions } from "../../engine/arguments.ts";
import { LRScheduler } from "./lr_scheduler.ts";
import type { BaseOptions, Optimizer, ParamGroup } from "./optimizer.ts";

/** Options of {@linkcode OneCycleLR}. */
export interface OneCycleOptions {
  /** Largest learning rate, of all groups or of each. */
  maxLr: number | readonly number[];
  /** Steps of the cycle. */
  totalSteps: number;
  /** Share of the steps in which the learning rate rises. Default 0.3. */
  pctStart?: number;
  /** Shape of the slopes. Default "cos". */
  annealStrategy?: "cos" | "linear";
  /** Whether momentum (or the first beta) falls as the learning rate rises. Default true. */
  cycleMomentum?: boolean;
  /** Momentum at the largest learning rate. Default 0.85. */
  baseMomentum?: number;
  /** Momentum at the start and the end. Default 0.95. */
  maxMomentum?: number;
  /** The learning rate starts at maxLr / divFactor. Default 25. */
  divFactor?: number;
  /** It ends at its start / finalDivFactor. Default 1e4. */
  finalDivFactor?: number;
  /** Whether it falls to its start as fast as it rose, and only then to its end. Default false. */
  threePhase?: boolean;
}

/** The options without gaps. */
type CycleNumbers =
  & OneCycleOptions
  & Required<
    Pick<
      OneCycleOptions,
      "pctStart" | "baseMomentum" | "maxMomentum" | "divFactor" | "finalDivFactor"
    >
  >;

/** A stretch of the cycle: where it ends, and from and to which numbers it goes. */
interface Phase {
  readonly end: number;
  readonly lr: readonly [number, number];
  readonly momentum: readonly [number, number];
}

/**
 * The 1cycle policy: from maxLr / divFactor up to maxLr, then down to almost 0; momentum the other way.
 * Call `step` after every batch.
 *
 * Sources: Smith and Topin, "Super-convergence", 2017, https://arxiv.org/abs/1708.07120;
 * https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html
 */
export class OneCycleLR extends LRScheduler {
  /**
   * @throws {RangeError} If totalSteps is not a whole number of at least 1, pctStart not 0 to 1, or another number
   *   not finite; from `step`, past the last one.
   * @throws {TypeError} If maxLr has another length than the groups, or momentum is to be cycled and the
   *   optimizer has none.
   */
  constructor(optimizer: Optimizer, options: OneCycleOptions) {
    checkOptions(
      "make OneCycleLR",
      options,
      "new OneCycleLR(optimizer, { maxLr: 0.1, totalSteps: 100 })",
    );
    const { totalSteps, pctStart = 0.3, annealStrategy = "cos", cycleMomentum = true } = options;
    checkOneOf("use OneCycleLR", { annealStrategy }, ["cos", "linear"]);
    const groups = optimizer.paramGroups;
    const { maxLr, baseMomentum = 0.85, maxMomentum = 0.95 } = options;
    const { divFactor = 25, finalDivFactor = 1e4 } = options;
    const peaks = Array.isArray(maxLr)
      ? maxLr as readonly number[]
      : groups.map(() => maxLr as number);
    for (const peak of peaks) checkFinite("use OneCycleLR", { maxLr: peak });
    const numbers = { baseMomentum, maxMomentum, divFactor, finalDivFactor };
    checkFinite("use OneCycleLR", numbers);
    if (!Number.isInteger(totalSteps) || totalSteps < 1) {
      throw new RangeError(
        `Cannot use OneCycleLR with totalSteps ${totalSteps}: it must be a whole number of at least 1`,
      );
    }
    if (!(pctStart >= 0 && pctStart <= 1)) {
      throw new RangeError(`Cannot use OneCycleLR with pctStart ${pctStart}: it must be 0 to 1`);
    }
    if (peaks.length !== groups.length) {
      throw new TypeError(
        `Cannot use OneCycleLR with ${peaks.length} maxLr: the optimizer has ${groups.length} groups`,
      );
    }
    if (cycleMomentum && groups.some((group) => !("momentum" in group || "betas" in group))) {
      throw new TypeError(
        "Cannot cycle the momentum of an optimizer without momentum or betas: set cycleMomentum to " +
          "false",
      );
    }
    const cycles = peaks.map((peak) => phasesOf(peak, { ...options, ...numbers, pctStart }));
    groups.forEach((group, g) => group.initialLr = cycles[g]![0]!.lr[0]);
    super(optimizer, ({ epoch, group }) => {
      if (epoch > totalSteps) {
        throw new RangeError(
          `Cannot step OneCycleLR ${epoch} times: its cycle has ${totalSteps} steps`,
        );
      }
      const { phase, share } = placeOf(cycles[group]!, epoch);
      const between = annealStrategy === "cos" ? cosine : linear;
      if (cycleMomentum) setMomentum(groups[group]!, between(phase.momentum, share));
      return between(phase.lr, share);
    });
  }
}

function phasesOf(peak: number, options: CycleNumbers): Phase[] {
  const { totalSteps, pctStart, baseMomentum, maxMomentum } = options;
  const start = peak / options.divFactor;
  const least = start / options.finalDivFactor;
  const rise: Phase = {
    end: pctStart * totalSteps - 1,
    lr: [start, peak],
    momentum: [maxMomentum, baseMomentum],
  };
  const end = totalSteps - 1;
  if (!options.threePhase) {
    return [rise, { end, lr: [peak, least], momentum: [baseMomentum, maxMomentum] }];
  }
  return [
    rise,
    {
      end: 2 * pctStart * totalSteps - 2,
      lr: [peak, start],
      momentum: [baseMomentum, maxMomentum],
    },
    { end, lr: [start, least], momentum: [maxMomentum, maxMomentum] },
  ];
}

/** The phase a step lies in, and which share of it is over. */
function placeOf(phases: readonly Phase[], step: number): { phase: Phase; share: number } {
  let begin = 0;
  for (const phase of phases) {
    const last = phase === phases.at(-1);
    if (step <= phase.end || last) {
      const length = phase.end - begin;
      // The step after the last batch stays at the end.
      return { phase, share: length === 0 ? 1 : Math.min((step - begin) / length, 1) };
    }
    begin = phase.end;
  }
  throw new Error("Internal: no phase");
}

function cosine([from, to]: readonly [number, number], share: number): number {
  return to + (from - to) / 2 * (1 + Math.cos(Math.PI * share));
}

function linear([from, to]: readonly [number, number], share: number): number {
  return (to - from) * share + from;
}

function setMomentum(group: ParamGroup<BaseOptions>, momentum: number): void {
  const options = group as { betas?: readonly [number, number]; momentum?: number };
  if (options.betas) options.betas = [momentum, options.betas[1]];
  else options.momentum = momentum;
}
