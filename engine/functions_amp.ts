/** What a `GradScaler` does to gradients and to its scale. Nothing is read back. */

import { inArena } from "./array.ts";
import { type ScaleRule, updateScaleInto } from "./ops/amp.ts";
import { unscaleInto } from "./ops/gradients.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

export type { ScaleRule } from "./ops/amp.ts";

/**
 * Divides gradients by the loss scale in place, and notes Inf and NaN.
 *
 * @param grads f32 tensors, as `backward` leaves them on leaves
 * @param state f32 [2]: the scale, and steps without overflow
 * @param found u32 [1]: set to 1 where an element is not finite, else left as it is
 * @throws {TypeError} if a shape or dtype differs
 */
export function unscaleGradients(grads: readonly Tensor[], state: Tensor, found: Tensor): void {
  checkState(state, found);
  for (const g of grads) {
    if (g.dtype !== "f32" || !g.device.contiguous || g.device.offset !== 0) {
      throw new TypeError(
        `Cannot unscale a gradient ${show(g.shape)} ${g.dtype}: it must be contiguous f32`,
      );
    }
  }
  inArena(() => (unscaleInto(grads.map((g) => g.device), state.device, found.device), []));
}

/** Moves the scale after a step by the rule, and clears `found`. */
export function updateLossScale(state: Tensor, found: Tensor, rule: ScaleRule): void {
  checkState(state, found);
  inArena(() => (updateScaleInto(state.device, found.device, rule), []));
}

function checkState(state: Tensor, found: Tensor): void {
  if (state.dtype !== "f32" || state.size !== 2 || found.dtype !== "u32" || found.size !== 1) {
    throw new TypeError(
      `Cannot scale with state ${show(state.shape)} ${state.dtype} and flag ${show(found.shape)} ` +
        `${found.dtype}: they must be f32 [2] and u32 [1]`,
    );
  }
}
