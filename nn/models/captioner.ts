/** @file Captions for images: a residual net and an LSTM. */

import { checkOptions } from "../../engine/arguments.ts";
import { cat, noGrad, type Tensor } from "../../engine/mod.ts";
import {
  BatchNorm1d,
  BatchNorm2d,
  Conv2d,
  Embedding,
  Flatten,
  Linear,
  LSTM,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../layers/mod.ts";
import { Module } from "../module.ts";
import { type ResNet, resnet18, resnet34, resnet50 } from "./resnet.ts";

/** Options of {@linkcode captioner}. */
export interface CaptionerOptions {
  /** Words in the vocabulary, special ones included. */
  vocabSize: number;
  /** Length of a word's and an image's vector. Default 256. */
  embedDim?: number;
  /** Features of the LSTM. Default 512. */
  hiddenDim?: number;
  /** Layers of the LSTM. Default 1. */
  numLayers?: number;
  /**
   * Added to the biases of the LSTM's forget gates at the start. With 1 or 2 the gates begin more open, and
   * a gradient reaches words further back (Jozefowicz, Zaremba, Sutskever 2015,
   * https://proceedings.mlr.press/v37/jozefowicz15.html). Default 0, as in PyTorch.
   */
  forgetBias?: number;
  /** Depth of the residual net, or four small blocks that learn from scratch. Default 50. */
  encoder?: 18 | 34 | 50 | "small";
  /** Side of the square images, which gives the size of the small encoder's features. Default 224. */
  imageSize?: number;
  /** Whether the convolutions stay as they are and get no gradient. Default true. */
  frozen?: boolean;
  /**
   * Whether the residual net keeps its running statistics as they are, as frozen weights should. False
   * normalises by each batch in training, and moves the statistics. Default true.
   */
  freezeStatistics?: boolean;
}

/**
 * Images → vectors [N, embedDim]: a residual net that is not trained, then Linear and BatchNorm1d
 * (momentum 0.01), which are.
 */
export class CaptionEncoder extends Module {
  /** The residual net without its classifier; absent with the small encoder. */
  declare resnet?: ResNet;
  /** The small encoder's blocks; absent with a residual net. */
  declare small?: Sequential;
  /** Features to the words' space. */
  fc: Linear;
  /** Over the batch. */
  batch_norm: BatchNorm1d;
  readonly #frozen: boolean;
  readonly #freezeStatistics: boolean;

  /** @param options As for {@linkcode captioner}. */
  constructor(options: CaptionerOptions) {
    super();
    const { embedDim = 256, encoder = 50, imageSize = 224 } = options;
    const { frozen = true, freezeStatistics = true } = options;
    this.#frozen = frozen;
    this.#freezeStatistics = frozen && freezeStatistics;
    let features: number;
    if (encoder === "small") {
      this.small = smallEncoder();
      features = SMALL.at(-1)! * Math.floor(imageSize / 2 ** SMALL.length) ** 2;
      if (features === 0) {
        throw new RangeError(
          `Cannot encode images of ${imageSize} x ${imageSize}: the side must be at least ` +
            2 ** SMALL.length,
        );
      }
    } else {
      const make = { 18: resnet18, 34: resnet34, 50: resnet50 }[encoder];
      if (!make) {
        throw new RangeError(`Cannot encode with ResNet-${encoder}: it must be 18, 34 or 50`);
      }
      this.resnet = make({ numClasses: 0 });
      features = encoder === 50 ? 2048 : 512;
    }
    this.fc = new Linear(features, embedDim);
    this.batch_norm = new BatchNorm1d(embedDim, { momentum: 0.01 });
  }

  /** The convolutions. */
  get net(): ResNet | Sequential {
    return this.resnet ?? this.small!;
  }

  /**
   * What the convolutions make of images [N, 3, H, W]: [N, 512 or 2048], of the small encoder all
   * positions [N, F]. Without gradients if frozen.
   */
  features(images: Tensor): Tensor {
    if (this.#freezeStatistics) this.net.eval();
    const run = () => this.resnet ? this.resnet.features(images) : this.small!.forward(images);
    return this.#frozen ? noGrad(run).detach() : run();
  }

  /** images [N, 3, H, W], or features that were kept [N, F] → [N, embedDim] */
  override forward(x: Tensor): Tensor {
    const features = x.ndim === 2 ? x : this.features(x);
    return this.batch_norm.forward(this.fc.forward(features));
  }
}

/** Channels of the small encoder's blocks, each halving the image. */
const SMALL = [16, 32, 64, 64] as const;

function smallEncoder(): Sequential {
  const blocks = SMALL.map((channels, i) =>
    new Sequential(
      new Conv2d(SMALL[i - 1] ?? 3, channels, { kernelSize: 3, padding: 1, bias: false }),
      new BatchNorm2d(channels),
      new ReLU(),
      new MaxPool2d(2),
    )
  );
  return new Sequential(...blocks, new Flatten());
}

/** Vectors of images and captions → logits of the next words. */
export class CaptionDecoder extends Module {
  /** Words' vectors. */
  embedding: Embedding;
  /** Over the image's vector and the words so far. */
  lstm: LSTM;
  /** Features to logits. */
  fc: Linear;

  /** @param options As for {@linkcode captioner}. */
  constructor(options: CaptionerOptions) {
    super();
    const { vocabSize, embedDim = 256, hiddenDim = 512, numLayers = 1, forgetBias = 0 } = options;
    this.embedding = new Embedding(vocabSize, embedDim);
    this.lstm = new LSTM(embedDim, hiddenDim, { numLayers, batchFirst: true });
    for (const [name, bias] of forgetBias === 0 ? [] : this.lstm.namedParameters()) {
      // Gates are in the order input, forget, cell, output.
      if (name.startsWith("bias_ih")) {
        noGrad(() => bias.narrow(0, hiddenDim, hiddenDim).add_(forgetBias));
      }
    }
    this.fc = new Linear(hiddenDim, vocabSize);
  }

  /**
   * Teacher forcing: vectors [N, embedDim] and word ids [N, T] → logits [N, T, vocabSize]. The image
   * comes first, then all words but the last, so that logits t are for word t.
   */
  override forward(vectors: Tensor, captions: Tensor): Tensor {
    const words = this.embedding.forward(captions.narrow(1, 0, captions.shape[1]! - 1));
    const { output } = this.lstm.forward(cat([vectors.unsqueeze(1), words], 1));
    return this.fc.forward(output);
  }
}

/**
 * Show and tell (Vinyals et al., https://arxiv.org/abs/1411.4555): the image's vector is the first word
 * of an LSTM. 32,140,396 parameters with ResNet-50 and 8,492 words.
 */
export class Captioner extends Module {
  /** Images to vectors. */
  encoder: CaptionEncoder;
  /** Vectors and words to logits. */
  decoder: CaptionDecoder;

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: CaptionerOptions) {
    checkOptions("make Captioner", options, "captioner({ vocabSize: 100 })");
    super();
    this.encoder = new CaptionEncoder(options);
    this.decoder = new CaptionDecoder(options);
  }

  /** images [N, 3, H, W] (or kept features [N, F]) and captions [N, T] → logits [N, T, vocabSize] */
  override forward(images: Tensor, captions: Tensor): Tensor {
    return this.decoder.forward(this.encoder.forward(images), captions);
  }
}

/**
 * A new {@linkcode Captioner}.
 *
 * @example
 * ```ts
 * import { init, nn, randn, zeros } from "../../mod.ts";
 * await init();
 * const model = nn.models.captioner({ vocabSize: 20, encoder: 18 }).eval();
 * const logits = model.forward(randn([2, 3, 64, 64]), zeros([2, 5], { dtype: "i32" }));
 * console.log(logits.shape); // [2, 5, 20]
 * ```
 */
export function captioner(options: CaptionerOptions): Captioner {
  return new Captioner(options);
}
