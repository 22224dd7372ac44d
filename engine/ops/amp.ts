/** Dynamic loss scaling, in place on the GPU. */

import { type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { updateScaleKernel } from "../kernels/amp.ts";

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
