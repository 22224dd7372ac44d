/** @file Files that are read in parts wherever they are: on disk, on a server, in a blob. */

import { FormatError } from "../format_error.ts";
import { type ByteRange, FileRange } from "./byte_range.ts";
import {
  bodyOf,
  type ByteSource,
  download,
  hasFiles,
  reading,
  readSource,
  remoteUrl,
  sourceName,
} from "./source.ts";

/** A file of which readers have only the parts that they ask for. */
export interface Parts extends Disposable {
  /** What errors call it. */
  readonly file: string;
  /** Its bytes; to be read in {@linkcode Parts.read} only. */
  readonly range: ByteRange;
  /**
   * Runs a reader. It may run several times: what it asks for and is not here is fetched before it runs
   * again, so it must not change anything until it has read all. Several may run at once.
   */
  read<T>(reader: () => T | Promise<T>): Promise<T>;
}

/** Bytes fetched at least, so that small parts that lie together come in one answer. */
const BLOCK = 64 * 1024;
/** Pieces of that size that are kept for the next reader. */
const KEPT = 16;

/**
 * Opens a file to read parts of it. A server that does not answer requests of ranges, or does not let the
 * page see `Content-Range`, sends the whole, which is then in memory.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param name What errors call bytes and blobs without a name. Default `bytes`.
 * @throws As {@linkcode readSource}.
 */
export async function openParts(source: ByteSource, name = "bytes"): Promise<Parts> {
  if (source instanceof Uint8Array) return wholeParts(source, name);
  const file = sourceName(source, name);
  if (source instanceof Blob) {
    return new FetchedRange(file, {
      length: source.size,
      fetch: async (start, end) => new Uint8Array(await source.slice(start, end).arrayBuffer()),
    });
  }
  const url = remoteUrl(source);
  if (url) return await reading(file, () => openUrl(url, file));
  return hasFiles() ? diskParts(source) : wholeParts((await readSource(source)).bytes, file);
}

/**
 * Opens a file on disk.
 *
 * @throws As {@linkcode FileRange}.
 */
export function diskParts(path: string | URL): Parts {
  const range = new FileRange(path, "nn.io.openWeights() reads it from anywhere");
  return { ...wholeParts(range, range.path), [Symbol.dispose]: () => range[Symbol.dispose]() };
}

/** What is at hand. */
function wholeParts(range: ByteRange, file: string): Parts {
  return {
    file,
    range,
    read: (reader) => Promise.resolve().then(reader),
    [Symbol.dispose]() {},
  };
}

async function openUrl(url: URL, file: string): Promise<Parts> {
  const first = await download(url, [0, BLOCK - 1]);
  const length = totalLength(first, 0);
  if (first.status !== 206) return wholeParts(await bodyOf(first), file);
  if (length === undefined) {
    await first.body?.cancel();
    return wholeParts(await bodyOf(await download(url)), file);
  }
  const etag = first.headers.get("etag");

  async function fetchPart(start: number, end: number): Promise<Uint8Array> {
    const answer = await download(url, [start, end - 1]);
    const total = totalLength(answer, start);
    if (total === length && answer.headers.get("etag") === etag) return await bodyOf(answer);
    await answer.body?.cancel();
    if (total === undefined) throw new Error("the server did not answer with the part asked for");
    throw new FormatError("another file than when it was opened", {
      file,
      offset: start,
      expected: `${length} bytes${etag === null ? "" : `, ETag ${etag}`}`,
    });
  }

  return new FetchedRange(file, { length, fetch: fetchPart, first: await bodyOf(first) });
}

/** The length of the file that an answer has the part from `start` of, as far as it says. */
function totalLength(answer: Response, start: number): number | undefined {
  if (answer.status !== 206) return undefined;
  const range = answer.headers.get("content-range") ?? "";
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(range) ?? [];
  return Number(first) === start ? Number(total) : undefined;
}

/** A reader asked for bytes that are not here. */
class AbsentBytes extends Error {
  readonly start: number;
  readonly end: number;

  constructor(start: number, end: number) {
    super(`bytes ${start} to ${end} are not here`);
    this.start = start;
    this.end = end;
  }
}

/** Where the parts of a file come from. */
interface Fetching {
  /** Bytes of the file. */
  length: number;
  /** The bytes from `start` to `end - 1`. */
  fetch(start: number, end: number): Promise<Uint8Array>;
  /** Its first bytes, where they came with its length. */
  first?: Uint8Array;
}

/** Parts that are fetched; they are kept while a reader runs, small ones longer. */
class FetchedRange implements Parts, ByteRange {
  readonly file: string;
  readonly length: number;
  readonly #fetch: Fetching["fetch"];
  #pieces: { start: number; bytes: Uint8Array }[];
  #readers = 0;

  constructor(file: string, { length, fetch, first }: Fetching) {
    this.file = file;
    this.length = length;
    this.#fetch = fetch;
    this.#pieces = first ? [{ start: 0, bytes: first }] : [];
  }

  get range(): ByteRange {
    return this;
  }

  subarray(start: number, end: number): Uint8Array {
    const last = Math.min(end, this.length);
    if (start >= last) return new Uint8Array(0);
    const piece = this.#pieces.find((own) =>
      own.start <= start && last <= own.start + own.bytes.length
    );
    if (!piece) throw new AbsentBytes(start, last);
    return piece.bytes.subarray(start - piece.start, last - piece.start);
  }

  async read<T>(reader: () => T | Promise<T>): Promise<T> {
    this.#readers++;
    try {
      for (;;) {
        try {
          return await reader();
        } catch (error) {
          if (!(error instanceof AbsentBytes)) throw error;
          await this.#bring(error);
        }
      }
    } finally {
      if (--this.#readers === 0) {
        this.#pieces = this.#pieces.filter(({ bytes }) => bytes.length <= BLOCK).slice(-KEPT);
      }
    }
  }

  async #bring({ start, end }: AbsentBytes): Promise<void> {
    const last = Math.min(Math.max(end, start + BLOCK), this.length);
    const bytes = await reading(this.file, () => this.#fetch(start, last));
    if (bytes.length !== last - start) {
      throw new FormatError("end of data", {
        file: this.file,
        offset: start + bytes.length,
        expected: `${last - start} bytes from byte ${start}`,
      });
    }
    this.#pieces.push({ start, bytes });
  }

  [Symbol.dispose](): void {
    this.#pieces = [];
  }
}
