/** @file Batches from a data set, in an order that seed and epoch fix. */

import { checkOptions, given } from "../../engine/arguments.ts";
import type { Dataset } from "./dataset.ts";
import { LoadError } from "./load_error.ts";
import { loadHere, resolve, startWorkers } from "./loading.ts";
import { OrderSampler } from "./samplers.ts";
import type { WorkerPool } from "./worker_pool.ts";

/** Chooses the samples of an epoch: which, how often, in what order. */
export interface Sampler {
  /** Samples an epoch, the same for every epoch. */
  readonly length: number;
  /**
   * The `length` sample indices of one epoch. A pure function of `epoch`, so that a run can resume.
   */
  indices(epoch: number): ArrayLike<number>;
}

const OPTIONS = [
  "batchSize",
  "shuffle",
  "dropLast",
  "seed",
  "collate",
  "sampler",
  "workers",
  "prefetch",
  "persistentWorkers",
];

/** Where a loader stands. */
export interface LoaderState {
  /** Epochs finished. */
  epoch: number;
  /** Batches of the current epoch already handed out. */
  batch: number;
}

/** Options of {@linkcode DataLoader}. */
export interface DataLoaderOptions<S, B> {
  /** Samples in a batch, at least 1; the last batch may be smaller. Default 1. */
  batchSize?: number;
  /** Draw a new order every epoch. Not together with `sampler`. Default false. */
  shuffle?: boolean;
  /** Leave out a last batch that is not full. Default false. */
  dropLast?: boolean;
  /** Integer from 0 to 2^53 - 1: fixes the order of every epoch. Default 0. */
  seed?: number;
  /**
   * Makes a batch from its samples, on this thread. It runs ahead of the consumer, so it should return
   * host data; make tensors in the loop, where `scope` can free them.
   * Default: the batch is the list of samples.
   */
  collate?: (samples: S[]) => B | Promise<B>;
  /** Chooses the samples in place of `shuffle`. */
  sampler?: Sampler;
  /**
   * Threads that load samples. 0 loads on this thread, as much as its work lets it; otherwise the data
   * set must say how a worker opens it ({@linkcode Dataset.worker}). The batches are the same with any
   * number. Default 0.
   */
  workers?: number;
  /**
   * Batches that are loaded ahead of the consumer, each by one thread: at least as many as there are
   * workers keep them busy. Default 1, with workers two for each.
   */
  prefetch?: number;
  /**
   * Whether the workers stay from one epoch to the next, until `close`; a program that does not close
   * the loader does not end. Default false.
   */
  persistentWorkers?: boolean;
}

/**
 * Batches from a data set. Each `for await` runs to the end of the current epoch; the order of an
 * epoch is a pure function of (seed, epoch). While the consumer works on a batch, the next ones are
 * fetched and collated; workers go on loading while the consumer's thread waits for the GPU.
 *
 * The loader has one position. A loop left early leaves it where it stopped and the next loop goes
 * on from there; `state` and `loadState` carry it from one process to another. Workers start with a
 * loop and end with it, however it ends, unless `persistentWorkers` keeps them.
 *
 * @template S What one sample is.
 * @template B What a batch is.
 *
 * @example
 * ```ts
 * import { DataLoader } from "./loader.ts";
 *
 * const squares = { length: 10, get: (i: number) => i * i };
 * const loader = new DataLoader(squares, {
 *   batchSize: 4,
 *   shuffle: true,
 *   seed: 1,
 *   collate: (samples: number[]) => Float32Array.from(samples),
 * });
 * for await (const batch of loader) console.log(batch.length); // 4, 4, 2
 * ```
 *
 * @example Pictures decoded by two workers, sent to the GPU as bytes
 * ```ts
 * import { stackPictures } from "./collate.ts";
 * import { openImageFolder } from "./image_folder.ts";
 * import { DataLoader } from "./loader.ts";
 * import { imagesToTensor } from "../vision/mod.ts";
 *
 * const loader = new DataLoader(await openImageFolder("data/birds/train"), {
 *   batchSize: 32,
 *   shuffle: true,
 *   workers: 2,
 *   collate: stackPictures,
 * });
 * for await (const batch of loader) {
 *   const images = imagesToTensor(batch); // f32 [32, 3, H, W] in 0..1
 * }
 * ```
 */
export class DataLoader<S, B = S[]> implements AsyncIterable<B>, Disposable {
  /** The data set the samples come from. */
  readonly dataset: Dataset<S>;
  /** Samples in a full batch. */
  readonly batchSize: number;
  /** Batches an epoch. */
  readonly length: number;

  readonly #collate: (samples: S[]) => B | Promise<B>;
  readonly #sampler: Sampler;
  readonly #workers: number;
  readonly #prefetch: number;
  readonly #persistent: boolean;
  #pool: WorkerPool<S> | undefined;
  #epoch = 0;
  #batch = 0;
  #loop = 0;
  /** The batches from the loader's position on that are on their way. */
  #ahead: Promise<B>[] = [];
  #waited = 0;
  #order: { epoch: number; indices: ArrayLike<number> } | undefined;

  /**
   * @param dataset Where the samples come from.
   * @param options See {@linkcode DataLoaderOptions}.
   * @throws {TypeError} If `shuffle` and `sampler` are both given, or `workers` for a data set that no
   * worker can open.
   * @throws {RangeError} If a number is out of range.
   */
  constructor(dataset: Dataset<S>, options: DataLoaderOptions<S, B> = {}) {
    checkOptions("make DataLoader", options, "new DataLoader(dataset, { batchSize: 32 })", OPTIONS);
    const { batchSize = 1, shuffle = false, dropLast = false, seed = 0, collate, sampler } =
      options;
    const { workers = 0, prefetch = Math.max(1, 2 * workers), persistentWorkers = false } = options;
    checkCount(batchSize, 1, "batches of $ samples: batchSize");
    checkCount(workers, 0, "with $ workers: workers");
    checkCount(prefetch, 0, "$ batches ahead: prefetch");
    if (workers > 0 && resolve(dataset, []).source.worker === undefined) {
      throw new TypeError(
        `Cannot load with ${workers} workers: code cannot be sent to a worker, so the data set must say ` +
          "by its property worker which module makes it",
      );
    }
    if (sampler && shuffle) {
      throw new TypeError("Cannot use shuffle with a sampler: the sampler decides the order");
    }
    if (sampler && typeof sampler.indices !== "function") {
      throw new TypeError(
        `Cannot load with the sampler ${given(sampler)}: it must have length and indices(epoch); ` +
          "chosen samples are new Subset(dataset, [0, 1])",
      );
    }
    if (workers === 0 && typeof dataset?.get !== "function") {
      throw new TypeError(
        `Cannot load from ${given(dataset)}: a data set must have length and get(index)`,
      );
    }
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.#sampler = sampler ?? new OrderSampler(dataset.length, { shuffle, seed });
    this.#workers = workers;
    this.#prefetch = prefetch;
    this.#persistent = persistentWorkers;
    this.#collate = collate ?? ((samples) => samples as unknown as B); // B is S[] without collate
    const batches = this.#sampler.length / batchSize;
    this.length = dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Epochs finished; it advances when a loop has run to the end. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Seconds that the present loop, or the last one, has waited for its batches: what a progress bar
   * divides by the time of the loop.
   */
  get waitSeconds(): number {
    return this.#waited;
  }

  /**
   * Where the loader stands. Inside a loop the batch in hand counts as handed out, so a state saved
   * after a training step resumes with the step that follows.
   */
  state(): LoaderState {
    return { epoch: this.#epoch, batch: this.#batch };
  }

  /**
   * Goes to a position that `state` gave. A loop that is running ends with an error.
   *
   * @throws {RangeError} If `epoch` or `batch` is not a position of this loader.
   */
  loadState(state: LoaderState): void {
    const { epoch, batch } = state;
    if (!Number.isSafeInteger(epoch) || epoch < 0) {
      throw new RangeError(`Cannot go to epoch ${epoch}: it must be an integer of at least 0`);
    }
    if (!Number.isSafeInteger(batch) || batch < 0 || batch > this.length) {
      throw new RangeError(
        `Cannot go to batch ${batch}: an epoch of this loader has ${this.length} batches`,
      );
    }
    this.#epoch = epoch;
    this.#batch = batch;
    this.close();
  }

  /** Ends the workers, if any, and a loop that is running, with an error. The next loop starts anew. */
  close(): void {
    this.#loop++;
    this.#endWorkers();
  }

  /** As `close`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * The batches from the current position to the end of the epoch.
   *
   * @throws {LoadError} From `next`, if the data set or a worker fails. The position stays, so that another
   * loop tries the batch again.
   * @throws {RangeError} From `next`, if the sampler names a sample that is not in the data set.
   * @throws {Error} From `next`, if another loop over the same loader began meanwhile.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<B, void, undefined> {
    const loop = ++this.#loop;
    this.#waited = 0;
    if (this.#pool?.usable === false) this.#endWorkers(); // one failed between two loops
    try {
      while (this.#batch < this.length) {
        const start = performance.now();
        this.#fetch(1);
        const batch = await this.#next(loop);
        this.#batch++;
        this.#fetch(this.#prefetch);
        this.#waited += (performance.now() - start) / 1000;
        yield batch;
        this.#checkLoop(loop);
      }
      this.#epoch++;
      this.#batch = 0;
    } finally {
      if (loop === this.#loop) await this.#rest();
    }
  }

  #checkLoop(loop: number): void {
    if (loop !== this.#loop) {
      throw new Error(
        "Cannot go on with this loop: the loader was moved by another loop or by loadState, or closed",
      );
    }
  }

  /** The batch at the loader's position. */
  async #next(loop: number): Promise<B> {
    try {
      const batch = await this.#ahead[0]!;
      this.#checkLoop(loop);
      this.#ahead.shift();
      return batch;
    } catch (error) {
      this.#checkLoop(loop);
      await this.#rest({ discard: true }); // none after it is handed out before it
      throw error;
    }
  }

  /** Ends what a loop has begun: nothing runs on after it but workers that are to stay. */
  async #rest({ discard = false } = {}): Promise<void> {
    const ahead = this.#ahead;
    if (discard) this.#ahead = [];
    if (this.#pool && !(this.#persistent && this.#pool.usable)) this.#endWorkers();
    await Promise.allSettled(ahead);
  }

  #endWorkers(): void {
    this.#pool?.close();
    this.#pool = undefined;
    this.#ahead = [];
  }

  /** Starts the batches from the loader's position on, unless they are on their way. */
  #fetch(count: number): void {
    const end = Math.min(this.#batch + count, this.length);
    for (let batch = this.#batch + this.#ahead.length; batch < end; batch++) {
      const promise = this.#load(this.#epoch, batch);
      promise.catch(ignore); // thrown where it is awaited, which may be never
      this.#ahead.push(promise);
    }
  }

  async #load(epoch: number, batch: number): Promise<B> {
    const order = this.#indices(epoch);
    const start = batch * this.batchSize;
    const end = Math.min(start + this.batchSize, this.#sampler.length);
    const indices = Array.from({ length: end - start }, (_, i) => order[start + i]!);
    const wrong = indices.findIndex((i) =>
      !Number.isInteger(i) || i < 0 || i >= this.dataset.length
    );
    if (wrong >= 0) {
      throw new RangeError(
        `Cannot load sample ${
          indices[wrong]
        }, which the sampler names for epoch ${epoch}: the data set ` +
          `has 0 to ${this.dataset.length - 1}`,
      );
    }
    return this.#collate([...await this.#samples(indices)]);
  }

  async #samples(indices: readonly number[]): Promise<readonly S[]> {
    if (this.#workers === 0) return await loadHere(this.dataset, indices);
    const { source, positions } = resolve(this.dataset, indices);
    this.#pool ??= startWorkers(source, this.#workers);
    try {
      return await this.#pool.load(positions);
    } catch (error) {
      if (!(error instanceof LoadError) || positions === indices) throw error;
      throw new LoadError(indices[positions.indexOf(error.index)]!, error.cause);
    }
  }

  #indices(epoch: number): ArrayLike<number> {
    if (this.#order?.epoch !== epoch) {
      const indices = this.#sampler.indices(epoch);
      if (indices.length !== this.#sampler.length) {
        throw new RangeError(
          `Cannot use the sampler's ${indices.length} indices for epoch ${epoch}: ` +
            `its length is ${this.#sampler.length}`,
        );
      }
      this.#order = { epoch, indices };
    }
    return this.#order.indices;
  }
}

/** @param what Of what there is the number, with `$` for it, and its name. */
function checkCount(value: number, least: number, what: string): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new RangeError(
    `Cannot load ${what.replace("$", String(value))} must be an integer of at least ${least}`,
  );
}

function ignore(): void {}
