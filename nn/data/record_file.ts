/** @file RecordIO files that may be larger than memory, read by record. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { type ByteRange, FileRange, openRange } from "../io/byte_range.ts";
import { ByteReader } from "../io/byte_reader.ts";
import { type ByteSource, pathOf, readSource, remoteUrl } from "../io/source.ts";
import type { Dataset, WorkerSource } from "./dataset.ts";
import { readImage } from "./image.ts";
import type { Channels, Picture } from "./picture.ts";
import { MAGIC, MAX_LENGTH, parseIndex, readRecord, unpackImageRecord } from "./recordio.ts";

const HEADER = 8;
/** Kinds of part that end a record: a whole one and the last of several. */
const ENDS = [0, 3];

/** Options of {@linkcode openRecordIo}. */
export interface OpenRecordIoOptions {
  /** The `.idx` file: gives keys and order. Default: all records in the order of the file. */
  index?: ByteSource;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/** What a worker needs to open the same records. */
interface RecordArguments {
  path: string;
  index?: Exclude<ByteSource, URL>;
  /** Absent for the records as they are. */
  pictures?: { channels: Channels };
}

/**
 * A data set of the records of a file, each read when it is asked for. Close it, or hold it with `using`.
 * Made by {@linkcode openRecordIo}.
 */
export class RecordIoFile implements Dataset<Uint8Array>, Disposable {
  /** Number of records, that of the file or of its index. */
  readonly length: number;
  /** Key of each record: the index's, or 0, 1, ... */
  readonly keys: readonly number[];
  /** How a worker opens the same file; bytes are not sent to one. */
  readonly worker?: WorkerSource;
  readonly #range: ByteRange;
  readonly #file: string;
  readonly #offsets: readonly number[];

  /** @ignore */
  constructor(
    range: ByteRange,
    content: { file: string; keys: number[]; offsets: number[]; args?: RecordArguments },
  ) {
    this.#range = range;
    this.#file = content.file;
    this.#offsets = content.offsets;
    this.keys = content.keys;
    this.length = content.keys.length;
    if (content.args) this.worker = { module: import.meta.url, args: content.args };
  }

  /**
   * The bytes of a record.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   * @throws {FormatError} If there is no record where the index says.
   */
  get(index: number): Uint8Array {
    const start = this.#offsets[index];
    if (start === undefined) {
      throw new RangeError(
        `Cannot get record ${index}: ${this.#file} has ${this.length}, valid are 0 to ${
          this.length - 1
        }`,
      );
    }
    const end = endOfRecord(this.#range, start, this.#file);
    return readRecord(new ByteReader(this.#range.subarray(start, end), { file: this.#file }));
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (this.#range instanceof FileRange) this.#range[Symbol.dispose]();
  }
}

/**
 * Opens a RecordIO file to read single records of it. Without an index the headers of all records are read
 * once.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The index, and the file's name for errors.
 * @throws {FormatError} If the file is cut or no RecordIO, or the index names what lies outside of it.
 *
 * @example
 * ```ts
 * import { openRecordIo } from "./record_file.ts";
 * import { unpackImageRecord } from "./recordio.ts";
 *
 * using records = await openRecordIo("train.rec", { index: "train.idx" });
 * const { label, image } = unpackImageRecord(records.get(0));
 * ```
 */
export async function openRecordIo(
  source: ByteSource,
  options: OpenRecordIoOptions = {},
): Promise<RecordIoFile> {
  checkOptions("openRecordIo", options, "openRecordIo(source, { index })");
  const { index } = options;
  const open = await openRange(source, options.file), { range, file, path } = open;
  try {
    const found = index === undefined
      ? scanRecords(range, file)
      : readIndex(await readSource(index, `index of ${file}`), { length: range.length, file });
    // A URL is no data that can be sent.
    const sent = index instanceof URL ? remoteUrl(index)?.href ?? pathOf(index) : index;
    const args = path === undefined ? undefined : { path, index: sent };
    return new RecordIoFile(range, { file, ...found, args });
  } catch (error) {
    open[Symbol.dispose]();
    throw error;
  }
}

/** A picture of a record, with what its header says. */
export interface RecordPicture extends Picture {
  /** One label for classes; for detection the widths of header and object, then those. */
  labels: Float32Array;
  /** Identity of the image, as the `.lst` file gives it. */
  id: bigint;
}

/** A data set of the pictures of image records. Made by {@linkcode openRecordPictures}. */
export class RecordPictures implements Dataset<RecordPicture>, Disposable {
  /** Number of pictures. */
  readonly length: number;
  /** How a worker opens the same file. */
  readonly worker?: WorkerSource;
  readonly #records: RecordIoFile;
  readonly #channels: Channels;

  /**
   * @param records The records, which are closed with the pictures.
   * @param options `channels` of a pixel: 1 (grey), 3 (RGB) or 4 (RGBA). Default 3.
   */
  constructor(records: RecordIoFile, options: { channels?: Channels } = {}) {
    const { channels = 3 } = options;
    this.#records = records;
    this.#channels = channels;
    this.length = records.length;
    if (records.worker) {
      const args = { ...records.worker.args as RecordArguments, pictures: { channels } };
      this.worker = { module: records.worker.module, args };
    }
  }

  /**
   * The picture at `index`, decoded.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   * @throws {FormatError} If the record or its picture is damaged.
   */
  async get(index: number): Promise<RecordPicture> {
    const file = `record ${this.#records.keys[index] ?? index}`;
    const { label, id, image } = unpackImageRecord(this.#records.get(index), { file });
    const picture = await readImage(image, { channels: this.#channels, file: `image of ${file}` });
    return { ...picture, labels: label, id };
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#records[Symbol.dispose]();
  }
}

/**
 * Opens a RecordIO file of PNG or JPEG pictures, as MXNet's `im2rec` writes them.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The index, the file's name for errors, and the channels to give, by default 3.
 * @throws {FormatError} If the file is cut or no RecordIO, or the index names what lies outside of it.
 *
 * @example
 * ```ts
 * import { openRecordPictures } from "./record_file.ts";
 *
 * using pikachu = await openRecordPictures("train.rec", { index: "train.idx" });
 * const { data, labels } = await pikachu.get(0);
 * const [headerWidth, objectWidth] = labels; // then the objects
 * ```
 */
export async function openRecordPictures(
  source: ByteSource,
  options: OpenRecordIoOptions & { channels?: Channels } = {},
): Promise<RecordPictures> {
  checkOptions("openRecordPictures", options, "openRecordPictures(source, { channels: 3 })");
  return new RecordPictures(await openRecordIo(source, options), options);
}

/** Opens in a worker what {@linkcode RecordIoFile.worker} or {@linkcode RecordPictures.worker} names. */
export default async function openInWorker(
  args: RecordArguments,
): Promise<RecordIoFile | RecordPictures> {
  const records = await openRecordIo(args.path, { index: args.index });
  return args.pictures ? new RecordPictures(records, args.pictures) : records;
}

/** Where a record that begins at `start` ends, by the headers of its parts. */
function endOfRecord(range: ByteRange, start: number, file: string): number {
  let at = start;
  for (let first = true;; first = false) {
    const header = range.subarray(at, at + HEADER);
    const fault = (found: string, expected: string, offset = at) =>
      new FormatError(found, { file, offset, expected });
    if (header.length < HEADER) {
      throw fault("end of file", `${HEADER} bytes of a header from byte ${at}`, range.length);
    }
    const view = new DataView(header.buffer, header.byteOffset, HEADER);
    const magic = view.getUint32(0, true), word = view.getUint32(4, true);
    if (magic !== MAGIC) throw fault(`magic 0x${magic.toString(16)}`, "0xced7230a (RecordIO)");
    const kind = word >>> 29, length = word & MAX_LENGTH;
    if (kind > 3 || (kind < 2) !== first) {
      const expected = first ? "0 (whole) or 1 (first)" : "2 (middle) or 3 (last)";
      throw fault(`part of kind ${kind}`, expected, at + 4);
    }
    const next = at + HEADER + Math.ceil(length / 4) * 4;
    if (next > range.length) {
      throw fault("end of file", `${length} bytes of record from byte ${at}`, range.length);
    }
    at = next;
    if (ENDS.includes(kind)) return at;
  }
}

/** Where every record begins. */
function scanRecords(range: ByteRange, file: string): { keys: number[]; offsets: number[] } {
  const offsets: number[] = [];
  for (let at = 0; at < range.length; at = endOfRecord(range, at, file)) offsets.push(at);
  return { keys: offsets.map((_, i) => i), offsets };
}

/** Keys and places that an index names. */
function readIndex(
  index: { bytes: Uint8Array; file: string },
  records: { length: number; file: string },
): { keys: number[]; offsets: number[] } {
  const keys: number[] = [], offsets: number[] = [];
  for (const { key, offset, at } of parseIndex(index.bytes, index.file)) {
    if (offset % 4 !== 0 || offset + HEADER > records.length) {
      throw new FormatError(`offset ${offset} of key ${key}`, {
        file: index.file,
        offset: at,
        expected: `a multiple of 4 below ${records.length}, the bytes of ${records.file}`,
      });
    }
    keys.push(key);
    offsets.push(offset);
  }
  return { keys, offsets };
}
