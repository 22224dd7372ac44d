/** An adapter that passes for a GPU. */

import { gpu } from "../../engine/gpu/device.ts";

/** Runs `fn` as if the adapter were no software, where many parameters share a dispatch. */
export function asHardware<T>(fn: () => T): T {
  const info = gpu().info as { software: boolean };
  const before = info.software;
  info.software = false;
  try {
    return fn();
  } finally {
    info.software = before;
  }
}
