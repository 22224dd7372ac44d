/** Which tile and how many shares of K a product gets, and the launch that all of them share. */

import { gpu } from "../gpu/device.ts";
import type { Binding, Cost } from "../gpu/queue.ts";
import type { Kernel } from "../kernels/kernel.ts";
import type { Tile } from "../kernels/gemm.ts";
import { DISCRETE_THREADS, type GemmSize, type GemmUse, sharesOf, tileFor } from "./gemm_tiles.ts";

export { type GemmSize, TILES } from "./gemm_tiles.ts";

/** Tile and shares of K. */
export interface GemmPlan {
  readonly tile: Tile;
  readonly splits: number;
}

/** Workgroups that keep the cores of a software adapter busy; smaller products split K. */
const SOFTWARE_GROUPS = 16;

/** Chooses the plan for a product on the open adapter. */
export function planGemm(size: GemmSize, use: GemmUse): GemmPlan {
  const tile = tileFor(size, use);
  if (use.shares === false) return { tile, splits: 1 };
  const fill = gpu().info.software ? SOFTWARE_GROUPS : DISCRETE_THREADS / (tile.wx * tile.wy);
  return { tile, splits: sharesOf(size, tile, fill) };
}

/** A side of a product as a planner sees it: A with its rows, or B with its columns. */
export interface SideLayout {
  /** Rows or columns, their distance, and that of steps of K, in elements. */
  readonly size: number;
  readonly stride: number;
  readonly k: number;
  /** Whatever else is added to an index: the offset, strides of the batch. */
  readonly fixed: readonly number[];
}

/** True if all are multiples of four. */
export function whole(...sizes: readonly number[]): boolean {
  return sizes.every((n) => n % 4 === 0);
}

/** Whether a tile can store four columns of its own at a time. */
export function storesWide({ lanes, staged, matrix, tn }: Tile): boolean {
  return matrix !== undefined || (lanes || staged !== undefined) && tn % 4 === 0;
}

/** Along what a tile can read a side four neighbours at a time; `rows` are those it reads together. */
export function foursOf(
  { size, stride, k, fixed }: SideLayout,
  { K, tile, rows }: { K: number; tile: Tile; rows: number },
): "k" | "side" | undefined {
  if (!(tile.lanes || tile.staged) || !whole(...fixed)) return undefined;
  if (k === 1 && whole(K, stride)) return "k";
  const together = tile.staged !== undefined || rows % 32 === 0;
  return stride === 1 && whole(size, k) && together ? "side" : undefined;
}

/** Runs a kernel of the core over every tile, batch and share. */
export function launchGemm(
  kernel: Kernel,
  run: {
    size: GemmSize;
    plan: GemmPlan;
    buffers: readonly Binding[];
    params: Readonly<Record<string, number>>;
    cost: Cost;
  },
): void {
  const { size, plan } = run;
  const { tm, tn, wx, wy } = plan.tile;
  const most = gpu().limits.maxComputeWorkgroupsPerDimension;
  const tilesM = Math.ceil(size.M / (wy * tm));
  const tiles = tilesM * Math.ceil(size.N / (wx * tn));
  const gridY = Math.ceil(tiles / most);
  const depth = size.batch * plan.splits;
  for (let z0 = 0; z0 < depth; z0 += most) {
    gpu().queue.launch({
      kernel,
      buffers: run.buffers,
      params: {
        ...run.params,
        M: size.M,
        N: size.N,
        K: size.K,
        tiles,
        tiles_m: tilesM,
        splits: plan.splits,
        // Whole fours, which are the most that is read along K in one load.
        k_share: 4 * Math.ceil(size.K / plan.splits / 4),
        z0,
      },
      grid: [Math.ceil(tiles / gridY), gridY, Math.min(most, depth - z0)],
      cost: run.cost,
    });
  }
}
