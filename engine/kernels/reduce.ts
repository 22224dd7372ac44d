/**
 * y[o, i] = finish( combine over r of load(x[o, r, i]) ) for a contiguous x seen as [outer, R, inner].
 *
 * A thread owns one (o, i) and one of `splits` interleaved shares of R; with splits > 1 the partial
 * results [outer, inner, splits] are reduced by a second run of the same kernel. No atomics: the
 * order of additions is fixed by the shape. Eight running sums a thread would change the error bound
 * only by a constant, so there is one. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** What varies between reductions. */
export interface ReduceSpec {
  readonly name: string;
  readonly input: DType;
  readonly output: DType;
  /** Type of the accumulator. */
  readonly accumulator: "f32" | "i32" | "u32";
  /** WGSL value the accumulator starts from; a param `first` may be used for infinities. */
  readonly init: string;
  /** WGSL for one element `x` of the accumulator's type, before combining. */
  readonly map: string;
  /** WGSL that combines accumulator `a` and element `x`. */
  readonly combine: string;
  /** WGSL over the accumulator `a` and `p.count` (the R of the whole op), for the last pass. */
  readonly finish: string;
  /** Functions the expressions call. */
  readonly module?: string;
}

/** Builds one pass. */
export const reduceKernel: (spec: ReduceSpec) => Kernel = memoized(buildReduce);

function buildReduce(spec: ReduceSpec): Kernel {
  const stored = DTYPES[spec.input].storage;
  const element = stored === spec.accumulator ? "b_x[at]" : `${spec.accumulator}(b_x[at])`;
  const out = DTYPES[spec.output].storage;
  const result = out === spec.accumulator ? spec.finish : `${out}(${spec.finish})`;
  return kernel({
    name: spec.name,
    buffers: [
      { name: "b_x", access: "read", type: stored },
      { name: "b_y", access: "write", type: out },
    ],
    params: {
      outputs: "u32",
      length: "u32",
      inner: "u32",
      splits: "u32",
      count: "f32",
      first: "f32",
    },
    module: `${spec.module ?? ""}
fn map(x: ${spec.accumulator}) -> ${spec.accumulator} { return ${spec.map}; }
fn combine(a: ${spec.accumulator}, x: ${spec.accumulator}) -> ${spec.accumulator} {
  return ${spec.combine};
}`,
    body: `${linearThread("t", "p.outputs * p.splits")}
  let o = t / p.splits;
  let share = t % p.splits;
  var at = (o / p.inner) * p.length * p.inner + o % p.inner + share * p.inner;
  let step = p.splits * p.inner;
  var a = ${spec.accumulator}(${spec.init});
  for (var r = share; r < p.length; r += p.splits) {
    a = combine(a, map(${element}));
    at += step;
  }
  b_y[t] = ${result};`,
  });
}

/** Position of the largest or smallest element of each row of [outer, R, inner]; ties: the first. */
export function argReduceKernel(spec: { input: DType; largest: boolean }): Kernel {
  const { storage: stored, compute } = DTYPES[spec.input];
  const element = stored === compute ? "b_x[at]" : `${compute}(b_x[at])`;
  const beats = spec.largest ? "x > best" : "x < best";
  return kernel({
    name: `arg${spec.largest ? "max" : "min"}_${spec.input}`,
    buffers: [
      { name: "b_x", access: "read", type: stored },
      { name: "b_y", access: "write", type: "i32" },
    ],
    params: { outputs: "u32", length: "u32", inner: "u32" },
    module: compute === "f32" ? IS_NAN : "fn is_nan(x: " + compute + ") -> bool { return false; }",
    body: `${linearThread("t", "p.outputs")}
  var at = (t / p.inner) * p.length * p.inner + t % p.inner;
  var best = ${element};
  var arg = 0u;
  for (var r = 0u; r < p.length; r++) {
    let x = ${element};
    if (!is_nan(best) && (${beats} || is_nan(x))) { best = x; arg = r; }
    at += p.inner;
  }
  b_y[t] = i32(arg);`,
  });
}

/** NaN by its bits: compilers fold `x != x`. */
export const IS_NAN = `
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`;
