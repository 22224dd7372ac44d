/** @file Deterministic random numbers on the host: Philox keyed by a seed, one counter range a stream. */

import { philox4x32, type U32x2, type U32x4 } from "../../engine/philox.ts";

const TWO_32 = 2 ** 32;

/** Streams from this one on belong to the library: {@linkcode libraryStream}. */
const LIBRARY_STREAMS = 2 ** 48;

/**
 * The stream of `index` for one use inside the library, so that two uses with the same seed do not
 * draw the same numbers.
 *
 * @param use Small id of the use: 1 is the loader's shuffling, 2 is `randomSplit`, 3 `WeightedSampler`, 4
 * and 5 the drawing and the shuffling of classes.
 * @param index Which of the use's streams, 0 to 2^44 - 1: the epoch for the loader.
 */
export function libraryStream(use: number, index: number): number {
  return LIBRARY_STREAMS + use * 2 ** 44 + index;
}

/**
 * A random generator with a fixed sequence for each (seed, stream). It has nothing to do with the
 * engine's `manualSeed`: data preparation keeps its own seed.
 *
 * The n-th block of four words is `philox4x32([n, n >> 32, stream, stream >> 32], [seed, seed >> 32])`.
 *
 * @example
 * ```ts
 * import { HostRandom } from "./rng.ts";
 *
 * const random = new HostRandom(7);
 * random.uniform(-1, 1); // in [-1, 1)
 * random.integer(0, 10); // one of 0..9
 * random.shuffle([1, 2, 3]);
 * ```
 */
export class HostRandom {
  readonly #key: U32x2;
  readonly #stream: U32x2;
  #block = 0;
  #words: U32x4 = [0, 0, 0, 0];
  #used = 4;

  /**
   * @param seed Integer from 0 to 2^53 - 1.
   * @param stream Integer from 0 to 2^53 - 1; each gives independent numbers. Default 0.
   * @throws {RangeError} If `seed` or `stream` is not such an integer.
   */
  constructor(seed: number, stream = 0) {
    this.#key = splitWords("seed", seed);
    this.#stream = splitWords("stream", stream);
  }

  /** An integer from 0 to 2^32 - 1. */
  uint32(): number {
    if (this.#used === 4) {
      const low = this.#block % TWO_32, high = Math.floor(this.#block / TWO_32);
      this.#words = philox4x32([low, high, this.#stream[0], this.#stream[1]], this.#key);
      this.#block++;
      this.#used = 0;
    }
    return this.#words[this.#used++]!;
  }

  /**
   * A number in [low, high), in steps of 2^-53 of the interval.
   *
   * @param low Lower bound. Default 0.
   * @param high Upper bound, not below `low`; equal bounds give `low`. Default 1.
   * @throws {RangeError} If the bounds are not finite or `high < low`.
   */
  uniform(low = 0, high = 1): number {
    if (!(Number.isFinite(low) && Number.isFinite(high - low) && low <= high)) {
      throw new RangeError(
        `Cannot draw from [${low}, ${high}): the bounds must be finite with low <= high`,
      );
    }
    const value = low + (high - low) * this.#fraction();
    return value < high ? value : low; // the sum may round up to high
  }

  /**
   * A normal number, by the cosine branch of Box and Muller (two fractions a draw).
   *
   * @param mean Mean. Default 0.
   * @param std Standard deviation. Default 1.
   */
  normal(mean = 0, std = 1): number {
    const radius = Math.sqrt(-2 * Math.log1p(-this.#fraction())); // log1p(-u): u is never 1
    return mean + std * radius * Math.cos(2 * Math.PI * this.#fraction());
  }

  /**
   * An integer from `low` to `high - 1`, each with the same probability (draws that would favour
   * some are thrown away).
   *
   * @param low Smallest value.
   * @param high One past the largest value; `high - low` is 1 to 2^32.
   * @throws {RangeError} If a bound is not an integer or the range is empty or too wide.
   */
  integer(low: number, high: number): number {
    const range = high - low;
    if (
      !Number.isSafeInteger(low) || !Number.isSafeInteger(high) || range < 1 || range > TWO_32
    ) {
      throw new RangeError(
        `Cannot draw an integer from [${low}, ${high}): the bounds must be integers, ` +
          `high - low from 1 to 2^32`,
      );
    }
    const limit = TWO_32 - TWO_32 % range;
    let word = this.uint32();
    while (word >= limit) word = this.uint32();
    return low + word % range;
  }

  /**
   * Shuffles an array in place (Fisher and Yates), every order with the same probability.
   *
   * @returns The same array.
   */
  shuffle<A extends unknown[] | Uint32Array | Int32Array | Float32Array | Float64Array>(
    array: A,
  ): A {
    for (let i = array.length - 1; i > 0; i--) {
      const j = this.integer(0, i + 1);
      const kept = array[i];
      array[i] = array[j];
      array[j] = kept;
    }
    return array;
  }

  /** A multiple of 2^-53 in [0, 1). */
  #fraction(): number {
    const high = this.uint32() >>> 5, low = this.uint32() >>> 6;
    return (high * 2 ** 26 + low) * 2 ** -53;
  }
}

/** The two words of an integer below 2^53. */
function splitWords(name: string, value: number): U32x2 {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(
      `Cannot use ${value} as ${name}: it must be an integer from 0 to 2^53 - 1`,
    );
  }
  return [value % TWO_32, Math.floor(value / TWO_32)];
}
