/** The products that the tiled core of gemm.ts can do, and the tiles it does them in. */

import type { BufferDecl, MatrixShape, Param } from "./kernel.ts";

/** Registers of a thread and threads of a workgroup. */
export interface Tile {
  readonly tm: number;
  readonly tn: number;
  readonly wx: number;
  readonly wy: number;
  /**
   * The workgroup is one subgroup of eight lanes, each of which reads some rows of A and hands them to
   * the others; tm is a multiple of 8. Subgroups must have exactly eight lanes.
   */
  readonly lanes?: boolean;
  /**
   * Columns of A and rows of B that a workgroup keeps in its memory at a time; tm and tn must then be
   * multiples of 4, and the threads divide the elements that are kept.
   */
  readonly staged?: number;
  /**
   * The workgroup's rows of threads are subgroups, which multiply with the adapter's matrix units: A and B
   * go through workgroup memory in f16, `staged` steps of K at a time, sums are f32.
   */
  readonly matrix?: MatrixUnits;
}

/** Matrices of a tile, whose subgroups lie `across` to a row; each has a block of whole matrices. */
export interface MatrixUnits extends MatrixShape {
  readonly across: number;
}

/** How A or B is read. All members but the type are WGSL text. */
export interface GemmSide {
  /** Type of the elements that loads give. */
  readonly type: "f32" | "f16";
  /** Statements for row (of A) or column (of B) number `at`, kept under the number i. */
  prepare(i: number, at: string): string;
  /** Expression for its element at the walk. */
  load(i: number): string;
  /**
   * Four neighbours in one load, a vec4: along K from the walk on, where K and the start of every
   * row are multiples of four; or along the side, from row or column `at` on, a multiple of four, which
   * for B needs `wide` where columns are kept in registers.
   */
  readonly fours?: { readonly along: "k" | "side"; load(i: number): string };
}

/** State of the walk along K, set up at `k_begin`, and how it advances by one; `k` is its number. */
export interface Walk {
  readonly start: string;
  readonly step: string;
  /**
   * What loads read of the state, at most four variables, where setting it up is dear: a workgroup that keeps
   * tiles in its memory then sets every step up once, for all of its threads.
   */
  readonly state?: readonly { readonly name: string; readonly type: "i32" | "u32" }[];
}

/** How a matrix-like thing is read and written. All members are WGSL text. */
export interface GemmProblem {
  readonly name: string;
  readonly buffers: readonly BufferDecl[];
  readonly params: Readonly<Record<string, Param["type"]>>;
  readonly module?: string;
  /** Statements before everything else; `batch` is the batch number. */
  readonly setup?: string;
  readonly walk: Walk;
  readonly a: GemmSide;
  readonly b: GemmSide;
  /** Along what neighbours of B lie closest, where they are not read by fours: else columns do. */
  readonly bInner?: "k";
  /** True when N is a multiple of four and C is stored four columns at a time. */
  readonly wide?: boolean;
  /** Statements once a column, or four of them, before its stores. */
  prepareStore?(j: number, n: string): string;
  /**
   * Statement that stores `value` at (m, n), or a vec4 at the columns from n on where the problem is
   * wide; `split` is the number of the share of K.
   */
  store(at: { j: number; m: string; n: string; value: string }): string;
}

/** WGSL of a side's element in row or column i at the walk, or of four where it is read so, as `type`. */
export function loaded({ type: from, load, fours }: GemmSide, i: number, type = "f32"): string {
  const value = fours ? fours.load(i) : load(i);
  if (from === type) return value;
  return fours ? `vec4<${type}>(${value})` : `${type}(${value})`;
}

/** Params the core adds to a problem's own. */
export const GEMM_PARAMS = {
  M: "u32",
  N: "u32",
  K: "u32",
  tiles: "u32",
  tiles_m: "u32",
  splits: "u32",
  k_share: "u32",
  z0: "u32",
} as const;

/** Which tile, batch and share of K a workgroup has. */
export function placeLines(problem: GemmProblem): string[] {
  return [
    "  let tile = wid.y * nwg.x + wid.x;",
    "  if (tile >= p.tiles) { return; }",
    "  let z = wid.z + p.z0;",
    "  let split = z % p.splits;",
    "  let batch = z / p.splits;",
    "  let k_begin = split * p.k_share;",
    "  let k_end = min(k_begin + p.k_share, p.K);",
    problem.setup ?? "",
  ];
}
