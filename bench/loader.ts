/**
 * @file How busy the loader keeps its workers: JPEG files of a folder through `DataLoader` with 1 and 2
 * workers, beside threads that decode the same files from memory and do nothing else. The two alternate;
 * the ratio of each pair counts, so a loaded machine shifts both.
 *
 *   deno run --no-prompt --allow-read bench/loader.ts DIR [ROUNDS]
 *
 * Prints medians: pictures a second of the threads and of the loader, and the median of the ratios.
 */

import { stackPictures } from "../nn/data/collate.ts";
import { DataLoader } from "../nn/data/loader.ts";
import { ImageFolder } from "../nn/data/image_folder.ts";
import type { DecodeAnswer, DecodeMessage } from "./decode_worker.ts";

const BATCH = 32;
const THREADS = [1, 2];
/** Times that an epoch has each file: in a short one the workers' unequal number of batches would show. */
const REPEATS = 4;

/** Threads that decode files from memory. */
class Decoders {
  readonly #workers: Worker[];
  readonly #paths: readonly string[];

  constructor(paths: readonly string[], count: number) {
    this.#paths = paths;
    const url = new URL("./decode_worker.ts", import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(url, { type: "module" }));
  }

  /** Reads the files, each worker its share, and decodes some to warm up. */
  async load(): Promise<void> {
    const share = (i: number) => this.#paths.filter((_, k) => k % this.#workers.length === i);
    await Promise.all(this.#workers.map((worker, i) => ask(worker, { paths: share(i) })));
  }

  /** Decodes all files once. */
  async run(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => ask(worker, {})));
  }

  close(): void {
    for (const worker of this.#workers) worker.terminate();
  }
}

function ask(worker: Worker, message: DecodeMessage): Promise<DecodeAnswer> {
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data as DecodeAnswer);
    worker.postMessage(message);
  });
}

async function epoch(loader: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of loader);
}

/** Pictures a second. */
async function rateOf(count: number, run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return count / (performance.now() - start) * 1000;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

async function main([dir, rounds = "7"]: readonly string[]): Promise<void> {
  if (dir === undefined) throw new TypeError("Cannot run without a folder of JPEG files: give DIR");
  const names = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
  const found = names.filter((name) => /\.jpe?g$/i.test(name)).map((name) => `${dir}/${name}`);
  const paths = Array.from({ length: REPEATS }, () => found).flat();
  const files = paths.map((path) => ({ path, label: 0 }));
  console.log(`${found.length} files of ${dir}, ${navigator.hardwareConcurrency} cores`);
  for (const workers of THREADS) {
    const decoders = new Decoders(paths, workers);
    using loader = new DataLoader(new ImageFolder({ classes: [dir], files }), {
      batchSize: BATCH,
      shuffle: true,
      workers,
      persistentWorkers: true,
      collate: stackPictures,
    });
    await decoders.load();
    await epoch(loader); // starts the workers and warms them up
    const decoding: number[] = [], loading: number[] = [];
    for (let round = 0; round < Number(rounds); round++) {
      decoding.push(await rateOf(paths.length, () => decoders.run()));
      loading.push(await rateOf(paths.length, () => epoch(loader)));
    }
    decoders.close();
    const ratio = median(loading.map((rate, i) => rate / decoding[i]!));
    console.log(
      `${workers} threads: decoding alone ${median(decoding).toFixed(0)}/s, loader ` +
        `${median(loading).toFixed(0)}/s, ratio ${ratio.toFixed(3)}`,
    );
  }
}

if (import.meta.main) await main(Deno.args);
