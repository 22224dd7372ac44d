/** Ops that move elements, as functions. */

import { checkOptions } from "./arguments.ts";
import type { Tensor } from "./tensor.ts";
import type { PadOptions } from "./tensor_shape.ts";

/** The same elements under another shape; -1 stands for what remains. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return x.reshape(shape);
}

/** As {@linkcode reshape}. */
export function view(x: Tensor, shape: readonly number[]): Tensor {
  return x.view(shape);
}

/** Dimensions start to end (inclusive; all by default) as one. */
export function flatten(x: Tensor, options: { start?: number; end?: number } = {}): Tensor {
  checkOptions("flatten", options, "flatten(x, { start: 1 })");
  return x.flatten(options.start, options.end);
}

/** Without dimensions of size 1 (one of them, or all). */
export function squeeze(x: Tensor, dim?: number): Tensor {
  return x.squeeze(dim);
}

/** With a dimension of size 1 at `dim`. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  return x.unsqueeze(dim);
}

/** Two dimensions swapped; a view. */
export function transpose(x: Tensor, a: number, b: number): Tensor {
  return x.transpose(a, b);
}

/** Dimensions reordered; a view. */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  return x.permute(dims);
}

/** Dimensions of size 1 repeated without copying; -1 keeps a size. */
export function expand(x: Tensor, shape: readonly number[]): Tensor {
  return x.expand(shape);
}

/** The whole tensor repeated so many times along each dimension. */
export function repeat(x: Tensor, times: readonly number[]): Tensor {
  return x.repeat(times);
}

/** Every step-th index from start to before end along dim; negative bounds count from the end. */
export function slice(
  x: Tensor,
  dim: number,
  options: { start?: number; end?: number; step?: number } = {},
): Tensor {
  checkOptions("slice", options, "slice(x, 0, { start: 1, end: 3 })");
  return x.slice(dim, options.start, options.end, options.step);
}

/** `length` indices from `start` along dim; a negative start counts from the end. */
export function narrow(
  x: Tensor,
  dim: number,
  options: { start: number; length: number },
): Tensor {
  checkOptions("narrow", options, "narrow(x, 0, { start: 1, length: 2 })");
  return x.narrow(dim, options.start, options.length);
}

/** One index along dim, without the dimension; a negative one counts from the end. */
export function select(x: Tensor, dim: number, index: number): Tensor {
  return x.select(dim, index);
}

/** Parts of `size` along dim (default 0), the last one smaller if need be, or parts of given sizes. */
export function split(x: Tensor, size: number | readonly number[], dim = 0): Tensor[] {
  return x.split(size, dim);
}

/** At most `count` parts of equal size along dim (default 0), the last one smaller if need be. */
export function chunk(x: Tensor, count: number, dim = 0): Tensor[] {
  return x.chunk(count, dim);
}

/** The tensors along dim, without the dimension. */
export function unbind(x: Tensor, dim = 0): Tensor[] {
  return x.unbind(dim);
}

/**
 * x with elements added at both ends: [before, after] of the last dimension, then of the one before
 * it, and so on. Negative numbers take elements away (mode `constant`).
 *
 * @throws {RangeError} if `reflect` pads by the size or more, or `circular` by more than the size
 *
 * @example
 * ```ts
 * import { init, pad, tensor } from "../mod.ts";
 * await init();
 * const x = tensor([1, 2, 3]);
 * console.log(await pad(x, [2, 1], { mode: "reflect" }).array()); // [3, 2, 1, 2, 3, 2]
 * ```
 */
export function pad(x: Tensor, pads: readonly number[], options: PadOptions = {}): Tensor {
  return x.pad(pads, options);
}

/** The order of elements reversed along dimensions. */
export function flip(x: Tensor, dims: readonly number[]): Tensor {
  return x.flip(dims);
}

/** x moved by `shifts` along `dims`, around the end; without dims as if flattened. */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  dims?: number | readonly number[],
): Tensor {
  return x.roll(shifts, dims);
}

/** Last two dimensions on and below a diagonal (0 is the main one, 1 the one above it), else 0. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return x.tril(diagonal);
}

/** Last two dimensions on and above a diagonal (0 is the main one, 1 the one above it), else 0. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return x.triu(diagonal);
}
