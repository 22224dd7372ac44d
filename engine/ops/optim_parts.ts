/** How the optimizers share parameters out among dispatches. */

import type { DeviceArray } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { numbered } from "../kernels/kernel.ts";
import { copyOf, plain } from "./launch_pointwise.ts";

/** Windows of a parameter that one binding can hold each: functions that cut an array of its size. */
export function cuts(param: DeviceArray): ((array: DeviceArray) => DeviceArray)[] {
  const { size, bytes } = param;
  const limit = gpu().limits.maxStorageBufferBindingSize;
  if (bytes <= limit) return [(array) => array];
  const step = Math.floor(limit / 4 / 256) * 256;
  return Array.from({ length: Math.ceil(size / step) }, (_, i) => (array) => {
    const start = i * step;
    return array.view([Math.min(step, size - start)], [1], array.offset + start);
  });
}

/**
 * Makes what a dispatch reads contiguous, and a copy where it shares memory with what the dispatches write, as
 * a gradient may that is its parameter detached.
 */
export function readersApart(written: readonly DeviceArray[]): (array: DeviceArray) => DeviceArray {
  const storages = new Set(written.map((a) => a.storage));
  return (array) => storages.has(array.storage) ? copyOf(array) : plain(array);
}

/** Parameters of one dispatch, whose sizes are counted in units. */
export interface Dispatch<T> {
  readonly part: readonly T[];
  readonly unit: 1 | 4;
}

/**
 * At most so many entries a dispatch, those whose parameters are whole fours apart from the others; none
 * for empty ones.
 */
export function dispatches<T extends { readonly param: DeviceArray }>(
  entries: readonly T[],
  most: number,
): Dispatch<T>[] {
  return ([4, 1] as const).flatMap((unit) => {
    const alike = entries.filter(({ param: { size } }) =>
      size > 0 && (size % 4 === 0) === (unit === 4)
    );
    return Array.from({ length: Math.ceil(alike.length / most) }, (_, i) => ({
      part: alike.slice(i * most, (i + 1) * most),
      unit,
    }));
  });
}

/**
 * Which workgroups belong to which array, where each owns `block` elements of one: the first of every array and
 * its units, all of them, and the grid.
 */
export function shareOut(
  arrays: readonly DeviceArray[],
  { unit, block }: { readonly unit: 1 | 4; readonly block: number },
): { params: Record<string, number>; grid: [number, number, number]; elements: number } {
  const params: Record<string, number> = {};
  let groups = 0;
  arrays.forEach(({ size }, i) => {
    params[numbered("first", i)] = groups;
    params[numbered("count", i)] = size / unit;
    groups += Math.ceil(size / block);
  });
  params.groups = groups;
  const y = Math.max(1, Math.ceil(groups / gpu().limits.maxComputeWorkgroupsPerDimension));
  return {
    params,
    grid: [Math.ceil(groups / y), y, 1],
    elements: arrays.reduce((n, { size }) => n + size, 0),
  };
}
