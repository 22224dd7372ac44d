/** @file Data of the captioning experiment: pictures, captions, batches, kept features. */

import { dirname } from "npm:deno-std@1.4.0/path/dirname.js";
import { cat, nn, noGrad, scope, type Tensor, tensor } from "../mod.ts";
import { OrderSampler } from "../nn/data/samplers.ts";
import { readResized } from "./_pictures.ts";
import { PAD, Vocabulary } from "./_captioning_vocab.ts";
import { writeScenes } from "./synth/scenes.ts";

const { data, vision } = nn;

/** ImageNet's mean and deviation, as in the notebook. */
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

/** A picture and what people say of it. */
export interface Captioned {
  /** Name of the file. */
  readonly name: string;
  readonly captions: readonly string[];
}

/** A caption to learn: which picture, and its ids from `startofseq` to `endofseq`. */
export interface Pair {
  /** Index into {@linkcode CaptionSets.pictures}. */
  readonly picture: number;
  readonly ids: readonly number[];
}

/** Pictures and captions, cut in two by picture. */
export interface CaptionSets {
  /** Folder of the pictures. */
  readonly folder: string;
  readonly pictures: readonly Captioned[];
  readonly vocabulary: Vocabulary;
  readonly train: readonly Pair[];
  readonly val: readonly Pair[];
  /** Pictures of the validation part. */
  readonly valPictures: readonly number[];
}

/** Where pictures and captions come from. */
export interface CaptionSource {
  readonly data?: string;
  /** Folder the built-in scenes are kept in. */
  readonly cache: string;
  readonly scenes: number;
  readonly split: number;
  readonly minWordFreq: number;
  readonly seed: number;
}

/** Reads `captions.txt`, drawing the built-in scenes first if need be. */
export async function loadCaptions(
  source: CaptionSource,
  say: (line: string) => void,
): Promise<CaptionSets> {
  let dir = source.data;
  if (dir === undefined) {
    const { scenes, seed } = source;
    dir = `${source.cache}/scenes-${scenes}-${seed}`;
    if (await writeScenes(dir, { scenes, seed })) say(`Drew ${scenes} scenes into ${dir}`);
  }
  const file = `${dir}/captions.txt`;
  const { columns } = await data.readCsv(file, {
    columns: { image: "string", caption: "string" },
  });
  const byName = new Map<string, string[]>();
  columns.image.forEach((name, i) => {
    const captions = byName.get(name);
    if (captions) captions.push(columns.caption[i]!);
    else byName.set(name, [columns.caption[i]!]);
  });
  const pictures = Array.from(byName, ([name, captions]) => ({ name, captions }));
  const folder = await pictureFolder(dir, pictures[0]?.name);
  const vocabulary = Vocabulary.of(columns.caption, source.minWordFreq);
  const order = pictures.map((_, i) => i);
  new data.HostRandom(source.seed).shuffle(order);
  const size = Math.floor(source.split * order.length);
  if (size === 0 || size === order.length) {
    throw new nn.run.RunError(
      `Cannot split ${order.length} pictures of ${file}: one part would be empty; give more pictures`,
    );
  }
  const pairs = (part: readonly number[]) =>
    part.flatMap((picture) =>
      pictures[picture]!.captions.map((text) => ({ picture, ids: vocabulary.encode(text) }))
    );
  const [trainPictures, valPictures] = [order.slice(0, size), order.slice(size)];
  return {
    folder,
    pictures,
    vocabulary,
    train: pairs(trainPictures),
    val: pairs(valPictures),
    valPictures,
  };
}

/** The folder that has the pictures: `Images`, `images`, or that of the captions. */
async function pictureFolder(dir: string, first: string | undefined): Promise<string> {
  const places = [`${dir}/Images`, `${dir}/images`, dir];
  for (const place of first === undefined ? [] : places) {
    try {
      await Deno.stat(`${place}/${first}`);
      return place;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new nn.run.RunError(
    `Cannot find the pictures of ${dir}/captions.txt: ${first ?? "it names none"} should be in ` +
      `${dir}/Images`,
  );
}

/** Bytes of picture files resized to size x size, [size, size, 3] each. */
export async function readSquares(
  paths: readonly string[],
  size: number,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const pictures = await readResized(paths, { size: [size, size], channels: 3 });
  return pictures.map((picture) => picture.data);
}

/** All pictures of a data set as bytes of one size, in memory. */
export class Pictures {
  readonly size: number;
  readonly #bytes: Uint8Array<ArrayBuffer>[];

  /** @param bytes Each [size, size, 3]. */
  constructor(bytes: Uint8Array<ArrayBuffer>[], size: number) {
    this.#bytes = bytes;
    this.size = size;
  }

  /** Reads every picture, with a line now and then. */
  static async read(
    sets: CaptionSets,
    size: number,
    say: (line: string) => void,
  ): Promise<Pictures> {
    const all: Uint8Array<ArrayBuffer>[] = [];
    const paths = sets.pictures.map(({ name }) => `${sets.folder}/${name}`);
    for (let first = 0; first < paths.length; first += 1024) {
      all.push(...await readSquares(paths.slice(first, first + 1024), size));
      if (paths.length > 1024) say(`Read ${all.length} of ${paths.length} pictures`);
    }
    return new Pictures(all, size);
  }

  /** The bytes of one picture. */
  at(index: number): Uint8Array<ArrayBuffer> {
    return this.#bytes[index]!;
  }

  /** Pictures on the GPU as the encoder sees them: [B, 3, size, size], normalised. */
  upload(indices: readonly number[]): Tensor {
    const { size } = this;
    const images = new Uint8Array(indices.length * size * size * 3);
    indices.forEach((index, i) => images.set(this.at(index), i * size * size * 3));
    const count = indices.length;
    return normalized(
      vision.imagesToTensor({ images, count, height: size, width: size, channels: 3 }),
    );
  }
}

/** Images in 0..1 with ImageNet's normalisation. */
export function normalized(images: Tensor): Tensor {
  return vision.normalize(images, { mean: MEAN, std: STD });
}

/** A batch on the host: pictures and padded captions, the longest first. */
export interface CaptionBatch {
  /** The pictures, each once. */
  readonly pictures: readonly number[];
  /** Which of them each caption is about, [B]. */
  readonly rows: Int32Array<ArrayBuffer>;
  /** [B, T] ids; `pad` after `endofseq`. */
  readonly ids: Int32Array<ArrayBuffer>;
  readonly length: number;
}

/**
 * A captured step is recorded once for each shape of its inputs, and every recording keeps memory. So captions
 * are padded to the longest of the batch, rounded up to a multiple of this; positions after the end have
 * no loss. The number of pictures is evened by {@linkcode fillPictures}.
 */
const LENGTH_STEP = 4;

/** Sorts pairs by length, longest first, and pads them. */
export function collate(pairs: readonly Pair[]): CaptionBatch {
  const sorted = pairs.toSorted((a, b) => b.ids.length - a.ids.length);
  const length = Math.ceil(sorted[0]!.ids.length / LENGTH_STEP) * LENGTH_STEP;
  const ids = new Int32Array(sorted.length * length).fill(PAD);
  sorted.forEach((pair, i) => ids.set(pair.ids, i * length));
  const pictures = [...new Set(sorted.map((pair) => pair.picture))];
  const place = new Map(pictures.map((picture, i) => [picture, i]));
  const rows = Int32Array.from(sorted, (pair) => place.get(pair.picture)!);
  return { pictures, rows, ids, length };
}

/**
 * The pictures of a batch, the first ones repeated up to a multiple of `step`, but at most one a caption (the
 * notebook encodes one a caption). Batch statistics of an encoder count the repeated ones twice.
 */
export function fillPictures({ pictures, rows }: CaptionBatch, step: number): number[] {
  const count = Math.min(Math.ceil(pictures.length / step) * step, rows.length);
  return Array.from({ length: count }, (_, i) => pictures[i % pictures.length]!);
}

/** A batch's captions on the GPU: ids i32 [B, T], and which picture each is about, i32 [B]. */
export function uploadCaptions({ ids, rows, length }: CaptionBatch): { ids: Tensor; rows: Tensor } {
  return { ids: tensor(ids, { shape: [rows.length, length] }), rows: tensor(rows) };
}

/**
 * The order of pairs to train on: shuffled, or with `count` above 0 by picture. Where the last batch would be
 * a single caption, which has no batch statistics, it is left out; the next epoch ends with another one.
 */
export function trainingOrder(
  pairs: readonly Pair[],
  { count, seed, batchSize }: { count: number; seed: number; batchSize: number },
): nn.data.Sampler {
  const all = count > 0
    ? byPicture(pairs, { count, seed })
    : new OrderSampler(pairs.length, { shuffle: true, seed });
  if (all.length < 2) {
    throw new nn.run.RunError("Cannot train on one caption: batch statistics need two at least");
  }
  const length = all.length % batchSize === 1 ? all.length - 1 : all.length;
  return { length, indices: (epoch) => Array.from(all.indices(epoch)).slice(0, length) };
}

/**
 * An order of pairs with `count` captions of each picture side by side (all of them where it has fewer), so
 * that a batch has few pictures, each of which is encoded once. Pictures and captions are drawn anew each
 * epoch.
 */
export function byPicture(
  pairs: readonly Pair[],
  { count, seed }: { count: number; seed: number },
): nn.data.Sampler {
  const groups = new Map<number, number[]>();
  pairs.forEach(({ picture }, i) => {
    const group = groups.get(picture);
    if (group) group.push(i);
    else groups.set(picture, [i]);
  });
  const all = [...groups.values()];
  return {
    length: all.reduce((total, group) => total + Math.min(count, group.length), 0),
    indices(epoch) {
      const random = new data.HostRandom(seed, epoch);
      const order = all.map((group) => [...group]);
      random.shuffle(order);
      return order.flatMap((group) => {
        random.shuffle(group);
        return group.slice(0, count);
      });
    },
  };
}

/**
 * Features of all pictures of a frozen encoder, [P, F] on the GPU: an epoch then costs the decoder only.
 * They are kept in `file` beside what they depend on, and read from there the next time.
 */
export async function keptFeatures(
  encoder: nn.models.CaptionEncoder,
  options: {
    sets: CaptionSets;
    size: number;
    file: string;
    batchSize: number;
    say: (line: string) => void;
  },
): Promise<Tensor> {
  const { sets, size, file, batchSize, say } = options;
  const key = await fingerprint(encoder, sets, size);
  const kept = await readKept(file, key);
  if (kept) return kept;
  await Deno.mkdir(dirname(file), { recursive: true });
  const parts: Tensor[] = [];
  const count = sets.pictures.length;
  const every = Math.max(1, Math.ceil(count / batchSize / 5));
  for (let first = 0; first < count; first += batchSize) {
    const names = sets.pictures.slice(first, first + batchSize);
    const bytes = await readSquares(names.map(({ name }) => `${sets.folder}/${name}`), size);
    const pictures = new Pictures(bytes, size);
    parts.push(scope(() => encoder.features(pictures.upload(bytes.map((_, i) => i)))));
    if (parts.length % every === 0) say(`Encoded ${first + names.length} of ${count} pictures`);
  }
  const features = noGrad(() => cat(parts));
  for (const part of parts) part.dispose();
  await nn.io.saveSafetensors(file, { features }, { key });
  say(`Kept the features in ${file}`);
  return features;
}

async function readKept(file: string, key: string): Promise<Tensor | undefined> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await Deno.readFile(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  if (nn.io.decodeSafetensors(bytes, { file }).metadata.key !== key) return undefined;
  return (await nn.io.loadSafetensors(bytes)).features;
}

/** A digest of everything that features depend on: weights, size, and the files as far as the folder tells. */
async function fingerprint(
  encoder: nn.models.CaptionEncoder,
  sets: CaptionSets,
  size: number,
): Promise<string> {
  const lines = [sets.folder, size];
  for (const { name } of sets.pictures) {
    const { size: bytes, mtime } = await Deno.stat(`${sets.folder}/${name}`);
    lines.push(`${name} ${bytes} ${mtime?.getTime()}`);
  }
  const parts = [new TextEncoder().encode(lines.join("\n"))];
  for (const t of Object.values(encoder.net.stateDict())) {
    const values = await t.data();
    parts.push(new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength));
  }
  const digests = await Promise.all(
    parts.map((part) => crypto.subtle.digest("SHA-256", part)),
  );
  const all = new Uint8Array(digests.flatMap((digest) => [...new Uint8Array(digest)]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all)).toHex();
}
