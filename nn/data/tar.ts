/**
 * @file Tar archives, plain or gzip, read from the first byte to the last: they may be larger than memory.
 *
 * POSIX.1-2017, pax, "ustar interchange format" and "pax header"; GNU tar's long names and large numbers,
 * https://www.gnu.org/software/tar/manual/html_node/Standard.html
 */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { quote } from "../io/json_scan.ts";
import type { ByteSource } from "../io/source.ts";
import { ByteStream, openStream } from "./byte_stream.ts";

const BLOCK = 512;
/** Longest name or pax header. */
const MAX_META = 2 ** 20;

/** What an entry of a tar archive is. */
export type TarType = "file" | "directory" | "link" | "device";

/** An entry of a tar archive. Its data can be read until the next entry is asked for. */
export interface TarEntry {
  /** Path in the archive as it is stored. */
  readonly name: string;
  /** Hard and symbolic links are links; what is no file, folder or link is a device. */
  readonly type: TarType;
  /** Bytes of data. */
  readonly size: number;
  /** Position of the header in the archive, decompressed. */
  readonly offset: number;
  /** All of the data. Memory is taken as it arrives, whatever the header says. */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  /** The data piece by piece. */
  pieces(): AsyncGenerator<Uint8Array>;
}

/** Options of {@linkcode readTar}. */
export interface ReadTarOptions {
  /** What errors call bytes or a stream. Default `bytes`. */
  file?: string;
}

/**
 * The entries of a tar archive one after the other: ustar, pax and GNU's long names. A gzip archive of one
 * member is decompressed on the way. Names are given as they are stored: `extractArchive` refuses those
 * that lead out of its folder.
 *
 * @param source A path, a URL, a `Blob`, the archive's bytes or a stream of them.
 * @param options The archive's name for errors.
 * @throws {FormatError} If the archive is cut or damaged; offsets count decompressed bytes.
 *
 * @example
 * ```ts
 * import { readImage } from "./image.ts";
 * import { readTar } from "./tar.ts";
 *
 * for await (const entry of readTar("birds.tar.gz")) {
 *   if (!entry.name.endsWith(".jpg")) continue; // its data is skipped
 *   const { width, height } = await readImage(await entry.bytes(), { file: entry.name });
 * }
 * ```
 */
export async function* readTar(
  source: ByteSource | ReadableStream<Uint8Array>,
  options: ReadTarOptions = {},
): AsyncGenerator<TarEntry, void, undefined> {
  checkOptions("readTar", options, 'readTar(source, { file: "a.tar" })');
  await using stream = await openStream(source, options.file);
  yield* readEntries(stream);
}

/** The entries of a tar archive that is open. */
export async function* readEntries(
  stream: ByteStream,
): AsyncGenerator<TarEntry, void, undefined> {
  let longName: string | undefined, pax: Pax = {};
  for (;;) {
    const offset = stream.at;
    const block = await stream.take(BLOCK, "header");
    if (block.every((byte) => byte === 0)) return await stream.finish();
    const header = readHeader(block, stream, offset);
    const { type } = header, size = pax.size ?? header.size;
    if (type === "L" || type === "x") {
      const body = await readMeta(stream, { type, size: header.size, offset });
      if (type === "L") longName = decode(body.subarray(0, endOf(body)), stream, offset);
      else pax = readPax(body, stream, offset);
      continue;
    }
    if (type === "K" || type === "g") {
      await readMeta(stream, { type, size: header.size, offset }); // link names, comments
      continue;
    }
    const name = pax.path ?? longName ?? header.name;
    longName = undefined;
    pax = {};
    const entry = makeEntry(stream, { name, size, offset, type: typeOf(type, name) });
    if (entry.type === undefined) {
      throw stream.fault(`entry ${quote(name)} of type ${quote(type)}`, "one of ustar", offset);
    }
    const end = stream.at + Math.ceil(size / BLOCK) * BLOCK;
    yield entry as TarEntry;
    await stream.skip(end - stream.at, `entry ${quote(name)}`);
  }
}

/** What a pax header says about the next entry. */
interface Pax {
  path?: string;
  size?: number;
}

interface Header {
  name: string;
  size: number;
  /** One letter. */
  type: string;
}

function makeEntry(
  stream: ByteStream,
  facts: { name: string; size: number; offset: number; type: TarType | undefined },
) {
  const { name, size } = facts, start = stream.at;
  async function* pieces(): AsyncGenerator<Uint8Array> {
    if (stream.at !== start) {
      throw new TypeError(`Cannot read ${quote(name)} again: the archive has gone on`);
    }
    while (stream.at < start + size) {
      yield await stream.some(start + size - stream.at, `entry ${quote(name)}`);
    }
  }
  async function bytes(): Promise<Uint8Array<ArrayBuffer>> {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    for await (const piece of pieces()) parts.push(piece as Uint8Array<ArrayBuffer>);
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }
  return { ...facts, bytes, pieces };
}

function typeOf(type: string, name: string): TarType | undefined {
  if (type === "0" || type === "\0" || type === "7") {
    return name.endsWith("/") ? "directory" : "file";
  }
  if (type === "5") return "directory";
  if (type === "1" || type === "2") return "link";
  return type === "3" || type === "4" || type === "6" ? "device" : undefined;
}

function readHeader(block: Uint8Array, stream: ByteStream, offset: number): Header {
  const stored = readNumber(block.subarray(148, 156), "checksum", { stream, offset: offset + 148 });
  // The sum of all bytes with the checksum's own as spaces.
  const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0);
  if (sum !== stored) throw stream.fault(`header with checksum ${stored}`, `${sum} (tar)`, offset);
  const text = (start: number, length: number) => {
    const field = block.subarray(start, start + length);
    return decode(field.subarray(0, endOf(field)), stream, offset + start);
  };
  // ustar writes "ustar\0", GNU tar "ustar " and other things where the prefix is.
  const prefix = text(257, 6) === "ustar" && block[262] === 0 ? text(345, 155) : "";
  const name = prefix === "" ? text(0, 100) : `${prefix}/${text(0, 100)}`;
  const type = String.fromCharCode(block[156]!);
  const size = readNumber(block.subarray(124, 136), "size", { stream, offset: offset + 124 });
  return { name, type, size: type === "5" || type === "1" || type === "2" ? 0 : size };
}

/** Octal digits, or GNU's big-endian number with the highest bit set. */
function readNumber(
  field: Uint8Array,
  what: string,
  where: { stream: ByteStream; offset: number },
): number {
  let value = 0;
  if (field[0]! & 0x80) {
    value = field[0]! & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const digits = new TextDecoder("latin1").decode(field).replace(/^ +/, "").replace(
      /[ \0].*$/s,
      "",
    );
    value = /^[0-7]*$/.test(digits) ? parseInt(digits || "0", 8) : NaN;
  }
  if (Number.isSafeInteger(value)) return value;
  throw where.stream.fault(`${what} that is no number`, "octal digits (tar)", where.offset);
}

/** The data of an entry that tells of the next one. */
async function readMeta(
  stream: ByteStream,
  { type, size, offset }: { type: string; size: number; offset: number },
): Promise<Uint8Array> {
  if (size > MAX_META) {
    throw stream.fault(`header ${quote(type)} of ${size} bytes`, `at most ${MAX_META}`, offset);
  }
  const body = await stream.take(Math.ceil(size / BLOCK) * BLOCK, "header");
  return body.subarray(0, size);
}

/** Records `LENGTH KEY=VALUE\n`, whose length counts all of it. */
function readPax(body: Uint8Array, stream: ByteStream, offset: number): Pax {
  const pax: Pax = {};
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at), equals = body.indexOf(0x3d, space);
    const digits = new TextDecoder("latin1").decode(body.subarray(at, Math.min(space, at + 8)));
    const length = /^\d+$/.test(digits) ? Number(digits) : 0, end = at + length;
    if (space < 0 || equals < 0 || equals >= end || end > body.length || body[end - 1] !== 0x0a) {
      throw stream.fault(
        "pax record",
        "LENGTH KEY=VALUE and a line end (tar)",
        offset + BLOCK + at,
      );
    }
    const key = new TextDecoder("latin1").decode(body.subarray(space + 1, equals));
    const value = body.subarray(equals + 1, end - 1);
    if (key === "path") pax.path = decode(value, stream, offset + BLOCK + at);
    if (key === "size") {
      const text = new TextDecoder("latin1").decode(value), size = Number(text);
      if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(size)) {
        throw stream.fault("size that is no number", "digits (pax)", offset + BLOCK + at);
      }
      pax.size = size;
    }
    at = end;
  }
  return pax;
}

/** Where a text ends that a zero may end. */
function endOf(field: Uint8Array): number {
  const end = field.indexOf(0);
  return end < 0 ? field.length : end;
}

function decode(bytes: Uint8Array, stream: ByteStream, offset: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError("name not in UTF-8", {
      file: stream.file,
      offset,
      expected: "one in UTF-8 (tar)",
      cause,
    });
  }
}
