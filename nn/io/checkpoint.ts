/** @file Checkpoints: everything a run needs to go on, in one file. */

import { Tensor } from "../../engine/mod.ts";
import { FormatError } from "../format_error.ts";
import { type ByteTarget, contentFor, writeFileAtomic } from "./atomic.ts";
import {
  ARRAY_TYPES,
  type ArrayType,
  joinState,
  MAX_STATE_DEPTH,
  splitState,
  type StateArray,
  StateFault,
} from "./checkpoint_state.ts";
import { crc32 } from "./gzip.ts";
import type { HostArray } from "./host_array.ts";
import { JsonFault, parseStrictJson, quote } from "./json_scan.ts";
import { type EngineArray, fromEngine, toEngine, toHost } from "./safetensors.ts";
import { decodeSafetensors, safetensorsParts } from "./safetensors_format.ts";
import { type ByteSource, readSource } from "./source.ts";

const VERSION = "1";
const VERSION_KEY = "lathe.checkpoint";
const CHECKSUM_KEY = "lathe.crc32";

/** What a checkpoint can hold. */
export type CheckpointValue =
  | Tensor
  | StateArray
  | number
  | string
  | boolean
  | null
  | CheckpointValue[]
  | { [key: string]: CheckpointValue };

/**
 * Saves a state to one file, in one step: an old checkpoint stays whole until the new one is. Numbers
 * and elements come back with the same bits, NaN, infinities and -0 among them; an object that occurs
 * twice as a tensor or typed array is one object again.
 *
 * The file is a safetensors file: the tensors under their dotted paths (`model.features.0.weight`), the
 * rest as JSON in its metadata, with a checksum of all.
 *
 * @param path The file, whose folder must exist, or a `WritableStream`.
 * @param state Plain objects and lists of {@linkcode CheckpointValue}s. It must not change until the
 * promise settles.
 * @throws {TypeError} If the state holds something else, `undefined` and class instances too.
 * @throws {Error} If the file cannot be written.
 *
 * @example
 * ```ts
 * import { loadCheckpoint, saveCheckpoint } from "./checkpoint.ts";
 * import { init, tensor } from "../../engine/mod.ts";
 *
 * await init();
 * await saveCheckpoint("last.ckpt", { model: { weight: tensor([1, 2]) }, epoch: 3, best: -Infinity });
 * const { model, epoch } = await loadCheckpoint("last.ckpt");
 * ```
 */
export async function saveCheckpoint(path: ByteTarget, state: object): Promise<void> {
  await writeFileAtomic(path, await contentFor(path, () => checkpointParts(state)));
}

async function checkpointParts(state: object): Promise<Iterable<Uint8Array>> {
  const { json, tensors, arrays } = splitState(state, (value) => value instanceof Tensor);
  const stored = Object.fromEntries([
    ...await toHost(tensors),
    ...Array.from(arrays, ([name, value]) => [name, storedArray(value)] as const),
  ]);
  const text = JSON.stringify(json);
  const metadata = {
    [VERSION_KEY]: VERSION,
    [CHECKSUM_KEY]: stateChecksum(text, stored),
    state: text,
  };
  return safetensorsParts(stored, metadata);
}

/**
 * Loads what {@linkcode saveCheckpoint} saved.
 *
 * @template T The type of the state, as the caller knows it; the file is not checked against it.
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @returns The state. Its tensors are new and require no gradient.
 * @throws {FormatError} If the file is truncated, damaged or no checkpoint of this version.
 */
export async function loadCheckpoint<T extends object = Record<string, CheckpointValue>>(
  source: ByteSource,
): Promise<T> {
  const { bytes, file } = await readSource(source);
  return decodeCheckpoint(bytes, { file, tensor: fromEngine }) as T;
}

/**
 * The state in the bytes of a checkpoint.
 *
 * @param bytes The whole file.
 * @param options `tensor` makes the tensors; `file` is the name for errors.
 * @throws {FormatError} As {@linkcode loadCheckpoint}, before any tensor is made.
 */
export function decodeCheckpoint(
  bytes: Uint8Array,
  options: { file: string; tensor: (array: EngineArray) => unknown },
): unknown {
  const { file } = options;
  const { tensors, metadata } = decodeSafetensors(bytes, { file });
  const version = metadata[VERSION_KEY];
  if (version !== VERSION || metadata.state === undefined) {
    throw new FormatError(
      version === undefined || version === VERSION
        ? "safetensors without a run's state"
        : `checkpoint of version ${quote(version)}`,
      { file, offset: 8, expected: `a checkpoint of version ${VERSION}, as saveCheckpoint writes` },
    );
  }
  const sum = stateChecksum(metadata.state, tensors);
  if (metadata[CHECKSUM_KEY] !== sum) {
    throw new FormatError(`checksum ${quote(metadata[CHECKSUM_KEY] ?? "missing")}`, {
      file,
      offset: 8,
      expected: `"${sum}" by the content: the file is damaged`,
    });
  }
  return restore(metadata.state, tensors, options);
}

/** CRC-32 of the state and of every array with its name, dtype and shape, as 8 hex digits. */
export function stateChecksum(state: string, arrays: Record<string, HostArray>): string {
  const encoder = new TextEncoder();
  let crc = crc32(encoder.encode(state));
  for (const name of Object.keys(arrays).sort()) {
    const { dtype, shape, data } = arrays[name]!;
    crc = crc32(encoder.encode(JSON.stringify([name, dtype, shape])), crc);
    crc = crc32(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), crc);
  }
  return crc.toString(16).padStart(8, "0");
}

/** Checks all of the state first and makes tensors last, so that a bad file leaves none behind. */
function restore(
  text: string,
  stored: Record<string, HostArray>,
  options: { file: string; tensor: (array: EngineArray) => unknown },
): unknown {
  const { file } = options;
  const made = new Map<string, unknown>();

  function part(name: string): HostArray {
    if (Object.hasOwn(stored, name)) return stored[name]!;
    throw new StateFault(`no tensor ${quote(name)}`);
  }

  function checkArray(name: string, type: ArrayType): undefined {
    const { dtype } = part(name);
    if (dtype !== ARRAY_TYPES[type]) throw new StateFault(`${type} ${quote(name)} as ${dtype}`);
  }

  try {
    // Objects with a `$` key take two more levels than they have.
    const { value } = parseStrictJson(text, 3 * MAX_STATE_DEPTH + 2);
    joinState(value, {
      tensor: (name) => void toEngine(part(name), { name, file }),
      array: checkArray,
    });
    return joinState(value, {
      tensor: (name) =>
        once(made, name, () => options.tensor(toEngine(part(name), { name, file }))),
      array: (name, type) => once(made, `${type} ${name}`, () => loadedArray(part(name), type)),
    });
  } catch (cause) {
    if (!(cause instanceof JsonFault || cause instanceof StateFault)) throw cause;
    throw new FormatError(`state with ${cause.message}`, {
      file,
      offset: 8,
      expected: "a state as saveCheckpoint writes",
      cause,
    });
  }
}

/** The value of `key`, made on first use. */
function once(made: Map<string, unknown>, key: string, make: () => unknown): unknown {
  if (!made.has(key)) made.set(key, make());
  return made.get(key);
}

function storedArray(value: StateArray): HostArray {
  const dtype = ARRAY_TYPES[value.constructor.name as ArrayType];
  const data = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return { dtype, shape: [value.length], data };
}

/** A typed array with memory of its own, so that it does not hold on to the file. */
function loadedArray({ data }: HostArray, type: ArrayType): StateArray {
  const copy = data.slice();
  return type === "Uint8ClampedArray" ? new Uint8ClampedArray(copy.buffer as ArrayBuffer) : copy;
}
