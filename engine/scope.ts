/**
 * Ends of lifetimes: what is made inside a scope is freed when it ends.
 *
 * A scope frees by counting, not by reachability: a tensor survives if it is in the scope's result
 * (in arrays and plain objects, too), was kept with `keep`, or was made outside.
 */

import { gpu } from "./gpu/device.ts";

/** What a scope can free. */
export interface Scoped {
  dispose(): void;
  /** Told when no scope will free it: from now on it lives until it is disposed. */
  unscoped?(): void;
  /** Gives up what it owns and is to live on, as its gradient; returns that. */
  disown?(livesOn: (owned: Scoped) => boolean): Scoped | null;
}

interface Level {
  readonly values: Set<Scoped>;
  readonly outer: Level | null;
}

let open: Level | null = null;
/** What `keep` was called for. */
const kept = new WeakSet<Scoped>();

/** Adds a new value to the innermost open scope. */
export function enterScope(value: Scoped): void {
  enter(value, open);
}

function enter(value: Scoped, level: Level | null): void {
  if (level) level.values.add(value);
  else value.unscoped?.();
}

/** Lets a tensor outlive every open scope: it lives until it is disposed. Returns it. */
export function keep<T extends Scoped>(value: T): T {
  kept.add(value);
  return leaveScopes(value);
}

/** Takes a value out of every open scope: something that is not scoped owns it. Returns it. */
export function leaveScopes<T extends Scoped>(value: T): T {
  for (let level = open; level; level = level.outer) level.values.delete(value);
  value.unscoped?.();
  return value;
}

/**
 * Runs `fn` and frees every tensor made inside but those it returns or keeps. The outermost scope
 * also submits the work recorded in it, so that a training step is one pass and one submit.
 *
 * @throws {TypeError} if `fn` is async: read results after the scope
 *
 * @example
 * ```ts
 * import { init, memory, scope, tensor } from "../mod.ts";
 * await init();
 * const x = tensor([3, 4]);
 * const length = scope(() => x.square().sum().sqrt());
 * console.log(await length.item()); // 5
 * ```
 */
export function scope<T>(fn: () => T): T {
  const outer = open;
  try {
    return tidy(fn);
  } finally {
    if (!outer) gpu().queue.flush();
  }
}

/** As {@linkcode scope}, but never submits: for parts of the library that free what they made on the way. */
export function tidy<T>(fn: () => T): T {
  const outer = open;
  const mine = new Set<Scoped>();
  open = { values: mine, outer };
  const returned = new Set<Scoped>();
  let result: T;
  try {
    result = fn();
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new TypeError(
        "Cannot scope an async function: its tensors would be freed at the first await; " +
          "return tensors from the scope and read them after it",
      );
    }
    findScoped(result, returned);
    for (const value of returned) if (mine.delete(value)) enter(value, outer);
  } finally {
    open = outer;
    for (const value of mine) {
      const owned = value.disown?.((v) => returned.has(v) || kept.has(v));
      if (owned && !kept.has(owned)) outer?.values.add(owned);
      value.dispose();
    }
  }
  return result;
}

/** Adds every scoped value inside `value` to `found`: itself, in arrays, in plain objects and in maps. */
function findScoped(value: unknown, found: Set<Scoped>, seen?: Set<unknown>): void {
  if (typeof value !== "object" || value === null || seen?.has(value)) return;
  if ("dispose" in value && typeof value.dispose === "function") {
    found.add(value as Scoped);
    return;
  }
  if (ArrayBuffer.isView(value)) return;
  const listed = Array.isArray(value) || value instanceof Map || value instanceof Set;
  const passed = (seen ?? new Set()).add(value);
  for (const item of listed ? value : Object.values(value)) findScoped(item, found, passed);
}
