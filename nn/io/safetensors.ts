/** @file Tensors in safetensors files. */

import { given } from "../../engine/arguments.ts";
import { readAll, Tensor, tensor } from "../../engine/mod.ts";
import { FormatError } from "../format_error.ts";
import { type ByteTarget, contentFor, writeFileAtomic } from "./atomic.ts";
import type { HostArray } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { decodeSafetensors, safetensorsParts } from "./safetensors_format.ts";
import { type ByteSource, readSource } from "./source.ts";

/** How the engine's dtypes are stored. */
const STORED = { f32: "F32", f16: "F16", i32: "I32", u32: "U32", bool: "BOOL" } as const;

/**
 * Saves tensors by name to a safetensors file, in one step: an old file stays whole until the new one
 * is. f32, f16, i32, u32 and bool become F32, F16, I32, U32 and BOOL.
 *
 * @param path The file, whose folder must exist, or a `WritableStream`.
 * @param tensors The tensors, e.g. a module's `stateDict()`. They must not change until the promise
 * settles.
 * @param metadata Strings to keep in the file.
 * @throws {Error} If the file cannot be written.
 *
 * @example
 * ```ts
 * import { saveSafetensors } from "./safetensors.ts";
 * import { init, tensor } from "../../engine/mod.ts";
 *
 * await init();
 * await saveSafetensors("weights.safetensors", { weight: tensor([[1, 2], [3, 4]]) });
 * ```
 */
export async function saveSafetensors(
  path: ByteTarget,
  tensors: Record<string, Tensor>,
  metadata?: Record<string, string>,
): Promise<void> {
  const parts = await contentFor(path, async () => {
    const arrays = await toHost(namedTensors(tensors));
    return safetensorsParts(Object.fromEntries(arrays), metadata);
  });
  await writeFileAtomic(path, parts);
}

/**
 * Loads all tensors of a safetensors file. F32, F16, I32, U32 and BOOL keep their type. Others take the
 * nearest type of the engine: BF16 and F64 become f32 (F64 rounded to the nearest), I8, I16 and I64
 * become i32, U8, U16 and U64 become u32.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @returns The tensors by name.
 * @throws {FormatError} If the file breaks a rule of the format; if an integer of 64 bits does not fit
 * in 32 or a finite F64 is beyond f32; if a dtype has no tensor (C64, F8, F6, F4:
 * {@linkcode decodeSafetensors} gives their bytes).
 *
 * @example
 * ```ts
 * import { loadSafetensors } from "./safetensors.ts";
 *
 * const weights = await loadSafetensors("weights.safetensors");
 * weights["features.0.weight"]?.shape;
 * ```
 */
export async function loadSafetensors(source: ByteSource): Promise<Record<string, Tensor>> {
  const { bytes, file } = await readSource(source);
  const { tensors } = decodeSafetensors(bytes, { file });
  const converted = Object.entries(tensors).map(([name, array]): [string, EngineArray] => {
    return [name, toEngine(array, { name, file })];
  });
  return Object.fromEntries(converted.map(([name, array]) => [name, fromEngine(array)]));
}

/** The entries of what is to be saved: a map or a list has none. */
export function namedTensors(tensors: Readonly<Record<string, Tensor>>): [string, Tensor][] {
  if (tensors && !(tensors instanceof Map) && !(Symbol.iterator in Object(tensors))) {
    return Object.entries(tensors);
  }
  throw new TypeError(
    `Cannot save ${given(tensors)}: write tensors by name, as model.stateDict() gives them`,
  );
}

/** Elements read back in one wait, about: a wait takes 10 ms, and its copy this much GPU memory. */
const READ_ELEMENTS = 2 ** 26;

/** The elements of named tensors, as a file stores them. */
export async function toHost(
  tensors: Iterable<readonly [string, Tensor]>,
): Promise<[string, HostArray][]> {
  const arrays: [string, HostArray][] = [];
  let group: (readonly [string, Tensor])[] = [], elements = 0;

  async function readGroup(): Promise<void> {
    const data = await readAll(group.map(([, value]) => value));
    group.forEach(([name, { dtype, shape }], i) => {
      arrays.push([name, { dtype: STORED[dtype], shape, data: data[i]! }]);
    });
    group = [];
    elements = 0;
  }

  for (const entry of tensors) {
    if (!(entry[1] instanceof Tensor)) {
      throw new TypeError(
        `Cannot save ${entry[0]}, ${
          given(entry[1])
        }: it must be a tensor; a file has tensors by name, ` +
          "as model.stateDict() gives them",
      );
    }
    group.push(entry);
    elements += entry[1].size;
    if (elements >= READ_ELEMENTS) await readGroup();
  }
  if (group.length > 0) await readGroup();
  return arrays;
}

/** An array in one of the engine's dtypes. */
export interface EngineArray {
  /** Element type of the tensor to be. */
  dtype: keyof typeof STORED;
  /** Size of each dim. */
  shape: readonly number[];
  /** Elements; 0 or 1 for bool. */
  data: Float32Array | Float16Array | Int32Array | Uint32Array | Uint8Array;
}

/** Uploads an array. */
export function fromEngine({ dtype, shape, data }: EngineArray): Tensor {
  return tensor(data, { shape: shape.slice(), dtype });
}

/**
 * Converts an array from a file to a dtype of the engine, by the rules of {@linkcode loadSafetensors}.
 *
 * @throws {FormatError} If there is no such dtype or a value does not fit.
 */
export function toEngine(
  array: HostArray,
  options: { name: string; file: string },
): EngineArray {
  const { dtype, shape, data } = array;
  switch (dtype) {
    case "F32":
      return { dtype: "f32", shape, data: data as Float32Array };
    case "F16":
      return { dtype: "f16", shape, data: data as Float16Array };
    case "I32":
      return { dtype: "i32", shape, data: data as Int32Array };
    case "U32":
      return { dtype: "u32", shape, data: data as Uint32Array };
    case "BOOL":
      return { dtype: "bool", shape, data: data as Uint8Array };
    case "BF16":
      return { dtype: "f32", shape, data: widenBf16(data as Uint16Array) };
    case "F64":
      return { dtype: "f32", shape, data: narrow(array, Float32Array, options) };
    case "I8":
    case "I16":
    case "I64":
      return { dtype: "i32", shape, data: narrow(array, Int32Array, options) };
    case "U8":
    case "U16":
    case "U64":
      return { dtype: "u32", shape, data: narrow(array, Uint32Array, options) };
    default:
      throw unfit(`dtype ${dtype}`, "a dtype that tensors have or convert from", options);
  }
}

/** BF16 is the upper half of an f32. */
function widenBf16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (word) => word << 16).buffer);
}

/** Copies elements to a smaller type and checks that they are still what they were. */
function narrow<A extends Float32Array | Int32Array | Uint32Array>(
  { dtype, data }: HostArray,
  type: new (length: number) => A,
  options: { name: string; file: string },
): A {
  const result = new type(data.length);
  for (let i = 0; i < data.length; i++) {
    const value = Number(data[i]);
    result[i] = value;
    const fits = dtype === "F64"
      ? Number.isFinite(result[i]!) || !Number.isFinite(value)
      : result[i] === value;
    if (!fits) {
      const range = `values of ${dtype} that fit in ${type.name.replace("Array", "")}`;
      throw unfit(`value ${data[i]} at element ${i}`, range, options);
    }
  }
  return result;
}

function unfit(
  found: string,
  expected: string,
  { name, file }: { name: string; file: string },
): FormatError {
  return new FormatError(`tensor ${quote(name)} with ${found}`, { file, offset: 8, expected });
}
