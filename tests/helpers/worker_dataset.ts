/** A data set for workers that can fail in every way. */

import type { Dataset } from "../../nn/data/dataset.ts";
import { DataLoader } from "../../nn/data/loader.ts";
import { FormatError } from "../../nn/format_error.ts";

/** What the data set does. */
export interface Behaviour {
  length: number;
  /** What happens at sample `at`. */
  fault?: "error" | "format" | "later" | "exit" | "close" | "function" | "nested";
  at?: number;
  /** Whether opening it fails, gives no data set, or another one than here. */
  open?: "error" | "other";
  /** Adds one each time a sample is loaded, in any thread. */
  counter?: SharedArrayBuffer;
  /** Values of a sample. */
  values?: number;
}

/** A sample: arrays of several types, one of them kept by the data set. */
export interface Sample {
  index: number;
  values: Float32Array<ArrayBuffer>;
  nested: { bytes: Uint8Array<ArrayBuffer>; none: null; ids: bigint[] }[];
}

const kept = new Uint8Array([1, 2, 3, 4, 5]);
let here = true;

export default function create(args: Behaviour): Dataset<Sample> {
  if (!here) throw new Error("unreachable");
  if (args.open === "error" && inWorker()) throw new Error("no such data");
  const length = args.open === "other" && inWorker() ? args.length + 1 : args.length;
  return { length, get: (index) => get(index, args), worker: { module: import.meta.url, args } };
}

function inWorker(): boolean {
  return Symbol.for("lathe.loaderWorker") in globalThis;
}

async function get(index: number, args: Behaviour): Promise<Sample> {
  if (args.counter) Atomics.add(new Int32Array(args.counter), 0, 1);
  await new Promise((resolve) => setTimeout(resolve, (index * 7) % 3));
  if (index === args.at) await fail(index, args);
  const { values = 4 } = args;
  return {
    index,
    values: Float32Array.from({ length: values }, (_, i) => index + i / 8),
    nested: [{ bytes: kept.subarray(1, 4), none: null, ids: [BigInt(index)] }],
    ...(index === args.at && args.fault === "function" ? { call: () => 0 } : {}),
  };
}

async function fail(index: number, { fault }: Behaviour): Promise<void> {
  switch (fault) {
    case "error":
      throw new RangeError(`broken sample ${index}`);
    case "format":
      throw new FormatError("bad magic", {
        file: `${index}.bin`,
        offset: 7,
        expected: "a good one",
      });
    case "later":
      // Nobody awaits it: without a guard it would end the worker and the process.
      setTimeout(() => {
        here = false;
        throw new Error("thrown from a timer");
      });
      break;
    case "exit":
      Deno.exit(3);
      break;
    case "close":
      self.close();
      break;
    case "nested":
      for await (const _ of new DataLoader(create({ length: 1 }), { workers: 1 }));
      break;
    case "function":
  }
}
