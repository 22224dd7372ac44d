/** The running mean and variance of batch normalisation, moved in place on the GPU. */

import type { DeviceArray } from "../array.ts";
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
  const { mean, variance, batches } = running;
  if (batches) {
    pointwiseInto({
      name: "batch_norm_count",
      inputs: { n: batches },
      expression: "n + 1",
      compute: "i32",
      result: "i32",
    }, batches);
    batches.storage.version++;
  }
  const share: Record<string, PointwiseArgument> = momentum === null
    ? { batches: batches! }
    : { momentum: { value: momentum, type: "f32" } };
  const rows = [[mean, batch.mean, 1], [variance, batch.variance, count / (count - 1)]] as const;
  for (const [r, v, scale] of rows) {
    pointwiseInto({
      name: momentum === null ? "batch_norm_running_mean_of_all" : "batch_norm_running",
      inputs: { r, v, scale: { value: scale, type: "f32" }, ...share },
      expression: `r + (v * scale - r) ${momentum === null ? "/ batches" : "* momentum"}`,
      compute: "f32",
      result: "f32",
      flops: 4,
    }, r);
    r.storage.version++;
  }
}
