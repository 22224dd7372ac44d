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
  const failed = results.findIndex(({ status }) => status === "rejected");
  if (failed >= 0) {
    const { reason } = results[failed] as PromiseRejectedResult;
    return scope.postMessage({ id, at: failed, error: packError(reason) });
  }
  const loaded = results.map((result) => "value" in result && result.value);
  const { samples, buffer } = pack(loaded);
  try {
    scope.postMessage({ id, samples }, [buffer]);
  } catch (error) {
    const at = Math.max(0, loaded.findIndex((sample) => !isData(sample)));
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

/** Any typed array. */
type Elements = ArrayBufferView & { readonly BYTES_PER_ELEMENT: number; readonly length: number };

/**
 * Samples whose arrays lie in one buffer, which is moved to the other thread. The data set may keep the
 * arrays it gave, so they are copied here, where it costs the consumer nothing. The first arrays of all
 * samples come one after the other, then the second ones, ...: pictures make a batch as they lie.
 */
function pack(samples: readonly unknown[]): { samples: unknown[]; buffer: ArrayBuffer } {
  const arrays = samples.map((sample) => collect(sample, []));
  const offsets = arrays.map((): number[] => []);
  let size = 0;
  for (let field = 0; arrays.some(({ length }) => length > field); field++) {
    for (const [i, { [field]: array }] of arrays.entries()) {
      if (!array) continue;
      offsets[i]![field] = Math.ceil(size / array.BYTES_PER_ELEMENT) * array.BYTES_PER_ELEMENT;
      size = offsets[i]![field]! + array.byteLength;
    }
  }
  const buffer = new ArrayBuffer(size);
  const packed = samples.map((sample, i) => {
    const views = arrays[i]!.map((array, field) => copyTo(buffer, offsets[i]![field]!, array));
    return replace(sample, views.values());
  });
  return { samples: packed, buffer };
}

/** A copy of an array at a place of a buffer. */
function copyTo(buffer: ArrayBuffer, offset: number, array: Elements): unknown {
  const from = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  new Uint8Array(buffer, offset, array.byteLength).set(from);
  // The name of the type, also of a class that extends it.
  const name = (array as unknown as Uint8Array)[Symbol.toStringTag];
  const Type = globalThis[name as "Uint8Array"];
  return new Type(buffer, offset, array.length);
}

function isElements(value: unknown): value is Elements {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

/** Whether a value is an object that was written as `{}`. */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Appends the typed arrays in a value. */
function collect(value: unknown, found: Elements[]): Elements[] {
  if (isElements(value)) found.push(value);
  else if (Array.isArray(value)) { for (const entry of value) collect(entry, found); }
  else if (isPlain(value)) { for (const entry of Object.values(value)) collect(entry, found); }
  return found;
}

/** The value with other typed arrays, in the order that `collect` finds them. */
function replace(value: unknown, arrays: Iterator<unknown>): unknown {
  if (isElements(value)) return arrays.next().value;
  if (Array.isArray(value)) return value.map((entry) => replace(entry, arrays));
  if (!isPlain(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, replace(entry, arrays)]),
  );
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
