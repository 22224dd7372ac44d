/**
 * Augmentations of batches on the GPU with one random draw a sample, as torchvision and Albumentations
 * define them. Images are [N, C, H, W] in [0, 1], f32 or f16; nothing is recorded for autograd.
 *
 * Draws come from the engine's generator, so a seed and a checkpoint reproduce them. `p` is the
 * probability that a sample is changed.
 */

import { checkOptions } from "../../engine/arguments.ts";
import {
  adjustColors,
  blurEach,
  cat,
  cropResize,
  full,
  noGrad,
  type Pair,
  rand,
  randn,
  scope,
  stack,
  type Tensor,
  warpReflect,
} from "../../engine/mod.ts";
import { checkImages, chosen, type Range, uniform } from "./_draw.ts";

export { coarseDropout, type CoarseDropoutOptions, cutout, type CutoutOptions } from "./holes.ts";
export { mixup, type MixupOptions, type MixupResult } from "./mixup.ts";

/** Runs `fn` off the tape and frees what it makes but its result, which gets the dtype of x. */
function augment(name: string, x: Tensor, fn: () => Tensor): Tensor {
  checkImages(name, x);
  return noGrad(() => scope(() => fn().to(x.dtype)));
}

function checkRange(name: string, [low, high]: Range, least: number): void {
  if (low >= least && high >= low && Number.isFinite(high)) return;
  throw new RangeError(
    `Cannot use ${name} ${low} to ${high}: it must be in order and at least ${least}`,
  );
}

function checkProbability(name: string, p: number): void {
  if (p >= 0 && p <= 1) return;
  throw new RangeError(`Cannot use ${name} p = ${p}: it must be 0 to 1`);
}

/** [N] as [N, 1, 1, 1]. */
function each(numbers: Tensor): Tensor {
  return numbers.reshape(-1, 1, 1, 1);
}

/** Options of {@linkcode randomResizedCrop}. */
export interface RandomResizedCropOptions {
  /** Output size: both dimensions, or [height, width]. */
  size: Pair;
  /** Share of the area that is cut out; default [0.08, 1]. */
  scale?: Range;
  /** Width over height of the part, drawn evenly in its logarithm; default [3/4, 4/3]. */
  ratio?: Range;
}

/**
 * A random part of each image, resized to `size` with antialiasing. Of ten draws of area and ratio the
 * first that fits the image is taken; else the centre, with the ratio limited to its range.
 *
 * Source: torchvision's RandomResizedCrop.
 *
 * @throws {RangeError} if a range is not positive and in order
 */
export function randomResizedCrop(x: Tensor, options: RandomResizedCropOptions): Tensor {
  checkOptions("randomResizedCrop", options, "randomResizedCrop(x, { size: 32 })");
  const { size, scale = [0.08, 1], ratio = [3 / 4, 4 / 3] } = options;
  checkRange("randomResizedCrop scale", scale, Number.MIN_VALUE);
  checkRange("randomResizedCrop ratio", ratio, Number.MIN_VALUE);
  return augment("randomResizedCrop", x, () => {
    const [N, , H, W] = x.shape as [number, number, number, number];
    const shape = [N, 10];
    const area = uniform(shape, scale).mul(H * W);
    const aspect = uniform(shape, [Math.log(ratio[0]), Math.log(ratio[1])]).exp();
    const widths = area.mul(aspect).sqrt().round();
    const heights = area.div(aspect).sqrt().round();
    const fits = widths.gt(0).logicalAnd(widths.le(W)).logicalAnd(heights.gt(0))
      .logicalAnd(heights.le(H)).to("f32");
    const first = fits.argmax(1, { keepdim: true });
    const found = fits.max(1).gt(0);
    const [h0, w0] = centralCrop(H, W, ratio);
    const pick = (of: Tensor, otherwise: number) =>
      of.gather(1, first).select(1, 0).where(found, full([], otherwise));
    const [h, w] = [pick(heights, h0), pick(widths, w0)];
    // randint(0, H - h + 1); the central crop is not moved.
    const place = (length: number, part: Tensor, central: number) => {
      const room = part.neg().add(length);
      return rand([N]).mul(room.add(1)).floor().minimum(room)
        .where(found, full([], Math.floor((length - central) / 2)));
    };
    return cropResize(x, stack([place(H, h, h0), place(W, w, w0), h, w], 1), { size });
  });
}

/** Height and width of the part taken when no draw fits. */
function centralCrop(H: number, W: number, [low, high]: Range): [number, number] {
  if (W / H < low) return [Math.min(H, Math.max(1, Math.round(W / low))), W];
  if (W / H > high) return [H, Math.min(W, Math.max(1, Math.round(H * high)))];
  return [H, W];
}

/** Options of {@linkcode colorJitter}. */
export interface ColorJitterOptions {
  /** Factor from max(0, 1 - v) to 1 + v, or a range; default 0: unchanged. */
  brightness?: number | Range;
  /** As brightness, towards the mean gray of the image. */
  contrast?: number | Range;
  /** As brightness, towards each pixel's gray. */
  saturation?: number | Range;
  /** Turn of the hue from -v to v of the circle, at most 0.5, or a range; default 0. */
  hue?: number | Range;
  /** Default 1. */
  p?: number;
}

/**
 * Brightness, contrast, saturation and hue of RGB images by random factors, in a random order for each
 * image.
 *
 * Source: torchvision's ColorJitter.
 *
 * @throws {TypeError} if x is not [N, 3, H, W]
 * @throws {RangeError} if a range is out of order or out of bounds
 */
export function colorJitter(x: Tensor, options: ColorJitterOptions = {}): Tensor {
  checkOptions("colorJitter", options, "colorJitter(x, { brightness: 0.2 })");
  const { p = 1 } = options;
  checkProbability("colorJitter", p);
  const ranges = (["brightness", "contrast", "saturation"] as const).map((name) => {
    const v = options[name] ?? 0;
    const range: Range = typeof v === "number" ? [Math.max(0, 1 - v), 1 + v] : v;
    checkRange(`colorJitter ${name}`, range, 0);
    return range;
  });
  const { hue = 0 } = options;
  const turn: Range = typeof hue === "number" ? [-hue, hue] : hue;
  checkRange("colorJitter hue", turn, -0.5);
  if (turn[1] > 0.5) {
    throw new RangeError(`Cannot use colorJitter hue ${turn[1]}: it is at most 0.5`);
  }
  return augment("colorJitter", x, () => {
    const N = x.shape[0]!;
    const order = rand([N, 4]).argsort({ dim: 1 }).to("f32");
    const on = chosen([N], p);
    const factors = [...ranges, turn].map((range, k) =>
      uniform([N], range).where(on, full([], k < 3 ? 1 : 0))
    );
    return adjustColors(x, cat([stack(factors, 1), order], 1));
  });
}

/** Options of {@linkcode gaussianBlur}. */
export interface GaussianBlurOptions {
  /** Pixels a side, odd. */
  kernelSize: number;
  /** Deviation in pixels; default [0.1, 2]. */
  sigma?: Range;
  /** Default 1. */
  p?: number;
}

/**
 * Gaussian blur of a random deviation; edges are mirrored.
 *
 * Source: torchvision's GaussianBlur.
 *
 * @throws {RangeError} if a range is not positive and in order, or the size even or too large
 */
export function gaussianBlur(x: Tensor, options: GaussianBlurOptions): Tensor {
  checkOptions("gaussianBlur", options, "gaussianBlur(x, { kernelSize: 5 })");
  const { kernelSize, sigma = [0.1, 2], p = 1 } = options;
  checkRange("gaussianBlur sigma", sigma, Number.MIN_VALUE);
  checkProbability("gaussianBlur", p);
  return augment("gaussianBlur", x, () => {
    const N = x.shape[0]!;
    // So narrow that every weight but the centre's is 0: the image itself.
    const narrow = full([], 0.01);
    return blurEach(x, uniform([N], sigma).where(chosen([N], p), narrow), { kernelSize });
  });
}

/** Options of {@linkcode gaussNoise}. */
export interface GaussNoiseOptions {
  /** Variance in units of 0..255; default [10, 50]. A number v stands for [0, v]. */
  varLimit?: number | Range;
  /** Mean in units of 0..255; default 0. */
  mean?: number;
  /** Default 0.5. */
  p?: number;
}

/**
 * Normal noise on every element, with a variance a sample; clipped to [0, 1].
 *
 * Source: Albumentations 1.3.1's GaussNoise on bytes; its limits hold here, divided by 255².
 *
 * @throws {RangeError} if the range is negative or out of order
 */
export function gaussNoise(x: Tensor, options: GaussNoiseOptions = {}): Tensor {
  checkOptions("gaussNoise", options, "gaussNoise(x, { p: 0.5 })");
  const { varLimit = [10, 50], mean = 0, p = 0.5 } = options;
  const range: Range = typeof varLimit === "number" ? [0, varLimit] : varLimit;
  checkRange("gaussNoise varLimit", range, 0);
  checkProbability("gaussNoise", p);
  return augment("gaussNoise", x, () => {
    const N = x.shape[0]!;
    const noise = randn(x.shape).mul(each(uniform([N], range).sqrt().mul(1 / 255)));
    const on = each(chosen([N], p));
    return x.add(noise.add(mean / 255)).clamp({ min: 0, max: 1 }).where(on, x);
  });
}

/** Options of {@linkcode brightnessContrast}. */
export interface BrightnessContrastOptions {
  /** Added: up to ± this; default 0.2. */
  brightnessLimit?: number;
  /** Factor 1 ± up to this; default 0.2. */
  contrastLimit?: number;
  /** Default 0.5. */
  p?: number;
}

/**
 * clip(x · (1 + c) + b) to [0, 1] with random c and b.
 *
 * Source: Albumentations' RandomBrightnessContrast (brightness by the largest value).
 *
 * @throws {RangeError} if a limit is negative
 */
export function brightnessContrast(x: Tensor, options: BrightnessContrastOptions = {}): Tensor {
  checkOptions("brightnessContrast", options, "brightnessContrast(x, { brightnessLimit: 0.2 })");
  const { brightnessLimit = 0.2, contrastLimit = 0.2, p = 0.5 } = options;
  checkRange("brightnessContrast limits", [
    Math.min(brightnessLimit, contrastLimit),
    Math.max(brightnessLimit, contrastLimit),
  ], 0);
  checkProbability("brightnessContrast", p);
  return augment("brightnessContrast", x, () => {
    const N = x.shape[0]!;
    const factor = each(uniform([N], [1 - contrastLimit, 1 + contrastLimit]));
    const shift = each(uniform([N], [-brightnessLimit, brightnessLimit]));
    return x.mul(factor).add(shift).clamp({ min: 0, max: 1 }).where(each(chosen([N], p)), x);
  });
}

/** Options of {@linkcode shiftScaleRotate}. */
export interface ShiftScaleRotateOptions {
  /** Shift up to ± this share of width and height; default 0.0625. */
  shiftLimit?: number;
  /** Scale 1 ± up to this; default 0.1. */
  scaleLimit?: number;
  /** Turn up to ± this many degrees; default 45. */
  rotateLimit?: number;
  /** Default 0.5. */
  p?: number;
}

/**
 * Scales and turns each image about its centre, counter-clockwise for positive angles, and shifts it;
 * bilinear, mirrored beyond the edges.
 *
 * Source: Albumentations 1.3.1's ShiftScaleRotate (REFLECT_101).
 *
 * @throws {RangeError} if a limit is negative, or the scale's not below 1
 */
export function shiftScaleRotate(x: Tensor, options: ShiftScaleRotateOptions = {}): Tensor {
  checkOptions("shiftScaleRotate", options, "shiftScaleRotate(x, { shiftLimit: 0.1 })");
  const { shiftLimit = 0.0625, scaleLimit = 0.1, rotateLimit = 45, p = 0.5 } = options;
  checkRange("shiftScaleRotate shiftLimit", [0, shiftLimit], 0);
  checkRange("shiftScaleRotate scaleLimit", [0, scaleLimit], 0);
  checkRange("shiftScaleRotate rotateLimit", [0, rotateLimit], 0);
  checkProbability("shiftScaleRotate", p);
  if (scaleLimit >= 1) {
    throw new RangeError(`Cannot use shiftScaleRotate scaleLimit ${scaleLimit}: it is below 1`);
  }
  return augment("shiftScaleRotate", x, () => {
    const [N, , H, W] = x.shape as [number, number, number, number];
    const on = chosen([N], p);
    const draw = (limit: number, rest = 0) =>
      uniform([N], [rest - limit, rest + limit]).where(on, full([], rest));
    const angle = draw(rotateLimit * Math.PI / 180);
    const [dx, dy] = [draw(shiftLimit).mul(W), draw(shiftLimit).mul(H)];
    const shrink = draw(scaleLimit, 1).reciprocal();
    // OpenCV maps p to k·[cos, sin; -sin, cos] p + d; what is read is the inverse.
    const [c, s] = [angle.cos().mul(shrink), angle.sin().mul(shrink)];
    const row = (a: Tensor, b: Tensor) => stack([a, b, a.mul(dx).add(b.mul(dy)).neg()], 1);
    return warpReflect(x, stack([row(c, s.neg()), row(s, c)], 1));
  });
}
