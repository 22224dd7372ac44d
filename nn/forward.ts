/**
 * @file What happens around every module's forward: names for `LATHE_CHECK` and `profile`, watchers, and the
 * freeing of what a module of the library made on the way.
 */

import { recordingNow } from "../engine/capture.ts";
import { inModule, tracksModules } from "../engine/check.ts";
import { dependsOnFields } from "../engine/fields.ts";
import { tidy } from "../engine/scope.ts";
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

const modules = new WeakSet<object>();
/** The forwards that {@linkcode wrapForward} made. */
const wrapped = new WeakSet<Forward>();

/** A module's own forward, which runs `forward` through {@linkcode runForward}. */
export function wrapForward(module: Module, forward: Forward): Forward {
  modules.add(module);
  const own: Forward = (...inputs) => runForward(module, forward, inputs);
  wrapped.add(own);
  return own;
}

/** True unless the module's forward was replaced by another function. */
export function passesThrough(module: Module): boolean {
  return wrapped.has(module.forward as Forward);
}

/** Classes whose forward leaves nothing behind that anybody could ask for but its result. */
const tidyClasses = new WeakSet<object>();
/** True while a module runs that frees what it makes on the way. */
let tidying = false;

/**
 * Says that classes keep no tensor of a forward but what they return. They free the others at once, where a
 * user's module leaves them to the scope around it. It does not hold for subclasses, for a module with a
 * method that was replaced, and for what has such a module inside.
 */
export function freeOnTheWay(classes: Iterable<object>): void {
  for (const one of classes) tidyClasses.add(one);
}

/** True inside the forward of a module that frees what it makes on the way. */
export function freesOnTheWay(): boolean {
  return tidying;
}

/** Whether neither the module nor one inside it could hold on to a tensor of its forward. */
function isTidy(module: Module, seen = new Set<unknown>()): boolean {
  if (seen.has(module)) return true;
  seen.add(module);
  return tidyClasses.has(module.constructor) && passesThrough(module) &&
    Object.values(module).every((value) =>
      isModule(value)
        ? isTidy(value, seen)
        : typeof value !== "function" && !(Array.isArray(value) && value.some(isModule))
    );
}

function isModule(value: unknown): value is Module {
  return typeof value === "object" && value !== null && modules.has(value);
}

/** Runs a module's forward, under its name where a check or a profile asks for it. */
function runForward(module: Module, forward: Forward, inputs: unknown[]): unknown {
  if (recordingNow()) dependsOnModule(module);
  const output = watcher === null && (tidying || isTidy(module))
    ? runTidily(module, forward, inputs)
    : runNamed(module, forward, inputs);
  watcher?.(module, output);
  return output;
}

/** What a step does depends on the fields of the modules that run, and on those of the lists in them. */
function dependsOnModule(module: Module): void {
  dependsOnFields(module);
  for (const value of Object.values(module)) {
    if (isModule(value) && value.isContainer()) dependsOnFields(value);
  }
}

function runTidily(module: Module, forward: Forward, inputs: unknown[]): unknown {
  const before = tidying;
  tidying = true;
  try {
    return tidy(() => runNamed(module, forward, inputs));
  } finally {
    tidying = before;
  }
}

function runNamed(module: Module, forward: Forward, inputs: unknown[]): unknown {
  return tracksModules()
    ? inModule(nameOf(module), () => runInside(module, forward, inputs))
    : forward.apply(module, inputs);
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
