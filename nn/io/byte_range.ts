/** @file Bytes that are read in parts: of an array, or of a file that may be larger than memory. */

import { FormatError } from "../format_error.ts";
import { type ByteSource, hasFiles, pathOf, readError, readSource, remoteUrl } from "./source.ts";

/** Bytes by position; a `Uint8Array` is one. */
export interface ByteRange {
  /** Number of bytes. */
  readonly length: number;
  /** The bytes from `start` to `end - 1`; a view or a copy, shorter where the range ends. */
  subarray(start: number, end: number): Uint8Array;
}

/** A file on disk, of which only the parts that are asked for are in memory. */
export class FileRange implements ByteRange, Disposable {
  /** The path as given. */
  readonly path: string;
  /** Bytes of the file when it was opened. */
  readonly length: number;
  readonly #file: Deno.FsFile;

  /**
   * @param path The file.
   * @param instead What reads one that is not on disk.
   * @throws {Deno.errors.NotFound} If there is no such file. Other failures pass through with its path.
   * @throws {TypeError} If it is not on disk.
   */
  constructor(path: string | URL, instead: string) {
    const remote = remoteUrl(path);
    if (remote || !hasFiles()) {
      throw new TypeError(
        `Cannot read ${remote?.href ?? path} here, where a file on disk is read; ${instead}`,
      );
    }
    this.path = pathOf(path);
    try {
      this.#file = Deno.openSync(path);
    } catch (error) {
      throw readError(this.path, error);
    }
    this.length = this.#file.statSync().size;
  }

  /**
   * Reads a part into new memory.
   *
   * @throws {FormatError} If the file was cut since it was opened.
   */
  subarray(start: number, end: number): Uint8Array {
    const bytes = new Uint8Array(Math.max(0, Math.min(end, this.length) - start));
    this.#file.seekSync(start, Deno.SeekMode.Start);
    let length = 0;
    while (length < bytes.length) {
      const count = this.#file.readSync(bytes.subarray(length));
      if (count === null) {
        throw new FormatError("end of file", {
          file: this.path,
          offset: start + length,
          expected: `${this.length} bytes as when it was opened`,
        });
      }
      length += count;
    }
    return bytes;
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** What {@linkcode openRange} opened. */
export interface OpenRange extends Disposable {
  /** The bytes. */
  readonly range: ByteRange;
  /** What errors call them. */
  readonly file: string;
  /** The path, for what is on disk. */
  readonly path?: string;
}

/**
 * Opens a source to read parts of it: of a file on disk only those come into memory, all of what is elsewhere.
 *
 * @param source A path, a URL, a blob or bytes.
 * @param name What errors call bytes. Default `bytes`.
 * @throws As {@linkcode readSource}.
 */
export async function openRange(source: ByteSource, name?: string): Promise<OpenRange> {
  const named = typeof source === "string" || source instanceof URL;
  if (named && hasFiles() && !remoteUrl(source)) {
    const range = new FileRange(source, "give its bytes"), file = range.path;
    return { range, file, path: file, [Symbol.dispose]: () => range[Symbol.dispose]() };
  }
  const { bytes, file } = await readSource(source, name);
  return { range: bytes, file, [Symbol.dispose]() {} };
}

/** A part of a range as a range, which says where it begins when it is read. */
export class LatePart implements ByteRange {
  readonly #whole: ByteRange;
  readonly #find: () => number;
  #start?: number;
  /** Number of bytes. */
  readonly length: number;

  /**
   * @param whole Where the part lies.
   * @param length Its bytes, which must not reach beyond the whole.
   * @param find Finds its first byte.
   */
  constructor(whole: ByteRange, length: number, find: () => number) {
    this.#whole = whole;
    this.length = length;
    this.#find = find;
  }

  /** The bytes from `start` to `end - 1` of the part. */
  subarray(start: number, end: number): Uint8Array {
    const first = this.#start ??= this.#find(), last = Math.min(end, this.length);
    return this.#whole.subarray(first + Math.min(start, last), first + last);
  }
}
