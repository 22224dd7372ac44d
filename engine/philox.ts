/**
 * @file Philox-4x32-10, the counter-based random generator shared by host and GPU.
 *
 * J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
 * SC 2011, https://doi.org/10.1145/2063384.2063405
 */

/** Multiplier of the first word. */
export const PHILOX_M0 = 0xd2511f53;
/** Multiplier of the third word. */
export const PHILOX_M1 = 0xcd9e8d57;
/** Step of the first key word: the golden ratio. */
export const PHILOX_W0 = 0x9e3779b9;
/** Step of the second key word: sqrt(3) - 1. */
export const PHILOX_W1 = 0xbb67ae85;
/** Rounds of the full-strength generator. */
export const PHILOX_ROUNDS = 10;

/** Four u32 words. */
export type U32x4 = [number, number, number, number];
/** Two u32 words. */
export type U32x2 = [number, number];

/** High 32 bits of the product of two u32. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16;
  const bLow = b & 0xffff, bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // < 2^32
  const cross = aLow * bHigh + (middle & 0xffff); // < 2^32
  return (aHigh * bHigh + (middle >>> 16) + (cross >>> 16)) >>> 0;
}

/**
 * Four random u32 words as a pure function of a 128-bit counter and a 64-bit key.
 *
 * @param counter Four u32 words, least significant first. Every counter gives its own words.
 * @param key Two u32 words. Every key gives its own sequence.
 * @returns Four u32 words.
 *
 * @example
 * ```ts
 * import { philox4x32 } from "./philox.ts";
 *
 * philox4x32([0, 0, 0, 0], [0, 0]); // [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]
 * ```
 */
export function philox4x32(counter: Readonly<U32x4>, key: Readonly<U32x2>): U32x4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < PHILOX_ROUNDS; round++) {
    const high0 = mulHigh(PHILOX_M0, c0), low0 = Math.imul(PHILOX_M0, c0);
    const high1 = mulHigh(PHILOX_M1, c2), low1 = Math.imul(PHILOX_M1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + PHILOX_W0) >>> 0;
    k1 = (k1 + PHILOX_W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}
