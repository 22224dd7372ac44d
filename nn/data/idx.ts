/**
 * @file The idx format of MNIST and EMNIST: a big-endian array with a small header.
 *
 * u16 0, u8 element type, u8 rank, u32 size of each dim, elements; all big-endian.
 * http://yann.lecun.com/exdb/mnist/ (section "file formats")
 */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { gunzip, gzip, isGzip, MAX_DEFLATE_RATIO } from "../io/gzip.ts";
import { type ByteSource, readSource } from "../io/source.ts";

/** Element types of idx, by their code in the header. */
export const TYPES = {
  u8: { code: 0x08, bytes: 1 },
  i8: { code: 0x09, bytes: 1 },
  i16: { code: 0x0b, bytes: 2 },
  i32: { code: 0x0c, bytes: 4 },
  f32: { code: 0x0d, bytes: 4 },
  f64: { code: 0x0e, bytes: 8 },
} as const;

/** An element type of idx. */
export type IdxType = keyof typeof TYPES;

/** Host array of an idx file's elements. */
export type IdxData =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/** The content of an idx file. */
export interface IdxArray {
  /** Size of each dim, outermost first. */
  shape: number[];
  /** The elements in row-major order; their type is the file's. */
  data: IdxData;
}

/** Options of {@linkcode readIdx}. */
export interface ReadIdxOptions {
  /** The number of dims the file must have. Default: any, at least 1. */
  rank?: number;
  /** The element type the file must have. Default: any. */
  type?: IdxType;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/**
 * Reads an idx file, plain or gzip (told by its first bytes, not by its name). The sizes in the header
 * are checked before memory is taken, at most 1032 times the size of the file (what gzip can expand);
 * a gzip file stops being decompressed where the header says the data ends.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options What the file must hold.
 * @throws {FormatError} If the file is not idx, not what `options` ask for, truncated, too long or
 * damaged.
 *
 * @example
 * ```ts
 * import { readIdx } from "./idx.ts";
 *
 * const images = await readIdx("train-images-idx3-ubyte.gz", { rank: 3, type: "u8" });
 * const [count, height, width] = images.shape;
 * ```
 */
export async function readIdx(source: ByteSource, options: ReadIdxOptions = {}): Promise<IdxArray> {
  checkOptions("readIdx", options, "readIdx(source, { rank: 3 })");
  const { bytes, file } = await readSource(source, options.file);
  if (!isGzip(bytes)) {
    const parser = new IdxParser(file, options, { bytes: bytes.length });
    parser.push(bytes);
    return parser.finish();
  }
  const limit = { bytes: bytes.length * MAX_DEFLATE_RATIO, compressed: bytes.length };
  const parser = new IdxParser(file, options, limit);
  await gunzip(bytes, { file, sink: (piece) => parser.push(piece) });
  return parser.finish();
}

/**
 * The bytes of an idx file. Compressed, the same array gives the same bytes on every machine.
 *
 * @param array Shape and elements; the element type is that of the typed array.
 * @param options `gzip` compresses. Default false.
 * @throws {RangeError} If the shape has no dim or more than 255, a size is no u32, or the sizes do not
 * multiply to the number of elements.
 *
 * @example
 * ```ts
 * import { writeIdx } from "./idx.ts";
 *
 * const labels = { shape: [3], data: Uint8Array.of(1, 2, 26) };
 * await Deno.writeFile("train-labels-idx1-ubyte.gz", await writeIdx(labels, { gzip: true }));
 * ```
 */
export async function writeIdx(
  array: { shape: readonly number[]; data: IdxData },
  options: { gzip?: boolean } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  checkOptions("writeIdx", options, "writeIdx({ shape, data }, { gzip: true })");
  const { shape, data } = array;
  const type = typeOf(data);
  const valid = shape.every((size) => Number.isInteger(size) && size >= 0 && size < 2 ** 32);
  if (!valid || shape.length < 1 || shape.length > 255 || elementCount(shape) !== data.length) {
    throw new RangeError(
      `Cannot write ${data.length} elements as idx of shape [${shape.join(", ")}]: ` +
        `the shape needs 1 to 255 sizes that multiply to ${data.length}`,
    );
  }
  const start = 4 + 4 * shape.length;
  const bytes = new Uint8Array(start + data.byteLength);
  const view = new DataView(bytes.buffer);
  bytes[2] = TYPES[type].code;
  bytes[3] = shape.length;
  shape.forEach((size, index) => view.setUint32(4 + 4 * index, size));
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  swapBytes(bytes.subarray(start), TYPES[type].bytes);
  return options.gzip ? await gzip(bytes) : bytes;
}

/** Takes an idx file piece by piece; the pieces may end anywhere. */
class IdxParser {
  readonly #file: string;
  readonly #options: ReadIdxOptions;
  readonly #limit: { bytes: number; compressed?: number };
  #head = new Uint8Array(4);
  #type: IdxType = "u8";
  #shape: number[] | undefined;
  #body = new Uint8Array(0);
  #received = 0;

  /** @param limit The most bytes that can come; `compressed` is the size of the gzip file they are in. */
  constructor(
    file: string,
    options: ReadIdxOptions,
    limit: { bytes: number; compressed?: number },
  ) {
    this.#file = file;
    this.#options = options;
    this.#limit = limit;
  }

  push(piece: Uint8Array): void {
    let rest = piece;
    while (!this.#shape && rest.length > 0) rest = this.#pushHead(rest);
    if (!this.#shape) return;
    const start = this.#received - this.#head.length;
    if (start + rest.length > this.#body.length) {
      throw this.#error("trailing bytes", this.#size, `the end of ${this.#needed()}`);
    }
    this.#body.set(rest, start);
    this.#received += rest.length;
  }

  finish(): IdxArray {
    if (!this.#shape) {
      throw this.#error("end of file", this.#received, `${this.#head.length} bytes of header`);
    }
    if (this.#received < this.#size) {
      throw this.#error("end of file", this.#received, this.#needed());
    }
    swapBytes(this.#body, TYPES[this.#type].bytes);
    return { shape: this.#shape, data: typedArray(this.#type, this.#body.buffer) };
  }

  /** Takes bytes of the header, returns the rest. */
  #pushHead(piece: Uint8Array): Uint8Array {
    const part = piece.subarray(0, this.#head.length - this.#received);
    this.#head.set(part, this.#received);
    this.#received += part.length;
    if (this.#received === 4) this.#readMagic();
    else if (this.#received === this.#head.length) this.#readShape();
    return piece.subarray(part.length);
  }

  #readMagic(): void {
    const head = this.#head;
    const { rank, type } = this.#options;
    const found = (Object.keys(TYPES) as IdxType[]).find((name) => TYPES[name].code === head[2]);
    if (
      head[0] !== 0 || head[1] !== 0 || !found || head[3] === 0 ||
      (rank !== undefined && head[3] !== rank) || (type !== undefined && found !== type)
    ) {
      const magic = new DataView(head.buffer).getUint32(0);
      throw this.#error(`bad magic ${hex(magic, 8)}`, 0, expectedMagic(rank, type));
    }
    this.#type = found;
    this.#head = new Uint8Array(4 + 4 * head[3]!);
    this.#head.set(head);
  }

  #readShape(): void {
    const view = new DataView(this.#head.buffer);
    const shape: number[] = [];
    for (let at = 4; at < this.#head.length; at += 4) shape.push(view.getUint32(at));
    this.#shape = shape;
    const size = elementCount(shape) * TYPES[this.#type].bytes;
    const { bytes, compressed } = this.#limit;
    if (this.#head.length + size <= bytes) {
      this.#body = new Uint8Array(size);
    } else if (compressed === undefined) {
      throw this.#error("end of file", bytes, this.#needed());
    } else {
      const most = `at most the ${bytes} bytes that ${compressed} bytes of gzip can hold`;
      throw this.#error(`shape [${shape.join(", ")}] of ${this.#type}`, 4, most);
    }
  }

  /** Size of the whole file by its header. */
  get #size(): number {
    return this.#head.length + elementCount(this.#shape!) * TYPES[this.#type].bytes;
  }

  #needed(): string {
    return `${this.#size} bytes for shape [${this.#shape!.join(", ")}] of ${this.#type}`;
  }

  #error(found: string, offset: number, expected: string): FormatError {
    return new FormatError(found, { file: this.#file, offset, expected });
  }
}

/** Elements of an array. A size of 0 makes it empty, however large the others are. */
export function elementCount(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
}

/** `0x00000803 (idx3 of u8)`, or a description where rank or type is free. */
export function expectedMagic(rank: number | undefined, type: IdxType | undefined): string {
  if (rank !== undefined && type !== undefined) {
    return `${hex(TYPES[type].code << 8 | rank, 8)} (idx${rank} of ${type})`;
  }
  const types = type ? [TYPES[type]] : Object.values(TYPES);
  return `0x0000TTRR (idx) with type TT of ${types.map(({ code }) => hex(code, 2)).join(" ")} ` +
    `and rank RR of ${rank === undefined ? "at least 1" : hex(rank, 2)}`;
}

/** `0x` and so many digits. */
export function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** Turns big-endian elements into little-endian ones, which every WebGPU host uses, or back. */
export function swapBytes(bytes: Uint8Array, size: number): void {
  if (size === 1) return;
  for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
}

/** An array of a type over the whole of a buffer. */
export function typedArray(type: IdxType, buffer: ArrayBuffer): IdxData {
  switch (type) {
    case "u8":
      return new Uint8Array(buffer);
    case "i8":
      return new Int8Array(buffer);
    case "i16":
      return new Int16Array(buffer);
    case "i32":
      return new Int32Array(buffer);
    case "f32":
      return new Float32Array(buffer);
    case "f64":
      return new Float64Array(buffer);
  }
}

function typeOf(data: IdxData): IdxType {
  if (data instanceof Uint8Array) return "u8";
  if (data instanceof Int8Array) return "i8";
  if (data instanceof Int16Array) return "i16";
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Float32Array) return "f32";
  return "f64";
}
