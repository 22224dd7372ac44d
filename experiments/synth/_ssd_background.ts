/** @file Backgrounds of the drawn scenes: textures, and shapes that are no creatures. */

import type { HostRandom } from "../../nn/data/rng.ts";

/** A square picture that is drawn on. */
export interface Canvas {
  /** Pixels a side. */
  readonly size: number;
  /** RGB, rows from the top. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Red, green, blue from 0 to 255. */
export type Rgb = readonly [number, number, number];

/** A colour from hue (0 to 1 around the circle), saturation and value (0 to 1). */
export function hsv(hue: number, saturation: number, value: number): Rgb {
  const channel = (shift: number) => {
    const k = (shift + 6 * hue) % 6;
    return 255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Mixes a colour into a pixel; `cover` 1 replaces it. */
export function blend(canvas: Canvas, at: number, paint: { colour: Rgb; cover: number }): void {
  const { colour, cover } = paint;
  for (let c = 0; c < 3; c++) {
    const old = canvas.data[3 * at + c]!;
    canvas.data[3 * at + c] = Math.round(old + (colour[c]! - old) * cover);
  }
}

/** Fills the canvas: two colours mixed by smooth noise of several scales, with bands through it. */
export function drawBackground(canvas: Canvas, random: HostRandom): void {
  const { size, data } = canvas;
  const colour = () => hsv(random.uniform(), random.uniform(0.05, 0.6), random.uniform(0.15, 0.95));
  const [a, b] = [colour(), colour()];
  const layers = [2, 5, 11, 23].map((cells) => ({
    grid: Float64Array.from({ length: (cells + 1) ** 2 }, () => random.uniform(-1, 1)),
    cells,
    weight: random.uniform(0.2, 1) / Math.sqrt(cells),
  }));
  const angle = random.uniform(0, Math.PI);
  const bands = random.uniform() < 0.5 ? random.uniform(0.1, 0.5) : 0;
  const [fx, fy] = [Math.cos(angle), Math.sin(angle)].map((v) => v * random.uniform(10, 60));
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const u = x / size, v = y / size;
      let level = 0.5 + bands * 0.5 * Math.sin(fx! * u + fy! * v);
      for (const layer of layers) level += layer.weight * smoothAt(layer, u, v);
      const mix = Math.min(1, Math.max(0, level));
      for (let c = 0; c < 3; c++) {
        data[3 * (y * size + x) + c] = Math.round(a[c]! + (b[c]! - a[c]!) * mix);
      }
    }
  }
}

/** Bilinear value of a grid of numbers at (u, v) in [0, 1). */
function smoothAt(
  { grid, cells }: { grid: Float64Array; cells: number },
  u: number,
  v: number,
): number {
  const x = u * cells, y = v * cells, ix = Math.floor(x), iy = Math.floor(y);
  const ease = (t: number) => t * t * (3 - 2 * t);
  const fx = ease(x - ix), fy = ease(y - iy), at = iy * (cells + 1) + ix;
  const upper = grid[at]! + (grid[at + 1]! - grid[at]!) * fx;
  const lower = grid[at + cells + 1]! + (grid[at + cells + 2]! - grid[at + cells + 1]!) * fx;
  return upper + (lower - upper) * fy;
}

/** Draws an ellipse or a rectangle of any colour, turned, half of them with a lighter core. */
export function drawDistractor(canvas: Canvas, random: HostRandom): void {
  const { size } = canvas;
  const x = random.uniform(0, size), y = random.uniform(0, size);
  const rx = size * random.uniform(0.03, 0.2), ry = size * random.uniform(0.03, 0.2);
  const turn = random.uniform(0, Math.PI), cos = Math.cos(turn), sin = Math.sin(turn);
  const round = random.uniform() < 0.5, core = random.uniform() < 0.5;
  const hue = random.uniform(), value = random.uniform(0.2, 1), full = random.uniform(0.2, 1);
  const [outer, inner] = [hsv(hue, full, value), hsv(hue, full * 0.5, value)];
  const reach = Math.hypot(rx, ry);
  const range = (c: number) => [Math.max(0, Math.floor(c - reach)), Math.min(size, c + reach + 1)];
  const [top, bottom] = range(y) as [number, number];
  const [left, right] = range(x) as [number, number];
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const dx = column + 0.5 - x, dy = row + 0.5 - y;
      const u = (cos * dx + sin * dy) / rx, v = (cos * dy - sin * dx) / ry;
      const far = round ? Math.hypot(u, v) : Math.max(Math.abs(u), Math.abs(v));
      if (far > 1) continue;
      blend(canvas, row * size + column, { colour: core && far < 0.5 ? inner : outer, cover: 1 });
    }
  }
}

/** Grain of a random strength over the whole canvas, and a random gain. */
export function fadeNoise(canvas: Canvas, random: HostRandom): void {
  const grain = random.uniform(0, 12), gain = random.uniform(0.75, 1.1);
  const { data } = canvas;
  for (let i = 0; i < data.length; i += 4) {
    const word = random.uint32();
    for (let k = 0; k < 4 && i + k < data.length; k++) {
      const noise = ((word >>> (8 * k)) & 0xff) / 127.5 - 1;
      data[i + k] = Math.min(255, Math.max(0, Math.round(gain * data[i + k]! + grain * noise)));
    }
  }
}
