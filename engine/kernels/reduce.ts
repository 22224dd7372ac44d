/**
 * y[o, i] = finish( combine over r of load(x[o, r, i]) ) for a contiguous x seen as [outer, R, inner].
 *
 * A thread owns one (o, i) and one of `splits` interleaved shares of R; with splits > 1 the partial
 * results are reduced by a second run of the same kernel. Neighbouring threads take neighbouring
 * elements: shares, or where `by_column` is 1 columns; the partial results are [outer, inner, splits] or
 * [splits, outer, inner]. No atomics: the order of additions is fixed by the shape. Eight running sums a thread would change the error bound
 * only by a constant, so there is one. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized, storedType } from "./kernel.ts";
import { meet, partsOf, type RowLayout, rowVariant, rowWorkgroup } from "./rows.ts";

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

/** Elements a turn of the loop. A turn of software Vulkan costs more than an addition. */
const UNROLL = 8;

/**
 * The same where a thread owns four columns, so that an element is four additions. Of 2048 x 2048 elements 2
 * take 3.7 ms, 4 take 6.5 and 8 take 15 (lavapipe, Mesa 25.0.7, Deno 2.9.6, 2026-11).
 */
const COLUMN_UNROLL = 2;

/** Builds one pass; with `fours` a thread owns four neighbours, in which `outputs` and `inner` then count. */
export const reduceKernel: (spec: ReduceSpec & { readonly fours: boolean }) => Kernel = memoized(
  buildReduce,
);

function buildReduce(spec: ReduceSpec & { readonly fours: boolean }): Kernel {
  const { accumulator, fours } = spec;
  const { storage } = DTYPES[spec.input];
  const parts = fours ? ["x", "y", "z", "w"] : ["x"];
  const element = (part: string) => {
    const value = fours ? `v.${part}` : "v";
    return storage === accumulator ? value : `${accumulator}(${value})`;
  };
  const sums = parts.map((part) => `a_${part} = combine(a_${part}, map(${element(part)}));`);
  const turn = `{ let v = b_x[at]; ${sums.join(" ")} at += step; }`;
  const out = DTYPES[spec.output].storage;
  const results = parts.map((part) => `finish(a_${part})`).join(", ");
  const unroll = fours ? COLUMN_UNROLL : UNROLL;
  return kernel({
    name: `${spec.name}${fours ? "_fours" : ""}`,
    buffers: [
      { name: "b_x", access: "read", type: storedType(spec.input, fours) },
      { name: "b_y", access: "write", type: storedType(spec.output, fours) },
    ],
    params: {
      outputs: "u32",
      length: "u32",
      inner: "u32",
      splits: "u32",
      by_column: "u32",
      count: "f32",
      first: "f32",
    },
    module: `${spec.module ?? ""}
fn map(x: ${accumulator}) -> ${accumulator} { return ${spec.map}; }
fn combine(a: ${accumulator}, x: ${accumulator}) -> ${accumulator} {
  return ${spec.combine};
}
fn finish(a: ${accumulator}) -> ${out} {
  return ${out === accumulator ? spec.finish : `${out}(${spec.finish})`};
}`,
    body: `${linearThread("t", "p.outputs * p.splits")}
  let by_column = p.by_column != 0u;
  let size = select(p.splits, p.outputs, by_column);
  let first = t / size;
  let second = t - first * size;
  let o = select(first, second, by_column);
  let share = select(second, first, by_column);
  // A column's share is rows one after the other: far apart they would lie in pages of their own.
  let rows = (p.length + p.splits - 1u) / p.splits;
  let row = select(share, min(share * rows, p.length), by_column);
  var at = ((o / p.inner) * p.length + row) * p.inner + o % p.inner;
  let step = select(p.splits, 1u, by_column) * p.inner;
  ${parts.map((part) => `var a_${part} = ${accumulator}(${spec.init});`).join("\n  ")}
  var left = select((p.length - share + p.splits - 1u) / p.splits, min(rows, p.length - row), by_column);
  while (left >= ${unroll}u) {
${Array(unroll).fill(`    ${turn}`).join("\n")}
    left -= ${unroll}u;
  }
${
      fours ? `  if (left > 0u) { ${turn} }` : `  while (left > 0u) {
    ${turn}
    left -= 1u;
  }`
    }
  b_y[t] = ${fours ? `vec4(${results})` : results};`,
  });
}

/**
 * The same for rows, inner = 1: a share belongs to a thread, or to a workgroup whose lanes walk it side by
 * side and meet in a tree; elements are read one by one or four neighbours at a time, which p.length then
 * counts. Partial results are [outputs, splits].
 */
export const rowReduceKernel: (spec: ReduceSpec & RowLayout) => Kernel = memoized(buildRowReduce);

function buildRowReduce(spec: ReduceSpec & RowLayout): Kernel {
  const { accumulator, lanes, fours } = spec;
  const { storage } = DTYPES[spec.input];
  const mapped = partsOf("v", spec).map((part) =>
    `map(${storage === accumulator ? part : `${accumulator}(${part})`})`
  );
  const both = (a: string, b: string) => `combine(${a}, ${b})`;
  const value = fours
    ? both(both(mapped[0]!, mapped[1]!), both(mapped[2]!, mapped[3]!))
    : mapped[0]!;
  const turn = `{ let v = b_x[at]; a = combine(a, ${value}); at += step; }`;
  const unroll = fours || lanes > 1 ? UNROLL / 2 : UNROLL;
  const out = DTYPES[spec.output].storage;
  return kernel({
    name: `${spec.name}_rows${rowVariant(spec)}`,
    buffers: [
      { name: "b_x", access: "read", type: storedType(spec.input, fours) },
      { name: "b_y", access: "write", type: out },
    ],
    params: { outputs: "u32", length: "u32", splits: "u32", count: "f32", first: "f32" },
    workgroup: rowWorkgroup(spec),
    module: `${spec.module ?? ""}
fn map(x: ${accumulator}) -> ${accumulator} { return ${spec.map}; }
fn combine(a: ${accumulator}, x: ${accumulator}) -> ${accumulator} {
  return ${spec.combine};
}
${lanes === 1 ? "" : `var<workgroup> row_values: array<${accumulator}, ${lanes}>;`}`,
    body: `${
      lanes === 1
        ? `${linearThread("t", "p.outputs * p.splits")}
  let lane = 0u;`
        : `  let t = wid.y * nwg.x + wid.x;
  if (t >= p.outputs * p.splits) { return; }
  let lane = lid.x;`
    }
  let start = (t % p.splits) * ${lanes}u + lane;
  let step = p.splits * ${lanes}u;
  var at = (t / p.splits) * p.length + start;
  var a = ${accumulator}(${spec.init});
  var left = select(0u, (p.length - start + step - 1u) / step, start < p.length);
  while (left >= ${unroll}u) {
${Array(unroll).fill(`    ${turn}`).join("\n")}
    left -= ${unroll}u;
  }
  while (left > 0u) {
    ${turn}
    left -= 1u;
  }
${
      lanes === 1 ? "" : `  row_values[lane] = a;
  workgroupBarrier();
${meet(lanes, both)}
  if (lane != 0u) { return; }
  a = row_values[0];`
    }
  b_y[t] = ${out === accumulator ? spec.finish : `${out}(${spec.finish})`};`,
  });
}

/** What varies between searches for an extreme. */
export interface ArgReduceSpec {
  readonly input: DType;
  readonly largest: boolean;
}

/**
 * Positions of the largest or smallest elements of x seen as [outer, R, inner]; the first of equal
 * ones, and NaN before all. A thread owns one (o, i) and one of `splits` interleaved shares of R.
 */
export const argReduceKernel: (spec: ArgReduceSpec) => Kernel = memoized((spec: ArgReduceSpec) => {
  const { compute, element, beats, module } = argParts(spec);
  return kernel({
    name: `arg${spec.largest ? "max" : "min"}_${spec.input}`,
    buffers: [
      { name: "b_x", access: "read", type: DTYPES[spec.input].storage },
      { name: "b_y", access: "write", type: "i32" },
    ],
    params: ARG_PARAMS,
    module,
    body: `${linearThread("t", "p.outputs * p.splits")}
  let o = t / p.splits;
  let share = t % p.splits;
  var at = (o / p.inner) * p.length * p.inner + o % p.inner + share * p.inner;
  var best: ${compute} = ${element};
  var arg = share;
  for (var r = share; r < p.length; r += p.splits) {
    let x: ${compute} = ${element};
    if (!is_nan(best) && (${beats} || is_nan(x))) { best = x; arg = r; }
    at += p.splits * p.inner;
  }
  b_y[t] = i32(arg);`,
  });
});

/** The second pass: the best of the positions [outputs, splits] that the first one found. */
export const argSharesKernel: (spec: ArgReduceSpec) => Kernel = memoized((spec: ArgReduceSpec) => {
  const { compute, element, beats, module } = argParts(spec);
  return kernel({
    name: `arg${spec.largest ? "max" : "min"}_shares_${spec.input}`,
    buffers: [
      { name: "b_x", access: "read", type: DTYPES[spec.input].storage },
      { name: "b_shares", access: "read", type: "i32" },
      { name: "b_y", access: "write", type: "i32" },
    ],
    params: ARG_PARAMS,
    module,
    body: `${linearThread("o", "p.outputs")}
  let start = (o / p.inner) * p.length * p.inner + o % p.inner;
  var arg = b_shares[o * p.splits];
  var at = start + u32(arg) * p.inner;
  var best: ${compute} = ${element};
  for (var s = 1u; s < p.splits; s++) {
    let r = b_shares[o * p.splits + s];
    at = start + u32(r) * p.inner;
    let x: ${compute} = ${element};
    let equal = x == best || (is_nan(x) && is_nan(best));
    let better = !is_nan(best) && (${beats} || is_nan(x));
    if (better || (equal && r < arg)) { best = x; arg = r; }
  }
  b_y[o] = arg;`,
  });
});

const ARG_PARAMS = { outputs: "u32", length: "u32", inner: "u32", splits: "u32" } as const;

function argParts({ input, largest }: ArgReduceSpec) {
  const { storage, compute } = DTYPES[input];
  return {
    compute,
    element: storage === compute ? "b_x[at]" : `${compute}(b_x[at])`,
    beats: largest ? "x > best" : "x < best",
    module: compute === "f32" ? IS_NAN : `fn is_nan(x: ${compute}) -> bool { return false; }`,
  };
}

/** NaN by its bits: compilers fold `x != x`. */
export const IS_NAN = `
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`;
