/** Per-kernel times of a stretch of work. */

import { gpu } from "./gpu/device.ts";
import { type KernelTime, Profiler } from "./gpu/profiler.ts";

export type { KernelTime } from "./gpu/profiler.ts";

/**
 * Runs `fn` and gives the time each kernel took on the GPU, the slowest first. Each dispatch gets a
 * pass of its own while it is profiled.
 *
 * @throws {GpuError} if the adapter has no timestamp queries
 *
 * @example
 * ```ts
 * import { init, profile, randn } from "../mod.ts";
 * await init();
 * const x = randn([64, 64]);
 * for (const k of await profile(() => void x.matmul(x).relu())) console.log(k.name, k.ms);
 * ```
 */
export async function profile(fn: () => void | Promise<void>): Promise<KernelTime[]> {
  const { queue, device } = gpu();
  await queue.synchronize();
  const profiler = new Profiler(device);
  queue.profiler = profiler;
  try {
    await fn();
    await queue.synchronize();
  } finally {
    queue.profiler = null;
  }
  return await profiler.finish();
}
