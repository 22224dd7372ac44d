/**
 * Largest element of windows [floor(o·size/windows), ceil((o+1)·size/windows)), and the gradient. A
 * thread owns an output element; backward a thread owns an input element and looks at the windows that
 * hold it. Source: ours; window rule and ties (the first) as in PyTorch.
 */

import { type Kernel, kernel, linearThread, memoized, type Param } from "./kernel.ts";
import { IS_NAN } from "./reduce.ts";

/** Type of inputs and outputs. */
export interface AdaptiveMaxPoolSpec {
  readonly dtype: "f32" | "f16";
}

const PARAMS: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
};

/** y, and the position ih·W + iw of each largest element. */
export const adaptiveMaxPoolKernel: (spec: AdaptiveMaxPoolSpec) => Kernel = memoized(buildForward);

function buildForward({ dtype }: AdaptiveMaxPoolSpec): Kernel {
  return kernel({
    name: "adaptive_max_pool2d",
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "y", access: "write", type: dtype },
      { name: "places", access: "write", type: "u32" },
    ],
    params: PARAMS,
    module: IS_NAN,
    body: `${linearThread("t", "p.count")}
  let oh = (t / p.OW) % p.OH;
  let ow = t % p.OW;
  let base = (t / (p.OH * p.OW)) * p.H * p.W;
  let h0 = (oh * p.H) / p.OH;
  let h1 = ((oh + 1u) * p.H + p.OH - 1u) / p.OH;
  let w0 = (ow * p.W) / p.OW;
  let w1 = ((ow + 1u) * p.W + p.OW - 1u) / p.OW;
  var best_at = h0 * p.W + w0;
  var best = f32(x[base + best_at]);
  for (var h = h0; h < h1; h++) {
    for (var w = w0; w < w1; w++) {
      let v = f32(x[base + h * p.W + w]);
      if (!is_nan(best) && (v > best || is_nan(v))) { best = v; best_at = h * p.W + w; }
    }
  }
  y[t] = ${dtype}(best);
  places[t] = best_at;`,
  });
}

/** dx: adds dy of the windows whose largest element this is. */
export const adaptiveMaxPoolBackwardKernel: (spec: AdaptiveMaxPoolSpec) => Kernel = memoized(
  buildBackward,
);

function buildBackward({ dtype }: AdaptiveMaxPoolSpec): Kernel {
  return kernel({
    name: "adaptive_max_pool2d_backward",
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "places", access: "read", type: "u32" },
      { name: "dx", access: "write", type: dtype },
    ],
    params: PARAMS,
    body: `${linearThread("t", "p.count")}
  let place = t % (p.H * p.W);
  let ih = place / p.W;
  let iw = place % p.W;
  let base = (t / (p.H * p.W)) * p.OH * p.OW;
  // Windows that hold ih: floor(ih·OH/H) to ceil((ih+1)·OH/H) - 1.
  let h1 = ((ih + 1u) * p.OH + p.H - 1u) / p.H;
  let w1 = ((iw + 1u) * p.OW + p.W - 1u) / p.W;
  var total = 0.0;
  for (var oh = (ih * p.OH) / p.H; oh < h1; oh++) {
    for (var ow = (iw * p.OW) / p.W; ow < w1; ow++) {
      let o = base + oh * p.OW + ow;
      total += select(0.0, f32(dy[o]), places[o] == place);
    }
  }
  dx[t] = ${dtype}(total);`,
  });
}
