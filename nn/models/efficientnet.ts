/** @file EfficientNet-B0 with TensorFlow's padding, layer by layer as in timm. */

import { checkOptions } from "../../engine/arguments.ts";
import { checkpoint, type Tensor } from "../../engine/mod.ts";
import { constant, normal, uniform } from "../init.ts";
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Conv2dSame,
  Dropout,
  DropPath,
  Linear,
  Sequential,
} from "../layers/mod.ts";
import { mayBeLeftOut, then } from "../layers/_epilogue.ts";
import { Module } from "../module.ts";

/** Options of {@linkcode efficientnetB0}. */
export interface EfficientNetOptions {
  /** Classes told apart. Default 1000. */
  numClasses?: number;
  /** Channels of an image. Default 3. */
  inChannels?: number;
  /** Probability of a zero before the last layer. Default 0. */
  dropRate?: number;
  /** Probability that the last block drops its branch; earlier ones less, evenly. Default 0. */
  dropPathRate?: number;
  /**
   * Whether training keeps only what goes into each block and runs the block again for its gradients:
   * less memory for one more forward pass. Batch statistics then move twice a step. Default false.
   */
  gradCheckpoint?: boolean;
}

/** What a block is made with. */
interface BlockOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: number;
  readonly stride: number;
  readonly dropPath: number;
}

/** eps of TensorFlow's batch normalisation. */
const EPS = 1e-3;
/** Channels of the squeezed features, over those of the block's input. */
const SQUEEZE = 0.25;
/** Channels inside a block, over those of its input. */
const EXPANSION = 6;

/** The activation after most normalisations. */
const SILU = { next: "silu" } as const;

/** Rows of the B0 table: kernel, stride, channels and number of blocks. */
const STAGES = [
  { kernelSize: 3, stride: 1, channels: 16, blocks: 1 },
  { kernelSize: 3, stride: 2, channels: 24, blocks: 2 },
  { kernelSize: 5, stride: 2, channels: 40, blocks: 2 },
  { kernelSize: 3, stride: 2, channels: 80, blocks: 3 },
  { kernelSize: 5, stride: 1, channels: 112, blocks: 3 },
  { kernelSize: 5, stride: 2, channels: 192, blocks: 4 },
  { kernelSize: 3, stride: 1, channels: 320, blocks: 1 },
] as const;

/** A convolution with "SAME" padding, which is symmetric and fixed where the stride is 1. */
function conv(
  inside: number,
  outside: number,
  o: { kernelSize?: number; stride?: number; groups?: number; bias?: boolean } = {},
): Conv2d {
  const { kernelSize = 1, stride = 1, groups = 1, bias = false } = o;
  const options = { kernelSize, stride, groups, bias };
  const layer = stride > 1
    ? new Conv2dSame(inside, outside, options)
    : new Conv2d(inside, outside, { ...options, padding: (kernelSize - 1) / 2 });
  // timm's start: normal with variance 2 / fan-out of a group.
  normal(layer.weight, { std: Math.sqrt(2 * groups / (kernelSize ** 2 * outside)) });
  if (layer.bias) constant(layer.bias, 0);
  return layer;
}

function depthwise(channels: number, { kernelSize, stride }: BlockOptions): Conv2d {
  return conv(channels, channels, { kernelSize, stride, groups: channels });
}

function norm(channels: number): BatchNorm2d {
  return new BatchNorm2d(channels, { eps: EPS });
}

/** norm(x), plus the block's input where there is a shortcut: in one pass where nothing is dropped. */
function branch(
  norm: BatchNorm2d,
  x: Tensor,
  { dropPath, input }: { dropPath: DropPath | null; input: Tensor },
): Tensor {
  if (!dropPath) return norm.forward(x);
  const drops = dropPath.training && dropPath.p > 0;
  return drops || !mayBeLeftOut(dropPath)
    ? dropPath.forward(norm.forward(x)).add(input)
    : then(norm, x, { residual: () => input });
}

/** Each channel times a number from 0 to 1 that all channels' means decide: x [N, C, H, W]. */
export class SqueezeExcite extends Module {
  /** Means to fewer channels. */
  conv_reduce: Conv2d;
  /** And back. */
  conv_expand: Conv2d;

  /** @param channels Channels of x and of the squeezed features. */
  constructor(channels: number, squeezed: number) {
    super();
    this.conv_reduce = conv(channels, squeezed, { bias: true });
    this.conv_expand = conv(squeezed, channels, { bias: true });
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    const means = x.mean([2, 3], { keepdim: true });
    const squeezed = this.conv_reduce.forward(means).silu();
    return x.mul(then(this.conv_expand, squeezed, { next: "sigmoid" }));
  }
}

/** A depthwise convolution, squeeze and excitation, and a convolution of single positions. */
export class DepthwiseSeparableConv extends Module {
  /** Convolution of each channel. */
  conv_dw: Conv2d;
  /** Its normalisation. */
  bn1: BatchNorm2d;
  /** Factors of the channels. */
  se: SqueezeExcite;
  /** Convolution of single positions. */
  conv_pw: Conv2d;
  /** Its normalisation. */
  bn2: BatchNorm2d;
  /** Drops the branch where there is a shortcut. */
  drop_path: DropPath | null;

  /** @param options Channels, kernel, stride and probability of dropping. */
  constructor(options: BlockOptions) {
    super();
    const { inChannels, outChannels } = options;
    this.conv_dw = depthwise(inChannels, options);
    this.bn1 = norm(inChannels);
    this.se = new SqueezeExcite(inChannels, Math.round(inChannels * SQUEEZE));
    this.conv_pw = conv(inChannels, outChannels);
    this.bn2 = norm(outChannels);
    this.drop_path = shortcut(options);
  }
  /** x [N, inChannels, H, W] → y [N, outChannels, OH, OW] */
  override forward(x: Tensor): Tensor {
    const y = this.se.forward(then(this.bn1, this.conv_dw.forward(x), SILU));
    return branch(this.bn2, this.conv_pw.forward(y), { dropPath: this.drop_path, input: x });
  }
}

/** {@linkcode DepthwiseSeparableConv} on six times the channels. */
export class InvertedResidual extends Module {
  /** Convolution of single positions to more channels. */
  conv_pw: Conv2d;
  /** Its normalisation. */
  bn1: BatchNorm2d;
  /** Convolution of each channel. */
  conv_dw: Conv2d;
  /** Its normalisation. */
  bn2: BatchNorm2d;
  /** Factors of the channels. */
  se: SqueezeExcite;
  /** Convolution of single positions, without activation. */
  conv_pwl: Conv2d;
  /** Its normalisation. */
  bn3: BatchNorm2d;
  /** Drops the branch where there is a shortcut. */
  drop_path: DropPath | null;

  /** @param options Channels, kernel, stride and probability of dropping. */
  constructor(options: BlockOptions) {
    super();
    const { inChannels, outChannels } = options;
    const channels = inChannels * EXPANSION;
    this.conv_pw = conv(inChannels, channels);
    this.bn1 = norm(channels);
    this.conv_dw = depthwise(channels, options);
    this.bn2 = norm(channels);
    this.se = new SqueezeExcite(channels, Math.round(inChannels * SQUEEZE));
    this.conv_pwl = conv(channels, outChannels);
    this.bn3 = norm(outChannels);
    this.drop_path = shortcut(options);
  }
  /** x [N, inChannels, H, W] → y [N, outChannels, OH, OW] */
  override forward(x: Tensor): Tensor {
    const wide = then(this.bn1, this.conv_pw.forward(x), SILU);
    const y = this.se.forward(then(this.bn2, this.conv_dw.forward(wide), SILU));
    return branch(this.bn3, this.conv_pwl.forward(y), { dropPath: this.drop_path, input: x });
  }
}

/** What drops the branch, where the shapes let a shortcut join it. */
function shortcut({ inChannels, outChannels, stride, dropPath }: BlockOptions): DropPath | null {
  return stride === 1 && inChannels === outChannels ? new DropPath(dropPath) : null;
}

/**
 * EfficientNet-B0: x [N, inChannels, H, W] → logits [N, numClasses]. The features are 32 times smaller
 * than the image.
 *
 * Source: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
 * https://arxiv.org/abs/1905.11946, as timm's `tf_efficientnet_b0`, whose parameter names, start,
 * padding and eps it has.
 */
export class EfficientNet extends Module {
  /** First convolution, with stride 2. */
  conv_stem: Conv2d;
  /** Its normalisation. */
  bn1: BatchNorm2d;
  /** Seven stages of blocks. */
  blocks: Sequential;
  /** Last convolution, of single positions. */
  conv_head: Conv2d;
  /** Its normalisation. */
  bn2: BatchNorm2d;
  /** Mean over all positions. */
  global_pool: AdaptiveAvgPool2d;
  /** Zeros before the last layer. */
  drop: Dropout;
  /** Features to logits. */
  classifier: Linear;
  readonly #gradCheckpoint: boolean;

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: EfficientNetOptions = {}) {
    checkOptions("make EfficientNet", options, "efficientnetB0({ numClasses: 10 })");
    super();
    this.#gradCheckpoint = options.gradCheckpoint ?? false;
    const { numClasses = 1000, inChannels = 3, dropRate = 0, dropPathRate = 0 } = options;
    const total = STAGES.reduce((n, s) => n + s.blocks, 0);
    this.conv_stem = conv(inChannels, 32, { kernelSize: 3, stride: 2 });
    this.bn1 = norm(32);
    let [inside, index] = [32, 0];
    const stages = STAGES.map(({ kernelSize, stride, channels, blocks }, stage) => {
      const list = Array.from({ length: blocks }, (_, i) => {
        const made = {
          inChannels: inside,
          outChannels: channels,
          kernelSize,
          stride: i === 0 ? stride : 1,
          dropPath: dropPathRate * index++ / total,
        };
        inside = channels;
        return stage === 0 ? new DepthwiseSeparableConv(made) : new InvertedResidual(made);
      });
      return new Sequential(...list);
    });
    this.blocks = new Sequential(...stages);
    this.conv_head = conv(inside, 1280);
    this.bn2 = norm(1280);
    this.global_pool = new AdaptiveAvgPool2d([1, 1]);
    this.drop = new Dropout(dropRate);
    this.classifier = new Linear(1280, numClasses);
    const bound = 1 / Math.sqrt(numClasses);
    uniform(this.classifier.weight, { low: -bound, high: bound });
    constant(this.classifier.bias!, 0);
  }

  /** x [N, inChannels, H, W] → logits [N, numClasses] */
  override forward(x: Tensor): Tensor {
    return this.classifier.forward(this.drop.forward(this.features(x)));
  }

  /** What the last layer sees: x [N, inChannels, H, W] → [N, 1280] */
  features(x: Tensor): Tensor {
    const stem = then(this.bn1, this.conv_stem.forward(x), SILU);
    const head = this.conv_head.forward(this.#runBlocks(stem));
    return this.global_pool.forward(then(this.bn2, head, SILU)).flatten(1);
  }

  #runBlocks(x: Tensor): Tensor {
    if (!this.#gradCheckpoint || !this.training) return this.blocks.forward(x);
    for (const stage of this.blocks) {
      for (const block of stage as Sequential) x = checkpoint((t) => block.forward(t!), x);
    }
    return x;
  }
}

/**
 * A new {@linkcode EfficientNet}-B0: 5,288,548 parameters by default.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const model = nn.models.efficientnetB0({ numClasses: 264 });
 * console.log(model.forward(randn([1, 3, 64, 64])).shape); // [1, 264]
 * ```
 */
export function efficientnetB0(options: EfficientNetOptions = {}): EfficientNet {
  return new EfficientNet(options);
}
