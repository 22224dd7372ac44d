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
  /**
   * Columns of A and rows of B that a workgroup keeps in its memory at a time; tm and tn must then be
   * multiples of 4, and the threads divide the elements that are kept.
   */
  readonly staged?: number;
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
  const { tm, tn, wx, wy, staged } = tile;
  const variant = tile.broadcast ? "_broadcast" : staged ? `_staged${staged}` : "";
  const lines = staged ? stagedBody(problem, tile, staged) : directBody(problem, tile);
  return kernel({
    name: `${problem.name}_${wy * tm}x${wx * tn}${variant}`,
    buffers: problem.buffers,
    params: { ...GEMM_PARAMS, ...problem.params },
    workgroup: [wx, wy, 1],
    module: `${problem.module ?? ""}${staged ? stagingMemory(tile, staged) : ""}`,
    body: lines.filter((l) => l !== "").join("\n"),
  });
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Which tile, batch and share of K a workgroup has. */
function placeLines(problem: GemmProblem): string[] {
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

/** Every thread reads its operands from memory (or a row a lane, handed round). */
function directBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy } = tile;
  const rows = range(tm);
  const columns = range(tn);
  const lines = [
    ...placeLines(problem),
    `  let m0 = (tile % p.tiles_m) * ${wy * tm}u + lid.y * ${tm}u;`,
    `  let n0 = (tile / p.tiles_m) * ${wx * tn}u + lid.x;`,
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
  return lines;
}

/** Workgroup memory for `depth` columns of A and rows of B. */
function stagingMemory({ tm, tn, wx, wy }: Tile, depth: number): string {
  return `
var<workgroup> tile_a: array<vec4<f32>, ${wy * tm * depth / 4}>;
var<workgroup> tile_b: array<vec4<f32>, ${wx * tn * depth / 4}>;`;
}

/**
 * The workgroup reads `depth` columns of A and rows of B together, each element once, into workgroup
 * memory [depth, tile], and every thread multiplies from there, four neighbours at a load. Elements past
 * the share of K are zeros. Threads walk K by seeking anew, since their elements lie apart.
 */
function stagedBody(problem: GemmProblem, tile: Tile, depth: number): string[] {
  const { tm, tn, wx, wy } = tile;
  const [bm, bn, threads] = [wy * tm, wx * tn, wx * wy];
  // Loader variables are numbered apart from those of the thread's own columns.
  const first = 100;
  const lines = [
    ...placeLines(problem),
    `  let tile_m = (tile % p.tiles_m) * ${bm}u;`,
    `  let tile_n = (tile / p.tiles_m) * ${bn}u;`,
    `  let thread = lid.y * ${wx}u + lid.x;`,
  ];
  // A is read along k by neighbouring threads, B along n.
  const loads = (count: number, along: (at: string) => { inner: string; k: string }) =>
    range(count / threads).map((q) => ({ id: first + q, ...along(`(thread + ${q * threads}u)`) }));
  const loadsA = loads(
    bm * depth,
    (at) => ({ inner: `${at} / ${depth}u`, k: `${at} % ${depth}u` }),
  );
  const loadsB = loads(bn * depth, (at) => ({ inner: `${at} % ${bn}u`, k: `${at} / ${bn}u` }));
  for (const { id, inner } of loadsA) {
    lines.push(problem.a.prepare(id, `min(tile_m + ${inner}, p.M - 1u)`));
  }
  for (const { id, inner } of loadsB) {
    lines.push(problem.b.prepare(id, `min(tile_n + ${inner}, p.N - 1u)`));
  }
  for (const i of range(tm)) for (const j of range(tn)) lines.push(`  var c${i}_${j} = 0.0;`);
  lines.push(`  for (var k0 = k_begin; k0 < k_end; k0 += ${depth}u) {`);
  const stage = (
    load: { id: number; inner: string; k: string },
    into: { name: string; width: number; value: string },
  ) =>
    lines.push(`    {
    let wanted = k0 + ${load.k};
    let k_begin = min(wanted, k_end - 1u);
    let k = k_begin;
${problem.walk.start}
    let slot = (${load.k}) * ${into.width}u + ${load.inner};
    ${into.name}[slot >> 2u][slot & 3u] = select(0.0, ${into.value}, wanted < k_end);
    }`);
  for (const l of loadsA) stage(l, { name: "tile_a", width: bm, value: problem.a.load(l.id) });
  for (const l of loadsB) stage(l, { name: "tile_b", width: bn, value: problem.b.load(l.id) });
  lines.push("    workgroupBarrier();");
  const part = "xyzw";
  for (const kk of range(depth)) {
    for (const i of range(tm / 4)) {
      lines.push(`    let a${kk}_${i} = tile_a[${kk * bm / 4 + i}u + lid.y * ${tm / 4}u];`);
    }
    for (const j of range(tn / 4)) {
      lines.push(`    let b${kk}_${j} = tile_b[${kk * bn / 4 + j * wx}u + lid.x];`);
    }
    for (const i of range(tm)) {
      for (const j of range(tn)) {
        const a = `a${kk}_${i >> 2}.${part[i & 3]}`;
        const b = `b${kk}_${j >> 2}.${part[j & 3]}`;
        lines.push(`    c${i}_${j} = fma(${a}, ${b}, c${i}_${j});`);
      }
    }
  }
  lines.push("    workgroupBarrier();", "  }");
  for (const j of range(tn)) {
    const n = `(tile_n + ${(j >> 2) * wx * 4 + (j & 3)}u + lid.x * 4u)`;
    lines.push(`  if (${n} < p.N) {`, problem.b.prepare(j, n), problem.prepareStore?.(j, n) ?? "");
    for (const i of range(tm)) {
      const m = `(tile_m + lid.y * ${tm}u + ${i}u)`;
      lines.push(`    if (${m} < p.M) { ${problem.store({ i, j, m, n, value: `c${i}_${j}` })} }`);
    }
    lines.push("  }");
  }
  return lines;
}
