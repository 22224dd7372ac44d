/**
 * Batch transforms on the GPU with one random draw a sample, as torchvision defines them (tensor
 * path). Images are [N, C, H, W] f32; nothing is recorded for autograd.
 *
 * Draws come from the engine's generator, so a seed and a checkpoint reproduce them.
 */

import {
  fromBytes,
  interpolate,
  noGrad,
  type Pair,
  rand,
  stack,
  type Tensor,
  tensor,
  warpAffine,
  zerosLike,
} from "../../engine/mod.ts";

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
  const { p = 0.5 } = options;
  checkRange("randomHorizontalFlip p", p, 0, 1);
  return noGrad(() => {
    const side = rand([x.shape[0]!]).lt(p).to("f32").mul(-2).add(1);
    const zero = zerosLike(side);
    const one = zero.add(1);
    return warpAffine(x, maps([side, zero, zero, zero, one, zero]));
  });
}

/** Turns each image counter-clockwise by an angle drawn from [-degrees, degrees] about its centre. */
export function randomRotation(
  x: Tensor,
  options: { degrees: number } & WarpOptions,
): Tensor {
  checkRange("randomRotation degrees", options.degrees, 0, 180);
  return noGrad(() => {
    const angle = uniform(x.shape[0]!, -options.degrees, options.degrees).mul(Math.PI / 180);
    const [c, s] = [angle.cos(), angle.sin()];
    const zero = zerosLike(c);
    return warpAffine(x, maps([c, s.neg(), zero, s, c, zero]), options);
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
  const { degrees = 0, translate = [0, 0], scale = [1, 1], shear = 0 } = options;
  checkRange("randomAffine degrees", degrees, 0, 180);
  checkRange("randomAffine shear", shear, 0, 89);
  for (const t of translate) checkRange("randomAffine translate", t, 0, 1);
  if (!(scale[0] > 0 && scale[1] >= scale[0])) {
    throw new RangeError(
      `Cannot scale by ${scale.join(" to ")}: the range must be positive and in order`,
    );
  }
  const [N, , H, W] = x.shape as [number, number, number, number];
  return noGrad(() => {
    const r = uniform(N, -degrees, degrees).mul(Math.PI / 180);
    const tx = uniform(N, -translate[0] * W, translate[0] * W).round();
    const ty = uniform(N, -translate[1] * H, translate[1] * H).round();
    const size = uniform(N, scale[0], scale[1]);
    const s = uniform(N, -shear, shear).mul(Math.PI / 180);
    const [cos, sin, tan] = [r.cos(), r.sin(), s.sin().div(s.cos())];
    const m00 = cos.sub(sin.mul(tan)).div(size);
    const m01 = cos.mul(tan).add(sin).div(size);
    const m10 = sin.neg().div(size);
    const m11 = cos.div(size);
    const shift = (a: Tensor, b: Tensor) => a.mul(tx).add(b.mul(ty)).neg();
    return warpAffine(x, maps([m00, m01, shift(m00, m01), m10, m11, shift(m10, m11)]), options);
  });
}

/** Six vectors [N] as maps [N, 2, 3]. */
function maps(rows: readonly Tensor[]): Tensor {
  return stack(rows, 1).reshape(-1, 2, 3);
}

function uniform(count: number, low: number, high: number): Tensor {
  return rand([count]).mul(high - low).add(low);
}

function checkRange(name: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high)) {
    throw new RangeError(`Cannot use ${name} = ${value}: it must be ${low} to ${high}`);
  }
}
