/**
 * Batch transforms on the GPU with one random draw a sample, as torchvision defines them (tensor
 * path). Images are [N, C, H, W] f32; nothing is recorded for autograd.
 *
 * Draws come from the engine's generator, so a seed and a checkpoint reproduce them.
 */

import { checkOptions, given } from "../../engine/arguments.ts";
import {
  type AffineRanges,
  cat,
  fromBytes,
  interpolate,
  noGrad,
  type Pair,
  randomAffineMaps,
  type Tensor,
  tensor,
  warpAffine,
} from "../../engine/mod.ts";
import { type PictureBatch, stackPictures } from "../data/collate.ts";
import type { Picture } from "../data/picture.ts";

/** How a warp reads between pixels. */
export interface WarpOptions {
  /** Default `nearest`, as torchvision. */
  mode?: "nearest" | "bilinear";
  /** Value outside the image; default 0. */
  fill?: number;
}

/**
 * Bytes as images in [0, 1] (torchvision's ToTensor for a batch already in N C H W order).
 *
 * @throws {TypeError} if the shape does not fit the number of bytes
 */
export function toTensor(bytes: Uint8Array, shape: readonly number[]): Tensor {
  return fromBytes(bytes, { shape });
}

/**
 * Pictures as readers give them, bytes [H, W, C], as f32 [B, C, H, W] in 0..1. The bytes travel as they
 * are; the GPU unpacks, permutes and resizes them. Pictures of several sizes need `size`.
 *
 * @param images A batch of one size, or a list of pictures.
 * @param options `size`: [height, width] that each picture is resized to. Default its own.
 * @throws {TypeError} if the pictures differ in channels, or in size without `size`, or one is none
 *
 * @example
 * ```ts
 * import { init } from "../../engine/mod.ts";
 * import { imagesToTensor } from "./transforms.ts";
 *
 * await init();
 * const grey = { data: Uint8Array.of(0, 255, 255, 0), width: 2, height: 2, channels: 1 };
 * const wide = { data: Uint8Array.of(0, 255), width: 2, height: 1, channels: 1 };
 * const x = imagesToTensor([grey, wide], { size: [2, 2] }); // [2, 1, 2, 2]
 * ```
 */
export function imagesToTensor(
  images: Omit<PictureBatch, "labels"> | readonly Picture[],
  options: { size?: [number, number] } = {},
): Tensor {
  checkOptions("imagesToTensor", options, "imagesToTensor(images, { size: [32, 32] })");
  const { size } = options;
  if (!Array.isArray(images) && !isBatch(images)) {
    throw new TypeError(
      `Cannot make a tensor of ${given(images)}: it must be a batch of pictures or a list of them`,
    );
  }
  return noGrad(() => {
    if (isBatch(images)) return sized(images, size);
    const [first] = images;
    const isAlike = ({ height, width, channels }: Picture) =>
      height === first!.height && width === first!.width && channels === first!.channels;
    if (size === undefined || images.every(isAlike)) return sized(stackPictures(images), size);
    return cat(images.map((picture) => sized(stackPictures([picture]), size)), 0);
  });
}

function isBatch(images: unknown): images is Omit<PictureBatch, "labels"> {
  return typeof images === "object" && images !== null && "images" in images;
}

/** Pictures of one size on the GPU, resized if asked for. */
function sized(batch: Omit<PictureBatch, "labels">, size?: [number, number]): Tensor {
  const { images, count, height, width, channels } = batch;
  const x = toTensor(images, [count, height, width, channels]).permute(0, 3, 1, 2).contiguous();
  return size === undefined || (size[0] === height && size[1] === width) ? x : resize(x, size);
}

/**
 * Bilinear resize with antialiasing. A number is the size of the shorter side, the longer one
 * follows (truncated); a pair is [height, width].
 */
export function resize(x: Tensor, size: Pair): Tensor {
  const [H, W] = [x.shape[2]!, x.shape[3]!];
  const target: Pair = typeof size !== "number"
    ? size
    : H <= W
    ? [size, Math.trunc(size * W / H)]
    : [Math.trunc(size * H / W), size];
  return noGrad(() => interpolate(x, { size: target, antialias: true }));
}

/** (x - mean) / std a channel. */
export function normalize(
  x: Tensor,
  options: { mean: readonly number[]; std: readonly number[] },
): Tensor {
  checkOptions("normalize", options, "normalize(x, { mean: [0.5], std: [0.5] })");
  const { mean, std } = options;
  const C = x.shape[1]!;
  if (mean.length !== C || std.length !== C) {
    throw new TypeError(
      `Cannot normalize ${C} channels with ${mean.length} means and ${std.length} deviations: give one a channel`,
    );
  }
  return noGrad(() => {
    if (C === 1) return x.sub(mean[0]!).mul(1 / std[0]!);
    const row = (values: readonly number[]) => tensor(values).reshape(1, C, 1, 1);
    return x.sub(row(mean)).div(row(std));
  });
}

/** Mirrors each image with probability p (0.5). */
export function randomHorizontalFlip(x: Tensor, options: { p?: number } = {}): Tensor {
  checkOptions("randomHorizontalFlip", options, "randomHorizontalFlip(x, { p: 0.5 })");
  const { p = 0.5 } = options;
  checkRange("randomHorizontalFlip p", p, 0, 1);
  return warp(x, { flip: p });
}

/**
 * Turns each image counter-clockwise about its centre by an angle drawn from [-degrees, degrees], or
 * from a range of degrees.
 *
 * @throws {RangeError} If a number is not 0 to 180, or a range not in order.
 */
export function randomRotation(
  x: Tensor,
  options: { degrees: number | readonly [number, number] } & WarpOptions,
): Tensor {
  checkOptions("randomRotation", options, "randomRotation(x, { degrees: 10 })");
  const { degrees } = options;
  if (typeof degrees === "number") {
    checkRange("randomRotation degrees", degrees, 0, 180);
    return warp(x, { degrees }, options);
  }
  const [low, high] = degrees;
  if (!(low <= high && Number.isFinite(high - low))) {
    throw new RangeError(`Cannot rotate by ${low} to ${high} degrees: the range must be in order`);
  }
  const middle = (low + high) / 2 * Math.PI / 180;
  const [c, s] = [Math.cos(middle), Math.sin(middle)];
  return noGrad(() => {
    const maps = randomAffineMaps(x.shape[0]!, { degrees: (high - low) / 2 });
    const turned = maps.narrow(2, 0, 2).matmul(tensor([[c, -s], [s, c]]));
    return warpAffine(x, cat([turned, maps.narrow(2, 2, 1)], 2), options);
  });
}

/** Options of {@linkcode randomAffine}. */
export interface RandomAffineOptions extends WarpOptions {
  /** Rotation drawn from [-degrees, degrees]; default 0. */
  degrees?: number;
  /** Largest shift as fractions of width and height; whole pixels are drawn. */
  translate?: readonly [number, number];
  /** Range of the scale factor. */
  scale?: readonly [number, number];
  /** Shear along x drawn from [-shear, shear] degrees. */
  shear?: number;
}

/**
 * Rotates, shears, scales and shifts each image about its centre by its own draw.
 *
 * The map from output to input is torchvision's inverse matrix (shear along x only):
 * with r the rotation, s the shear: M = [cos r - sin r·tan s, cos r·tan s + sin r; -sin r, cos r] / scale.
 */
export function randomAffine(x: Tensor, options: RandomAffineOptions): Tensor {
  checkOptions("randomAffine", options, "randomAffine(x, { degrees: 10 })");
  const { degrees = 0, translate = [0, 0], scale = [1, 1], shear = 0 } = options;
  checkRange("randomAffine degrees", degrees, 0, 180);
  checkRange("randomAffine shear", shear, 0, 89);
  for (const t of translate) checkRange("randomAffine translate", t, 0, 1);
  if (!(scale[0] > 0 && scale[1] >= scale[0])) {
    throw new RangeError(
      `Cannot scale by ${scale.join(" to ")}: the range must be positive and in order`,
    );
  }
  const [H, W] = [x.shape[2]!, x.shape[3]!];
  const shift = [translate[0] * W, translate[1] * H] as const;
  return warp(x, { degrees, shift, scale, shear }, options);
}

/** Each image under a map of its own draw. */
function warp(x: Tensor, ranges: AffineRanges, options?: WarpOptions): Tensor {
  return noGrad(() => warpAffine(x, randomAffineMaps(x.shape[0]!, ranges), options));
}

function checkRange(name: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high)) {
    throw new RangeError(`Cannot use ${name} = ${value}: it must be ${low} to ${high}`);
  }
}
