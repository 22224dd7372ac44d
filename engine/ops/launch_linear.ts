/** Runs a one-dimensional kernel on arrays that bind as they lie. */

import { type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";

/** Records `kernel` over `threads` threads; none are recorded for 0. */
export function launchLinear(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  run: {
    params: Readonly<Record<string, number>>;
    threads: number;
    /** For the profiler; default 0. */
    flops?: number;
    /** For the profiler; default the size of all arrays. */
    bytes?: number;
  },
): void {
  if (run.threads === 0) return;
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: run.params,
    grid: linearGrid(run.threads, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: run.flops ?? 0, bytes: run.bytes ?? arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}
