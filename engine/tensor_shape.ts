/** Methods that move elements: views where the layout allows, copies elsewhere. */

import { apply } from "./apply.ts";
import type { DType } from "./dtype.ts";
import * as move from "./ops/movement.ts";
import { cast } from "./ops/select.ts";
import { normalizeDim } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { TensorBase } from "./tensor_base.ts";

/** Sizes or dimensions as a list or one by one. */
export type Sizes = readonly number[] | readonly [readonly number[]];

/** Shape methods of a tensor. */
export abstract class TensorShape extends TensorBase {
  /** The same elements under another shape; -1 stands for what remains. */
  reshape(...shape: Sizes): Tensor {
    return apply(move.reshape, [this], { shape: sizes(shape) })[0]!;
  }
  /** As `reshape`. */
  view(...shape: Sizes): Tensor {
    return apply(move.reshape, [this], { shape: sizes(shape) })[0]!;
  }
  /** Dimensions start to end (inclusive) as one. */
  flatten(start = 0, end = -1): Tensor {
    if (this.ndim === 0) return this.reshape(1);
    const a = normalizeDim("flatten", start, this.ndim);
    const b = normalizeDim("flatten", end, this.ndim);
    const middle = this.shape.slice(a, b + 1).reduce((n, s) => n * s, 1);
    return this.reshape([...this.shape.slice(0, a), middle, ...this.shape.slice(b + 1)]);
  }
  /** Without dimensions of size 1 (one of them, or all). */
  squeeze(dim?: number): Tensor {
    const at = dim === undefined ? undefined : normalizeDim("squeeze", dim, this.ndim);
    return this.reshape(this.shape.filter((s, d) => s !== 1 || (at !== undefined && d !== at)));
  }
  /** With a dimension of size 1 at `dim`. */
  unsqueeze(dim: number): Tensor {
    const at = normalizeDim("unsqueeze", dim, this.ndim + 1);
    return this.reshape([...this.shape.slice(0, at), 1, ...this.shape.slice(at)]);
  }
  /** Dimensions reordered; a view. */
  permute(...dims: Sizes): Tensor {
    return apply(move.permute, [this], { dims: sizes(dims) })[0]!;
  }
  /** Two dimensions swapped; a view. */
  transpose(a: number, b: number): Tensor {
    const order = this.shape.map((_, d) => d);
    const i = normalizeDim("transpose", a, this.ndim);
    const j = normalizeDim("transpose", b, this.ndim);
    [order[i], order[j]] = [j, i];
    return this.permute(order);
  }
  /** Dimensions of size 1 repeated without copying; -1 keeps a size. */
  expand(...shape: Sizes): Tensor {
    return apply(move.expand, [this], { shape: sizes(shape) })[0]!;
  }
  /** Every step-th index from start to before end along dim; negative bounds count from the end. */
  slice(dim: number, start = 0, end?: number, step = 1): Tensor {
    const d = normalizeDim("slice", dim, this.ndim);
    const size = this.shape[d] ?? 0;
    const clip = (v: number) => Math.min(Math.max(v < 0 ? v + size : v, 0), size);
    const from = clip(start);
    return apply(move.slice, [this], {
      dim: d,
      start: from,
      end: Math.max(from, clip(end ?? size)),
      step,
    })[0]!;
  }
  /** `length` indices from `start` along dim. */
  narrow(dim: number, start: number, length: number): Tensor {
    const d = normalizeDim("narrow", dim, this.ndim);
    return apply(move.slice, [this], { dim: d, start, end: start + length, step: 1 })[0]!;
  }
  /** One index along dim, without the dimension. */
  select(dim: number, index: number): Tensor {
    const d = normalizeDim("select", dim, this.ndim);
    const at = index < 0 ? index + this.shape[d]! : index;
    const shape = this.shape.filter((_, i) => i !== d);
    return this.narrow(d, at, 1).reshape(shape);
  }
  /** Row-major in memory: the tensor itself, or a copy. */
  contiguous(): Tensor {
    return this.device.contiguous ? this as unknown as Tensor : this.clone();
  }
  /** A copy in memory of its own, on the tape. */
  clone(): Tensor {
    return apply(cast, [this], { dtype: this.dtype })[0]!;
  }
  /** Conversion to another dtype; the tensor itself if it has that dtype. */
  to(dtype: DType): Tensor {
    return dtype === this.dtype ? this as unknown as Tensor : apply(cast, [this], { dtype })[0]!;
  }
}

function sizes(list: Sizes): readonly number[] {
  return Array.isArray(list[0]) ? list[0] : list as readonly number[];
}
