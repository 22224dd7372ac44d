/** The second pass of products whose K is shared out: it adds the shares, and does what the first would have done. */

import { type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import { gemmMergeKernel } from "../kernels/gemm_merge.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { whole } from "./gemm_plan.ts";

/** What is done to the sum of the shares. */
export interface MergeOptions {
  /** Contiguous; added to every row, or where there is a `plane`, to every plane a number of its own. */
  readonly bias?: DeviceArray;
  /** Elements of a plane of an image. */
  readonly plane?: number;
  /** Whether the sum is added to what C has. */
  readonly accumulate?: boolean;
  readonly epilogue?: Epilogue;
}

/** C = f(the sum of the shares [batch, splits, ...] + bias + C), each of C's `size / batch`; C is contiguous. */
export function mergeShares(
  shares: DeviceArray,
  c: DeviceArray,
  { batch, splits }: { readonly batch: number; readonly splits: number },
  { bias, plane, accumulate, epilogue }: MergeOptions,
): void {
  const [of, at, added] = [operand(shares), operand(c), bias && operand(bias)];
  const row = plane ?? c.shape.at(-1)!;
  const wide = whole(row, at.offset) && (plane !== undefined || whole(added?.offset ?? 0));
  const unit = wide ? 4 : 1;
  const count = c.size / unit;
  const planes = plane !== undefined && bias !== undefined;
  gpu().queue.launch({
    kernel: gemmMergeKernel({ c: c.dtype, bias: bias?.dtype, planes, accumulate, epilogue, wide }),
    buffers: [of.binding, ...(added ? [added.binding] : []), at.binding],
    params: {
      count,
      part: count / batch,
      row: row / unit,
      splits,
      c_off: at.offset / unit,
      ...(added ? { bias_off: planes || !wide ? added.offset : added.offset / unit } : {}),
      ...(planes ? { planes: bias.size } : {}),
    },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: shares.size, bytes: shares.bytes + c.bytes },
  });
}
