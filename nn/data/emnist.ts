/** @file EMNIST letters: 28 by 28 grey images of handwritten letters, as idx files. */

import { FormatError } from "../format_error.ts";
import { needFiles } from "../io/source.ts";
import { readIdx } from "./idx.ts";

/** Images and labels in memory. */
export interface LabeledImages {
  /** Grey values, `[count, height, width]` in row-major order; 0 is paper, 255 is ink. */
  images: Uint8Array<ArrayBuffer>;
  /** Class of each image, 0 (a) to 25 (z). */
  labels: Uint8Array<ArrayBuffer>;
  /** Number of images. */
  count: number;
  /** Rows of an image, 28. */
  height: number;
  /** Columns of an image, 28. */
  width: number;
}

const SIDE = 28;
const CLASSES = 26;

/**
 * Reads one part of a data set in the layout of EMNIST letters:
 * `PREFIX-train-images-idx3-ubyte`, `PREFIX-train-labels-idx1-ubyte` and the same with `test`, each
 * plain or with `.gz`. Of several prefixes the one with `letters` in it is taken, as EMNIST's archive
 * holds other sets beside the letters.
 *
 * The files store each image transposed and labels 1 to 26; the result is upright, with labels 0 to 25.
 *
 * Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
 * https://arxiv.org/abs/1702.05373
 *
 * @param dir The folder with the files.
 * @param split Which part.
 * @throws {Deno.errors.NotFound} If the folder or one of the files is missing.
 * @throws {Deno.errors.InvalidData} If the folder holds several sets.
 * @throws {FormatError} If a file is not such an idx file, the counts differ or a label is not 1 to 26.
 *
 * @example
 * ```ts
 * import { readEmnistLetters } from "./emnist.ts";
 *
 * const { images, labels, count } = await readEmnistLetters("data/emnist", "train");
 * ```
 */
export async function readEmnistLetters(
  dir: string | URL,
  split: "train" | "test",
): Promise<LabeledImages> {
  const folder = dir instanceof URL ? decodeURIComponent(dir.pathname) : dir;
  needFiles(`list ${folder}`, "read its files one by one, by nn.data.readIdx");
  const files = await findFiles(folder, split);
  const images = await readIdx(files.images, { type: "u8", rank: 3 });
  const labels = await readIdx(files.labels, { type: "u8", rank: 1 });
  const [count = 0, height = 0, width = 0] = images.shape;
  if (height !== SIDE || width !== SIDE) {
    throw new FormatError(`images of ${height}x${width}`, {
      file: files.images,
      offset: 8,
      expected: `${SIDE}x${SIDE}`,
    });
  }
  if (labels.data.length !== count) {
    throw new FormatError(`${labels.data.length} labels`, {
      file: files.labels,
      offset: 4,
      expected: `${count}, as many as there are images in ${files.images}`,
    });
  }
  return {
    images: transposeImages(images.data as Uint8Array, count),
    labels: shiftLabels(labels.data as Uint8Array, files.labels),
    count,
    height,
    width,
  };
}

/** Swaps rows and columns of every image. */
function transposeImages(images: Uint8Array, count: number): Uint8Array<ArrayBuffer> {
  const upright = new Uint8Array(images.length);
  let to = 0;
  for (let image = 0; image < count; image++) {
    const base = image * SIDE * SIDE;
    for (let row = 0; row < SIDE; row++) {
      for (let column = 0; column < SIDE; column++) {
        upright[to++] = images[base + column * SIDE + row]!;
      }
    }
  }
  return upright;
}

function shiftLabels(labels: Uint8Array, file: string): Uint8Array<ArrayBuffer> {
  const bad = labels.findIndex((label) => label < 1 || label > CLASSES);
  if (bad >= 0) {
    throw new FormatError(`label ${labels[bad]} of image ${bad}`, {
      file,
      offset: 8 + bad,
      expected: `1 (a) to ${CLASSES} (z)`,
    });
  }
  return Uint8Array.from(labels, (label) => label - 1);
}

/** The paths of one part's two files, both with the same prefix. */
async function findFiles(
  folder: string,
  split: string,
): Promise<{ images: string; labels: string }> {
  const names = await listFolder(folder);
  const end = `${split}-images-idx3-ubyte`;
  const found = names.filter((name) => bare(name) === end || bare(name).endsWith(`-${end}`));
  const letters = found.filter((name) => name.includes("letters"));
  const candidates = letters.length > 0 ? letters : found;
  const images = candidates[0]; // of NAME and NAME.gz the plain one: names are sorted
  if (images === undefined) throw missing(`*-${end}`, folder, names);
  if (candidates.some((name) => bare(name) !== bare(images))) {
    throw new Deno.errors.InvalidData(
      `Cannot choose between ${candidates.join(" and ")} in ${folder}: keep one set in a folder`,
    );
  }
  const labelsName = bare(images).replace(end, `${split}-labels-idx1-ubyte`);
  const labels = names.find((name) => bare(name) === labelsName);
  if (labels === undefined) throw missing(labelsName, folder, names);
  return { images: join(folder, images), labels: join(folder, labels) };
}

/** A file name without `.gz`. */
function bare(name: string): string {
  return name.endsWith(".gz") ? name.slice(0, -3) : name;
}

function missing(pattern: string, folder: string, names: readonly string[]): Error {
  const held = names.length === 0
    ? "has no files"
    : `holds ${names.slice(0, 8).join(", ")}${names.length > 8 ? ", ..." : ""}`;
  return new Deno.errors.NotFound(
    `Cannot find ${pattern} or ${pattern}.gz in ${folder}: the folder ${held}`,
  );
}

async function listFolder(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) if (!entry.isDirectory) names.push(entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Deno.errors.NotFound(
        `Cannot read ${folder}: no such folder, expected one with EMNIST's idx files`,
        { cause: error },
      );
    }
    if (error instanceof Deno.errors.NotADirectory) {
      throw new Deno.errors.NotADirectory(
        `Cannot read ${folder}: it is a file, expected the folder with EMNIST's idx files`,
        { cause: error },
      );
    }
    throw error;
  }
  return names.sort();
}

function join(folder: string, name: string): string {
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}
