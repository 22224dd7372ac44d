/**
 * Coordinates of the elements that are not 0, in row-major order.
 *
 * A thread owns {@linkcode CHUNK} elements in a row: counts of chunks, their exclusive prefix sums (by
 * the same kernels, one level up), then each thread writes from its own start. Source: reduce-then-scan.
 */

import type { DType } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { bitsOf } from "./sort.ts";

/** Elements that a thread owns. */
export const CHUNK = 64;

function zeroTest(dtype: DType): string {
  // -0 is 0; NaN is not, which a comparison of floats need not say.
  return dtype === "f32"
    ? "(x[j] & 0x7fffffffu) != 0u"
    : dtype === "f16"
    ? "(bitcast<u32>(f32(x[j])) & 0x7fffffffu) != 0u"
    : "x[j] != 0u";
}

const OVER_CHUNK = `  let first = t * ${CHUNK}u;
  let last = min(first + ${CHUNK}u, p.count);`;

/** counts[t] = elements of chunk t that are not 0. */
export const countNonzeroKernel: (spec: { dtype: DType }) => Kernel = memoized(buildCountNonzero);

function buildCountNonzero(spec: { dtype: DType }): Kernel {
  return kernel({
    name: `count_nonzero_${spec.dtype}`,
    buffers: [
      { name: "x", access: "read", type: bitsOf(spec.dtype) },
      { name: "counts", access: "write", type: "u32" },
    ],
    params: { count: "u32", chunks: "u32" },
    body: `${linearThread("t", "p.chunks")}
${OVER_CHUNK}
  var total = 0u;
  for (var j = first; j < last; j++) { total += select(0u, 1u, ${zeroTest(spec.dtype)}); }
  counts[t] = total;`,
  });
}

/** sums[t] = sum of chunk t of x. */
export const chunkSumsKernel: () => Kernel = memoized(buildChunkSums);

function buildChunkSums(): Kernel {
  return kernel({
    name: "chunk_sums",
    buffers: [
      { name: "x", access: "read", type: "u32" },
      { name: "sums", access: "write", type: "u32" },
    ],
    params: { count: "u32", chunks: "u32" },
    body: `${linearThread("t", "p.chunks")}
${OVER_CHUNK}
  var total = 0u;
  for (var j = first; j < last; j++) { total += x[j]; }
  sums[t] = total;`,
  });
}

/** y[j] = starts[chunk of j] + the sum of what comes before j in its chunk. */
export const chunkScanKernel: () => Kernel = memoized(buildChunkScan);

function buildChunkScan(): Kernel {
  return kernel({
    name: "chunk_scan",
    buffers: [
      { name: "x", access: "read", type: "u32" },
      { name: "starts", access: "read", type: "u32" },
      { name: "y", access: "write", type: "u32" },
    ],
    params: { count: "u32", chunks: "u32" },
    body: `${linearThread("t", "p.chunks")}
${OVER_CHUNK}
  var total = starts[t];
  for (var j = first; j < last; j++) { y[j] = total; total += x[j]; }`,
  });
}

/** Writes the coordinates [found, rank] of chunk t's elements from row starts[t] on. */
export const writeNonzeroKernel: (spec: { dtype: DType; rank: number }) => Kernel = memoized(
  buildWriteNonzero,
);

function buildWriteNonzero(spec: { dtype: DType; rank: number }): Kernel {
  const lines = [];
  for (let d = spec.rank - 1; d >= 0; d--) {
    lines.push(`      y[row * ${spec.rank}u + ${d}u] = i32(rest % p.s${d});`);
    if (d > 0) lines.push(`      rest = rest / p.s${d};`);
  }
  const sizes = Object.fromEntries(
    Array.from({ length: spec.rank }, (_, d) => [`s${d}`, "u32" as const]),
  );
  return kernel({
    name: `write_nonzero_${spec.dtype}_${spec.rank}`,
    buffers: [
      { name: "x", access: "read", type: bitsOf(spec.dtype) },
      { name: "starts", access: "read", type: "u32" },
      { name: "y", access: "write", type: "i32" },
    ],
    params: { count: "u32", chunks: "u32", ...sizes },
    body: `${linearThread("t", "p.chunks")}
${OVER_CHUNK}
  var row = starts[t];
  for (var j = first; j < last; j++) {
    if (${zeroTest(spec.dtype)}) {
      var rest = j;
${lines.join("\n")}
      row++;
    }
  }`,
  });
}
