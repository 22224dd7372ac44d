/**
 * Changes of each image of a batch by numbers of its own (f32). Images are [N, C, H, W], f32 or f16, and
 * keep their dtype.
 */

import { checkOptions } from "./arguments.ts";
import type { Pair } from "./functions.ts";
import * as ops from "./ops/image_augment.ts";
import { apply, type Tensor } from "./tensor.ts";

/**
 * Parts of images, resized with antialiasing: crops [N, 4] of [top, left, height, width] in whole pixels
 * inside the images → [N, C, ...size]. Not differentiable.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 * @throws {RangeError} if a size is below 1
 */
export function cropResize(x: Tensor, crops: Tensor, options: { size: Pair }): Tensor {
  checkOptions("cropResize", options, "cropResize(x, crops, { size: 8 })");
  const { size } = options;
  const pair = typeof size === "number" ? [size, size] as const : size;
  return apply(ops.cropResize, [x, crops], { size: pair })[0]!;
}

/**
 * Brightness, contrast, saturation and hue of RGB images in [0, 1] as torchvision changes them. factors
 * [N, 8]: the four factors in that order (hue as a fraction of the circle), then the order of running
 * them, as numbers 0 to 3. Not differentiable.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function adjustColors(x: Tensor, factors: Tensor): Tensor {
  return apply(ops.adjustColors, [x, factors], {})[0]!;
}

/**
 * Gaussian blur over `kernelSize` pixels a side with deviations sigmas [N] in pixels, above 0; edges are
 * mirrored without repeating them. Not differentiable.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 * @throws {RangeError} if the size is even, or not below twice the image's
 */
export function blurEach(x: Tensor, sigmas: Tensor, options: { kernelSize: number }): Tensor {
  checkOptions("blurEach", options, "blurEach(x, sigmas, { kernelSize: 5 })");
  return apply(ops.gaussianBlur, [x, sigmas], options)[0]!;
}

/**
 * `fill` (0) inside boxes [N, K, 4] of [top, left, bottom, right] pixels, ends not included. Not
 * differentiable.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function eraseBoxes(x: Tensor, boxes: Tensor, options: { fill?: number } = {}): Tensor {
  checkOptions("eraseBoxes", options, "eraseBoxes(x, boxes, { fill: 0 })");
  return apply(ops.eraseBoxes, [x, boxes], { fill: options.fill ?? 0 })[0]!;
}

/**
 * Bilinear `warpAffine` with the image mirrored beyond its edges, which are not repeated (OpenCV's
 * REFLECT_101). Not differentiable.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function warpReflect(x: Tensor, maps: Tensor): Tensor {
  return apply(ops.warpReflect, [x, maps], {})[0]!;
}
