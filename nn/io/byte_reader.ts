/** @file A cursor over bytes that reports every fault as a `FormatError` with its position. */

import { FormatError } from "../format_error.ts";

/** Where a {@linkcode ByteReader} works. */
export interface ByteReaderOptions {
  /** The file as errors call it. */
  file: string;
  /** First byte to read. Default 0. */
  at?: number;
  /** Byte to stop before. Default the end of the bytes. */
  end?: number;
  /** Position in the file of the first of the bytes, where they are a part of it. Default 0. */
  base?: number;
}

/** Reads little-endian numbers one after the other; positions count from the start of the file. */
export class ByteReader {
  /** The whole file, or the part of it from `base` on. */
  readonly bytes: Uint8Array;
  /** The file as errors call it. */
  readonly file: string;
  /** Byte to stop before. */
  readonly end: number;
  /** The next byte. */
  at: number;
  readonly #view: DataView;
  readonly #base: number;

  /**
   * @param bytes The whole file, or a part of it.
   * @param options Its name and the part of it to read.
   */
  constructor(bytes: Uint8Array, options: ByteReaderOptions) {
    const { file, base = 0, at = base, end = base + bytes.length } = options;
    this.bytes = bytes;
    this.file = file;
    this.at = at;
    this.end = end;
    this.#base = base;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Number of bytes not read yet. */
  get left(): number {
    return this.end - this.at;
  }

  /** The next `count` bytes, which share the file's memory; `what` says what they are. */
  take(count: number, what: string): Uint8Array {
    const start = this.#step(count, what);
    return this.bytes.subarray(start, start + count);
  }

  /** The next byte. */
  u8(what: string): number {
    return this.#view.getUint8(this.#step(1, what));
  }

  /** The next two bytes as an unsigned number. */
  u16(what: string): number {
    return this.#view.getUint16(this.#step(2, what), true);
  }

  /** The next four bytes as an unsigned number. */
  u32(what: string): number {
    return this.#view.getUint32(this.#step(4, what), true);
  }

  /** The next four bytes as a signed number. */
  i32(what: string): number {
    return this.#view.getInt32(this.#step(4, what), true);
  }

  /** The next four bytes as a float. */
  f32(what: string): number {
    return this.#view.getFloat32(this.#step(4, what), true);
  }

  /** The next eight bytes as a float, the highest byte first. */
  f64BigEndian(what: string): number {
    return this.#view.getFloat64(this.#step(8, what));
  }

  /** The next eight bytes as an unsigned number. */
  bigU64(what: string): bigint {
    return this.#view.getBigUint64(this.#step(8, what), true);
  }

  /** The next eight bytes as an unsigned number below 2^53. */
  u64(what: string): number {
    const at = this.at, value = this.bigU64(what);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw this.fault(`${what} of ${value}`, "a number below 2^53", at);
    }
    return Number(value);
  }

  /** An error at `offset`, by default at the next byte. */
  fault(found: string, expected: string, offset: number = this.at): FormatError {
    return new FormatError(found, { file: this.file, offset, expected });
  }

  /** Goes on by `count` bytes and gives the position before, in `bytes`. */
  #step(count: number, what: string): number {
    if (count > this.left) {
      const whole = this.#base === 0 && this.end === this.bytes.length;
      const where = whole ? "end of file" : "end of data";
      throw this.fault(where, `${count} bytes of ${what} from byte ${this.at}`, this.end);
    }
    const before = this.at;
    this.at += count;
    return before - this.#base;
  }
}
