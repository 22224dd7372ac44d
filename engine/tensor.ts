/**
 * The tensor people hold. Methods are one line into the op records; work is recorded at once and
 * results are read only by `data`, `array` and `item`.
 *
 * One line a method, so the file is long but has one idea; `tensor_base.ts` holds memory and tape.
 */

import type { DeviceArray } from "./array.ts";
import { inArena } from "./array.ts";
import { isRecording, Node, noGrad, runForward, walkBack } from "./autograd.ts";
import { afterOp } from "./check.ts";
import { type DType, isFloat, type TypedArray } from "./dtype.ts";
import { backwardOf, type Op } from "./op.ts";
import { fill, fillInto } from "./ops/fill.ts";
import { linear, matmul } from "./ops/matmul.ts";
import * as move from "./ops/movement.ts";
import { binary, type BinaryAttrs, unary } from "./ops/pointwise.ts";
import type { Scalars } from "./ops/pointwise_table.ts";
import { cast, where } from "./ops/select.ts";
import * as reductions from "./ops/reduce.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { topk } from "./ops/topk.ts";
import { nest, type Nested, readAll } from "./read.ts";
import { broadcastShapes, normalizeDim, sameShape, show } from "./shape.ts";
import { setTensorFactory, TensorBase } from "./tensor_base.ts";
import { traceCall } from "./trace.ts";

/** A tensor or a number that broadcasts like one. */
export type Operand = Tensor | number;
/** Options of a reduction. */
export interface ReduceOptions {
  /** Keep the reduced dimensions with size 1. */
  keepdim?: boolean;
}
type Sizes = readonly number[] | readonly [readonly number[]];

/** Runs an op on tensors and records it if an input requires a gradient. */
export function apply<A>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor[] {
  const arrays = inputs.map((t) => t.device);
  const specs = op.check(arrays, attrs);
  const tracked = isRecording() && backwardOf(op) !== null;
  const needs = inputs.map((t) => tracked && t.requiresGrad);
  const { outputs, saved } = runForward(op, arrays, attrs, specs, needs);
  const node = needs.some(Boolean)
    ? new Node(op as Op<unknown>, {
      attrs,
      edges: inputs.map((t, i) => needs[i] ? t.edge() : null),
      inputs: arrays,
      outputs: specs,
      saved,
    })
    : null;
  const results = outputs.map((array, i) =>
    new Tensor(array, { source: node && isFloat(array.dtype) ? { node, output: i } : undefined })
  );
  afterOp(op, arrays, outputs, attrs);
  traceCall({ op: op as Op<unknown>, attrs, inputs, outputs: results });
  return results;
}

/**
 * An n-dimensional array on the GPU.
 *
 * @example
 * ```ts
 * import { init, tensor } from "../mod.ts";
 * await init();
 * const w = tensor([[1, 2], [3, 4]], { requiresGrad: true });
 * const loss = w.square().sum();
 * loss.backward();
 * console.log(await w.grad!.array()); // [[2, 4], [6, 8]]
 * ```
 */
export class Tensor extends TensorBase {
  // ---- reading ----

  /**
   * The elements in row-major order. Runs all recorded work first; in Deno a read takes at least
   * 10 ms, so read several tensors with one `readAll`.
   *
   * @throws {GpuError} if any work so far failed on the GPU
   */
  async data(): Promise<TypedArray> {
    return (await readAll([this]))[0]!;
  }
  /** The elements as nested arrays; a number for a scalar. */
  async array(): Promise<Nested> {
    const flat = await this.data();
    return nest(flat, this.shape, this.dtype === "bool");
  }
  /**
   * The only element.
   *
   * @throws {TypeError} if there are more or none
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new TypeError(`Cannot take the item of ${show(this.shape)}: it must have one element`);
    }
    return Number((await this.data())[0]);
  }

  // ---- autograd ----

  /**
   * Adds d this / d leaf to every leaf's `grad`.
   *
   * @param seed the gradient to start from; 1 for a tensor of one element
   * @throws {TypeError} if nothing requires a gradient, or a seed is missing or mis-shaped
   */
  backward(seed?: Tensor | null, options: { retainGraph?: boolean } = {}): void {
    const root = { edge: this.edge(), grad: startOf(this, seed ?? undefined) };
    walkBack([root], { retainGraph: options.retainGraph ?? false });
  }
  /** The same memory, off the tape. */
  detach(): Tensor {
    return new Tensor(this.device.alias());
  }
  /** A copy in memory of its own, on the tape. */
  clone(): Tensor {
    return apply(cast, [this], { dtype: this.dtype })[0]!;
  }

  // ---- in place: leaves must be inside noGrad ----

  /** Overwrites the elements with `source`, broadcast; returns the tensor. */
  copy_(source: Tensor): this {
    this.#checkInPlace("copy_", source);
    inArena(() => (move.copyInto(source.device, this.device), []));
    return this;
  }
  /** Sets every element; returns the tensor. */
  fill_(value: number): this {
    this.#checkInPlace("fill_");
    inArena(() => (fillInto(this.device, value), []));
    return this;
  }
  /** Sets every element to 0; returns the tensor. */
  zero_(): this {
    return this.fill_(0);
  }
  /** this += alpha · other; returns the tensor. */
  add_(other: Operand, options: { alpha?: number } = {}): this {
    const alpha = options.alpha ?? 1;
    if (typeof other === "number") return this.#assign("add_", binary.add, other * alpha);
    if (alpha === 1) return this.#assign("add_", binary.add, other);
    this.#checkInPlace("add_", other);
    using term = noGrad(() => other.mul(alpha));
    return this.#assign("add_", binary.add, term);
  }
  /** this *= other; returns the tensor. */
  mul_(other: Operand): this {
    return this.#assign("mul_", binary.mul, other);
  }
  #assign(name: string, op: typeof binary.add, other: Operand): this {
    this.#checkInPlace(name, typeof other === "number" ? undefined : other);
    return noGrad(() => {
      using result = combine(op, this, other);
      if (isFloat(result.dtype) && !isFloat(this.dtype)) {
        throw new TypeError(
          `Cannot ${name} into ${this.dtype}: the result is ${result.dtype}; use an integer, or ` +
            `convert the tensor with to("f32")`,
        );
      }
      return this.copy_(result);
    });
  }
  #checkInPlace(name: string, source?: Tensor): void {
    if (isRecording() && this.requiresGrad) {
      throw new TypeError(
        `Cannot ${name} a tensor that requires a gradient: do it inside noGrad()`,
      );
    }
    if (isRecording() && source?.requiresGrad) {
      throw new TypeError(
        `Cannot ${name} from a tensor that requires a gradient: the gradient would be lost; ` +
          "detach() it, or do it inside noGrad()",
      );
    }
    const shape = source?.shape ?? [];
    if (!sameShape(broadcastShapes(name, this.shape, shape), this.shape)) {
      throw new TypeError(
        `Cannot ${name} ${show(shape)} into ${show(this.shape)}: it does not broadcast to it`,
      );
    }
    this.device.storage.version++;
  }

  // ---- pointwise ----

  /** this + other. */ add(other: Operand): Tensor {
    return combine(binary.add, this, other);
  }
  /** this - other. */ sub(other: Operand): Tensor {
    return combine(binary.sub, this, other);
  }
  /** this · other. */ mul(other: Operand): Tensor {
    return combine(binary.mul, this, other);
  }
  /** this / other; integers give f32. */ div(other: Operand): Tensor {
    return combine(binary.div, this, other);
  }
  /** this to the power of other. */ pow(other: Operand): Tensor {
    return combine(binary.pow, this, other);
  }
  /** The larger of both; NaN wins. */ maximum(other: Operand): Tensor {
    return combine(binary.maximum, this, other);
  }
  /** The smaller of both; NaN wins. */ minimum(other: Operand): Tensor {
    return combine(binary.minimum, this, other);
  }
  /** this == other, as bool. */ eq(other: Operand): Tensor {
    return combine(binary.eq, this, other);
  }
  /** this != other, as bool. */ ne(other: Operand): Tensor {
    return combine(binary.ne, this, other);
  }
  /** this < other, as bool. */ lt(other: Operand): Tensor {
    return combine(binary.lt, this, other);
  }
  /** this <= other, as bool. */ le(other: Operand): Tensor {
    return combine(binary.le, this, other);
  }
  /** this > other, as bool. */ gt(other: Operand): Tensor {
    return combine(binary.gt, this, other);
  }
  /** this >= other, as bool. */ ge(other: Operand): Tensor {
    return combine(binary.ge, this, other);
  }
  /** Both true (not 0). */ logicalAnd(other: Operand): Tensor {
    return combine(binary.logicalAnd, this, other);
  }
  /** Either true (not 0). */ logicalOr(other: Operand): Tensor {
    return combine(binary.logicalOr, this, other);
  }
  /** True where this is 0. */ logicalNot(): Tensor {
    return map(unary.logicalNot, this);
  }
  /** -this. */ neg(): Tensor {
    return map(unary.neg, this);
  }
  /** |this|. */ abs(): Tensor {
    return map(unary.abs, this);
  }
  /** -1, 0 or 1. */ sign(): Tensor {
    return map(unary.sign, this);
  }
  /** e to the power of this. */ exp(): Tensor {
    return map(unary.exp, this);
  }
  /** Natural logarithm. */ log(): Tensor {
    return map(unary.log, this);
  }
  /** Square root. */ sqrt(): Tensor {
    return map(unary.sqrt, this);
  }
  /** 1 / square root. */ rsqrt(): Tensor {
    return map(unary.rsqrt, this);
  }
  /** this · this. */ square(): Tensor {
    return map(unary.square, this);
  }
  /** 1 / this. */ reciprocal(): Tensor {
    return map(unary.reciprocal, this);
  }
  /** Sine of radians. */ sin(): Tensor {
    return map(unary.sin, this);
  }
  /** Cosine of radians. */ cos(): Tensor {
    return map(unary.cos, this);
  }
  /** Hyperbolic tangent. */ tanh(): Tensor {
    return map(unary.tanh, this);
  }
  /** 1 / (1 + exp(-this)). */ sigmoid(): Tensor {
    return map(unary.sigmoid, this);
  }
  /** max(this, 0); NaN stays. */ relu(): Tensor {
    return map(unary.relu, this);
  }
  /** this where positive, else slope · this (0.01). */ leakyRelu(slope = 0.01): Tensor {
    return map(unary.leakyRelu, this, { slope });
  }
  /** Nearest whole number below. */ floor(): Tensor {
    return map(unary.floor, this);
  }
  /** Nearest whole number above. */ ceil(): Tensor {
    return map(unary.ceil, this);
  }
  /** Whole part. */ trunc(): Tensor {
    return map(unary.trunc, this);
  }
  /** Nearest whole number, halves to even. */ round(): Tensor {
    return map(unary.round, this);
  }
  /** True where this is NaN. */ isnan(): Tensor {
    return map(unary.isnan, this);
  }
  /** this limited to [min, max]; either may be left out. */
  clamp(bounds: { min?: number; max?: number }): Tensor {
    const { min = -Infinity, max = Infinity } = bounds;
    return map(unary.clampBetween, this, { lo: min, hi: max });
  }
  /** this where cond, else other. */
  where(cond: Tensor, other: Tensor): Tensor {
    return apply(where, [cond, this, other], {})[0]!;
  }
  /** Conversion to another dtype. */
  to(dtype: DType): Tensor {
    return dtype === this.dtype ? this : apply(cast, [this], { dtype })[0]!;
  }

  // ---- reductions ----

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
    return shrink(reductions.argmax, this, dim, options);
  }
  /** Position of the first smallest element (i32), in the flattened tensor when dim is absent. */
  argmin(dim?: number, options?: ReduceOptions): Tensor {
    return shrink(reductions.argmin, this, dim, options);
  }
  /** The k largest (or smallest) along a dimension, best first, with positions (i32). */
  topk(
    k: number,
    options: { dim?: number; largest?: boolean } = {},
  ): { values: Tensor; indices: Tensor } {
    const { dim = -1, largest = true } = options;
    const at = normalizeDim("topk", dim, this.ndim);
    const last = at === this.ndim - 1;
    const [values, indices] = apply(topk, [last ? this : this.transpose(at, -1)], { k, largest });
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

  // ---- linear algebra ----

  /** Matrix product [..., M, K] by [..., K, N]; batches broadcast, vectors as in PyTorch. */
  matmul(other: Tensor): Tensor {
    return apply(matmul, [this, other], {})[0]!;
  }
  /** this · wᵀ + bias for this [..., K], w [N, K], bias [N]. */
  linear(w: Tensor, bias?: Tensor): Tensor {
    return apply(linear, bias ? [this, w, bias] : [this, w], {})[0]!;
  }

  // ---- shape ----

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
    return this.device.contiguous ? this : this.clone();
  }
}

setTensorFactory((array) => new Tensor(array));

function combine(op: Op<BinaryAttrs>, a: Tensor, b: Operand): Tensor {
  return typeof b === "number" ? apply(op, [a], { b })[0]! : apply(op, [a, b], {})[0]!;
}

function map(op: Op<Scalars>, x: Tensor, scalars: Scalars = {}): Tensor {
  return apply(op, [x], scalars)[0]!;
}

function shrink(
  op: Op<reductions.ReduceAttrs>,
  x: Tensor,
  dim?: number | readonly number[],
  options?: ReduceOptions,
): Tensor {
  return apply(op, [x], { dim, keepdim: options?.keepdim })[0]!;
}

/** Runs an op of the last dimension along another one. */
function alongLast(op: Op<Record<never, never>>, x: Tensor, dim: number): Tensor {
  const at = normalizeDim(op.name, dim, x.ndim);
  if (at === x.ndim - 1) return apply(op, [x], {})[0]!;
  return apply(op, [x.transpose(at, -1)], {})[0]!.transpose(at, -1);
}

function sizes(list: Sizes): readonly number[] {
  return Array.isArray(list[0]) ? list[0] : list as readonly number[];
}

/** The seed of a backward pass from `root`. */
export function startOf(root: Tensor, seed?: Tensor): DeviceArray {
  if (!root.requiresGrad) {
    throw new TypeError(
      "Cannot run backward from a tensor that requires no gradient: it was made from tensors " +
        "without requiresGrad, or inside noGrad()",
    );
  }
  if (!seed && root.size !== 1) {
    throw new TypeError(
      `Cannot run backward from ${show(root.shape)} without a seed: reduce it to one element or ` +
        "pass a gradient of its shape",
    );
  }
  if (seed && !sameShape(seed.shape, root.shape)) {
    throw new TypeError(
      `Cannot seed ${show(root.shape)} with ${show(seed.shape)}: the shapes must be equal`,
    );
  }
  return seed ? seed.device.alias() : fill(root.device, 1);
}
