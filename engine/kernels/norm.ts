/**
 * Mean and variance of groups, and the two sums that the gradient of a normalisation needs.
 *
 * x is contiguous and seen as [A, G, S]; a group is all elements of one index along G. Batch
 * normalisation has A = batch, G = channels, S = positions; normalisation of rows has A = 1. A thread
 * owns one of `splits` interleaved shares of a group, so that neighbouring threads read neighbouring
 * elements; a second kernel merges the shares in a fixed order. No atomics.
 *
 * Each share takes its mean first and its squared deviations after (two reads, the second from cache),
 * and shares merge by Chan's formula, so that a mean far from 0 costs no digits. Source: Chan, Golub
 * and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized, type Param } from "./kernel.ts";

const LAYOUT: Readonly<Record<string, Param["type"]>> = {
  threads: "u32",
  A: "u32",
  G: "u32",
  S: "u32",
  splits: "u32",
  // A step of `splits` elements inside a group: rows of S, and the rest.
  step_a: "u32",
  step_s: "u32",
};

/** Group, share and the place of the share's first element. */
const SHARE = `${linearThread("t", "p.threads")}
  let g = t / p.splits;
  let share = t % p.splits;
  let length = p.A * p.S;
  let a0 = share / p.S;
  let s0 = share % p.S;`;

/** Runs `body` for each element of the share; `at` is its index. */
function eachElement(body: string): string {
  return `{
    var a = a0;
    var s = s0;
    for (var e = share; e < length; e += p.splits) {
      let at = (a * p.G + g) * p.S + s;
      ${body}
      a += p.step_a;
      s += p.step_s;
      if (s >= p.S) { s -= p.S; a += 1u; }
    }
  }`;
}

/** partial[g, share] = mean and sum of squared deviations from it; `centred` false: from 0. */
export const momentSharesKernel: (spec: { input: DType; centred: boolean }) => Kernel = memoized(
  buildMomentShares,
);

function buildMomentShares(spec: { input: DType; centred: boolean }): Kernel {
  const load = DTYPES[spec.input].storage === "f32" ? "x[at]" : "f32(x[at])";
  const mean = spec.centred
    ? `var mean = 0.0;
  ${eachElement(`mean += ${load};`)}
  // Shares are never empty: splits is at most the length.
  mean /= f32((length - share + p.splits - 1u) / p.splits);`
    : "let mean = 0.0;";
  return kernel({
    name: `${spec.centred ? "moment" : "square"}_shares_${spec.input}`,
    buffers: [
      { name: "x", access: "read", type: DTYPES[spec.input].storage },
      { name: "partial_sums", access: "write", type: "f32" },
    ],
    params: LAYOUT,
    body: `${SHARE}
  ${mean}
  var squares = 0.0;
  ${eachElement(`let d = ${load} - mean; squares = fma(d, d, squares);`)}
  partial_sums[2u * t] = mean;
  partial_sums[2u * t + 1u] = squares;`,
  });
}

/** stats = [mean of each group; biased variance of each group]: [2, G]. A thread owns a group. */
export function momentMergeKernel(): Kernel {
  return kernel({
    name: "moment_merge",
    buffers: [
      { name: "partial_sums", access: "read", type: "f32" },
      { name: "stats", access: "write", type: "f32" },
    ],
    params: { G: "u32", splits: "u32", length: "u32" },
    body: `${linearThread("g", "p.G")}
  let first = g * p.splits;
  var mean = 0.0;
  for (var i = 0u; i < p.splits; i++) {
    let n = f32((p.length - i + p.splits - 1u) / p.splits);
    mean = fma(n, partial_sums[2u * (first + i)], mean);
  }
  mean /= f32(p.length);
  var squares = 0.0;
  for (var i = 0u; i < p.splits; i++) {
    let n = f32((p.length - i + p.splits - 1u) / p.splits);
    let d = partial_sums[2u * (first + i)] - mean;
    squares += partial_sums[2u * (first + i) + 1u] + n * d * d;
  }
  stats[g] = mean;
  stats[p.G + g] = squares / f32(p.length);`,
  });
}

/** partial = [sum of u; sum of u·(x - mean)/√(variance + eps)] of each share: [2, G, splits]. */
export const gradSharesKernel: (spec: { input: DType; grad: DType }) => Kernel = memoized(
  buildGradShares,
);

function buildGradShares(spec: { input: DType; grad: DType }): Kernel {
  const load = (name: string, dtype: DType) =>
    DTYPES[dtype].storage === "f32" ? `${name}[at]` : `f32(${name}[at])`;
  return kernel({
    name: `norm_grad_shares_${spec.input}_${spec.grad}`,
    buffers: [
      { name: "u", access: "read", type: DTYPES[spec.grad].storage },
      { name: "x", access: "read", type: DTYPES[spec.input].storage },
      { name: "stats", access: "read", type: "f32" },
      { name: "partial_sums", access: "write", type: "f32" },
    ],
    params: { ...LAYOUT, eps: "f32" },
    body: `${SHARE}
  let mean = stats[g];
  let scale = inverseSqrt(stats[p.G + g] + p.eps);
  var plain = 0.0;
  var scaled = 0.0;
  ${
      eachElement(`let v = ${load("u", spec.grad)};
      plain += v;
      scaled = fma(v, (${load("x", spec.input)} - mean) * scale, scaled);`)
    }
  partial_sums[t] = plain;
  partial_sums[p.threads + t] = scaled;`,
  });
}
