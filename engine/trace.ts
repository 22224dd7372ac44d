/** Listens to the ops that run on tensors: what `gradcheck` replays in float64. */

import type { Op } from "./op.ts";
import type { Tensor } from "./tensor.ts";

/** One op that ran. */
export interface Call {
  readonly op: Op<unknown>;
  readonly attrs: unknown;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

let listener: ((call: Call) => void) | null = null;

/** Called by `apply` after every op. Costs nothing when nobody listens. */
export function traceCall(call: Call): void {
  listener?.(call);
}

/** Runs `fn` and hands each op that it runs to `listen`, in order, and to the listeners around it. */
export function trace<T>(fn: () => T, listen: (call: Call) => void): T {
  const outer = listener;
  listener = (call) => {
    listen(call);
    outer?.(call);
  };
  try {
    return fn();
  } finally {
    listener = outer;
  }
}
