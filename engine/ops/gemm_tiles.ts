/** The tiles that products can have, and which one a product on the open adapter gets. */

import type { DType } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import type { Tile } from "../kernels/gemm.ts";
import { stagedBytes } from "../kernels/gemm_staged.ts";
import { matricesBytes } from "../kernels/gemm_matrices.ts";
import { shapeName } from "../kernels/kernel.ts";
import { adapterKey, TUNED } from "./tuned/mod.ts";

// Software Vulkan (lavapipe, Mesa 25.0.7, two cores, Deno 2.9.6, 2026-11): a subgroup has 8 lanes, and a
// load of 8 lanes costs 8 bounds checks, so that rows of A handed from lane to lane pay. Four columns a
// lane pay where they lie side by side, and are one load; elsewhere two are as fast and take half as long
// to compile. 32 rows are up to 10 % faster than 16, and take three times as long.
const SOFTWARE: Tile = { tm: 8, tn: 4, wx: 8, wy: 1 };
const SOFTWARE_THIN: Tile = { tm: 8, tn: 1, wx: 8, wy: 1 };
const LANES_8: Tile = { ...SOFTWARE, lanes: true };
const LANES_16: Tile = { ...LANES_8, tm: 16 };
const LANES_16_NARROW: Tile = { ...LANES_16, tn: 2 };
const LANES_32: Tile = { ...LANES_8, tm: 32 };
const LANES_THIN: Tile = { ...SOFTWARE_THIN, lanes: true };
// A discrete GPU: tiles in workgroup memory, 128 x 128, 64 x 64 or 32 x 32 outputs a workgroup. Results are
// tested on software; no discrete GPU has been at hand to measure them on.
const DISCRETE_LARGE: Tile = { tm: 8, tn: 8, wx: 16, wy: 16, staged: 8 };
const DISCRETE: Tile = { tm: 8, tn: 8, wx: 8, wy: 8, staged: 8 };
const DISCRETE_THIN: Tile = { tm: 4, tn: 4, wx: 8, wy: 8, staged: 16 };
const DISCRETE_WIDE: Tile = { tm: 8, tn: 8, wx: 16, wy: 4, staged: 8 };
/**
 * Time of a multiplication on each of them, in that of the multiplication alone: the more of the instructions that
 * Mesa's NVK makes (26.2, for Ampere), and of the turns of workgroup memory and first cache that loads take, 128
 * bytes a turn, as an emulation of 32 lanes counts them. The midst of products and convolutions (2026-12). Where
 * memory hands one number to many lanes in less, THIN is better than it looks here.
 */
const DISCRETE_COSTS: readonly (readonly [Tile, number])[] = [
  [DISCRETE_LARGE, 1.45],
  [DISCRETE, 1.7],
  [DISCRETE_THIN, 2.7],
  [DISCRETE_WIDE, 2],
];
/** Threads that fill a discrete GPU: 16 subgroups on each of an H200's 132 cores. Smaller products split K. */
export const DISCRETE_THREADS = 1 << 16;
/** Steps of K that are worth a share of their own, and the most shares. */
const LEAST_SHARE = 256;
const MOST_SHARES = 1024;
/** Multiplications that an H200 does while it stores and loads an element of a share: 60 TFLOP/s, 4 TB/s. */
const SHARE_COST = 60;
/** For adapters with little workgroup memory or few threads. */
const DISCRETE_DIRECT: Tile = { tm: 8, tn: 8, wx: 8, wy: 8 };
// Matrix units, f16: 128 x 128 outputs a workgroup of eight subgroups, or 64 x 64 of four. The first two have the shape of
// NVIDIA's units; those of eight lanes are the software units of lavapipe (Mesa 26.2), on which the text is
// tested, in the same arrangements. No discrete GPU has been at hand to measure the former on.
const UNITS_16 = { m: 16, n: 16, k: 16, across: 2 };
const UNITS_8 = { m: 8, n: 8, k: 8, across: 2 };
const MATRIX_LARGE: Tile = {
  tm: 16,
  tn: 4,
  wx: 32,
  wy: 8,
  staged: 16,
  matrix: { ...UNITS_16, across: 4 },
};
const MATRIX: Tile = { tm: 16, tn: 2, wx: 32, wy: 4, staged: 32, matrix: UNITS_16 };
const MATRIX_8_LARGE: Tile = {
  tm: 8,
  tn: 8,
  wx: 8,
  wy: 8,
  staged: 16,
  matrix: { ...UNITS_8, across: 4 },
};
const MATRIX_8: Tile = { tm: 8, tn: 4, wx: 8, wy: 4, staged: 16, matrix: UNITS_8 };
/** Every tile that a plan can have. */
export const TILES: readonly Tile[] = [
  SOFTWARE,
  SOFTWARE_THIN,
  LANES_8,
  LANES_16,
  LANES_16_NARROW,
  LANES_32,
  LANES_THIN,
  DISCRETE_LARGE,
  DISCRETE,
  DISCRETE_THIN,
  DISCRETE_WIDE,
  DISCRETE_DIRECT,
  MATRIX_LARGE,
  MATRIX,
  MATRIX_8_LARGE,
  MATRIX_8,
];

/** Rows, columns and kind of a tile, as tables and kernels name it. */
export function tileName({ tm, tn, wx, wy, lanes, staged, matrix }: Tile): string {
  const size = `${wy * tm}x${wx * tn}`;
  if (matrix) return `${size}_matrix${shapeName(matrix)}`;
  return `${size}${lanes ? "_lanes" : staged ? `_staged${staged}` : ""}`;
}

const BY_NAME: ReadonlyMap<string, Tile> = new Map(TILES.map((t) => [tileName(t), t]));

/**
 * What a product is of: matrices, of which both, the first or the second lie row by row (`nn`, `nt`,
 * `tn`), or a convolution's output, input's gradient or weight's gradient. A convolution with windows of
 * one element is a product of matrices (`nn`), and so is its input's gradient (`tn`).
 */
export type GemmKind = "nn" | "nt" | "tn" | "conv" | "dx" | "dw";

/** Kind and type of a product, by which tiles are measured and chosen. */
export interface GemmUse {
  readonly kind: GemmKind;
  readonly dtype: "f32" | "f16";
  /** False where K cannot be shared out. */
  readonly shares?: boolean;
}

/** The dtype of a checked float. */
export function floatOf({ dtype }: { dtype: DType }): "f32" | "f16" {
  return dtype === "f16" ? "f16" : "f32";
}

/** Rows and columns up to which products are one class; larger ones are the last. */
export const CLASS_SIZES = { M: [8, 16], N: [8] } as const;

/** The class of a product in a table. */
export function classOf({ kind, dtype }: GemmUse, size: { M: number; N: number }): string {
  const within = (value: number, limits: readonly number[]) =>
    limits.find((limit) => value <= limit) ?? "more";
  return `${kind} ${dtype} ${within(size.M, CLASS_SIZES.M)}x${within(size.N, CLASS_SIZES.N)}`;
}

let forced: Tile | null = null;

/** Makes every product inside `fn` use one tile, for measurements. */
export function onTile<T>(tile: Tile, fn: () => T): T {
  const before = forced;
  forced = tile;
  try {
    return fn();
  } finally {
    forced = before;
  }
}

/** Whether the open adapter can run a tile on elements of a dtype. */
export function fits(tile: Tile, dtype: "f32" | "f16"): boolean {
  const { wx, wy, lanes, matrix } = tile;
  const { limits, subgroupSize, matrixShapes } = gpu().info;
  if (matrix) {
    if (dtype !== "f16") return false;
    if (!matrixShapes.some((s) => shapeName(s) === shapeName(matrix))) return false;
  }
  const memory = matrix ? matricesBytes(tile) : stagedBytes(tile);
  return (!(lanes || matrix) || subgroupSize === wx) &&
    memory <= limits.maxComputeWorkgroupStorageSize &&
    wx * wy <= limits.maxComputeInvocationsPerWorkgroup;
}

/** Sizes of a product; `batch` counts independent products of that size. */
export interface GemmSize {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch: number;
}

/** Workgroups of a product on a tile. */
function groupsOf({ M, N, batch }: GemmSize, { tm, tn, wx, wy }: Tile): number {
  return Math.ceil(M / (wy * tm)) * Math.ceil(N / (wx * tn)) * batch;
}

/**
 * Shares of K that bring a product on a tile to about `fill` workgroups; on software, to no more. One binding
 * holds them all.
 */
export function sharesOf(size: GemmSize, tile: Tile, fill: number): number {
  const { info, limits } = gpu();
  const wanted = fill / Math.max(groupsOf(size, tile), 1);
  const shares = info.software ? Math.floor(wanted) : Math.round(wanted);
  const held = Math.floor(limits.maxStorageBufferBindingSize / (4 * size.M * size.N * size.batch));
  return Math.max(1, Math.min(shares, Math.floor(size.K / LEAST_SHARE), MOST_SHARES, held));
}

/** The tile of a product: the one measured to be fastest, or what suits the kind of adapter. */
export function tileFor(size: GemmSize, use: GemmUse): Tile {
  if (forced && (!forced.matrix || use.dtype === "f16")) return forced;
  const { adapter } = gpu().info;
  const table = TUNED.find((t) => t.adapter === adapterKey(adapter));
  const tuned = BY_NAME.get(table?.tiles[classOf(use, size)] ?? "");
  return tuned && fits(tuned, use.dtype) ? tuned : defaultTile(size, use);
}

/** The tile that suits the kind of adapter. */
export function defaultTile(
  size: GemmSize,
  { kind, dtype = "f32", shares = true }: Pick<GemmUse, "kind"> & Partial<GemmUse>,
): Tile {
  const { M, N, batch } = size;
  if (gpu().info.software) {
    if (!fits(LANES_16, dtype)) return N <= 8 ? SOFTWARE_THIN : SOFTWARE;
    if (N <= 8) return LANES_THIN;
    // Columns of B lie side by side in row by row matrices alone.
    return M <= 8 ? LANES_8 : kind === "nn" || kind === "tn" ? LANES_16 : LANES_16_NARROW;
  }
  const large = M * N * batch >= 1 << 22 && M >= 128 && N >= 128;
  if (large && fits(MATRIX_LARGE, dtype)) return MATRIX_LARGE;
  if (M >= 32 && N >= 32 && fits(MATRIX, dtype)) return MATRIX;
  let best = DISCRETE_DIRECT;
  let least = Infinity;
  for (const [tile, cost] of DISCRETE_COSTS) {
    if (!fits(tile, dtype)) continue;
    const time = discreteTime(size, { tile, cost, shares });
    if (time < least) [best, least] = [tile, time];
  }
  return best;
}

/** Time of a product on a tile, in that of a multiplication; rows and columns past the end count. */
function discreteTime(
  size: GemmSize,
  { tile, cost, shares }: { tile: Tile; cost: number; shares: boolean },
): number {
  const each = tile.wx * tile.wy, groups = groupsOf(size, tile);
  const parts = shares ? sharesOf(size, tile, DISCRETE_THREADS / each) : 1;
  const multiplied = groups * each * tile.tm * tile.tn * size.K * cost /
    speedOf(groups * parts * each);
  return multiplied + (parts > 1 ? SHARE_COST * size.M * size.N * size.batch * parts : 0);
}

/**
 * Part of its speed that a discrete GPU reaches with so many threads of a tile. Half of those that fill it keep three
 * quarters of it busy: a thread has many multiplications at hand. A guess, to be measured.
 */
function speedOf(threads: number): number {
  return Math.min(1, 1.5 * threads / (threads + DISCRETE_THREADS / 2));
}
