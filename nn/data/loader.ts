/** @file Batches from a data set, in an order that seed and epoch fix. */

import type { Dataset } from "./dataset.ts";
import { HostRandom, libraryStream } from "./rng.ts";

/** Chooses the samples of an epoch: which, how often, in what order. */
export interface Sampler {
  /** Samples an epoch, the same for every epoch. */
  readonly length: number;
  /**
   * The `length` sample indices of one epoch. A pure function of `epoch`, so that a run can resume.
   */
  indices(epoch: number): ArrayLike<number>;
}

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
   * Makes a batch from its samples. It runs one batch ahead of the consumer, so it should return host
   * data; make tensors in the loop, where `scope` can free them.
   * Default: the batch is the list of samples.
   */
  collate?: (samples: S[]) => B | Promise<B>;
  /** Chooses the samples in place of `shuffle`. */
  sampler?: Sampler;
}

/** A batch on its way. */
interface Ahead<B> {
  epoch: number;
  batch: number;
  promise: Promise<B>;
}

/**
 * Batches from a data set. Each `for await` runs to the end of the current epoch; the order of an
 * epoch is a pure function of (seed, epoch). While the consumer works on a batch, the next one is
 * fetched and collated.
 *
 * The loader has one position. A loop left early leaves it where it stopped and the next loop goes
 * on from there; `state` and `loadState` carry it from one process to another.
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
 */
export class DataLoader<S, B = S[]> implements AsyncIterable<B> {
  /** The data set the samples come from. */
  readonly dataset: Dataset<S>;
  /** Samples in a full batch. */
  readonly batchSize: number;
  /** Batches an epoch. */
  readonly length: number;

  readonly #collate: (samples: S[]) => B | Promise<B>;
  readonly #sampler: Sampler;
  #epoch = 0;
  #batch = 0;
  #loop = 0;
  #ahead: Ahead<B> | undefined;
  #order: { epoch: number; indices: ArrayLike<number> } | undefined;

  /**
   * @param dataset Where the samples come from.
   * @param options See {@linkcode DataLoaderOptions}.
   * @throws {TypeError} If `shuffle` and `sampler` are both given.
   * @throws {RangeError} If `batchSize` or `seed` is out of range.
   */
  constructor(dataset: Dataset<S>, options: DataLoaderOptions<S, B> = {}) {
    const { batchSize = 1, shuffle = false, dropLast = false, seed = 0, collate, sampler } =
      options;
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw new RangeError(
        `Cannot load batches of ${batchSize} samples: batchSize must be an integer of at least 1`,
      );
    }
    if (sampler && shuffle) {
      throw new TypeError("Cannot use shuffle with a sampler: the sampler decides the order");
    }
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.#sampler = sampler ?? new OrderSampler(dataset.length, shuffle, seed);
    this.#collate = collate ?? ((samples) => samples as unknown as B); // B is S[] without collate
    const batches = this.#sampler.length / batchSize;
    this.length = dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Epochs finished; it advances when a loop has run to the end. */
  get epoch(): number {
    return this.#epoch;
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
    this.#loop++;
  }

  /**
   * The batches from the current position to the end of the epoch.
   *
   * @throws {Error} From `next`, if another loop over the same loader began meanwhile.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<B, void, undefined> {
    const loop = ++this.#loop;
    try {
      while (this.#batch < this.length) {
        const { promise } = this.#fetch();
        const batch = await promise.finally(() => this.#ahead = undefined);
        this.#checkLoop(loop);
        this.#batch++;
        if (this.#batch < this.length) this.#fetch();
        yield batch;
        this.#checkLoop(loop);
      }
      this.#epoch++;
      this.#batch = 0;
    } finally {
      await this.#ahead?.promise.catch(ignore); // nothing runs on after the loop
    }
  }

  #checkLoop(loop: number): void {
    if (loop !== this.#loop) {
      throw new Error(
        "Cannot go on with this loop: the loader was moved by another loop or by loadState",
      );
    }
  }

  /** Starts the batch at the loader's position, unless it is on its way. */
  #fetch(): Ahead<B> {
    const { epoch, batch } = this.state();
    if (this.#ahead?.epoch !== epoch || this.#ahead.batch !== batch) {
      const promise = this.#load(epoch, batch);
      promise.catch(ignore); // thrown where it is awaited, which may be never
      this.#ahead = { epoch, batch, promise };
    }
    return this.#ahead;
  }

  async #load(epoch: number, batch: number): Promise<B> {
    const indices = this.#indices(epoch);
    const start = batch * this.batchSize;
    const end = Math.min(start + this.batchSize, this.#sampler.length);
    const samples: (S | Promise<S>)[] = [];
    for (let i = start; i < end; i++) samples.push(this.dataset.get(indices[i]!));
    return this.#collate(await Promise.all(samples));
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

/** All samples, in order or shuffled. */
class OrderSampler implements Sampler {
  readonly length: number;
  readonly #shuffle: boolean;
  readonly #seed: number;

  constructor(length: number, shuffle: boolean, seed: number) {
    new HostRandom(seed); // checks the seed at once
    this.length = length;
    this.#shuffle = shuffle;
    this.#seed = seed;
  }

  indices(epoch: number): Uint32Array {
    const order = Uint32Array.from({ length: this.length }, (_, index) => index);
    return this.#shuffle
      ? new HostRandom(this.#seed, libraryStream(1, epoch)).shuffle(order)
      : order;
  }
}

function ignore(): void {}
