/**
 * The tiled core on matrix units (tensor cores), through subgroup matrices: f16 in, sums in f32.
 *
 * A subgroup has a block of matrices of C in its registers. The workgroup reads `staged` columns of A and
 * rows of B together into workgroup memory, as the problem tells, so that convolutions run on the same
 * text as products; from there the subgroups load matrices. What is summed passes through workgroup memory
 * again, matrix by matrix, since which lane holds which element is the driver's secret, and is stored by
 * the problem with bias, activation or as shares of K.
 *
 * The extension is Dawn's: https://dawn.googlesource.com/dawn/+/refs/heads/main/docs/dawn/features/subgroup_matrix.md
 * (Chromium's name for what WebGPU has as a proposal). Source: ours.
 */

import { range } from "./kernel.ts";
import { type SideLoads, sideLoads, stagedLoop, walkBytes, walkMemory } from "./gemm_loads.ts";
import { type GemmProblem, type GemmSide, type MatrixUnits, type Tile } from "./gemm_problem.ts";

/** Elements between rows in workgroup memory that keep neighbouring rows out of one bank; 16 bytes. */
const PAD = 8;

/** How a side of the tile lies in workgroup memory. */
interface Staging {
  readonly name: string;
  /** Rows of A or columns of B in the tile. */
  readonly size: number;
  /** Whether steps of K are neighbours; else rows of A, or columns of B. */
  readonly kInner: boolean;
  /** Elements from one line to the next. */
  readonly stride: number;
  readonly elements: number;
}

function stagingOf(
  name: string,
  { fours }: GemmSide,
  { size, depth, kInner }: { size: number; depth: number; kInner: boolean },
): Staging {
  const inner = fours ? fours.along === "k" : kInner;
  const stride = (inner ? depth : size) + PAD;
  return { name, size, kInner: inner, stride, elements: stride * (inner ? size : depth) };
}

/** A as rows along K, B as rows along N or as the problem says, where they are read one by one. */
function stagings({ a, b, bInner }: GemmProblem, { tm, tn, wx, wy, staged: depth = 0 }: Tile) {
  return {
    a: stagingOf("tile_a", a, { size: wy * tm, depth, kInner: true }),
    b: stagingOf("tile_b", b, { size: wx * tn, depth, kInner: bInner === "k" }),
  };
}

/** Bytes of workgroup memory that a tile takes at most. */
export function matricesBytes({ tm, tn, wx, wy, staged: depth = 0, matrix }: Tile): number {
  const side = (size: number) => 2 * Math.max((depth + PAD) * size, depth * (size + PAD));
  return side(wy * tm) + side(wx * tn) + 4 * wy * matrix!.m * matrix!.n + walkBytes(depth);
}

/** Workgroup memory of the tile: A, B, and a matrix of C a subgroup. */
export function matricesMemory(problem: GemmProblem, tile: Tile): string {
  const { a, b } = stagings(problem, tile);
  const { m, n } = tile.matrix!;
  return `${walkMemory(problem, tile.staged!)}
var<workgroup> tile_a: array<f16, ${a.elements}>;
var<workgroup> tile_b: array<f16, ${b.elements}>;
var<workgroup> tile_c: array<f32, ${tile.wy * m * n}>;`;
}

/** Statements that put what was fetched into workgroup memory. */
function putLines(to: Staging, { fetched, along }: SideLoads): string[] {
  return fetched.flatMap(({ register, k, at }) => {
    const slot = to.kInner ? `${at} * ${to.stride}u + ${k}` : `${k} * ${to.stride}u + ${at}`;
    if (!along) return [`    ${to.name}[${slot}] = ${register};`];
    return range(4).map((s) => `    ${to.name}[${slot} + ${s}u] = ${register}[${s}];`);
  });
}

/** The body of a kernel on `tile`, after the place of its workgroup is known. */
export function matricesBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy, staged: depth = 0 } = tile;
  const units: MatrixUnits = tile.matrix!;
  const { m, n, k, across } = units;
  const staging = stagings(problem, tile);
  const shared = { depth, threads: wx * wy, type: "f16" } as const;
  // Loads' variables are numbered apart from those of the stores.
  const a = sideLoads(problem, "a", { ...shared, size: wy * tm, kInner: true, first: 100 });
  const kInner = problem.bInner === "k";
  const b = sideLoads(problem, "b", { ...shared, size: wx * tn, kInner, first: 200 });
  const [rows, columns] = [wy * tm * across / wy / m, wx * tn / across / n];
  const lines = [
    `  let tile_m = (tile % p.tiles_m) * ${wy * tm}u;`,
    `  let tile_n = (tile / p.tiles_m) * ${wx * tn}u;`,
    `  let thread = lid.y * ${wx}u + lid.x;`,
    `  let sub_m = sub / ${across}u * ${rows * m}u;`,
    `  let sub_n = sub % ${across}u * ${columns * n}u;`,
    ...a.before,
    ...b.before,
  ];
  for (const i of range(rows)) {
    for (const j of range(columns)) {
      lines.push(`  var c${i}_${j}: subgroup_matrix_result<f32, ${n}, ${m}>;`);
    }
  }
  const multiply: string[] = [];
  /** Loads the matrix at element `side` of the side, step `step` of K. */
  const matrix = (to: Staging, type: string, { side, step }: { side: string; step: number }) => {
    const order = to.kInner === (to === staging.a) ? "row_major" : "col_major";
    const at = to.kInner
      ? `(${side}) * ${to.stride}u + ${step}u`
      : `${step * to.stride}u + ${side}`;
    return `subgroupMatrixLoad<${type}, ${order}>(&${to.name}, ${at}, ${to.stride}u)`;
  };
  for (const u of range(depth / k)) {
    multiply.push("    {");
    for (const i of range(rows)) {
      const load = matrix(staging.a, `subgroup_matrix_left<f16, ${k}, ${m}>`, {
        side: `sub_m + ${i * m}u`,
        step: u * k,
      });
      multiply.push(`    let a${i} = ${load};`);
    }
    for (const j of range(columns)) {
      const load = matrix(staging.b, `subgroup_matrix_right<f16, ${n}, ${k}>`, {
        side: `sub_n + ${j * n}u`,
        step: u * k,
      });
      multiply.push(`    let b${j} = ${load};`);
      for (const i of range(rows)) {
        multiply.push(
          `    c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, c${i}_${j});`,
        );
      }
    }
    multiply.push("    }");
  }
  const put = [...putLines(staging.a, a), ...putLines(staging.b, b)];
  lines.push(...stagedLoop(problem, { a, b, depth, put, multiply }));
  const width = problem.wide ? 4 : 1;
  const sums = range(width).map((s) => `tile_c[sub * ${m * n}u + e + ${s}u]`).join(", ");
  for (const i of range(rows)) {
    for (const j of range(columns)) {
      lines.push(
        `  subgroupMatrixStore<row_major>(&tile_c, sub * ${m * n}u, c${i}_${j}, ${n}u);`,
        "  workgroupBarrier();",
        `  for (var e = lane * ${width}u; e < ${m * n}u; e += ${wx * width}u) {`,
        `    let m = tile_m + sub_m + ${i * m}u + e / ${n}u;`,
        `    let n = tile_n + sub_n + ${j * n}u + e % ${n}u;`,
        "    if (m < p.M && n < p.N) {",
        problem.b.prepare(0, "n"),
        problem.prepareStore?.(0, "n") ?? "",
        problem.store({ j: 0, m: "m", n: "n", value: problem.wide ? `vec4(${sums})` : sums }),
        "    }",
        "  }",
        "  workgroupBarrier();",
      );
    }
  }
  return lines;
}
