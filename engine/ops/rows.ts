/** Who owns a row of a contiguous [rows, C] on the open adapter. */

import { gpu } from "../gpu/device.ts";
import { LINEAR, linearGrid } from "../kernels/kernel.ts";
import type { RowLayout } from "../kernels/rows.ts";

/** Columns up to which a thread owns a row on a discrete GPU, and from which 256 threads do. */
const SHORT = 64, LONG = 1024;

/**
 * The layout for rows of C elements: on software a thread a row, which is 1.1 to 30 times as fast there as 8
 * to 128 threads (lavapipe, Mesa 25.0.7, Deno 2.9.6, 2026-11), on a discrete GPU a workgroup unless rows
 * are short. Fours are 1.2 to 1.8 times as fast on lavapipe.
 */
export function rowLayout(C: number): RowLayout {
  const { info, limits } = gpu();
  const wanted = info.software || C <= SHORT ? 1 : C < LONG ? 64 : 256;
  return {
    lanes: Math.min(wanted, 2 ** Math.floor(Math.log2(limits.maxComputeInvocationsPerWorkgroup))),
    fours: C % 4 === 0,
  };
}

/** Columns in the units that the layout counts. */
export function rowColumns(C: number, { fours }: RowLayout): number {
  return fours ? C / 4 : C;
}

/** Workgroups for `rows` rows. */
export function rowGrid(rows: number, { lanes }: RowLayout): [number, number, number] {
  const most = gpu().limits.maxComputeWorkgroupsPerDimension;
  return linearGrid(lanes === 1 ? rows : rows * LINEAR, most);
}
