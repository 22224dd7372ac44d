/**
 * The tiled core for subgroups of exactly eight lanes, one to a workgroup: a row of A is read by one
 * lane and handed to the others. Made for software Vulkan, where a load of eight lanes costs eight
 * bounds checks, and where whatever a loop carries around is blended under a mask at every turn: K
 * advances by four at a turn, the products of a turn are summed before they reach the registers, and
 * neighbours are read four at a time where the problem has them side by side.
 */

import { range } from "./kernel.ts";
import { type GemmProblem, type GemmSide, loaded, type Tile } from "./gemm_problem.ts";

/** Lanes of the subgroup. */
export const LANES = 8;
/** Steps of K in a turn of the loop. */
const TURN = 4;
const PART = "xyzw";

/** Variables of A: `rows` lie in one load of the eight lanes. */
interface SideText {
  /** Statements before the loop. */
  readonly prepare: string[];
  /** Loads that serve all steps of a turn, before its first. */
  readonly turn: string[];
  /** Loads of step u. */
  step(u: number): string[];
}

/** Rows that the lanes hold in one variable. */
function rowsOf({ fours }: GemmSide): number {
  return fours?.along === "side" ? 4 * LANES : LANES;
}

/**
 * WGSL of `value`, a number or as many neighbours along K, or zeros past the end of K. Fours along K
 * need a K of whole fours, and then no turn reaches past its end.
 */
function live(value: string, u: number, { exact, four }: { exact: boolean; four: boolean }) {
  if (exact) return value;
  return `select(${four ? "vec4(0.0)" : "0.0"}, ${value}, live${u})`;
}

/** Rows of A: lane l has row l of each eight, or rows 4l to 4l + 3 of each thirty-two. */
function rowsText(a: GemmSide, tm: number, exact: boolean): SideText {
  const many = rowsOf(a);
  const groups = range(Math.ceil(tm / many));
  const side = a.fours?.along === "side";
  const first = (g: number) =>
    side
      ? `min(m0 + ${g * many}u + lid.x * 4u, p.M - 4u)`
      : `min(m0 + ${g * many}u + lid.x, p.M - 1u)`;
  return {
    prepare: groups.map((g) => a.prepare(g, first(g))),
    turn: a.fours?.along === "k" ? groups.map((g) => `    let a${g} = ${loaded(a, g)};`) : [],
    step: (u) =>
      a.fours?.along === "k"
        ? []
        : groups.map((g) =>
          `    let a${g}_${u} = ${live(loaded(a, g), u, { exact, four: side })};`
        ),
  };
}

/** WGSL of A at row i of the tile and step u. */
function rowAt(a: GemmSide, i: number, u: number): string {
  const many = rowsOf(a);
  const [group, within] = [Math.floor(i / many), i % many];
  if (a.fours?.along === "k") return `subgroupBroadcast(a${group}.${PART[u]}, ${within}u)`;
  if (a.fours?.along !== "side") return `subgroupBroadcast(a${group}_${u}, ${within}u)`;
  return `subgroupBroadcast(a${group}_${u}.${PART[within % 4]}, ${within >> 2}u)`;
}

/** Columns of B: those of a lane lie eight apart, or side by side in fours where the problem is wide. */
function columnsText(problem: GemmProblem, tn: number, exact: boolean): SideText {
  const { b, wide = false } = problem;
  const side = b.fours?.along === "side";
  const groups = side ? range(tn / 4).map((q) => 4 * q) : range(tn);
  const first = (j: number) => `min(${columnAt(j, wide)}, p.N - ${side ? 4 : 1}u)`;
  return {
    prepare: groups.map((j) => b.prepare(j, first(j))),
    turn: b.fours?.along === "k" ? groups.map((j) => `    let b${j} = ${loaded(b, j)};`) : [],
    step: (u) =>
      b.fours?.along === "k"
        ? []
        : groups.map((j) =>
          `    let b${j}_${u} = ${live(loaded(b, j), u, { exact, four: side })};`
        ),
  };
}

/** WGSL of the number of column j of the lane. */
function columnAt(j: number, wide: boolean): string {
  return wide
    ? `(n0 + ${(j >> 2) * 4 * LANES + (j & 3)}u + lid.x * 4u)`
    : `(n0 + ${j * LANES}u + lid.x)`;
}

/** WGSL of B at column j of the lane and step u. */
function columnValue(b: GemmSide, j: number, u: number): string {
  if (b.fours?.along === "k") return `b${j}.${PART[u]}`;
  return b.fours?.along === "side" ? `b${j & ~3}_${u}.${PART[j & 3]}` : `b${j}_${u}`;
}

/** The body of a kernel on `tile`, after the place of its workgroup is known. */
export function lanesBody(problem: GemmProblem, { tm, tn }: Tile): string[] {
  const { a, b } = problem;
  const exact = a.fours?.along === "k" || b.fours?.along === "k";
  const [rows, columns] = [rowsText(a, tm, exact), columnsText(problem, tn, exact)];
  const lines = [
    `  let m0 = (tile % p.tiles_m) * ${tm}u;`,
    `  let n0 = (tile / p.tiles_m) * ${LANES * tn}u;`,
    ...rows.prepare,
    ...columns.prepare,
  ];
  for (const i of range(tm)) for (const j of range(tn)) lines.push(`  var c${i}_${j} = 0.0;`);
  lines.push(
    "  var k = k_begin;",
    problem.walk.start,
    "  while (k < k_end) {",
    ...rows.turn,
    ...columns.turn,
  );
  for (const u of range(TURN)) {
    if (!exact) lines.push(`    let live${u} = k < k_end;`);
    lines.push(...rows.step(u), ...columns.step(u), `{ ${problem.walk.step} }`, "    k += 1u;");
  }
  for (const i of range(tm)) {
    for (const u of range(TURN)) lines.push(`    let r${i}_${u} = ${rowAt(a, i, u)};`);
    for (const j of range(tn)) {
      const sum = range(TURN).reduce(
        (c, u) => `fma(r${i}_${u}, ${columnValue(b, j, u)}, ${c})`,
        `c${i}_${j}`,
      );
      lines.push(`    c${i}_${j} = ${sum};`);
    }
  }
  lines.push("  }");
  return [...lines, ...storeLines(problem, tm, tn)];
}

/**
 * Stores the columns of a lane, four at a time where the problem is wide, row by row: the store of a row is long
 * where every lane checks its bounds, and a loop that a compiler cannot unroll (it starts at no constant)
 * halves the time that the whole kernel takes to compile.
 */
function storeLines(problem: GemmProblem, tm: number, tn: number): string[] {
  const { wide = false } = problem;
  const width = wide ? 4 : 1;
  const groups = range(tn / width);
  const parts = (i: number, j: number) => range(width).map((s) => `c${i}_${j + s}`).join(", ");
  const lines = [
    `  var sums: array<${wide ? "vec4<f32>" : "f32"}, ${tm * groups.length}>;`,
    ...range(tm).flatMap((i) =>
      groups.map((g) =>
        `  sums[${i * groups.length + g}] = ${wide ? "vec4" : ""}(${parts(i, g * width)});`
      )
    ),
  ];
  for (const g of groups) {
    const n = columnAt(g * width, wide);
    const value = `sums[(m - m0) * ${groups.length}u + ${g}u]`;
    lines.push(
      `  if (${n} < p.N) {`,
      problem.prepareStore?.(g * width, n) ?? "",
      `    for (var m = m0; m < min(m0 + ${tm}u, p.M); m++) {`,
      `      ${problem.store({ j: g * width, m: "m", n, value })}`,
      "    }",
      "  }",
    );
  }
  return lines;
}
