/**
 * @file PyTorch's `.pt` and `.pth` files: the zip form of torch 1.6 and later, and the stream before it.
 *
 * Format: PyTorch, torch/serialization.py and docs/source/notes/serialization.rst. The pickle inside is
 * read by a machine that can run nothing, see pickle.ts.
 */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { FormatError } from "../format_error.ts";
import { type ByteRange, LatePart } from "./byte_range.ts";
import { ByteReader } from "./byte_reader.ts";
import { quote } from "./json_scan.ts";
import { type PickleFault, PickleGlobal, PickleTuple, unpickle } from "./pickle.ts";
import { type EngineArray, fromEngine, toEngine } from "./safetensors.ts";
import { type ByteSource, readSource } from "./source.ts";
import {
  callTorch,
  isTorchName,
  MAX_EXPANSION,
  storageId,
  TorchStorage,
  TorchTensor,
} from "./torch_tensor.ts";
import { decodeLegacyTorch } from "./torch_legacy.ts";
import { isZip, locate, readZip, readZipDirectory, readZipEntry, type ZipPlace } from "./zip.ts";

/** Options of {@linkcode decodeTorch}. */
export interface DecodeTorchOptions {
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
  /**
   * Whether to compare the checksums in a zip file; default true. torch can be told to write files
   * with wrong ones (`set_crc32_options(False)`).
   */
  checkCrc?: boolean;
}

/** Options of {@linkcode loadTorch}. */
export interface LoadTorchOptions extends DecodeTorchOptions {
  /**
   * Where the tensors are in a file that holds more than a state dict: the key of a dict, e.g.
   * `"state_dict"` or `"model_state_dict"`, or several from the outside in.
   */
  key?: string | readonly string[];
  /** Text to remove from the front of names that begin with it, e.g. `"module."`. Default none. */
  stripPrefix?: string;
}

/**
 * Loads the tensors of a PyTorch file, e.g. one made by `torch.save(model.state_dict(), path)`: those
 * of a dict by name, those of a list by index, a single one as `tensor`. What is no tensor is left out.
 * Dtypes become those of the engine as {@linkcode loadSafetensors} says.
 *
 * A file with other dicts around the state dict needs `key`; without it the error lists the keys. Views
 * and tensors that share storage are loaded as separate tensors. The tensors may take 16 times the bytes
 * of the file, in the file's dtypes.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `key` for a nested dict, `stripPrefix` for names of `DataParallel`.
 * @returns The tensors by name.
 * @throws {FormatError} If the file is no PyTorch file, is damaged, names a class or function that
 * weights do not need (nothing in the file is ever run), holds a tensor outside its storage, a sparse or
 * quantized one, a value or dtype that the engine has not, or no tensor at `key`.
 *
 * @example
 * ```ts
 * import { loadTorch } from "./torch.ts";
 *
 * const weights = await loadTorch("checkpoint.pth", {
 *   key: "model_state_dict",
 *   stripPrefix: "module.",
 * });
 * ```
 */
export async function loadTorch(
  source: ByteSource,
  options: LoadTorchOptions = {},
): Promise<Record<string, Tensor>> {
  checkOptions("loadTorch", options, 'loadTorch(source, { key: "model" })');
  const { bytes, file } = await readSource(source, options.file);
  const { key = [], stripPrefix = "" } = options;
  const root = await decodeTorch(bytes, { ...options, file });
  const tensors = selectTensors(root, { file, key });
  const size = tensors.reduce((total, [, tensor]) => total + tensor.byteLength, 0);
  if (size > MAX_EXPANSION * bytes.length) {
    throw new FormatError(`tensors of ${size} bytes in all`, {
      file,
      offset: 0,
      expected: `at most ${MAX_EXPANSION} times the ${bytes.length} bytes of the file`,
    });
  }
  const arrays = new Map<string, EngineArray>();
  for (const [name, tensor] of tensors) {
    const short = name.startsWith(stripPrefix) ? name.slice(stripPrefix.length) : name;
    if (arrays.has(short)) {
      throw new FormatError(`two tensors named ${quote(short)}`, {
        file,
        offset: 0,
        expected: `names that differ without ${quote(stripPrefix)}`,
      });
    }
    arrays.set(short, toEngine(tensor.host(), { name, file }));
  }
  return Object.fromEntries([...arrays].map(([name, array]) => [name, fromEngine(array)]));
}

/**
 * The value in a PyTorch file, for what {@linkcode loadTorch} leaves out: dicts are `Map`s, lists and
 * tuples arrays, sets `Set`s, bytes `Uint8Array`s, integers beyond 2^53 bigints, classes and dtypes
 * their names, and tensors {@linkcode TorchTensor}s, whose `host()` gives the elements. Containers are
 * nested at most 100 deep and never contain themselves.
 *
 * @param bytes The whole file.
 * @param options The file's name for errors.
 * @throws {FormatError} As {@linkcode loadTorch}.
 */
export async function decodeTorch(
  bytes: Uint8Array,
  options: DecodeTorchOptions = {},
): Promise<unknown> {
  const { file = "bytes" } = options;
  const value = isZip(bytes)
    ? await decodeZipTorch(bytes, { ...options, file })
    : decodeLegacyTorch(bytes, { file });
  return plainValue(value, file);
}

/**
 * The value of a file in the zip form, whose tensors read their elements when asked for them; their
 * checksums are not compared.
 *
 * @param bytes The file; its directory and its pickle are read.
 * @param options `file` is the name for errors.
 * @throws {FormatError} As {@linkcode decodeTorch}.
 */
export async function openZipTorch(bytes: ByteRange, options: { file: string }): Promise<unknown> {
  const value = await decodeZipTorch(bytes, { ...options, lazy: true });
  return plainValue(value, options.file);
}

/** The value of the zip form. */
async function decodeZipTorch(
  bytes: ByteRange,
  options: { file: string; checkCrc?: boolean; lazy?: boolean },
): Promise<unknown> {
  const { file } = options;
  const entries: ReadonlyMap<string, ZipPlace> = options.lazy
    ? readZipDirectory(bytes, options)
    : readZip(bytes, options);
  const data = (place: ZipPlace) => readZipEntry(bytes, locate(bytes, place, options), options);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1) {
    throw new FormatError(`${pickles.length} entries NAME/data.pkl in the archive`, {
      file,
      offset: 0,
      expected: "one (PyTorch)",
    });
  }
  const folder = pickle.slice(0, -"data.pkl".length);
  for (const [name, entry] of entries) checkEntry(name.slice(folder.length), entry, file);
  const order = entries.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(await data(order)) !== "little") {
    throw new FormatError("tensors of another byte order", {
      file,
      offset: order.offset,
      expected: "little",
    });
  }

  const storages = new Map<string, { storage: TorchStorage; entry: ZipPlace }>();
  function persistent(id: unknown, fault: PickleFault): TorchStorage {
    const { key, dtype, length } = storageId(id, fault);
    const known = storages.get(`${key}:${dtype}`)?.storage;
    const storage = known ?? new TorchStorage({ key, dtype, length, fileSize: bytes.length });
    if (known) {
      if (known.length === length) return known;
      throw fault(`storage ${quote(key)} of ${length} elements`, `${known.length} as before`);
    }
    const entry = entries.get(`${folder}data/${key}`);
    if (!entry) throw fault(`storage ${quote(key)} that is not in the archive`, "one that is");
    if (entry.size !== storage.byteLength) {
      const found = `storage ${quote(key)} of ${entry.size} bytes`;
      throw fault(found, `${storage.byteLength} for ${length} elements of ${dtype}`);
    }
    storages.set(`${key}:${dtype}`, { storage, entry });
    return storage;
  }

  const { start } = locate(bytes, entries.get(pickle)!, options);
  const program = await data(entries.get(pickle)!);
  const reader = new ByteReader(program, { file, base: start });
  const value = unpickle(reader, { allows: isTorchName, call: callTorch, persistent });
  for (const { storage, entry } of storages.values()) {
    storage.bytes = options.lazy
      ? new LatePart(bytes, entry.size, () => locate(bytes, entry, options).start)
      : await data(entry);
  }
  return value;
}

function checkEntry(name: string, entry: ZipPlace, file: string): void {
  if (name === "constants.pkl" || name.startsWith("code/")) {
    throw new FormatError("a TorchScript program", {
      file,
      offset: entry.offset,
      expected: "weights, as torch.save(model.state_dict(), path) writes them",
    });
  }
  if (entry.deflated) {
    throw new FormatError(`compressed entry ${quote(entry.name)}`, {
      file,
      offset: entry.offset,
      expected: "stored ones (PyTorch)",
    });
  }
}

/** Deepest nesting of containers. */
const MAX_DEPTH = 100;

/** Turns tuples into arrays and names into text, in place; refuses cycles and deep nesting. */
function plainValue(root: unknown, file: string): unknown {
  const done = new Set<object>(), open = new Set<object>();
  const frames: { container: object; left: unknown[] }[] = [];

  function enter(value: unknown): void {
    const container = simplify(value);
    if (typeof container !== "object" || container === null || done.has(container)) return;
    if (!(Array.isArray(container) || container instanceof Map || container instanceof Set)) return;
    if (open.has(container) || open.size >= MAX_DEPTH) {
      throw new FormatError(
        open.has(container) ? "value that contains itself" : "values nested too deep",
        { file, offset: 0, expected: `a tree at most ${MAX_DEPTH} deep (PyTorch)` },
      );
    }
    open.add(container);
    frames.push({ container, left: replaceChildren(container) });
  }

  enter(root);
  while (frames.length > 0) {
    const { container, left } = frames[frames.length - 1]!;
    if (left.length > 0) {
      enter(left.pop());
      continue;
    }
    frames.pop();
    open.delete(container);
    done.add(container);
  }
  return simplify(root);
}

function simplify(value: unknown): unknown {
  if (value instanceof PickleTuple) return value.items;
  return value instanceof PickleGlobal ? value.name : value;
}

/** Simplifies what a container holds; returns those that are containers. */
function replaceChildren(container: object): unknown[] {
  if (Array.isArray(container)) {
    for (let i = 0; i < container.length; i++) container[i] = simplify(container[i]);
    return container.filter((child) => typeof child === "object");
  }
  if (container instanceof Map) {
    for (const [key, child] of container) container.set(key, simplify(child));
    return [...container.values()].filter((child) => typeof child === "object");
  }
  if (container instanceof Set) {
    const children = [...container].map(simplify);
    container.clear();
    for (const child of children) container.add(child);
    return children;
  }
  return [];
}

/**
 * The tensors at `key` of a file's value, by name.
 *
 * @throws {FormatError} If there are none.
 */
export function selectTensors(
  root: unknown,
  options: { file: string; key: string | readonly string[] },
): [string, TorchTensor][] {
  const { file } = options;
  const key = typeof options.key === "string" ? [options.key] : options.key;
  let value = root;
  for (const [i, part] of key.entries()) {
    if (value instanceof Map && value.has(part)) {
      value = value.get(part);
      continue;
    }
    throw new FormatError(`no key ${quote(part)} in ${path(key.slice(0, i))}`, {
      file,
      offset: 0,
      expected: value instanceof Map ? `one of ${keys(value)}` : "a dict there",
    });
  }
  if (value instanceof TorchTensor) return [["tensor", value]];
  const pairs: [unknown, unknown][] = value instanceof Map
    ? [...value]
    : Array.isArray(value)
    ? value.map((child, i) => [i, child])
    : [];
  const tensors = pairs.filter((pair): pair is [unknown, TorchTensor] =>
    pair[1] instanceof TorchTensor
  );
  if (tensors.length === 0 && pairs.length > 0) {
    throw new FormatError(`no tensors in ${path(key)}`, {
      file,
      offset: 0,
      expected: value instanceof Map
        ? `the key of the state dict as an option, of ${keys(value)}`
        : "a dict or list of tensors",
    });
  }
  if (pairs.length === 0 && !(value instanceof Map || Array.isArray(value))) {
    throw new FormatError(`no tensors in ${path(key)}`, {
      file,
      offset: 0,
      expected: "a dict or list of tensors",
    });
  }
  return tensors.map(([name, tensor]) => [String(name), tensor]);
}

function path(key: readonly string[]): string {
  return key.length === 0 ? "the file's value" : key.map(quote).join(" > ");
}

function keys(dict: Map<unknown, unknown>): string {
  const names = [...dict.keys()].slice(0, 8).map((name) => quote(String(name)));
  return names.join(", ") + (dict.size > 8 ? ", ..." : "");
}
