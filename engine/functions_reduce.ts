/** Reductions and scans as functions. Without `dim` all dimensions are reduced. */

import { checkOptions, checkReduction } from "./arguments.ts";
import { argmax as argmaxOp, argmin as argminOp } from "./ops/arg_reduce.ts";
import type { Op } from "./op.ts";
import { all as allOp, any as anyOp, prod as prodOp } from "./ops/prod.ts";
import * as reductions from "./ops/reduce.ts";
import { apply, type ReduceOptions, type Tensor } from "./tensor.ts";
import type { VarianceOptions } from "./tensor_reduce.ts";

/** A reduction over one dimension, several, or all. */
export type ReduceFunction = (
  x: Tensor,
  dim?: number | readonly number[],
  options?: ReduceOptions,
) => Tensor;
/** A search along one dimension, or through the flattened tensor. */
export type ArgFunction = (x: Tensor, dim?: number, options?: ReduceOptions) => Tensor;

function reduction(op: Op<reductions.ReduceAttrs>): ReduceFunction {
  return (x, dim, options) => {
    checkReduction(op.name, dim, options);
    return apply(op, [x], { dim, keepdim: options?.keepdim })[0]!;
  };
}

/** Sum over dimensions; bool counts as i32. */
export const sum: ReduceFunction = reduction(reductions.sum);
/** Mean over dimensions; floats only. */
export const mean: ReduceFunction = reduction(reductions.mean);
/** Product over dimensions; bool counts as i32. */
export const prod: ReduceFunction = reduction(prodOp);
/** Largest element; equal ones share the gradient. */
export const max: ReduceFunction = reduction(reductions.max);
/** Smallest element; equal ones share the gradient. */
export const min: ReduceFunction = reduction(reductions.min);
/** True where some element is not 0. */
export const any: ReduceFunction = reduction(anyOp);
/** True where no element is 0. */
export const all: ReduceFunction = reduction(allOp);
/** Position of the first largest element (i32). */
export const argmax: ArgFunction = reduction(argmaxOp);
/** Position of the first smallest element (i32). */
export const argmin: ArgFunction = reduction(argminOp);

/** Σ (x - mean)² / (n - correction); correction is 1 by default. */
export function variance(
  x: Tensor,
  dim?: number | readonly number[] | VarianceOptions,
  options?: VarianceOptions,
): Tensor {
  return x.variance(dim, options);
}

/** Square root of the variance. */
export function std(
  x: Tensor,
  dim?: number | readonly number[] | VarianceOptions,
  options?: VarianceOptions,
): Tensor {
  return x.std(dim, options);
}

/** log Σ exp(x), without overflow. */
export function logsumexp(
  x: Tensor,
  dim?: number | readonly number[],
  options?: ReduceOptions,
): Tensor {
  return x.logsumexp(dim, options);
}

/** (Σ |x|ᵖ)^(1/p) over dimensions (all by default); p may be 0, ∞ or -∞. */
export function norm(
  x: Tensor,
  p = 2,
  options: ReduceOptions & { dim?: number | readonly number[] } = {},
): Tensor {
  checkOptions("norm", options, "norm(x, 2, { dim: 1 })");
  const { dim, keepdim } = options;
  return x.norm(p, dim, { keepdim });
}

/** Running sum along dim. */
export function cumsum(x: Tensor, dim: number): Tensor {
  return x.cumsum(dim);
}

/** Running product along dim. */
export function cumprod(x: Tensor, dim: number): Tensor {
  return x.cumprod(dim);
}

/** exp(x) / Σ exp(x) along dim. */
export function softmax(x: Tensor, dim: number): Tensor {
  return x.softmax(dim);
}

/** log of the softmax along dim, without overflow. */
export function logSoftmax(x: Tensor, dim: number): Tensor {
  return x.logSoftmax(dim);
}

/** The k largest (or smallest) along a dimension, best first, with positions (i32). */
export function topk(
  x: Tensor,
  k: number,
  options: { dim?: number; largest?: boolean } = {},
): { values: Tensor; indices: Tensor } {
  return x.topk(k, options);
}
