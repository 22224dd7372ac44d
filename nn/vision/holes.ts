/** @file Augmentations that cut holes into images. */

import { checkOptions } from "../../engine/arguments.ts";
import { eraseBoxes, full, noGrad, scope, stack, type Tensor } from "../../engine/mod.ts";
import { checkImages, chosen, type Range, uniform, upTo } from "./_draw.ts";

/** Options of {@linkcode coarseDropout}. */
export interface CoarseDropoutOptions {
  /** Most holes; default 8. */
  maxHoles?: number;
  /** Fewest holes; default `maxHoles`. */
  minHoles?: number;
  /** Largest height: pixels, or a share of the image below 1; default 8. */
  maxHeight?: number;
  /** Smallest height; default `maxHeight`. */
  minHeight?: number;
  /** Largest width: pixels, or a share of the image below 1; default 8. */
  maxWidth?: number;
  /** Smallest width; default `maxWidth`. */
  minWidth?: number;
  /** Value of the holes; default 0. */
  fill?: number;
  /** Default 0.5. */
  p?: number;
}

/**
 * Rectangles of one value inside the images [N, C, H, W]: a random number of random size, each wholly
 * inside.
 *
 * Source: Albumentations 1.3.1's CoarseDropout.
 *
 * @throws {RangeError} if a hole may be larger than the image, or a range is out of order
 */
export function coarseDropout(x: Tensor, options: CoarseDropoutOptions = {}): Tensor {
  checkOptions("coarseDropout", options, "coarseDropout(x, { p: 0.5 })");
  const { maxHoles = 8, maxHeight = 8, maxWidth = 8, fill = 0, p = 0.5 } = options;
  const { minHoles = maxHoles, minHeight = maxHeight, minWidth = maxWidth } = options;
  const [N, H, W] = batch("coarseDropout", x);
  checkNumbers("coarseDropout", { p, least: minHoles, most: maxHoles });
  return noGrad(() =>
    scope(() => {
      const shape = [N, maxHoles];
      const h = lengths("coarseDropout", shape, { range: [minHeight, maxHeight], of: H });
      const w = lengths("coarseDropout", shape, { range: [minWidth, maxWidth], of: W });
      const top = upTo(shape, h.neg().add(H));
      const left = upTo(shape, w.neg().add(W));
      const count = upTo([N, 1], maxHoles - minHoles).add(minHoles);
      const ranks = numbered(maxHoles);
      const used = ranks.lt(count).logicalAnd(chosen([N, 1], p)).to("f32");
      return eraseBoxes(x, stack([top, left, top.add(h.mul(used)), left.add(w)], 2), { fill });
    })
  );
}

/** Options of {@linkcode cutout}. */
export interface CutoutOptions {
  /** Number of holes; default 8. */
  numHoles?: number;
  /** Height in pixels; default 8. */
  maxHSize?: number;
  /** Width in pixels; default 8. */
  maxWSize?: number;
  /** Value of the holes; default 0. */
  fill?: number;
  /** Default 0.5. */
  p?: number;
}

/**
 * Rectangles of one size at random centres; the right and bottom edges may cut them.
 *
 * Source: Albumentations 0.5.2's Cutout: y1 = clip(y - ⌊h/2⌋), y2 = clip(y1 + h), so a hole at the top
 * or left edge keeps its size.
 *
 * @throws {RangeError} if a number is negative or not whole
 */
export function cutout(x: Tensor, options: CutoutOptions = {}): Tensor {
  checkOptions("cutout", options, "cutout(x, { p: 0.5 })");
  const { numHoles = 8, maxHSize = 8, maxWSize = 8, fill = 0, p = 0.5 } = options;
  const [N, H, W] = batch("cutout", x);
  checkNumbers("cutout", { p, least: numHoles, most: numHoles });
  for (const size of [maxHSize, maxWSize]) checkNumbers("cutout", { p, least: size, most: size });
  return noGrad(() =>
    scope(() => {
      const shape = [N, numHoles];
      const start = (length: number, size: number) =>
        upTo(shape, length).sub(Math.floor(size / 2)).clamp({ min: 0 });
      const [top, left] = [start(H, maxHSize), start(W, maxWSize)];
      const height = chosen([N, 1], p).to("f32").mul(maxHSize);
      return eraseBoxes(x, stack([top, left, top.add(height), left.add(maxWSize)], 2), { fill });
    })
  );
}

function batch(name: string, x: Tensor): [number, number, number] {
  checkImages(name, x);
  return [x.shape[0]!, x.shape[2]!, x.shape[3]!];
}

function checkNumbers(name: string, given: { p: number; least: number; most: number }): void {
  const { p, least, most } = given;
  if (!(p >= 0 && p <= 1)) throw new RangeError(`Cannot use ${name} p = ${p}: it must be 0 to 1`);
  if (!Number.isInteger(least) || !Number.isInteger(most) || least < 0 || most < least) {
    throw new RangeError(
      `Cannot ${name} with ${least} to ${most}: they must be whole numbers from 0 on, in order`,
    );
  }
}

/** 0, 1, … [1, n] as f32. */
function numbered(n: number): Tensor {
  return full([1, n], 1).cumsum(1).sub(1);
}

/** Lengths of holes: whole pixels from a range of pixels or of shares of `of`. */
function lengths(
  name: string,
  shape: readonly number[],
  { range: [low, high], of }: { range: Range; of: number },
): Tensor {
  const shares = high < 1;
  const ok = low >= 0 && low <= high && (shares || (Number.isInteger(low) && high <= of)) &&
    (shares || Number.isInteger(high));
  if (!ok) {
    throw new RangeError(
      `Cannot ${name} with holes of ${low} to ${high} of ${of} pixels: give whole pixels inside the ` +
        "image, or shares below 1, in order",
    );
  }
  return shares ? uniform(shape, [low * of, high * of]).floor() : upTo(shape, high - low).add(low);
}
