/** Runs the threads of workgroups, from one barrier to the next, in subgroups of a fixed size. */

import type { Builtins, Program, Wait } from "./compile.ts";
import type { Memory, Now, Report } from "./memory.ts";

/** One dispatch. */
export interface Dispatch {
  readonly program: Program;
  readonly grid: readonly [number, number, number];
  readonly subgroupSize: number;
  readonly now: Now;
  readonly report: Report;
  /** Called before each workgroup: its memory is new. */
  fresh(): void;
  /** Workgroups to run; all by default. */
  readonly only?: ReadonlySet<number>;
}

/** Runs all workgroups, one after the other. Threads that cannot go on together throw. */
export function runDispatch(
  { program, grid, subgroupSize, now, report, fresh, only }: Dispatch,
): void {
  const [sx, sy, sz] = program.workgroup, threads = sx * sy * sz;
  const places = Array.from({ length: threads }, (_, i) => [
    i % sx,
    Math.floor(i / sx) % sy,
    Math.floor(i / (sx * sy)),
  ]);
  let group = 0;
  for (let z = 0; z < grid[2]; z++) {
    for (let y = 0; y < grid[1]; y++) {
      for (let x = 0; x < grid[0]; x++) {
        const first = 1 + group * threads;
        now.group = ++group;
        if (only && !only.has(group - 1)) continue;
        fresh();
        now.traffic?.begin(first);
        const builtins = (i: number): Builtins => {
          const local = places[i]!;
          return {
            workgroup_id: [x, y, z],
            num_workgroups: grid,
            local_invocation_id: local,
            local_invocation_index: i,
            global_invocation_id: [x * sx + local[0]!, y * sy + local[1]!, z * sz + local[2]!],
            subgroup_id: Math.floor(i / subgroupSize),
            subgroup_invocation_id: i % subgroupSize,
            subgroup_size: subgroupSize,
            num_subgroups: Math.ceil(threads / subgroupSize),
          };
        };
        if (program.waits) {
          new Workgroup(program, { threads, first, subgroupSize, now, report }).run(builtins);
        } else {
          for (let i = 0; i < threads; i++) {
            now.thread = first + i;
            program.main(builtins(i));
          }
        }
      }
    }
  }
}

interface Thread {
  readonly number: number;
  readonly steps: Generator<Wait, void, unknown>;
  /** What it waits for; null once it has ended. */
  wait: Wait | null;
}

class Workgroup {
  readonly #program: Program;
  readonly #given: {
    threads: number;
    first: number;
    subgroupSize: number;
    now: Now;
    report: Report;
  };

  constructor(
    program: Program,
    given: { threads: number; first: number; subgroupSize: number; now: Now; report: Report },
  ) {
    this.#program = program;
    this.#given = given;
  }

  run(builtins: (thread: number) => Builtins): void {
    const { threads, first, subgroupSize, now } = this.#given;
    const all: Thread[] = Array.from({ length: threads }, (_, i) => ({
      number: first + i,
      steps: this.#program.main(builtins(i)) as Generator<Wait, void, unknown>,
      wait: null,
    }));
    const subgroups: Thread[][] = [];
    for (let i = 0; i < threads; i += subgroupSize) subgroups.push(all.slice(i, i + subgroupSize));
    for (const t of all) this.#step(t, undefined);
    for (;;) {
      for (const subgroup of subgroups) this.#runSubgroup(subgroup);
      const waits = all.map((t) => t.wait);
      const barrier = waits.find((w) => w !== null);
      if (!barrier) return;
      if (waits.some((w) => w?.at !== barrier.at)) {
        const ended = waits.filter((w) => w === null).length;
        throw new Error(
          ended > 0
            ? `${ended} of ${threads} threads have ended where the others wait at a barrier`
            : "threads of one group wait at different barriers",
        );
      }
      if (barrier.op === "storage") now.storagePhase++;
      else now.phase++;
      for (const t of all) this.#step(t, undefined);
    }
  }

  #step(thread: Thread, answer: unknown): void {
    this.#given.now.thread = thread.number;
    const { done, value } = thread.steps.next(answer);
    thread.wait = done ? null : value;
  }

  /** Runs a subgroup until all of its threads wait at a barrier or have ended. */
  #runSubgroup(subgroup: Thread[]): void {
    for (;;) {
      const wait = subgroup.find((t) => t.wait && !isBarrier(t.wait))?.wait;
      if (!wait) return;
      if (subgroup.some((t) => t.wait?.at !== wait.at)) {
        throw new Error(`threads of one subgroup do not come to ${wait.op} together`);
      }
      const answers = this.#together(wait.op, subgroup);
      subgroup.forEach((t, i) => this.#step(t, answers[i]));
    }
  }

  /** What each thread of a subgroup is answered. */
  #together(op: Wait["op"], subgroup: Thread[]): unknown[] {
    const args = subgroup.map((t) => t.wait!.args);
    const [first] = args;
    this.#given.now.thread = subgroup[0]!.number;
    switch (op) {
      case "broadcast": {
        const lane = first![1] as number;
        if (args.some((a) => a[1] !== lane)) throw new Error("lanes broadcast from different ones");
        const from = args[lane];
        if (!from) throw new Error(`a broadcast from lane ${lane} of ${subgroup.length}`);
        return args.map(() => from[0]);
      }
      case "add": {
        const add = first![1] as (x: unknown, y: unknown) => unknown;
        const sum = args.map((a) => a[0]).reduce(add);
        return args.map(() => sum);
      }
      case "load":
        this.#alike(args, [1, 2]);
        return this.#same(subgroup, loadMatrix(first as MatrixArgs));
      case "put":
        this.#alike(args, [1, 3]);
        putMatrix(first as PutArgs);
        return this.#same(subgroup, undefined);
      case "multiply":
        return this.#same(subgroup, multiply(first as MultiplyArgs));
      default:
        throw new Error(`${op} is no work of a subgroup`);
    }
  }

  #alike(args: readonly (readonly unknown[])[], which: readonly number[]): void {
    for (const i of which) {
      if (args.some((a) => a[i] !== args[0]![i])) {
        throw new Error("lanes of one subgroup name different places of a matrix");
      }
    }
  }

  #same(subgroup: Thread[], answer: unknown): unknown[] {
    if (subgroup.length !== this.#given.subgroupSize) {
      throw new Error(`a matrix in a subgroup of ${subgroup.length} threads`);
    }
    return subgroup.map(() => answer);
  }
}

function isBarrier({ op }: Wait): boolean {
  return op === "workgroup" || op === "storage";
}

/** A matrix of a subgroup, in row-major order. */
interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

type MatrixArgs = readonly [
  Memory,
  number,
  number,
  { rows: number; columns: number; rowMajor: boolean },
];
type PutArgs = readonly [Memory, number, Matrix | Float64Array, number, boolean];
type MultiplyArgs = readonly [Matrix, Matrix, Matrix | Float64Array, (x: number) => number];

function loadMatrix([memory, at, stride, { rows, columns, rowMajor }]: MatrixArgs): Matrix {
  const data = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      data[r * columns + c] = memory.load(at + (rowMajor ? r * stride + c : c * stride + r));
    }
  }
  return { rows, columns, data };
}

function putMatrix([memory, at, value, stride, rowMajor]: PutArgs): void {
  if (!("data" in value)) throw new Error("a matrix is stored before it is multiplied");
  const { rows, columns, data } = value;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      memory.store(at + (rowMajor ? r * stride + c : c * stride + r), data[r * columns + c]!);
    }
  }
}

/** a · b + c; the order of the sums is the hardware's, here that of K. */
function multiply([a, b, c, round]: MultiplyArgs): Matrix {
  if (a.columns !== b.rows) throw new Error("matrices that do not fit");
  const sums = "data" in c ? c.data : c, data = new Float64Array(a.rows * b.columns);
  for (let r = 0; r < a.rows; r++) {
    for (let j = 0; j < b.columns; j++) {
      let sum = sums[r * b.columns + j]!;
      for (let k = 0; k < a.columns; k++) {
        sum = round(sum + a.data[r * a.columns + k]! * b.data[k * b.columns + j]!);
      }
      data[r * b.columns + j] = sum;
    }
  }
  return { rows: a.rows, columns: b.columns, data };
}
