/**
 * The k best of each row of [rows, C], best first, ties by position.
 *
 * A thread, or a workgroup whose lanes walk side by side, owns one of `chunks` pieces of a row and scans it k
 * times; pass j takes the best element that comes after the one taken before in the order (value, position).
 * The best of pieces, [rows, chunks, k], are the rows of another run, for which `places` gives where they
 * came from: of equal ones those of an earlier piece lie before the others, as in the row. Every piece has at
 * least k elements. Reads: k·C a row. Good for small k. Source: ours.
 */

import { DTYPES } from "../dtype.ts";
import type { DType } from "../dtype.ts";
import { type BufferDecl, type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { type Lanes, laneStart, meetFirst, meetMemory, rowVariant, rowWorkgroup } from "./rows.ts";
import { bitsOf, keyModule } from "./sort.ts";

/** What varies between searches for the best. */
export interface TopkSpec extends Lanes {
  readonly dtype: DType;
  readonly largest: boolean;
  /** Whether the rows are the best of pieces. */
  readonly merges: boolean;
}

/** Builds the kernel; values and i32 positions are [rows, chunks, k]. NaN counts as the largest. */
export const topkKernel: (spec: TopkSpec) => Kernel = memoized(buildTopk);

function buildTopk(spec: TopkSpec): Kernel {
  const { dtype, largest, merges, lanes } = spec;
  const bits = bitsOf(dtype);
  const places: BufferDecl[] = merges ? [{ name: "places", access: "read", type: "i32" }] : [];
  return kernel({
    name: `topk_${largest ? "largest" : "smallest"}${merges ? "_merge" : ""}_${dtype}${
      rowVariant(spec)
    }`,
    buffers: [
      { name: "x", access: "read", type: bits },
      ...places,
      { name: "values", access: "write", type: bits },
      { name: "indices", access: "write", type: "i32" },
    ],
    params: { rows: "u32", C: "u32", k: "u32", chunks: "u32" },
    workgroup: rowWorkgroup(spec),
    // The best element has the smallest key.
    module: `${keyModule(dtype, largest)}
// A place behind all others, and a key that none comes after.
const NONE = 0xffffffffu;
fn precedes(key: u32, place: u32, best: u32, best_place: u32) -> bool {
  return key < best || (key == best && place < best_place);
}${lanes === 1 ? "" : meetMemory(lanes, "u32")}`,
    body: `${laneStart("t", "p.rows * p.chunks", spec)}
  let row = t / p.chunks;
  let chunk = t % p.chunks;
  // The first pieces have one element more than the others where C is no multiple.
  let size = p.C / p.chunks;
  let longer = p.C % p.chunks;
  let start = chunk * size + min(chunk, longer);
  let end = start + size + select(0u, 1u, chunk < longer);
  let first = row * p.C;
  var last_key = 0u;
  var last_place = NONE;
  for (var j = 0u; j < p.k; j++) {
    var best = 0u;
    var best_place = NONE;
    for (var c = start + lane; c < end; c += ${lanes}u) {
      let key = key_of(x[first + c]);
      // After what was taken: worse, or equal and further on.
      let open = last_place == NONE || key > last_key || (key == last_key && c > last_place);
      if (open && (best_place == NONE || key < best)) { best = key; best_place = c; }
    }
${
      lanes === 1
        ? `    last_key = best;
    last_place = best_place;`
        : `    row_values[lane] = select(best, NONE, best_place == NONE);
    row_places[lane] = best_place;
    workgroupBarrier();
${meetFirst(lanes)}
    last_key = row_values[0];
    last_place = row_places[0];
    workgroupBarrier();`
    }
    ${lanes === 1 ? "{" : "if (lane == 0u) {"}
      values[t * p.k + j] = x[first + last_place];
      indices[t * p.k + j] = ${merges ? "places[first + last_place]" : "i32(last_place)"};
    }
  }`,
  });
}

/** dx[row, indices[row, j]] = dy[row, j], zero elsewhere; a thread owns an element of dx. */
export const topkBackwardKernel: (spec: { dtype: DType }) => Kernel = memoized(buildTopkBackward);

function buildTopkBackward(spec: { dtype: DType }): Kernel {
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
