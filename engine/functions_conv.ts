/** Convolutions besides `conv2d`. */

import { checkOptions, noneIfValid } from "./arguments.ts";
import { asBatch } from "./batch.ts";
import { conv2d, type ConvOptions, type Pair, pair } from "./functions.ts";
import { convTranspose2d as convTransposeOp } from "./ops/conv_transpose.ts";
import { show } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Options of {@linkcode conv1d}. */
export interface Conv1dOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window; default 1. */
  stride?: number;
  /** Zeros on both sides, or [before, after], or `same` (stride 1 only), or `valid` for none; default 0. */
  padding?: Pair | "same" | "valid";
  /** Distance between kernel elements; default 1. */
  dilation?: number;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
}

/**
 * One-dimensional cross-correlation of x [N, C, L], or one sample [C, L], with w [O, C / groups, K]; otherwise as `conv2d`.
 *
 * @returns [N, O, OL] with OL = ⌊(L + padding - dilation·(K - 1) - 1) / stride⌋ + 1
 * @throws {TypeError} if shapes or dtypes (floats) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 */
export function conv1d(x: Tensor, w: Tensor, options: Conv1dOptions = {}): Tensor {
  if (![2, 3].includes(x.ndim) || w.ndim !== 3) {
    throw new TypeError(
      `Cannot conv1d ${show(x.shape)} with weight ${show(w.shape)}: they must be [N, C, L] or ` +
        "[C, L], and [O, C / groups, K]",
    );
  }
  checkOptions("conv1d", options, "conv1d(x, w, { bias, stride: 2 })");
  const { bias, stride = 1, dilation = 1, groups } = options;
  const padding = noneIfValid("conv1d", options.padding ?? 0);
  const [left, right] = padding === "same" ? [0, 0] : pair(padding);
  const wide: ConvOptions = {
    bias,
    stride: [1, stride],
    padding: padding === "same" ? padding : { top: 0, bottom: 0, left, right },
    dilation: [1, dilation],
    groups,
  };
  return conv2d(x.unsqueeze(-2), w.unsqueeze(2), wide).squeeze(-2);
}

/** Options of {@linkcode convTranspose2d}. */
export interface ConvTransposeOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window in the output; default 1. */
  stride?: Pair;
  /** Rows and columns cut off on both sides of the output; default 0. */
  padding?: Pair;
  /** Rows and columns added below and to the right of the output; default 0. */
  outputPadding?: Pair;
  /** Distance between kernel elements; default 1. */
  dilation?: Pair;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
}

/**
 * Transposed convolution of x [N, C, H, W], or one image [C, H, W], with w [C, O / groups, KH, KW]: the gradient that `conv2d`
 * with weight w has for its input where its output has x.
 *
 * @returns [N, O, OH, OW] with
 *   OH = (H - 1)·stride - 2·padding + dilation·(KH - 1) + outputPadding + 1
 * @throws {TypeError} if shapes or dtypes (floats) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 *
 * @example
 * ```ts
 * import { convTranspose2d, init, randn } from "../mod.ts";
 * await init();
 * const y = convTranspose2d(randn([1, 8, 4, 4]), randn([8, 3, 2, 2]), { stride: 2 });
 * console.log(y.shape); // [1, 3, 8, 8]
 * ```
 */
export function convTranspose2d(
  x: Tensor,
  w: Tensor,
  options: ConvTransposeOptions = {},
): Tensor {
  checkOptions("convTranspose2d", options, "convTranspose2d(x, w, { bias, stride: 2 })");
  const { bias } = options;
  const attrs = {
    stride: pair(options.stride ?? 1),
    padding: pair(options.padding ?? 0),
    outputPadding: pair(options.outputPadding ?? 0),
    dilation: pair(options.dilation ?? 1),
    groups: options.groups ?? 1,
  };
  return asBatch(
    x,
    4,
    (batch) => apply(convTransposeOp, bias ? [batch, w, bias] : [batch, w], attrs)[0]!,
  );
}

/** Options of {@linkcode convTranspose1d}. */
export interface ConvTranspose1dOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window in the output; default 1. */
  stride?: number;
  /** Places cut off on both sides of the output; default 0. */
  padding?: number;
  /** Places added at the end of the output; default 0. */
  outputPadding?: number;
  /** Distance between kernel elements; default 1. */
  dilation?: number;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
}

/**
 * One-dimensional transposed convolution of x [N, C, L], or one sample [C, L], with w [C, O / groups, K]; otherwise as
 * {@linkcode convTranspose2d}.
 *
 * @returns [N, O, OL] with OL = (L - 1)·stride - 2·padding + dilation·(K - 1) + outputPadding + 1
 * @throws {TypeError} if shapes or dtypes (floats) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 */
export function convTranspose1d(
  x: Tensor,
  w: Tensor,
  options: ConvTranspose1dOptions = {},
): Tensor {
  if (![2, 3].includes(x.ndim) || w.ndim !== 3) {
    throw new TypeError(
      `Cannot convTranspose1d ${show(x.shape)} with weight ${
        show(w.shape)
      }: they must be [N, C, L] ` +
        "or [C, L], and [C, O / groups, K]",
    );
  }
  checkOptions("convTranspose1d", options, "convTranspose1d(x, w, { bias, stride: 2 })");
  const { bias, stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups } = options;
  return convTranspose2d(x.unsqueeze(-2), w.unsqueeze(2), {
    bias,
    stride: [1, stride],
    padding: [0, padding],
    outputPadding: [0, outputPadding],
    dilation: [1, dilation],
    groups,
  }).squeeze(-2);
}

/**
 * Zeros before and after that TensorFlow's "SAME" puts along one dimension: the output has
 * ⌈size / stride⌉ elements, and the odd zero comes after.
 */
export function samePadding(
  size: number,
  { kernel, stride = 1, dilation = 1 }: { kernel: number; stride?: number; dilation?: number },
): [before: number, after: number] {
  const reach = (Math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1;
  const total = Math.max(reach - size, 0);
  const before = Math.floor(total / 2);
  return [before, total - before];
}
