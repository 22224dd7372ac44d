/** @file CIFAR-10 in its binary form: 32 by 32 colour images of ten classes. */

import { FormatError } from "../format_error.ts";
import { type ByteSource, readSource } from "../io/source.ts";

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
 * @param source A path, a `file:` URL, or the file's bytes.
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
  const { bytes, file } = await readSource(source, options.file);
  const count = Math.floor(bytes.length / RECORD);
  const end = count * RECORD;
  if (end !== bytes.length) {
    throw new FormatError(`${bytes.length - end} bytes after ${count} records`, {
      file,
      offset: end,
      expected: `the end of the file, or ${RECORD} bytes of a record (CIFAR-10, binary version)`,
    });
  }
  const images = new Uint8Array(count * PIXELS), labels = new Uint8Array(count);
  for (let record = 0; record < count; record++) {
    const at = record * RECORD, label = bytes[at]!;
    if (label >= CIFAR10_CLASSES.length) {
      throw new FormatError(`label ${label} of record ${record}`, {
        file,
        offset: at,
        expected: "0 (airplane) to 9 (truck)",
      });
    }
    labels[record] = label;
    images.set(bytes.subarray(at + 1, at + RECORD), record * PIXELS);
  }
  return { images, labels, count, channels: CHANNELS, height: SIDE, width: SIDE };
}
