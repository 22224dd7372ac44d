/** Reductions, softmax and matrix products as methods. */

import { apply } from "./apply.ts";
import type { Op } from "./op.ts";
import { linear, matmul } from "./ops/matmul.ts";
import { argmax, argmin } from "./ops/arg_reduce.ts";
import * as reductions from "./ops/reduce.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { sort } from "./ops/sort.ts";
import { topk } from "./ops/topk.ts";
import { normalizeDim } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import type { TensorBase } from "./tensor_base.ts";
import { TensorPointwise } from "./tensor_pointwise.ts";
import type { TensorShape } from "./tensor_shape.ts";

/** The largest k for which scanning k times is thought quicker than sorting. */
const SCANNED = 8;

/** Options of a reduction. */
export interface ReduceOptions {
  /** Keep the reduced dimensions with size 1. */
  keepdim?: boolean;
}

/** Reductions and products of a tensor. */
export abstract class TensorReduce extends TensorPointwise {
  /** Sum over dimensions (all by default). */
  sum(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.sum, this, dim, options);
  }
  /** Mean over dimensions (all by default). */
  mean(dim?: number | readonly number[], options?: ReduceOptions): Tensor {
    return shrink(reductions.mean, this, dim, options);
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
    const { dim = -1, largest = true } = options;
    const at = normalizeDim("topk", dim, this.ndim);
    const last = at === this.ndim - 1;
    const x = last ? this : this.transpose(at, -1);
    const [values, indices] = k > SCANNED && k <= this.shape[at]!
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
  /** this · wᵀ + bias for this [..., K], w [N, K], bias [N]. */
  linear(w: Tensor, bias?: Tensor): Tensor {
    return apply(linear, bias ? [this, w, bias] : [this, w], {})[0]!;
  }
}

function shrink(
  op: Op<reductions.ReduceAttrs>,
  x: TensorBase,
  dim?: number | readonly number[],
  options?: ReduceOptions,
): Tensor {
  return apply(op, [x], { dim, keepdim: options?.keepdim })[0]!;
}

/** Runs an op of the last dimension along another one. */
function alongLast(op: Op<Record<never, never>>, x: TensorShape, dim: number): Tensor {
  const at = normalizeDim(op.name, dim, x.ndim);
  if (at === x.ndim - 1) return apply(op, [x], {})[0]!;
  return apply(op, [x.transpose(at, -1)], {})[0]!.transpose(at, -1);
}
