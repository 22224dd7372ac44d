/** @file What a data set is, and how to take a part of one. */

import { checkOptions } from "../../engine/arguments.ts";
import { HostRandom, libraryStream } from "./rng.ts";

/**
 * Samples by index. `get` may read a file; it is called with whole numbers from 0 to `length - 1`,
 * in any order, several at a time.
 *
 * @template S What one sample is.
 */
export interface Dataset<S> {
  /** Number of samples. */
  readonly length: number;
  /** The sample at `index`. */
  get(index: number): S | Promise<S>;
  /** How a worker opens the same data set; only with it can a loader have workers. */
  readonly worker?: WorkerSource;
}

/**
 * A data set by name: code cannot be sent to a worker, so the worker loads the module and calls its
 * default export with the arguments. That function gives the data set, or a promise of it.
 *
 * @example
 * ```ts
 * // scans.ts: a module of its own, which does nothing but export
 * import { type Dataset } from "./dataset.ts";
 * import { readJpeg } from "./jpeg.ts";
 * import type { Picture } from "./picture.ts";
 *
 * export default function scans(args: { dir: string; count: number }): Dataset<Picture> {
 *   return {
 *     length: args.count,
 *     get: (index) => readJpeg(`${args.dir}/${index}.jpg`),
 *     worker: { module: import.meta.url, args },
 *   };
 * }
 * ```
 */
export interface WorkerSource {
  /** URL of the module. */
  readonly module: string | URL;
  /** What its default export is called with: whatever `structuredClone` copies. */
  readonly args?: unknown;
}

/**
 * Some samples of another data set, in the order of `indices`. Repeats are allowed.
 *
 * @template S What one sample is.
 */
export class Subset<S> implements Dataset<S> {
  /** The data set the samples come from. */
  readonly dataset: Dataset<S>;
  /** Positions in `dataset`. */
  readonly indices: readonly number[];

  /**
   * @param dataset Where the samples come from.
   * @param indices Positions in `dataset`.
   * @throws {RangeError} If an index is outside the data set.
   */
  constructor(dataset: Dataset<S>, indices: readonly number[]) {
    for (const index of indices) checkIndex(index, dataset.length);
    this.dataset = dataset;
    this.indices = indices.slice();
  }

  /** Number of samples. */
  get length(): number {
    return this.indices.length;
  }

  /**
   * The sample at `index` of this part.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   */
  get(index: number): S | Promise<S> {
    checkIndex(index, this.indices.length);
    return this.dataset.get(this.indices[index]!);
  }
}

/** Options of {@linkcode randomSplit}. */
export interface RandomSplitOptions {
  /** Integer from 0 to 2^53 - 1: the same seed gives the same parts. */
  seed: number;
}

/**
 * Splits a data set into parts that share no sample and cover it. The part a sample falls into
 * depends on the seed, the length of the data set and the lengths of the parts only.
 *
 * Numbers that add up to 1 are fractions, as in PyTorch: each part gets `floor(length * fraction)`
 * samples and the samples left over go one each to the first parts.
 * https://pytorch.org/docs/stable/data.html#torch.utils.data.random_split
 *
 * @param dataset What to split.
 * @param lengths Sizes that add up to `dataset.length`, or fractions that add up to 1.
 * @param options The seed.
 * @returns One part for each entry of `lengths`.
 * @throws {RangeError} If an entry is negative or the entries do not add up.
 *
 * @example
 * ```ts
 * import { type Dataset, randomSplit } from "./dataset.ts";
 *
 * const squares: Dataset<number> = { length: 100, get: (i) => i * i };
 * const [train, validation] = randomSplit(squares, [0.85, 0.15], { seed: 1 });
 * // train.length is 85, validation.length is 15
 * ```
 */
export function randomSplit<S>(
  dataset: Dataset<S>,
  lengths: readonly number[],
  options: RandomSplitOptions,
): Subset<S>[] {
  checkOptions("randomSplit", options, "randomSplit(dataset, [80, 20], { seed: 1 })");
  const sizes = partSizes(dataset.length, lengths);
  const order = Array.from({ length: dataset.length }, (_, index) => index);
  new HostRandom(options.seed, libraryStream(2, 0)).shuffle(order);
  let start = 0;
  return sizes.map((size) => new Subset(dataset, order.slice(start, start += size)));
}

function partSizes(length: number, lengths: readonly number[]): number[] {
  for (const entry of lengths) {
    if (!Number.isFinite(entry) || entry < 0) {
      throw new RangeError(
        `Cannot split by [${lengths.join(", ")}]: ${entry} must not be negative`,
      );
    }
  }
  const sum = lengths.reduce((total, entry) => total + entry, 0);
  if (Math.abs(sum - 1) < 1e-9) {
    const sizes = lengths.map((fraction) => Math.floor(length * fraction));
    const left = length - sizes.reduce((total, size) => total + size, 0);
    for (let i = 0; i < left; i++) sizes[i % sizes.length]!++;
    return sizes;
  }
  if (sum !== length || lengths.some((entry) => !Number.isInteger(entry))) {
    throw new RangeError(
      `Cannot split ${length} samples by [${lengths.join(", ")}]: ` +
        `give lengths that add up to ${length} or fractions that add up to 1`,
    );
  }
  return lengths.slice();
}

function checkIndex(index: number, length: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= length) {
    throw new RangeError(
      `Cannot get sample ${index}: the data set has ${length} samples, valid are 0 to ${
        length - 1
      }`,
    );
  }
}
