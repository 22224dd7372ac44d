import { assert } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import { memory } from "../../mod.ts";

/**
 * Fails if more bytes are live on the GPU than `before`. Fewer is right: tensors that an earlier test of
 * the same process dropped without `dispose()` may be collected at any `await` in between.
 */
export function assertNothingLeft(before: number, message = ""): void {
  const { liveBytes } = memory();
  assert(
    liveBytes <= before,
    `${message} ${liveBytes} bytes are live, ${before} were before`.trim(),
  );
}

/** Most bytes that were live while `fn` ran, beyond those before. */
export function peakOf(fn: () => void): number {
  gpu().pool.resetPeak();
  const { liveBytes } = memory();
  fn();
  return memory().peakBytes - liveBytes;
}
