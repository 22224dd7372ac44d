/**
 * y = exp(x - max) / sum exp(x - max) over rows of [rows, C], or its logarithm; and the gradients.
 *
 * A thread owns a row. Traffic: x three times, y once. Source: ours.
 */

import { asF32, fromF32, type Kernel, kernel, linearThread } from "./kernel.ts";
import { EXP, LOG } from "./special.ts";

/** What varies between the text of softmax kernels; sums are f32. */
export interface SoftmaxSpec {
  /** The logarithm of the softmax. */
  readonly log: boolean;
  readonly dtype: "f32" | "f16";
}

const ROW = `${linearThread("row", "p.rows")}
  let first = row * p.C;`;

/** Forward, shifted by the row's maximum so that exp cannot overflow. */
export function softmaxKernel(spec: SoftmaxSpec): Kernel {
  const x = asF32("x[first + c]", spec.dtype);
  return kernel({
    name: spec.log ? "log_softmax" : "softmax",
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: { rows: "u32", C: "u32" },
    module: spec.log ? EXP + LOG : EXP,
    body: `${ROW}
  var top = ${asF32("x[first]", spec.dtype)};
  for (var c = 1u; c < p.C; c++) { top = max(top, ${x}); }
  var total = 0.0;
  for (var c = 0u; c < p.C; c++) { total += exponential(${x} - top); }
  ${spec.log ? "let shift = top + natural_log(total);" : "let scale = 1.0 / total;"}
  for (var c = 0u; c < p.C; c++) {
    y[first + c] = ${
      fromF32(spec.log ? `${x} - shift` : `exponential(${x} - top) * scale`, spec.dtype)
    };
  }`,
  });
}

/** softmax: dx = y (dy - sum dy y); log softmax: dx = dy - exp(y) sum dy. */
export function softmaxBackwardKernel(spec: SoftmaxSpec): Kernel {
  const y = asF32("y[first + c]", spec.dtype);
  const dy = asF32("dy[first + c]", spec.dtype);
  return kernel({
    name: spec.log ? "log_softmax_backward" : "softmax_backward",
    buffers: [
      { name: "y", access: "read", type: spec.dtype },
      { name: "dy", access: "read", type: spec.dtype },
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: { rows: "u32", C: "u32" },
    module: spec.log ? EXP : "",
    body: `${ROW}
  var total = 0.0;
  for (var c = 0u; c < p.C; c++) { total += ${dy}${spec.log ? "" : ` * ${y}`}; }
  for (var c = 0u; c < p.C; c++) {
    dx[first + c] = ${
      fromF32(
        spec.log ? `${dy} - exponential(${y}) * total` : `${y} * (${dy} - total)`,
        spec.dtype,
      )
    };
  }`,
  });
}
