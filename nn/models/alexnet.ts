/** @file AlexNet, layer by layer as in torchvision. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import {
  AdaptiveAvgPool2d,
  Conv2d,
  Dropout,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../layers/mod.ts";
import { Module } from "../module.ts";

/** Options of {@linkcode alexnet}. */
export interface AlexNetOptions {
  /** Classes told apart. Default 1000. */
  numClasses?: number;
  /** Channels of an image. Default 3. */
  inChannels?: number;
  /** Factor of all channels and hidden features, rounded to a multiple of 8. Default 1. */
  width?: number;
  /** Probability of a zero before the first two linear layers. Default 0.5. */
  dropout?: number;
  /** Height and width the features are averaged to. Default 6; 1 suits images of 64 x 64. */
  poolSize?: number;
}

/**
 * AlexNet: five convolutions and three linear layers, x [N, inChannels, H, W] → logits [N, numClasses].
 *
 * Images are at least 63 x 63; the features of 224 x 224 are [256, 6, 6], those of 64 x 64 [256, 1, 1].
 * Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
 * https://arxiv.org/abs/1404.5997, in torchvision's layout, whose parameter names it has.
 */
export class AlexNet extends Module {
  /** Convolutions and max pooling. */
  features: Sequential;
  /** Average pooling to poolSize x poolSize. */
  avgpool: AdaptiveAvgPool2d;
  /** Linear layers with dropout. */
  classifier: Sequential;

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: AlexNetOptions = {}) {
    checkOptions("make AlexNet", options, "alexnet({ numClasses: 10 })");
    super();
    const { numClasses = 1000, inChannels = 3, width = 1, dropout = 0.5, poolSize = 6 } = options;
    if (!(width > 0 && width < Infinity)) {
      throw new RangeError(`Cannot make AlexNet with width ${width}: it must be above 0`);
    }
    const [c1, c2, c3, c4, hidden] = [64, 192, 384, 256, 4096].map((size) =>
      Math.max(8, 8 * Math.round(size * width / 8))
    ) as [number, number, number, number, number];
    this.features = new Sequential(
      new Conv2d(inChannels, c1, { kernelSize: 11, stride: 4, padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(c1, c2, { kernelSize: 5, padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(c2, c3, { kernelSize: 3, padding: 1 }),
      new ReLU(),
      new Conv2d(c3, c4, { kernelSize: 3, padding: 1 }),
      new ReLU(),
      new Conv2d(c4, c4, { kernelSize: 3, padding: 1 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
    );
    this.avgpool = new AdaptiveAvgPool2d([poolSize, poolSize]);
    this.classifier = new Sequential(
      new Dropout(dropout),
      new Linear(c4 * poolSize * poolSize, hidden),
      new ReLU(),
      new Dropout(dropout),
      new Linear(hidden, hidden),
      new ReLU(),
      new Linear(hidden, numClasses),
    );
  }

  /** x [N, inChannels, H, W] → logits [N, numClasses] */
  override forward(x: Tensor): Tensor {
    const pooled = this.avgpool.forward(this.features.forward(x));
    return this.classifier.forward(pooled.flatten(1));
  }
}

/**
 * A new {@linkcode AlexNet}: 61,100,840 parameters by default.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const model = nn.models.alexnet({ numClasses: 26, inChannels: 1, width: 0.25, poolSize: 1 });
 * console.log(model.forward(randn([2, 1, 64, 64])).shape); // [2, 26]
 * ```
 */
export function alexnet(options: AlexNetOptions = {}): AlexNet {
  return new AlexNet(options);
}
