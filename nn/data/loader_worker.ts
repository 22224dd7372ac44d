/**
 * @file What a loader's worker runs: it opens the data set that it is told and answers with samples. It
 * begins when it is loaded, so nothing imports it.
 */

import type { Dataset } from "./dataset.ts";
import { packError } from "./load_error.ts";
import { IN_WORKER, type LoadMessage, type OpenMessage, type WorkerAnswer } from "./worker_pool.ts";

/** The worker's own global object; the types are those of a page. */
interface Scope {
  onmessage: (event: MessageEvent<OpenMessage | LoadMessage>) => void;
  postMessage(answer: WorkerAnswer, transfer?: Transferable[]): void;
  addEventListener(type: string, listener: (event: Event) => void): void;
  close: () => void;
  [IN_WORKER]?: true;
}

/** Answers messages one after the other. */
function start(scope: Scope): void {
  scope[IN_WORKER] = true;
  forbidExit(scope);
  for (const type of ["error", "unhandledrejection"]) {
    scope.addEventListener(type, (event) => {
      event.preventDefault();
      const { reason, error } = event as Partial<PromiseRejectionEvent & ErrorEvent>;
      scope.postMessage({ failed: packError(type === "error" ? error : reason) });
    });
  }
  let opened: Promise<Dataset<unknown>> | undefined, last = Promise.resolve();
  scope.onmessage = ({ data }) => {
    if ("open" in data) {
      opened = open(data.open);
      opened.then(
        ({ length }) => scope.postMessage({ length }),
        (error) => scope.postMessage({ failed: packError(error) }),
      );
    } else {
      const dataset = opened!;
      last = last.then(async () => await answer(scope, await dataset, data));
    }
  };
}

async function open({ module, args }: OpenMessage["open"]): Promise<Dataset<unknown>> {
  const { default: create } = await import(module);
  if (typeof create !== "function") {
    throw new TypeError(
      `Cannot open the data set of ${module}: its default export must be a function that gives it`,
    );
  }
  return await create(args);
}

/** Loads the samples of a message, all at a time, and sends them. */
async function answer(
  scope: Scope,
  dataset: Dataset<unknown>,
  message: LoadMessage,
): Promise<void> {
  const { id, indices } = message;
  const results = await Promise.allSettled(indices.map(async (index) => await dataset.get(index)));
  const samples: unknown[] = [], buffers: ArrayBuffer[] = [];
  try {
    for (const result of results) {
      if (result.status === "rejected") throw result.reason;
      samples.push(detach(result.value, buffers));
    }
  } catch (error) {
    return scope.postMessage({ id, at: samples.length, error: packError(error) });
  }
  try {
    scope.postMessage({ id, samples }, buffers);
  } catch (error) {
    const at = Math.max(0, samples.findIndex((sample) => !isData(sample)));
    scope.postMessage({ id, at, error: packError(error) });
  }
}

/** Whether a value can be sent. */
function isData(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

/**
 * A sample whose arrays have memory of their own, which is moved to the other thread. The data set may
 * keep the arrays it gave, so they are copied here, where it costs the consumer nothing.
 */
function detach(value: unknown, buffers: ArrayBuffer[]): unknown {
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    const copy = (value as Uint8Array).slice();
    buffers.push(copy.buffer as ArrayBuffer);
    return copy;
  }
  if (Array.isArray(value)) return value.map((entry) => detach(entry, buffers));
  if (typeof value !== "object" || value === null) return value;
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, detach(v, buffers)]));
}

/** A worker that ends without a word would leave the consumer waiting. */
function forbidExit(scope: Scope): void {
  const refuse = () => {
    throw new Error("Cannot end a loader's worker from inside: the loader ends it");
  };
  scope.close = refuse;
  if (typeof Deno !== "undefined") Object.defineProperty(Deno, "exit", { value: refuse });
}

start(globalThis as unknown as Scope);
