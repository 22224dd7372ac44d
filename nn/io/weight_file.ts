/**
 * @file Files of weights that are read tensor by tensor, and row by row: they may exceed memory, and of one
 * on a server only what is read is fetched.
 */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { FormatError } from "../format_error.ts";
import { findKey, weightSource } from "./any_weights.ts";
import { emptyView, type HostArray, type HostDtype, hostView } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { diskParts, openParts, type Parts } from "./parts.ts";
import { fromEngine, toEngine } from "./safetensors.ts";
import { isSafetensors, parseSafetensors } from "./safetensors_format.ts";
import type { ByteSource } from "./source.ts";
import { type LoadTorchOptions, openZipTorch, selectTensors } from "./torch.ts";
import { isZip } from "./zip.ts";

/** A tensor in a file. */
export interface WeightInfo {
  /** Element type in the file. */
  dtype: HostDtype;
  /** Size of each dim. */
  shape: readonly number[];
  /** Bytes of its elements. */
  byteLength: number;
}

/** Rows of a tensor: places of its first dim. */
export interface RowRange {
  /** First row. Default 0. */
  start?: number;
  /** Row to stop before. Default the number of rows. */
  end?: number;
}

/** A tensor in a file and how its rows are read. */
interface Entry extends WeightInfo {
  /** Reads the rows from `start` to `end - 1`; a scalar has one. */
  read(start: number, end: number): HostArray;
}

/** What the header of a file says. */
interface Content {
  entries: ReadonlyMap<string, Entry>;
  metadata?: Record<string, string>;
}

/**
 * An open file of weights. Only what is asked for is read, so memory holds the tensors in use and the
 * names of the others. Made by {@linkcode openWeights}, {@linkcode openSafetensors} and
 * {@linkcode openTorch}.
 */
export class WeightFile implements Disposable {
  /** The path as given. */
  readonly file: string;
  /** Strings that a safetensors file keeps beside the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #parts: Parts;
  readonly #entries: ReadonlyMap<string, Entry>;

  /** @ignore */
  constructor(parts: Parts, content: Content) {
    this.file = parts.file;
    this.metadata = content.metadata ?? {};
    this.#parts = parts;
    this.#entries = content.entries;
  }

  /** Names of the tensors, in the order of the file. */
  get names(): string[] {
    return [...this.#entries.keys()];
  }

  /**
   * Type and shape of a tensor, by the file's header.
   *
   * @throws {RangeError} If there is no such tensor.
   */
  info(name: string): WeightInfo {
    const { dtype, shape, byteLength } = this.#entry(name);
    return { dtype, shape, byteLength };
  }

  /**
   * Reads one tensor. Dtypes become those of the engine as `loadSafetensors` says.
   *
   * @throws {RangeError} If there is no such tensor.
   * @throws {FormatError} If the file was cut or replaced since it was opened, or a value fits no dtype of the
   * engine.
   */
  tensor(name: string): Promise<Tensor> {
    return this.slice(name, {});
  }

  /**
   * Reads some rows of a tensor: x [R, ...] → [end - start, ...].
   *
   * @throws {RangeError} If there is no such tensor or no such rows.
   * @throws {TypeError} If rows of a scalar are asked for.
   * @throws {FormatError} As {@linkcode WeightFile.tensor}.
   */
  async slice(name: string, rows: RowRange): Promise<Tensor> {
    const array = await this.array(name, rows);
    return fromEngine(toEngine(array, { name, file: this.file }));
  }

  /**
   * As {@linkcode WeightFile.slice}, on the host and with the file's dtype.
   *
   * @throws As {@linkcode WeightFile.slice}, values aside.
   */
  array(name: string, rows: RowRange = {}): Promise<HostArray> {
    return this.#parts.read(() => {
      const entry = this.#entry(name), count = entry.shape[0] ?? 1;
      const { start = 0, end = count } = rows;
      const whole = start === 0 && end === count;
      if (entry.shape.length === 0 && !whole) {
        throw new TypeError(`Cannot slice ${quote(name)}: it is a scalar`);
      }
      if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end)) {
        throw new RangeError(
          `Cannot slice ${quote(name)} from ${start} to ${end}: rows are counted from 0 upwards`,
        );
      }
      if (end > count) {
        throw new RangeError(`Cannot slice ${quote(name)} to ${end}: it has ${count} rows`);
      }
      return entry.read(start, end);
    });
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#parts[Symbol.dispose]();
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry) return entry;
    const some = this.names.slice(0, 8).map(quote).join(", ");
    throw new RangeError(
      `No tensor ${quote(name)} in ${this.file}: it has ${this.#entries.size}` +
        (some === "" ? "" : `, ${some}${this.#entries.size > 8 ? ", ..." : ""}`),
    );
  }
}

/**
 * Opens a file of weights to read parts of it: safetensors, a PyTorch file of the zip form, or the best
 * weights of a run folder. The content tells the format. Of a file on disk and of a `Blob` only the parts that
 * are read come into memory, and of one on a server only those are fetched, if it answers requests of ranges
 * (`readWeights` reads other formats, as a whole).
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options For PyTorch's as of {@linkcode openTorch}.
 * @throws {FormatError} If the file is of no such format, or damaged.
 * @throws {Deno.errors.NotFound} If there is no such file; on a web page a `DOMException` of the name
 * `NotFoundError`.
 *
 * @example
 * ```ts
 * import { openWeights } from "./weight_file.ts";
 *
 * using file = await openWeights("https://example.org/large.safetensors");
 * for (const name of file.names) console.log(name, file.info(name).shape);
 * const rows = await file.slice("embedding.weight", { start: 0, end: 100 });
 * ```
 */
export async function openWeights(
  source: ByteSource,
  options: OpenTorchOptions = {},
): Promise<WeightFile> {
  checkOptions("openWeights", options, 'openWeights(source, { key: "model" })');
  return await openFile(await weightSource(source), (parts) => {
    if (isSafetensors(parts.range)) return safetensorsContent(parts);
    if (isZip(parts.range.subarray(0, 4))) return torchContent(parts, options);
    throw new FormatError("no weights that are read in parts", {
      file: parts.file,
      offset: 0,
      expected: "safetensors or PyTorch's of torch 1.6 or later; readWeights() reads others",
    });
  });
}

/**
 * Opens a safetensors file on disk, of which only the header is read; {@linkcode openWeights} opens those that
 * are elsewhere.
 *
 * @param path The file.
 * @throws {FormatError} If the header breaks a rule of the format.
 * @throws {Deno.errors.NotFound} If there is no such file.
 * @throws {TypeError} If it is not on disk.
 *
 * @example
 * ```ts
 * import { openSafetensors } from "./weight_file.ts";
 *
 * using file = openSafetensors("large.safetensors");
 * for (const name of file.names) console.log(name, file.info(name).shape);
 * const rows = await file.slice("embedding.weight", { start: 0, end: 100 });
 * ```
 */
export function openSafetensors(path: string | URL): WeightFile {
  const parts = diskParts(path);
  try {
    return new WeightFile(parts, safetensorsContent(parts));
  } catch (error) {
    parts[Symbol.dispose]();
    throw error;
  }
}

/** Options of {@linkcode openTorch}. */
export type OpenTorchOptions = Pick<LoadTorchOptions, "key" | "stripPrefix">;

/**
 * Opens a PyTorch file of the zip form, of which only the directory and the pickle are read. Checksums
 * of tensors are not compared; `loadTorch` does that.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes; see {@linkcode openWeights}.
 * @param options `key` for a nested dict, by default found as by `readWeights`; `stripPrefix` for names of
 * `DataParallel`.
 * @throws {FormatError} As `loadTorch`; also for the stream of torch before 1.6, which has no directory.
 * @throws {Deno.errors.NotFound} If there is no such file.
 */
export async function openTorch(
  source: ByteSource,
  options: OpenTorchOptions = {},
): Promise<WeightFile> {
  checkOptions("openTorch", options, 'openTorch(path, { key: "model" })');
  return await openFile(source, (parts) => {
    if (isZip(parts.range.subarray(0, 4))) return torchContent(parts, options);
    throw new FormatError("no zip archive", {
      file: parts.file,
      offset: 0,
      expected: "torch 1.6 or later",
    });
  });
}

/** Opens a file and closes it again if its content is refused. */
async function openFile(
  source: ByteSource,
  content: (parts: Parts) => Content | Promise<Content>,
): Promise<WeightFile> {
  const parts = await openParts(source);
  try {
    return new WeightFile(parts, await parts.read(() => content(parts)));
  } catch (error) {
    parts[Symbol.dispose]();
    throw error;
  }
}

function safetensorsContent({ range, file }: Parts): Content {
  const { entries, metadata } = parseSafetensors(range, { file });
  const read = entries.map(({ name, dtype, shape, start, size }): [string, Entry] => [name, {
    dtype,
    shape,
    byteLength: size,
    read(first, end) {
      const [count = 1, ...inner] = shape;
      const rows = shape.length === 0 ? [] : [end - first, ...inner];
      if (size === 0 || first === end) return { dtype, shape: rows, data: emptyView(dtype) };
      const row = size / count, whole = end - first === count;
      if (!Number.isInteger(row) && !whole) {
        throw new RangeError(`Cannot slice ${quote(name)}: a row is no whole number of bytes`);
      }
      const bytes = range.subarray(start + row * first, start + row * end);
      return { dtype, shape: rows, data: hostView(dtype, bytes) };
    },
  }]);
  return { entries: new Map(read), metadata };
}

async function torchContent(
  { range, file }: Parts,
  { key, stripPrefix = "" }: OpenTorchOptions,
): Promise<Content> {
  const root = await openZipTorch(range, { file });
  const tensors = selectTensors(root, { file, key: key ?? findKey(root) });
  const entries = new Map<string, Entry>();
  for (const [full, tensor] of tensors) {
    const name = full.startsWith(stripPrefix) ? full.slice(stripPrefix.length) : full;
    const { dtype, shape, byteLength } = tensor;
    const read = (start: number, end: number) =>
      shape.length === 0 ? tensor.host() : tensor.rows(start, end).host();
    if (entries.has(name)) {
      const expected = `names that differ without ${quote(stripPrefix)}`;
      throw new FormatError(`two tensors named ${quote(name)}`, { file, offset: 0, expected });
    }
    entries.set(name, { dtype, shape, byteLength, read });
  }
  return { entries };
}
