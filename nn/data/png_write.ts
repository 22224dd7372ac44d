/** @file Pictures as PNG files. pngjs encodes. */

import { given } from "../../engine/arguments.ts";
import type { Picture } from "./picture.ts";
import { loadPngjs } from "./pngjs.ts";

/** PNG's colour type by the number of channels. */
const COLOUR_TYPES: Record<number, 0 | 2 | 4 | 6> = { 1: 0, 2: 4, 3: 2, 4: 6 };

/**
 * The bytes of a PNG file of 8 bits a value.
 *
 * @param picture Grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4).
 * @throws {TypeError} If it is no picture.
 * @throws {RangeError} If the picture has no pixels, other channels, or its data is not of its size.
 *
 * @example
 * ```ts
 * import { writePng } from "./png_write.ts";
 *
 * const grey = { data: Uint8Array.of(0, 255, 255, 0), width: 2, height: 2, channels: 1 };
 * await Deno.writeFile("checks.png", await writePng(grey));
 * ```
 */
export async function writePng(picture: Picture): Promise<Uint8Array<ArrayBuffer>> {
  const { data, width, height, channels } = picture ?? {};
  if (!ArrayBuffer.isView(data)) {
    throw new TypeError(
      `Cannot write ${given(picture)} as a PNG: it takes one picture, ` +
        "{ data, width, height, channels }, and gives the file's bytes",
    );
  }
  const type = COLOUR_TYPES[channels];
  if (
    type === undefined || !(width > 0 && height > 0) || data.length !== width * height * channels
  ) {
    throw new RangeError(
      `Cannot write ${data.length} values as a PNG of ${width}x${height} pixels with ${channels} ` +
        "channels: it needs 1 to 4 channels and a value for each",
    );
  }
  const { PNG } = await loadPngjs();
  const rgba = new PNG({ width, height });
  spread(data, channels, rgba.data);
  return Uint8Array.from(PNG.sync.write(rgba, { colorType: type, inputColorType: 6 }));
}

/** Pixels of any channels as RGBA. */
function spread(data: Uint8Array, channels: number, rgba: Uint8Array): void {
  const colours = channels > 2 ? [0, 1, 2] : [0, 0, 0], alpha = channels % 2 === 0;
  for (let from = 0, to = 0; from < data.length; from += channels, to += 4) {
    for (let i = 0; i < 3; i++) rgba[to + i] = data[from + colours[i]!]!;
    rgba[to + 3] = alpha ? data[from + channels - 1]! : 255;
  }
}
