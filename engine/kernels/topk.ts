/**
 * The k best of each row of [rows, C], best first, ties by position.
 *
 * A thread owns a row and scans it k times; pass j takes the best element that comes after the one
 * taken before in the order (value, position). Reads: k·C a row. Good for small k. Source: ours.
 */

import { DTYPES } from "../dtype.ts";
import type { DType } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { bitsOf, keyModule } from "./sort.ts";

/** Builds the kernel; values and i32 positions are [rows, k]. NaN counts as the largest. */
export const topkKernel: (spec: { dtype: DType; largest: boolean }) => Kernel = memoized(buildTopk);

function buildTopk(spec: { dtype: DType; largest: boolean }): Kernel {
  const bits = bitsOf(spec.dtype);
  return kernel({
    name: `topk_${spec.largest ? "largest" : "smallest"}_${spec.dtype}`,
    buffers: [
      { name: "x", access: "read", type: bits },
      { name: "values", access: "write", type: bits },
      { name: "indices", access: "write", type: "i32" },
    ],
    params: { rows: "u32", C: "u32", k: "u32" },
    // The best element has the smallest key.
    module: keyModule(spec.dtype, spec.largest),
    body: `${linearThread("row", "p.rows")}
  let first = row * p.C;
  var last_key = 0u;
  var last_index = -1;
  for (var j = 0u; j < p.k; j++) {
    var best = 0u;
    var arg = -1;
    for (var c = 0u; c < p.C; c++) {
      let key = key_of(x[first + c]);
      // After what was taken: worse, or equal and further on.
      let open = last_index < 0 || key > last_key || (key == last_key && i32(c) > last_index);
      if (open && (arg < 0 || key < best)) { best = key; arg = i32(c); }
    }
    values[row * p.k + j] = x[first + u32(arg)];
    indices[row * p.k + j] = arg;
    last_key = best;
    last_index = arg;
  }`,
  });
}

/** dx[row, indices[row, j]] = dy[row, j], zero elsewhere; a thread owns an element of dx. */
export function topkBackwardKernel(spec: { dtype: DType }): Kernel {
  const { storage } = DTYPES[spec.dtype];
  return kernel({
    name: `topk_backward_${spec.dtype}`,
    buffers: [
      { name: "indices", access: "read", type: "i32" },
      { name: "dy", access: "read", type: storage },
      { name: "dx", access: "write", type: storage },
    ],
    params: { count: "u32", C: "u32", k: "u32" },
    body: `${linearThread("t", "p.count")}
  let row = t / p.C;
  let c = i32(t % p.C);
  var total = ${storage}(0);
  for (var j = 0u; j < p.k; j++) {
    if (indices[row * p.k + j] == c) { total = dy[row * p.k + j]; }
  }
  dx[t] = total;`,
  });
}
