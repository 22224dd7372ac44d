/** @file Captions for images: a residual net and an LSTM. */

import { cat, noGrad, type Tensor } from "../../engine/mod.ts";
import { BatchNorm1d, Embedding, Linear, LSTM } from "../layers/mod.ts";
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
  /** Depth of the residual net. Default 50. */
  encoder?: 18 | 34 | 50;
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
  /** The residual net without its classifier. */
  resnet: ResNet;
  /** Features to the words' space. */
  fc: Linear;
  /** Over the batch. */
  batch_norm: BatchNorm1d;
  readonly #freezeStatistics: boolean;

  /** @param options As for {@linkcode captioner}. */
  constructor(options: CaptionerOptions) {
    super();
    const { embedDim = 256, encoder = 50, freezeStatistics = true } = options;
    const make = { 18: resnet18, 34: resnet34, 50: resnet50 }[encoder];
    if (!make) {
      throw new RangeError(`Cannot encode with ResNet-${encoder}: it must be 18, 34 or 50`);
    }
    this.#freezeStatistics = freezeStatistics;
    this.resnet = make({ numClasses: 0 });
    this.fc = new Linear(encoder === 50 ? 2048 : 512, embedDim);
    this.batch_norm = new BatchNorm1d(embedDim, { momentum: 0.01 });
  }

  /** What the residual net sees: images [N, 3, H, W] → [N, 512 or 2048], without gradients. */
  features(images: Tensor): Tensor {
    if (this.#freezeStatistics) this.resnet.eval();
    return noGrad(() => this.resnet.features(images)).detach();
  }

  /** images [N, 3, H, W], or features that were kept [N, F] → [N, embedDim] */
  override forward(x: Tensor): Tensor {
    const features = x.ndim === 2 ? x : this.features(x);
    return this.batch_norm.forward(this.fc.forward(features));
  }
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
    const { vocabSize, embedDim = 256, hiddenDim = 512, numLayers = 1 } = options;
    this.embedding = new Embedding(vocabSize, embedDim);
    this.lstm = new LSTM(embedDim, hiddenDim, { numLayers, batchFirst: true });
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
