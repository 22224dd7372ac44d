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

import {
  type GemmProblem,
  type GemmSide,
  type MatrixUnits,
  range,
  type Tile,
} from "./gemm_problem.ts";

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

/** A as rows along K, B as rows along N, where they are read one by one. */
function stagings({ a, b }: GemmProblem, { tm, tn, wx, wy, staged: depth = 0 }: Tile) {
  return {
    a: stagingOf("tile_a", a, { size: wy * tm, depth, kInner: true }),
    b: stagingOf("tile_b", b, { size: wx * tn, depth, kInner: false }),
  };
}

/** Bytes of workgroup memory that a tile takes at most. */
export function matricesBytes({ tm, tn, wx, wy, staged: depth = 0, matrix }: Tile): number {
  const side = (size: number) => 2 * Math.max((depth + PAD) * size, depth * (size + PAD));
  return side(wy * tm) + side(wx * tn) + 4 * wy * matrix!.m * matrix!.n;
}

/** Workgroup memory of the tile: A, B, and a matrix of C a subgroup. */
export function matricesMemory(problem: GemmProblem, tile: Tile): string {
  const { a, b } = stagings(problem, tile);
  const { m, n } = tile.matrix!;
  return `
var<workgroup> tile_a: array<f16, ${a.elements}>;
var<workgroup> tile_b: array<f16, ${b.elements}>;
var<workgroup> tile_c: array<f32, ${tile.wy * m * n}>;`;
}

/** What it takes to fill workgroup memory with one side. */
interface LoadText {
  /** Statements before the loop over K. */
  readonly before: string[];
  /** Statements of a turn. */
  readonly turn: string[];
}

/**
 * A line is as many threads as its elements, or fours, are; the workgroup fills several at once, and walks
 * over them in a loop. Lines along K are each a row of A (column of B), and all at the same steps of K, which
 * are sought once a turn; lines along the side are each a step of K, at the same rows, which are prepared once.
 */
function loadText(
  problem: GemmProblem,
  which: "a" | "b",
  { to, depth, threads, first }: { to: Staging; depth: number; threads: number; first: number },
): LoadText {
  const side = problem[which];
  const { fours } = side;
  const [start, end] = which === "a" ? ["tile_m", "p.M"] : ["tile_n", "p.N"];
  const width = fours ? 4 : 1;
  const [alongK, alongSide] = to.kInner ? [width, 1] : [1, width];
  const [inner, lines] = to.kInner ? [depth, to.size] : [to.size, depth];
  const perLine = inner / width;
  const atOnce = Math.max(1, threads / perLine);
  // Threads too few for a line take it in pieces.
  const pieces = range(Math.max(1, perLine / threads));
  if (threads % perLine !== 0 && perLine % threads !== 0 || lines % atOnce !== 0) {
    throw new RangeError(`A tile of ${to.size} by ${depth} does not part among ${threads} threads`);
  }
  const own = (piece: number) => `(thread % ${perLine}u + ${piece * threads}u) * ${width}u`;
  const prepare = (id: number, place: string) =>
    side.prepare(id, `min(${start} + ${place}, ${end} - ${alongSide}u)`);
  const seek = (step: string) =>
    `    let wanted = k0 + ${step};
    let k_begin = min(wanted, k_end - ${alongK}u);
    let k = k_begin;
${problem.walk.start}`;
  const overLines = (body: string[]) => [
    `    for (var line = thread / ${perLine}u; line < ${lines}u; line += ${atOnce}u) {`,
    ...body,
    "    }",
  ];
  const store = (id: number, place: string) => [
    `    let value = select(${fours ? "vec4(0.0)" : "0.0"}, ${
      fours ? fours.load(id) : side.load(id)
    }, wanted < k_end);`,
    `    let slot = line * ${to.stride}u + ${place};`,
    ...range(width).map((s) =>
      `    ${to.name}[slot + ${s}u] = f16(value${fours ? `[${s}]` : ""});`
    ),
  ];
  const before: string[] = [];
  const turn: string[] = [];
  for (const piece of pieces) {
    const id = first + piece;
    turn.push("    {");
    if (to.kInner) {
      turn.push(seek(own(piece)), ...overLines([prepare(id, "line"), ...store(id, own(piece))]));
    } else {
      before.push(prepare(id, own(piece)));
      turn.push(...overLines([seek("line"), ...store(id, own(piece))]));
    }
    turn.push("    }");
  }
  return { before, turn };
}

/** The body of a kernel on `tile`, after the place of its workgroup is known. */
export function matricesBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy, staged: depth = 0 } = tile;
  const units: MatrixUnits = tile.matrix!;
  const { m, n, k, across } = units;
  const staging = stagings(problem, tile);
  const threads = wx * wy;
  // Loader variables are numbered apart from those of the stores.
  const a = loadText(problem, "a", { to: staging.a, depth, threads, first: 100 });
  const b = loadText(problem, "b", { to: staging.b, depth, threads, first: 200 });
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
  lines.push(
    `  for (var k0 = k_begin; k0 < k_end; k0 += ${depth}u) {`,
    ...a.turn,
    ...b.turn,
    "    workgroupBarrier();",
  );
  /** Loads the matrix at element `side` of the side, step `step` of K. */
  const matrix = (to: Staging, type: string, { side, step }: { side: string; step: number }) => {
    const order = to.kInner === (to === staging.a) ? "row_major" : "col_major";
    const at = to.kInner
      ? `(${side}) * ${to.stride}u + ${step}u`
      : `${step * to.stride}u + ${side}`;
    return `subgroupMatrixLoad<${type}, ${order}>(&${to.name}, ${at}, ${to.stride}u)`;
  };
  for (const u of range(depth / k)) {
    lines.push("    {");
    for (const i of range(rows)) {
      const load = matrix(staging.a, `subgroup_matrix_left<f16, ${k}, ${m}>`, {
        side: `sub_m + ${i * m}u`,
        step: u * k,
      });
      lines.push(`    let a${i} = ${load};`);
    }
    for (const j of range(columns)) {
      const load = matrix(staging.b, `subgroup_matrix_right<f16, ${n}, ${k}>`, {
        side: `sub_n + ${j * n}u`,
        step: u * k,
      });
      lines.push(`    let b${j} = ${load};`);
      for (const i of range(rows)) {
        lines.push(`    c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, c${i}_${j});`);
      }
    }
    lines.push("    }");
  }
  lines.push("    workgroupBarrier();", "  }");
  for (const i of range(rows)) {
    for (const j of range(columns)) {
      lines.push(
        `  subgroupMatrixStore<row_major>(&tile_c, sub * ${m * n}u, c${i}_${j}, ${n}u);`,
        "  workgroupBarrier();",
        `  for (var e = lane; e < ${m * n}u; e += ${wx}u) {`,
        `    let m = tile_m + sub_m + ${i * m}u + e / ${n}u;`,
        `    let n = tile_n + sub_n + ${j * n}u + e % ${n}u;`,
        "    if (m < p.M && n < p.N) {",
        problem.b.prepare(0, "n"),
        problem.prepareStore?.(0, "n") ?? "",
        problem.store({ j: 0, m: "m", n: "n", value: `tile_c[sub * ${m * n}u + e]` }),
        "    }",
        "  }",
        "  workgroupBarrier();",
      );
    }
  }
  return lines;
}
