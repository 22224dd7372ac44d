/** @file Data of the letters experiment: bytes on the host, images on the GPU. */

import { nn, noGrad, type Tensor, tensor } from "../mod.ts";
import type { LabeledImages } from "../nn/data/mod.ts";
import { writeLetters } from "./synth/letters.ts";

const { data, vision } = nn;

/** Mean and deviation that the notebook normalises with (EMNIST's own). */
const MEAN = [0.17222732305526733];
const STD = [0.3309466242790222];

/** A batch on the host: grey bytes, and class ids. */
export interface LetterBatch {
  /** [B, H, W], 0 paper to 255 ink. */
  readonly images: Uint8Array<ArrayBuffer>;
  readonly labels: Int32Array<ArrayBuffer>;
  readonly count: number;
}

/** Training, validation and test letters. */
export interface LetterSets {
  readonly train: nn.data.Dataset<number>;
  readonly val: nn.data.Dataset<number>;
  readonly test: nn.data.Dataset<number>;
  /** What the indices of train and val point into. */
  readonly trainImages: LabeledImages;
  readonly testImages: LabeledImages;
}

/** Where letters come from. */
export interface LetterSource {
  /** Folder of idx files; absent: the built-in letters. */
  readonly dir?: string;
  /** Folder the built-in letters are kept in. */
  readonly cache: string;
  /** Built-in letters drawn for training and validation, and for the test. */
  readonly letters: number;
  readonly testLetters: number;
  /** Share of the training files that is trained on; the rest validates. */
  readonly split: number;
  readonly seed: number;
  /** Crops each letter to its ink and scales it to 24 of 28 pixels, as EMNIST's own files are. */
  readonly fitInk: boolean;
}

/** Reads the letters, drawing the built-in ones first if need be. */
export async function loadLetters(
  source: LetterSource,
  say: (line: string) => void,
): Promise<LetterSets> {
  let { dir } = source;
  if (dir === undefined) {
    const { letters, testLetters, seed } = source;
    dir = `${source.cache}/letters-${letters}-${testLetters}-${seed}`;
    const drawn = await writeLetters(dir, { train: letters, test: testLetters, seed });
    if (drawn) say(`Drew ${letters + testLetters} letters into ${dir}`);
  }
  const prepare = source.fitInk ? fitInk : (images: LabeledImages) => images;
  const trainImages = prepare(await data.readEmnistLetters(dir, "train"));
  const testImages = prepare(await data.readEmnistLetters(dir, "test"));
  const indices = (count: number) => ({ length: count, get: (i: number) => i });
  const size = Math.floor(source.split * trainImages.count);
  const [train, val] = data.randomSplit(
    indices(trainImages.count),
    [size, trainImages.count - size],
    { seed: source.seed },
  );
  return {
    train: train!,
    val: val!,
    test: indices(testImages.count),
    trainImages,
    testImages,
  };
}

/** Gathers the images at `indices` into one batch. */
export function collate(images: LabeledImages, indices: readonly number[]): LetterBatch {
  const size = images.height * images.width;
  const bytes = new Uint8Array(indices.length * size);
  const labels = new Int32Array(indices.length);
  indices.forEach((index, i) => {
    bytes.set(images.images.subarray(index * size, (index + 1) * size), i * size);
    labels[i] = images.labels[index]!;
  });
  return { images: bytes, labels, count: indices.length };
}

/** Sizes and ranges of the transforms. */
export interface TransformOptions {
  /** Height and width that images are resized to. */
  readonly size: number;
  /** Probability of a mirrored image. */
  readonly flip: number;
  /** Degrees. */
  readonly rotation: number;
  /** Fraction of the side. */
  readonly translate: number;
  readonly scaleMin: number;
  readonly scaleMax: number;
  /** Degrees. */
  readonly shear: number;
}

/** A batch on the GPU: images [B, 1, H, W] in 0..1, of which only bytes travelled, and class ids [B]. */
export function upload(batch: LetterBatch): { images: Tensor; labels: Tensor } {
  const side = Math.sqrt(batch.images.length / Math.max(batch.count, 1));
  return {
    images: vision.toTensor(batch.images, [batch.count, 1, side, side]),
    labels: tensor(batch.labels),
  };
}

/**
 * Images as a network sees them: resized, normalised and, for training, changed at random as the
 * notebook does (flip, rotation, affine), each by its own draw.
 */
export function transform(
  images: Tensor,
  options: TransformOptions & { augment: boolean },
): Tensor {
  return noGrad(() => {
    let x = vision.resize(images, options.size);
    if (options.augment) {
      if (options.flip > 0) x = vision.randomHorizontalFlip(x, { p: options.flip });
      if (options.rotation > 0) x = vision.randomRotation(x, { degrees: options.rotation });
      x = vision.randomAffine(x, {
        translate: [options.translate, options.translate],
        scale: [options.scaleMin, options.scaleMax],
        shear: options.shear,
      });
    }
    return vision.normalize(x, { mean: MEAN, std: STD });
  });
}

/** Grey values that count as ink, and the side a fitted letter fills. */
const INK = 40;
const FITTED = 24;

/**
 * Crops each letter to the square around its ink and scales it (bilinear) to 24 pixels in the middle
 * of 28, as EMNIST made its files from the same NIST forms. Images without ink stay as they are.
 */
export function fitInk(set: LabeledImages): LabeledImages {
  const { width, height, count } = set;
  const size = width * height;
  const images = new Uint8Array(set.images.length);
  for (let n = 0; n < count; n++) {
    const from = set.images.subarray(n * size, (n + 1) * size);
    images.set(fitOne(from, width, height), n * size);
  }
  return { ...set, images };
}

function fitOne(from: Uint8Array, width: number, height: number): Uint8Array {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (from[y * width + x]! <= INK) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  if (right < 0) return from;
  const step = Math.max(right - left + 1, bottom - top + 1) / FITTED;
  const [centreX, centreY] = [(left + right) / 2, (top + bottom) / 2];
  const at = (x: number, y: number) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : from[y * width + x]!;
  const to = new Uint8Array(from.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [sx, sy] = [
        centreX + (x - (width - 1) / 2) * step,
        centreY + (y - (height - 1) / 2) * step,
      ];
      const [ix, iy] = [Math.floor(sx), Math.floor(sy)];
      const [fx, fy] = [sx - ix, sy - iy];
      const upper = at(ix, iy) * (1 - fx) + at(ix + 1, iy) * fx;
      const lower = at(ix, iy + 1) * (1 - fx) + at(ix + 1, iy + 1) * fx;
      to[y * width + x] = Math.round(upper * (1 - fy) + lower * fy);
    }
  }
  return to;
}
