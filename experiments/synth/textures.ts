/**
 * @file The built-in data of the moco experiment: textures and shapes in ten classes, in the files and
 * the layout of CIFAR-10's binary version.
 */

import { HostRandom } from "../../nn/data/rng.ts";
import { drawFolder } from "./_folder.ts";

/** The classes, by label. */
export const TEXTURE_CLASSES: readonly string[] = [
  "stripes",
  "checks",
  "dots",
  "rings",
  "zigzag",
  "blobs",
  "grain",
  "disc",
  "triangle",
  "cross",
];

/** Size of the data set that {@linkcode writeTextures} writes. */
export interface WriteTexturesOptions {
  /** Number of training images. */
  readonly train: number;
  /** Number of test images. */
  readonly test: number;
  /** Integer >= 0; another seed draws other images. */
  readonly seed: number;
}

const SIDE = 32;
const PIXELS = SIDE * SIDE;
/** Images in a training file, as in CIFAR-10. */
const FILE_IMAGES = 10_000;
/** To be raised with every change of what is drawn, so that old folders are drawn again. */
const GENERATOR = 2;

/** Names of the training files for `count` images. */
function trainFiles(count: number): string[] {
  const files = Math.ceil(count / FILE_IMAGES);
  return Array.from({ length: files }, (_, i) => `data_batch_${i + 1}.bin`);
}

/**
 * Writes `data_batch_1.bin` …, `test_batch.bin` and `batches.meta.txt` as CIFAR-10's binary version has
 * them. A folder that already holds them for the same options is left as it is.
 *
 * @returns Whether anything was drawn.
 * @throws {RangeError} A count is not an integer >= 1.
 * @throws {RunError} `dir` holds something else.
 */
export async function writeTextures(dir: string, options: WriteTexturesOptions): Promise<boolean> {
  const { train, test, seed } = options;
  for (const [name, count] of Object.entries({ train, test })) {
    if (Number.isSafeInteger(count) && count >= 1) continue;
    throw new RangeError(`Cannot draw ${count} ${name} textures: it must be an integer >= 1`);
  }
  const files = trainFiles(train);
  return await drawFolder(dir, {
    name: "textures",
    manifest: { generator: GENERATOR, train, test, seed },
    files: [...files, "test_batch.bin", "batches.meta.txt"],
    async draw(into) {
      for (const [i, file] of files.entries()) {
        const first = i * FILE_IMAGES;
        const count = Math.min(FILE_IMAGES, train - first);
        await Deno.writeFile(`${into}/${file}`, records({ first, count, seed, split: 0 }));
      }
      const bytes = records({ first: 0, count: test, seed, split: 1 });
      await Deno.writeFile(`${into}/test_batch.bin`, bytes);
      await Deno.writeTextFile(`${into}/batches.meta.txt`, TEXTURE_CLASSES.join("\n") + "\n");
    },
  });
}

interface Part {
  readonly first: number;
  readonly count: number;
  readonly seed: number;
  readonly split: 0 | 1;
}

/** Records of a label byte and 3,072 bytes of image. Every run of ten holds each class once. */
function records({ first, count, seed, split }: Part): Uint8Array<ArrayBuffer> {
  const size = 1 + 3 * PIXELS;
  const bytes = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) {
    const { label, image } = textureSample(first + i, { seed, split });
    bytes[i * size] = label;
    bytes.set(image, i * size + 1);
  }
  return bytes;
}

/**
 * The image at `index` of an endless, class-balanced sequence: [3, 32, 32] bytes. A pure function of
 * its arguments.
 */
export function textureSample(
  index: number,
  { seed, split }: { seed: number; split: 0 | 1 },
): { label: number; image: Uint8Array<ArrayBuffer> } {
  const classes = TEXTURE_CLASSES.length;
  const order = Array.from({ length: classes }, (_, i) => i);
  new HostRandom(seed, 4 * Math.floor(index / classes) + 2 * split).shuffle(order);
  const label = order[index % classes]!;
  return { label, image: draw(label, new HostRandom(seed, 4 * index + 2 * split + 1)) };
}

/** Coverage in 0..1 of the pattern at a place, in pixels from the middle. */
type Pattern = (x: number, y: number) => number;

/** One image: a pattern of its class, turned, scaled and shifted, in two greys under noise. */
function draw(label: number, random: HostRandom): Uint8Array<ArrayBuffer> {
  const pattern = PATTERNS[label]!(random);
  const angle = random.uniform(0, 2 * Math.PI);
  const scale = random.uniform(0.75, 1.35);
  const [c, s] = [Math.cos(angle) / scale, Math.sin(angle) / scale];
  const [dx, dy] = [random.uniform(-5, 5), random.uniform(-5, 5)];
  const dark = random.uniform(30, 90);
  const light = random.uniform(150, 225);
  const [ink, paper] = random.uniform() < 0.5 ? [dark, light] : [light, dark];
  const slope = [random.uniform(-1, 1), random.uniform(-1, 1)] as const;
  const noise = random.uniform(4, 20);
  const image = new Uint8Array(3 * PIXELS);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const [x, y] = [column - SIDE / 2 + 0.5, row - SIDE / 2 + 0.5];
      const cover = pattern(c * (x - dx) - s * (y - dy), s * (x - dx) + c * (y - dy));
      const grey = paper + (ink - paper) * cover + slope[0] * x + slope[1] * y;
      for (let k = 0; k < 3; k++) {
        const value = grey + random.normal(0, noise);
        image[k * PIXELS + row * SIDE + column] = Math.min(255, Math.max(0, Math.round(value)));
      }
    }
  }
  return image;
}

/** 1 inside, 0 outside, with an edge one pixel wide: `distance` is positive inside. */
function edge(distance: number): number {
  return Math.min(1, Math.max(0, distance + 0.5));
}

/** Distance to the middle of the nearest of lines `period` apart. */
function fold(x: number, period: number): number {
  return Math.abs(x - period * Math.round(x / period));
}

/** How each class is made; the random numbers are those of one image. */
const PATTERNS: readonly ((random: HostRandom) => Pattern)[] = [
  (random) => {
    const period = random.uniform(5, 8);
    return (x) => edge(period / 4 - fold(x, period));
  },
  (random) => {
    const period = random.uniform(8, 12);
    return (x, y) => {
      const a = edge(period / 4 - fold(x, period)), b = edge(period / 4 - fold(y, period));
      return a + b - 2 * a * b;
    };
  },
  (random) => {
    const period = random.uniform(7, 10);
    return (x, y) => edge(period * 0.3 - Math.hypot(fold(x, period), fold(y, period)));
  },
  (random) => {
    const period = random.uniform(5, 8);
    return (x, y) => edge(period / 4 - fold(Math.hypot(x, y), period));
  },
  (random) => {
    const period = random.uniform(6, 9), wave = random.uniform(8, 12);
    return (x, y) => edge(period / 4 - fold(x + fold(y, wave), period));
  },
  (random) => smoothNoise(random, 7),
  (random) => smoothNoise(random, 2.5),
  (random) => {
    const radius = random.uniform(7, 11);
    return (x, y) => edge(radius - Math.hypot(x, y));
  },
  (random) => {
    const inner = random.uniform(4.5, 6.5);
    const sides = [0, 1, 2].map((i) => (2 * Math.PI * i) / 3);
    return (x, y) => edge(Math.min(...sides.map((a) => inner - x * Math.cos(a) - y * Math.sin(a))));
  },
  (random) => {
    const [arm, half] = [random.uniform(9, 12), random.uniform(1.8, 3)];
    return (x, y) => {
      const bar = (u: number, v: number) => Math.min(arm - Math.abs(u), half - Math.abs(v));
      return edge(Math.max(bar(x, y), bar(y, x)));
    };
  },
];

/** Random values on a grid `cell` pixels wide, bilinear between, cut at their middle. */
function smoothNoise(random: HostRandom, cell: number): Pattern {
  const size = 2 * Math.ceil(32 / cell) + 3;
  const values = Float64Array.from({ length: size * size }, () => random.uniform());
  return (x, y) => {
    const [u, v] = [x / cell + size / 2, y / cell + size / 2];
    const [i, j] = [Math.floor(u), Math.floor(v)];
    const at = (a: number, b: number) =>
      values[Math.min(size - 1, Math.max(0, b)) * size + Math.min(size - 1, Math.max(0, a))]!;
    const [fx, fy] = [u - i, v - j];
    const top = at(i, j) * (1 - fx) + at(i + 1, j) * fx;
    const bottom = at(i, j + 1) * (1 - fx) + at(i + 1, j + 1) * fx;
    return edge((top * (1 - fy) + bottom * fy - 0.5) * 2 * cell);
  };
}
