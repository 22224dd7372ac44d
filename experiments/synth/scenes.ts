/**
 * @file The built-in data of the captioning experiment: scenes of coloured shapes as PNG files, and five
 * captions of each in Flickr8k's `captions.txt`.
 */

import { writePng } from "../../nn/data/png_write.ts";
import { HostRandom } from "../../nn/data/rng.ts";
import { drawFolder } from "./_folder.ts";
import {
  COLOURS,
  randomScene,
  type Scene,
  sceneCaptions,
  type SceneSide,
} from "./_scene_grammar.ts";

export { isTrue, parseCaption, type Scene } from "./_scene_grammar.ts";

/** Size of the data set that {@linkcode writeScenes} writes. */
export interface WriteScenesOptions {
  /** Number of scenes. */
  readonly scenes: number;
  /** Integer >= 0; another seed draws other scenes. */
  readonly seed: number;
}

const SIDE = 64;
/** To be raised with every change of what is drawn, so that old folders are drawn again. */
const GENERATOR = 3;
const NAME = /^scene_(\d+)\.png$/;

/**
 * Writes `Images/scene_0.png` … and `captions.txt`, CSV with the columns image and caption. A folder
 * that already holds them for the same options is left as it is.
 *
 * @returns Whether anything was drawn.
 * @throws {RangeError} The count is not an integer >= 1.
 * @throws {RunError} `dir` holds something else.
 */
export async function writeScenes(dir: string, options: WriteScenesOptions): Promise<boolean> {
  const { scenes, seed } = options;
  if (!Number.isSafeInteger(scenes) || scenes < 1) {
    throw new RangeError(`Cannot draw ${scenes} scenes: it must be an integer >= 1`);
  }
  return await drawFolder(dir, {
    name: "scenes",
    manifest: { generator: GENERATOR, scenes, seed },
    files: ["captions.txt", `Images/${fileName(scenes - 1)}`],
    async draw(into) {
      await Deno.mkdir(`${into}/Images`);
      const lines = ["image,caption"];
      for (let i = 0; i < scenes; i++) {
        const { scene, pixels } = drawnScene(i, seed);
        const picture = { data: pixels, width: SIDE, height: SIDE, channels: 3 as const };
        await Deno.writeFile(`${into}/Images/${fileName(i)}`, await writePng(picture));
        for (const caption of sceneCaptions(scene)) lines.push(`${fileName(i)},${caption} .`);
      }
      await Deno.writeTextFile(`${into}/captions.txt`, lines.join("\n") + "\n");
    },
  });
}

function fileName(index: number): string {
  return `scene_${index}.png`;
}

/** The scene that a file of {@linkcode writeScenes} shows, undefined for another file. */
export function sceneOfFile(name: string, seed: number): Scene | undefined {
  const index = NAME.exec(name)?.[1];
  return index === undefined ? undefined : randomScene(new HostRandom(seed, 2 * Number(index)));
}

/** The scene at `index` and its picture, [64, 64, 3] bytes. A pure function of its arguments. */
export function drawnScene(
  index: number,
  seed: number,
): { scene: Scene; pixels: Uint8Array<ArrayBuffer> } {
  const scene = randomScene(new HostRandom(seed, 2 * index));
  return { scene, pixels: paint(scene, new HostRandom(seed, 2 * index + 1)) };
}

/** One thing: middle and radius in pixels, colour, and how deep a place lies inside. */
interface Thing {
  readonly x: number;
  readonly y: number;
  readonly rgb: readonly number[];
  /** Positive inside, in pixels. */
  readonly depth: (x: number, y: number) => number;
}

/** Middle of a side, in pixels. */
const CENTRES: Readonly<Record<SceneSide, readonly [number, number]>> = {
  left: [17, 32],
  right: [47, 32],
  top: [32, 17],
  bottom: [32, 47],
};

const OTHER = { left: "right", right: "left", top: "bottom", bottom: "top" } as const;

function paint({ groups, side }: Scene, random: HostRandom): Uint8Array<ArrayBuffer> {
  const paper = random.uniform(200, 245);
  const things = groups.flatMap((group, i) => place(group, i === 0 ? side : OTHER[side], random));
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const rgb = [paper, paper, paper];
      for (const thing of things) {
        const cover = Math.min(
          1,
          Math.max(0, thing.depth(x + 0.5 - thing.x, y + 0.5 - thing.y) + 0.5),
        );
        for (let k = 0; k < 3; k++) rgb[k] = rgb[k]! + (thing.rgb[k]! - rgb[k]!) * cover;
      }
      for (let k = 0; k < 3; k++) {
        const value = rgb[k]! + random.normal(0, 5);
        pixels[(y * SIDE + x) * 3 + k] = Math.min(255, Math.max(0, Math.round(value)));
      }
    }
  }
  return pixels;
}

/** The things of a group in a row across its part of the picture. */
function place(
  { count, colour, shape }: Scene["groups"][number],
  side: SceneSide,
  random: HostRandom,
): Thing[] {
  const [cx, cy] = CENTRES[side];
  const across = side === "top" || side === "bottom";
  const [dx, dy] = [random.uniform(-2, 2), random.uniform(-2, 2)];
  return Array.from({ length: count }, (_, i) => {
    const along = (i - (count - 1) / 2) * 20;
    const radius = random.uniform(8, 9.5);
    const rgb = COLOURS[colour]!.map((v) => v + random.uniform(-20, 20));
    const wobble = () => random.uniform(-1, 1);
    return {
      x: cx + dx + (across ? along : 0) + wobble(),
      y: cy + dy + (across ? 0 : along) + wobble(),
      rgb,
      depth: depthOf(shape, radius),
    };
  });
}

function depthOf(shape: string, radius: number): Thing["depth"] {
  if (shape === "circle") return (x, y) => radius - Math.hypot(x, y);
  if (shape === "square") {
    const half = radius * 0.88;
    return (x, y) => half - Math.max(Math.abs(x), Math.abs(y));
  }
  // Upright, with its middle at the origin; the sides lean by 30 degrees.
  const [c, s] = [Math.cos(Math.PI / 6), Math.sin(Math.PI / 6)];
  const inner = radius * 0.62;
  return (x, y) => Math.min(inner - y, inner - (Math.abs(x) * c - y * s));
}
