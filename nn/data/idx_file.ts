/** @file idx files that may be larger than memory, read by record. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { type ByteRange, FileRange, openRange } from "../io/byte_range.ts";
import { isGzip } from "../io/gzip.ts";
import type { ByteSource } from "../io/source.ts";
import type { Dataset, WorkerSource } from "./dataset.ts";
import { elementCount, expectedMagic, hex, type IdxData, type IdxType } from "./idx.ts";
import { readIdx, type ReadIdxOptions, swapBytes, typedArray, TYPES } from "./idx.ts";

/**
 * A data set of the records of an idx file, the parts along its first dim, each read when it is asked for.
 * Made by {@linkcode openIdx}.
 */
export class IdxFile implements Dataset<IdxData>, Disposable {
  /** Size of each dim, the number of records first. */
  readonly shape: readonly number[];
  /** Type of the elements. */
  readonly type: IdxType;
  /** Number of records. */
  readonly length: number;
  /** How a worker opens the same file; bytes are not sent to one. */
  readonly worker?: WorkerSource;
  readonly #range: ByteRange;

  /** @ignore */
  constructor(
    range: ByteRange,
    content: { shape: number[]; type: IdxType; path?: string },
  ) {
    this.#range = range;
    this.shape = content.shape;
    this.type = content.type;
    this.length = content.shape[0]!;
    if (content.path !== undefined) this.worker = { module: import.meta.url, args: content.path };
  }

  /**
   * The elements of a record in row-major order, in memory of their own.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   */
  get(index: number): IdxData {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(
        `Cannot get record ${index}: there are ${this.length}, valid are 0 to ${this.length - 1}`,
      );
    }
    const { bytes } = TYPES[this.type], size = bytes * elementCount(this.shape.slice(1));
    const start = 4 + 4 * this.shape.length + index * size;
    const record = this.#range.subarray(start, start + size).slice();
    swapBytes(record, bytes);
    return typedArray(this.type, record.buffer as ArrayBuffer);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (this.#range instanceof FileRange) this.#range[Symbol.dispose]();
  }
}

/**
 * Opens an idx file to read single records of it. A gzip file has no places to jump to, so it is
 * decompressed into memory.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options What the file must hold.
 * @throws {FormatError} If the file is not idx, not what `options` ask for, or not of the size that its
 * header says.
 *
 * @example
 * ```ts
 * import { openIdx } from "./idx_file.ts";
 *
 * using images = await openIdx("train-images-idx3-ubyte", { rank: 3, type: "u8" });
 * const first = images.get(0);
 * ```
 */
export async function openIdx(
  source: ByteSource,
  options: ReadIdxOptions = {},
): Promise<IdxFile> {
  checkOptions("openIdx", options, "openIdx(source, { rank: 3 })");
  const open = await openRange(source, options.file), { range, file, path } = open;
  let opened: IdxFile | undefined;
  try {
    if (isGzip(range.subarray(0, 2))) {
      const whole = range.subarray(0, range.length);
      return fromMemory(await readIdx(whole, { ...options, file }), path);
    }
    return opened = new IdxFile(range, { ...readHeader(range, file, options), path });
  } finally {
    if (!opened) open[Symbol.dispose]();
  }
}

/** Opens in a worker what {@linkcode IdxFile.worker} names. */
export default openIdx;

/** The records of a file that is in memory, as if it were on disk. */
function fromMemory(
  { shape, data }: { shape: number[]; data: IdxData },
  path: string | undefined,
): IdxFile {
  const type = (Object.keys(TYPES) as IdxType[]).find((name) =>
    typedArray(name, new ArrayBuffer(0)).constructor === data.constructor
  )!;
  const head = 4 + 4 * shape.length, bytes = new Uint8Array(data.buffer);
  const range: ByteRange = {
    length: head + bytes.length,
    subarray(start, end) {
      const part = bytes.slice(start - head, end - head);
      swapBytes(part, TYPES[type].bytes); // as the file has it
      return part;
    },
  };
  return new IdxFile(range, { shape, type, path });
}

function readHeader(
  range: ByteRange,
  file: string,
  options: ReadIdxOptions,
): { shape: number[]; type: IdxType } {
  const fault = (found: string, offset: number, expected: string) =>
    new FormatError(found, { file, offset, expected });
  const magic = range.subarray(0, 4), rank = magic[3]!;
  if (magic.length < 4) throw fault("end of file", range.length, "4 bytes of header");
  const type = (Object.keys(TYPES) as IdxType[]).find((name) => TYPES[name].code === magic[2]);
  const known = magic[0] === 0 && magic[1] === 0 && type !== undefined && rank > 0;
  if (
    !known || (options.rank !== undefined && rank !== options.rank) ||
    (options.type !== undefined && type !== options.type)
  ) {
    const word = new DataView(magic.buffer, magic.byteOffset).getUint32(0);
    throw fault(`bad magic ${hex(word, 8)}`, 0, expectedMagic(options.rank, options.type));
  }
  const start = 4 + 4 * rank, head = range.subarray(4, start);
  if (head.length < 4 * rank) throw fault("end of file", range.length, `${start} bytes of header`);
  const view = new DataView(head.buffer, head.byteOffset);
  const shape = Array.from({ length: rank }, (_, dim) => view.getUint32(4 * dim));
  const size = start + elementCount(shape) * TYPES[type].bytes;
  if (size === range.length) return { shape, type };
  const needed = `${size} bytes for shape [${shape.join(", ")}] of ${type}`;
  if (size > range.length) throw fault("end of file", range.length, needed);
  throw fault("trailing bytes", size, `the end of ${needed}`);
}
