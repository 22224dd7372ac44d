/** Checks of arguments that the types rule out, but plain JavaScript and habits from PyTorch do not. */

import { type DType, DTYPES } from "./dtype.ts";

/** `a, b or c`. */
function listed(words: readonly unknown[], last = "or"): string {
  return words.length < 2
    ? words.join("")
    : `${words.slice(0, -1).join(", ")} ${last} ${words[words.length - 1]}`;
}

/** What was given, as it stands in messages. */
export function given(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) {
    return value.length > 8 ? `a list of ${value.length}` : `[${value.map(given).join(", ")}]`;
  }
  if (isTensor(value)) return `a tensor [${value.shape.join(", ")}]`;
  const type = Object.getPrototypeOf(value)?.constructor ?? Object;
  if (type !== Object) return `${/^[AEIOU]/.test(type.name) ? "an" : "a"} ${type.name}`;
  const names = Object.keys(value);
  const listing = names.length > 8 ? `${names.length} names` : listed(names, "and");
  return `an object with ${listing || "nothing"}`;
}

/** Whether it is a tensor, for files that tensors import. */
export function isTensor(value: unknown): value is { shape: readonly number[] } {
  return typeof value === "object" && value !== null && "backward" in value && "shape" in value;
}

/**
 * Checks options that are one of a few words.
 *
 * @param what what cannot be done otherwise, such as the name of the function
 * @param options the options by name; one that is undefined has its default
 * @throws {TypeError} if one is another word
 */
export function checkOneOf(
  what: string,
  options: Readonly<Record<string, unknown>>,
  allowed: readonly unknown[],
): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || allowed.includes(value)) continue;
    throw new TypeError(
      `Cannot ${what} with ${name} ${given(value)}: it must be ${listed(allowed)}`,
    );
  }
}

/**
 * Checks whole numbers, and lists of them.
 *
 * @param what what cannot be done otherwise, such as the name of the function
 * @param numbers the numbers by name
 * @throws {RangeError} if one is not whole, or below `least`
 */
export function checkWhole(
  what: string,
  numbers: Readonly<Record<string, unknown>>,
  least = -Infinity,
): void {
  const fits = (n: unknown) => Number.isInteger(n) && (n as number) >= least;
  for (const name in numbers) {
    const value = numbers[name];
    if (Array.isArray(value) ? value.every(fits) : fits(value)) continue;
    throw new RangeError(
      `Cannot ${what} with ${name} ${given(value)}: it must be ` +
        (Array.isArray(value) ? "whole numbers" : "a whole number") +
        (least === -Infinity ? "" : ` of at least ${least}`),
    );
  }
}

/**
 * Checks numbers that are neither infinite nor NaN.
 *
 * @param what what cannot be done otherwise, such as the name of the function
 * @throws {RangeError} if one is something else, as where it was left out
 */
export function checkFinite(what: string, numbers: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (Number.isFinite(value)) continue;
    throw new RangeError(
      `Cannot ${what} with ${name} ${given(value)}: it must be a finite number`,
    );
  }
}

/**
 * Checks sizes that are a number for both dimensions or [height, width].
 *
 * @throws {TypeError} if one is neither
 */
export function checkPair(
  what: string,
  sizes: Readonly<Record<string, unknown>>,
  example?: string,
): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (typeof size === "number" || (Array.isArray(size) && size.length === 2)) continue;
    throw new TypeError(
      `Cannot ${what} with ${name} ${given(size)}: it must be a number or [height, width]` +
        (example ? `, as in ${example}` : ""),
    );
  }
}

/**
 * A padding without `valid`, PyTorch's word for none.
 *
 * @throws {TypeError} if it is another word than that and `same`
 */
export function noneIfValid<T>(name: string, padding: T | "valid"): T | 0 {
  if (typeof padding === "string") checkOneOf(name, { padding }, ["same", "valid"]);
  return padding === "valid" ? 0 : padding;
}

/**
 * Checks the name of a dtype.
 *
 * @throws {TypeError} if there is none of that name
 */
export function checkDtype(what: string, dtype: DType): void {
  if (Object.hasOwn(DTYPES, dtype)) return;
  checkOneOf(what, { dtype: dtype ?? null }, ["f32", "f16", "i32", "u32", "bool"]);
}

/**
 * Checks that options are an object with names, not PyTorch's next argument, and written as here.
 *
 * @param right how the call is written
 * @param names the names there are; by default all that are not in snake_case
 * @returns the options
 * @throws {TypeError} if they are a number, a list, a tensor or nothing, or one is unknown
 */
export function checkOptions<T>(
  what: string,
  options: T,
  right: string,
  names?: readonly string[],
): T {
  if (
    typeof options !== "object" || options === null || Array.isArray(options) || isTensor(options)
  ) {
    throw new TypeError(`Cannot ${what} with options ${given(options)}: write ${right}`);
  }
  for (const name in options) {
    const right = names ? names.includes(name) : !/^[A-Za-z][A-Za-z0-9]*_/.test(name);
    if (right || options[name] === undefined) continue;
    const camel = name.replace(/_+([a-z0-9])/g, (_, letter) => letter.toUpperCase())
      .replace(/^[A-Z]/, (letter) => letter.toLowerCase());
    const known = camel !== name && (!names || names.includes(camel));
    throw new TypeError(
      `Cannot ${what} with ${name}: ` +
        (known ? `it is ${camel}` : `it takes ${listed(names ?? [], "and")}`),
    );
  }
  return options;
}

/**
 * Checks options of walks over the graph.
 *
 * @throws {TypeError} as {@linkcode checkOptions}, or if gradients are to be on the tape
 */
export function checkWalk(
  what: string,
  options: unknown,
  right: string,
  names: readonly string[],
): void {
  if (
    typeof options === "object" && options !== null && !names.includes("createGraph") &&
    ("createGraph" in options || "create_graph" in options)
  ) {
    throw new TypeError(
      `Cannot ${what} with createGraph: write grad(y, x, { createGraph: true }), which returns the gradients`,
    );
  }
  checkOptions(what, options, right, names);
}

/**
 * Checks what a reduction takes: dimensions first, then options.
 *
 * @throws {TypeError} if the dimensions are options, or the options are none
 */
export function checkReduction(name: string, dim: unknown, options: unknown): void {
  const right = `x.${name}(0, { keepdim: true })`;
  const list = Array.isArray(dim) || ArrayBuffer.isView(dim);
  if (dim !== undefined && typeof dim !== "number" && !list) {
    throw new TypeError(`Cannot ${name} along ${given(dim)}: write ${right}`);
  }
  if (options !== undefined) checkOptions(name, options, right, ["keepdim"]);
}

/**
 * Checks the other operand of an op.
 *
 * @throws {TypeError} if it is neither a tensor nor a number
 */
export function checkOperand(name: string, value: unknown): void {
  if (typeof value === "object" && value !== null && "device" in value) return;
  throw notTensor(name, value, "a tensor or a number");
}

/** The error of an op that is given something else. */
export function notTensor(name: string, value: unknown, right = "a tensor"): TypeError {
  const list = Array.isArray(value) ? ", so write tensor([…])" : "";
  return new TypeError(`Cannot ${name} with ${given(value)}: it must be ${right}${list}`);
}

/**
 * Checks that a shape is a list of sizes.
 *
 * @throws {TypeError} if it is a number, as the first of several, or a tensor
 */
export function checkShape(what: string, shape: unknown): void {
  if (typeof shape === "object" && shape !== null && "length" in shape) return;
  throw new TypeError(`Cannot ${what} of shape ${given(shape)}: it must be a list, as in [2, 3]`);
}
