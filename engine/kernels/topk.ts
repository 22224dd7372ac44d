/**
 * The k best of each row of [rows, C], best first, ties by position.
 *
 * A thread owns a row and scans it k times; pass j takes the best element that comes after the one
 * taken before in the order (value, position). Reads: k·C a row. Good for small k. Source: ours.
 */

import { DTYPES } from "../dtype.ts";
import type { DType } from "../dtype.ts";
import { type Kernel, kernel, linearThread } from "./kernel.ts";

/** Builds the kernel; values and i32 positions are [rows, k]. */
export function topkKernel(spec: { dtype: DType; largest: boolean }): Kernel {
  const { storage, compute } = DTYPES[spec.dtype];
  const better = spec.largest ? ">" : "<";
  return kernel({
    name: `topk_${spec.largest ? "largest" : "smallest"}_${spec.dtype}`,
    buffers: [
      { name: "x", access: "read", type: storage },
      { name: "values", access: "write", type: storage },
      { name: "indices", access: "write", type: "i32" },
    ],
    params: { rows: "u32", C: "u32", k: "u32" },
    body: `${linearThread("row", "p.rows")}
  let first = row * p.C;
  var last_value = ${compute}(0);
  var last_index = -1;
  for (var j = 0u; j < p.k; j++) {
    var best = ${compute}(0);
    var arg = -1;
    for (var c = 0u; c < p.C; c++) {
      let v = ${compute}(x[first + c]);
      // After what was taken: worse, or equal and further on.
      let open = last_index < 0 || v ${spec.largest ? "<" : ">"} last_value ||
        (v == last_value && i32(c) > last_index);
      if (open && (arg < 0 || v ${better} best)) { best = v; arg = i32(c); }
    }
    values[row * p.k + j] = ${storage}(best);
    indices[row * p.k + j] = arg;
    last_value = best;
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
