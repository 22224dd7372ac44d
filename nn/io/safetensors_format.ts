/**
 * @file The safetensors format as pure functions from arrays to bytes and back.
 *
 * u64 length of the header (little-endian), the header in JSON, the data. The header maps each name to
 * `{dtype, shape, data_offsets}`, and `__metadata__` to strings.
 * https://github.com/huggingface/safetensors#format
 */

import { FormatError } from "../format_error.ts";
import type { ByteRange } from "./byte_range.ts";
import {
  byteSize,
  emptyView,
  HOST_DTYPES,
  type HostArray,
  type HostDtype,
  hostView,
} from "./host_array.ts";
import { JsonFault, parseStrictJson, quote } from "./json_scan.ts";

/** Largest header that readers accept. */
const MAX_HEADER = 100_000_000;
/** Nesting that the reference reader (serde_json) allows. */
const MAX_DEPTH = 127;

/** The content of a safetensors file. */
export interface SafetensorsFile {
  /** The arrays by name. */
  tensors: Record<string, HostArray>;
  /** The strings under `__metadata__`, if any. */
  metadata: Record<string, string>;
}

/**
 * The bytes of a safetensors file, laid out as the reference writer does: arrays by falling alignment
 * of their dtype and then by name, the header padded with spaces to a multiple of 8 bytes.
 *
 * @param tensors The arrays by name.
 * @param metadata Strings to keep under `__metadata__`, in the order given.
 * @throws {TypeError} If a name is not usable or an array's data does not fit its dtype and shape.
 * @throws {RangeError} If the header is over the 100 MB that readers accept.
 */
export function encodeSafetensors(
  tensors: Record<string, HostArray>,
  metadata?: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const parts = safetensorsParts(tensors, metadata);
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * As {@linkcode encodeSafetensors}, in parts that share the arrays' memory: first the header, then the
 * data of each array.
 */
export function safetensorsParts(
  tensors: Record<string, HostArray>,
  metadata?: Record<string, string>,
): Uint8Array[] {
  const entries = Object.entries(tensors).map(([name, array]) => {
    return { name, array, key: new TextEncoder().encode(name), bytes: checkedBytes(name, array) };
  });
  entries.sort((a, b) =>
    HOST_DTYPES.indexOf(b.array.dtype) - HOST_DTYPES.indexOf(a.array.dtype) ||
    compareBytes(a.key, b.key)
  );
  const header: [string, unknown][] = [];
  if (metadata) header.push(["__metadata__", checkedMetadata(metadata)]);
  let offset = 0;
  for (const { name, array: { dtype, shape }, bytes } of entries) {
    const data_offsets = [offset, offset += bytes.length];
    header.push([name, { dtype, shape, data_offsets }]);
  }
  return [encodeHeader(header), ...entries.map(({ bytes }) => bytes)];
}

/** Length and JSON of the header. The pairs are joined here, as objects reorder numeric names. */
function encodeHeader(pairs: [string, unknown][]): Uint8Array {
  const json = pairs.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const text = new TextEncoder().encode(`{${json.join(",")}}`);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER) {
    throw new RangeError(
      `Cannot write a safetensors header of ${length} bytes: readers accept at most ${MAX_HEADER}`,
    );
  }
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  return bytes;
}

function checkedBytes(name: string, { dtype, shape, data }: HostArray): Uint8Array {
  if (name === "__metadata__" || !name.isWellFormed()) {
    throw new TypeError(`Cannot write a tensor named ${quote(name)}: the name is not allowed`);
  }
  if (!HOST_DTYPES.includes(dtype)) {
    throw new TypeError(
      `Cannot write tensor ${quote(name)}: dtype ${dtype} is none of ${HOST_DTYPES.join(", ")}`,
    );
  }
  const size = shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)
    ? byteSize(dtype, shape)
    : undefined;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const fits = data instanceof Uint8Array || data.constructor === emptyView(dtype).constructor;
  if (!fits || bytes.length !== size) {
    throw new TypeError(
      `Cannot write tensor ${quote(name)} of ${dtype} [${shape.join(", ")}]: it takes ` +
        `${size} bytes of ${emptyView(dtype).constructor.name}, ` +
        `got ${bytes.length} of ${data.constructor.name}`,
    );
  }
  return bytes;
}

function checkedMetadata(metadata: Record<string, string>): Record<string, string> {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string" || !key.isWellFormed() || !value.isWellFormed()) {
      throw new TypeError(`Cannot write metadata ${quote(key)}: it must be a well-formed string`);
    }
  }
  return metadata;
}

/**
 * True if a file begins as a safetensors file does: with the length of a header that fits in it, and the
 * header's brace. The length alone may look like the magic number of another format.
 */
export function isSafetensors(bytes: ByteRange): boolean {
  const head = bytes.subarray(0, 9);
  if (head.length < 9 || head[8] !== 0x7b) return false;
  const length = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  return length <= bytes.length - 8;
}

/**
 * Reads the bytes of a safetensors file. The arrays are views into `bytes` where their alignment
 * allows, copies elsewhere.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors. Default `bytes`.
 * @throws {FormatError} If the header is over 100 MB, not UTF-8, not JSON or names a key twice; if the
 * arrays leave holes, overlap or do not fill the file; if sizes do not agree; if a dtype is unknown.
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  options: { file?: string } = {},
): SafetensorsFile {
  const { file = "bytes" } = options;
  const { entries, metadata } = parseSafetensors(bytes, { file });
  const arrays = entries.map(({ name, dtype, shape, start, size }): [string, HostArray] => {
    return [name, { dtype, shape, data: hostView(dtype, bytes.subarray(start, start + size)) }];
  });
  return { tensors: Object.fromEntries(arrays), metadata };
}

/** An array in a file. */
export interface SafetensorsEntry {
  /** Its name. */
  name: string;
  /** Element type. */
  dtype: HostDtype;
  /** Size of each dim. */
  shape: number[];
  /** First byte of its data in the file. */
  start: number;
  /** Bytes of its data. */
  size: number;
}

/**
 * What a safetensors file holds, by its header alone, in the order of the data.
 *
 * @param bytes The file; its header is read.
 * @param options `file` is the name for errors.
 * @throws {FormatError} As {@linkcode decodeSafetensors}.
 */
export function parseSafetensors(
  bytes: ByteRange,
  options: { file: string },
): { entries: SafetensorsEntry[]; metadata: Record<string, string> } {
  const { file } = options;
  const { value, at, dataStart } = readHeader(bytes, file);
  const header = value as Record<string, unknown>;

  /** Reports a fault in the header entry `name`. */
  function fault(name: string, found: string, expected: string): FormatError {
    return new FormatError(`tensor ${quote(name)} with ${found}`, {
      file,
      offset: at(name),
      expected,
    });
  }

  const entries: Entry[] = [];
  for (const [name, info] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (!name.isWellFormed()) throw fault(name, "half a surrogate in its name", "Unicode text");
    entries.push({ name, ...readEntry(info, (found, expected) => fault(name, found, expected)) });
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const dataSize = bytes.length - dataStart;
  let end = 0;
  for (const entry of entries) {
    const range = `data_offsets [${entry.begin}, ${entry.end}]`;
    if (entry.begin !== end) throw fault(entry.name, range, `a begin of ${end}, without hole`);
    end = entry.end;
    if (end > dataSize) throw fault(entry.name, range, `an end of at most ${dataSize}`);
  }
  if (end !== dataSize) {
    throw new FormatError(`${dataSize - end} trailing bytes`, {
      file,
      offset: dataStart + end,
      expected: "the end of the file after the last tensor",
    });
  }
  return {
    entries: entries.map(({ name, dtype, shape, begin, end }) => {
      return { name, dtype, shape, start: dataStart + begin, size: end - begin };
    }),
    metadata: readMetadata(header, (found, expected) => {
      return new FormatError(found, { file, offset: at("__metadata__"), expected });
    }),
  };
}

/** One array as the header describes it. */
interface Entry {
  name: string;
  dtype: HostDtype;
  shape: number[];
  begin: number;
  end: number;
}

/** Makes an error about one entry of the header. */
type Fault = (found: string, expected: string) => FormatError;

/** Parses the header; `at` gives the byte position of a name in it. */
function readHeader(
  bytes: ByteRange,
  file: string,
): { value: object; at: (name: string) => number; dataStart: number } {
  if (bytes.length < 8) {
    throw new FormatError("end of file", {
      file,
      offset: bytes.length,
      expected: "8 bytes of header length (safetensors)",
    });
  }
  const { buffer, byteOffset } = bytes.subarray(0, 8);
  const length = new DataView(buffer, byteOffset).getBigUint64(0, true);
  const most = Math.min(MAX_HEADER, bytes.length - 8);
  if (length > most) {
    const reason = most === MAX_HEADER ? "the format's limit" : "the rest of the file";
    throw new FormatError(`header length ${length}`, {
      file,
      offset: 0,
      expected: `at most ${most}, ${reason} (safetensors)`,
    });
  }
  const dataStart = 8 + Number(length), json = bytes.subarray(8, dataStart);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
  } catch (cause) {
    throw new FormatError("header not in UTF-8", {
      file,
      offset: 8,
      expected: "a JSON object in UTF-8",
      cause,
    });
  }
  const byteAt = (index: number) => 8 + new TextEncoder().encode(text.slice(0, index)).length;
  try {
    const { value, keys } = parseStrictJson(text, MAX_DEPTH);
    if (isObject(value)) return { value, at: (name) => byteAt(keys.get(name) ?? 0), dataStart };
    throw new JsonFault("no JSON object", 0);
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    throw new FormatError(cause.message, {
      file,
      offset: byteAt(cause.index),
      expected: "a JSON object that names each tensor once",
      cause,
    });
  }
}

function readEntry(info: unknown, fault: Fault): Omit<Entry, "name"> {
  if (!isObject(info)) throw fault("no object", "{dtype, shape, data_offsets}");
  const { dtype, shape, data_offsets } = info as Record<string, unknown>;
  if (!HOST_DTYPES.includes(dtype as HostDtype)) {
    throw fault(`dtype ${show(dtype)}`, `one of ${HOST_DTYPES.join(", ")}`);
  }
  if (!isSizes(shape)) throw fault(`shape ${show(shape)}`, "a list of sizes");
  if (!isSizes(data_offsets) || data_offsets.length !== 2) {
    throw fault(`data_offsets ${show(data_offsets)}`, "[begin, end]");
  }
  const [begin = 0, end = 0] = data_offsets;
  const size = byteSize(dtype as HostDtype, shape);
  if (size === undefined || end - begin !== size) {
    throw fault(
      `${end - begin} bytes of data for ${dtype} ${show(shape)}`,
      size === undefined ? "a size of whole bytes below 2^53" : `${size}`,
    );
  }
  return { dtype: dtype as HostDtype, shape, begin, end };
}

function readMetadata(header: Record<string, unknown>, fault: Fault): Record<string, string> {
  const metadata = header["__metadata__"] ?? {};
  if (!isObject(metadata)) throw fault("__metadata__ that is no object", "a map of strings");
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string" || !value.isWellFormed() || !key.isWellFormed()) {
      throw fault(`__metadata__ with ${quote(key)} that is no string`, "a map of strings");
    }
  }
  return metadata as Record<string, string>;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from the header for a message, not too long. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}
