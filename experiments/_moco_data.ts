/** @file Data of the moco experiment: CIFAR-10's bytes on the host, views on the GPU. */

import { nn, noGrad, type Tensor } from "../mod.ts";
import type { Cifar10Images } from "../nn/data/mod.ts";
import { writeTextures } from "./synth/textures.ts";

const { data, vision } = nn;

/** Mean and deviation of CIFAR-10, as in the notebook. */
const MEAN = [0.4914, 0.4822, 0.4465];
const STD = [0.2023, 0.1994, 0.2010];
/** Bytes of an image. */
const SIZE = 3 * 32 * 32;

/** Training and test images, and the names of their classes. */
export interface MocoSets {
  readonly train: Cifar10Images;
  readonly test: Cifar10Images;
  readonly classes: readonly string[];
}

/** Where the images come from. */
export interface MocoSource {
  /** Folder of CIFAR-10's binary files; absent: the built-in textures. */
  readonly data?: string;
  /** Folder the built-in images are kept in. */
  readonly cache: string;
  readonly images: number;
  readonly testImages: number;
  readonly seed: number;
}

/** Reads `data_batch_*.bin` and `test_batch.bin`, drawing the built-in ones first if need be. */
export async function loadImages(
  source: MocoSource,
  say: (line: string) => void,
): Promise<MocoSets> {
  let dir = source.data;
  if (dir === undefined) {
    const { images, testImages, seed } = source;
    dir = `${source.cache}/textures-${images}-${testImages}-${seed}`;
    const drawn = await writeTextures(dir, { train: images, test: testImages, seed });
    if (drawn) say(`Drew ${images + testImages} textures into ${dir}`);
  }
  const files: string[] = [];
  for await (const { name } of Deno.readDir(dir)) {
    if (/^data_batch_\d+\.bin$/.test(name)) files.push(name);
  }
  if (files.length === 0) {
    throw new nn.run.RunError(
      `Cannot read ${dir}: it has no data_batch_1.bin; --data is the folder of CIFAR-10's binary files`,
    );
  }
  files.sort((a, b) => parseInt(a.slice(11)) - parseInt(b.slice(11)));
  const parts = await Promise.all(files.map((name) => data.readCifar10(`${dir}/${name}`)));
  return {
    train: joined(parts),
    test: await data.readCifar10(`${dir}/test_batch.bin`),
    classes: await readClasses(`${dir}/batches.meta.txt`),
  };
}

/** The names in `batches.meta.txt`; CIFAR-10's where the file is absent. */
async function readClasses(path: string): Promise<readonly string[]> {
  try {
    const names = (await Deno.readTextFile(path)).split(/\r?\n/).filter((line) => line !== "");
    return names.length === data.CIFAR10_CLASSES.length ? names : data.CIFAR10_CLASSES;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return data.CIFAR10_CLASSES;
    throw error;
  }
}

function joined(parts: readonly Cifar10Images[]): Cifar10Images {
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const images = new Uint8Array(count * SIZE), labels = new Uint8Array(count);
  let at = 0;
  for (const part of parts) {
    images.set(part.images, at * SIZE);
    labels.set(part.labels, at);
    at += part.count;
  }
  return { ...parts[0]!, images, labels, count };
}

/** The bytes of the images at `indices`, one after the other. */
export function gather(set: Cifar10Images, indices: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(indices.length * SIZE);
  indices.forEach((index, i) => {
    bytes.set(set.images.subarray(index * SIZE, (index + 1) * SIZE), i * SIZE);
  });
  return bytes;
}

/** Images on the GPU in 0..1: [B, 3, 32, 32]. */
export function upload(bytes: Uint8Array<ArrayBuffer>): Tensor {
  return vision.toTensor(bytes, [bytes.length / SIZE, 3, 32, 32]);
}

/** Images as the encoder sees them. */
export function normalized(images: Tensor): Tensor {
  return vision.normalize(images, { mean: MEAN, std: STD });
}

/** How a view is drawn. */
export interface ViewOptions {
  readonly cropMin: number;
  readonly rotationMin: number;
  readonly rotationMax: number;
  readonly flip: number;
  readonly blur: number;
  readonly jitter: number;
}

/** A view of each image by its own draw: crop, rotation, blur, colours, as the notebook has them. */
export function view(images: Tensor, options: ViewOptions): Tensor {
  const { cropMin, rotationMin, rotationMax, flip, blur, jitter } = options;
  return noGrad(() => {
    let x = vision.randomResizedCrop(images, { size: 32, scale: [cropMin, 1] });
    if (flip > 0) x = vision.randomHorizontalFlip(x, { p: flip });
    if (rotationMax > rotationMin) {
      x = vision.randomRotation(x, { degrees: [rotationMin, rotationMax] });
    }
    if (blur > 0) x = vision.gaussianBlur(x, { kernelSize: 3, sigma: [0.1, 2], p: blur });
    if (jitter > 0) {
      const factors = { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
      x = vision.colorJitter(x, { ...factors, p: jitter });
    }
    return normalized(x);
  });
}
