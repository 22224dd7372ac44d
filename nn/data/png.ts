/** @file PNG pictures as bytes. pngjs decodes; sizes, checksums and chunks are checked before it. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { ByteReader } from "../io/byte_reader.ts";
import { crc32, MAX_DEFLATE_RATIO } from "../io/gzip.ts";
import { type ByteSource, readSource } from "../io/source.ts";
import { MAX_PIXELS, pickChannels, type Picture, type ReadPictureOptions } from "./picture.ts";
import { loadPngjs } from "./pngjs.ts";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGBA = 6;
/** Values of a pixel and the bits one may take, by colour type. */
const TYPES: Record<number, { channels: number; depths: number[] }> = {
  [GREY]: { channels: 1, depths: [1, 2, 4, 8, 16] },
  [RGB]: { channels: 3, depths: [8, 16] },
  [PALETTE]: { channels: 1, depths: [1, 2, 4, 8] },
  [GREY_ALPHA]: { channels: 2, depths: [8, 16] },
  [RGBA]: { channels: 4, depths: [8, 16] },
};

/**
 * Reads a PNG picture of any colour type, of 1 to 16 bits, interlaced or not. Values of 16 bits are
 * scaled to 8 and rounded, those of fewer are scaled up; a palette gives RGB, or RGBA if
 * it has transparency. Gamma and colour profiles are not applied. Decoding takes 5 bytes of memory a
 * pixel.
 *
 * W3C, Portable Network Graphics, https://www.w3.org/TR/png/
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The channels to give, and the largest picture to decode.
 * @throws {FormatError} If the file is no PNG, is cut or damaged, or has more pixels than allowed.
 *
 * @example
 * ```ts
 * import { readPng } from "./png.ts";
 *
 * const { data, width, height } = await readPng("a.png", { channels: 3 });
 * ```
 */
export async function readPng(
  source: ByteSource,
  options: ReadPictureOptions = {},
): Promise<Picture> {
  checkOptions("readPng", options, "readPng(source, { channels: 3 })");
  const { bytes, file } = await readSource(source, options.file);
  const { channels: wanted, maxPixels = MAX_PIXELS } = options;
  const header = checkPng(bytes, { file, maxPixels });
  await checkData(header, file);
  const { PNG, Buffer } = await loadPngjs();
  let rgba: Uint8Array;
  try {
    rgba = PNG.sync.read(Buffer.from(bytes)).data;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replaceAll("\n", " ") : String(cause);
    throw new FormatError(`damaged image data (${reason})`, {
      file,
      offset: header.dataStart,
      expected: `${header.width}x${header.height} pixels (PNG)`,
      cause,
    });
  }
  const { width, height, key } = header;
  if (key) restoreKey(rgba, key);
  const channels = wanted ?? header.channels;
  return { data: pickChannels(rgba, channels), width, height, channels };
}

/** True if bytes begin as a PNG file does. */
export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, i) => byte === bytes[i]);
}

/** What the chunks before the image data say. */
interface Header {
  width: number;
  height: number;
  /** Values of a pixel in the result. */
  channels: number;
  /** The colour that stands for transparent, 8 bits a value; pngjs makes it black. */
  key?: [number, number, number];
  /** Position of the first image data. */
  dataStart: number;
  /** The compressed image data, in pieces. */
  parts: Uint8Array<ArrayBuffer>[];
  /** Bytes of it when decompressed. */
  rawSize: number;
}

/** Decompresses the image data and counts: pngjs takes missing rows for black. */
async function checkData({ parts, rawSize, width, height, dataStart }: Header, file: string) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  let size = 0, cause: unknown;
  try {
    for await (const piece of stream) if ((size += piece.length) > rawSize) break;
  } catch (error) {
    cause = error;
  }
  if (cause === undefined && size === rawSize) return;
  const found = size > rawSize
    ? "too long"
    : cause === undefined
    ? `${size} bytes`
    : "bad zlib data";
  throw new FormatError(`damaged image data (${found})`, {
    file,
    offset: dataStart,
    expected: `${rawSize} bytes for ${width}x${height} pixels (PNG)`,
    cause,
  });
}

/** Bytes of all rows with the byte of their filter; interlaced, those of Adam7's seven pictures. */
function rawBytes(
  picture: { width: number; height: number; bits: number; interlaced: boolean },
): number {
  const { width, height, bits, interlaced } = picture;
  const passes = interlaced
    ? [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [
      0,
      1,
      1,
      2,
    ]]
    : [[0, 0, 1, 1]];
  return passes.reduce((total, [x = 0, y = 0, dx = 1, dy = 1]) => {
    const columns = Math.ceil((width - x) / dx), rows = Math.ceil((height - y) / dy);
    return total + (columns > 0 && rows > 0 ? rows * (1 + Math.ceil(columns * bits / 8)) : 0);
  }, 0);
}

/** Walks over the chunks: order, sizes, checksums. */
function checkPng(bytes: Uint8Array, options: { file: string; maxPixels: number }): Header {
  const reader = new ByteReader(bytes, { file: options.file });
  reader.take(8, "signature");
  if (!isPng(bytes)) throw reader.fault("another signature", "that of PNG", 0);
  let ihdr: DataView | undefined, transparency: DataView | undefined;
  let palette = 0, packed = 0, dataStart = 0;
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let type = ""; type !== "IEND";) {
    const at = reader.at, length = readU32(reader);
    const body = reader.take(4 + length, "chunk");
    type = new TextDecoder("latin1").decode(body.subarray(0, 4));
    if (crc32(body) !== readU32(reader)) {
      throw reader.fault("chunk with another checksum", "the file is damaged (PNG)", at);
    }
    if ((ihdr === undefined) !== (type === "IHDR") || (ihdr === undefined && length !== 13)) {
      throw reader.fault("chunks out of order", "one IHDR of 13 bytes, first (PNG)", at);
    }
    const view = new DataView(body.buffer, body.byteOffset + 4, length);
    if (type === "IHDR") ihdr = view;
    else if (type === "PLTE") palette = length / 3;
    else if (type === "tRNS") transparency = view;
    else if (type === "IDAT") {
      dataStart ||= at;
      packed += length;
      parts.push(body.subarray(4) as Uint8Array<ArrayBuffer>);
    }
  }
  if (reader.left > 0) throw reader.fault(`${reader.left} trailing bytes`, "the end of the file");
  const { width, height, channels, depth, type } = checkHeader(ihdr!, reader, options.maxPixels);
  const interlaced = ihdr!.getUint8(12) === 1;
  const rawSize = rawBytes({ width, height, bits: channels * depth, interlaced });
  // A palette that is too short shows when a pixel asks for more.
  if (
    packed * MAX_DEFLATE_RATIO < rawSize || (type === PALETTE && (palette === 0 || palette % 1))
  ) {
    const found = packed * MAX_DEFLATE_RATIO < rawSize ? `${packed} bytes of data` : "no palette";
    throw reader.fault(found, `enough for ${width}x${height} pixels (PNG)`, dataStart);
  }
  const key = transparency && readKey(transparency, type, depth);
  const own = type === PALETTE ? 3 : channels;
  return { width, height, channels: own + (transparency ? 1 : 0), key, dataStart, parts, rawSize };
}

function checkHeader(ihdr: DataView, reader: ByteReader, maxPixels: number) {
  const width = ihdr.getUint32(0), height = ihdr.getUint32(4);
  const depth = ihdr.getUint8(8), type = ihdr.getUint8(9), known = TYPES[type];
  const modes = [ihdr.getUint8(10), ihdr.getUint8(11), ihdr.getUint8(12) >> 1];
  if (!known?.depths.includes(depth) || modes.some((mode) => mode !== 0)) {
    throw reader.fault(`colour type ${type} of ${depth} bits`, "a kind of picture PNG has", 24);
  }
  if (width === 0 || height === 0 || width * height > maxPixels) {
    throw reader.fault(`${width}x${height} pixels`, `1 to ${maxPixels} in all (maxPixels)`, 16);
  }
  return { width, height, depth, type, channels: known.channels };
}

/** The transparent colour of a grey or RGB picture, scaled as its pixels are. */
function readKey(view: DataView, type: number, depth: number): Header["key"] {
  if (view.byteLength !== (type === GREY ? 2 : 6) || (type !== GREY && type !== RGB)) {
    return undefined;
  }
  const max = 2 ** depth - 1;
  const value = (i: number) => Math.floor(view.getUint16(2 * i) * 255 / max + 0.5);
  return type === GREY ? [value(0), value(0), value(0)] : [value(0), value(1), value(2)];
}

function restoreKey(rgba: Uint8Array, key: [number, number, number]): void {
  for (let at = 0; at < rgba.length; at += 4) if (rgba[at + 3] === 0) rgba.set(key, at);
}

/** Four bytes, the highest first. */
function readU32(reader: ByteReader): number {
  const bytes = reader.take(4, "chunk");
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
}
