/**
 * The tiled core with tiles of A and B in workgroup memory, for discrete GPUs.
 *
 * The workgroup fetches `depth` columns of A and rows of B together, each element once, and while it multiplies
 * what it has, the next ones are on their way to its registers. Workgroup memory is [depth][tile] in fours, two
 * dimensions in the type as well: the step of K is a constant, so that naga clamps the place along the tile
 * alone, which a thread does once and not at every load.
 */

import { range } from "./kernel.ts";
import { type SideLoads, sideLoads, stagedLoop, walkBytes, walkMemory } from "./gemm_loads.ts";
import { type GemmProblem, type Tile } from "./gemm_problem.ts";

/** Fours between lines of workgroup memory that keep neighbouring steps of K out of one bank. */
const PAD = 1;
/** Lanes of a subgroup, and how many of them lie side by side: a block of 4 x 8 threads reads the fewest banks. */
const SUBGROUP = 32;
const ACROSS = 8;
const PART = "xyzw";

/** Fours in a line of workgroup memory. */
function lineOf(size: number): number {
  return size / 4 + PAD;
}

/** Bytes of workgroup memory that a tile takes. */
export function stagedBytes({ tm, tn, wx, wy, staged: depth = 0 }: Tile): number {
  return 16 * depth * (lineOf(wy * tm) + lineOf(wx * tn)) + walkBytes(depth);
}

/** Workgroup memory for what a tile keeps of A and B, if it does. */
export function stagingMemory(
  problem: GemmProblem,
  { tm, tn, wx, wy, staged: depth }: Tile,
): string {
  if (!depth) return "";
  return `${walkMemory(problem, depth)}
var<workgroup> tile_a: array<array<vec4<f32>, ${lineOf(wy * tm)}>, ${depth}>;
var<workgroup> tile_b: array<array<vec4<f32>, ${lineOf(wx * tn)}>, ${depth}>;`;
}

/** Which rows and columns a thread multiplies: numbers of threads along m and n. */
function threadLines({ wx, wy }: Tile): string[] {
  const blocks = wx % ACROSS === 0 && wy % (SUBGROUP / ACROSS) === 0;
  if (!blocks || wx === ACROSS) return ["  let column = lid.x;", "  let row = lid.y;"];
  const perRow = wx / ACROSS;
  return [
    `  let block = thread / ${SUBGROUP}u;`,
    `  let column = block % ${perRow}u * ${ACROSS}u + thread % ${ACROSS}u;`,
    `  let row = block / ${perRow}u * ${SUBGROUP / ACROSS}u + thread / ${ACROSS}u % ${
      SUBGROUP / ACROSS
    }u;`,
  ];
}

/** Statements that put what was fetched into workgroup memory. */
function putLines(tile: "tile_a" | "tile_b", { fetched, along }: SideLoads): string[] {
  return fetched.flatMap(({ register, k, at }) => {
    if (along === "side") return [`    ${tile}[${k}][${at} >> 2u] = ${register};`];
    if (along === undefined) return [`    ${tile}[${k}][${at} >> 2u][${at} & 3u] = ${register};`];
    return range(4).map((s) =>
      `    ${tile}[${k} + ${s}u][${at} >> 2u][${at} & 3u] = ${register}.${PART[s]};`
    );
  });
}

/** The body of a kernel on `tile`, after the place of its workgroup is known. */
export function stagedBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy, staged: depth = 0 } = tile;
  const threads = wx * wy;
  // Loads' variables are numbered apart from those of the thread's own columns.
  const shared = { depth, threads, type: "f32" } as const;
  const a = sideLoads(problem, "a", { ...shared, size: wy * tm, kInner: true, first: 100 });
  const kInner = problem.bInner === "k";
  const b = sideLoads(problem, "b", { ...shared, size: wx * tn, kInner, first: 200 });
  const lines = [
    `  let tile_m = (tile % p.tiles_m) * ${wy * tm}u;`,
    `  let tile_n = (tile / p.tiles_m) * ${wx * tn}u;`,
    `  let thread = lid.y * ${wx}u + lid.x;`,
    ...threadLines(tile),
    ...a.before,
    ...b.before,
  ];
  for (const i of range(tm)) for (const j of range(tn)) lines.push(`  var c${i}_${j} = 0.0;`);
  const multiply: string[] = [];
  for (const kk of range(depth)) {
    for (const i of range(tm / 4)) {
      multiply.push(`    let a${kk}_${i} = tile_a[${kk}][row * ${tm / 4}u + ${i}u];`);
    }
    for (const j of range(tn / 4)) {
      multiply.push(`    let b${kk}_${j} = tile_b[${kk}][column + ${j * wx}u];`);
    }
    for (const i of range(tm)) {
      for (const j of range(tn)) {
        const left = `a${kk}_${i >> 2}.${PART[i & 3]}`;
        const right = `b${kk}_${j >> 2}.${PART[j & 3]}`;
        multiply.push(`    c${i}_${j} = fma(${left}, ${right}, c${i}_${j});`);
      }
    }
  }
  const put = [...putLines("tile_a", a), ...putLines("tile_b", b)];
  return [
    ...lines,
    ...stagedLoop(problem, { a, b, depth, put, multiply }),
    ...storeLines(problem, tile),
  ];
}

/** Stores a thread's sums, four columns at a time where the problem is wide. */
function storeLines(problem: GemmProblem, { tm, tn, wx }: Tile): string[] {
  const width = problem.wide ? 4 : 1;
  const lines: string[] = [];
  for (const j of range(tn / width).map((q) => q * width)) {
    const n = `(tile_n + ${(j >> 2) * wx * 4 + (j & 3)}u + column * 4u)`;
    lines.push(`  if (${n} < p.N) {`, problem.b.prepare(j, n), problem.prepareStore?.(j, n) ?? "");
    for (const i of range(tm)) {
      const m = `(tile_m + row * ${tm}u + ${i}u)`;
      const sums = range(width).map((s) => `c${i}_${j + s}`).join(", ");
      const value = problem.wide ? `vec4(${sums})` : sums;
      lines.push(`    if (${m} < p.M) { ${problem.store({ j, m, n, value })} }`);
    }
    lines.push("  }");
  }
  return lines;
}
