/**
 * @file Zip archives, read by their central directory. Entries are stored or deflated; encrypted ones,
 * archives of several disks and entries that share bytes are refused.
 *
 * PKWARE, APPNOTE 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */

import { FormatError } from "../format_error.ts";
import type { ByteRange } from "./byte_range.ts";
import { ByteReader } from "./byte_reader.ts";
import { crc32, MAX_DEFLATE_RATIO } from "./gzip.ts";
import { quote } from "./json_scan.ts";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const END_SIZE = 22;
/** A local header without its name and its extra fields. */
const LOCAL_SIZE = 30;
/** The end record with its longest comment, and the two records of zip64 before it. */
const MAX_TAIL = END_SIZE + 0xffff + 20 + 56;
const STORED = 0;
const DEFLATED = 8;
/** Input bytes decompressed at a time. */
const PIECE = 16 * 1024;

/** What the directory of an archive says of a file in it. */
export interface ZipPlace {
  /** Path in the archive as it is stored. */
  name: string;
  /** Whether the bytes are deflated; otherwise they are as they are. */
  deflated: boolean;
  /** First byte of the header before the data. */
  offset: number;
  /** Bytes the data takes in the archive. */
  packedSize: number;
  /** Bytes of the data, at most 1032 times `packedSize`. */
  size: number;
  /** CRC-32 of the data. */
  crc: number;
  /** First byte of what follows: the next header or the directory. */
  end: number;
}

/** A file in an archive. */
export interface ZipEntry extends ZipPlace {
  /** First byte of the data in the archive. */
  start: number;
}

/** True if bytes begin as a zip archive does, with an entry or as an empty one. */
export function isZip(bytes: Uint8Array): boolean {
  if (bytes.length < 4 || bytes[0] !== 0x50 || bytes[1] !== 0x4b) return false;
  return (bytes[2] === 3 && bytes[3] === 4) || (bytes[2] === 5 && bytes[3] === 6);
}

/**
 * The entries of a zip archive by name. Nothing is decompressed.
 *
 * @param bytes The archive, of which only the directory and the headers of entries are read.
 * @param options `file` is the name for errors.
 * @throws {FormatError} If the archive is cut or damaged, names an entry twice, has entries that share
 * bytes (as zip bombs have), are encrypted or packed by another method than deflate.
 */
export function readZip(bytes: ByteRange, options: { file: string }): Map<string, ZipEntry> {
  const places = readZipDirectory(bytes, options);
  return new Map([...places].map(([name, place]) => [name, locate(bytes, place, options)]));
}

/**
 * What the directory of a zip archive says, by name: of the archive only its end is read. Where the data of
 * an entry begins is left to {@linkcode locate}.
 *
 * @throws {FormatError} As {@linkcode readZip}, headers of entries aside.
 */
export function readZipDirectory(
  bytes: ByteRange,
  options: { file: string },
): Map<string, ZipPlace> {
  const { file } = options;
  const { count, start, end } = findDirectory(bytes, file);
  const reader = new ByteReader(bytes.subarray(start, end), { file, base: start });
  const places = new Map<string, ZipPlace>();
  for (let i = 0; i < count; i++) {
    const at = reader.at, place = readPlace(reader, start);
    if (places.has(place.name)) {
      throw reader.fault(`second entry named ${quote(place.name)}`, "each name once", at);
    }
    places.set(place.name, place);
  }
  if (reader.left > 0) {
    throw reader.fault(`${reader.left} bytes after ${count} entries`, "the end of the directory");
  }
  bound([...places.values()], file);
  return places;
}

/**
 * The data of an entry: a view of `bytes` if it is stored, decompressed piece by piece otherwise, never
 * further than the size in the directory.
 *
 * @param bytes The archive.
 * @param entry One of {@linkcode readZip}'s.
 * @param options `file` is the name for errors; `checkCrc` compares the checksum, by default true.
 * @throws {FormatError} If the data is damaged or not of the size and checksum in the directory.
 */
export async function readZipEntry(
  bytes: ByteRange,
  entry: ZipEntry,
  options: { file: string; checkCrc?: boolean },
): Promise<Uint8Array> {
  const { file, checkCrc = true } = options;
  const packed = bytes.subarray(entry.start, entry.start + entry.packedSize);
  const data = entry.deflated ? await inflate(packed, entry, file) : packed;
  const crc = checkCrc ? crc32(data) : entry.crc;
  if (crc !== entry.crc) {
    throw new FormatError(`data of ${quote(entry.name)} with checksum ${hex(crc)}`, {
      file,
      offset: entry.start,
      expected: `${hex(entry.crc)}: the file is damaged`,
    });
  }
  return data;
}

async function inflate(packed: Uint8Array, entry: ZipEntry, file: string): Promise<Uint8Array> {
  const { Inflate } = await import("npm:fflate@0.8.3");
  const data = new Uint8Array(entry.size);
  let length = 0, position = 0;

  function fault(found: string, cause?: unknown): FormatError {
    return new FormatError(`${found} in ${quote(entry.name)}`, {
      file,
      offset: entry.start + position,
      expected: `deflated data of ${entry.size} bytes`,
      cause,
    });
  }

  const stream = new Inflate((piece) => {
    if (length + piece.length > data.length) throw fault("more bytes than the directory says");
    data.set(piece, length);
    length += piece.length;
  });
  try {
    do {
      const end = Math.min(position + PIECE, packed.length);
      stream.push(packed.subarray(position, end), end === packed.length);
      position = end;
    } while (position < packed.length);
  } catch (error) {
    if (error instanceof FormatError) throw error;
    throw fault(`damaged data (${error instanceof Error ? error.message : error})`, error);
  }
  if (length < data.length) throw fault(`${length} bytes`);
  return data;
}

/** Finds the central directory from the end of the file. */
function findDirectory(
  bytes: ByteRange,
  file: string,
): { count: number; start: number; end: number } {
  const base = Math.max(0, bytes.length - MAX_TAIL);
  const tail = bytes.subarray(base, bytes.length);
  const reader = new ByteReader(tail, { file, base });
  const at = findEnd(tail, base);
  if (at === undefined) {
    throw reader.fault("no end of central directory", "a whole zip archive", bytes.length);
  }
  reader.at = at + 4;
  const disks = [reader.u16("disk"), reader.u16("disk")];
  let counts = [reader.u16("count"), reader.u16("count")];
  let size = reader.u32("directory size"), start = reader.u32("directory offset"), end = at;
  if (counts.includes(0xffff) || size === 0xffffffff || start === 0xffffffff) {
    ({ counts, size, start, end } = readEnd64(reader, { bytes, end: at }));
  } else if (start + size !== at) {
    // Some writers add the zip64 records where they are not needed.
    const end64 = readEnd64(reader, { bytes, end: at });
    if (end64.start !== start || end64.size !== size) {
      throw reader.fault(`directory at bytes ${start} to ${start + size}`, `an end at ${at}`, at);
    }
    end = end64.end;
  }
  if (disks.some((disk) => disk !== 0) || counts[0] !== counts[1]) {
    throw reader.fault("part of a zip archive on several disks", "an archive in one file", at);
  }
  if (start + size !== end) {
    throw reader.fault(`directory at bytes ${start} to ${start + size}`, `an end at ${end}`, at);
  }
  return { count: counts[0]!, start, end };
}

/** Position of the end record, whose comment must reach to the end of the file. */
function findEnd(tail: Uint8Array, base: number): number | undefined {
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const first = Math.max(0, tail.length - END_SIZE - 0xffff);
  for (let at = tail.length - END_SIZE; at >= first; at--) {
    if (view.getUint32(at, true) !== END) continue;
    if (at + END_SIZE + view.getUint16(at + 20, true) === tail.length) return base + at;
  }
  return undefined;
}

/** The zip64 end record, which stands before its locator, which stands before the end record. */
function readEnd64(
  reader: ByteReader,
  { bytes, end }: { bytes: ByteRange; end: number },
): { counts: number[]; size: number; start: number; end: number } {
  reader.at = end - 20;
  if (end < 20 || reader.u32("zip64 locator") !== LOCATOR64) {
    throw reader.fault("no zip64 locator", "one before the end record", Math.max(0, end - 20));
  }
  reader.u32("disk");
  const at = reader.u64("zip64 offset");
  if (at > end - 20 - 56) throw reader.fault(`zip64 offset ${at}`, `at most ${end - 76}`, end - 12);
  const record = new ByteReader(bytes.subarray(at, at + 56), { file: reader.file, base: at });
  if (record.u32("zip64 end") !== END64) throw reader.fault("no zip64 end record", "one", at);
  record.take(8 + 2 + 2 + 4 + 4, "zip64 end");
  const counts = [record.u64("count"), record.u64("count")];
  return { counts, size: record.u64("size"), start: record.u64("offset"), end: at };
}

/** One header of the directory, which begins at byte `directory`. */
function readPlace(reader: ByteReader, directory: number): ZipPlace {
  const at = reader.at;
  if (reader.u32("entry header") !== CENTRAL) throw reader.fault("no entry header", "one", at);
  reader.take(4, "versions");
  const flags = reader.u16("flags"), method = reader.u16("method");
  reader.take(4, "time");
  const crc = reader.u32("checksum");
  let packedSize = reader.u32("packed size"), size = reader.u32("size");
  const lengths = [reader.u16("length"), reader.u16("length"), reader.u16("length")] as const;
  reader.take(8, "attributes");
  let offset = reader.u32("offset");
  const rawName = reader.take(lengths[0], "name");
  const name = decodeName(rawName, reader);
  const extraAt = reader.at, extra = reader.take(lengths[1], "extra fields");
  reader.take(lengths[2], "comment");
  const wide = [size, packedSize, offset].map((value) => value === 0xffffffff);
  if (wide.includes(true)) {
    const field = new ByteReader(extra, { file: reader.file, base: extraAt });
    [size, packedSize, offset] = readWide(field, [size, packedSize, offset]);
  }
  if (flags & 1) throw reader.fault(`encrypted entry ${quote(name)}`, "no encryption", at);
  if (method !== STORED && method !== DEFLATED) {
    const found = `entry ${quote(name)} packed by method ${method}`;
    throw reader.fault(found, "0 (stored) or 8 (deflated)", at);
  }
  const most = method === STORED ? packedSize : packedSize * MAX_DEFLATE_RATIO;
  if (size > most || (method === STORED && size !== packedSize)) {
    const found = `entry ${quote(name)} of ${size} bytes from ${packedSize}`;
    throw reader.fault(found, `at most ${most} (${method === STORED ? "stored" : "deflated"})`, at);
  }
  if (offset > directory - LOCAL_SIZE) {
    throw reader.fault(`entry ${quote(name)} at byte ${offset}`, "a local header there", at);
  }
  return { name, deflated: method === DEFLATED, offset, packedSize, size, crc, end: directory };
}

/**
 * The entry at a place of the directory: its header, which has extra fields of its own, tells where the data
 * begins.
 *
 * @throws {FormatError} If there is no header, it has another name, or the data reaches beyond the end.
 */
export function locate(bytes: ByteRange, place: ZipPlace, options: { file: string }): ZipEntry {
  const { file } = options, { name, offset, packedSize, end } = place;
  const part = (from: number, length: number) =>
    new ByteReader(bytes.subarray(from, Math.min(from + length, end)), { file, base: from });
  const local = part(offset, LOCAL_SIZE);
  if (local.u32("local header") !== LOCAL) {
    throw local.fault(`entry ${quote(name)} at byte ${offset}`, "a local header there", offset);
  }
  local.take(22, "local header");
  const lengths = [local.u16("length"), local.u16("length")] as const;
  const rest = part(offset + LOCAL_SIZE, lengths[0] + lengths[1]);
  const localName = rest.take(lengths[0], "local name");
  const ownName = new TextEncoder().encode(name);
  if (localName.length !== ownName.length || localName.some((byte, i) => byte !== ownName[i])) {
    throw rest.fault(
      `another name than ${quote(name)}`,
      "the directory's name",
      offset + LOCAL_SIZE,
    );
  }
  rest.take(lengths[1], "local extra fields");
  const start = rest.at;
  if (packedSize > end - start) {
    throw new FormatError(`entry ${quote(name)} that shares bytes with what follows`, {
      file,
      offset: start,
      expected: `${packedSize} bytes before byte ${end}`,
    });
  }
  return { ...place, start };
}

function decodeName(bytes: Uint8Array, reader: ByteReader): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw reader.fault("entry name not in UTF-8", "one in UTF-8", reader.at - bytes.length);
  }
}

/** The fields that do not fit in 32 bits, from the zip64 extra field. */
function readWide(field: ByteReader, fields: [number, number, number]): [number, number, number] {
  const start = field.at;
  while (field.left >= 4) {
    const id = field.u16("extra field"), length = field.u16("extra field");
    if (id !== 1) {
      field.take(length, "extra field");
      continue;
    }
    return fields.map((value) =>
      value === 0xffffffff ? field.u64("zip64 field") : value
    ) as typeof fields;
  }
  throw field.fault("no zip64 extra field", "one for sizes of 0xffffffff", start);
}

/** Says of each place where the next one begins. */
function bound(places: ZipPlace[], file: string): void {
  places.sort((a, b) => a.offset - b.offset);
  for (const [i, place] of places.entries()) {
    place.end = places[i + 1]?.offset ?? place.end;
    if (place.offset + LOCAL_SIZE + place.packedSize <= place.end) continue;
    throw new FormatError(`entry ${quote(place.name)} that shares bytes with what follows`, {
      file,
      offset: place.offset,
      expected: `${place.packedSize} bytes before byte ${place.end}`,
    });
  }
}

function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, "0")}`;
}
