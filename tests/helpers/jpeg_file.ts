/** JPEG files for tests, written by MozJPEG's encoder. */

import encode from "npm:@jsquash/jpeg@1.6.0/encode.js";

/** MozJPEG's number for grey pictures and for YCbCr. */
const GREY = 1, YCBCR = 3;

/** A JPEG file of RGB pixels `[height, width, 3]`; colours are not subsampled. */
export async function encodeJpeg(
  rgb: Uint8Array,
  options: {
    size: readonly [number, number];
    quality: number;
    progressive?: boolean;
    grey?: boolean;
  },
): Promise<Uint8Array> {
  const { size: [width, height], quality, progressive = false, grey = false } = options;
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  const file = await encode(new ImageData(data, width, height), {
    quality,
    progressive,
    baseline: !progressive,
    color_space: grey ? GREY : YCBCR,
    auto_subsample: false,
    chroma_subsample: 1,
  });
  return new Uint8Array(file);
}

/** Positions of the frame header and of the first scan's header. */
export function splitSegments(file: Uint8Array): { frame: number; scan: number } {
  let at = 2, frame = 0;
  while (file[at + 1] !== 0xda) {
    if (file[at + 1]! >= 0xc0 && file[at + 1]! <= 0xc2) frame = at;
    at += 2 + file[at + 2]! * 256 + file[at + 3]!;
  }
  return { frame, scan: at };
}
