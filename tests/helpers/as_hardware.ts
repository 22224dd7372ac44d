/** An adapter that passes for a GPU. */

import { gpu } from "../../engine/gpu/device.ts";

/** Runs `fn` as if the adapter were no software, where many parameters share a dispatch. */
export function asHardware<T>(fn: () => T): T {
  return under(false, fn);
}

/** Runs `fn` as if the adapter were software, which it is but for tests on a GPU. */
export function asSoftware<T>(fn: () => T): T {
  return under(true, fn);
}

function under<T>(software: boolean, fn: () => T): T {
  const info = gpu().info as { software: boolean };
  const before = info.software;
  info.software = software;
  try {
    return fn();
  } finally {
    info.software = before;
  }
}
