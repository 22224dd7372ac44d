/** Making tensors from the host, from constants and from random numbers. */

import {
  checkDtype,
  checkOptions,
  checkShape,
  checkWhole,
  given,
  isTensor,
  notTensor,
} from "./arguments.ts";
import { DeviceArray, inArena, type Spec } from "./array.ts";
import { type DType, isFloat, promote, type TypedArray } from "./dtype.ts";
import { fill } from "./ops/fill.ts";
import { random, type RandomParams } from "./ops/random.ts";
import type { Nested } from "./read.ts";
import { show, sizeOf } from "./shape.ts";
import { apply, Tensor } from "./tensor.ts";
import { cat as catOp } from "./ops/movement.ts";
import { normalizeDim } from "./shape.ts";

/** Options of every creation function. */
export interface CreateOptions {
  /** Element type; f32 unless said otherwise. */
  dtype?: DType;
  /** Whether the tensor collects a gradient. */
  requiresGrad?: boolean;
}

/** Options of {@linkcode tensor}. */
export interface TensorInit extends CreateOptions {
  /** Shape of flat data; the data's own nesting by default. */
  shape?: readonly number[];
}

/**
 * A tensor from nested arrays, a number or a typed array.
 *
 * The dtype follows the data: `Float32Array` and numbers f32, `Float16Array` f16, `Int32Array` i32,
 * `Uint32Array` u32, booleans bool. `Float64Array` becomes f32; a `Uint8Array` becomes f32 unless
 * `dtype` says otherwise (images go up as bytes through `nn.vision.fromBytes`).
 *
 * @throws {TypeError} if the nesting is ragged, an element is no number, or the shape does not fit the
 *   number of elements
 *
 * @example
 * ```ts
 * import { init, tensor } from "../mod.ts";
 * await init();
 * const a = tensor([[1, 2], [3, 4]]);
 * const b = tensor(new Int32Array(6), { shape: [2, 3] });
 * console.log(a.shape, b.dtype); // [2, 2] i32
 * ```
 */
export function tensor(
  data: Nested | TypedArray | Float64Array,
  options: TensorInit = {},
): Tensor {
  checkOptions("make a tensor", options, 'tensor([1, 2], { dtype: "i32" })');
  const typed = ArrayBuffer.isView(data);
  const nesting = typed ? [data.length] : shapeOf(data as Nested);
  const flat: ArrayLike<number> = typed ? data as TypedArray : flatten(data as Nested, nesting);
  const shape = options.shape ?? nesting;
  checkShape("make a tensor", shape);
  if (sizeOf(shape) !== flat.length) {
    throw new TypeError(
      `Cannot make a tensor ${show(shape)} from ${flat.length} elements: it needs ${sizeOf(shape)}`,
    );
  }
  const dtype = options.dtype ?? (typed ? dtypeOf(data) : dtypeOfNested(data as Nested));
  return make({ shape, dtype }, options, (spec) => DeviceArray.from(flat, spec, "tensor"));
}

/** Zeros of `shape`. */
export function zeros(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** Ones of `shape`. */
export function ones(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** `value` everywhere. */
export function full(
  shape: readonly number[],
  value: number,
  options: CreateOptions = {},
): Tensor {
  checkShape("make a tensor", shape);
  checkOptions("make a tensor", options, 'zeros([2, 3], { dtype: "i32" })');
  return make({ shape, dtype: options.dtype ?? "f32" }, options, (spec) => fill(spec, value));
}

/** Zeros shaped and typed like `x`. */
export function zerosLike(x: Tensor, options: CreateOptions = {}): Tensor {
  checkOptions("zerosLike", options, 'zerosLike(x, { dtype: "i32" })');
  return zeros(x.shape, { dtype: x.dtype, ...options });
}

/** Ones shaped and typed like `x`. */
export function onesLike(x: Tensor, options: CreateOptions = {}): Tensor {
  checkOptions("onesLike", options, 'onesLike(x, { dtype: "i32" })');
  return ones(x.shape, { dtype: x.dtype, ...options });
}

/**
 * start, start + step, … before end. One argument counts from 0. Whole numbers give i32.
 *
 * @throws {RangeError} if a number is not finite, or the step is 0 or leads away from the end
 */
export function arange(
  start: number,
  end?: number,
  options: CreateOptions & { step?: number } = {},
): Tensor {
  checkOptions("arange", options, "arange(0, 10, { step: 2 })");
  const [from, to] = end === undefined ? [0, start] : [start, end];
  const step = options.step ?? 1;
  if (![from, to, step].every(Number.isFinite)) {
    throw new RangeError(`Cannot count from ${from} to ${to} by ${step}: all must be finite`);
  }
  if (step === 0 || (to - from) / step < 0) {
    throw new RangeError(
      `Cannot count from ${from} to ${to} by ${step}: the step must lead to the end`,
    );
  }
  const length = Math.ceil((to - from) / step);
  const values = Float64Array.from({ length }, (_, i) => from + i * step);
  const whole = [from, to, step].every(Number.isInteger);
  return tensor(values, { dtype: whole ? "i32" : "f32", ...options });
}

/**
 * `count` equally spaced numbers from start to end, both included.
 *
 * @throws {RangeError} if count is not a whole number >= 0
 */
export function linspace(
  start: number,
  end: number,
  options: CreateOptions & { count: number },
): Tensor {
  checkOptions("linspace", options, "linspace(0, 1, { count: 5 })");
  const { count } = options;
  if (!Number.isInteger(count) || count < 0) {
    throw new RangeError(`Cannot make ${count} equally spaced numbers: it must be a whole number`);
  }
  const values = Float64Array.from(
    { length: count },
    (_, i) => count === 1 ? start : start + (end - start) * i / (count - 1),
  );
  return tensor(values, { dtype: "f32", ...options });
}

/** The identity matrix [n, n]. */
export function eye(n: number, options: CreateOptions = {}): Tensor {
  checkOptions("eye", options, 'eye(3, { dtype: "f32" })');
  checkWhole("make an identity matrix", { n }, 0);
  const values = new Float32Array(n * n);
  for (let i = 0; i < n; i++) values[i * n + i] = 1;
  return tensor(values, { shape: [n, n], dtype: "f32", ...options });
}

/** Uniform numbers in [0, 1); in f16 rounding may give 1. */
export function rand(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return drawn(shape, options, { distribution: "uniform" });
}

/** Normal numbers with mean 0 and deviation 1. */
export function randn(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return drawn(shape, options, { distribution: "normal" });
}

/**
 * Whole numbers from low to below high (i32), each equally likely up to the bias of 32 bits modulo
 * the range (at most range / 2^32).
 *
 * @throws {RangeError} if high is not above low, or they are not whole numbers that the dtype can hold
 */
export function randint(
  low: number,
  high: number,
  options: CreateOptions & { shape: readonly number[] },
): Tensor {
  checkOptions("randint", options, "randint(0, 5, { shape: [2, 3] })");
  checkWhole("draw", { low, high });
  if (!(high > low)) {
    throw new RangeError(`Cannot draw from ${low} to ${high}: high must be above low`);
  }
  const [least, most] = options.dtype === "u32" ? [0, 2 ** 32] : [-(2 ** 31), 2 ** 31];
  if (low < least || high > most || high - low >= 2 ** 32) {
    throw new RangeError(
      `Cannot draw from ${low} to ${high}: they must be ${least} to ${most}, and less than 2^32 apart`,
    );
  }
  const { shape, ...rest } = options;
  return drawn(shape, { dtype: "i32", ...rest }, {
    distribution: "integer",
    low,
    range: high - low,
  });
}

/**
 * 1 with probability p, else 0.
 *
 * @throws {RangeError} if p is outside [0, 1]
 */
export function bernoulli(
  p: number,
  options: CreateOptions & { shape: readonly number[] },
): Tensor {
  checkOptions("bernoulli", options, "bernoulli(0.5, { shape: [2, 3] })");
  if (!(p >= 0 && p <= 1)) {
    throw new RangeError(`Cannot draw with probability ${p}: it must be 0 to 1`);
  }
  return drawn(options.shape, options, { distribution: "bernoulli", a: p });
}

/** `rand` shaped and typed like `x`. */
export function randLike(x: Tensor, options: CreateOptions = {}): Tensor {
  checkOptions("randLike", options, 'randLike(x, { dtype: "f16" })');
  return rand(x.shape, { dtype: x.dtype, ...options });
}

/** `randn` shaped and typed like `x`. */
export function randnLike(x: Tensor, options: CreateOptions = {}): Tensor {
  checkOptions("randnLike", options, 'randnLike(x, { dtype: "f16" })');
  return randn(x.shape, { dtype: x.dtype, ...options });
}

/**
 * Tensors one after the other along `dim`, in the highest of their dtypes. Tensors [0] are left out, whatever the
 * shape of the others: a list of results can start with none.
 */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  if (isTensor(tensors)) throw notTensor("cat", tensors, "a list, as in cat([a, b])");
  const flat = tensors.every((t) => t.ndim === 1);
  const parts = flat ? tensors : tensors.filter((t) => t.ndim !== 1 || t.size > 0);
  const at = normalizeDim("cat", dim, parts[0]?.ndim ?? 1);
  const dtype = tensors.reduce<DType>((widest, t) => promote(t.dtype, widest), "bool");
  return apply(catOp, parts.map((t) => t.to(dtype)), { dim: at })[0]!;
}

/** Tensors of one shape along a new dimension, in the highest of their dtypes. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  if (isTensor(tensors)) throw notTensor("stack", tensors, "a list, as in stack([a, b])");
  return cat(tensors.map((t) => t.unsqueeze(dim)), dim);
}

function drawn(
  shape: readonly number[],
  options: CreateOptions,
  params: RandomParams,
): Tensor {
  checkShape("draw numbers", shape);
  checkOptions("draw numbers", options, 'rand([2, 3], { dtype: "f16" })');
  const dtype = options.dtype ?? "f32";
  checkDtype("draw numbers", dtype);
  const { distribution } = params;
  if ((distribution === "uniform" || distribution === "normal") && !isFloat(dtype)) {
    throw new TypeError(
      `Cannot draw ${distribution} numbers of dtype ${dtype}: it must be a float; use randint()`,
    );
  }
  return make({ shape, dtype }, options, (spec) => random(spec, params));
}

function make(spec: Spec, options: CreateOptions, build: (spec: Spec) => DeviceArray): Tensor {
  checkDtype("make a tensor", spec.dtype);
  for (const s of spec.shape) {
    if (!Number.isInteger(s) || s < 0) {
      throw new TypeError(
        `Cannot make a tensor ${show(spec.shape)}: sizes must be whole numbers >= 0`,
      );
    }
  }
  if (options.requiresGrad && !isFloat(spec.dtype)) {
    throw new TypeError(`Cannot require a gradient of dtype ${spec.dtype}: it must be a float`);
  }
  const array = inArena(() => build({ shape: [...spec.shape], dtype: spec.dtype }));
  return new Tensor(array, { requiresGrad: options.requiresGrad });
}

function shapeOf(data: Nested): number[] {
  const shape: number[] = [];
  for (let level = data; Array.isArray(level); level = level[0]!) shape.push(level.length);
  return shape;
}

function flatten(data: Nested, shape: readonly number[]): number[] {
  const flat: number[] = [];
  const visit = (value: Nested, depth: number): void => {
    if (Array.isArray(value) !== depth < shape.length) ragged(data, shape);
    if (!Array.isArray(value)) {
      flat.push(typeof value === "number" ? value : numberOf(value));
      return;
    }
    if (value.length !== shape[depth]) ragged(data, shape);
    for (const item of value) visit(item, depth + 1);
  };
  visit(data, 0);
  return flat;
}

/** An element that is no number: true is 1. */
function numberOf(value: unknown): number {
  if (typeof value === "boolean" || typeof value === "bigint") return Number(value);
  let right = "elements must be numbers or booleans, in arrays or a typed array";
  if (isTensor(value)) right = "await its item(), stack() several, or clone() it";
  else if (value instanceof Promise) right = "await it first, as in tensor([await x.item()])";
  throw new TypeError(`Cannot make a tensor of ${given(value)}: ${right}`);
}

function ragged(_data: Nested, shape: readonly number[]): never {
  throw new TypeError(
    `Cannot make a tensor from ragged arrays: the first elements have shape ${show(shape)} and ` +
      "others differ",
  );
}

function dtypeOf(data: ArrayBufferView): DType {
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint32Array) return "u32";
  if (typeof Float16Array !== "undefined" && data instanceof Float16Array) return "f16";
  return "f32";
}

function dtypeOfNested(data: Nested): DType {
  let first = data;
  while (Array.isArray(first)) first = first[0]!;
  return typeof first === "boolean" ? "bool" : "f32";
}
