/** Reading results back: one wait for any number of tensors. */

import { inArena, operand } from "./array.ts";
import { failedChecks } from "./check.ts";
import { DTYPES, hostView, type TypedArray } from "./dtype.ts";
import { gpu } from "./gpu/device.ts";
import { indexWindows, throwBadIndex } from "./index_flags.ts";
import type { MemoryInfo } from "./gpu/pool.ts";
import { contiguous } from "./ops/launch_pointwise.ts";
import type { TensorBase } from "./tensor_base.ts";

/** Nested arrays of numbers, as `array()` gives and `tensor()` takes them. */
export type Nested = number | boolean | readonly Nested[];

/**
 * The elements of several tensors, in one wait for the GPU (in Deno at least 10 ms).
 *
 * @throws {GpuError} if any work so far failed on the GPU
 * @throws {RangeError} if an indexing op met an index out of range since the last read
 * @throws {CheckError} if `LATHE_CHECK` found a difference or a NaN
 */
export async function readAll(tensors: readonly TensorBase[]): Promise<TypedArray[]> {
  const arrays = tensors.map((t) => inArena(() => contiguous(t.device)));
  try {
    const windows = arrays.map((a) => {
      const first = a.offset * DTYPES[a.dtype].bytes;
      const { binding } = operand(a);
      return { ...binding, byteEnd: first + a.bytes, skip: first - binding.byteOffset };
    });
    const { queue } = gpu();
    const flags = indexWindows();
    const parts = await firstError(() => queue.read([...windows, ...flags]));
    if (flags.length > 0) throwBadIndex(parts.pop()!);
    await failedChecks();
    return parts.map((bytes, i) => {
      const { skip } = windows[i]!;
      return hostView(arrays[i]!.dtype, skip ? bytes.slice(skip) : bytes, arrays[i]!.size);
    });
  } finally {
    for (const a of arrays) a.release();
  }
}

/** Elements of a flat array as nested arrays of `shape`. */
export function nest(flat: TypedArray, shape: readonly number[], bool: boolean): Nested {
  let next = 0;
  const level = (d: number): Nested => {
    if (d === shape.length) {
      const value = Number(flat[next++]);
      return bool ? value !== 0 : value;
    }
    return Array.from({ length: shape[d]! }, () => level(d + 1));
  };
  return level(0);
}

/**
 * Waits until the GPU has done all recorded work, and throws the first error of it.
 *
 * @throws {GpuError} if any work so far failed on the GPU
 * @throws {RangeError} if an indexing op met an index out of range since the last read
 */
export async function synchronize(): Promise<void> {
  const { queue } = gpu();
  const flags = indexWindows();
  if (flags.length === 0) await firstError(() => queue.synchronize());
  else throwBadIndex((await firstError(() => queue.read(flags)))[0]!);
  await failedChecks();
}

/**
 * Waits for `work`. An error that the device reported outside of a batch comes first: a buffer that
 * could not be had makes the batch fail that binds it.
 */
async function firstError<T>(work: () => Promise<T>): Promise<T> {
  const owner = gpu();
  let result: T;
  try {
    result = await work();
  } catch (error) {
    // Such an error arrives as an event, so after the batch's own.
    await new Promise((resolve) => setTimeout(resolve, 0));
    owner.throwIfFailed();
    throw error;
  }
  owner.throwIfFailed();
  return result;
}

/** GPU memory the engine holds: bytes in use, kept for reuse, at the peak, and buffers in use. */
export function memory(): MemoryInfo {
  return gpu().pool.info();
}
