/**
 * @file NumPy's files: `.npy` with one array, `.npz` with several in a zip archive.
 *
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { type ByteTarget, contentFor, writeFileAtomic } from "./atomic.ts";
import { ByteReader } from "./byte_reader.ts";
import { byteSize, emptyView, type HostArray, type HostDtype, hostView } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { fromEngine, namedTensors, toEngine, toHost } from "./safetensors.ts";
import { type ByteSource, readSource } from "./source.ts";
import { gatherElements } from "./strided.ts";
import { readZip, readZipEntry } from "./zip.ts";

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
const MAX_RANK = 64;
/** Longest header; numpy's own reader stops at 10,000. */
const MAX_HEADER = 65_536;
/** Archives of this size and more would need zip64. */
const MAX_ARCHIVE = 2 ** 32 - 1;

/** Kind and bytes of an element, as in `descr`. */
const TYPES: Partial<Record<HostDtype, string>> = {
  BOOL: "b1",
  U8: "u1",
  I8: "i1",
  U16: "u2",
  I16: "i2",
  F16: "f2",
  U32: "u4",
  I32: "i4",
  F32: "f4",
  U64: "u8",
  I64: "i8",
  F64: "f8",
  C64: "c8",
};

/** Options of {@linkcode loadNpy} and {@linkcode loadNpz}. */
export interface LoadNpyOptions {
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/**
 * Loads the array of a `.npy` file, of either byte order and either order of dims. Dtypes become those
 * of the engine as {@linkcode loadSafetensors} says.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The file's name for errors.
 * @throws {FormatError} If the file is none, cut or too long, or its elements are objects, text,
 * records, complex or do not fit a dtype of the engine.
 *
 * @example
 * ```ts
 * import { loadNpy } from "./npy.ts";
 *
 * const x = await loadNpy("x.npy");
 * ```
 */
export async function loadNpy(source: ByteSource, options: LoadNpyOptions = {}): Promise<Tensor> {
  checkOptions("loadNpy", options, 'loadNpy(source, { file: "a.npy" })');
  const { bytes, file } = await readSource(source, options.file);
  return fromEngine(toEngine(decodeNpy(bytes, { file }), { name: "array", file }));
}

/**
 * Loads the arrays of an `.npz` file, compressed or not, by name without `.npy`. They take at most 1032
 * times the bytes of the file.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The file's name for errors.
 * @throws {FormatError} As {@linkcode loadNpy}; if the archive is damaged or holds other files.
 *
 * @example
 * ```ts
 * import { loadNpz } from "./npy.ts";
 *
 * const { x, y } = await loadNpz("data.npz");
 * ```
 */
export async function loadNpz(
  source: ByteSource,
  options: LoadNpyOptions = {},
): Promise<Record<string, Tensor>> {
  checkOptions("loadNpz", options, 'loadNpz(source, { file: "a.npz" })');
  const { bytes, file } = await readSource(source, options.file);
  const converted = Object.entries(await decodeNpz(bytes, { file })).map(([name, array]) => {
    return [name, toEngine(array, { name, file })] as const;
  });
  return Object.fromEntries(converted.map(([name, array]) => [name, fromEngine(array)]));
}

/**
 * Saves tensors by name to an `.npz` file that NumPy reads, in one step: an old file stays whole until
 * the new one is. The same tensors give the same bytes.
 *
 * @param path The file, whose folder must exist, or a `WritableStream`.
 * @param tensors The tensors. They must not change until the promise settles.
 * @param options `compress` deflates, as `numpy.savez_compressed`. Default false.
 * @throws {RangeError} If the file would be 4 GB or larger.
 * @throws {Error} If the file cannot be written.
 *
 * @example
 * ```ts
 * import { saveNpz } from "./npy.ts";
 * import { tensor } from "../../engine/mod.ts";
 *
 * await saveNpz("data.npz", { x: tensor([[1, 2], [3, 4]]) });
 * ```
 */
export async function saveNpz(
  path: ByteTarget,
  tensors: Record<string, Tensor>,
  options: { compress?: boolean } = {},
): Promise<void> {
  const bytes = await contentFor(path, async () => {
    checkOptions("saveNpz", options, "saveNpz(path, { x }, { compress: true })");
    const arrays = Object.fromEntries(await toHost(namedTensors(tensors)));
    return await encodeNpz(arrays, options);
  });
  await writeFileAtomic(path, bytes);
}

/**
 * The bytes of an `.npz` file. The same arrays give the same bytes.
 *
 * @param arrays The arrays by name.
 * @param options `compress` deflates. Default false.
 * @throws {TypeError} If NumPy has no such dtype or the data does not fit the shape.
 * @throws {RangeError} If the file would be 4 GB or larger.
 */
export async function encodeNpz(
  arrays: Record<string, HostArray>,
  options: { compress?: boolean } = {},
): Promise<Uint8Array> {
  const { zipSync } = await import("npm:fflate@0.8.3");
  const files = Object.entries(arrays).map(([name, array]) =>
    [`${name}.npy`, encodeNpy(array)] as const
  );
  const size = files.reduce(
    (total, [name, { length }]) => total + length + 128 + 6 * name.length,
    22,
  );
  if (size > MAX_ARCHIVE) {
    throw new RangeError(`Cannot write ${size} bytes as npz: at most ${MAX_ARCHIVE} fit`);
  }
  // fflate stores local time: this is the format's first day everywhere.
  const mtime = new Date(1980, 0, 1);
  const level = options.compress ? 6 : 0;
  return zipSync(Object.fromEntries(files), { level, mtime });
}

/**
 * The bytes of a `.npy` file, version 1, little-endian, in row-major order.
 *
 * @param array What to write.
 * @throws {TypeError} If NumPy has no such dtype or the data does not fit the shape.
 */
export function encodeNpy(array: HostArray): Uint8Array<ArrayBuffer> {
  const { dtype, shape, data } = array;
  const type = TYPES[dtype], size = byteSize(dtype, shape);
  if (type === undefined || data.byteLength !== size) {
    throw new TypeError(
      `Cannot write ${data.byteLength} bytes of ${dtype} [${shape.join(", ")}] as npy: ` +
        (type === undefined ? `NumPy has no ${dtype}` : `it takes ${size} bytes`),
    );
  }
  const order = type.endsWith("1") ? "|" : "<";
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dict = `{'descr': '${order}${type}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const start = Math.ceil((10 + dict.length + 1) / 64) * 64;
  const bytes = new Uint8Array(start + data.byteLength).fill(0x20, 0, start);
  bytes.set(MAGIC);
  bytes.set([1, 0, (start - 10) & 255, (start - 10) >> 8], 6);
  bytes.set(new TextEncoder().encode(dict), 10);
  bytes[start - 1] = 0x0a;
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  return bytes;
}

/**
 * The array of a `.npy` file on the host: a view of `bytes` where alignment and order allow.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors.
 * @throws {FormatError} As {@linkcode loadNpy}; complex numbers of 64 bits are read.
 */
export function decodeNpy(bytes: Uint8Array, options: LoadNpyOptions = {}): HostArray {
  const { file = "bytes" } = options;
  const reader = new ByteReader(bytes, { file });
  const magic = reader.take(8, "magic"), version = magic[6]!;
  if (MAGIC.some((byte, i) => byte !== magic[i]) || version < 1 || version > 3) {
    throw reader.fault("another magic number or version", "\\x93NUMPY, version 1 to 3", 0);
  }
  const length = version === 1 ? reader.u16("header length") : reader.u32("header length");
  if (length > MAX_HEADER) {
    throw reader.fault(`header of ${length} bytes`, `at most ${MAX_HEADER} (npy)`, 8);
  }
  const at = reader.at;
  const { dtype, big, fortran, shape } = parseHeader(reader.take(length, "header"), reader, at);
  const size = byteSize(dtype, shape);
  if (size !== reader.left) {
    const found = `${reader.left} bytes of data for ${dtype} [${shape.join(", ")}]`;
    throw reader.fault(found, size === undefined ? "a size below 2^53" : `${size} (npy)`);
  }
  if (size === 0) return { dtype, shape, data: emptyView(dtype) };
  const width = byteSize(dtype, [1])!;
  let data = reader.take(size, "data");
  if (big) data = swapBytes(data, dtype === "C64" ? 4 : width);
  if (fortran) {
    let step = 1;
    const strides = shape.map((size) => (step *= size) / size);
    data = gatherElements(data, { size: width, shape, strides });
  }
  return { dtype, shape, data: hostView(dtype, data) };
}

/**
 * The arrays of an `.npz` file on the host, by name without `.npy`.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors.
 * @throws {FormatError} As {@linkcode loadNpz}.
 */
export async function decodeNpz(
  bytes: Uint8Array,
  options: LoadNpyOptions = {},
): Promise<Record<string, HostArray>> {
  const { file = "bytes" } = options;
  const arrays: [string, HostArray][] = [];
  for (const [name, entry] of readZip(bytes, { file })) {
    if (!name.endsWith(".npy")) {
      throw new ByteReader(bytes, { file, at: entry.start })
        .fault(`entry ${quote(name)}`, "entries NAME.npy (npz)");
    }
    const data = await readZipEntry(bytes, entry, { file });
    const label = `${name.slice(0, 80)} of ${file}`.replace(/\p{Cc}/gu, "?");
    arrays.push([name.slice(0, -4), decodeNpy(data, { file: label })]);
  }
  return Object.fromEntries(arrays);
}

/** Parses the dict of a header, a Python literal with three keys. */
function parseHeader(
  bytes: Uint8Array,
  reader: ByteReader,
  at: number,
): { dtype: HostDtype; big: boolean; fortran: boolean; shape: number[] } {
  const text = new TextDecoder("latin1").decode(bytes);
  const entry = /\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([\d\s,L]*\)|\[)/y;
  const fields = new Map<string, string>();
  let rest = /^\s*\{/.exec(text)?.[0].length ?? 0;
  const fault = (found: string, expected: string) => reader.fault(found, `${expected} (npy)`, at);
  while (rest > 0) {
    entry.lastIndex = rest;
    const match = entry.exec(text);
    if (!match || fields.has(match[1]!)) break;
    fields.set(match[1]!, match[2]!);
    rest += match[0].length;
    const comma = /\s*,/y;
    comma.lastIndex = rest;
    if (!comma.test(text)) break;
    rest = comma.lastIndex;
  }
  const descr = fields.get("descr") ?? "", order = fields.get("fortran_order") ?? "";
  if (descr === "[") throw fault("records", "numbers");
  const sizes = parseSizes(fields.get("shape") ?? "");
  const whole = /^\s*\}\s*$/.test(text.slice(rest));
  if (!whole || !descr.startsWith("'") || !/^(True|False)$/.test(order) || !sizes) {
    throw fault("no header", "{'descr': ..., 'fortran_order': ..., 'shape': (...)}");
  }
  const type = descr.slice(2, -1), mark = descr[1] ?? "";
  const dtype = (Object.keys(TYPES) as HostDtype[]).find((name) => TYPES[name] === type);
  if (dtype === undefined || !"<>|=".includes(mark) || (mark === "|" && !type.endsWith("1"))) {
    const known = Object.values(TYPES).join(", ");
    throw fault(`elements of type ${descr.slice(0, 40)}`, `< or > and one of ${known}`);
  }
  return { dtype, big: mark === ">", fortran: order === "True", shape: sizes };
}

/** The sizes of a Python tuple: `()`, `(3,)`, `(2, 3)`; Python 2 wrote `3L`. */
function parseSizes(text: string): number[] | undefined {
  const inner = /^\((.*)\)$/s.exec(text)?.[1]?.trim();
  if (inner === undefined) return undefined;
  if (inner === "") return [];
  const parts = inner.split(",").map((part) => part.trim());
  if (parts.length === 1) return undefined; // a number in brackets is no tuple
  if (parts.at(-1) === "") parts.pop();
  if (parts.length > MAX_RANK || !parts.every((part) => /^\d{1,16}L?$/.test(part))) {
    return undefined;
  }
  const sizes = parts.map((part) => Number.parseInt(part, 10));
  return sizes.every(Number.isSafeInteger) ? sizes : undefined;
}

/** A copy with the bytes of each number reversed. */
function swapBytes(bytes: Uint8Array, width: number): Uint8Array {
  const swapped = bytes.slice();
  for (let at = 0; at < swapped.length; at += width) swapped.subarray(at, at + width).reverse();
  return swapped;
}
