/** One sample in place of a batch. */

import type { Tensor } from "./tensor.ts";

/**
 * `fn` of a batch of `rank` dimensions. Where x has one less it is one sample: `fn` gets a batch of it alone, and of
 * what it gives the sample is taken out.
 */
export function asBatch(x: Tensor, rank: number, fn: (batch: Tensor) => Tensor): Tensor {
  // Whatever else it may be, `fn` refuses.
  return x?.ndim === rank - 1 ? fn(x.unsqueeze(0)).squeeze(0) : fn(x);
}
