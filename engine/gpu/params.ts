/** The numbers of a launch as its kernel reads them. */

import type { Launch } from "./queue.ts";

/**
 * Writes the value of a launch's param `i`.
 *
 * @throws {Error} if the launch has none
 * @throws {RangeError} if an integer has no room for it
 */
export function writeParam(
  view: DataView,
  at: number,
  { kernel, params }: Launch,
  i: number,
): void {
  const { name, type } = kernel.params[i]!;
  const value = params[name];
  if (value === undefined) {
    throw new Error(`Kernel ${kernel.name} needs a value for its param ${name}`);
  }
  if (type === "f32") view.setFloat32(at, value, true);
  else {
    // A size of 2^32 would wrap to 0 and the kernel leave its work undone.
    if (value !== (value | 0) && value !== value >>> 0) {
      throw new RangeError(
        `Cannot run ${kernel.name} with ${name} ${value}: it must be a whole number of 32 bits`,
      );
    }
    view.setUint32(at, value, true);
  }
}

/** The params of a launch as the kernel reads them. */
export function uniformsOf(run: Launch): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(Math.max(4 * run.kernel.params.length, 4)));
  for (let i = 0; i < run.kernel.params.length; i++) writeParam(view, 4 * i, run, i);
  return view.buffer;
}
