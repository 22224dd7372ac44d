/**
 * Chains of elementwise kernels in one, where the tape sees them: while it walks back, a gradient that a
 * pointwise kernel makes is put off until something reads it. If that is a pointwise kernel of the same
 * shape (the next op's gradient, a sum of two gradients, a conversion), the two become one, and what
 * is between them is never written; anything else has it made first.
 *
 * What was put off reads its inputs as they are now: the queue has it made before it overwrites one.
 */

import { type Deferred, DeviceArray, inArena } from "../array.ts";
import type { DType } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import type { Reader, Storage } from "../gpu/storage.ts";
import { sameShape } from "../shape.ts";
import type { PointwiseArgument, PointwiseRun } from "./launch_pointwise.ts";

/** Arrays that one kernel reads at most; the default limit of WebGPU is 8 bindings, the output included. */
const MOST_ARRAYS = 6;
/** Inputs in all, numbers included. Strides are named by input and dimension, so that i1 has i10. */
const MOST_INPUTS = 10;
/** Uniforms of a kernel. */
const MOST_PARAMS = 64;
/** Expressions in a kernel: longer ones gain little, and each is text to compile. */
const MOST_LINKS = 8;
/** Kernels that take the same array in, each computing it anew; the next has it made. */
const MOST_USES = 2;

let deferring = false;
let never = false;

/** Runs `fn` without putting anything off, for tests and benchmarks. */
export function apart<T>(fn: () => T): T {
  const before = never;
  never = true;
  try {
    return fn();
  } finally {
    never = before;
  }
}

/** Runs `fn`, putting off what pointwise kernels make as long as nothing needs it. */
export function putOff<T>(fn: () => T): T {
  const before = deferring;
  deferring = !never;
  try {
    return fn();
  } finally {
    deferring = before;
  }
}

type Into = (run: PointwiseRun, y: DeviceArray) => void;

/** A pointwise kernel that is not recorded yet. */
class Pending implements Deferred, Reader {
  readonly run: PointwiseRun;
  uses = 0;
  array: DeviceArray | null = null;
  readonly #into: Into;
  /** Where the work comes from, however late it is done. */
  readonly #where = gpu().queue.where();
  /** Memory of the inputs, kept alive. */
  readonly #storages: readonly Storage[];

  constructor(run: PointwiseRun, into: Into) {
    this.run = run;
    this.#into = into;
    this.#storages = arraysOf(run).map((a) => a.storage.retain());
    for (const s of this.#storages) (s.readers ??= new Set()).add(this);
  }

  settle(): void {
    // Whoever asks for the memory has it filled.
    void this.array!.storage;
  }

  make(array: DeviceArray): void {
    this.#forget();
    try {
      gpu().queue.as(this.#where, () => inArena(() => (this.#into(this.run, array), [])));
    } finally {
      this.#release();
    }
  }

  drop(): void {
    this.#forget();
    this.#release();
  }

  #forget(): void {
    for (const s of this.#storages) {
      s.readers?.delete(this);
      if (s.readers?.size === 0) s.readers = null;
    }
  }

  #release(): void {
    for (const s of this.#storages) s.release();
  }
}

function arraysOf({ inputs }: PointwiseRun): DeviceArray[] {
  return Object.values(inputs).filter((i) => i instanceof DeviceArray);
}

/** An array for what `run` makes, put off; null where that must be made at once. */
export function deferred(
  run: PointwiseRun,
  out: { shape: readonly number[]; dtype: DType },
  into: Into,
): DeviceArray | null {
  // An f16 is rounded, and may overflow, when it is stored; compilers drop a conversion there and back.
  const plain = run.compute === "f32" && run.result === "f32" && out.dtype === "f32";
  if (!deferring || !plain || out.shape.includes(0)) return null;
  const pending = new Pending(run, into);
  pending.array = new DeviceArray(pending, out.dtype, out.shape);
  return pending.array;
}

/** What makes zeros. */
export const ZERO: PointwiseRun = {
  name: "zeros",
  inputs: {},
  expression: "0.0",
  compute: "f32",
  result: "f32",
  flops: 0,
};

/** Whether an array is {@linkcode ZERO}, put off: there is nothing to add. */
export function isZero({ deferred }: DeviceArray): boolean {
  return deferred instanceof Pending && deferred.run === ZERO;
}

/** A run as links: functions of the inputs i0, i1, …, and the expression that calls them. */
interface Chain {
  readonly inputs: readonly PointwiseArgument[];
  readonly links: readonly string[];
  readonly modules: readonly string[];
  readonly expression: string;
  readonly flops: number;
}

/** `run` with what its inputs put off done inside; itself where there is none, or it does not fit. */
export function chained(
  run: PointwiseRun,
  { shape }: { shape: readonly number[] },
): PointwiseRun {
  let whole = run;
  for (const input of new Set(arraysOf(run))) {
    const pending = input.deferred;
    if (!(pending instanceof Pending) || pending.uses >= MOST_USES) continue;
    if (run.compute !== "f32" || !sameShape(input.shape, shape)) continue;
    const joined = joinedAt(whole, input, pending.run);
    if (!joined) continue;
    pending.uses++;
    whole = joined;
  }
  return whole;
}

/** The chain of a run; one that is a chain already keeps its links. */
function chainOf(run: PointwiseRun): Chain {
  const names = Object.keys(run.inputs);
  const inputs = Object.values(run.inputs);
  const modules = run.modules ?? (run.module ? [run.module] : []);
  const common = { inputs, modules, flops: run.flops ?? 1 };
  if (run.links) return { ...common, links: run.links, expression: run.expression };
  const parameters = names.map((name, i) => {
    const input = inputs[i]!;
    return `${name}: ${input instanceof DeviceArray ? run.compute : input.type}`;
  });
  const link = `fn link0(${parameters.join(", ")}) -> ${run.result} { return ${run.expression}; }`;
  return {
    ...common,
    links: [link],
    expression: `link0(${names.map((_, i) => `i${i}`).join(", ")})`,
  };
}

/** `outer` with `input` replaced by what makes it; null where the two do not go into one kernel. */
function joinedAt(
  outer: PointwiseRun,
  input: DeviceArray,
  inner: PointwiseRun,
): PointwiseRun | null {
  const [to, from] = [chainOf(outer), chainOf(inner)];
  const modules = [...new Set([...from.modules, ...to.modules])];
  if (!distinct(modules) || from.links.length + to.links.length > MOST_LINKS) return null;
  const inputs: PointwiseArgument[] = [];
  /** The input's name in the new chain; arrays that are the same have one. */
  const place = (argument: PointwiseArgument): string => {
    const known = inputs.findIndex((other) => same(other, argument));
    return `i${known >= 0 ? known : inputs.push(argument) - 1}`;
  };
  const made = renamed(from.expression, { inputs: from.inputs.map(place), links: 0 });
  const shift = from.links.length;
  const expression = renamed(to.expression, {
    inputs: to.inputs.map((argument) => argument === input ? made : place(argument)),
    links: shift,
  });
  const arrays = inputs.filter((i) => i instanceof DeviceArray).length;
  const rank = input.shape.length;
  const params = 2 + rank + (arrays + 1) * (1 + rank) + inputs.length - arrays;
  if (arrays > MOST_ARRAYS || inputs.length > MOST_INPUTS || params > MOST_PARAMS) return null;
  return {
    name: `${inner.name}_${outer.name}`,
    inputs: Object.fromEntries(inputs.map((argument, i) => [`i${i}`, argument])),
    links: [...from.links, ...to.links.map((l) => renamed(l, { inputs: [], links: shift }))],
    expression,
    compute: "f32",
    result: outer.result,
    modules,
    flops: from.flops + to.flops,
  };
}

/** Text with other inputs, and links numbered from `links` on. */
function renamed(
  text: string,
  { inputs, links }: { inputs: readonly string[]; links: number },
): string {
  return text.replace(/\b(link|i)(\d+)\b/g, (all, kind, number) => {
    if (kind === "link") return `link${Number(number) + links}`;
    return inputs[Number(number)] ?? all;
  });
}

function same(a: PointwiseArgument, b: PointwiseArgument): boolean {
  if (!(a instanceof DeviceArray) || !(b instanceof DeviceArray)) return false;
  // To ask what is put off for its memory would have it made.
  if (a === b || a.deferred || b.deferred) return a === b;
  return a.storage === b.storage && a.offset === b.offset && a.dtype === b.dtype &&
    sameShape(a.shape, b.shape) && sameShape(a.strides, b.strides);
}

/** Whether no two helper texts declare one name. */
function distinct(modules: readonly string[]): boolean {
  const names = modules.flatMap((text) =>
    [...text.matchAll(/\b(?:fn|const|var<\w+>)\s+(\w+)/g)].map((m) => m[1]!)
  );
  return new Set(names).size === names.length;
}
