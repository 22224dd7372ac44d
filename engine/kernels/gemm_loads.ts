/**
 * How the threads of a workgroup keep tiles of A and B in its memory. They fetch every element once, into
 * registers; while they multiply what is in workgroup memory, the next elements are on their way.
 */

import { range } from "./kernel.ts";
import { type GemmProblem, loaded } from "./gemm_problem.ts";

/** The part of a side that a workgroup keeps at a time, and who fetches it. */
export interface SideTile {
  /** Rows of A or columns of B. */
  readonly size: number;
  /** Steps of K. */
  readonly depth: number;
  /** Threads of the workgroup; `thread` is one's number. */
  readonly threads: number;
  /** Whether neighbouring threads fetch steps of K of one row of A (column of B), where the side does not say. */
  readonly kInner: boolean;
  /** Type of the registers. */
  readonly type: "f32" | "f16";
}

/** Workgroup memory for the walk's state at every step of a tile, where it is kept. */
export function walkMemory({ walk }: GemmProblem, depth: number): string {
  return walk.state ? `\nvar<workgroup> walks: array<vec4<u32>, ${depth}>;` : "";
}

/** Bytes that {@linkcode walkMemory} takes at most. */
export function walkBytes(depth: number): number {
  return 16 * depth;
}

/** Statements with which the first threads set up the walk at the steps from `k0` on. */
function walkLines({ walk }: GemmProblem, depth: number): string[] {
  if (!walk.state) return [];
  const values = range(4).map((i) => walk.state![i] ? `u32(${walk.state![i]!.name})` : "0u");
  return [
    `    if (thread < ${depth}u) {`,
    "      let k_begin = min(k0 + thread, k_end - 1u);",
    walk.start,
    `      walks[thread] = vec4(${values.join(", ")});`,
    "    }",
  ];
}

/**
 * Statements that set the walk up at step `slot` of the tile, in a scope of its own; past the end of K, at the
 * last `width` steps, for there may be no bounds checks.
 */
function seekLines({ walk }: GemmProblem, slot: string, width: number): string[] {
  const k = [
    `      let wanted = k0 + ${slot};`,
    `      let k_begin = min(wanted, k_end - ${width}u);`,
    "      let k = k_begin;",
  ];
  if (!walk.state) return [...k, walk.start];
  return [
    ...k,
    `      let walk = walks[${slot}];`,
    ...walk.state.map(({ name, type }, i) => `      let ${name} = ${type}(walk.${"xyzw"[i]});`),
  ];
}

/** WGSL that fetches one side. */
export interface SideLoads {
  /** Statements before the loop over K: registers, and what is prepared once. */
  readonly before: readonly string[];
  /** Statements that fetch the steps from `k0` on; zeros past `k_end`. */
  readonly fetch: readonly string[];
  /** What a thread fetched: where it goes, and the register's name, a number or a vec4. */
  readonly fetched: readonly Fetched[];
  /** Whether the four numbers of a register are steps of K; else they are rows of A or columns of B. */
  readonly along?: "k" | "side";
}

/** A register and the first place in the tile that it is for, as WGSL of unsigned numbers. */
export interface Fetched {
  readonly register: string;
  readonly k: string;
  readonly at: string;
}

/**
 * Plans the loads of side `which`. Where neighbours along K lie side by side, a thread has one place along K and
 * several rows; else one place along the side and several steps of K in a row, so that the problem seeks its
 * place along K once a turn. Numbers of prepared rows or columns count from `first` on.
 */
export function sideLoads(
  problem: GemmProblem,
  which: "a" | "b",
  { size, depth, threads, kInner, type, first }: SideTile & { readonly first: number },
): SideLoads {
  const side = problem[which];
  const { fours } = side;
  const [start, end] = which === "a" ? ["tile_m", "p.M"] : ["tile_n", "p.N"];
  const width = fours ? 4 : 1;
  const byK = fours ? fours.along === "k" : kInner;
  const inner = (byK ? depth : size) / width;
  const count = size * depth / width / threads;
  if (!Number.isInteger(count) || Math.max(inner, threads) % Math.min(inner, threads) !== 0) {
    throw new RangeError(`A tile of ${size} by ${depth} does not part among ${threads} threads`);
  }
  const zero = `${fours ? `vec4<${type}>` : type}(0.0)`;
  const registers = range(count).map((q) => `${which}_next${q}`);
  const before = registers.map((r) => `  var ${r} = ${zero};`);
  /** Fetches register q from the prepared row or column `id`. */
  const load = (q: number, id: number) =>
    `      ${registers[q]} = select(${zero}, ${loaded(side, id, type)}, wanted < k_end);`;
  const prepare = (id: number, at: string) =>
    before.push(side.prepare(id, `min(${start} + ${at}, ${end} - ${byK ? 1 : width}u)`));
  before.push(
    `  let ${which}_inner = thread % ${inner}u * ${width}u;`,
    `  let ${which}_outer = thread / ${inner}u;`,
  );
  // More threads than places side by side take several lines at once; fewer, a line in pieces.
  const atOnce = Math.max(1, threads / inner);
  const pieces = Math.max(1, inner / threads);
  const place = (piece: number) =>
    pieces === 1 ? `${which}_inner` : `(${which}_inner + ${piece * threads * width}u)`;
  const fetched: Fetched[] = [];
  const fetch: string[] = [];
  for (const piece of range(pieces)) {
    const lines = range(count / pieces);
    const name = (line: number) => piece * lines.length + line;
    if (byK) {
      fetch.push("    {", ...seekLines(problem, place(piece), width));
      for (const line of lines) {
        const at = `(${which}_outer + ${line * atOnce}u)`;
        prepare(first + name(line), at);
        fetch.push(load(name(line), first + name(line)));
        fetched.push({ register: registers[name(line)]!, k: place(piece), at });
      }
      fetch.push("    }");
    } else {
      prepare(first + piece, place(piece));
      const begin = `${which}_outer * ${lines.length}u`;
      for (const line of lines) {
        const k = `(${begin} + ${line}u)`;
        fetch.push("    {", ...seekLines(problem, k, 1), load(name(line), first + piece), "    }");
        fetched.push({ register: registers[name(line)]!, k, at: place(piece) });
      }
    }
  }
  return { before, fetch, fetched, along: fours?.along };
}

/**
 * The loop over K: what was fetched is put into workgroup memory, the next steps are fetched, and what is there
 * is multiplied.
 */
export function stagedLoop(
  problem: GemmProblem,
  { a, b, depth, put, multiply }: {
    readonly a: SideLoads;
    readonly b: SideLoads;
    readonly depth: number;
    readonly put: readonly string[];
    readonly multiply: readonly string[];
  },
): string[] {
  const fetch = [...a.fetch, ...b.fetch];
  const walk = walkLines(problem, depth);
  const barrier = "    workgroupBarrier();";
  return [
    "  if (k_begin < k_end) {",
    "    let k0 = k_begin;",
    ...(walk.length > 0 ? [...walk, barrier, ...fetch, barrier] : fetch),
    "  }",
    `  for (var turn = k_begin; turn < k_end; turn += ${depth}u) {`,
    `    let k0 = turn + ${depth}u;`,
    ...put,
    ...walk,
    barrier,
    "    if (k0 < k_end) {",
    ...fetch,
    "    }",
    ...multiply,
    barrier,
    "  }",
  ];
}
