/** @file What happens around every module's forward: names for `LATHE_CHECK` and `profile`, and watchers. */

import { inModule, tracksModules } from "../engine/check.ts";
import type { Module } from "./module.ts";

/** A module's forward, whatever it takes and gives. */
export type Forward = (...inputs: unknown[]) => unknown;

/** Told of every module whose forward has ended, with what it returned. */
export type ForwardWatcher = (module: Module, output: unknown) => void;

/** Modules whose forward is running, outermost first; empty while nobody asks. */
const running: Module[] = [];
let watcher: ForwardWatcher | null = null;

/** Runs `fn` and tells `watch` of every forward that ends inside. */
export function watchForward<T>(watch: ForwardWatcher, fn: () => T): T {
  const outer = watcher;
  watcher = watch;
  try {
    return fn();
  } finally {
    watcher = outer;
  }
}

/** True while somebody is told of every forward. */
export function isWatched(): boolean {
  return watcher !== null;
}

/** The forwards that {@linkcode wrapForward} made. */
const wrapped = new WeakSet<Forward>();

/** A module's own forward, which runs `forward` through {@linkcode runForward}. */
export function wrapForward(module: Module, forward: Forward): Forward {
  const own: Forward = (...inputs) => runForward(module, forward, inputs);
  wrapped.add(own);
  return own;
}

/** True unless the module's forward was replaced by another function. */
export function passesThrough(module: Module): boolean {
  return wrapped.has(module.forward as Forward);
}

/** Runs a module's forward, under its name where a check or a profile asks for it. */
function runForward(module: Module, forward: Forward, inputs: unknown[]): unknown {
  const output = tracksModules()
    ? inModule(nameOf(module), () => runInside(module, forward, inputs))
    : forward.apply(module, inputs);
  watcher?.(module, output);
  return output;
}

function runInside(module: Module, forward: Forward, inputs: unknown[]): unknown {
  running.push(module);
  try {
    return forward.apply(module, inputs);
  } finally {
    running.pop();
  }
}

/** Path of a module seen from the one that runs around it; the class name where there is none. */
function nameOf(module: Module): string {
  const path = running.at(-1)?.namedModules().find(([, inside]) => inside === module)?.[0];
  return path || module.constructor.name;
}
