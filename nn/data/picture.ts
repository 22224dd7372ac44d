/** @file Pictures in memory, as every reader of pictures gives them. */

import { given } from "../../engine/arguments.ts";

/** A picture in memory. */
export interface Picture {
  /** Values 0 to 255, `[height, width, channels]` in row-major order. */
  data: Uint8Array<ArrayBuffer>;
  /** Columns. */
  width: number;
  /** Rows. */
  height: number;
  /** Values of a pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. */
  channels: number;
}

/** What a pixel of the result has: grey, RGB or RGBA. */
export type Channels = 1 | 3 | 4;

/** Options of every reader of pictures. */
export interface ReadPictureOptions {
  /**
   * Values of a pixel to give: 1 (grey; of colours the luma of ITU-R BT.601, as Pillow), 3 (RGB) or 4
   * (RGBA). Default what the file has.
   */
  channels?: Channels;
  /** Most pixels to decode. Default 2^26. */
  maxPixels?: number;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/** Most pixels a reader decodes if the caller says nothing. */
export const MAX_PIXELS = 2 ** 26;

/**
 * Checks a picture that a caller made.
 *
 * @param what What cannot be done with something else.
 * @throws {TypeError} If it is no picture, or its bytes are not of its size.
 */
export function checkPicture(what: string, picture: unknown): void {
  const { data, width, height, channels } = (picture ?? {}) as Partial<Picture>;
  const bytes: unknown = data;
  const isBytes = bytes instanceof Uint8Array || bytes instanceof Uint8ClampedArray;
  if (!isBytes || ![width, height, channels].every(Number.isInteger)) {
    const pixels = bytes instanceof Uint8ClampedArray
      ? "; of a canvas's ImageData { data: new Uint8Array(image.data.buffer), width, height, channels: 4 }"
      : "";
    throw new TypeError(
      `Cannot ${what} ${
        given(picture)
      }: a picture is { data, width, height, channels }, its data a ` +
        `Uint8Array${pixels}`,
    );
  }
  const size = width! * height! * channels!;
  if (bytes.length === size) return;
  throw new TypeError(
    `Cannot ${what} a picture of ${width}x${height} pixels with ${channels} channels and ` +
      `${bytes.length} bytes: it must have ${size}`,
  );
}

/**
 * The wanted channels of RGBA pixels.
 *
 * @param rgba `[pixels, 4]`.
 * @param channels 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
 * @returns `[pixels, channels]`, in memory of its own.
 */
export function pickChannels(
  rgba: Uint8Array | Uint8ClampedArray,
  channels: number,
): Uint8Array<ArrayBuffer> {
  if (channels === 4) return new Uint8Array(rgba);
  const pixels = rgba.length / 4;
  const data = new Uint8Array(pixels * channels);
  if (channels === 3) {
    dropAlpha(rgba, data);
    return data;
  }
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += channels) {
    // Rounded as Pillow does; of a grey pixel its own value, as the weights add up to 2^16.
    const sum = 19595 * rgba[from]! + 38470 * rgba[from + 1]! + 7471 * rgba[from + 2]!;
    data[to] = (sum + 0x8000) >> 16;
    if (channels === 2) data[to + 1] = rgba[from + 3]!;
  }
  return data;
}

/** RGBA to RGB, four pixels at a time in whole words: about twice as fast as byte by byte. */
function dropAlpha(rgba: Uint8Array | Uint8ClampedArray, rgb: Uint8Array<ArrayBuffer>): void {
  const from = rgba.byteOffset % 4 === 0 ? rgba : new Uint8Array(rgba);
  const pixels = rgba.length / 4, fours = pixels >> 2;
  const words = new Uint32Array(from.buffer, from.byteOffset, pixels);
  const packed = new Uint32Array(rgb.buffer, 0, 3 * fours);
  for (let pixel = 0, to = 0; to < packed.length; pixel += 4, to += 3) {
    const a = words[pixel]!, b = words[pixel + 1]!, c = words[pixel + 2]!, d = words[pixel + 3]!;
    packed[to] = (a & 0xffffff) | b << 24; // the first byte is the lowest
    packed[to + 1] = (b >>> 8 & 0xffff) | c << 16;
    packed[to + 2] = (c >>> 16 & 0xff) | d << 8;
  }
  for (let pixel = 4 * fours; pixel < pixels; pixel++) {
    rgb.set(rgba.subarray(4 * pixel, 4 * pixel + 3), 3 * pixel);
  }
}
