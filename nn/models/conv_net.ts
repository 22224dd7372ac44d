/** @file The small convolutional net of the MoCo experiment. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../layers/mod.ts";
import { Module } from "../module.ts";
import type { NormLayer } from "./resnet.ts";

/** Options of {@linkcode convNet}. */
export interface ConvNetOptions {
  /** Channels of an image. Default 3. */
  inChannels?: number;
  /** Channels of the three blocks. Default 32, 64, 128. */
  channels?: readonly number[];
  /** Probability of a zero after each block. Default 0.3. */
  dropout?: number;
  /** Side of the square images, which gives the size of the features. Default 32. */
  imageSize?: number;
  /** Features of the linear layer at the end. Default: as many as it gets (512 for 32 x 32 images). */
  outFeatures?: number;
  /** Normalisation after each convolution. Default: `BatchNorm2d`. */
  norm?: NormLayer;
}

/**
 * Blocks of 3 x 3 convolution without padding or bias, batch norm, ReLU, dropout and 2 x 2 max pooling,
 * then a linear layer: x [N, inChannels, S, S] → features [N, outFeatures].
 *
 * 3 x 32 x 32 images give 128 x 2 x 2 = 512 features; parameters 864, 64, 18,432, 128, 73,728, 256 and
 * 262,656.
 */
export class ConvNet extends Module {
  /** The blocks, one after the other. */
  conv: Sequential;
  /** [N, C, H, W] → [N, C · H · W] */
  flat = new Flatten();
  /** The linear layer. */
  fc: Linear;

  /** @throws {RangeError} If the images are too small for the blocks. */
  constructor(options: ConvNetOptions = {}) {
    checkOptions("make ConvNet", options, "convNet({ outFeatures: 10 })");
    super();
    const { inChannels = 3, channels = [32, 64, 128], dropout = 0.3, imageSize = 32 } = options;
    const norm = options.norm ?? ((c: number) => new BatchNorm2d(c));
    const layers: Module[] = [];
    let [before, side] = [inChannels, imageSize];
    for (const c of channels) {
      layers.push(
        new Conv2d(before, c, { kernelSize: 3, bias: false }),
        norm(c),
        new ReLU(),
        new Dropout(dropout),
        new MaxPool2d(2),
      );
      [before, side] = [c, Math.floor((side - 2) / 2)];
    }
    if (side < 1) {
      throw new RangeError(
        `Cannot make ConvNet for images of ${imageSize} x ${imageSize}: ${channels.length} blocks leave nothing`,
      );
    }
    this.conv = new Sequential(...layers as ConstructorParameters<typeof Sequential>);
    const features = before * side * side;
    this.fc = new Linear(features, options.outFeatures ?? features);
  }

  /** x [N, inChannels, S, S] → [N, outFeatures] */
  override forward(x: Tensor): Tensor {
    return this.fc.forward(this.flat.forward(this.conv.forward(x)));
  }
}

/** A new {@linkcode ConvNet}. */
export function convNet(options: ConvNetOptions = {}): ConvNet {
  return new ConvNet(options);
}
