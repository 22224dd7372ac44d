/** @file Checks of the numbers layers are made with. */

import { checkPair as checkPairKind, checkWhole } from "../../engine/arguments.ts";
import { triple } from "../../engine/functions_volume.ts";
import type { Pair, Triple } from "../../engine/mod.ts";

/**
 * Checks that each of `sizes` is a whole number of at least 1.
 *
 * @throws {RangeError} Naming the layer and the first that is not.
 */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  checkWhole(`make ${layer}`, sizes, 1);
}

/**
 * [height, width] of a pair of whole numbers of at least `min`.
 *
 * @throws {RangeError} Naming the layer and the option if they are not.
 * @throws {TypeError} If it is neither a number nor two.
 */
export function checkPair(
  layer: string,
  pair: Pair,
  options: { name: string; min: number; example?: string },
): readonly [number, number] {
  checkPairKind(`make ${layer}`, { [options.name]: pair }, options.example);
  const [height, width] = typeof pair === "number" ? [pair, pair] : pair;
  for (const size of [height, width]) {
    checkWhole(`make ${layer}`, { [options.name]: size }, options.min);
  }
  return [height, width];
}

/**
 * [depth, height, width] of three whole numbers of at least `min`.
 *
 * @throws {RangeError} Naming the layer and the option if they are not.
 * @throws {TypeError} If it is neither a number nor three.
 */
export function checkTriple(
  layer: string,
  sizes: Triple,
  { name, min }: { name: string; min: number },
): readonly [number, number, number] {
  const all = triple(`make ${layer}`, name, sizes);
  for (const size of all) checkWhole(`make ${layer}`, { [name]: size }, min);
  return all;
}

/** @throws {RangeError} If the groups do not divide the channels. */
export function checkGroups(
  layer: string,
  inChannels: number,
  outChannels: number,
  groups: number,
): void {
  checkSizes(layer, { inChannels, outChannels, groups });
  if (inChannels % groups === 0 && outChannels % groups === 0) return;
  throw new RangeError(
    `Cannot make ${layer} with ${inChannels} to ${outChannels} channels in ${groups} groups: ` +
      "groups must divide both",
  );
}
