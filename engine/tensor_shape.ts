/** Methods that move elements: views where the layout allows, copies elsewhere. */

import { apply } from "./apply.ts";
import { checkOptions, checkWhole } from "./arguments.ts";
import type { DType } from "./dtype.ts";
import * as move from "./ops/movement.ts";
import * as arrange from "./ops/rearrange.ts";
import { cast } from "./ops/select.ts";
import { unfold } from "./ops/windows.ts";
import { normalizeDim, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { TensorBase } from "./tensor_base.ts";

/** Sizes or dimensions as a list or one by one. */
export type Sizes = readonly number[] | readonly [readonly number[]];

/** Options of padding. */
export interface PadOptions {
  /**
   * What stands in the padding: a `constant` (default), the elements mirrored at the border without
   * it (`reflect`), the border itself (`replicate`), or the elements from the other end (`circular`).
   */
  mode?: "constant" | "reflect" | "replicate" | "circular";
  /** The constant; default 0. */
  value?: number;
}

const PAD_MODES = ["constant", "reflect", "replicate", "circular"];

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
    if (a > b) {
      throw new RangeError(
        `Cannot flatten ${
          show(this.shape)
        } from dimension ${start} to ${end}: the start must not ` +
          "be after the end",
      );
    }
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
    if (i !== j) [order[i], order[j]] = [j, i];
    return this.permute(order);
  }
  /** Dimensions of size 1 repeated without copying; -1 keeps a size. */
  expand(...shape: Sizes): Tensor {
    return apply(move.expand, [this], { shape: sizes(shape) })[0]!;
  }
  /** Every step-th index from start to before end along dim; negative bounds count from the end. */
  slice(dim: number, start = 0, end?: number, step = 1): Tensor {
    const d = dimension("slice", dim, this);
    const size = this.shape[d]!;
    const clip = (v: number) => Math.min(Math.max(v < 0 ? v + size : v, 0), size);
    const from = clip(start);
    return apply(move.slice, [this], {
      dim: d,
      start: from,
      end: Math.max(from, clip(end ?? size)),
      step,
    })[0]!;
  }
  /** `length` indices from `start` along dim; a negative start counts from the end. */
  narrow(dim: number, start: number, length: number): Tensor {
    const d = dimension("narrow", dim, this);
    checkWhole("narrow", { start, length });
    const size = this.shape[d]!;
    const from = start < 0 && start >= -size ? start + size : start;
    return apply(move.slice, [this], { dim: d, start: from, end: from + length, step: 1 })[0]!;
  }
  /** One index along dim, without the dimension; a negative index counts from the end. */
  select(dim: number, index: number): Tensor {
    const d = dimension("select", dim, this);
    const size = this.shape[d]!;
    if (!Number.isInteger(index) || index < -size || index >= size) {
      throw new RangeError(
        `Cannot select index ${index} of dimension ${d} of ${show(this.shape)}: ` +
          (size === 0 ? "it has none" : `it must be a whole number from ${-size} to ${size - 1}`),
      );
    }
    return this.narrow(d, index, 1).reshape(this.shape.filter((_, i) => i !== d));
  }
  /** A copy that repeats the tensor so many times along each dimension; more sizes add dimensions in front. */
  repeat(...times: Sizes): Tensor {
    const counts = sizes(times);
    const lead = counts.length - this.ndim;
    if (lead < 0 || counts.some((n) => !Number.isInteger(n) || n < 0)) {
      throw new TypeError(
        `Cannot repeat ${show(this.shape)} ${show(counts)} times: give a whole number >= 0 for ` +
          `each of its ${this.ndim} dimensions`,
      );
    }
    const shape = [...Array<number>(lead).fill(1), ...this.shape];
    const y = this.reshape(shape.flatMap((s) => [1, s]))
      .expand(shape.flatMap((s, d) => [counts[d]!, s]))
      .reshape(shape.map((s, d) => s * counts[d]!));
    return y.device.storage === this.device.storage ? y.clone() : y;
  }
  /** Parts of `size` along dim (the last may be smaller), or parts of the given sizes; views. */
  split(size: number | readonly number[], dim = 0): Tensor[] {
    const d = dimension("split", dim, this);
    const total = this.shape[d]!;
    checkWhole("split", { size }, typeof size === "number" ? 1 : 0);
    const parts = typeof size !== "number" ? size : Array.from(
      { length: Math.max(1, Math.ceil(total / size)) },
      (_, i) => Math.min(size, total - i * size),
    );
    if (parts.reduce((n, s) => n + s, 0) !== total) {
      throw new TypeError(
        `Cannot split ${show(this.shape)} into ${show(parts)} along dimension ${d}: the parts ` +
          `must sum to ${total}`,
      );
    }
    let start = 0;
    return parts.map((length) => this.narrow(d, (start += length) - length, length));
  }
  /** At most `count` parts of equal size along dim, the last one smaller if need be; views. */
  chunk(count: number, dim = 0): Tensor[] {
    checkWhole("chunk", { count }, 1);
    const d = dimension("chunk", dim, this);
    const size = this.shape[d]!;
    // As PyTorch: of no elements it is as many parts as asked for.
    return this.split(size === 0 ? Array<number>(count).fill(0) : Math.ceil(size / count), d);
  }
  /** The tensors along dim, without the dimension; views. */
  unbind(dim = 0): Tensor[] {
    const d = dimension("unbind", dim, this);
    return Array.from({ length: this.shape[d]! }, (_, i) => this.select(d, i));
  }
  /**
   * With elements added at both ends: [before, after] of the last dimension, then of the one before
   * it, and so on. Negative numbers take elements away (mode `constant`).
   *
   * @throws {RangeError} if `reflect` pads by the size or more, or `circular` by more than the size
   */
  pad(pads: readonly number[], options: PadOptions = {}): Tensor {
    checkOptions("pad", options, 'x.pad([1, 1], { mode: "reflect" })');
    const { mode = "constant", value = 0 } = options;
    if (pads.length % 2 !== 0 || pads.length > 2 * this.ndim || !pads.every(Number.isInteger)) {
      throw new TypeError(
        `Cannot pad ${show(this.shape)} by ${show(pads)}: give two whole numbers a dimension, ` +
          "last dimension first",
      );
    }
    const before = this.shape.map((_, d) => pads[2 * (this.ndim - 1 - d)] ?? 0);
    const after = this.shape.map((_, d) => pads[2 * (this.ndim - 1 - d) + 1] ?? 0);
    if (!PAD_MODES.includes(mode)) {
      throw new RangeError(
        `Cannot pad in mode "${mode}": it must be constant, reflect, replicate or circular`,
      );
    }
    let x = this as unknown as Tensor;
    if (mode !== "constant") {
      this.shape.forEach((s, d) => {
        if (before[d] || after[d]) {
          checkPadding(mode, [before[d]!, after[d]!], { shape: this.shape, size: s });
          x = padDimension(x, mode, { dim: d, before: before[d]!, after: after[d]! });
        }
      });
      return x === this as unknown ? this.clone() : x;
    }
    this.shape.forEach((s, d) => {
      const [from, to] = [Math.max(0, -before[d]!), s - Math.max(0, -after[d]!)];
      if (to < from) {
        throw new RangeError(
          `Cannot pad ${show(this.shape)} by ${show(pads)}: dimension ${d} has ${s} elements to ` +
            "take away",
        );
      }
      if (from > 0 || to < s) x = x.narrow(d, from, to - from);
    });
    const attrs = {
      before: before.map((n) => Math.max(0, n)),
      after: after.map((n) => Math.max(0, n)),
      value,
    };
    return apply(arrange.padConstant, [x], attrs)[0]!;
  }
  /** The order of elements reversed along dimensions. */
  flip(...dims: Sizes): Tensor {
    return apply(arrange.flip, [this], { dims: sizes(dims) })[0]!;
  }
  /** Moved by `shifts` along `dims`, around the end; without dims as if flattened. */
  roll(shifts: number | readonly number[], dims?: number | readonly number[]): Tensor {
    const by = typeof shifts === "number" ? [shifts] : shifts;
    if (dims === undefined) {
      return apply(arrange.roll, [this.reshape(-1)], { shifts: by, dims: [0] })[0]!
        .reshape(this.shape);
    }
    const along = typeof dims === "number" ? [dims] : dims;
    return apply(arrange.roll, [this], { shifts: by, dims: along })[0]!;
  }
  /** Every step-th window of `size` elements along dim, whose elements become the last dimension; a view. */
  unfold(dim: number, size: number, step: number): Tensor {
    return apply(unfold, [this], { dim, size, step, dilation: 1 })[0]!;
  }
  /** Last two dimensions on and below a diagonal (0 is the main one, 1 the one above it), else 0. */
  tril(diagonal = 0): Tensor {
    return apply(arrange.tril, [this], { diagonal })[0]!;
  }
  /** Last two dimensions on and above a diagonal (0 is the main one, 1 the one above it), else 0. */
  triu(diagonal = 0): Tensor {
    return apply(arrange.triu, [this], { diagonal })[0]!;
  }
  /** Elements with equal indices along two dimensions (or `offset` apart), as the last one; a view. */
  diagonal(options: { offset?: number; dim1?: number; dim2?: number } = {}): Tensor {
    checkOptions("take the diagonal", options, "x.diagonal({ offset: 1 })");
    const { offset = 0, dim1 = 0, dim2 = 1 } = options;
    return apply(arrange.diagonal, [this], { offset, dim1, dim2 })[0]!;
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

/** `dim` counted from the front, of a tensor that has one. */
function dimension(name: string, dim: number, { ndim }: TensorBase): number {
  if (ndim > 0) return normalizeDim(name, dim, ndim);
  throw new TypeError(`Cannot ${name} [], which has no dimension: unsqueeze it first`);
}

function sizes(list: Sizes): readonly number[] {
  return Array.isArray(list[0]) ? list[0] : list as readonly number[];
}

type BorderMode = Exclude<PadOptions["mode"], "constant" | undefined>;

function checkPadding(
  mode: BorderMode,
  pads: readonly number[],
  of: { shape: readonly number[]; size: number },
): void {
  const { shape, size } = of;
  const most = mode === "reflect" ? size - 1 : mode === "circular" ? size : Infinity;
  if (pads.some((n) => n < 0 || n > most) || size === 0) {
    throw new RangeError(
      `Cannot pad ${show(shape)} by ${show(pads)} in mode ${mode}: a dimension of size ${size} ` +
        (size === 0 ? "has nothing to repeat" : `takes 0 to ${most}`),
    );
  }
}

/** One dimension longer by elements of the tensor itself. */
function padDimension(
  x: Tensor,
  mode: BorderMode,
  pad: { dim: number; before: number; after: number },
): Tensor {
  const { dim, before, after } = pad;
  const size = x.shape[dim]!;
  const border = (start: number, count: number) => {
    if (mode === "replicate") {
      return x.narrow(dim, start, 1).expand(x.shape.map((_, d) => d === dim ? count : -1));
    }
    const part = x.narrow(dim, start, count);
    return mode === "reflect" ? part.flip(dim) : part;
  };
  const first = mode === "reflect" ? 1 : mode === "circular" ? size - before : 0;
  const last = mode === "reflect" ? size - 1 - after : mode === "circular" ? 0 : size - 1;
  const parts = [
    ...(before > 0 ? [border(first, before)] : []),
    x,
    ...(after > 0 ? [border(last, after)] : []),
  ];
  return apply(move.cat, parts, { dim })[0]!;
}
