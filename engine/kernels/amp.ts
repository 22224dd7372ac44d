/** Kernels of dynamic loss scaling. Nothing of it is read back. */

import { type Kernel, kernel, linearThread } from "./kernel.ts";

/**
 * grad ← grad / scale in place, and found[0] ← 1 if an element is Inf or NaN (by its bits). An integer
 * atomic: every thread writes the same value, so the result does not depend on order.
 */
export function unscaleKernel(): Kernel {
  return kernel({
    name: "amp_unscale",
    buffers: [
      { name: "state", access: "read", type: "f32" },
      { name: "grad", access: "write", type: "f32" },
      { name: "found", access: "write", type: "atomic<u32>" },
    ],
    params: { count: "u32" },
    body: `${linearThread("i", "p.count")}
  let g = grad[i] / state[0];
  grad[i] = g;
  if ((bitcast<u32>(g) & 0x7f800000u) == 0x7f800000u) { atomicMax(&found[0], 1u); }`,
  });
}

/**
 * state = [scale, steps without overflow]. After an overflow the scale is multiplied by `backoff`;
 * after `interval` steps in a row without one by `growth`. found is cleared. One thread.
 */
export function updateScaleKernel(): Kernel {
  return kernel({
    name: "amp_update_scale",
    buffers: [
      { name: "state", access: "write", type: "f32" },
      { name: "found", access: "write", type: "u32" },
    ],
    params: { growth: "f32", backoff: "f32", interval: "f32" },
    workgroup: [1, 1, 1],
    body: `  if (found[0] != 0u) {
    state[0] = state[0] * p.backoff;
    state[1] = 0.0;
  } else {
    state[1] = state[1] + 1.0;
    if (state[1] >= p.interval) {
      // A scale that overflowed would never come back.
      let grown = state[0] * p.growth;
      if (grown < 3.4e38) { state[0] = grown; }
      state[1] = 0.0;
    }
  }
  found[0] = 0u;`,
  });
}
