/** @file Files of weights that are read tensor by tensor, and row by row: they may exceed memory. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { FormatError } from "../format_error.ts";
import { findKey } from "./any_weights.ts";
import { FileRange } from "./byte_range.ts";
import { emptyView, type HostArray, type HostDtype, hostView } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { fromEngine, toEngine } from "./safetensors.ts";
import { parseSafetensors } from "./safetensors_format.ts";
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

/**
 * An open file of weights. Only what is asked for is read, so memory holds the tensors in use and the
 * names of the others. Made by {@linkcode openSafetensors} and {@linkcode openTorch}.
 */
export class WeightFile implements Disposable {
  /** The path as given. */
  readonly file: string;
  /** Strings that a safetensors file keeps beside the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #range: FileRange;
  readonly #entries: ReadonlyMap<string, Entry>;

  /** @ignore */
  constructor(
    range: FileRange,
    content: { entries: ReadonlyMap<string, Entry>; metadata?: Record<string, string> },
  ) {
    this.file = range.path;
    this.metadata = content.metadata ?? {};
    this.#range = range;
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
   * @throws {FormatError} If the file was cut since it was opened, or a value fits no dtype of the engine.
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
    // A promise, so that reading may become asynchronous.
    return Promise.resolve().then(() => {
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
    this.#range[Symbol.dispose]();
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
 * Opens a safetensors file, of which only the header is read.
 *
 * @param path The file.
 * @throws {FormatError} If the header breaks a rule of the format.
 * @throws {Deno.errors.NotFound} If there is no such file.
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
  return withRange(path, (range) => {
    const { entries, metadata } = parseSafetensors(range, { file: range.path });
    const read = entries.map(({ name, dtype, shape, start, size }): [string, Entry] => [name, {
      dtype,
      shape,
      byteLength: size,
      read(first, end) {
        const [count = 1, ...inner] = shape;
        const rows = shape.length === 0 ? [] : [end - first, ...inner];
        if (size === 0 || first === end) return { dtype, shape: rows, data: emptyView(dtype) };
        const row = size / count;
        if (!Number.isInteger(row)) {
          throw new RangeError(`Cannot slice ${quote(name)}: a row is no whole number of bytes`);
        }
        const bytes = range.subarray(start + row * first, start + row * end);
        return { dtype, shape: rows, data: hostView(dtype, bytes) };
      },
    }]);
    return new WeightFile(range, { entries: new Map(read), metadata });
  });
}

/**
 * Opens a PyTorch file of the zip form, of which only the directory and the pickle are read. Checksums
 * are not compared; `loadTorch` does that.
 *
 * @param path The file.
 * @param options `key` for a nested dict, by default found as by `readWeights`; `stripPrefix` for names of
 * `DataParallel`.
 * @throws {FormatError} As `loadTorch`; also for the stream of torch before 1.6, which has no directory.
 * @throws {Deno.errors.NotFound} If there is no such file.
 */
export async function openTorch(
  path: string | URL,
  options: Pick<LoadTorchOptions, "key" | "stripPrefix"> = {},
): Promise<WeightFile> {
  checkOptions("openTorch", options, 'openTorch(path, { key: "model" })');
  const { stripPrefix = "" } = options;
  const range = new FileRange(path), file = range.path;
  try {
    if (!isZip(range.subarray(0, 4))) {
      throw new FormatError("no zip archive", { file, offset: 0, expected: "torch 1.6 or later" });
    }
    const root = await openZipTorch(range, { file });
    const tensors = selectTensors(root, { file, key: options.key ?? findKey(root) });
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
    return new WeightFile(range, { entries });
  } catch (error) {
    range[Symbol.dispose]();
    throw error;
  }
}

/** Opens a file and closes it again if its content is refused. */
function withRange<T>(path: string | URL, open: (range: FileRange) => T): T {
  const range = new FileRange(path);
  try {
    return open(range);
  } catch (error) {
    range[Symbol.dispose]();
    throw error;
  }
}
