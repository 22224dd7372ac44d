/**
 * @file MXNet's `.params` files: a list of arrays and their names, in the three layouts MXNet has used.
 *
 * Source: mxnet src/ndarray/ndarray.cc (NDArray::Load, LegacyLoad), src/c_api/c_api.cc
 */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { ByteReader } from "./byte_reader.ts";
import { byteSize, type HostArray, type HostDtype, hostView } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { type EngineArray, fromEngine, toEngine } from "./safetensors.ts";
import { type ByteSource, readSource } from "./source.ts";

const LIST_MAGIC = 0x112;
const V1 = 0xf993fac8;
const V2 = 0xf993fac9;
/** As V2, with the shapes of NumPy: no dims is a scalar, -1 dims is no array. */
const V3 = 0xf993faca;
const MAX_RANK = 32;

/** Element types by their number (mshadow/base.h). */
const TYPES: readonly HostDtype[] = [
  "F32",
  "F64",
  "F16",
  "U8",
  "I32",
  "I8",
  "I64",
  "BOOL",
  "I16",
  "U16",
  "U32",
  "U64",
  "BF16",
];

/** Options of {@linkcode loadMxnetParams}. */
export interface LoadMxnetOptions {
  /**
   * Texts to remove from the front of names, e.g. `["arg:", "aux:"]` of a checkpoint of the module API;
   * the first that fits. Default none.
   */
  stripPrefix?: string | readonly string[];
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/**
 * Loads the arrays of an MXNet file: `save_checkpoint`'s and Gluon's `save_parameters`', layouts V0, V1
 * and V2 (and V2 with NumPy's shapes). Names are the file's, or `0`, `1`, ... if it has none; arrays
 * that hold nothing are left out. Dtypes become those of the engine as {@linkcode loadSafetensors} says.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `stripPrefix` for the names.
 * @returns The tensors by name.
 * @throws {FormatError} If the file is none, cut or too long, an array is sparse, names repeat, or a
 * value does not fit a dtype of the engine.
 *
 * @example
 * ```ts
 * import { loadMxnetParams } from "./mxnet.ts";
 *
 * const weights = await loadMxnetParams("det1-0001.params", { stripPrefix: ["arg:", "aux:"] });
 * ```
 */
export async function loadMxnetParams(
  source: ByteSource,
  options: LoadMxnetOptions = {},
): Promise<Record<string, Tensor>> {
  checkOptions("loadMxnetParams", options, 'loadMxnetParams(source, { stripPrefix: "net." })');
  const { bytes, file } = await readSource(source, options.file);
  const arrays = decodeMxnetParams(bytes, { ...options, file });
  const converted = Object.entries(arrays).map(([name, array]): [string, EngineArray] => {
    return [name, toEngine(array, { name, file })];
  });
  return Object.fromEntries(converted.map(([name, array]) => [name, fromEngine(array)]));
}

/**
 * The arrays of an MXNet file on the host, as views of `bytes` where their alignment allows.
 *
 * @param bytes The whole file.
 * @param options As those of {@linkcode loadMxnetParams}.
 * @throws {FormatError} As {@linkcode loadMxnetParams}, values aside.
 */
export function decodeMxnetParams(
  bytes: Uint8Array,
  options: LoadMxnetOptions = {},
): Record<string, HostArray> {
  const { file = "bytes", stripPrefix = [] } = options;
  const prefixes = typeof stripPrefix === "string" ? [stripPrefix] : stripPrefix;
  const reader = new ByteReader(bytes, { file });
  const magic = reader.bigU64("magic"), reserved = reader.bigU64("magic");
  if (magic !== BigInt(LIST_MAGIC) || reserved !== 0n) {
    throw reader.fault(`magic 0x${magic.toString(16)}`, "0x112, then 0 (MXNet .params)", 0);
  }
  const count = reader.u64("number of arrays");
  const arrays: (HostArray | undefined)[] = [];
  for (let i = 0; i < count; i++) arrays.push(readArray(reader));
  const namesAt = reader.at, names = reader.u64("number of names");
  if (names !== 0 && names !== count) {
    throw reader.fault(`${names} names`, `0 or ${count}, as many as arrays`, namesAt);
  }
  const named = new Map<string, HostArray>();
  for (const [i, array] of arrays.entries()) {
    const at = reader.at, full = names === 0 ? String(i) : readName(reader);
    const prefix = prefixes.find((prefix) => full.startsWith(prefix)) ?? "";
    const name = full.slice(prefix.length);
    if (array === undefined) continue;
    if (named.has(name)) throw reader.fault(`second array ${quote(name)}`, "each name once", at);
    named.set(name, array);
  }
  if (reader.left > 0) throw reader.fault(`${reader.left} trailing bytes`, "the end of the file");
  return Object.fromEntries(named);
}

/** One array; `undefined` if it holds nothing. */
function readArray(reader: ByteReader): HostArray | undefined {
  const at = reader.at, magic = reader.u32("array");
  let shape: number[];
  if (magic === V2 || magic === V3) {
    const storage = reader.i32("storage type");
    if (storage !== 0) {
      const kind = ["", "row sparse", "csr"][storage] ?? "unknown";
      throw reader.fault(`array of storage type ${storage} (${kind})`, "0 (dense)", at + 4);
    }
    const rank = reader.i32("rank");
    if (rank === (magic === V2 ? 0 : -1)) return undefined;
    shape = readShape(reader, rank, 8);
  } else if (magic === V1) {
    const rank = reader.i32("rank");
    if (rank === 0) return undefined;
    shape = readShape(reader, rank, 8);
  } else {
    if (magic === 0) return undefined;
    shape = readShape(reader, magic, 4);
  }
  reader.take(8, "context"); // where the array was: type and number of the device
  const typeAt = reader.at, type = reader.i32("type"), dtype = TYPES[type];
  if (dtype === undefined) {
    throw reader.fault(`element type ${type}`, `0 to ${TYPES.length - 1}`, typeAt);
  }
  const size = byteSize(dtype, shape);
  if (size === undefined || size > reader.left) {
    throw reader.fault(
      `array of ${dtype} [${shape.join(", ")}]`,
      `at most the ${reader.left} bytes that are left`,
    );
  }
  return { dtype, shape, data: hostView(dtype, reader.take(size, "array")) };
}

function readShape(reader: ByteReader, rank: number, bytes: 4 | 8): number[] {
  if (rank < 0 || rank > MAX_RANK) {
    const expected = `0 to ${MAX_RANK}, or the magic of an array`;
    throw reader.fault(`rank ${rank}`, expected, reader.at - 4);
  }
  return Array.from({ length: rank }, () => bytes === 4 ? reader.u32("size") : reader.u64("size"));
}

function readName(reader: ByteReader): string {
  const length = reader.u64("length of a name"), at = reader.at;
  const bytes = reader.take(length, "name");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw reader.fault("name not in UTF-8", "a name in UTF-8", at);
  }
}
