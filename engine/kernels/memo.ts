/**
 * Kernels kept by the parameters they are built of, so that their text is made and hashed once a variant
 * instead of once a dispatch. Parameters hold what is in the text, and so no sizes: there are few variants.
 */

import type { Kernel } from "./kernel.ts";

/**
 * `build` with its results kept by parameters, which must be plain data. Their values are followed one by one:
 * to make a text of them all takes longer.
 */
export function memoized<P extends unknown[]>(
  build: (...params: P) => Kernel,
): (...params: P) => Kernel {
  const known = new Known();
  return (...params) => {
    if (anew) return build(...params);
    const at = along(known, params);
    return at.made ??= built(build, params);
  };
}

let anew = false;

/** Makes every kernel inside `fn` be built anew, for tests. */
export function builtAnew<T>(fn: () => T): T {
  const before = anew;
  anew = true;
  try {
    return fn();
  } finally {
    anew = before;
  }
}

/** Refuses an array in place of its dtype, which would be kept with its sizes. */
function built<P extends unknown[]>(build: (...params: P) => Kernel, params: P): Kernel {
  const made = build(...params);
  if (params.every(isPlain)) return made;
  throw new TypeError(`Internal: ${made.name} is built of more than plain data`);
}

function isPlain(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return typeof value !== "function";
  const plain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
  return plain && Object.values(value).every(isPlain);
}

/** What a memo keeps under the values so far, and where the next one leads. */
class Known {
  made: Kernel | undefined;
  /** The value met last: mostly it is the only one. */
  #last: unknown;
  #led: Known | undefined;
  readonly #next = new Map<unknown, Known>();

  /** Where a value without parts leads. */
  step(value: unknown): Known {
    if (value === this.#last && this.#led) return this.#led;
    let known = this.#next.get(value);
    if (!known) this.#next.set(value, known = new Known());
    this.#last = value;
    return this.#led = known;
  }
}

const [ARRAY, OBJECT, END] = [Symbol("array"), Symbol("object"), Symbol("end")];

/** Where a value leads, values inside one by one. Absent fields are passed over. */
function along(from: Known, value: unknown): Known {
  if (typeof value !== "object" || value === null) return from.step(value);
  let at = from.step(Array.isArray(value) ? ARRAY : OBJECT);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) at = along(at, value[i]);
  } else {
    for (const name in value) {
      const inside = (value as Readonly<Record<string, unknown>>)[name];
      if (inside !== undefined) at = along(at.step(name), inside);
    }
  }
  return at.step(END);
}
