/** @file Bytes that arrive piece by piece, from a file, an array or a stream, decompressed if need be. */

import { FormatError } from "../format_error.ts";
import { isGzip } from "../io/gzip.ts";
import { type ByteSource, streamSource } from "../io/source.ts";

/** Bytes of an array handed on at a time. */
const PIECE = 64 * 1024;

/** A cursor over bytes that arrive piece by piece. */
export class ByteStream implements AsyncDisposable {
  /** The file as errors call it. */
  readonly file: string;
  /** Bytes taken so far. */
  at = 0;
  #reader: ReadableStreamDefaultReader<Uint8Array>;
  /** What has arrived and is not taken. */
  #rest: Uint8Array = new Uint8Array(0);
  #gzip = false;

  /**
   * @param stream Where the bytes come from; it is closed with the cursor.
   * @param file The name for errors.
   */
  constructor(stream: ReadableStream<Uint8Array>, file: string) {
    this.file = file;
    this.#reader = stream.getReader();
  }

  /** Goes on with the decompressed bytes if a gzip member begins here. Only before anything is taken. */
  async unzip(): Promise<void> {
    const first = await this.#peek(2);
    if (!isGzip(first)) return;
    const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => controller.enqueue(first.slice()),
      pull: async (controller) => {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value as Uint8Array<ArrayBuffer>);
      },
      cancel: (reason) => reader.cancel(reason),
    }, { highWaterMark: 0 });
    const reader = this.#reader;
    this.#reader = source.pipeThrough(new DecompressionStream("gzip")).getReader();
    this.#rest = new Uint8Array(0);
    this.#gzip = true;
  }

  /** Exactly `count` bytes; `what` says what they are. Memory is taken as they arrive. */
  async take(count: number, what: string): Promise<Uint8Array> {
    const bytes = await this.#peek(count);
    if (bytes.length < count) throw this.#ended(count, what);
    this.#rest = bytes.subarray(count);
    this.at += count;
    return bytes.subarray(0, count);
  }

  /** At least one byte and at most `most`. */
  async some(most: number, what: string): Promise<Uint8Array> {
    if (this.#rest.length === 0) this.#rest = await this.#read() ?? this.#rest;
    if (this.#rest.length === 0) throw this.#ended(most, what);
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(bytes.length);
    this.at += bytes.length;
    return bytes;
  }

  /** Goes over `count` bytes. */
  async skip(count: number, what: string): Promise<void> {
    for (let left = count; left > 0;) left -= (await this.some(left, what)).length;
  }

  /** Reads to the end of a gzip member, where its checksum is. */
  async finish(): Promise<void> {
    while (this.#gzip && await this.#read() !== undefined);
  }

  /** An error at `offset`, by default at the next byte. */
  fault(found: string, expected: string, offset: number = this.at): FormatError {
    return new FormatError(found, { file: this.file, offset, expected });
  }

  /** Gives up what has not arrived and closes the source. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel().catch(ignore); // a source that failed has said so
  }

  #ended(count: number, what: string): FormatError {
    const end = this.at + this.#rest.length;
    return this.fault("end of file", `${count} bytes of ${what} from byte ${this.at}`, end);
  }

  /** The next bytes without taking them, fewer than `count` only at the end. */
  async #peek(count: number): Promise<Uint8Array> {
    const parts = [this.#rest];
    let length = this.#rest.length;
    while (length < count) {
      const piece = await this.#read();
      if (!piece) break;
      parts.push(piece);
      length += piece.length;
    }
    if (parts.length === 1) return this.#rest;
    const joined = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      joined.set(part, at);
      at += part.length;
    }
    return this.#rest = joined;
  }

  /** The next piece, never an empty one; undefined at the end. */
  async #read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await this.#next();
      if (done) return undefined;
      if (value.length > 0) return value;
    }
  }

  async #next(): Promise<ReadableStreamReadResult<Uint8Array>> {
    try {
      return await this.#reader.read();
    } catch (cause) {
      if (!this.#gzip || !(cause instanceof TypeError)) throw cause;
      const reason = "cut or damaged gzip data";
      throw new FormatError(reason, {
        file: this.file,
        offset: this.at + this.#rest.length,
        expected: "one whole gzip member",
        cause,
      });
    }
  }
}

/**
 * Opens a source to be read once, decompressed if it is gzip.
 *
 * @param source A path, a URL, a blob, bytes or a stream of them.
 * @param name What errors call bytes or a stream. Default `bytes`.
 * @throws {Deno.errors.NotFound} If there is no such file.
 */
export async function openStream(
  source: ByteSource | ReadableStream<Uint8Array>,
  name = "bytes",
): Promise<ByteStream> {
  const stream = await open(source, name);
  await stream.unzip();
  return stream;
}

async function open(
  source: ByteSource | ReadableStream<Uint8Array>,
  name: string,
): Promise<ByteStream> {
  if (source instanceof ReadableStream) return new ByteStream(source, name);
  if (source instanceof Uint8Array) return new ByteStream(inPieces(source), name);
  const { stream, file } = await streamSource(source, name);
  return new ByteStream(stream, file);
}

function inPieces(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) controller.close();
      else controller.enqueue(bytes.subarray(at, at += PIECE));
    },
  }, { highWaterMark: 0 });
}

function ignore(): void {}
