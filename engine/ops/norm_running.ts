/** The running mean and variance of batch normalisation, moved in place on the GPU. */

import { bindsPlain, type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { runningKernel } from "../kernels/norm.ts";
import { type PointwiseArgument, pointwiseInto } from "./launch_pointwise.ts";

/** What a batch normalisation keeps between steps. */
export interface Running {
  readonly mean: DeviceArray;
  readonly variance: DeviceArray;
  /** Number of batches so far, i32. */
  readonly batches?: DeviceArray;
}

/**
 * running += share · (batch - running), where the variance is made unbiased by count / (count - 1)
 * and the share is `momentum`, or 1 / batches where that is null. The number of batches is raised.
 */
export function updateRunning(
  running: Running,
  batch: { mean: DeviceArray; variance: DeviceArray },
  { momentum, count }: { momentum: number | null; count: number },
): void {
  const unbiased = count / (count - 1);
  const moved = [running.mean, running.variance, ...(running.batches ? [running.batches] : [])];
  const apart = new Set(moved.map((a) => a.storage)).size === moved.length;
  const plain = moved.every((a, i) => bindsPlain(a) && a.dtype === (i < 2 ? "f32" : "i32"));
  if (momentum !== null && apart && plain) {
    inOneDispatch(moved, batch, { momentum, unbiased });
  } else oneByOne(running, batch, { momentum, unbiased });
  for (const { storage } of moved) storage.version++;
}

function inOneDispatch(
  moved: readonly DeviceArray[],
  batch: { mean: DeviceArray; variance: DeviceArray },
  { momentum, unbiased }: { momentum: number; unbiased: number },
): void {
  const { mean, variance } = batch;
  const [from, scatter] = [operand(mean), operand(variance)];
  const G = mean.size;
  gpu().queue.launch({
    kernel: runningKernel({ counts: moved.length === 3 }),
    buffers: [from.binding, scatter.binding, ...moved.map((a) => operand(a).binding)],
    params: { G, mean_off: from.offset, variance_off: scatter.offset, momentum, unbiased },
    grid: linearGrid(G, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: 7 * G, bytes: 24 * G },
  });
}

/** The same for any layouts, and for a share that depends on the number of batches. */
function oneByOne(
  { mean, variance, batches }: Running,
  batch: { mean: DeviceArray; variance: DeviceArray },
  { momentum, unbiased }: { momentum: number | null; unbiased: number },
): void {
  if (batches) {
    pointwiseInto({
      name: "batch_norm_count",
      inputs: { n: batches },
      expression: "n + 1",
      compute: "i32",
      result: "i32",
    }, batches);
  }
  const share: Record<string, PointwiseArgument> = momentum === null
    ? { batches: batches! }
    : { momentum: { value: momentum, type: "f32" } };
  const rows = [[mean, batch.mean, 1], [variance, batch.variance, unbiased]] as const;
  for (const [r, v, scale] of rows) {
    pointwiseInto({
      name: momentum === null ? "batch_norm_running_mean_of_all" : "batch_norm_running_apart",
      inputs: { r, v, scale: { value: scale, type: "f32" }, ...share },
      expression: `r + (v * scale - r) ${momentum === null ? "/ batches" : "* momentum"}`,
      compute: "f32",
      result: "f32",
      flops: 4,
    }, r);
  }
}
