/**
 * @file MXNet's RecordIO: a `.rec` file of records, an `.idx` file of where they begin, and the image
 * records in them.
 *
 * Record: u32 magic, u32 kind (3 bits) and length (29 bits), the bytes, zeros to a multiple of 4; all
 * little-endian. Bytes that hold the magic at a multiple of 4 are split there.
 * Source: dmlc-core include/dmlc/recordio.h, mxnet python/mxnet/recordio.py
 */

import { checkOptions } from "../../engine/arguments.ts";
import { ByteReader } from "../io/byte_reader.ts";
import { type ByteSource, readSource } from "../io/source.ts";

/** What a part begins with. */
export const MAGIC = 0xced7230a;
/** Most bytes of a part; the three bits above are its kind. */
export const MAX_LENGTH = 2 ** 29 - 1;
/** Kinds of part: a whole record, or the first, a middle or the last part of one. */
const WHOLE = 0, FIRST = 1, LAST = 3;
const IMAGE_HEADER = 24;

/** The content of a RecordIO file. */
export interface RecordFile {
  /** The records; views of the file's bytes where a record was not split. */
  records: Uint8Array[];
  /** Key of each record: the index's, or 0, 1, ... */
  keys: number[];
}

/** Options of {@linkcode readRecordIo}. */
export interface ReadRecordIoOptions {
  /** The `.idx` file: gives keys and order. Default: all records in the order of the file. */
  index?: ByteSource;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/**
 * Reads the records of a RecordIO file. The number of records is that of the file, or of the index,
 * which may name some of them only.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The index, and the file's name for errors.
 * @throws {FormatError} If the file is cut or no RecordIO, or the index does not name records.
 *
 * @example
 * ```ts
 * import { readRecordIo, unpackImageRecord } from "./recordio.ts";
 *
 * const { records } = await readRecordIo("train.rec", { index: "train.idx" });
 * const { label, image } = unpackImageRecord(records[0]!);
 * ```
 */
export async function readRecordIo(
  source: ByteSource,
  options: ReadRecordIoOptions = {},
): Promise<RecordFile> {
  checkOptions("readRecordIo", options, "readRecordIo(source, { index })");
  const { bytes, file } = await readSource(source, options.file);
  const reader = new ByteReader(bytes, { file });
  const starts = new Map<number, number>();
  const all: Uint8Array[] = [];
  while (reader.left > 0) {
    starts.set(reader.at, all.length);
    all.push(readRecord(reader));
  }
  if (options.index === undefined) return { records: all, keys: all.map((_, i) => i) };
  const index = await readSource(options.index, `index of ${file}`);
  const records: Uint8Array[] = [], keys: number[] = [];
  for (const { key, offset, at } of parseIndex(index.bytes, index.file)) {
    const record = starts.get(offset);
    if (record === undefined) {
      throw new ByteReader(index.bytes, { file: index.file, at })
        .fault(`offset ${offset} of key ${key}`, `the start of a record in ${file}`);
    }
    records.push(all[record]!);
    keys.push(key);
  }
  return { records, keys };
}

/** One record, of all its parts, from where the reader stands. */
export function readRecord(reader: ByteReader): Uint8Array {
  const parts: Uint8Array[] = [];
  while (true) {
    const at = reader.at, magic = reader.u32("record header");
    if (magic !== MAGIC) {
      throw reader.fault(`magic 0x${magic.toString(16)}`, "0xced7230a (RecordIO)", at);
    }
    const word = reader.u32("record header"), kind = word >>> 29, length = word & MAX_LENGTH;
    const begins = kind === WHOLE || kind === FIRST;
    if (kind > LAST || begins !== (parts.length === 0)) {
      const expected = parts.length === 0 ? "0 (whole) or 1 (first)" : "2 (middle) or 3 (last)";
      throw reader.fault(`part of kind ${kind}`, expected, at + 4);
    }
    parts.push(reader.take(length, "record"));
    reader.take(-length & 3, "padding");
    if (kind === WHOLE) return parts[0]!;
    if (kind === LAST) return joinParts(parts);
  }
}

/** The parts with the magic between them that they were split at. */
function joinParts(parts: Uint8Array[]): Uint8Array {
  const length = parts.reduce((total, part) => total + 4 + part.length, -4);
  const record = new Uint8Array(length), view = new DataView(record.buffer);
  let at = 0;
  for (const part of parts) {
    if (at > 0 || part !== parts[0]) {
      view.setUint32(at, MAGIC, true);
      at += 4;
    }
    record.set(part, at);
    at += part.length;
  }
  return record;
}

/** The lines `KEY\tOFFSET` of an index; `at` is where a line begins. */
export function parseIndex(
  bytes: Uint8Array,
  file: string,
): { key: number; offset: number; at: number }[] {
  const entries: { key: number; offset: number; at: number }[] = [];
  const seen = new Set<number>();
  for (let at = 0; at < bytes.length;) {
    const found = bytes.indexOf(0x0a, at), end = found < 0 ? bytes.length : found;
    // Digits and a tab take at most 41 bytes.
    const line = new TextDecoder("latin1").decode(bytes.subarray(at, Math.min(end, at + 64)));
    const match = /^(\d{1,15})\t(\d{1,15})\r?$/.exec(line);
    const key = Number(match?.[1]), offset = Number(match?.[2]);
    if (!match || seen.has(key)) {
      const reader = new ByteReader(bytes, { file, at });
      throw match
        ? reader.fault(`key ${key} again`, "each key once")
        : reader.fault("line that is no pair", "KEY, a tab, OFFSET (RecordIO index)");
    }
    seen.add(key);
    entries.push({ key, offset, at });
    at = end + 1;
  }
  return entries;
}

/**
 * The bytes of a RecordIO file and of its index, as MXNet writes them.
 *
 * @param records What to write.
 * @param options `keys` for the index. Default 0, 1, ...
 * @throws {RangeError} If a record is 2^29 bytes or longer, or the keys are not as many whole numbers.
 *
 * @example
 * ```ts
 * import { packImageRecord, writeRecordIo } from "./recordio.ts";
 *
 * const png = await Deno.readFile("a.png");
 * const { rec, idx } = writeRecordIo([packImageRecord({ label: [3], image: png })]);
 * await Deno.writeFile("train.rec", rec);
 * await Deno.writeFile("train.idx", idx);
 * ```
 */
export function writeRecordIo(
  records: readonly Uint8Array[],
  options: { keys?: readonly number[] } = {},
): { rec: Uint8Array<ArrayBuffer>; idx: Uint8Array<ArrayBuffer> } {
  checkOptions("writeRecordIo", options, "writeRecordIo(records, { keys })");
  const { keys = records.map((_, i) => i) } = options;
  const valid = keys.every((key) => Number.isSafeInteger(key) && key >= 0 && key < 1e15);
  if (keys.length !== records.length || !valid || new Set(keys).size !== keys.length) {
    throw new RangeError(
      `Cannot write ${records.length} records: keys must be as many different whole numbers`,
    );
  }
  const lines: string[] = [], encoded: Uint8Array[] = [];
  let size = 0;
  for (const [i, record] of records.entries()) {
    lines.push(`${keys[i]}\t${size}\n`);
    encoded.push(encodeRecord(record));
    size += encoded[i]!.length;
  }
  const rec = new Uint8Array(size);
  let at = 0;
  for (const bytes of encoded) {
    rec.set(bytes, at);
    at += bytes.length;
  }
  return { rec, idx: new TextEncoder().encode(lines.join("")) };
}

/**
 * The bytes of one record in a RecordIO file.
 *
 * @throws {RangeError} If the record is 2^29 bytes or longer.
 */
export function encodeRecord(record: Uint8Array): Uint8Array<ArrayBuffer> {
  if (record.length > MAX_LENGTH) {
    throw new RangeError(
      `Cannot write a record of ${record.length} bytes: at most ${MAX_LENGTH} fit`,
    );
  }
  const parts = splitRecord(record);
  const size = parts.reduce((sum, { bytes }) => sum + 8 + Math.ceil(bytes.length / 4) * 4, 0);
  const encoded = new Uint8Array(size), view = new DataView(encoded.buffer);
  let at = 0;
  for (const { kind, bytes } of parts) {
    view.setUint32(at, MAGIC, true);
    view.setUint32(at + 4, (kind << 29 | bytes.length) >>> 0, true);
    encoded.set(bytes, at + 8);
    at += 8 + Math.ceil(bytes.length / 4) * 4;
  }
  return encoded;
}

/** A record split where it holds the magic at a multiple of 4. */
function splitRecord(record: Uint8Array): { kind: number; bytes: Uint8Array }[] {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const parts: { kind: number; bytes: Uint8Array }[] = [];
  let start = 0;
  for (let at = 0; at + 4 <= record.length; at += 4) {
    if (view.getUint32(at, true) !== MAGIC) continue;
    parts.push({ kind: parts.length === 0 ? FIRST : 2, bytes: record.subarray(start, at) });
    start = at + 4;
  }
  parts.push({ kind: parts.length === 0 ? WHOLE : LAST, bytes: record.subarray(start) });
  return parts;
}

/** An image record: labels and an encoded image. */
export interface ImageRecord {
  /** One label for classes; for detection the widths of header and object, then those. */
  label: Float32Array;
  /** Identity of the image, as the `.lst` file gives it. */
  id: bigint;
  /** Second identity, mostly 0. */
  id2: bigint;
  /** The encoded image: JPEG, PNG. */
  image: Uint8Array;
}

/**
 * Takes an image record apart: a header of 24 bytes (IRHeader), as many labels as it says, the image.
 *
 * @param record One of {@linkcode readRecordIo}'s. `image` is a view of it.
 * @param options `file` is what errors call the record. Default `record`.
 * @throws {FormatError} If the record ends before its labels do.
 */
export function unpackImageRecord(
  record: Uint8Array,
  options: { file?: string } = {},
): ImageRecord {
  const { file = "record" } = options;
  const reader = new ByteReader(record, { file });
  const count = reader.u32("image header"), single = reader.f32("image header");
  const id = reader.bigU64("image header"), id2 = reader.bigU64("image header");
  const label = count === 0
    ? Float32Array.of(single)
    : new Float32Array(reader.take(4 * count, "labels").slice().buffer);
  return { label, id, id2, image: record.subarray(reader.at) };
}

/**
 * The bytes of an image record. One label goes into the header, several follow it.
 *
 * @param record Labels and image; the identities are 0 by default.
 * @throws {RangeError} If there is no label.
 */
export function packImageRecord(
  record: {
    label: ArrayLike<number>;
    image: Uint8Array;
    id?: bigint | number;
    id2?: bigint | number;
  },
): Uint8Array<ArrayBuffer> {
  const { label, image, id = 0, id2 = 0 } = record;
  if (label.length === 0) throw new RangeError("Cannot pack an image record without a label");
  const several = label.length > 1 ? label.length : 0;
  const bytes = new Uint8Array(IMAGE_HEADER + 4 * several + image.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, several, true);
  view.setFloat32(4, several ? 0 : label[0]!, true);
  view.setBigUint64(8, BigInt(id), true);
  view.setBigUint64(16, BigInt(id2), true);
  for (let i = 0; i < several; i++) view.setFloat32(IMAGE_HEADER + 4 * i, label[i]!, true);
  bytes.set(image, IMAGE_HEADER + 4 * several);
  return bytes;
}
