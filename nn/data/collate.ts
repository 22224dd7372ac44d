/** @file Batches of pictures as bytes, ready to be sent to the GPU. */

import { given } from "../../engine/arguments.ts";
import { checkPicture, type Picture } from "./picture.ts";

/** Pictures of one size and kind, one after the other. */
export interface PictureBatch {
  /**
   * Values 0 to 255, `[count, height, width, channels]` in row-major order; the pictures' own memory if
   * they lie in it one after the other, as those that a worker sends do.
   */
  images: Uint8Array<ArrayBuffer>;
  /** Class of each picture, 0 where it has none. */
  labels: Int32Array<ArrayBuffer>;
  /** Number of pictures. */
  count: number;
  /** Rows of a picture. */
  height: number;
  /** Columns of a picture. */
  width: number;
  /** Values of a pixel. */
  channels: number;
}

/**
 * Puts pictures of one size into a batch: the `collate` of a loader of pictures. Only bytes travel to the
 * GPU; `nn.vision.imagesToTensor` makes f32 [B, C, H, W] of them there.
 *
 * @param pictures At least one, with or without a label.
 * @throws {TypeError} If they differ in size or channels, or one is no picture.
 *
 * @example
 * ```ts
 * import { stackPictures } from "./collate.ts";
 *
 * const dot = { data: Uint8Array.of(255), width: 1, height: 1, channels: 1, label: 3 };
 * const { images, labels } = stackPictures([dot, dot]); // 255, 255 and 3, 3
 * ```
 */
export function stackPictures(pictures: readonly (Picture & { label?: number })[]): PictureBatch {
  if (!Array.isArray(pictures)) {
    throw new TypeError(`Cannot stack ${given(pictures)}: it must be a list of pictures`);
  }
  for (const picture of pictures) checkPicture("stack", picture);
  const { height = 0, width = 0, channels = 0 } = pictures[0] ?? {};
  const size = height * width * channels, count = pictures.length;
  const labels = new Int32Array(count), adjacent = view(pictures, size);
  const images = adjacent ?? new Uint8Array(count * size);
  for (const [i, picture] of pictures.entries()) {
    const { data, label = 0 } = picture;
    if (picture.height !== height || picture.width !== width || picture.channels !== channels) {
      throw new TypeError(
        `Cannot stack ${picture.height}x${picture.width}x${picture.channels} on ` +
          `${height}x${width}x${channels}: pictures of a batch must have one size and one kind`,
      );
    }
    if (!adjacent) images.set(data, i * size);
    labels[i] = label;
  }
  return { images, labels, count, height, width, channels };
}

/** The pictures' memory if they lie in it one after the other, each of `size` bytes. */
function view(pictures: readonly Picture[], size: number): Uint8Array<ArrayBuffer> | undefined {
  const [first] = pictures;
  if (!first) return undefined;
  const { buffer, byteOffset } = first.data;
  const adjacent = pictures.every(({ data }, i) =>
    data.buffer === buffer && data.byteOffset === byteOffset + i * size && data.length === size
  );
  return adjacent ? new Uint8Array(buffer, byteOffset, pictures.length * size) : undefined;
}
