/** Who owns a row of a contiguous [rows, C] on the open adapter. */

import { gpu } from "../gpu/device.ts";
import { LINEAR, linearGrid } from "../kernels/kernel.ts";
import type { Lanes, RowLayout } from "../kernels/rows.ts";

/** Loads of a row up to which a thread owns it on a discrete GPU, and from which 256 threads do: guesses. */
const SHORT = 32, LONG = 512;
/** Workgroups that long rows are cut into on a discrete GPU, and turns of a lane that a share is worth: guesses. */
const GROUPS = 1024, LANE_TURNS = 8;
/** Most shares of a row that workgroups own. */
const MOST_SHARES = 256;

/**
 * The layout for rows of C elements: on software a thread a row, which is 1.1 to 30 times as fast there as 8
 * to 128 threads (lavapipe, Mesa 25.0.7, Deno 2.9.6, 2026-11), on a discrete GPU a workgroup unless rows
 * are short. Fours are 1.2 to 1.8 times as fast on lavapipe.
 */
export function rowLayout(C: number): RowLayout {
  const fours = C % 4 === 0;
  return { lanes: rowLanes(fours ? C / 4 : C), fours };
}

/** Threads of a row that takes so many loads. */
export function rowLanes(loads: number): number {
  const { info, limits } = gpu();
  const wanted = info.software || loads <= SHORT ? 1 : loads < LONG ? 64 : 256;
  const most = 2 ** Math.floor(Math.log2(limits.maxComputeInvocationsPerWorkgroup));
  return Math.min(wanted, most);
}

/** Shares that each of `rows` rows is cut into, a workgroup of `lanes` a share. */
export function groupShares(
  loads: number,
  { lanes, rows }: Lanes & { readonly rows: number },
): number {
  const wanted = Math.ceil(GROUPS / Math.max(rows, 1));
  const worth = Math.floor(loads / lanes / LANE_TURNS);
  return Math.max(1, Math.min(wanted, worth, MOST_SHARES));
}

/** Columns in the units that the layout counts. */
export function rowColumns(C: number, { fours }: RowLayout): number {
  return fours ? C / 4 : C;
}

/** Workgroups for `rows` rows. */
export function rowGrid(
  rows: number,
  { lanes }: Lanes,
): [number, number, number] {
  const most = gpu().limits.maxComputeWorkgroupsPerDimension;
  return linearGrid(lanes === 1 ? rows : rows * LINEAR, most);
}
