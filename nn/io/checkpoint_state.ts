/**
 * @file A nested state as JSON with its large parts by name.
 *
 * JSON holds what it can: null, booleans, strings, finite numbers, arrays and plain objects. The rest
 * is an object with one `$` key:
 * - `{"$number": "NaN"}`, also `Infinity`, `-Infinity`, `-0`
 * - `{"$tensor": NAME}` and `{"$array": NAME, "type": "Float64Array"}`: the elements are kept under NAME
 * - `{"$object": [[KEY, VALUE], ...]}`: an object with a key that starts with `$`
 */

import type { HostDtype } from "./host_array.ts";
import { quote } from "./json_scan.ts";

/** Arrays and objects inside each other that a state may have. */
export const MAX_STATE_DEPTH = 200;

/** Typed arrays a state may hold, and the dtype each is stored in. */
export const ARRAY_TYPES = {
  Float64Array: "F64",
  Float32Array: "F32",
  Float16Array: "F16",
  BigInt64Array: "I64",
  BigUint64Array: "U64",
  Int32Array: "I32",
  Uint32Array: "U32",
  Int16Array: "I16",
  Uint16Array: "U16",
  Int8Array: "I8",
  Uint8Array: "U8",
  Uint8ClampedArray: "U8",
} as const satisfies Record<string, HostDtype>;

/** Name of a typed array's class. */
export type ArrayType = keyof typeof ARRAY_TYPES;

/** Any of those typed arrays. */
export type StateArray =
  | Float64Array
  | Float32Array
  | Float16Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray;

/** Numbers that JSON cannot write, by their text. */
const SPECIAL_NUMBERS: Record<string, number> = { NaN, Infinity, "-Infinity": -Infinity, "-0": -0 };

/** A state in JSON and its large parts. */
export interface SplitState<T> {
  /** What `JSON.stringify` takes. */
  json: unknown;
  /** Tensors by the name they are kept under. */
  tensors: Map<string, T>;
  /** Typed arrays by the name they are kept under. */
  arrays: Map<string, StateArray>;
}

/**
 * Takes tensors and typed arrays out of a state. Each is named by its dotted path; a part that occurs
 * twice is kept once, and paths that read the same get `~2`, `~3` and so on.
 *
 * @param state The state.
 * @param isTensor Tells tensors.
 * @throws {TypeError} If the state holds something else than plain data, or holds itself.
 * @throws {RangeError} If it is nested too deep.
 */
export function splitState<T extends object>(
  state: unknown,
  isTensor: (value: object) => value is T,
): SplitState<T> {
  const tensors = new Map<string, T>(), arrays = new Map<string, StateArray>();
  const names = new Map<object, string>();
  const open = new Set<object>();

  /** The name of a part, new or given before. */
  function nameOf(part: object, path: readonly string[]): string {
    const known = names.get(part);
    if (known !== undefined) return known;
    const base = path.join(".") || "state";
    let name = base;
    for (let n = 2; tensors.has(name) || arrays.has(name) || name === "__metadata__"; n++) {
      name = `${base}~${n}`;
    }
    names.set(part, name);
    return name;
  }

  function refuse(path: readonly string[], found: string): TypeError {
    return new TypeError(
      `Cannot save state${path.length ? ` at ${quote(path.join("."))}` : ""}: it is ${found}, ` +
        `not a tensor, typed array, number, string, boolean, null, list or plain object`,
    );
  }

  function visit(value: unknown, path: readonly string[]): unknown {
    if (value === null || typeof value === "boolean" || typeof value === "string") return value;
    if (typeof value === "number") {
      const plain = Number.isFinite(value) && !Object.is(value, -0);
      return plain ? value : { $number: Object.is(value, -0) ? "-0" : String(value) };
    }
    if (typeof value !== "object") throw refuse(path, typeof value);
    if (isTensor(value)) {
      const name = nameOf(value, path);
      tensors.set(name, value);
      return { $tensor: name };
    }
    const type = value.constructor?.name;
    if (ArrayBuffer.isView(value)) {
      if (!Object.hasOwn(ARRAY_TYPES, type)) throw refuse(path, `a ${type}`);
      const name = nameOf(value, path);
      arrays.set(name, value as StateArray);
      return { $array: name, type };
    }
    if (open.has(value)) throw refuse(path, "a part of itself");
    if (open.size === MAX_STATE_DEPTH) {
      throw new RangeError(
        `Cannot save state at ${
          quote(path.join("."))
        }: it is nested beyond ${MAX_STATE_DEPTH} levels`,
      );
    }
    open.add(value);
    const result = visitContainer(value, path);
    open.delete(value);
    return result;
  }

  function visitContainer(value: object, path: readonly string[]): unknown {
    if (Array.isArray(value)) {
      return Array.from(value, (entry, index) => visit(entry, [...path, String(index)]));
    }
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) {
      throw refuse(path, `a ${value.constructor?.name ?? "class instance"}`);
    }
    const entries = Object.entries(value).map(([key, entry]): [string, unknown] => {
      return [key, visit(entry, [...path, key])];
    });
    const tagged = entries.some(([key]) => key.startsWith("$"));
    return tagged ? { $object: entries } : Object.fromEntries(entries);
  }

  return { json: visit(state, []), tensors, arrays };
}

/** Gives back the large parts of a state by name. */
export interface StateParts {
  /** The tensor kept under `name`. */
  tensor(name: string): unknown;
  /** The typed array kept under `name`. */
  array(name: string, type: ArrayType): unknown;
}

/** A state in JSON is not what {@linkcode splitState} makes. */
export class StateFault extends Error {
  override name = "StateFault";
}

/**
 * Puts a state together again.
 *
 * @param json What `JSON.parse` gave.
 * @param parts Gives the large parts; called once for each place a part occurs in.
 * @throws {StateFault} If `json` is not such a state.
 */
export function joinState(json: unknown, parts: StateParts): unknown {
  if (typeof json !== "object" || json === null) return json;
  if (Array.isArray(json)) return json.map((entry) => joinState(entry, parts));
  const entries = Object.entries(json);
  if (!entries.some(([key]) => key.startsWith("$"))) {
    return Object.fromEntries(entries.map(([key, entry]) => [key, joinState(entry, parts)]));
  }
  const { $number, $tensor, $array, type, $object } = json as Record<string, unknown>;
  if (typeof $number === "string" && Object.hasOwn(SPECIAL_NUMBERS, $number)) {
    return SPECIAL_NUMBERS[$number];
  }
  if (typeof $tensor === "string") return parts.tensor($tensor);
  if (typeof $array === "string" && Object.hasOwn(ARRAY_TYPES, String(type))) {
    return parts.array($array, type as ArrayType);
  }
  if (Array.isArray($object) && $object.every(isPair)) {
    return Object.fromEntries($object.map(([key, entry]) => [key, joinState(entry, parts)]));
  }
  throw new StateFault(`unknown entry ${quote(JSON.stringify(json))}`);
}

function isPair(value: unknown): value is [string, unknown] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === "string";
}
