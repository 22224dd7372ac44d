/** Reductions, softmax and matrix products as methods. */

import { checkOptions, checkReduction, given } from "./arguments.ts";
import { apply } from "./apply.ts";
import type { Op } from "./op.ts";
import { linear, matmul } from "./ops/matmul.ts";
import type { OutputActivation } from "./ops/epilogue.ts";
import { isFloat } from "./dtype.ts";
import { argmax, argmin } from "./ops/arg_reduce.ts";
import { binary, unary } from "./ops/pointwise.ts";
import * as truth from "./ops/prod.ts";
import { cumprod, cumsum } from "./ops/scan.ts";

import * as reductions from "./ops/reduce.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { sort } from "./ops/sort.ts";
import { topk } from "./ops/topk.ts";
import { normalizeDim, normalizeDims, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import type { TensorBase } from "./tensor_base.ts";
import { TensorPointwise } from "./tensor_pointwise.ts";
import type { TensorShape } from "./tensor_shape.ts";

/**
 * Largest k for which rows are scanned k times; beyond it they are sorted. lavapipe, 2 cores, Deno 2.9.6, 2026-11:
 * of 1000 rows of 1000 a scan takes 4 ns an element and k, sorting 420 ns an element.
 */
const MOST_SCANS = 64;

/** Largest finite f32. */
const LARGEST = 3.4028234663852886e38;

const SPREAD_OPTIONS = ["correction", "keepdim"];

/** Options of a reduction. */
export interface ReduceOptions {
  /** Keep the reduced dimensions with size 1. */
  keepdim?: boolean;
}

/** Options of {@linkcode TensorReduce.variance}. */
export interface VarianceOptions extends ReduceOptions {
  /** The sum of squares is divided by the number of elements less this; default 1. */
  correction?: number;
}

/** Reductions and products of a tensor. */
export abstract class TensorReduce extends TensorPointwise {
  /** Sum over dimensions: all by default, none for `[]` as in NumPy (PyTorch's sum takes all then, too). */
  sum(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.sum, this, dim, options);
  }
  /** Mean over dimensions (all by default). */
  mean(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.mean, this, dim, options);
  }
  /** Product over dimensions (all by default). */
  prod(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(truth.prod, this, dim, options);
  }
  /** True where some element is not 0. */
  any(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(truth.any, this, dim, options);
  }
  /** True where no element is 0. */
  all(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(truth.all, this, dim, options);
  }
  /**
   * Σ (this - mean)² / (n - correction), in two passes. Where n - correction is 0 or less it is
   * Infinity, or NaN if all elements are equal.
   *
   * @param dim dimensions (all by default); may be left out before the options
   * @throws {TypeError} if the tensor is not a float
   */
  variance(
    dim?: number | readonly number[] | VarianceOptions,
    options: VarianceOptions = {},
  ): Tensor {
    if (isOptions(dim)) return this.variance(undefined, dim);
    checkOptions("variance", options, "x.variance(0, { correction: 0 })", SPREAD_OPTIONS);
    const { correction = 1, keepdim } = options;
    return spread("variance", this, { dim, correction, keepdim }).to(this.dtype);
  }
  /** Square root of the variance; the gradient is 0 where it is 0. Parameters as `variance`. */
  std(dim?: number | readonly number[] | VarianceOptions, options: VarianceOptions = {}): Tensor {
    if (isOptions(dim)) return this.std(undefined, dim);
    checkOptions("std", options, "x.std(0, { correction: 0 })", SPREAD_OPTIONS);
    const { correction = 1, keepdim } = options;
    const variance = spread("std", this, { dim, correction, keepdim });
    return apply(unary.rootOrZero, [variance], { p: 2 })[0]!.to(this.dtype);
  }
  /** log Σ exp(this), without overflow; -∞ where there are no elements. */
  logsumexp(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    checkReduction("logsumexp", dim, options);
    const x = wide("logsumexp", this);
    const dims = normalizeDims("logsumexp", dim, this.ndim);
    const total = (terms: Tensor) => terms.exp().sum(dims, { keepdim: true }).log();
    // An infinite maximum is not subtracted: ∞ - ∞ is NaN. Of no elements there is none, and the sum is 0.
    const shift = dims.some((d) => this.shape[d] === 0)
      ? undefined
      : x.detach().max(dims, { keepdim: true }).clamp({ min: -LARGEST, max: LARGEST });
    const y = shift ? total(x.sub(shift)).add(shift) : total(x);
    const kept = options?.keepdim ? y : y.reshape(y.shape.filter((_, d) => !dims.includes(d)));
    return kept.to(this.dtype);
  }
  /**
   * (Σ |this|ᵖ)^(1/p); the largest |this| for p = ∞, the smallest for -∞, the number of elements that
   * are not 0 for p = 0. The gradient is 0 where an element or the norm is 0.
   *
   * @param dim dimensions (all by default): vectors are measured, not matrices
   * @throws {TypeError} if the tensor is not a float
   */
  norm(p = 2, dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    if (typeof p !== "number") {
      throw new TypeError(`Cannot take the norm with p ${given(p)}: write x.norm(2, 0)`);
    }
    const x = wide("norm", this);
    const root = (power: Tensor) =>
      apply(unary.rootOrZero, [power.sum(dim, options)], { p })[0]!.to(this.dtype);
    if (p === Infinity) return x.abs().max(dim, options).to(this.dtype);
    if (p === -Infinity) return x.abs().min(dim, options).to(this.dtype);
    if (p === 0) return x.ne(0).to("f32").sum(dim, options).to(this.dtype);
    if (p === 1) return x.abs().sum(dim, options).to(this.dtype);
    return root(p === 2 ? x.square() : apply(unary.absPower, [x], { p })[0]!);
  }
  /** Running sum along dim. */
  cumsum(dim: number): Tensor {
    return apply(cumsum, [this], { dim })[0]!;
  }
  /** Running product along dim. */
  cumprod(dim: number): Tensor {
    return apply(cumprod, [this], { dim })[0]!;
  }
  /** Largest element; equal ones share the gradient. */
  max(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.max, this, dim, options);
  }
  /** Smallest element; equal ones share the gradient. */
  min(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.min, this, dim, options);
  }
  /** Position of the first largest element (i32), in the flattened tensor when dim is absent. */
  argmax(dim?: number, options?: ReduceOptions): Tensor {
    return shrink(argmax, this, dim, options);
  }
  /** Position of the first smallest element (i32), in the flattened tensor when dim is absent. */
  argmin(dim?: number, options?: ReduceOptions): Tensor {
    return shrink(argmin, this, dim, options);
  }
  /** The k largest (or smallest) along a dimension, best first, with positions (i32). */
  topk(
    k: number,
    options: { dim?: number; largest?: boolean } = {},
  ): { values: Tensor; indices: Tensor } {
    checkOptions("topk", options, "x.topk(5, { dim: 1 })");
    const { dim = -1, largest = true } = options;
    const at = normalizeDim("topk", dim, this.ndim);
    if (this.ndim === 0) {
      const [values, indices] = apply(topk, [this.reshape([1])], { k, largest });
      return { values: values!.reshape([]), indices: indices!.reshape([]) };
    }
    const last = at === this.ndim - 1;
    const x = last ? this : this.transpose(at, -1);
    const C = this.shape[at]!;
    const [values, indices] = Number.isInteger(k) && k <= C && (k > MOST_SCANS || k === 0)
      ? apply(sort, [x], { descending: largest }).map((t) => t.narrow(-1, 0, k))
      : apply(topk, [x], { k, largest });
    return last
      ? { values: values!, indices: indices! }
      : { values: values!.transpose(at, -1), indices: indices!.transpose(at, -1) };
  }
  /** exp(this) / sum exp(this) along a dimension. */
  softmax(dim: number): Tensor {
    return alongLast(softmax, this, dim);
  }
  /** log of the softmax, without overflow. */
  logSoftmax(dim: number): Tensor {
    return alongLast(logSoftmax, this, dim);
  }

  /** Matrix product [..., M, K] by [..., K, N]; batches broadcast, vectors as in PyTorch. */
  matmul(other: Tensor): Tensor {
    return apply(matmul, [this, other], {})[0]!;
  }
  /** Matrix products of two batches: [B, M, K] by [B, K, N]. */
  bmm(other: Tensor): Tensor {
    const [a, b] = [this.shape, other.shape];
    if (a.length !== 3 || b.length !== 3 || a[0] !== b[0]) {
      throw new TypeError(
        `Cannot bmm ${show(a)} by ${show(b)}: both must be batches of matrices of one length; ` +
          "matmul broadcasts",
      );
    }
    return this.matmul(other);
  }
  /** beta · this + alpha · a · b for a [M, K], b [K, N] and this broadcast to [M, N]. */
  addmm(a: Tensor, b: Tensor, options: { beta?: number; alpha?: number } = {}): Tensor {
    checkOptions("addmm", options, "x.addmm(a, b, { beta: 1, alpha: 2 })");
    const { beta = 1, alpha = 1 } = options;
    if (a.ndim !== 2 || b.ndim !== 2) {
      throw new TypeError(
        `Cannot addmm ${show(a.shape)} by ${show(b.shape)}: both must be matrices`,
      );
    }
    const product = a.matmul(b);
    const scaled = alpha === 1 ? product : product.mul(alpha);
    // As PyTorch: with beta 0 the tensor counts for nothing, not even its NaN.
    if (beta === 0) return scaled;
    const added = scaled.add(beta === 1 ? this as unknown as Tensor : this.mul(beta));
    if (added.ndim !== 2 || added.shape.some((s, d) => s !== product.shape[d])) {
      throw new TypeError(
        `Cannot addmm ${show(product.shape)} to ${
          show(this.shape)
        }: it must broadcast to the product`,
      );
    }
    return added;
  }
  /** Σ this · other of two vectors of one length. */
  dot(other: Tensor): Tensor {
    const [a, b] = [this.shape, other.shape];
    if (a.length !== 1 || b.length !== 1 || a[0] !== b[0]) {
      throw new TypeError(
        `Cannot dot ${show(a)} with ${show(b)}: both must be vectors of one length`,
      );
    }
    return isFloat(this.dtype) && this.dtype === other.dtype
      ? this.matmul(other)
      : this.mul(other).sum();
  }
  /** this[i] · other[j] of two vectors, [M, N]. */
  outer(other: Tensor): Tensor {
    if (this.ndim !== 1 || other.ndim !== 1) {
      throw new TypeError(
        `Cannot take the outer product of ${show(this.shape)} and ${show(other.shape)}: both ` +
          "must be vectors",
      );
    }
    return apply(binary.mul, [this.unsqueeze(1), other], {})[0]!;
  }
  /**
   * this · wᵀ + bias for this [..., K], w [N, K], bias [N] or [], and in the same pass the `activation` of that:
   * relu, sigmoid or tanh. A weight [K] gives one feature without a dimension: [...].
   */
  linear(w: Tensor, bias?: Tensor, options: { activation?: OutputActivation } = {}): Tensor {
    checkOptions("linear", options, 'x.linear(w, bias, { activation: "relu" })');
    if (w?.ndim === 1) return this.linear(w.unsqueeze(0), bias, options).squeeze(-1);
    if (bias?.ndim === 0 && w?.ndim === 2) return this.linear(w, bias.expand(w.shape[0]!), options);
    const { activation } = options;
    return apply(linear, bias ? [this, w, bias] : [this, w], activation ? { activation } : {})[0]!;
  }
}

function shrink(
  op: Op<reductions.ReduceAttrs>,
  x: TensorBase,
  dim?: number | readonly number[],
  options?: ReduceOptions,
): Tensor {
  checkReduction(op.name, dim, options);
  return apply(op, [x], { dim, keepdim: options?.keepdim })[0]!;
}

/** Runs an op of the last dimension along another one. */
function alongLast(op: Op<Record<never, never>>, x: TensorShape, dim: number): Tensor {
  const at = normalizeDim(op.name, dim, x.ndim);
  if (x.ndim === 0) return apply(op, [x.reshape([1])], {})[0]!.reshape([]);
  if (at === x.ndim - 1) return apply(op, [x], {})[0]!;
  return apply(op, [x.transpose(at, -1)], {})[0]!.transpose(at, -1);
}

function isOptions(dim: unknown): dim is VarianceOptions {
  return typeof dim === "object" && !Array.isArray(dim);
}

/** The variance in f32, for the method `name`. */
function spread(
  name: string,
  tensor: TensorReduce,
  options: { dim?: number | readonly number[]; correction: number; keepdim?: boolean },
): Tensor {
  const { dim, correction, keepdim } = options;
  checkReduction(name, dim, undefined);
  const x = wide(name, tensor);
  const dims = normalizeDims(name, dim, tensor.ndim);
  const count = dims.reduce((n, d) => n * tensor.shape[d]!, 1);
  const squares = x.sub(x.mean(dims, { keepdim: true })).square().sum(dims, { keepdim });
  return squares.div(Math.max(0, count - correction));
}

/** A float tensor as f32: f16 sums of squares overflow. */
function wide(name: string, x: TensorReduce): Tensor {
  if (!isFloat(x.dtype)) {
    throw new TypeError(
      `Cannot take the ${name} of dtype ${x.dtype}: it must be a float, so call .to("f32") first`,
    );
  }
  return x.to("f32");
}
