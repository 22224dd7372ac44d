/**
 * @file The built-in data of the detection experiment: creatures pasted at random places and scales on
 * textured backgrounds, in MXNet's `.rec` and `.idx` files with the boxes in the label.
 */

import { writePng } from "../../nn/data/png_write.ts";
import { packImageRecord, writeRecordIo } from "../../nn/data/recordio.ts";
import { HostRandom } from "../../nn/data/rng.ts";
import { drawFolder } from "./_folder.ts";
import { type Canvas, drawBackground, drawDistractor, fadeNoise } from "./_ssd_background.ts";
import { creatureSize, drawCreature } from "./_ssd_creature.ts";

/** Parts of the data set. */
export type SceneSplit = "train" | "val";

/** A drawn scene. */
export interface Scene {
  /** RGB bytes, `size` rows of `size`. */
  readonly image: Uint8Array<ArrayBuffer>;
  /** Rows [0, xmin, ymin, xmax, ymax], in fractions of the image; the boxes fit the drawn pixels. */
  readonly objects: readonly (readonly number[])[];
}

/** Size of the data set that {@linkcode writeScenes} writes. */
export interface WriteScenesOptions {
  /** Number of training scenes. */
  readonly train: number;
  /** Number of validation scenes. */
  readonly val: number;
  /** Side of the pictures in pixels. */
  readonly size: number;
  /** Integer >= 0; another seed draws other scenes. */
  readonly seed: number;
}

/** To be raised with every change of what is drawn, so that old folders are drawn again. */
const GENERATOR = 1;
const MOST_CREATURES = 3;
const MOST_DISTRACTORS = 5;
/** Largest share of the smaller box that another creature may cover. */
const MAX_OVERLAP = 0.15;

/**
 * The scene at `index` of an endless sequence: one to three creatures among shapes that are none. A pure
 * function of its arguments.
 *
 * @param index Integer >= 0.
 */
export function drawScene(
  index: number,
  options: { seed: number; split: SceneSplit; size: number },
): Scene {
  const { seed, split, size } = options;
  const random = new HostRandom(seed, 2 * index + (split === "train" ? 0 : 1));
  const canvas: Canvas = { size, data: new Uint8Array(3 * size * size) };
  drawBackground(canvas, random);
  const distractors = random.integer(0, MOST_DISTRACTORS + 1);
  for (let i = 0; i < distractors; i++) drawDistractor(canvas, random);
  const objects: number[][] = [];
  const wanted = random.integer(1, MOST_CREATURES + 1);
  for (let tries = 0; objects.length < wanted && tries < 20; tries++) {
    const height = size * random.uniform(0.18, 0.5);
    const place = creatureSize(height, random);
    const x = random.uniform(0, size - place.width), y = random.uniform(0, size - height);
    const box = [x / size, y / size, (x + place.width) / size, (y + height) / size];
    if (objects.some((other) => covered(other.slice(1), box) > MAX_OVERLAP)) continue;
    const drawn = drawCreature(canvas, { ...place, x, y }, random);
    objects.push([0, ...drawn.map((v) => v / size)]);
  }
  fadeNoise(canvas, random);
  return { image: canvas.data, objects };
}

/** Share of the smaller of two boxes that the other covers. */
function covered(a: readonly number[], b: readonly number[]): number {
  const side = (low: number) =>
    Math.max(0, Math.min(a[low + 2]!, b[low + 2]!) - Math.max(a[low]!, b[low]!));
  const area = (box: readonly number[]) => (box[2]! - box[0]!) * (box[3]! - box[1]!);
  return side(0) * side(1) / Math.min(area(a), area(b));
}

/**
 * Writes `creatures_train.rec` and `creatures_val.rec` with their `.idx`, as MXNet's im2rec does: the label
 * is [4, 5, width, height, then class and box of each object], the picture a PNG. A folder that already
 * holds them for the same options is left as it is; it appears in one step.
 *
 * @param dir The folder. An older data set of this function in it is replaced.
 * @returns Whether anything was drawn.
 * @throws {RangeError} A count or the size is not an integer >= 1.
 * @throws {RunError} `dir` holds something else.
 */
export async function writeScenes(dir: string, options: WriteScenesOptions): Promise<boolean> {
  const { train, val, size, seed } = options;
  for (const [name, count] of Object.entries({ train, val, size })) {
    if (Number.isSafeInteger(count) && count >= 1) continue;
    throw new RangeError(`Cannot draw scenes with ${name} ${count}: it must be an integer >= 1`);
  }
  const files = ["train", "val"].flatMap((split) =>
    ["rec", "idx"].map((end) => `creatures_${split}.${end}`)
  );
  return await drawFolder(dir, {
    name: "creatures",
    manifest: { generator: GENERATOR, train, val, size, seed },
    files,
    draw: async (temporary) => {
      for (const split of ["train", "val"] as const) {
        const records: Uint8Array[] = [];
        for (let index = 0; index < options[split]; index++) {
          const { image, objects } = drawScene(index, { seed, split, size });
          const png = await writePng({ data: image, width: size, height: size, channels: 3 });
          const label = [4, 5, size, size, ...objects.flat()];
          records.push(packImageRecord({ label, image: png, id: index }));
        }
        const { rec, idx } = writeRecordIo(records);
        await Deno.writeFile(`${temporary}/creatures_${split}.rec`, rec);
        await Deno.writeFile(`${temporary}/creatures_${split}.idx`, idx);
      }
    },
  });
}
