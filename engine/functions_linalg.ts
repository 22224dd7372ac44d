/** Matrix products as functions. */

import type { Tensor } from "./tensor.ts";

export { einsum } from "./einsum.ts";

/** Matrix product [..., M, K] by [..., K, N]; batches broadcast, vectors as in PyTorch. */
export function matmul(a: Tensor, b: Tensor): Tensor {
  return a.matmul(b);
}

/** Matrix products of two batches: [B, M, K] by [B, K, N]. */
export function bmm(a: Tensor, b: Tensor): Tensor {
  return a.bmm(b);
}

/** beta · x + alpha · a · b for a [M, K], b [K, N] and x broadcast to [M, N]. */
export function addmm(
  x: Tensor,
  a: Tensor,
  b: Tensor,
  options: { beta?: number; alpha?: number } = {},
): Tensor {
  return x.addmm(a, b, options);
}

/** Σ a · b of two vectors of one length. */
export function dot(a: Tensor, b: Tensor): Tensor {
  return a.dot(b);
}

/** a[i] · b[j] of two vectors, [M, N]. */
export function outer(a: Tensor, b: Tensor): Tensor {
  return a.outer(b);
}
