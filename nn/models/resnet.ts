/** @file Residual networks, layer by layer as in torchvision. */

import { checkOptions } from "../../engine/arguments.ts";
import { noGrad, type Tensor } from "../../engine/mod.ts";
import { kaimingNormal } from "../init.ts";
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Identity,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../layers/mod.ts";
import { then } from "../layers/_epilogue.ts";
import { type Layer, Module } from "../module.ts";
import type { Parameter } from "../parameter.ts";

/** Makes the normalisation after a convolution of so many channels. */
export type NormLayer = (channels: number) => Layer;

/** Options of {@linkcode resnet18}, {@linkcode resnet34} and {@linkcode resnet50}. */
export interface ResNetOptions {
  /** Classes told apart; 0 leaves the classifier out, so that `forward` gives features. Default 1000. */
  numClasses?: number;
  /** Channels of an image. Default 3. */
  inChannels?: number;
  /** Normalisation after each convolution. Default: `BatchNorm2d`. */
  norm?: NormLayer;
  /** Whether each block starts as its shortcut, by a last factor of 0. Default false. */
  zeroInitResidual?: boolean;
}

/** What a block is made with. */
interface BlockOptions {
  readonly inChannels: number;
  readonly channels: number;
  readonly stride: number;
  readonly norm: NormLayer;
}

function conv(inside: number, outside: number, kernelSize: 1 | 3, stride = 1): Conv2d {
  const padding = (kernelSize - 1) / 2;
  const layer = new Conv2d(inside, outside, { kernelSize, stride, padding, bias: false });
  kaimingNormal(layer.weight, { mode: "fanOut", nonlinearity: "relu" });
  return layer;
}

/** The shortcut's projection where sizes change. */
function shortcut(o: BlockOptions, outChannels: number): Sequential | null {
  if (o.stride === 1 && o.inChannels === outChannels) return null;
  return new Sequential(conv(o.inChannels, outChannels, 1, o.stride), o.norm(outChannels));
}

/** y = relu(x + two convolutions of x): x [N, inChannels, H, W] → y [N, channels, OH, OW]. */
export class BasicBlock extends Module {
  /** Channels of the output, over `channels`. */
  static readonly expansion = 1;
  /** First convolution, with the stride. */
  conv1: Conv2d;
  /** Its normalisation. */
  bn1: Layer;
  /** The activation. */
  relu: ReLU;
  /** Second convolution. */
  conv2: Conv2d;
  /** Its normalisation. */
  bn2: Layer;
  /** The shortcut where sizes change. */
  downsample: Sequential | null;

  /** @param options Channels, stride and normalisation. */
  constructor(options: BlockOptions) {
    super();
    const { inChannels, channels, stride, norm } = options;
    this.conv1 = conv(inChannels, channels, 3, stride);
    this.bn1 = norm(channels);
    this.relu = new ReLU();
    this.conv2 = conv(channels, channels, 3);
    this.bn2 = norm(channels);
    this.downsample = shortcut(options, channels);
  }

  /** x [N, inChannels, H, W] → y [N, channels, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { relu } = this;
    const hidden = then(this.bn1, this.conv1.forward(x), { next: relu });
    const residual = () => this.downsample?.forward(x) ?? x;
    return then(this.bn2, this.conv2.forward(hidden), { residual, next: relu });
  }
}

/** y = relu(x + three convolutions of x): x [N, inChannels, H, W] → y [N, 4 · channels, OH, OW]. */
export class Bottleneck extends Module {
  /** Channels of the output, over `channels`. */
  static readonly expansion = 4;
  /** Convolution of single positions to `channels`. */
  conv1: Conv2d;
  /** Its normalisation. */
  bn1: Layer;
  /** Convolution of 3 x 3, with the stride. */
  conv2: Conv2d;
  /** Its normalisation. */
  bn2: Layer;
  /** Convolution of single positions to 4 · channels. */
  conv3: Conv2d;
  /** Its normalisation. */
  bn3: Layer;
  /** The activation. */
  relu: ReLU;
  /** The shortcut where sizes change. */
  downsample: Sequential | null;

  /** @param options Channels, stride and normalisation. */
  constructor(options: BlockOptions) {
    super();
    const { inChannels, channels, stride, norm } = options;
    this.conv1 = conv(inChannels, channels, 1);
    this.bn1 = norm(channels);
    this.conv2 = conv(channels, channels, 3, stride);
    this.bn2 = norm(channels);
    this.conv3 = conv(channels, 4 * channels, 1);
    this.bn3 = norm(4 * channels);
    this.relu = new ReLU();
    this.downsample = shortcut(options, 4 * channels);
  }

  /** x [N, inChannels, H, W] → y [N, 4 · channels, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { relu } = this;
    const first = then(this.bn1, this.conv1.forward(x), { next: relu });
    const second = then(this.bn2, this.conv2.forward(first), { next: relu });
    const residual = () => this.downsample?.forward(x) ?? x;
    return then(this.bn3, this.conv3.forward(second), { residual, next: relu });
  }
}

/**
 * A residual network: x [N, inChannels, H, W] → logits [N, numClasses]. The features are 32 times
 * smaller than the image.
 *
 * Source: He et al., "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385,
 * in torchvision's layout (the stride of a bottleneck is in its 3 x 3 convolution), whose parameter
 * names and start it has.
 */
export class ResNet extends Module {
  /** First convolution, 7 x 7 with stride 2. */
  conv1: Conv2d;
  /** Its normalisation. */
  bn1: Layer;
  /** The activation. */
  relu: ReLU;
  /** Max pooling with stride 2. */
  maxpool: MaxPool2d;
  /** Blocks of 64 channels. */
  layer1: Sequential;
  /** Blocks of 128 channels, half the size. */
  layer2: Sequential;
  /** Blocks of 256 channels, a quarter of the size. */
  layer3: Sequential;
  /** Blocks of 512 channels, an eighth of the size. */
  layer4: Sequential;
  /** Mean over all positions. */
  avgpool: AdaptiveAvgPool2d;
  /** Features to logits; `Identity` without classes. */
  fc: Linear | Identity;

  /**
   * @param block Kind of the blocks.
   * @param counts Blocks in each of the four layers.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(
    block: typeof BasicBlock | typeof Bottleneck,
    counts: readonly [number, number, number, number],
    options: ResNetOptions = {},
  ) {
    checkOptions("make ResNet", options, "resnet18({ numClasses: 10 })");
    super();
    const { numClasses = 1000, inChannels = 3, zeroInitResidual = false } = options;
    const norm = options.norm ?? ((channels) => new BatchNorm2d(channels));
    this.conv1 = new Conv2d(inChannels, 64, {
      kernelSize: 7,
      stride: 2,
      padding: 3,
      bias: false,
    });
    kaimingNormal(this.conv1.weight, { mode: "fanOut", nonlinearity: "relu" });
    this.bn1 = norm(64);
    this.relu = new ReLU();
    this.maxpool = new MaxPool2d(3, { stride: 2, padding: 1 });
    let inside = 64;
    const layer = (channels: number, count: number, first: number) => {
      const blocks = Array.from({ length: count }, (_, i) => {
        const stride = i === 0 ? first : 1;
        const made = new block({ inChannels: inside, channels, stride, norm });
        inside = channels * block.expansion;
        return made;
      });
      return new Sequential(...blocks);
    };
    this.layer1 = layer(64, counts[0], 1);
    this.layer2 = layer(128, counts[1], 2);
    this.layer3 = layer(256, counts[2], 2);
    this.layer4 = layer(512, counts[3], 2);
    this.avgpool = new AdaptiveAvgPool2d([1, 1]);
    this.fc = numClasses === 0 ? new Identity() : new Linear(inside, numClasses);
    if (zeroInitResidual) this.#zeroResiduals();
  }

  #zeroResiduals(): void {
    for (const module of this.modules()) {
      if (!(module instanceof BasicBlock || module instanceof Bottleneck)) continue;
      const last = module instanceof Bottleneck ? module.bn3 : module.bn2;
      const { weight } = last as { weight?: Parameter | null };
      if (weight) noGrad(() => weight.zero_());
    }
  }

  /** x [N, inChannels, H, W] → logits [N, numClasses] */
  override forward(x: Tensor): Tensor {
    return this.fc.forward(this.features(x));
  }

  /** What the last layer sees: x [N, inChannels, H, W] → [N, 512] or, of bottlenecks, [N, 2048] */
  features(x: Tensor): Tensor {
    let y = this.maxpool.forward(then(this.bn1, this.conv1.forward(x), { next: this.relu }));
    for (const layer of [this.layer1, this.layer2, this.layer3, this.layer4]) y = layer.forward(y);
    return this.avgpool.forward(y).flatten(1);
  }
}

/**
 * A {@linkcode ResNet} of 18 layers: 11,689,512 parameters by default.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const model = nn.models.resnet18({ numClasses: 10 });
 * console.log(model.forward(randn([2, 3, 32, 32])).shape); // [2, 10]
 * ```
 */
export function resnet18(options: ResNetOptions = {}): ResNet {
  return new ResNet(BasicBlock, [2, 2, 2, 2], options);
}

/** A {@linkcode ResNet} of 34 layers: 21,797,672 parameters by default. */
export function resnet34(options: ResNetOptions = {}): ResNet {
  return new ResNet(BasicBlock, [3, 4, 6, 3], options);
}

/** A {@linkcode ResNet} of 50 layers: 25,557,032 parameters by default. */
export function resnet50(options: ResNetOptions = {}): ResNet {
  return new ResNet(Bottleneck, [3, 4, 6, 3], options);
}
