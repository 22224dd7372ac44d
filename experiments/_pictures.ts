/** @file Many pictures read and resized, a batch at a time on the GPU. */

import { nn, noGrad, scope } from "../mod.ts";

const { data, vision } = nn;

/** Pictures that are read and resized at a time. */
const AT_ONCE = 64;

/** Options of {@linkcode readResized}. */
export interface ReadResizedOptions {
  /** Length of the shorter side, or [height, width]. */
  readonly size: number | readonly [number, number];
  /** Values of a pixel: grey or RGB. */
  readonly channels: 1 | 3;
}

/**
 * Pictures from files (PNG, JPEG) or from memory, resized with antialiasing. Neighbours of one size travel
 * together: a read from the GPU costs 10 ms, whatever its length.
 */
export async function readResized(
  sources: readonly (string | nn.data.Picture)[],
  { size, channels }: ReadResizedOptions,
): Promise<nn.data.Picture[]> {
  const resized: nn.data.Picture[] = [];
  for (let first = 0; first < sources.length; first += AT_ONCE) {
    const part = sources.slice(first, first + AT_ONCE);
    const pictures = await Promise.all(
      part.map((s) => typeof s === "string" ? data.readImage(s, { channels }) : s),
    );
    for (let at = 0; at < pictures.length;) {
      const { width, height } = pictures[at]!;
      const other = pictures.findIndex((p, i) =>
        i > at && (p.width !== width || p.height !== height)
      );
      const end = other < 0 ? pictures.length : other;
      resized.push(...await resizeAll(pictures.slice(at, end), size));
      at = end;
    }
  }
  return resized;
}

/** Pictures of one size, resized. */
async function resizeAll(
  pictures: readonly nn.data.Picture[],
  size: ReadResizedOptions["size"],
): Promise<readonly nn.data.Picture[]> {
  const { width: W, height: H, channels } = pictures[0]!;
  const same = typeof size === "number" ? Math.min(H, W) === size : H === size[0] && W === size[1];
  if (same) return pictures;
  using x = scope(() =>
    noGrad(() => {
      const images = vision.imagesToTensor(data.stackPictures(pictures));
      return vision.resize(images, size as number | [number, number]).permute(0, 2, 3, 1)
        .mul(255).round().contiguous();
    })
  );
  const [, height, width] = x.shape as [number, number, number];
  const bytes = Uint8Array.from(await x.data() as Float32Array);
  const length = height * width * channels;
  return pictures.map((_, i) => ({
    data: bytes.slice(i * length, (i + 1) * length),
    width,
    height,
    channels,
  }));
}
