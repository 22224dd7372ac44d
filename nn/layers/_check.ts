/** @file Checks of the numbers layers are made with. */

import type { Pair } from "../../engine/mod.ts";

/**
 * Checks that each of `sizes` is a whole number of at least 1.
 *
 * @throws {RangeError} Naming the layer and the first that is not.
 */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isInteger(size) || size < 1) {
      throw new RangeError(
        `Cannot make ${layer} with ${name} ${size}: it must be a whole number of at least 1`,
      );
    }
  }
}

/**
 * [height, width] of a pair of whole numbers of at least `min`.
 *
 * @throws {RangeError} Naming the layer and the option if they are not.
 */
export function checkPair(
  layer: string,
  pair: Pair,
  options: { name: string; min: number },
): readonly [number, number] {
  const [height, width] = typeof pair === "number" ? [pair, pair] : pair;
  for (const size of [height, width]) {
    if (!Number.isInteger(size) || size < options.min) {
      throw new RangeError(
        `Cannot make ${layer} with ${options.name} ${size}: it must be a whole number of at least ` +
          options.min,
      );
    }
  }
  return [height, width];
}
