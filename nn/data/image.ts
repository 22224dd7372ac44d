/** @file Pictures of any known format, told by their first bytes. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { type ByteSource, readSource } from "../io/source.ts";
import { isJpeg, readJpeg } from "./jpeg.ts";
import type { Picture, ReadPictureOptions } from "./picture.ts";
import { isPng, readPng } from "./png.ts";

/**
 * Reads a PNG or JPEG picture; the first bytes tell which, not the name. See {@linkcode readPng} and
 * {@linkcode readJpeg}.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The channels to give, and the largest picture to decode.
 * @throws {FormatError} If the file is neither, is cut or damaged, or has more pixels than allowed.
 *
 * @example
 * ```ts
 * import { readImage } from "./image.ts";
 *
 * const { data, width, height } = await readImage("a.jpg", { channels: 3 });
 * ```
 */
export async function readImage(
  source: ByteSource,
  options: ReadPictureOptions = {},
): Promise<Picture> {
  checkOptions("readImage", options, "readImage(source, { channels: 3 })");
  const { bytes, file } = await readSource(source, options.file);
  if (isJpeg(bytes)) return await readJpeg(bytes, { ...options, file });
  if (isPng(bytes)) return await readPng(bytes, { ...options, file });
  const start = [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0"));
  throw new FormatError(start.length > 0 ? `first bytes 0x${start.join("")}` : "end of file", {
    file,
    offset: 0,
    expected: "a PNG (0x89504e47) or a JPEG (0xffd8ff)",
  });
}
