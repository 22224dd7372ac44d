/** Normalisations, as PyTorch's `torch.nn.functional` names them. */

import { checkOptions } from "./arguments.ts";
import { inArena } from "./array.ts";
import { batchNorm as batchNormOp, batchNormEval as batchNormEvalOp } from "./ops/batch_norm.ts";
import * as ops from "./ops/norm.ts";
import { type Activation, checkActivation } from "./ops/epilogue.ts";
import { updateRunning } from "./ops/norm_running.ts";
import { sameShape, show } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Options of {@linkcode layerNorm}, {@linkcode groupNorm} and {@linkcode instanceNorm}. */
export interface NormOptions {
  /** Factor of each normalised element (layer) or channel. */
  weight?: Tensor;
  /** Added to each normalised element (layer) or channel. */
  bias?: Tensor;
  /** Added to the variance; default 1e-5. */
  eps?: number;
}

/** Options of {@linkcode batchNorm}. */
export interface BatchNormOptions extends NormOptions {
  /** Mean of each channel [C] f32: used in evaluation, moved in training. */
  runningMean?: Tensor;
  /** Variance of each channel [C] f32: used in evaluation, moved in training. */
  runningVar?: Tensor;
  /** Whether to normalise by the batch; default false. Without running tensors it always does. */
  training?: boolean;
  /**
   * Share of the batch in the running tensors; default 0.1. Null: the mean over all batches so far,
   * which `numBatchesTracked` counts.
   */
  momentum?: number | null;
  /** Number of batches so far, i32 of one element; raised by 1 in training. */
  numBatchesTracked?: Tensor;
  /** Added to what is normalised, in the same pass: of the shape and dtype of x. */
  residual?: Tensor;
  /** Applied last, in the same pass. */
  activation?: Activation;
}

function withAffine(x: Tensor, { weight, bias, eps = 1e-5 }: NormOptions) {
  return {
    inputs: [x, ...(weight ? [weight] : []), ...(bias ? [bias] : [])],
    attrs: { eps, weight: weight !== undefined, bias: bias !== undefined },
  };
}

/**
 * y = (x - mean) / √(variance + eps) · weight + bias for each channel of x [N, C, …]. A `residual` is
 * added and an `activation` applied to that without another pass over memory, forward and backward.
 *
 * In training mean and (biased) variance are the batch's, and the running tensors move by `momentum`
 * towards the mean and the unbiased variance, on the GPU. Statistics are f32 for f16 inputs, too.
 *
 * @throws {TypeError} if shapes or dtypes do not fit, or a channel has one value in training
 * @throws {RangeError} if eps or momentum is out of range
 *
 * @example
 * ```ts
 * import { batchNorm, init, randn } from "../mod.ts";
 * await init();
 * const y = batchNorm(randn([8, 3, 4, 4]), { training: true });
 * console.log(y.shape); // [8, 3, 4, 4]
 * ```
 */
export function batchNorm(x: Tensor, options: BatchNormOptions = {}): Tensor {
  checkOptions("batchNorm", options, "batchNorm(x, { weight, bias, training: true })");
  const { runningMean, runningVar, training = false, numBatchesTracked } = options;
  const { momentum = 0.1 } = options;
  if ((runningMean === undefined) !== (runningVar === undefined)) {
    throw new TypeError("Cannot batchNorm with one of runningMean and runningVar: give both");
  }
  if (momentum !== null && !(momentum >= 0 && momentum <= 1)) {
    throw new RangeError(`Cannot batchNorm with momentum ${momentum}: it must be 0 to 1, or null`);
  }
  if (momentum === null && runningMean && !numBatchesTracked) {
    throw new TypeError(
      "Cannot batchNorm with momentum null without numBatchesTracked: it counts the batches",
    );
  }
  const { residual, activation } = options;
  // Of another dtype, as under autocast: the sum then has the wider one.
  if (residual && residual.dtype !== x.dtype && sameShape(residual.shape, x.shape)) {
    checkActivation("batchNorm", activation);
    const sum = batchNorm(x, { ...options, residual: undefined, activation: undefined })
      .add(residual);
    return activation ? sum[activation]() : sum;
  }
  const affine = withAffine(x, options);
  const inputs = [...affine.inputs, ...(residual ? [residual] : [])];
  const attrs = {
    ...affine.attrs,
    ...(residual ? { residual: true } : {}),
    ...(activation ? { activation } : {}),
  };
  if (!training && runningMean) {
    return apply(batchNormEvalOp, [x, runningMean, runningVar!, ...inputs.slice(1)], attrs)[0]!;
  }
  for (const [name, running] of Object.entries({ runningMean, runningVar })) {
    if (running && !sameShape(running.shape, [x.shape[1] ?? 0])) {
      throw new TypeError(
        `Cannot batchNorm ${show(x.shape)} with ${name} ${show(running.shape)}: it must be ` +
          `[${x.shape[1] ?? "C"}]`,
      );
    }
  }
  const [y, mean, variance] = apply(batchNormOp, inputs, attrs) as [Tensor, Tensor, Tensor];
  if (runningMean) {
    const running = {
      mean: runningMean.device,
      variance: runningVar!.device,
      batches: numBatchesTracked?.device,
    };
    const batch = { mean: mean.device, variance: variance.device };
    const count = x.size / mean.size;
    inArena(() => (updateRunning(running, batch, { momentum, count }), []));
  }
  mean.dispose();
  variance.dispose();
  return y;
}

/**
 * y = (x - mean) / √(variance + eps) · weight + bias over the last `dims` dimensions together (1),
 * whose sizes weight and bias have. The variance is biased.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function layerNorm(x: Tensor, options: NormOptions & { dims?: number } = {}): Tensor {
  checkOptions("layerNorm", options, "layerNorm(x, { weight, bias, dims: 1 })");
  const { inputs, attrs } = withAffine(x, options);
  return apply(ops.layerNorm, inputs, { ...attrs, dims: options.dims ?? 1 })[0]!;
}

/**
 * y = (x - mean) / √(variance + eps) · weight + bias for x [N, C, …], over each of `groups` groups of
 * channels of each sample; weight and bias are [C]. The variance is biased.
 *
 * @throws {TypeError} if shapes or dtypes do not fit, or the groups do not divide C
 */
export function groupNorm(x: Tensor, groups: number, options: NormOptions = {}): Tensor {
  checkOptions("groupNorm", options, "groupNorm(x, 4, { weight, bias })");
  const { inputs, attrs } = withAffine(x, options);
  return apply(ops.groupNorm, inputs, { ...attrs, groups })[0]!;
}

/** {@linkcode groupNorm} with a group for each channel. x is [N, C, …] with positions. */
export function instanceNorm(x: Tensor, options: NormOptions = {}): Tensor {
  checkOptions("instanceNorm", options, "instanceNorm(x, { weight, bias })");
  if (x.ndim < 3) {
    throw new TypeError(
      `Cannot instanceNorm ${show(x.shape)}: it must be [N, C, …] with positions`,
    );
  }
  return groupNorm(x, x.shape[1]!, options);
}

/**
 * y = x / √(mean of x² + eps) · weight over the last `dims` dimensions together (1).
 *
 * Source: Zhang and Sennrich, "Root mean square layer normalization", https://arxiv.org/abs/1910.07467
 *
 * @param options eps is 2^-23 by default, f32's epsilon, as in PyTorch.
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function rmsNorm(
  x: Tensor,
  options: Omit<NormOptions, "bias"> & { dims?: number } = {},
): Tensor {
  checkOptions("rmsNorm", options, "rmsNorm(x, { weight, dims: 1 })");
  const { dims = 1, weight, eps = 2 ** -23 } = options;
  const { inputs, attrs } = withAffine(x, { weight, eps });
  return apply(ops.rmsNorm, inputs, { ...attrs, dims })[0]!;
}

/** Options of {@linkcode normalize}. */
export interface NormalizeOptions {
  /** The norm's exponent, above 0 or Infinity; default 2. */
  p?: number;
  /** Dimension along which norms are taken; default 1. */
  dim?: number;
  /** Least divisor; default 1e-12. */
  eps?: number;
}

/** x / max(‖x‖ₚ, eps) along a dimension. Zeros stay zeros, and their gradient is finite. */
export function normalize(x: Tensor, options: NormalizeOptions = {}): Tensor {
  checkOptions("normalize", options, "normalize(x, { dim: 1 })");
  const { p = 2, dim = 1, eps = 1e-12 } = options;
  if (!(p > 0)) throw new RangeError(`Cannot normalize by the ${p}-norm: p must be above 0`);
  const keepdim = { keepdim: true };
  if (p === Infinity) return x.div(x.abs().max(dim, keepdim).clamp({ min: eps }));
  if (p === 1) return x.div(x.abs().sum(dim, keepdim).clamp({ min: eps }));
  // The bound goes inside the root, whose slope at 0 has no limit; not below f32's least normal.
  const least = Math.max(eps ** p, 2 ** -126);
  const powers = p === 2 ? x.square() : x.abs().pow(p);
  const total = powers.sum(dim, keepdim).clamp({ min: least });
  return x.div(p === 2 ? total.sqrt() : total.pow(1 / p));
}
