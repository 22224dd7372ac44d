/**
 * @file `deno task tune`: times every tile that the open adapter can run on products of every class, and
 * writes the ones that beat the planner's own choice to engine/ops/tuned, which the planner reads.
 *
 * A class is a kind of product (matrices by layout, and the three of a convolution), a type, and ranges
 * of rows and columns; it is measured on one product in its midst. Tiles take turns, and the fastest run
 * of each counts, so that other work on the machine matters little. A tile has to save a quarter
 * of the planner's time, and 50 microseconds, twice over: every further kernel has to be compiled, too.
 */

import { conv2d, init, manualSeed, noGrad, profile, randn, type Tensor } from "../mod.ts";
import {
  CLASS_SIZES,
  classOf,
  defaultTile,
  fits,
  type GemmKind,
  type GemmSize,
  type GemmUse,
  onTile,
  tileName,
  TILES,
} from "../engine/ops/gemm_tiles.ts";
import { onTiledCore } from "../engine/ops/conv_core.ts";
import { adapterKey, TUNED } from "../engine/ops/tuned/mod.ts";
import type { Tile } from "../engine/kernels/gemm.ts";
import { defineFlags, runMain } from "../experiments/_args.ts";

const FLAGS = defineFlags({
  runs: { type: "integer", default: 7, min: 1, help: "Turns of each tile" },
  filter: {
    type: "string",
    help: "Only classes whose name has this text; others keep what they have",
  },
}, {
  command: "deno task tune",
  about: "Measures the tiles of products on this adapter and writes the table that chooses them.",
});

const FOLDER = new URL("../engine/ops/tuned/", import.meta.url);
const KINDS: readonly GemmKind[] = ["nn", "nt", "tn", "conv", "dx", "dw"];
/** How much less time a tile has to take than the planner's, as a share and in milliseconds. */
const GAIN = 0.75;
const LEAST_MS = 0.05;

/** Shares of the roofline are of no interest here, and measuring it takes a second. */
const NO_PEAKS = { gflops: 1, gbs: 1 };

/** A product in the midst of a class. */
interface Trial {
  readonly use: GemmUse;
  readonly size: GemmSize;
  /** Makes the inputs; the function it gives runs the product. */
  build(): () => void;
}

/** Sizes in the midst of the ranges that `limits` part, from `rest` on where there is no limit. */
function midst(limits: readonly number[], rest: number): number[] {
  return [...limits, rest];
}

/** One product for every class of a dtype. */
export function trials(dtype: "f32" | "f16", scale: number): Trial[] {
  const list: Trial[] = [];
  const draw = (...shape: number[]) => randn(shape).to(dtype);
  for (const kind of KINDS) {
    for (const M of midst(CLASS_SIZES.M, 64 * scale)) {
      for (const N of midst(CLASS_SIZES.N, 512 * scale)) {
        const trial = trialOf({ kind, dtype }, { M, N }, draw);
        if (trial) list.push(trial);
      }
    }
  }
  return list;
}

function trialOf(
  use: GemmUse,
  { M, N }: { M: number; N: number },
  draw: (...shape: number[]) => Tensor,
): Trial | null {
  const K = 288;
  const size = { M, N, K, batch: 1 };
  const { kind } = use;
  if (kind === "nn" || kind === "nt" || kind === "tn") {
    return {
      use,
      size,
      build() {
        const a = kind === "tn" ? draw(K, M).transpose(0, 1) : draw(M, K);
        const b = kind === "nt" ? draw(N, K).transpose(0, 1) : draw(K, N);
        return () => a.matmul(b).dispose();
      },
    };
  }
  // Three by three windows: N is 8 positions of an image (conv, dx), or all weights of a channel (dw).
  if (kind === "dw" && N <= 8) return null;
  const [O, C] = kind === "dx" ? [32, M] : [M, 32];
  const side = N <= 8 ? [2, 4] : [16, 32];
  const images = N <= 8 ? 1 : Math.max(1, Math.round(N / 512));
  const options = { padding: 1 };
  return {
    use,
    size: kind === "dw"
      ? { M, N: C * 9, K: images * side[0]! * side[1]!, batch: 1 }
      : { ...size, K: (kind === "dx" ? O : C) * 9 },
    build() {
      const [x, w] = [draw(images, C, ...side), draw(O, C, 3, 3)];
      if (kind === "conv") return () => noGrad(() => conv2d(x, w, options)).dispose();
      const input = kind === "dx" ? x.requiresGrad_() : w.requiresGrad_();
      const dy = draw(images, O, ...side);
      const y = conv2d(x, w, options);
      return () => {
        input.grad = null;
        y.backward(dy, { retainGraph: true });
      };
    },
  };
}

/** Milliseconds of the fastest run on each tile; kernels that do not depend on it count as well. */
async function race(trial: Trial, tiles: readonly Tile[], runs: number): Promise<number[]> {
  manualSeed(1);
  const built = trial.build();
  const run = () => onTiledCore(built);
  const best = tiles.map(() => Infinity);
  for (const tile of tiles) onTile(tile, run);
  for (let turn = 0; turn < runs; turn++) {
    for (const [i, tile] of tiles.entries()) {
      const { kernels } = await profile(() => onTile(tile, run), { roofline: NO_PEAKS });
      best[i] = Math.min(best[i]!, kernels.reduce((n, k) => n + k.ms, 0));
    }
  }
  return best;
}

/** Whether a tile's time is so much less than the planner's that it is worth another kernel. */
export function saves(ms: number, planners: number): boolean {
  return ms < Math.min(GAIN * planners, planners - LEAST_MS);
}

/** The file of a table, in TypeScript: the engine is imported without permissions, and in browsers. */
export function tableText(
  table: { adapter: string; date: string; deno: string; tiles: Record<string, string> },
): string {
  // As `deno fmt` wants it: a comma after the last member.
  const json = JSON.stringify(table, null, 2).replace(/[^{,](?=\n\s*\})/g, "$&,");
  return `/** Written by \`deno task tune\`. */

import type { TunedTable } from "./mod.ts";

/** Tiles for ${table.adapter}. */
export const ${constantOf(table.adapter)}: TunedTable = ${json};
`;
}

/** An adapter's name as a file's. */
export function fileOf(adapter: string): string {
  return `${adapter.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "")}.ts`;
}

function constantOf(adapter: string): string {
  return fileOf(adapter).slice(0, -3).toUpperCase();
}

/** Puts a table that is new into the list of them. */
async function register(adapter: string): Promise<void> {
  const url = new URL("mod.ts", FOLDER);
  const text = await Deno.readTextFile(url);
  const name = constantOf(adapter);
  if (new RegExp(`\\b${name}\\b`).test(text)) return;
  const added = text
    .replace(/\n\nimport /, `\n\nimport { ${name} } from "./${fileOf(adapter)}";\nimport `)
    .replace(/TUNED(.*) = \[/, `TUNED$1 = [${name}, `);
  await Deno.writeTextFile(url, added);
}

async function main(): Promise<void> {
  const { options } = FLAGS.parse(Deno.args);
  const info = await init();
  const half = info.features.has("shader-f16");
  const able = TILES.filter((t) => !info.software || !t.staged || t.matrix);
  const adapter = adapterKey(info.adapter);
  const chosen = { ...TUNED.find((t) => t.adapter === adapter)?.tiles };
  for (const dtype of half ? ["f32", "f16"] as const : ["f32"] as const) {
    const tiles = able.filter((t) => fits(t, dtype));
    for (const trial of trials(dtype, info.software ? 1 : 8)) {
      const name = classOf(trial.use, trial.size);
      if (options.filter !== undefined && !name.includes(options.filter)) continue;
      const usual = defaultTile(trial.size, trial.use);
      const times = await race(trial, tiles, options.runs);
      const before = times[tiles.indexOf(usual)]!;
      const best = times.indexOf(Math.min(...times));
      let wins = saves(times[best]!, before);
      if (wins) {
        // Of many tiles one may be lucky: the two run again, alone.
        const [once, again] = await race(trial, [usual, tiles[best]!], 2 * options.runs);
        wins = saves(again!, once!);
      }
      delete chosen[name];
      if (wins) chosen[name] = tileName(tiles[best]!);
      console.log(
        `${name.padEnd(20)} ${tileName(usual).padEnd(14)} ${before.toFixed(3).padStart(9)} ms` +
          (wins ? `  ${tileName(tiles[best]!).padEnd(14)} ${times[best]!.toFixed(3)} ms` : ""),
      );
    }
  }
  await Deno.writeTextFile(
    new URL(fileOf(adapter), FOLDER),
    tableText({
      adapter,
      date: new Date().toISOString().slice(0, 10),
      deno: Deno.version.deno,
      tiles: chosen,
    }),
  );
  await register(adapter);
}

if (import.meta.main) await runMain(main);
