/**
 * Stable sorting of the rows of [rows, C] by u32 keys, with the positions carried along.
 *
 * Blocks of {@linkcode SORT_BLOCK} elements are sorted by counting who comes first; then sorted runs
 * are merged in pairs, ⌈log2(C / 32)⌉ times. A thread owns an element: its place in the merged run is
 * its place in its own run plus the number of elements of the other run that come before it, found by
 * bisection. No scratch memory, no atomics, any C. Reads: about log2(C) keys an element a pass.
 * Source: merge path (Odeh et al. 2012) with a path an element.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** Elements of a block that the first kernel sorts. */
export const SORT_BLOCK = 32;

/** WGSL type under which an array is moved bit by bit. */
export function bitsOf(dtype: DType): "u32" | "f16" {
  return dtype === "f16" ? "f16" : "u32";
}

/** WGSL `key_of(x)`: unsigned keys in the order of the values; -0 equals 0, NaN comes last. */
export function keyModule(dtype: DType, descending: boolean): string {
  const flip = descending ? "~" : "";
  if (DTYPES[dtype].float) {
    const bits = dtype === "f16" ? "bitcast<u32>(f32(x))" : "x";
    return `
fn key_of(x: ${bitsOf(dtype)}) -> u32 {
  let b = ${bits};
  if ((b & 0x7fffffffu) > 0x7f800000u) { return ${flip}0xffffffffu; }
  if (b == 0x80000000u) { return ${flip}0x80000000u; }
  return ${flip}select(b | 0x80000000u, ~b, (b >> 31u) == 1u);
}`;
  }
  const key = DTYPES[dtype].compute === "i32" ? "x ^ 0x80000000u" : "x";
  return `\nfn key_of(x: u32) -> u32 { return ${flip}(${key}); }`;
}

/** Keys and positions of x, sorted within blocks. */
export const sortBlocksKernel: (spec: { dtype: DType; descending: boolean }) => Kernel = memoized(
  buildSortBlocks,
);

function buildSortBlocks(spec: { dtype: DType; descending: boolean }): Kernel {
  return kernel({
    name: `sort_blocks_${spec.dtype}${spec.descending ? "_descending" : ""}`,
    buffers: [
      { name: "x", access: "read", type: bitsOf(spec.dtype) },
      { name: "keys", access: "write", type: "u32" },
      { name: "order", access: "write", type: "i32" },
    ],
    params: { count: "u32", C: "u32" },
    module: keyModule(spec.dtype, spec.descending),
    body: `${linearThread("t", "p.count")}
  let c = t % p.C;
  let base = t - c;
  let start = c & ~${SORT_BLOCK - 1}u;
  let end = min(start + ${SORT_BLOCK}u, p.C);
  let key = key_of(x[t]);
  var before = 0u;
  for (var j = start; j < end; j++) {
    let other = key_of(x[base + j]);
    before += select(0u, 1u, other < key || (other == key && j < c));
  }
  keys[base + start + before] = key;
  order[base + start + before] = i32(c);`,
  });
}

/** Merges runs of 2^shift elements in pairs. */
export const sortMergeKernel: () => Kernel = memoized(buildSortMerge);

function buildSortMerge(): Kernel {
  return kernel({
    name: "sort_merge",
    buffers: [
      { name: "keys", access: "read", type: "u32" },
      { name: "order", access: "read", type: "i32" },
      { name: "merged_keys", access: "write", type: "u32" },
      { name: "merged_order", access: "write", type: "i32" },
    ],
    params: { count: "u32", C: "u32", shift: "u32" },
    body: `${linearThread("t", "p.count")}
  let c = t % p.C;
  let base = t - c;
  let run = c >> p.shift;
  let width = 1u << p.shift;
  let first = (run & ~1u) << p.shift;
  let other = min((run ^ 1u) << p.shift, p.C);
  let key = keys[t];
  // Of equal keys those of the left run come first.
  let right = (run & 1u) == 1u;
  var low = other;
  var high = min(other + width, p.C);
  while (low < high) {
    let middle = (low + high) >> 1u;
    let k = keys[base + middle];
    if (k < key || (right && k == key)) { low = middle + 1u; } else { high = middle; }
  }
  let to = base + first + (c & (width - 1u)) + (low - other);
  merged_keys[to] = key;
  merged_order[to] = order[t];`,
  });
}

/** y[row, order[row, j]] = x[row, j] for positions that occur once each. */
export const unsortKernel: (spec: { dtype: DType }) => Kernel = memoized(buildUnsort);

function buildUnsort(spec: { dtype: DType }): Kernel {
  const bits = bitsOf(spec.dtype);
  return kernel({
    name: `unsort_${bits}`,
    buffers: [
      { name: "x", access: "read", type: bits },
      { name: "order", access: "read", type: "i32" },
      { name: "y", access: "write", type: bits },
    ],
    params: { count: "u32", C: "u32" },
    body: `${linearThread("t", "p.count")}
  y[t - t % p.C + u32(order[t])] = x[t];`,
  });
}
