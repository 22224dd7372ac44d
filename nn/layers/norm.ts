/** @file Normalisation layers. */

import { checkOptions } from "../../engine/arguments.ts";
import { asBatch } from "../../engine/batch.ts";
import {
  type Activation,
  batchNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  noGrad,
  ones,
  rmsNorm,
  type Tensor,
  zeros,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool, pythonFloat, pythonSize } from "../module_text.ts";
import { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";

/** Options of the batch normalisations. */
export interface BatchNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Share of a batch in the running statistics; null for the mean over all batches. Default 0.1. */
  momentum?: number | null;
  /** Whether to learn a factor and a shift for each channel. Default true. */
  affine?: boolean;
  /** Whether to keep running statistics for evaluation. Default true. */
  trackRunningStats?: boolean;
}

/** What a batch normalisation does besides, in the same pass over memory. */
export interface NormThen {
  /** Added first: of the shape and dtype of x. */
  readonly residual?: Tensor;
  /** Applied last. */
  readonly activation?: Activation;
}

/** What every batch normalisation is; the subclasses say which inputs they take. */
abstract class BatchNorm extends Module {
  /** Channels. */
  readonly numFeatures: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Share of a batch in the running statistics, or null. */
  readonly momentum: number | null;
  /** Whether running statistics are kept. */
  readonly trackRunningStats: boolean;
  /** Factor of each channel [C]; starts at 1. */
  weight: Parameter | null;
  /** Shift of each channel [C]; starts at 0. */
  bias: Parameter | null;
  /** Mean of each channel [C]; starts at 0. */
  running_mean?: Tensor;
  /** Variance of each channel [C]; starts at 1. */
  running_var?: Tensor;
  /** Number of training batches seen, i32. */
  num_batches_tracked?: Tensor;

  /** @throws {RangeError} If an option is out of range. */
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    checkOptions(
      `make ${new.target.name}`,
      options,
      `new nn.${new.target.name}(8, { momentum: 0.1 })`,
    );
    super();
    const { eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    checkSizes(this.constructor.name, { numFeatures });
    checkEps(this.constructor.name, eps);
    if (momentum !== null && !(momentum >= 0 && momentum <= 1)) {
      throw new RangeError(
        `Cannot make ${this.constructor.name} with momentum ${momentum}: it must be 0 to 1, or null`,
      );
    }
    this.numFeatures = numFeatures;
    this.eps = eps;
    this.momentum = momentum;
    this.trackRunningStats = trackRunningStats;
    this.weight = affine ? new Parameter(ones([numFeatures])) : null;
    this.bias = affine ? new Parameter(zeros([numFeatures])) : null;
    if (trackRunningStats) {
      this.registerBuffer("running_mean", zeros([numFeatures]));
      this.registerBuffer("running_var", ones([numFeatures]));
      this.registerBuffer("num_batches_tracked", zeros([], { dtype: "i32" }));
    }
  }

  /** Numbers of dimensions an input may have, and how to write them. */
  protected abstract inputRanks(): { ranks: readonly number[]; text: string };

  /**
   * y of the shape of x. Training normalises by the batch and moves the running statistics. A residual is
   * added and an activation applied in the same pass.
   */
  override forward(x: Tensor, then: NormThen = {}): Tensor {
    const { ranks, text } = this.inputRanks();
    if (!ranks.includes(x.ndim) || x.shape[1] !== this.numFeatures) {
      throw new TypeError(
        `Cannot ${this.constructor.name} [${x.shape.join(", ")}]: it must be ${text} with C = ` +
          this.numFeatures,
      );
    }
    return this.normalise(x, then);
  }

  /** The normalisation of a checked input. */
  protected normalise(x: Tensor, then: NormThen): Tensor {
    return batchNorm(x, {
      ...then,
      weight: this.weight ?? undefined,
      bias: this.bias ?? undefined,
      runningMean: this.running_mean,
      runningVar: this.running_var,
      numBatchesTracked: this.num_batches_tracked,
      training: this.training,
      momentum: this.momentum,
      eps: this.eps,
    });
  }

  override extraRepr(): string {
    const { numFeatures, eps, momentum, weight, trackRunningStats } = this;
    return `${numFeatures}, eps=${pythonFloat(eps)}, momentum=${momentum ?? "None"}, ` +
      `affine=${pythonBool(weight !== null)}, track_running_stats=${pythonBool(trackRunningStats)}`;
  }
}

/**
 * Batch normalisation of x [N, C] or [N, C, L].
 *
 * While training each channel is normalised by its mean and biased variance in the batch, and the
 * running statistics move towards the mean and the unbiased variance; evaluation uses those.
 * Source: Ioffe and Szegedy, "Batch normalization", https://arxiv.org/abs/1502.03167, as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
 */
export class BatchNorm1d extends BatchNorm {
  protected override inputRanks(): { ranks: readonly number[]; text: string } {
    return { ranks: [2, 3], text: "[N, C] or [N, C, L]" };
  }
}

/**
 * Batch normalisation of x [N, C, H, W]; otherwise as {@linkcode BatchNorm1d}.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const norm = new nn.BatchNorm2d(3);
 * console.log(norm.forward(randn([2, 3, 4, 4])).shape); // [2, 3, 4, 4]
 * ```
 */
export class BatchNorm2d extends BatchNorm {
  protected override inputRanks(): { ranks: readonly number[]; text: string } {
    return { ranks: [4], text: "[N, C, H, W]" };
  }
}

/** Batch normalisation of x [N, C, D, H, W]; otherwise as {@linkcode BatchNorm1d}. */
export class BatchNorm3d extends BatchNorm {
  protected override inputRanks(): { ranks: readonly number[]; text: string } {
    return { ranks: [5], text: "[N, C, D, H, W]" };
  }
}

/** Options of {@linkcode SplitBatchNorm2d}. */
export interface SplitBatchNormOptions extends BatchNormOptions {
  /** Parts of a batch that are normalised apart; the batch must divide into them. */
  numSplits: number;
}

/**
 * Batch normalisation whose training batches are cut into parts with statistics of their own, as if
 * each part were on a device of its own: sample n belongs to part n mod numSplits. The running
 * statistics become the mean of what each part makes of them. Evaluation is {@linkcode BatchNorm2d}'s.
 *
 * Unlike the source, the count of batches rises, so that momentum null works.
 * Source: https://github.com/davidcpage/cifar10-fast/blob/master/torch_backend.py
 */
export class SplitBatchNorm2d extends BatchNorm2d {
  /** Parts of a batch. */
  readonly numSplits: number;

  /** @throws {RangeError} If an option is out of range. */
  constructor(numFeatures: number, options: SplitBatchNormOptions) {
    checkOptions("make SplitBatchNorm2d", options, "new nn.SplitBatchNorm2d(8, { numSplits: 2 })");
    super(numFeatures, options);
    checkSizes("SplitBatchNorm2d", { numSplits: options.numSplits });
    this.numSplits = options.numSplits;
  }

  protected override normalise(x: Tensor, then: NormThen): Tensor {
    const { numSplits, numFeatures } = this;
    if (!this.training && this.trackRunningStats) return super.normalise(x, then);
    const [N, C, H, W] = x.shape as [number, number, number, number];
    if (N % numSplits !== 0) {
      throw new TypeError(
        `Cannot SplitBatchNorm2d a batch of ${N} in ${numSplits} parts: they must divide it`,
      );
    }
    const repeated = (t: Tensor) => t.expand([numSplits, numFeatures]).reshape(-1);
    const [mean, variance] = [this.running_mean, this.running_var].map((t) =>
      t && noGrad(() => repeated(t).clone())
    );
    const inParts = (t: Tensor) => t.reshape(N / numSplits, numSplits * C, H, W);
    const y = batchNorm(inParts(x), {
      residual: then.residual && inParts(then.residual),
      activation: then.activation,
      weight: this.weight ? repeated(this.weight) : undefined,
      bias: this.bias ? repeated(this.bias) : undefined,
      runningMean: mean,
      runningVar: variance,
      numBatchesTracked: this.num_batches_tracked,
      training: true,
      momentum: this.momentum,
      eps: this.eps,
    });
    noGrad(() => {
      this.running_mean?.copy_(mean!.reshape(numSplits, C).mean(0));
      this.running_var?.copy_(variance!.reshape(numSplits, C).mean(0));
    });
    return y.reshape(x.shape);
  }
}

/** Options of {@linkcode LayerNorm}. */
export interface LayerNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Whether to learn a factor for each element. Default true. */
  elementwiseAffine?: boolean;
  /** Whether to learn a shift for each element, too. Default true. */
  bias?: boolean;
}

/**
 * Normalisation over the last dimensions together: x [..., ...normalizedShape].
 *
 * Source: Ba, Kiros and Hinton, "Layer normalization", https://arxiv.org/abs/1607.06450
 */
export class LayerNorm extends Module {
  /** Sizes of the dimensions normalised together. */
  readonly normalizedShape: readonly number[];
  /** Added to the variance. */
  readonly eps: number;
  /** Factor of each element, normalizedShape; starts at 1. */
  weight: Parameter | null;
  /** Shift of each element, normalizedShape; starts at 0. */
  bias: Parameter | null;

  /** @throws {RangeError} If an option is out of range. */
  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    checkOptions("make LayerNorm", options, "new nn.LayerNorm(8, { eps: 1e-5 })");
    super();
    const { eps = 1e-5, elementwiseAffine = true, bias = true } = options;
    this.normalizedShape = shapeList("LayerNorm", normalizedShape);
    checkEps("LayerNorm", eps);
    this.eps = eps;
    this.weight = elementwiseAffine ? new Parameter(ones(this.normalizedShape)) : null;
    this.bias = elementwiseAffine && bias ? new Parameter(zeros(this.normalizedShape)) : null;
  }

  /** y of the shape of x. */
  override forward(x: Tensor): Tensor {
    checkTrailing("LayerNorm", x, this.normalizedShape);
    return layerNorm(x, {
      dims: this.normalizedShape.length,
      weight: this.weight ?? undefined,
      bias: this.bias ?? undefined,
      eps: this.eps,
    });
  }
  override extraRepr(): string {
    return `${pythonSize(this.normalizedShape)}, eps=${pythonFloat(this.eps)}, ` +
      `elementwise_affine=${pythonBool(this.weight !== null)}`;
  }
}

/** Options of {@linkcode GroupNorm}. */
export interface GroupNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Whether to learn a factor and a shift for each channel. Default true. */
  affine?: boolean;
}

/**
 * Normalisation of each of numGroups groups of channels of each sample: x [N, C, …].
 *
 * Source: Wu and He, "Group normalization", https://arxiv.org/abs/1803.08494
 */
export class GroupNorm extends Module {
  /** Groups the channels are cut into. */
  readonly numGroups: number;
  /** Channels. */
  readonly numChannels: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Factor of each channel [C]; starts at 1. */
  weight: Parameter | null;
  /** Shift of each channel [C]; starts at 0. */
  bias: Parameter | null;

  /** @throws {RangeError} If an option is out of range, or the groups do not divide the channels. */
  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    checkOptions("make GroupNorm", options, "new nn.GroupNorm(4, 8, { eps: 1e-5 })");
    super();
    const { eps = 1e-5, affine = true } = options;
    checkSizes("GroupNorm", { numGroups, numChannels });
    checkEps("GroupNorm", eps);
    if (numChannels % numGroups !== 0) {
      throw new RangeError(
        `Cannot make GroupNorm with ${numChannels} channels in ${numGroups} groups: groups must ` +
          "divide channels",
      );
    }
    this.numGroups = numGroups;
    this.numChannels = numChannels;
    this.eps = eps;
    this.weight = affine ? new Parameter(ones([numChannels])) : null;
    this.bias = affine ? new Parameter(zeros([numChannels])) : null;
  }

  /** y of the shape of x. */
  override forward(x: Tensor): Tensor {
    const [weight, bias] = [this.weight ?? undefined, this.bias ?? undefined];
    return groupNorm(x, this.numGroups, { weight, bias, eps: this.eps });
  }
  override extraRepr(): string {
    return `${this.numGroups}, ${this.numChannels}, eps=${pythonFloat(this.eps)}, ` +
      `affine=${pythonBool(this.weight !== null)}`;
  }
}

/**
 * Normalisation of each channel of each sample, whatever number of dimensions its places have. Without running
 * statistics, as PyTorch's default.
 */
abstract class InstanceNorm extends Module {
  /** Dimensions of a batch. */
  readonly #ndim: number;
  /** Channels. */
  readonly numFeatures: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Factor of each channel [C]; starts at 1. */
  weight: Parameter | null;
  /** Shift of each channel [C]; starts at 0. */
  bias: Parameter | null;

  constructor(ndim: number, numFeatures: number, options: GroupNormOptions) {
    super();
    const { name } = this.constructor;
    checkOptions(`make ${name}`, options, `new nn.${name}(8, { eps: 1e-5 })`);
    const { eps = 1e-5, affine = false } = options;
    checkSizes(name, { numFeatures });
    checkEps(name, eps);
    this.#ndim = ndim;
    this.numFeatures = numFeatures;
    this.eps = eps;
    this.weight = affine ? new Parameter(ones([numFeatures])) : null;
    this.bias = affine ? new Parameter(zeros([numFeatures])) : null;
  }

  /** y of the shape of x. */
  override forward(x: Tensor): Tensor {
    const ndim = this.#ndim;
    if (![ndim - 1, ndim].includes(x.ndim) || x.shape.at(1 - ndim) !== this.numFeatures) {
      const sample = ["C, L", "C, H, W", "C, D, H, W"][ndim - 3];
      throw new TypeError(
        `Cannot ${this.constructor.name} [${x.shape.join(", ")}]: it must be [N, ${sample}] or ` +
          `[${sample}] with C = ${this.numFeatures}`,
      );
    }
    const [weight, bias] = [this.weight ?? undefined, this.bias ?? undefined];
    return asBatch(x, ndim, (batch) => instanceNorm(batch, { weight, bias, eps: this.eps }));
  }
  override extraRepr(): string {
    return `${this.numFeatures}, eps=${pythonFloat(this.eps)}, momentum=0.1, ` +
      `affine=${pythonBool(this.weight !== null)}, track_running_stats=False`;
  }
}

/**
 * Normalisation of each channel of each sample: x [N, C, L] or [C, L]. Without running statistics, as PyTorch's
 * default.
 *
 * Source: Ulyanov et al., "Instance normalization", https://arxiv.org/abs/1607.08022
 */
export class InstanceNorm1d extends InstanceNorm {
  /**
   * @param options `affine` is false by default.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(numFeatures: number, options: GroupNormOptions = {}) {
    super(3, numFeatures, options);
  }
}

/**
 * Normalisation of each channel of each sample: x [N, C, H, W] or [C, H, W]. Without running statistics, as
 * PyTorch's default.
 *
 * Source: Ulyanov et al., "Instance normalization", https://arxiv.org/abs/1607.08022
 */
export class InstanceNorm2d extends InstanceNorm {
  /**
   * @param options `affine` is false by default.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(numFeatures: number, options: GroupNormOptions = {}) {
    super(4, numFeatures, options);
  }
}

/**
 * Normalisation of each channel of each sample: x [N, C, D, H, W] or [C, D, H, W]. Without running statistics, as
 * PyTorch's default.
 *
 * Source: Ulyanov et al., "Instance normalization", https://arxiv.org/abs/1607.08022
 */
export class InstanceNorm3d extends InstanceNorm {
  /**
   * @param options `affine` is false by default.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(numFeatures: number, options: GroupNormOptions = {}) {
    super(5, numFeatures, options);
  }
}

/**
 * x / √(mean of x² + eps) · weight over the last dimensions together: x [..., ...normalizedShape].
 *
 * Source: Zhang and Sennrich, "Root mean square layer normalization", https://arxiv.org/abs/1910.07467
 */
export class RMSNorm extends Module {
  /** Sizes of the dimensions normalised together. */
  readonly normalizedShape: readonly number[];
  /** Added to the mean square; f32's epsilon 2^-23 if absent. */
  readonly eps?: number;
  /** Factor of each element, normalizedShape; starts at 1. */
  weight: Parameter | null;

  /** @throws {RangeError} If an option is out of range. */
  constructor(
    normalizedShape: number | readonly number[],
    options: { eps?: number; elementwiseAffine?: boolean } = {},
  ) {
    checkOptions("make RMSNorm", options, "new nn.RMSNorm(8, { eps: 1e-5 })");
    super();
    this.normalizedShape = shapeList("RMSNorm", normalizedShape);
    if (options.eps !== undefined) checkEps("RMSNorm", options.eps);
    this.eps = options.eps;
    this.weight = options.elementwiseAffine ?? true
      ? new Parameter(ones(this.normalizedShape))
      : null;
  }

  /** y of the shape of x. */
  override forward(x: Tensor): Tensor {
    checkTrailing("RMSNorm", x, this.normalizedShape);
    const dims = this.normalizedShape.length;
    return rmsNorm(x, { dims, weight: this.weight ?? undefined, eps: this.eps });
  }
  override extraRepr(): string {
    const eps = this.eps === undefined ? "None" : pythonFloat(this.eps);
    return `${pythonSize(this.normalizedShape)}, eps=${eps}, ` +
      `elementwise_affine=${pythonBool(this.weight !== null)}`;
  }
}

function shapeList(layer: string, shape: number | readonly number[]): readonly number[] {
  const list = typeof shape === "number" ? [shape] : [...shape];
  checkSizes(layer, { "a shape of rank": list.length });
  checkSizes(layer, Object.fromEntries(list.map((s, d) => [`normalizedShape[${d}]`, s])));
  return list;
}

function checkEps(layer: string, eps: number): void {
  if (!(eps >= 0)) {
    throw new RangeError(`Cannot make ${layer} with eps ${eps}: it must be at least 0`);
  }
}

function checkTrailing(layer: string, x: Tensor, shape: readonly number[]): void {
  const trailing = x.shape.slice(-shape.length);
  if (trailing.length === shape.length && shape.every((s, d) => s === trailing[d])) return;
  throw new TypeError(
    `Cannot ${layer} [${x.shape.join(", ")}]: its last sizes must be [${shape.join(", ")}]`,
  );
}
