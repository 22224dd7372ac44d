/**
 * Gathering by index and its reverse, without atomics on values.
 *
 * Two layouts. Lines: x [L, R] and an index [L, K] for each line. Rows: x [R, D] and one index [K]
 * for whole rows. The reverse direction first sorts each line's index (kernels/sort.ts); every
 * destination then owns a segment of the sorted sources, which it visits in source order, so sums
 * have a fixed order and of several writers the last one wins.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type BufferDecl, type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { bitsOf } from "./sort.ts";

const FLAGS: BufferDecl = { name: "flags", access: "write", type: "atomic<u32>" };

/**
 * y[l, k] = x[l, index[l, k]], or with `rows` y[k, d] = x[index[k], d]. With `checked` an index outside
 * 0..R-1 gives `p.bad` and is reported in word `p.word` of the flags.
 */
export const gatherKernel: (spec: { dtype: DType; rows: boolean; checked: boolean }) => Kernel =
  memoized(buildGather);

function buildGather(spec: { dtype: DType; rows: boolean; checked: boolean }): Kernel {
  const bits = bitsOf(spec.dtype);
  const bad = bits === "f16" ? "f16(bitcast<f32>(p.bad))" : "p.bad";
  const place = spec.rows
    ? "  let k = t / p.D;\n  let to = u32(i) * p.D + t % p.D;"
    : "  let k = t;\n  let to = (t / p.K) * p.R + u32(i);";
  const [head, tail] = place.split("\n") as [string, string];
  return kernel({
    name: `gather_${spec.rows ? "rows_" : ""}${bits}${spec.checked ? "_checked" : ""}`,
    buffers: [
      { name: "x", access: "read", type: bits },
      { name: "index", access: "read", type: "i32" },
      { name: "y", access: "write", type: bits },
      ...(spec.checked ? [FLAGS] : []),
    ],
    params: {
      count: "u32",
      R: "u32",
      ...(spec.rows ? { D: "u32" as const } : { K: "u32" as const }),
      ...(spec.checked ? { bad: "u32" as const, word: "u32" as const } : {}),
    },
    body: `${linearThread("t", "p.count")}
${head}
  let i = index[k];${
      spec.checked
        ? `
  if (u32(i) >= p.R) {
    y[t] = ${bad};
    atomicMax(&flags[p.word], u32(i));
    return;
  }`
        : ""
    }
${tail}
  y[t] = x[to];`,
  });
}

/**
 * starts[l, r] = number of sorted keys of line l below r, for r in 0..R: sources of destination r are
 * order[starts[r]] to order[starts[r + 1] - 1]. Thread r = 0 reports indices out of range.
 */
export const segmentStartsKernel: () => Kernel = memoized(buildSegmentStarts);

function buildSegmentStarts(): Kernel {
  return kernel({
    name: "segment_starts",
    buffers: [
      { name: "keys", access: "read", type: "u32" },
      { name: "starts", access: "write", type: "u32" },
      FLAGS,
    ],
    params: { count: "u32", R: "u32", K: "u32", word: "u32" },
    body: `${linearThread("t", "p.count")}
  let r = t % (p.R + 1u);
  let first = t / (p.R + 1u) * p.K;
  let key = r ^ 0x80000000u;
  var low = 0u;
  var high = p.K;
  while (low < high) {
    let middle = (low + high) >> 1u;
    if (keys[first + middle] < key) { low = middle + 1u; } else { high = middle; }
  }
  starts[t] = low;
  if (r == 0u && low > 0u) { atomicMax(&flags[p.word], keys[first] ^ 0x80000000u); }
  if (r == p.R && low < p.K) { atomicMax(&flags[p.word], keys[first + p.K - 1u] ^ 0x80000000u); }`,
  });
}

/**
 * y[l, r] = base[l, r] + the sum of src[l, k] over the sources k of r; with `rows` y[r, d] likewise.
 * Row `p.skip` stays 0. A thread owns an element of y; f32 accumulator for floats.
 */
export const segmentSumKernel: (spec: { dtype: DType; rows: boolean; base: boolean }) => Kernel =
  memoized(buildSegmentSum);

function buildSegmentSum(spec: { dtype: DType; rows: boolean; base: boolean }): Kernel {
  const { storage, compute } = DTYPES[spec.dtype];
  const cast = (text: string) => storage === compute ? text : `${compute}(${text})`;
  const place = spec.rows
    ? `  let r = t / p.D;
  let segment = r;
  let begin = 0u;
  let d = t % p.D;`
    : `  let r = t % p.R;
  let segment = t / p.R * (p.R + 1u) + r;
  let begin = t / p.R * p.K;`;
  const source = spec.rows ? "u32(order[s]) * p.D + d" : "begin + u32(order[begin + s])";
  return kernel({
    name: `segment_sum_${spec.rows ? "rows_" : ""}${spec.dtype}${spec.base ? "_base" : ""}`,
    buffers: [
      { name: "src", access: "read", type: storage },
      { name: "order", access: "read", type: "i32" },
      { name: "starts", access: "read", type: "u32" },
      ...(spec.base ? [{ name: "base", access: "read", type: storage } as const] : []),
      { name: "y", access: "write", type: storage },
    ],
    params: {
      count: "u32",
      R: "u32",
      ...(spec.rows ? { D: "u32" as const, skip: "i32" as const } : { K: "u32" as const }),
    },
    body: `${linearThread("t", "p.count")}
${place}
  var total = ${spec.base ? cast("base[t]") : `${compute}(0)`};
  for (var s = starts[segment]; s < starts[segment + 1u]; s++) {
    total += ${cast(`src[${source}]`)};
  }${spec.rows ? `\n  if (i32(r) == p.skip) { total = ${compute}(0); }` : ""}
  y[t] = ${storage}(total);`,
  });
}

/** winner[l, r] = the last source of r, or -1. */
export const segmentLastKernel: () => Kernel = memoized(buildSegmentLast);

function buildSegmentLast(): Kernel {
  return kernel({
    name: "segment_last",
    buffers: [
      { name: "order", access: "read", type: "i32" },
      { name: "starts", access: "read", type: "u32" },
      { name: "winner", access: "write", type: "i32" },
    ],
    params: { count: "u32", R: "u32", K: "u32" },
    body: `${linearThread("t", "p.count")}
  let line = t / p.R;
  let segment = line * (p.R + 1u) + t % p.R;
  let end = starts[segment + 1u];
  winner[t] = -1;
  if (end > starts[segment]) { winner[t] = order[line * p.K + end - 1u]; }`,
  });
}

/** y[l, r] = src[l, winner[l, r]], or base[l, r] where nothing was written. */
export const scatterKernel: (spec: { dtype: DType }) => Kernel = memoized(buildScatter);

function buildScatter(spec: { dtype: DType }): Kernel {
  const bits = bitsOf(spec.dtype);
  return kernel({
    name: `scatter_${bits}`,
    buffers: [
      { name: "src", access: "read", type: bits },
      { name: "winner", access: "read", type: "i32" },
      { name: "base", access: "read", type: bits },
      { name: "y", access: "write", type: bits },
    ],
    params: { count: "u32", R: "u32", K: "u32" },
    body: `${linearThread("t", "p.count")}
  let k = winner[t];
  if (k < 0) { y[t] = base[t]; } else { y[t] = src[t / p.R * p.K + u32(k)]; }`,
  });
}

/**
 * y[o, index[k], i] = src[o, k, i], in place, for y [outer, R, D] and src [outer, K, D]; an index outside 0..R-1 is
 * reported and left out. Traffic: what is written, not y.
 */
export const indexCopyKernel: (spec: { dtype: DType }) => Kernel = memoized(buildIndexCopy);

function buildIndexCopy(spec: { dtype: DType }): Kernel {
  const bits = bitsOf(spec.dtype);
  return kernel({
    name: `index_copy_${bits}`,
    buffers: [
      { name: "src", access: "read", type: bits },
      { name: "index", access: "read", type: "i32" },
      { name: "y", access: "write", type: bits },
      FLAGS,
    ],
    params: { count: "u32", R: "u32", K: "u32", D: "u32", word: "u32" },
    body: `${linearThread("t", "p.count")}
  let line = t / p.D;
  let i = u32(index[line % p.K]);
  if (i >= p.R) {
    atomicMax(&flags[p.word], i);
    return;
  }
  y[(line / p.K * p.R + i) * p.D + t % p.D] = src[t];`,
  });
}

/** dsrc[l, k] = dy[l, index[l, k]] where source k is the winner there, else 0. */
export const scatterBackwardKernel: (spec: { dtype: DType }) => Kernel = memoized(
  buildScatterBackward,
);

function buildScatterBackward(spec: { dtype: DType }): Kernel {
  const { storage } = DTYPES[spec.dtype];
  return kernel({
    name: `scatter_backward_${spec.dtype}`,
    buffers: [
      { name: "dy", access: "read", type: storage },
      { name: "index", access: "read", type: "i32" },
      { name: "winner", access: "read", type: "i32" },
      { name: "dsrc", access: "write", type: storage },
    ],
    params: { count: "u32", R: "u32", K: "u32" },
    body: `${linearThread("t", "p.count")}
  let i = index[t];
  var value = ${storage}(0);
  if (u32(i) < p.R) {
    let at = t / p.K * p.R + u32(i);
    if (winner[at] == i32(t % p.K)) { value = dy[at]; }
  }
  dsrc[t] = value;`,
  });
}

/** y[n, c] = 1 where c is index[n], else 0; an index outside 0..R-1 is reported. */
export const oneHotKernel: (spec: { dtype: DType }) => Kernel = memoized(buildOneHot);

function buildOneHot(spec: { dtype: DType }): Kernel {
  const { storage } = DTYPES[spec.dtype];
  return kernel({
    name: `one_hot_${spec.dtype}`,
    buffers: [
      { name: "index", access: "read", type: "i32" },
      { name: "y", access: "write", type: storage },
      FLAGS,
    ],
    params: { count: "u32", R: "u32", word: "u32" },
    body: `${linearThread("t", "p.count")}
  let i = index[t / p.R];
  let c = t % p.R;
  y[t] = select(${storage}(0), ${storage}(1), i == i32(c));
  if (c == 0u && u32(i) >= p.R) { atomicMax(&flags[p.word], u32(i)); }`,
  });
}
