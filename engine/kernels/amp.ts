/** The scale of dynamic loss scaling, which is not read back. */

import { type Kernel, kernel, memoized } from "./kernel.ts";

/**
 * state = [scale, steps without overflow]. After an overflow the scale is multiplied by `backoff`;
 * after `interval` steps in a row without one by `growth`. found is cleared. One thread.
 */
export const updateScaleKernel: () => Kernel = memoized(buildUpdateScale);

function buildUpdateScale(): Kernel {
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
