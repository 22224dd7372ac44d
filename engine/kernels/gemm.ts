/**
 * The tiled core that matrix products and convolutions share:
 *
 *   C[m, n] = sum over k of A(m, k) · B(k, n)
 *
 * A problem says how to read A and B and where C goes; the core owns tiles, registers and the loop.
 * A thread owns `tm` rows by `tn` columns in named registers (naga clamps every index into an
 * array); a workgroup is `wx` threads along n by `wy` along m. Columns of a thread lie `wx` apart, so
 * that neighbouring lanes read neighbouring columns. Tiles are numbered in one dimension and folded
 * over x and y; z counts batches times shares of K. Rows and columns past the end read the last
 * valid one and store nothing.
 *
 * FLOPs: 2·M·N·K. Source: ours.
 */

import { type BufferDecl, type Kernel, kernel } from "./kernel.ts";
import type { Param } from "./kernel.ts";

/** Registers of a thread and threads of a workgroup. */
export interface Tile {
  readonly tm: number;
  readonly tn: number;
  readonly wx: number;
  readonly wy: number;
  /**
   * Each lane of a subgroup reads one row of A and hands it to the others: one load a thread instead
   * of `tm`. Needs a subgroup of exactly wx = tm lanes.
   */
  readonly broadcast?: boolean;
}

/** How a matrix-like thing is read and written. All members are WGSL text. */
export interface GemmProblem {
  readonly name: string;
  readonly buffers: readonly BufferDecl[];
  readonly params: Readonly<Record<string, Param["type"]>>;
  readonly module?: string;
  /** Statements before everything else; `batch` is the batch number. */
  readonly setup?: string;
  /** State of the walk along K, set up at `k_begin`, and how it advances by one. */
  readonly walk: { readonly start: string; readonly step: string };
  /** Row i of A: statements for the row `m`, then an expression for its element at the walk. */
  readonly a: { prepare(i: number, m: string): string; load(i: number): string };
  /** Column j of B, likewise. */
  readonly b: { prepare(j: number, n: string): string; load(j: number): string };
  /** Statements once a column before its stores. */
  prepareStore?(j: number, n: string): string;
  /** Statement that stores `value` at (m, n); `split` is the number of the share of K. */
  store(at: { i: number; j: number; m: string; n: string; value: string }): string;
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

/** Builds the kernel. */
export function gemmKernel(problem: GemmProblem, tile: Tile): Kernel {
  const { tm, tn, wx, wy } = tile;
  const rows = Array.from({ length: tm }, (_, i) => i);
  const columns = Array.from({ length: tn }, (_, j) => j);
  const lines: string[] = [
    "  let tile = wid.y * nwg.x + wid.x;",
    "  if (tile >= p.tiles) { return; }",
    "  let z = wid.z + p.z0;",
    "  let split = z % p.splits;",
    "  let batch = z / p.splits;",
    `  let m0 = (tile % p.tiles_m) * ${wy * tm}u + lid.y * ${tm}u;`,
    `  let n0 = (tile / p.tiles_m) * ${wx * tn}u + lid.x;`,
    "  let k_begin = split * p.k_share;",
    "  let k_end = min(k_begin + p.k_share, p.K);",
    problem.setup ?? "",
  ];
  if (tile.broadcast) lines.push(problem.a.prepare(0, "min(m0 + lid.x, p.M - 1u)"));
  else for (const i of rows) lines.push(problem.a.prepare(i, `min(m0 + ${i}u, p.M - 1u)`));
  for (const j of columns) lines.push(problem.b.prepare(j, `min(n0 + ${j * wx}u, p.N - 1u)`));
  for (const i of rows) for (const j of columns) lines.push(`  var c${i}_${j} = 0.0;`);
  lines.push(problem.walk.start, "  for (var k = k_begin; k < k_end; k++) {");
  for (const j of columns) lines.push(`    let b${j} = ${problem.b.load(j)};`);
  if (tile.broadcast) lines.push(`    let row = ${problem.a.load(0)};`);
  for (const i of rows) {
    const element = tile.broadcast ? `subgroupBroadcast(row, ${i}u)` : problem.a.load(i);
    lines.push(`    let a${i} = ${element};`);
    for (const j of columns) lines.push(`    c${i}_${j} = fma(a${i}, b${j}, c${i}_${j});`);
  }
  lines.push(problem.walk.step, "  }");
  for (const j of columns) {
    const n = `(n0 + ${j * wx}u)`;
    lines.push(`  if (${n} < p.N) {`, problem.prepareStore?.(j, n) ?? "");
    for (const i of rows) {
      const m = `(m0 + ${i}u)`;
      lines.push(`    if (${m} < p.M) { ${problem.store({ i, j, m, n, value: `c${i}_${j}` })} }`);
    }
    lines.push("  }");
  }
  return kernel({
    name: `${problem.name}_${wy * tm}x${wx * tn}${tile.broadcast ? "_broadcast" : ""}`,
    buffers: problem.buffers,
    params: { ...GEMM_PARAMS, ...problem.params },
    workgroup: [wx, wy, 1],
    module: problem.module,
    body: lines.filter((l) => l !== "").join("\n"),
  });
}
