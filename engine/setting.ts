/**
 * Settings that decide what a step does and may be changed between its calls, such as a module's mode. What a
 * captured step asks for is part of what its graph depends on.
 */

import { openGpu } from "./gpu/device.ts";

let changes = 0;

/** How often a setting has changed: while the number is the same, all of them are. */
export function settingChanges(): number {
  return changes;
}

/** Says that a setting is about to be set. `differs` tells whether to something else. */
export function settingSet(owner: object, differs: boolean): void {
  openGpu()?.queue.recorder?.settingSet(owner);
  if (differs) changes++;
}

/** A setting. It refers to nothing but its value, so that a graph may hold it. */
export class Setting<T> {
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  /** What it is. */
  get value(): T {
    openGpu()?.queue.recorder?.settingAsked(this, () => this.#value);
    return this.#value;
  }
  /** Sets it. */
  set value(value: T) {
    settingSet(this, value !== this.#value);
    this.#value = value;
  }
}
