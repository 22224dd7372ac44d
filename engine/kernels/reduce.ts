/**
 * y[o, i] = finish( combine over r of load(x[o, r, i]) ) for a contiguous x seen as [outer, R, inner].
 *
 * A thread owns one (o, i) and one of `splits` shares of R, whose rows lie `row_step` apart: 1, or as many as
 * there are shares. With splits > 1 the partial results [outer, inner, splits] are reduced as rows. Neighbouring
 * threads take neighbouring elements: shares, or where `by_column` is 1 columns. No atomics: the order of
 * additions is fixed by the shape. Eight running sums a thread would change the error bound only by a constant,
 * so there is one. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized, storedType } from "./kernel.ts";
import {
  type Lanes,
  laneStart,
  meet,
  meetFirst,
  meetMemory,
  partsOf,
  type RowLayout,
  rowVariant,
  rowWorkgroup,
} from "./rows.ts";

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

/** Output `o` and `share` of thread or workgroup `t`: neighbours are shares, or where `by_column` is 1 columns. */
const PLACE = `  let by_column = p.by_column != 0u;
  let size = select(p.splits, p.outputs, by_column);
  let first = t / size;
  let second = t - first * size;
  let o = select(first, second, by_column);
  let share = select(second, first, by_column);`;

/** Elements a turn of the loop. A turn of software Vulkan costs more than an addition. */
const UNROLL = 8;

/**
 * The same where a thread owns four columns, so that an element is four additions. Of 2048 x 2048 elements 2
 * take 3.7 ms, 4 take 6.5 and 8 take 15 (lavapipe, Mesa 25.0.7, Deno 2.9.6, 2026-11).
 */
const COLUMN_UNROLL = 2;

/** A reduction of columns. */
type ColumnSpec = ReduceSpec & {
  /** Whether a thread owns four neighbours, in which `outputs` and `inner` then count. */
  readonly fours: boolean;
  /** Whether a thread's four results are stored apart, as shares are. */
  readonly apart: boolean;
};

/** Builds one pass. */
export const reduceKernel: (spec: ColumnSpec) => Kernel = memoized(buildReduce);

function buildReduce(spec: ColumnSpec): Kernel {
  const { accumulator, fours, apart } = spec;
  const { storage } = DTYPES[spec.input];
  const parts = fours ? ["x", "y", "z", "w"] : ["x"];
  const element = (part: string) => {
    const value = fours ? `v.${part}` : "v";
    return storage === accumulator ? value : `${accumulator}(${value})`;
  };
  const sums = parts.map((part) => `a_${part} = combine(a_${part}, map(${element(part)}));`);
  const turn = `{ let v = b_x[at]; ${sums.join(" ")} at += step; }`;
  const out = DTYPES[spec.output].storage;
  const results = parts.map((part) => `finish(a_${part})`);
  const store = fours && !apart
    ? `b_y[o] = vec4(${results.join(", ")});`
    : results.map((result, i) =>
      `b_y[(o * ${results.length}u + ${i}u) * p.splits + share] = ${result};`
    )
      .join("\n  ");
  const unroll = fours ? COLUMN_UNROLL : UNROLL;
  return kernel({
    name: `${spec.name}${fours ? "_fours" : ""}${apart ? "_apart" : ""}`,
    buffers: [
      { name: "b_x", access: "read", type: storedType(spec.input, fours) },
      { name: "b_y", access: "write", type: storedType(spec.output, fours && !apart) },
    ],
    params: {
      outputs: "u32",
      length: "u32",
      inner: "u32",
      splits: "u32",
      by_column: "u32",
      row_step: "u32",
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
${PLACE}
  let mixed = p.row_step > 1u;
  let rows = (p.length + p.splits - 1u) / p.splits;
  let row = select(min(share * rows, p.length), share, mixed);
  var at = ((o / p.inner) * p.length + row) * p.inner + o % p.inner;
  let step = p.row_step * p.inner;
  ${parts.map((part) => `var a_${part} = ${accumulator}(${spec.init});`).join("\n  ")}
  var left = select(min(rows, p.length - row), (p.length - share + p.row_step - 1u) / p.row_step, mixed);
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
  ${store}`,
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
    body: `${laneStart("t", "p.outputs * p.splits", spec)}
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
export interface ArgReduceSpec extends Lanes {
  readonly input: DType;
  readonly largest: boolean;
}

/**
 * Positions of the largest or smallest elements of x seen as [outer, R, inner]; the first of equal
 * ones, and NaN before all. A thread, or a workgroup whose lanes walk side by side and meet in a tree, owns
 * one (o, i) and one of `splits` interleaved shares of R. Neighbouring threads take neighbouring shares, or
 * where `by_column` is 1 columns; positions are [outer, inner, splits].
 */
export const argReduceKernel: (spec: ArgReduceSpec) => Kernel = memoized((spec: ArgReduceSpec) => {
  const { compute, element, beats, module } = argParts(spec);
  const { lanes } = spec;
  return kernel({
    name: `arg${spec.largest ? "max" : "min"}_${spec.input}${rowVariant(spec)}`,
    buffers: [
      { name: "b_x", access: "read", type: DTYPES[spec.input].storage },
      { name: "b_y", access: "write", type: "i32" },
    ],
    params: { ...ARG_PARAMS, by_column: "u32" },
    workgroup: rowWorkgroup(spec),
    module,
    body: `${laneStart("t", "p.outputs * p.splits", spec)}
${PLACE}
  let start = share * ${lanes}u + lane;
  let step = p.splits * ${lanes}u;
  let stride = step * p.inner;
  // A lane past the end has the last element.
  var arg = min(start, p.length - 1u);
  var at = (o / p.inner) * p.length * p.inner + o % p.inner + arg * p.inner;
  var best: ${compute} = ${element};
  for (var r = start; r < p.length; r += step) {
    let x: ${compute} = ${element};
    if (!is_nan(best) && (${beats} || is_nan(x))) { best = x; arg = r; }
    at += stride;
  }
${firstOf(spec)}
  b_y[o * p.splits + share] = i32(arg);`,
  });
});

/** The second pass: the best of the positions [outputs, splits] that the first one found. */
export const argSharesKernel: (spec: ArgReduceSpec) => Kernel = memoized((spec: ArgReduceSpec) => {
  const { compute, element, module } = argParts(spec);
  return kernel({
    name: `arg${spec.largest ? "max" : "min"}_shares_${spec.input}${rowVariant(spec)}`,
    buffers: [
      { name: "b_x", access: "read", type: DTYPES[spec.input].storage },
      { name: "b_shares", access: "read", type: "i32" },
      { name: "b_y", access: "write", type: "i32" },
    ],
    params: ARG_PARAMS,
    workgroup: rowWorkgroup(spec),
    module,
    body: `${laneStart("o", "p.outputs", spec)}
  let start = (o / p.inner) * p.length * p.inner + o % p.inner;
  var arg = u32(b_shares[o * p.splits + min(lane, p.splits - 1u)]);
  var at = start + arg * p.inner;
  var best: ${compute} = ${element};
  for (var s = lane + ${spec.lanes}u; s < p.splits; s += ${spec.lanes}u) {
    let r = u32(b_shares[o * p.splits + s]);
    at = start + r * p.inner;
    let x: ${compute} = ${element};
    if (precedes(x, r, best, arg)) { best = x; arg = r; }
  }
${firstOf(spec)}
  b_y[o] = i32(arg);`,
  });
});

/** WGSL that leaves the first lane with the `arg` of all. */
function firstOf({ lanes }: ArgReduceSpec): string {
  return lanes === 1 ? "" : `  row_values[lane] = best;
  row_places[lane] = arg;
  workgroupBarrier();
${meetFirst(lanes)}
  if (lane != 0u) { return; }
  arg = row_places[0];`;
}

const ARG_PARAMS = { outputs: "u32", length: "u32", inner: "u32", splits: "u32" } as const;

function argParts({ input, largest, lanes }: ArgReduceSpec) {
  const { storage, compute } = DTYPES[input];
  const beats = largest ? "x > best" : "x < best";
  const isNan = compute === "f32" ? IS_NAN : `fn is_nan(x: ${compute}) -> bool { return false; }`;
  return {
    compute,
    element: storage === compute ? "b_x[at]" : `${compute}(b_x[at])`,
    beats,
    module: `${isNan}
fn precedes(x: ${compute}, place: u32, best: ${compute}, best_place: u32) -> bool {
  let equal = x == best || (is_nan(x) && is_nan(best));
  let better = !is_nan(best) && (${beats} || is_nan(x));
  return better || (equal && place < best_place);
}${lanes === 1 ? "" : meetMemory(lanes, compute)}`,
  };
}

/** NaN by its bits: compilers fold `x != x`. */
export const IS_NAN = `
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`;
