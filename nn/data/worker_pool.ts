/** @file Workers that load samples for a loader: who loads what, and what they say. */

import type { WorkerSource } from "./dataset.ts";
import { type ErrorMessage, LoadError, unpackError } from "./load_error.ts";

/** The first message to a worker: the data set to open. It answers with `length` or `failed`. */
export interface OpenMessage {
  readonly open: { readonly module: string; readonly args: unknown };
}

/** Every other message: samples to load. It answers with `samples`, or with `error`. */
export interface LoadMessage {
  readonly id: number;
  readonly indices: readonly number[];
}

/** What a worker answers. */
export type WorkerAnswer =
  | { readonly length: number }
  /** The worker is of no use any more. */
  | { readonly failed: ErrorMessage }
  | { readonly id: number; readonly samples: readonly unknown[] }
  /** The sample at position `at` of the message could not be loaded, those before it could. */
  | { readonly id: number; readonly at: number; readonly error: ErrorMessage };

/** A worker sets it on its global object: it must not start workers itself. */
export const IN_WORKER = Symbol.for("lathe.loaderWorker");

/** What a pool knows of a data set. */
export interface PoolSource {
  /** Number of samples. */
  readonly length: number;
  /** How a worker opens it. */
  readonly worker: WorkerSource;
}

/** What has been sent to a worker and not answered. */
interface Task {
  indices: readonly number[];
  resolve(samples: readonly unknown[]): void;
  reject(error: Error): void;
}

/** Samples of a data set by several threads. The workers start at once and run until `close`. */
export class WorkerPool<S> {
  readonly #workers: LoadingWorker[];
  /** The worker that gets the next batch. */
  #next = 0;

  /**
   * @param dataset The data set of samples `S`.
   * @param count Number of workers.
   * @throws {TypeError} If the arguments of the data set's `worker` cannot be sent.
   */
  constructor(dataset: PoolSource, count: number) {
    this.#workers = Array.from({ length: count }, () => new LoadingWorker(dataset));
  }

  /** Whether it can load: not after an error of a worker, nor after `close`. */
  get usable(): boolean {
    return this.#workers.every((worker) => worker.usable);
  }

  /**
   * The samples at `indices`, in their order, by one worker; the next call goes to the next one.
   *
   * @throws {LoadError} For the first sample in the order of `indices` that cannot be loaded.
   */
  async load(indices: readonly number[]): Promise<readonly S[]> {
    const worker = this.#workers[this.#next]!;
    this.#next = (this.#next + 1) % this.#workers.length;
    return await worker.load(indices) as readonly S[];
  }

  /** Ends the workers. What they have not answered is rejected. */
  close(): void {
    for (const worker of this.#workers) worker.fail(new Error("the loader was closed"));
  }
}

/** One worker and what it has to do. */
class LoadingWorker {
  readonly #worker: Worker;
  readonly #tasks = new Map<number, Task>();
  #next = 0;
  #failure: Error | undefined;

  constructor(dataset: PoolSource) {
    const { module, args } = dataset.worker;
    const { length } = dataset;
    this.#worker = new Worker(new URL("./loader_worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data as WorkerAnswer, length);
    this.#worker.onerror = (event) => {
      event.preventDefault(); // it would end the whole process
      this.fail(new Error(event.message));
    };
    this.#worker.onmessageerror = () => this.fail(new Error("a message that cannot be read"));
    try {
      this.#post({ open: { module: String(module), args } });
    } catch (cause) {
      this.#worker.terminate();
      throw new TypeError(
        `Cannot open ${module} in a worker: its arguments must be data (${cause})`,
        { cause },
      );
    }
  }

  get usable(): boolean {
    return this.#failure === undefined;
  }

  load(indices: readonly number[]): Promise<readonly unknown[]> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(new LoadError(indices[0]!, this.#failure));
      const id = this.#next++;
      this.#tasks.set(id, { indices, resolve, reject });
      this.#post({ id, indices });
    });
  }

  /** Ends the worker, rejecting what it has not answered. */
  fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#worker.terminate();
    for (const { indices, reject } of this.#tasks.values()) {
      reject(new LoadError(indices[0]!, error));
    }
    this.#tasks.clear();
  }

  #post(message: OpenMessage | LoadMessage): void {
    this.#worker.postMessage(message);
  }

  #receive(answer: WorkerAnswer, length: number): void {
    if ("failed" in answer) return this.fail(unpackError(answer.failed));
    if ("length" in answer) {
      if (answer.length === length) return;
      return this.fail(
        new RangeError(
          `the data set has ${answer.length} samples in a worker and ${length} here: ` +
            "the arguments of its worker must fix it",
        ),
      );
    }
    const task = this.#tasks.get(answer.id)!;
    this.#tasks.delete(answer.id);
    if ("samples" in answer) task.resolve(answer.samples);
    else task.reject(new LoadError(task.indices[answer.at]!, unpackError(answer.error)));
  }
}
