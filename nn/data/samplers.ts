/** @file Samplers for a loader: by weight, and by class with a cap and a floor. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Sampler } from "./loader.ts";
import { HostRandom, libraryStream } from "./rng.ts";

/** All samples, in order or shuffled: what a loader uses without a sampler. */
export class OrderSampler implements Sampler {
  /** Number of samples. */
  readonly length: number;
  readonly #shuffle: boolean;
  readonly #seed: number;

  /**
   * @param length Number of samples.
   * @param options Whether and how to shuffle.
   */
  constructor(length: number, options: { shuffle: boolean; seed: number }) {
    const { shuffle, seed } = options;
    new HostRandom(seed); // checks the seed at once
    this.length = length;
    this.#shuffle = shuffle;
    this.#seed = seed;
  }

  /** The samples of an epoch. */
  indices(epoch: number): Uint32Array {
    const order = Uint32Array.from({ length: this.length }, (_, index) => index);
    return this.#shuffle
      ? new HostRandom(this.#seed, libraryStream(1, epoch)).shuffle(order)
      : order;
  }
}

/** Options of {@linkcode WeightedSampler}. */
export interface WeightedSamplerOptions {
  /** Samples an epoch. Default as many as there are weights. */
  numSamples?: number;
  /** Whether a sample may come several times in an epoch. Default true. */
  replacement?: boolean;
  /** Integer from 0 to 2^53 - 1: fixes what every epoch draws. Default 0. */
  seed?: number;
}

/**
 * Draws samples with probabilities in proportion to their weights, as torch's `WeightedRandomSampler`.
 * Without replacement each further draw is among those left, in proportion to their weights.
 *
 * https://pytorch.org/docs/stable/data.html#torch.utils.data.WeightedRandomSampler; without replacement by
 * keys -log(u) / w, of which the smallest win (Efraimidis and Spirakis, 2006,
 * https://doi.org/10.1016/j.ipl.2005.11.003).
 *
 * @example Every class as often as any other
 * ```ts
 * import { DataLoader } from "./loader.ts";
 * import { WeightedSampler } from "./samplers.ts";
 *
 * const labels = [0, 0, 0, 1], counts = [3, 1];
 * const sampler = new WeightedSampler(labels.map((label) => 1 / counts[label]!), { seed: 1 });
 * const loader = new DataLoader({ length: 4, get: (i) => labels[i] }, { batchSize: 2, sampler });
 * ```
 */
export class WeightedSampler implements Sampler {
  /** Samples an epoch. */
  readonly length: number;
  readonly #weights: Float64Array;
  readonly #replacement: boolean;
  readonly #seed: number;

  /**
   * @param weights A number of at least 0 for each sample; they need not add up to 1.
   * @param options How many to draw and how.
   * @throws {RangeError} If a weight is negative or not finite, all are 0, or without replacement there are
   * fewer weights above 0 than samples to draw.
   */
  constructor(weights: ArrayLike<number>, options: WeightedSamplerOptions = {}) {
    checkOptions(
      "make WeightedSampler",
      options,
      "new WeightedSampler(weights, { numSamples: 100 })",
    );
    const { numSamples = weights.length, replacement = true, seed = 0 } = options;
    new HostRandom(seed); // checks the seed at once
    const values = Float64Array.from(weights);
    const bad = values.findIndex((weight) => !(weight >= 0 && Number.isFinite(weight)));
    if (bad >= 0) {
      throw new RangeError(
        `Cannot sample by weight ${values[bad]} of sample ${bad}: it must be at least 0 and finite`,
      );
    }
    const possible = values.reduce((count, weight) => count + Number(weight > 0), 0);
    const most = possible === 0 ? 0 : replacement ? Infinity : possible;
    if (!Number.isSafeInteger(numSamples) || numSamples < 0 || numSamples > most) {
      throw new RangeError(
        `Cannot draw ${numSamples} of ${possible} samples with a weight above 0: it must be a whole ` +
          "number, and without replacement not more than those",
      );
    }
    this.length = numSamples;
    const heaviest = values.reduce((most, weight) => Math.max(most, weight), 0);
    this.#weights = values.map((weight) => weight / heaviest); // the sum stays finite
    this.#replacement = replacement;
    this.#seed = seed;
  }

  /** The samples of an epoch, in the order they are drawn. */
  indices(epoch: number): Uint32Array {
    const random = new HostRandom(this.#seed, libraryStream(3, epoch));
    return this.#replacement ? this.#drawMany(random) : this.#drawOnce(random);
  }

  #drawMany(random: HostRandom): Uint32Array {
    let total = 0;
    const ends = this.#weights.map((weight) => total += weight);
    const last = this.#weights.findLastIndex((weight) => weight > 0);
    return Uint32Array.from({ length: this.length }, () => {
      const point = random.uniform() * total;
      let low = 0, high = last; // the product may round up to the total, which no end is above
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ends[middle]! > point) high = middle;
        else low = middle + 1;
      }
      return low;
    });
  }

  #drawOnce(random: HostRandom): Uint32Array {
    const keys = this.#weights.map((weight) => -Math.log1p(-random.uniform()) / weight);
    const order = Uint32Array.from(keys, (_, index) => index).filter((i) => this.#weights[i]! > 0);
    return order.sort((a, b) => keys[a]! - keys[b]! || a - b).slice(0, this.length);
  }
}

/** Options of {@linkcode resampleClasses} and {@linkcode ClassSampler}. */
export interface ClassLimits {
  /** Most samples of a class: larger ones give so many, drawn without replacement. Default no limit. */
  cap?: number;
  /** Fewest samples of a class: smaller ones give so many, drawn with replacement. Default 1. */
  floor?: number;
  /** Integer from 0 to 2^53 - 1. Default 0. */
  seed?: number;
}

/**
 * Indices of samples so that every class has at most `cap` and at least `floor` of them. Classes of a
 * size between are taken whole. The classes come one after the other, in the order they first appear.
 *
 * @param labels The class of each sample.
 * @param limits Cap, floor and seed.
 * @throws {RangeError} If a limit is no whole number of at least 1 or the cap is below the floor.
 *
 * @example
 * ```ts
 * import { Subset } from "./dataset.ts";
 * import { resampleClasses } from "./samplers.ts";
 *
 * const calls = { length: 4, get: (i: number) => i };
 * const indices = resampleClasses(["owl", "owl", "owl", "wren"], { cap: 2, floor: 2, seed: 1 });
 * const balanced = new Subset(calls, indices); // two owls, and the wren twice
 * ```
 */
export function resampleClasses<L>(labels: ArrayLike<L>, limits: ClassLimits = {}): number[] {
  checkOptions("resampleClasses", limits, "resampleClasses(labels, { cap: 100 })");
  return draw(classesOf(labels), limits, 0);
}

/**
 * As {@linkcode resampleClasses}, but drawn anew and shuffled every epoch, so that over time all samples of
 * large classes are seen.
 *
 * @example
 * ```ts
 * import { DataLoader } from "./loader.ts";
 * import { ClassSampler } from "./samplers.ts";
 *
 * const labels = [0, 0, 0, 1];
 * const sampler = new ClassSampler(labels, { cap: 2, floor: 2 });
 * const loader = new DataLoader({ length: 4, get: (i) => labels[i] }, { batchSize: 2, sampler });
 * ```
 */
export class ClassSampler implements Sampler {
  /** Samples an epoch. */
  readonly length: number;
  readonly #classes: number[][];
  readonly #limits: ClassLimits;

  /**
   * @param labels The class of each sample.
   * @param limits Cap, floor and seed.
   * @throws {RangeError} If a limit is no whole number of at least 1 or the cap is below the floor.
   */
  constructor(labels: ArrayLike<unknown>, limits: ClassLimits = {}) {
    checkOptions("make ClassSampler", limits, "new ClassSampler(labels, { cap: 100 })");
    this.#classes = classesOf(labels);
    this.#limits = { ...limits };
    this.length = draw(this.#classes, limits, 0).length;
  }

  /** The samples of an epoch, shuffled. */
  indices(epoch: number): number[] {
    const random = new HostRandom(this.#limits.seed ?? 0, libraryStream(5, epoch));
    return random.shuffle(draw(this.#classes, this.#limits, epoch));
  }
}

/** The samples of each class, in the order the classes first appear. */
function classesOf<L>(labels: ArrayLike<L>): number[][] {
  const classes = new Map<L, number[]>();
  for (let index = 0; index < labels.length; index++) {
    const label = labels[index]!, members = classes.get(label);
    if (members) members.push(index);
    else classes.set(label, [index]);
  }
  return [...classes.values()];
}

function draw(classes: readonly number[][], limits: ClassLimits, epoch: number): number[] {
  const { cap = Infinity, floor = 1, seed = 0 } = limits;
  const valid = (limit: number) => Number.isSafeInteger(limit) && limit >= 1;
  if (!(valid(cap) || cap === Infinity) || !valid(floor) || cap < floor) {
    throw new RangeError(
      `Cannot resample classes to ${floor} to ${cap}: floor and cap must be whole numbers, ` +
        "1 <= floor <= cap",
    );
  }
  const random = new HostRandom(seed, libraryStream(4, epoch));
  return classes.flatMap((members) => {
    if (members.length > cap) return random.shuffle(members.slice()).slice(0, cap);
    if (members.length >= floor) return members;
    return Array.from({ length: floor }, () => members[random.integer(0, members.length)]!);
  });
}
