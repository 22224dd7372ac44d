/**
 * @file The built-in data of the letters experiment: capital letters drawn with a stroke font, in the
 * files and the layout of EMNIST letters.
 */

import { writeIdx } from "../../nn/data/idx.ts";
import { HostRandom } from "../../nn/data/rng.ts";
import { drawFolder } from "./_folder.ts";
import { GLYPHS } from "./letter_font.ts";

/** Parts of the data set. */
export type LettersSplit = "train" | "test";

/** A drawn letter. */
export interface LetterSample {
  /** Grey values, 28 rows of 28; 0 is paper, 255 is ink. */
  image: Uint8Array<ArrayBuffer>;
  /** 0 (A) to 25 (Z). */
  label: number;
}

/** Size of the data set that {@linkcode writeLetters} writes. */
export interface WriteLettersOptions {
  /** Number of training letters. */
  train: number;
  /** Number of test letters. */
  test: number;
  /** Integer >= 0; another seed draws other letters. */
  seed: number;
}

const SIDE = 28;
const CLASSES = GLYPHS.length;
/** To be raised with every change of what is drawn, so that old folders are drawn again. */
const GENERATOR = 1;

/**
 * The letter at `index` of an endless, class-balanced sequence: each run of 26 holds every letter once,
 * in random order. A pure function of its arguments.
 *
 * @param index Integer >= 0.
 */
export function letterSample(
  index: number,
  options: { seed: number; split: LettersSplit },
): LetterSample {
  const split = options.split === "train" ? 0 : 1;
  const block = Math.floor(index / CLASSES);
  // Four streams an index: train and test, order of a block and drawing of a letter.
  const order = Array.from({ length: CLASSES }, (_, i) => i);
  new HostRandom(options.seed, 4 * block + 2 * split).shuffle(order);
  const label = order[index % CLASSES]!;
  const random = new HostRandom(options.seed, 4 * index + 2 * split + 1);
  return { image: drawLetter(label, random), label };
}

/**
 * Draws one letter: a way to write it, then slant, width, size, place, weight, wobble and noise from
 * `random`.
 *
 * @param label 0 (A) to 25 (Z).
 * @returns 28 rows of 28 grey values; 0 is paper, 255 is ink.
 * @throws {RangeError} `label` is not 0..25.
 */
export function drawLetter(label: number, random: HostRandom): Uint8Array<ArrayBuffer> {
  const ways = GLYPHS[label];
  if (ways === undefined) throw new RangeError(`Cannot draw letter ${label}: it must be 0..25`);
  const way = random.uniform() < 0.7 ? 0 : random.integer(0, ways.length);
  const strokes = ways[way]!.map((stroke) => wobble(stroke, random));
  const radius = random.uniform(0.75, 1.7);
  return paint(place(strokes, radius, random), radius, random);
}

/**
 * Writes `letters-{train,test}-images-idx3-ubyte.gz` and `…-labels-idx1-ubyte.gz` as EMNIST does:
 * images transposed, labels 1 to 26. A folder that already holds them for the same options is left as
 * it is. The folder appears in one step, so a killed process leaves none half written.
 *
 * @param dir The folder. An older data set of this function in it is replaced.
 * @returns Whether anything was drawn.
 * @throws {RangeError} A count is not an integer >= 1.
 * @throws {RunError} `dir` holds something else.
 */
export async function writeLetters(dir: string, options: WriteLettersOptions): Promise<boolean> {
  const { train, test, seed } = options;
  for (const [name, count] of Object.entries({ train, test })) {
    if (Number.isSafeInteger(count) && count >= 1) continue;
    throw new RangeError(`Cannot draw ${count} ${name} letters: it must be an integer >= 1`);
  }
  const splits = ["train", "test"] as const;
  return await drawFolder(dir, {
    name: "letters",
    manifest: { generator: GENERATOR, train, test, seed },
    files: splits.flatMap((split) => Object.values(fileNames(split))),
    async draw(into) {
      for (const split of splits) await writeSplit(into, split, options);
    },
  });
}

/** Longest piece of a stroke, in units of the box. */
const MAX_PIECE = 0.12;

/** Cuts a stroke into short pieces, shifts it a little and bends it along a slow wave. */
function wobble(stroke: readonly number[], random: HostRandom): number[] {
  const shiftX = random.normal(0, 0.024), shiftY = random.normal(0, 0.024);
  const bendX = random.normal(0, 0.04), bendY = random.normal(0, 0.04);
  const waves = random.uniform(1.5, 5), phase = random.uniform(0, 2 * Math.PI);
  const points: number[] = [];
  let length = 0;
  const push = (x: number, y: number) => {
    const angle = waves * length + phase;
    points.push(x + shiftX + bendX * Math.sin(angle), y + shiftY + bendY * Math.cos(angle));
  };
  push(stroke[0]!, stroke[1]!);
  for (let i = 2; i < stroke.length; i += 2) {
    const x0 = stroke[i - 2]!, y0 = stroke[i - 1]!;
    const dx = stroke[i]! - x0, dy = stroke[i + 1]! - y0;
    const piece = Math.hypot(dx, dy);
    const pieces = Math.ceil(piece / MAX_PIECE);
    for (let k = 1; k <= pieces; k++) {
      length += piece / pieces;
      push(x0 + (dx * k) / pieces, y0 + (dy * k) / pieces);
    }
  }
  return points;
}

/** Maps strokes from the unit box to pixels: size, width, slant, turn and place. All of it stays visible. */
function place(strokes: readonly number[][], radius: number, random: HostRandom): number[][] {
  const height = random.uniform(13, 22), width = height * random.uniform(0.5, 1.05);
  const slant = random.uniform(-0.25, 0.45), turn = random.normal(0, 0.09);
  const taper = random.normal(0, 0.15); // how much wider the foot is than the head
  const cos = Math.cos(turn), sin = Math.sin(turn);
  const placed = strokes.map((stroke) =>
    mapPoints(stroke, (x, y) => {
      const v = (y - 0.5) * height, u = (x - 0.5) * (1 + taper * (y - 0.5)) * width - slant * v;
      return [cos * u - sin * v, sin * u + cos * v];
    })
  );
  const xs = spread(placed, 0), ys = spread(placed, 1);
  const room = SIDE - 2 * (radius + 1); // a dark pixel stays on each side
  const scale = Math.min(1, room / xs.size, room / ys.size);
  const x = offset(xs, { scale, room, random }), y = offset(ys, { scale, room, random });
  return placed.map((stroke) => mapPoints(stroke, (u, v) => [scale * u + x, scale * v + y]));
}

function mapPoints(
  stroke: readonly number[],
  map: (x: number, y: number) => [number, number],
): number[] {
  const mapped: number[] = [];
  for (let i = 0; i < stroke.length; i += 2) mapped.push(...map(stroke[i]!, stroke[i + 1]!));
  return mapped;
}

interface Spread {
  middle: number;
  size: number;
}

/** Extent of all points along x (`axis` 0) or y (1). */
function spread(strokes: readonly number[][], axis: 0 | 1): Spread {
  let low = Infinity, high = -Infinity;
  for (const stroke of strokes) {
    for (let i = axis; i < stroke.length; i += 2) {
      low = Math.min(low, stroke[i]!);
      high = Math.max(high, stroke[i]!);
    }
  }
  return { middle: (low + high) / 2, size: high - low };
}

/** Shift that puts an extent near the middle of the image, at most 2 pixels off. */
function offset(
  { middle, size }: Spread,
  { scale, room, random }: { scale: number; room: number; random: HostRandom },
): number {
  const slack = Math.min(2, (room - scale * size) / 2);
  return SIDE / 2 - scale * middle + random.uniform(-slack, slack);
}

/** Draws strokes of half width `radius` (pixels): ink by distance, then noise. */
function paint(
  strokes: readonly number[][],
  radius: number,
  random: HostRandom,
): Uint8Array<ArrayBuffer> {
  const blur = random.uniform(0.9, 1.9); // pixels from full ink to none
  const ink = random.uniform(190, 255);
  const noise = random.uniform(2, 22); // standard deviation in grey values
  const squared = squaredDistances(strokes, radius + blur);
  const image = new Uint8Array(SIDE * SIDE);
  for (let i = 0; i < image.length; i++) {
    const cover = (radius - Math.sqrt(squared[i]!)) / blur + 0.5;
    const grey = ink * Math.min(1, Math.max(0, cover)) + noise * roughNormal(random.uint32());
    image[i] = Math.min(255, Math.max(0, Math.round(grey)));
  }
  return image;
}

/** Squared distance of each pixel's centre to the nearest stroke; infinite beyond `reach`. */
function squaredDistances(strokes: readonly number[][], reach: number): Float64Array {
  const squared = new Float64Array(SIDE * SIDE).fill(Infinity);
  for (const stroke of strokes) {
    for (let i = 2; i < stroke.length; i += 2) {
      const ax = stroke[i - 2]!, ay = stroke[i - 1]!;
      const dx = stroke[i]! - ax, dy = stroke[i + 1]! - ay;
      const lengthSquared = dx * dx + dy * dy || 1; // a point has no direction to follow
      const [top, bottom] = pixels(ay, ay + dy, reach);
      const [left, right] = pixels(ax, ax + dx, reach);
      for (let row = top; row <= bottom; row++) {
        for (let column = left; column <= right; column++) {
          const px = column + 0.5 - ax, py = row + 0.5 - ay;
          const along = Math.min(1, Math.max(0, (px * dx + py * dy) / lengthSquared));
          const x = px - along * dx, y = py - along * dy;
          const at = row * SIDE + column;
          squared[at] = Math.min(squared[at]!, x * x + y * y);
        }
      }
    }
  }
  return squared;
}

/** First and last pixel within `reach` of the interval from a to b. */
function pixels(a: number, b: number, reach: number): [number, number] {
  const first = Math.floor(Math.min(a, b) - reach), last = Math.floor(Math.max(a, b) + reach);
  return [Math.max(0, first), Math.min(SIDE - 1, last)];
}

/** Nearly normal, mean 0 and deviation 1: the sum of the four bytes of a random word. */
function roughNormal(word: number): number {
  const sum = (word & 0xff) + ((word >>> 8) & 0xff) + ((word >>> 16) & 0xff) + (word >>> 24);
  return (sum - 510) / Math.sqrt((256 ** 2 - 1) / 3);
}

function fileNames(split: LettersSplit): { images: string; labels: string } {
  const prefix = `letters-${split}`;
  return {
    images: `${prefix}-images-idx3-ubyte.gz`,
    labels: `${prefix}-labels-idx1-ubyte.gz`,
  };
}

async function writeSplit(
  dir: string,
  split: LettersSplit,
  options: WriteLettersOptions,
): Promise<void> {
  const count = options[split];
  const pixels = new Uint8Array(count * SIDE * SIDE);
  const labels = new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    const { image, label } = letterSample(index, { seed: options.seed, split });
    labels[index] = label + 1;
    const start = index * SIDE * SIDE;
    // EMNIST stores the columns of an image as its rows.
    for (let i = 0; i < image.length; i++) {
      pixels[start + (i % SIDE) * SIDE + Math.floor(i / SIDE)] = image[i]!;
    }
  }
  const names = fileNames(split);
  const images = await writeIdx({ shape: [count, SIDE, SIDE], data: pixels }, { gzip: true });
  await Deno.writeFile(`${dir}/${names.images}`, images);
  const classes = await writeIdx({ shape: [count], data: labels }, { gzip: true });
  await Deno.writeFile(`${dir}/${names.labels}`, classes);
}
