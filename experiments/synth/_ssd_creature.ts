/** @file The creatures of the drawn scenes: a round body, pointed ears, eyes, cheeks, feet. */

import type { HostRandom } from "../../nn/data/rng.ts";
import { blend, type Canvas, hsv, type Rgb } from "./_ssd_background.ts";

/** Where a creature stands, in pixels. */
export interface CreaturePlace {
  /** Left edge. */
  readonly x: number;
  /** Upper edge. */
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Width and height of a creature `height` pixels high. */
export function creatureSize(
  height: number,
  random: HostRandom,
): { width: number; height: number } {
  return { width: height * random.uniform(0.55, 0.95), height };
}

/** A part in the unit box of a creature: an ellipse, or a triangle, and its colour. */
type Part =
  & { readonly colour: Rgb }
  & (
    | { readonly ellipse: readonly [x: number, y: number, rx: number, ry: number] }
    | { readonly triangle: readonly [number, number, number, number, number, number] }
  );

/** Looks of one creature: warm fur of a random shade, and small differences of its parts. */
function looks(random: HostRandom): Part[] {
  const hue = random.uniform(0.09, 0.17), value = random.uniform(0.8, 1);
  const fur = hsv(hue, random.uniform(0.7, 0.95), value);
  const belly = hsv(hue, 0.35, Math.min(1, value * 1.1));
  const dark: Rgb = [30, 25, 25], white: Rgb = [250, 250, 250], cheek = hsv(0.99, 0.8, 0.9);
  const ear = random.uniform(0.26, 0.4), lean = random.uniform(-0.06, 0.06);
  const eye = random.uniform(0.045, 0.065);
  return [
    { colour: fur, triangle: [0.2, 0.34, 0.42, 0.26, 0.12 + lean, 0.34 - ear] },
    { colour: fur, triangle: [0.8, 0.34, 0.58, 0.26, 0.88 + lean, 0.34 - ear] },
    { colour: dark, triangle: pointOf(0.16, 0.3, 0.12 + lean, 0.34 - ear) },
    { colour: dark, triangle: pointOf(0.84, 0.3, 0.88 + lean, 0.34 - ear) },
    { colour: fur, ellipse: [0.3, 0.93, 0.17, 0.07] },
    { colour: fur, ellipse: [0.7, 0.93, 0.17, 0.07] },
    { colour: fur, ellipse: [0.5, 0.72, 0.4, 0.25] },
    { colour: belly, ellipse: [0.5, 0.77, 0.22, 0.16] },
    { colour: fur, ellipse: [0.5, 0.4, 0.42, 0.26] },
    { colour: cheek, ellipse: [0.2, 0.47, 0.085, 0.06] },
    { colour: cheek, ellipse: [0.8, 0.47, 0.085, 0.06] },
    { colour: dark, ellipse: [0.34, 0.36, eye * 1.3, eye] },
    { colour: dark, ellipse: [0.66, 0.36, eye * 1.3, eye] },
    { colour: white, ellipse: [0.36, 0.345, eye * 0.4, eye * 0.35] },
    { colour: white, ellipse: [0.68, 0.345, eye * 0.4, eye * 0.35] },
    { colour: dark, ellipse: [0.5, 0.5, 0.07, 0.02] },
  ];
}

/** The dark tip of an ear whose point is (x, y) and whose root is near (rootX, rootY). */
function pointOf(
  rootX: number,
  rootY: number,
  x: number,
  y: number,
): [number, number, number, number, number, number] {
  const at = (share: number) => [x + (rootX - x) * share, y + (rootY - y) * share] as const;
  const [a, b] = at(0.45);
  return [a - 0.05, b, a + 0.05, b, x, y];
}

/** Samples a side of a pixel. */
const SAMPLES = 2;
const SHADE = 0.25;

/**
 * Draws a creature, anti-aliased and shaded to one side.
 *
 * @returns The box of the pixels it covers by half or more: [left, top, right, bottom].
 */
export function drawCreature(
  canvas: Canvas,
  place: CreaturePlace,
  random: HostRandom,
): [number, number, number, number] {
  const { size } = canvas;
  const parts = looks(random);
  const light = random.uniform(-SHADE, SHADE);
  const mirrored = random.uniform() < 0.5;
  const low = (v: number) => Math.max(0, Math.floor(v)), high = (v: number) => Math.min(size, v);
  let [left, top, right, bottom] = [size, size, 0, 0];
  for (let row = low(place.y); row < high(place.y + place.height); row++) {
    for (let column = low(place.x); column < high(place.x + place.width); column++) {
      let hits = 0;
      const sum = [0, 0, 0];
      for (let k = 0; k < SAMPLES * SAMPLES; k++) {
        const px = column + (k % SAMPLES + 0.5) / SAMPLES;
        const py = row + (Math.floor(k / SAMPLES) + 0.5) / SAMPLES;
        const across = (px - place.x) / place.width, v = (py - place.y) / place.height;
        const u = mirrored ? 1 - across : across;
        const part = parts.findLast((p) => inside(p, u, v));
        if (!part) continue;
        hits++;
        const shade = 1 + light * (2 * u - 1);
        for (let c = 0; c < 3; c++) sum[c]! += Math.min(255, part.colour[c]! * shade);
      }
      if (hits === 0) continue;
      const colour = sum.map((v) => v / hits) as unknown as Rgb;
      blend(canvas, row * size + column, { colour, cover: hits / SAMPLES ** 2 });
      if (2 * hits < SAMPLES ** 2) continue;
      [left, top] = [Math.min(left, column), Math.min(top, row)];
      [right, bottom] = [Math.max(right, column + 1), Math.max(bottom, row + 1)];
    }
  }
  return [left, top, right, bottom];
}

function inside(part: Part, u: number, v: number): boolean {
  if ("ellipse" in part) {
    const [x, y, rx, ry] = part.ellipse;
    return ((u - x) / rx) ** 2 + ((v - y) / ry) ** 2 <= 1;
  }
  const [ax, ay, bx, by, cx, cy] = part.triangle;
  const side = (x0: number, y0: number, x1: number, y1: number) =>
    (x1 - x0) * (v - y0) - (y1 - y0) * (u - x0);
  const [p, q, r] = [side(ax, ay, bx, by), side(bx, by, cx, cy), side(cx, cy, ax, ay)];
  return (p >= 0 && q >= 0 && r >= 0) || (p <= 0 && q <= 0 && r <= 0);
}
