/** @file CIFAR-10 in its binary form: 32 by 32 colour images of ten classes. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { type ByteRange, FileRange } from "../io/byte_range.ts";
import { type ByteSource, type LocalSource, readSource } from "../io/source.ts";
import type { Dataset, WorkerSource } from "./dataset.ts";

/** The classes of CIFAR-10, by label. */
export const CIFAR10_CLASSES: readonly string[] = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
];

/** Images and labels of one CIFAR-10 file. */
export interface Cifar10Images {
  /** Red, green and blue values, `[count, 3, 32, 32]` in row-major order. */
  images: Uint8Array<ArrayBuffer>;
  /** Class of each image, 0 to 9, see {@linkcode CIFAR10_CLASSES}. */
  labels: Uint8Array<ArrayBuffer>;
  /** Number of images, from the size of the file. */
  count: number;
  /** Colours, 3. */
  channels: number;
  /** Rows of an image, 32. */
  height: number;
  /** Columns of an image, 32. */
  width: number;
}

const SIDE = 32;
const CHANNELS = 3;
const PIXELS = CHANNELS * SIDE * SIDE;
const RECORD = 1 + PIXELS;

/**
 * Reads one file of the binary version of CIFAR-10 (`data_batch_1.bin`, `test_batch.bin`): records of a
 * label byte and 3,072 bytes of image, colour by colour. The number of records is that of the file.
 *
 * Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
 * https://www.cs.toronto.edu/~kriz/cifar.html
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `file` is what errors call bytes that have no path. Default `bytes`.
 * @throws {FormatError} If the file ends inside a record or a label is not 0 to 9.
 *
 * @example
 * ```ts
 * import { readCifar10 } from "./cifar.ts";
 *
 * const { images, labels, count } = await readCifar10("data/cifar10/test_batch.bin");
 * ```
 */
export async function readCifar10(
  source: ByteSource,
  options: { file?: string } = {},
): Promise<Cifar10Images> {
  checkOptions("readCifar10", options, 'readCifar10(source, { file: "a.bin" })');
  const { bytes, file } = await readSource(source, options.file);
  const count = countRecords(bytes.length, file);
  const images = new Uint8Array(count * PIXELS), labels = new Uint8Array(count);
  for (let record = 0; record < count; record++) {
    const at = record * RECORD;
    labels[record] = checkLabel(bytes[at]!, { file, record });
    images.set(bytes.subarray(at + 1, at + RECORD), record * PIXELS);
  }
  return { images, labels, count, channels: CHANNELS, height: SIDE, width: SIDE };
}

/** A picture of CIFAR-10 and its class. */
export interface Cifar10Sample {
  /** Red, green and blue values, `[3, 32, 32]` in row-major order. */
  image: Uint8Array;
  /** 0 to 9, see {@linkcode CIFAR10_CLASSES}. */
  label: number;
}

/** A data set of the records of files, each read when it is asked for. Made by {@linkcode openCifar10}. */
export class Cifar10Files implements Dataset<Cifar10Sample>, Disposable {
  /** Number of records in all files. */
  readonly length: number;
  /** How a worker opens the same files; bytes are not sent to one. */
  readonly worker?: WorkerSource;
  readonly #files: { range: ByteRange; file: string; count: number }[] = [];

  /**
   * @param sources The files, in order.
   * @throws {FormatError} If a file ends inside a record.
   */
  constructor(sources: readonly LocalSource[]) {
    try {
      for (const source of sources) {
        const range = source instanceof Uint8Array
          ? source
          : new FileRange(source, "give its bytes");
        const entry = { range, file: range instanceof FileRange ? range.path : "bytes", count: 0 };
        this.#files.push(entry);
        entry.count = countRecords(range.length, entry.file);
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.length = this.#files.reduce((sum, { count }) => sum + count, 0);
    if (!sources.some((source) => source instanceof Uint8Array)) {
      this.worker = { module: import.meta.url, args: this.#files.map(({ file }) => file) };
    }
  }

  /**
   * The picture at `index`, counted through all files.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   * @throws {FormatError} If its label is not 0 to 9.
   */
  get(index: number): Cifar10Sample {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(
        `Cannot get record ${index}: there are ${this.length}, valid are 0 to ${this.length - 1}`,
      );
    }
    let record = index, at = 0;
    while (record >= this.#files[at]!.count) record -= this.#files[at++]!.count;
    const { range, file } = this.#files[at]!;
    const bytes = range.subarray(record * RECORD, (record + 1) * RECORD);
    return { image: bytes.subarray(1), label: checkLabel(bytes[0]!, { file, record }) };
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    for (const { range } of this.#files) if (range instanceof FileRange) range[Symbol.dispose]();
  }
}

/**
 * Opens files of the binary version of CIFAR-10 to read single records of them.
 *
 * @param sources Paths, `file:` URLs, or the files' bytes.
 * @throws {FormatError} If a file ends inside a record.
 *
 * @example
 * ```ts
 * import { openCifar10 } from "./cifar.ts";
 *
 * using train = openCifar10(["data_batch_1.bin", "data_batch_2.bin"]);
 * const { image, label } = train.get(0);
 * ```
 */
export function openCifar10(sources: readonly LocalSource[]): Cifar10Files {
  return new Cifar10Files(sources);
}

/** Opens in a worker what {@linkcode Cifar10Files.worker} names. */
export default openCifar10;

/**
 * The bytes of a file of the binary version of CIFAR-10.
 *
 * @param set `images` `[count, 3, 32, 32]` and `labels` 0 to 9.
 * @throws {RangeError} If there are not 3,072 values for each label, or a label is not 0 to 9.
 *
 * @example
 * ```ts
 * import { writeCifar10 } from "./cifar.ts";
 *
 * const black = { images: new Uint8Array(3072), labels: Uint8Array.of(3) };
 * await Deno.writeFile("data_batch_1.bin", writeCifar10(black));
 * ```
 */
export function writeCifar10(
  set: { images: Uint8Array; labels: ArrayLike<number> },
): Uint8Array<ArrayBuffer> {
  const { images, labels } = set;
  const known = Array.from(labels).every((label) => CIFAR10_CLASSES[label] !== undefined);
  if (images.length !== labels.length * PIXELS || !known) {
    throw new RangeError(
      `Cannot write ${images.length} values with ${labels.length} labels as CIFAR-10: it needs ` +
        `${PIXELS} for each label, and labels 0 to ${CIFAR10_CLASSES.length - 1}`,
    );
  }
  const bytes = new Uint8Array(labels.length * RECORD);
  for (let record = 0; record < labels.length; record++) {
    bytes[record * RECORD] = labels[record]!;
    bytes.set(images.subarray(record * PIXELS, (record + 1) * PIXELS), record * RECORD + 1);
  }
  return bytes;
}

/** Number of records in a file of so many bytes. */
function countRecords(length: number, file: string): number {
  const count = Math.floor(length / RECORD), end = count * RECORD;
  if (end === length) return count;
  throw new FormatError(`${length - end} bytes after ${count} records`, {
    file,
    offset: end,
    expected: `the end of the file, or ${RECORD} bytes of a record (CIFAR-10, binary version)`,
  });
}

function checkLabel(label: number, where: { file: string; record: number }): number {
  if (label < CIFAR10_CLASSES.length) return label;
  throw new FormatError(`label ${label} of record ${where.record}`, {
    file: where.file,
    offset: where.record * RECORD,
    expected: "0 (airplane) to 9 (truck)",
  });
}
