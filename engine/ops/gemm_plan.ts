/** Which tile and how many shares of K a product gets, and the launch that all of them share. */

import { gpu } from "../gpu/device.ts";
import type { Binding, Cost } from "../gpu/queue.ts";
import type { Kernel } from "../kernels/kernel.ts";
import type { Tile } from "../kernels/gemm.ts";

/** Sizes of a product; `batch` counts independent products of that size. */
export interface GemmSize {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch: number;
}

/** Tile and shares of K. */
export interface GemmPlan {
  readonly tile: Tile;
  readonly splits: number;
}

// Software Vulkan (lavapipe, Mesa 25.0.7, two cores, Deno 2.9.6, 2026-11): a subgroup has 8 lanes, and
// a load of 8 lanes costs 8 scalar loads. GEMM 512 in GFLOP/s, one run under load: every thread reading
// A 8x4 5.5, 8x8 9.2; A handed round by subgroupBroadcast 8x2 6.9, 8x4 11.5, 8x8 12.5.
const SOFTWARE: Tile = { tm: 8, tn: 4, wx: 8, wy: 1 };
const SOFTWARE_BROADCAST: Tile = { tm: 8, tn: 4, wx: 8, wy: 1, broadcast: true };
const SOFTWARE_BROADCAST_WIDE: Tile = { tm: 8, tn: 8, wx: 8, wy: 1, broadcast: true };
const SOFTWARE_THIN: Tile = { tm: 8, tn: 1, wx: 8, wy: 1 };
const SOFTWARE_THIN_BROADCAST: Tile = { ...SOFTWARE_THIN, broadcast: true };
// A discrete GPU: tiles in workgroup memory, 128 x 128, 64 x 64 or 32 x 32 outputs a workgroup. Results are
// tested on software; no discrete GPU has been at hand to measure them on.
const DISCRETE_LARGE: Tile = { tm: 8, tn: 8, wx: 16, wy: 16, staged: 8 };
const DISCRETE: Tile = { tm: 8, tn: 8, wx: 8, wy: 8, staged: 8 };
const DISCRETE_THIN: Tile = { tm: 4, tn: 4, wx: 8, wy: 8, staged: 16 };
/** For adapters with little workgroup memory or few threads. */
const DISCRETE_DIRECT: Tile = { tm: 8, tn: 8, wx: 8, wy: 8 };
/** Every tile that a plan can have. */
export const TILES: readonly Tile[] = [
  SOFTWARE,
  SOFTWARE_BROADCAST,
  SOFTWARE_BROADCAST_WIDE,
  SOFTWARE_THIN,
  SOFTWARE_THIN_BROADCAST,
  DISCRETE_LARGE,
  DISCRETE,
  DISCRETE_THIN,
  DISCRETE_DIRECT,
];
/** Threads that fill a discrete GPU; smaller products split K. */
const DISCRETE_THREADS = 1 << 16;

/** Chooses the plan for a product on the open adapter. */
export function planGemm(size: GemmSize): GemmPlan {
  const { software, subgroupSize } = gpu().info;
  if (software) return { tile: softwareTile(size.N, subgroupSize === 8), splits: 1 };
  const tile = discreteTile(size);
  const threads = Math.ceil(size.M / tile.tm) * Math.ceil(size.N / tile.tn) * size.batch;
  const wanted = Math.floor(DISCRETE_THREADS / Math.max(threads, 1));
  const splits = Math.max(1, Math.min(wanted, Math.floor(size.K / 256), 64));
  return { tile, splits };
}

function discreteTile({ M, N, batch }: GemmSize): Tile {
  const { limits } = gpu().info;
  const fits = ({ tm, tn, wx, wy, staged = 0 }: Tile) =>
    4 * staged * (wy * tm + wx * tn) <= limits.maxComputeWorkgroupStorageSize &&
    wx * wy <= limits.maxComputeInvocationsPerWorkgroup;
  const outputs = M * N * batch;
  if (outputs >= 1 << 22 && M >= 256 && N >= 256 && fits(DISCRETE_LARGE)) return DISCRETE_LARGE;
  const tile = outputs >= 1 << 18 ? DISCRETE : DISCRETE_THIN;
  return fits(tile) ? tile : DISCRETE_DIRECT;
}

function softwareTile(N: number, broadcast: boolean): Tile {
  if (!broadcast) return N <= 8 ? SOFTWARE_THIN : SOFTWARE;
  if (N <= 8) return SOFTWARE_THIN_BROADCAST;
  return N % 64 === 0 || N >= 256 ? SOFTWARE_BROADCAST_WIDE : SOFTWARE_BROADCAST;
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
        k_share: Math.ceil(size.K / plan.splits),
        z0,
      },
      grid: [Math.ceil(tiles / gridY), gridY, Math.min(most, depth - z0)],
      cost: run.cost,
    });
  }
}
