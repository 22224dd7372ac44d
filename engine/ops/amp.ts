/** Dynamic loss scaling, in place on the GPU. */

import { type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { unscaleKernel, updateScaleKernel } from "../kernels/amp.ts";
import { linearGrid } from "../kernels/kernel.ts";

/** Divides each gradient (contiguous f32) by state[0] and sets found[0] where one is not finite. */
export function unscaleInto(
  grads: readonly DeviceArray[],
  state: DeviceArray,
  found: DeviceArray,
): void {
  const { limits, queue } = gpu();
  const step = Math.floor(limits.maxStorageBufferBindingSize / 4 / 256) * 256;
  for (const grad of grads) {
    for (let start = 0; start < grad.size; start += step) {
      const count = Math.min(step, grad.size - start);
      const piece = grad.view([count], [1], grad.offset + start);
      queue.launch({
        kernel: unscaleKernel(),
        buffers: [state, piece, found].map((a) => operand(a).binding),
        params: { count },
        grid: linearGrid(count, limits.maxComputeWorkgroupsPerDimension),
        cost: { flops: count, bytes: count * 8 },
      });
    }
    grad.storage.version++;
  }
}

/** How the scale moves; see {@linkcode updateScaleKernel}. */
export interface ScaleRule {
  readonly growthFactor: number;
  readonly backoffFactor: number;
  readonly growthInterval: number;
}

/** Moves the scale after a step and clears found. */
export function updateScaleInto(state: DeviceArray, found: DeviceArray, rule: ScaleRule): void {
  gpu().queue.launch({
    kernel: updateScaleKernel(),
    buffers: [state, found].map((a) => operand(a).binding),
    params: {
      growth: rule.growthFactor,
      backoff: rule.backoffFactor,
      interval: rule.growthInterval,
    },
    grid: [1, 1, 1],
    cost: { flops: 0, bytes: 12 },
  });
  state.storage.version++;
  found.storage.version++;
}
