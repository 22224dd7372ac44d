/** @file A small single-shot detector. */

import { checkOptions } from "../../engine/arguments.ts";
import { cat, maxPool2d, type Tensor } from "../../engine/mod.ts";
import { BatchNorm2d, Conv2d, MaxPool2d, ModuleList, ReLU, Sequential } from "../layers/mod.ts";
import { Module } from "../module.ts";
import { multiboxPrior } from "../vision/boxes.ts";

/** Options of {@linkcode toySsd}. */
export interface ToySsdOptions {
  /** Kinds of objects, without the background. Default 1. */
  numClasses?: number;
  /** Channels of an image. Default 3. */
  inChannels?: number;
  /** Channels of the three blocks of the body. Default 16, 32, 64. */
  body?: readonly number[];
  /** Channels of the three blocks between scales. Default 128. */
  channels?: number;
  /**
   * Two sizes of the anchors at each of the five scales, as fractions of the image. Default from 0.2 and
   * 0.272 to 0.88 and 0.961.
   */
  sizes?: readonly (readonly [number, number])[];
}

/** What a {@linkcode ToySsd} gives for images [N, C, H, W] and A anchors. */
export interface SsdOutput {
  /** Corners [1, A, 4] as fractions of the image. */
  readonly anchors: Tensor;
  /** Logits [N, A, numClasses + 1]; class 0 is the background. */
  readonly classes: Tensor;
  /** Offsets [N, 4 · A]. */
  readonly boxes: Tensor;
}

/** Sizes of the anchors at each of the five scales, as fractions of the image. */
const SIZES = [[0.2, 0.272], [0.37, 0.447], [0.54, 0.619], [0.71, 0.79], [0.88, 0.961]] as const;
const RATIOS = [1, 2, 0.5] as const;
/** Anchors a cell: both sizes at the first ratio, and the first size at the others. */
const ANCHORS = 2 + RATIOS.length - 1;
const SCALES = SIZES.length;

/**
 * A single-shot detector with five scales: a body of three blocks, class and box predictors at each scale,
 * blocks that halve the map between scales, and global max pooling before the last.
 *
 * 256 x 256 images with two classes give anchors [1, 5444, 4], classes [N, 5444, 3] and boxes [N, 21776].
 * Source: Liu et al., "SSD: single shot multibox detector", https://arxiv.org/abs/1512.02325, in the
 * small form of MXNet's tutorial.
 */
export class ToySsd extends Module {
  /** Three blocks, each halving the map. */
  body: Sequential;
  /** Three blocks between the first four scales. */
  downsamples: ModuleList;
  /** A class predictor a scale. */
  class_preds: ModuleList;
  /** A box predictor a scale. */
  box_preds: ModuleList;
  readonly #classes: number;
  readonly #sizes: readonly (readonly [number, number])[];

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: ToySsdOptions = {}) {
    checkOptions("make ToySsd", options, "toySsd({ numClasses: 2 })");
    super();
    const { numClasses = 1, inChannels = 3, body = [16, 32, 64], channels = 128 } = options;
    const { sizes = SIZES } = options;
    if (!Number.isInteger(numClasses) || numClasses < 1) {
      throw new RangeError(`Cannot detect ${numClasses} classes: it must be a whole number >= 1`);
    }
    if (sizes.length !== SCALES || sizes.some((pair) => pair.length !== 2)) {
      throw new RangeError(
        `Cannot use anchor sizes [${sizes.join("; ")}]: give a pair for each of ${SCALES} scales`,
      );
    }
    this.#classes = numClasses + 1;
    this.#sizes = sizes;
    const blocks = body.map((c, i) => downSample(body[i - 1] ?? inChannels, c));
    this.body = new Sequential(...blocks);
    const features = body.at(-1)!;
    const inputs = [features, channels, channels, channels, channels];
    this.downsamples = new ModuleList([0, 1, 2].map((i) => downSample(inputs[i]!, channels)));
    const predictor = (c: number, outputs: number) =>
      new Conv2d(c, ANCHORS * outputs, { kernelSize: 3, padding: 1 });
    this.class_preds = new ModuleList(inputs.map((c) => predictor(c, this.#classes)));
    this.box_preds = new ModuleList(inputs.map((c) => predictor(c, 4)));
  }

  /** x [N, inChannels, H, W] → anchors, classes, boxes */
  override forward(x: Tensor): SsdOutput {
    let map = this.body.forward(x);
    const anchors: Tensor[] = [], classes: Tensor[] = [], boxes: Tensor[] = [];
    for (let i = 0; i < SCALES; i++) {
      anchors.push(multiboxPrior(map, { sizes: this.#sizes[i], ratios: RATIOS }));
      classes.push(flatten((this.class_preds.at(i) as Conv2d).forward(map)));
      boxes.push(flatten((this.box_preds.at(i) as Conv2d).forward(map)));
      if (i < 3) map = (this.downsamples.at(i) as Sequential).forward(map);
      else if (i === 3) map = maxPool2d(map, [map.shape[2]!, map.shape[3]!]);
    }
    const logits = cat(classes, 1);
    return {
      anchors: cat(anchors, 1),
      classes: logits.reshape(x.shape[0]!, -1, this.#classes),
      boxes: cat(boxes, 1),
    };
  }
}

/**
 * A block that halves the map: two convolutions with batch norm and ReLU, then 2 x 2 max pooling.
 * x [N, before, H, W] → [N, channels, ⌊H / 2⌋, ⌊W / 2⌋]
 */
export function downSample(before: number, channels: number): Sequential {
  const conv = (c: number) => [
    new Conv2d(c, channels, { kernelSize: 3, padding: 1 }),
    new BatchNorm2d(channels),
    new ReLU(),
  ];
  return new Sequential(...conv(before), ...conv(channels), new MaxPool2d(2));
}

/** [N, C, H, W] → [N, H · W · C]: the predictions of a cell side by side, as its anchors are. */
function flatten(x: Tensor): Tensor {
  return x.permute(0, 2, 3, 1).flatten(1);
}

/** A new {@linkcode ToySsd}. */
export function toySsd(options: ToySsdOptions = {}): ToySsd {
  return new ToySsd(options);
}
