/** @file Data of the birdclef experiment: spectrograms in memory, folds, views on the GPU. */

import { nn, noGrad, oneHot, rand, type Tensor, tensor, where } from "../mod.ts";
import { readRecording, recordingWindows } from "./_birdclef_audio.ts";
import { readResized } from "./_pictures.ts";
import { writeSongs } from "./synth/songs.ts";

const { data, vision } = nn;

/** Spectrograms of one size, with their classes and folds. */
export interface BirdSet {
  /** Grey, [height, width] each. */
  readonly pictures: readonly Uint8Array<ArrayBuffer>[];
  /** File, or recording and second. */
  readonly names: readonly string[];
  readonly labels: readonly number[];
  readonly folds: readonly number[];
  readonly height: number;
  readonly width: number;
  /** Names of the species, by label. */
  readonly classes: readonly string[];
}

/** Where spectrograms come from. */
export interface BirdSource {
  readonly data?: string;
  readonly audio?: string;
  /** Folder the built-in songs are kept in. */
  readonly cache: string;
  readonly clips: number;
  readonly folds: number;
  readonly size: number;
  readonly seed: number;
}

/** One spectrogram before it is resized. */
interface Entry {
  readonly source: string | nn.data.Picture;
  readonly name: string;
  readonly label: number;
  readonly fold: number;
}

/** Reads the spectrograms, making the built-in ones first if need be. */
export async function loadBirds(
  source: BirdSource,
  say: (line: string) => void,
): Promise<BirdSet> {
  let dir = source.data;
  if (dir === undefined && source.audio === undefined) {
    const { clips, folds, seed } = source;
    dir = `${source.cache}/songs-${clips}-${folds}-${seed}`;
    if (await writeSongs(dir, { clips, folds, seed })) say(`Made ${clips} songs in ${dir}`);
  }
  const { entries, classes } = dir === undefined
    ? await readRecordings(source.audio!, source)
    : await readTable(dir);
  const pictures = await readResized(entries.map((e) => e.source), {
    size: source.size,
    channels: 1,
  });
  const { height, width } = pictures[0]!;
  pictures.forEach((p, i) => {
    if (p.height === height && p.width === width) return;
    throw new nn.run.RunError(
      `Cannot batch ${entries[i]!.name}: resized it is ${p.height} x ${p.width}, and ` +
        `${entries[0]!.name} is ${height} x ${width}; all spectrograms must have one shape`,
    );
  });
  return {
    pictures: pictures.map((p) => p.data),
    names: entries.map((e) => e.name),
    labels: entries.map((e) => e.label),
    folds: entries.map((e) => e.fold),
    height,
    width,
    classes,
  };
}

/** The folds that the data of a run has, in order; those of `train.csv` where there is one. */
export async function foldsOf(
  source: Pick<BirdSource, "data" | "folds">,
): Promise<number[]> {
  if (source.data === undefined) return Array.from({ length: source.folds }, (_, fold) => fold);
  const { entries } = await readTable(source.data);
  return [...new Set(entries.map((e) => e.fold))].sort((a, b) => a - b);
}

/** The rows of `train.csv`. */
async function readTable(dir: string): Promise<{ entries: Entry[]; classes: string[] }> {
  const file = `${dir}/train.csv`;
  const { columns, count } = await data.readCsv(file, {
    columns: { image_path: "string", label: "integer", label_name: "string", fold: "number" },
  });
  if (count === 0) throw new nn.run.RunError(`Cannot train on ${file}: it has no rows`);
  const classes: string[] = [];
  const entries = Array.from({ length: count }, (_, i): Entry => {
    const [label, fold] = [columns.label[i]!, columns.fold[i]!];
    if (label < 0 || !Number.isInteger(fold) || fold < 0) {
      throw new nn.run.RunError(
        `Cannot use row ${
          i + 1
        } of ${file}: label ${label} and fold ${fold} must be whole numbers >= 0`,
      );
    }
    classes[label] = columns.label_name[i]!;
    const name = columns.image_path[i]!.replaceAll("\\", "/");
    return { source: `${dir}/${name}`, name, label, fold };
  });
  return { entries, classes: Array.from(classes, (name, label) => name ?? `class ${label}`) };
}

/**
 * The windows of all WAV files of a folder. The species is the subfolder, or the file's name before its
 * last underscore. Whole recordings go to a fold, each species' in turn.
 */
async function readRecordings(
  dir: string,
  { folds, seed }: { folds: number; seed: number },
): Promise<{ entries: Entry[]; classes: string[] }> {
  const files: { path: string; species: string }[] = [];
  const isWav = (name: string) => name.toLowerCase().endsWith(".wav");
  for await (const entry of Deno.readDir(dir)) {
    if (entry.isDirectory) {
      for await (const { name } of Deno.readDir(`${dir}/${entry.name}`)) {
        if (isWav(name)) files.push({ path: `${entry.name}/${name}`, species: entry.name });
      }
    } else if (isWav(entry.name)) {
      files.push({ path: entry.name, species: entry.name.replace(/(_[^_]*)?\.wav$/i, "") });
    }
  }
  if (files.length === 0) {
    throw new nn.run.RunError(`Cannot read ${dir}: it has no WAV files, nor have its subfolders`);
  }
  files.sort((a, b) => a.path < b.path ? -1 : 1);
  new data.HostRandom(seed).shuffle(files);
  const classes = [...new Set(files.map((f) => f.species))].sort();
  const turn = new Map<string, number>();
  const entries: Entry[] = [];
  for (const { path, species } of files) {
    const n = turn.get(species) ?? 0;
    turn.set(species, n + 1);
    const recording = await readRecording(`${dir}/${path}`);
    for (const { start, picture } of recordingWindows(recording)) {
      entries.push({
        source: picture,
        name: `${path} at ${start.toFixed(1)} s`,
        label: classes.indexOf(species),
        fold: n % folds,
      });
    }
  }
  return { entries, classes };
}

/** A batch on the host. */
export interface BirdBatch {
  /** [B, height, width] grey. */
  readonly images: Uint8Array<ArrayBuffer>;
  readonly labels: Int32Array<ArrayBuffer>;
}

/** Gathers the spectrograms at `indices`. */
export function collate(set: BirdSet, indices: readonly number[]): BirdBatch {
  const size = set.height * set.width;
  const images = new Uint8Array(indices.length * size);
  indices.forEach((index, i) => images.set(set.pictures[index]!, i * size));
  return { images, labels: Int32Array.from(indices, (index) => set.labels[index]!) };
}

/** A batch on the GPU: images [B, 1, H, W] in 0..1 and one-hot labels [B, C]. */
export function upload(set: BirdSet, batch: BirdBatch): { images: Tensor; labels: Tensor } {
  const count = batch.labels.length;
  return {
    images: vision.toTensor(batch.images, [count, 1, set.height, set.width]),
    labels: noGrad(() => oneHot(tensor(batch.labels), set.classes.length).to("f32")),
  };
}

/** What the net sees of grey images [B, 1, H, W]: three like channels. */
export function asRgb(images: Tensor): Tensor {
  const [B, , H, W] = images.shape as [number, number, number, number];
  return images.expand([B, 3, H, W]);
}

/** Strengths of the augmentation. */
export interface AugmentOptions {
  readonly brightness: number;
  readonly contrast: number;
  readonly noise: number;
  readonly holes: number;
  readonly shift: number;
  readonly mixup: number;
}

/** The notebook's augmentation on the GPU, a draw a sample: mixup between classes first, then the image. */
export function augment(
  images: Tensor,
  labels: Tensor,
  options: AugmentOptions,
): { images: Tensor; labels: Tensor } {
  const { brightness, contrast, noise, holes, shift, mixup } = options;
  return noGrad(() => {
    let [x, y] = [images, labels];
    if (mixup > 0) {
      const mixed = vision.mixup(x, y, { alpha: mixup, perSample: true, differentClasses: true });
      [x, y] = [mixed.x, mixed.target];
    }
    x = vision.brightnessContrast(x, {
      brightnessLimit: brightness,
      contrastLimit: contrast,
      p: 0.5,
    });
    if (noise > 0) x = vision.gaussNoise(x, { p: noise });
    if (holes > 0) {
      // One of the two, each half as often; both are drawn and one is taken.
      const draw = rand([x.shape[0]!, 1, 1, 1]);
      // Pixels of the notebook's 128, as large a part of a picture of another size.
      const part = Math.min(...x.shape.slice(2)) / 128;
      const size = (most: number) => Math.max(1, Math.round(most * part));
      const cut = vision.cutout(x, { maxHSize: size(10), maxWSize: size(16), p: 1 });
      const [maxHeight, maxWidth] = [size(8), size(8)];
      const coarse = vision.coarseDropout(x, { maxHoles: 4, maxHeight, maxWidth, p: 1 });
      x = where(draw.lt(holes / 2), cut, where(draw.lt(holes), coarse, x));
    }
    if (shift > 0) {
      const moved = vision.randomAffine(x, {
        translate: [0.05, 0.05],
        scale: [0.85, 1.15],
        mode: "bilinear",
      });
      x = where(rand([x.shape[0]!, 1, 1, 1]).lt(shift), moved, x);
    }
    return { images: x, labels: y };
  });
}
