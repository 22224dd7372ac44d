/** @file Random crops that keep the objects, as MXNet's `ImageDetIter` makes them. */

import type { nn } from "../mod.ts";

/** What a crop must fulfil. */
export interface CropOptions {
  /** Least share of an object's area in the crop, for every object that it touches. */
  readonly minObjectCovered: number;
  /** Least share of the picture's area. */
  readonly minArea: number;
  /** Draws before the picture is left whole. */
  readonly attempts: number;
}

/** A part of a picture and the objects in it. */
export interface Crop {
  /** [top, left, height, width] in pixels. */
  readonly box: readonly [number, number, number, number];
  /** Rows [class, xmin, ymin, xmax, ymax], in fractions of the part. */
  readonly objects: readonly (readonly number[])[];
}

const RATIOS = [0.75, 1.33] as const;
/** The crop may be as large as this times the picture; what does not fit is cut to the picture. */
const MAX_AREA = 3;
/** Objects of which less than this share is in the crop are left out. */
const MIN_KEPT = 0.3;

/** The whole picture. */
export function wholeCrop(
  size: { width: number; height: number },
  objects: Crop["objects"],
): Crop {
  return { box: [0, 0, size.height, size.width], objects };
}

/**
 * A part of a picture with at least one object, of a random aspect ratio, height and place; every object
 * that it touches is covered by more than `minObjectCovered`. The whole picture where no draw fulfils it.
 *
 * Source: MXNet's DetRandomCropAug, with the ranges of CreateDetAugmenter.
 */
export function randomCrop(
  picture: { width: number; height: number; objects: Crop["objects"] },
  options: CropOptions & { random: nn.data.HostRandom },
): Crop {
  const { width, height, objects } = picture;
  const { random, attempts } = options;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const size = drawSize(picture, options);
    if (!size) continue;
    const [h, w] = size;
    const top = random.integer(0, height - h + 1), left = random.integer(0, width - w + 1);
    const part = [left / width, top / height, (left + w) / width, (top + h) / height];
    const shares = objects.filter((o) => area(o) * width * height > 2)
      .map((o) => area([0, ...meet(o, part)]) / area(o)).filter((share) => share > 0);
    if (shares.length === 0 || Math.min(...shares) <= options.minObjectCovered) continue;
    const kept = objects.filter((o) => area([0, ...meet(o, part)]) / area(o) > MIN_KEPT)
      .map((o) => within(o, part));
    if (kept.length > 0) return { box: [top, left, h, w], objects: kept };
  }
  return wholeCrop(picture, objects);
}

/** Height and width of a part, or nothing where rounding leaves the allowed areas. */
function drawSize(
  { width, height }: { width: number; height: number },
  { minArea, random }: CropOptions & { random: nn.data.HostRandom },
): [number, number] | undefined {
  const least = minArea * width * height;
  const ratio = random.uniform(...RATIOS);
  let highest = Math.round(Math.sqrt(MAX_AREA * width * height / ratio));
  if (Math.round(highest * ratio) > width) highest = Math.floor((width + 0.4999999) / ratio);
  highest = Math.min(highest, height);
  let h = Math.min(Math.round(Math.sqrt(least / ratio)), highest);
  if (h < highest) h = random.integer(h, highest + 1);
  if (h * Math.round(h * ratio) < least) h++;
  const w = Math.round(h * ratio);
  return h * w >= least && h <= height && w <= width && h * w >= 2 ? [h, w] : undefined;
}

/** Area of the box of a row [class, box]. */
function area(row: readonly number[]): number {
  return Math.max(0, row[3]! - row[1]!) * Math.max(0, row[4]! - row[2]!);
}

/** The part of an object's box inside `part`, as a box. */
function meet(row: readonly number[], part: readonly number[]): number[] {
  return [0, 1, 2, 3].map((k) => (k < 2 ? Math.max : Math.min)(row[k + 1]!, part[k]!));
}

/** The object with its box in fractions of the part, cut to it. */
function within(row: readonly number[], part: readonly number[]): number[] {
  const sides = [part[2]! - part[0]!, part[3]! - part[1]!];
  const fraction = (k: number) => (row[k + 1]! - part[k % 2]!) / sides[k % 2]!;
  return [row[0]!, ...[0, 1, 2, 3].map((k) => Math.min(1, Math.max(0, fraction(k))))];
}
