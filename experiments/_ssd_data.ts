/** @file Data of the detection experiment: pictures and boxes from RecordIO files, batches on the GPU. */

import { cropResize, nn, noGrad, type Tensor, tensor } from "../mod.ts";
import { FormatError } from "../nn/format_error.ts";
import { UsageError } from "./_args.ts";
import { type Crop, type CropOptions, randomCrop, wholeCrop } from "./_ssd_crop.ts";
import { writeScenes } from "./synth/ssd.ts";

const { data, vision } = nn;

/** Means of the red, green and blue bytes of ImageNet, as MXNet's `mean=True` subtracts them. */
export const MEAN = [123.68, 116.28, 103.53] as const;

/** A picture in memory. */
export interface Scene {
  /** RGB, one channel after the other: [3, height, width]. */
  readonly image: Uint8Array<ArrayBuffer>;
  /** Rows [class, xmin, ymin, xmax, ymax] in fractions of the picture. */
  readonly objects: readonly (readonly number[])[];
}

/** Pictures of one size. */
export interface SceneSet {
  readonly scenes: readonly Scene[];
  readonly width: number;
  readonly height: number;
  /** Most objects in a picture, at least 1. */
  readonly mostObjects: number;
}

/** Where scenes come from. */
export interface SceneSource {
  /** Folder of `…train.rec` and `…val.rec`; absent: the built-in scenes. */
  readonly dir?: string;
  /** Folder the built-in scenes are kept in. */
  readonly cache: string;
  readonly scenes: number;
  readonly valScenes: number;
  /** Side of the built-in pictures, and of those that do not have one size. */
  readonly size: number;
  readonly seed: number;
  /** Number of classes that labels may have. */
  readonly classes: number;
}

/** Training and validation scenes; the built-in ones are drawn first if need be. */
export async function loadScenes(
  source: SceneSource,
  say: (line: string) => void,
): Promise<{ train: SceneSet; val: SceneSet }> {
  let { dir } = source;
  if (dir === undefined) {
    const { scenes, valScenes, seed, size, cache } = source;
    dir = `${cache}/ssd-${scenes}-${valScenes}-${size}-${seed}`;
    const drawn = await writeScenes(dir, { train: scenes, val: valScenes, size, seed });
    if (drawn) say(`Drew ${scenes + valScenes} scenes into ${dir}`);
  }
  const [train, val] = [await findRecords(dir, "train"), await findRecords(dir, "val")];
  return { train: await readScenes(train, source), val: await readScenes(val, source) };
}

/** The one `.rec` file of a folder whose name ends with the split's. */
async function findRecords(dir: string, split: string): Promise<string> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir(dir)) {
    if (name.endsWith(`${split}.rec`)) found.push(name);
  }
  if (found.length === 1) return `${dir}/${found[0]}`;
  throw new UsageError(
    `Cannot take the ${split} scenes from ${dir}: it must hold one file whose name ends with ` +
      `${split}.rec, and holds ${found.length}`,
  );
}

/**
 * Reads all pictures of a `.rec` file, in the order of its `.idx` where there is one. Labels are im2rec's:
 * widths of header and object, the rest of the header, then objects of class and box in fractions.
 *
 * @throws {FormatError} A record is damaged or its label is no such list.
 */
export async function readScenes(
  file: string,
  options: { size: number; classes: number },
): Promise<SceneSet> {
  const index = file.replace(/rec$/, "idx");
  const hasIndex = await Deno.stat(index).then(() => true, () => false);
  const { records, keys } = await data.readRecordIo(file, hasIndex ? { index } : {});
  if (records.length === 0) throw new UsageError(`Cannot use ${file}: it holds no record`);
  const read: { picture: nn.data.Picture; objects: number[][] }[] = [];
  for (const [i, record] of records.entries()) {
    const name = `record ${keys[i]} of ${file}`;
    const { label, image } = data.unpackImageRecord(record, { file: name });
    const picture = await data.readImage(image, { channels: 3, file: name });
    read.push({ picture, objects: readObjects(label, { name, classes: options.classes }) });
  }
  const { width, height } = read[0]!.picture;
  const same = read.every(({ picture: p }) => p.width === width && p.height === height);
  const scenes: Scene[] = [];
  for (const { picture, objects } of read) {
    const image = same ? planes(picture) : await resized(picture, options.size);
    scenes.push({ image, objects });
  }
  return {
    scenes,
    width: same ? width : options.size,
    height: same ? height : options.size,
    mostObjects: Math.max(1, ...scenes.map(({ objects }) => objects.length)),
  };
}

/** How far rounding may put a box beyond the picture, which it is then cut to. */
const SLACK = 0.01;

/** Objects of a label, of which a class below 0 ends the list. */
function readObjects(
  label: Float32Array,
  { name, classes }: { name: string; classes: number },
): number[][] {
  const [header = 0, width = 0] = label;
  const fault = (found: string, expected: string) =>
    new FormatError(found, { file: name, offset: 0, expected });
  const whole = Number.isInteger(header) && Number.isInteger(width) && header >= 2 && width >= 5;
  if (!whole || label.length < header || (label.length - header) % width !== 0) {
    throw fault(
      `label of ${label.length} numbers that begins with ${header}, ${width}`,
      "the widths of its header (2 or more) and of an object (5 or more), then those",
    );
  }
  const objects: number[][] = [];
  for (let at = header; at < label.length && !(label[at]! < 0); at += width) {
    const [id, ...box] = label.subarray(at, at + 5);
    if (!Number.isInteger(id) || id! >= classes) {
      throw fault(`object of class ${id}`, `a class from 0 to ${classes - 1} (flag --classes)`);
    }
    const [left, top, right, bottom] = box.map((v) => Math.min(1, Math.max(0, v)));
    const inside = box.every((v) => v >= -SLACK && v <= 1 + SLACK);
    if (!inside || !(left! < right! && top! < bottom!)) {
      throw fault(`box [${box.join(", ")}]`, "xmin < xmax and ymin < ymax from 0 to 1");
    }
    objects.push([id!, left!, top!, right!, bottom!]);
  }
  return objects;
}

/** The channels of an RGB picture one after the other. */
export function planes({ data: rgb, width, height }: nn.data.Picture): Uint8Array<ArrayBuffer> {
  const pixels = width * height, image = new Uint8Array(3 * pixels);
  for (let at = 0; at < pixels; at++) {
    for (let c = 0; c < 3; c++) image[c * pixels + at] = rgb[3 * at + c]!;
  }
  return image;
}

/** The planes of a picture made `size` pixels wide and high. */
async function resized(picture: nn.data.Picture, size: number): Promise<Uint8Array<ArrayBuffer>> {
  using pixels = vision.toTensor(planes(picture), [1, 3, picture.height, picture.width]);
  using small = vision.resize(pixels, [size, size]);
  return Uint8Array.from(await small.data(), (v) => Math.round(255 * v));
}

/** A batch on the host. */
export interface SceneBatch {
  /** [B, 3, H, W] bytes. */
  readonly images: Uint8Array<ArrayBuffer>;
  readonly indices: readonly number[];
}

/** Gathers the pictures at `indices` into one batch. */
export function collate(set: SceneSet, indices: readonly number[]): SceneBatch {
  const size = 3 * set.width * set.height;
  const images = new Uint8Array(indices.length * size);
  indices.forEach((index, i) => images.set(set.scenes[index]!.image, i * size));
  return { images, indices };
}

/** A batch on the GPU. */
export interface SceneTensors {
  /** [B, 3, H, W] from 0 to 1. */
  readonly images: Tensor;
  /** Parts to cut out [B, 4]: top, left, height, width in pixels. */
  readonly crops: Tensor;
  /** 1 for pictures to mirror [B, 1, 1, 1]. */
  readonly flips: Tensor;
  /** Objects [B, L, 5] after both, padded with -1. */
  readonly labels: Tensor;
}

/** How scenes change at random before they are seen. */
export interface AugmentOptions extends CropOptions {
  /** Probability of a crop. */
  readonly crop: number;
  /** Probability of a mirrored picture. */
  readonly flip: number;
}

/**
 * Sends a batch to the GPU, of the pictures only bytes. With `augment`, crops and mirrors are drawn from
 * `random`; the objects move with them.
 */
export function upload(
  set: SceneSet,
  batch: SceneBatch,
  augment?: { options: AugmentOptions; random: nn.data.HostRandom },
): SceneTensors {
  const B = batch.indices.length, L = set.mostObjects;
  const crops = new Float32Array(4 * B), flips = new Float32Array(B);
  const labels = new Float32Array(5 * B * L).fill(-1);
  for (const [i, index] of batch.indices.entries()) {
    const { objects } = set.scenes[index]!;
    let crop: Crop = wholeCrop(set, objects);
    if (augment) {
      const { options, random } = augment;
      if (random.uniform() < options.crop) {
        crop = randomCrop({ ...set, objects }, { ...options, random });
      }
      flips[i] = Number(random.uniform() < options.flip);
    }
    crops.set(crop.box, 4 * i);
    for (const [k, [id, left, top, right, bottom]] of crop.objects.entries()) {
      const sides = flips[i] ? [1 - right!, 1 - left!] : [left!, right!];
      labels.set([id!, sides[0]!, top!, sides[1]!, bottom!], 5 * (i * L + k));
    }
  }
  return {
    images: vision.toTensor(batch.images, [B, 3, set.height, set.width]),
    crops: tensor(crops, { shape: [B, 4] }),
    flips: tensor(flips, { shape: [B, 1, 1, 1] }),
    labels: tensor(labels, { shape: [B, L, 5] }),
  };
}

/** What is done to the pictures on the GPU. */
export interface PrepareOptions {
  /** Side of what the network sees. */
  readonly size: number;
  /** Whether the pictures that `flips` names are mirrored. Default false. */
  readonly mirror?: boolean;
  /** Ranges of colour jitter; all 0 or absent: none. */
  readonly jitter?: Pick<
    nn.vision.ColorJitterOptions,
    "brightness" | "contrast" | "saturation" | "hue"
  >;
}

/** Pictures as the network sees them: cropped, resized, mirrored, bytes minus the mean. [B, 3, S, S] */
export function prepare(
  { images, crops, flips }: Pick<SceneTensors, "images" | "crops" | "flips">,
  { size, mirror = false, jitter = {} }: PrepareOptions,
): Tensor {
  return noGrad(() => {
    let x = cropResize(images, crops, { size });
    if (mirror) x = x.flip(3).where(flips.gt(0), x);
    if (Object.values(jitter).some((v) => v !== 0)) x = vision.colorJitter(x, jitter);
    return x.mul(255).sub(tensor([...MEAN]).reshape(1, 3, 1, 1));
  });
}
