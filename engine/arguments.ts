/** Checks of arguments that the types rule out, but plain JavaScript and habits from PyTorch do not. */

import { type DType, DTYPES } from "./dtype.ts";

/** `a, b or c`. */
function listed(words: readonly unknown[], last = "or"): string {
  return words.length < 2
    ? words.join("")
    : `${words.slice(0, -1).join(", ")} ${last} ${words[words.length - 1]}`;
}

/** What was given, as it stands in messages. */
function given(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(given).join(", ")}]`;
  if (isTensor(value)) return `a tensor [${value.shape.join(", ")}]`;
  return typeof value === "object" && value !== null
    ? `an object with ${listed(Object.keys(value), "and") || "nothing"}`
    : String(value);
}

function isTensor(value: unknown): value is { shape: readonly number[] } {
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
  for (const [name, value] of Object.entries(numbers)) {
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (list.every((n) => Number.isInteger(n) && (n as number) >= least)) continue;
    throw new RangeError(
      `Cannot ${what} with ${name} ${given(value)}: it must be ` +
        (Array.isArray(value) ? "whole numbers" : "a whole number") +
        (least === -Infinity ? "" : ` of at least ${least}`),
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
 * Checks that options are an object with names, not PyTorch's next argument.
 *
 * @param right how the call is written
 * @throws {TypeError} if they are a number, a list, a tensor or nothing
 */
export function checkOptions(what: string, options: unknown, right: string): void {
  const object = typeof options === "object" && options !== null && !Array.isArray(options);
  if (object && !isTensor(options)) return;
  throw new TypeError(`Cannot ${what} with options ${given(options)}: write ${right}`);
}
