/**
 * y = exp(x - max) / sum exp(x - max) over rows of [rows, C], or its logarithm; and the gradients.
 *
 * A thread owns a row. Traffic: x three times, y once. Source: ours.
 */

import { type Kernel, kernel, linearThread } from "./kernel.ts";

const ROW = `${linearThread("row", "p.rows")}
  let first = row * p.C;`;

/** Forward, shifted by the row's maximum so that exp cannot overflow. */
export function softmaxKernel(spec: { log: boolean }): Kernel {
  return kernel({
    name: spec.log ? "log_softmax" : "softmax",
    buffers: [
      { name: "x", access: "read", type: "f32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: { rows: "u32", C: "u32" },
    body: `${ROW}
  var top = x[first];
  for (var c = 1u; c < p.C; c++) { top = max(top, x[first + c]); }
  var total = 0.0;
  for (var c = 0u; c < p.C; c++) { total += exp(x[first + c] - top); }
  ${spec.log ? "let shift = top + log(total);" : "let scale = 1.0 / total;"}
  for (var c = 0u; c < p.C; c++) {
    y[first + c] = ${spec.log ? "x[first + c] - shift" : "exp(x[first + c] - top) * scale"};
  }`,
  });
}

/** softmax: dx = y (dy - sum dy y); log softmax: dx = dy - exp(y) sum dy. */
export function softmaxBackwardKernel(spec: { log: boolean }): Kernel {
  return kernel({
    name: spec.log ? "log_softmax_backward" : "softmax_backward",
    buffers: [
      { name: "y", access: "read", type: "f32" },
      { name: "dy", access: "read", type: "f32" },
      { name: "dx", access: "write", type: "f32" },
    ],
    params: { rows: "u32", C: "u32" },
    body: `${ROW}
  var total = 0.0;
  for (var c = 0u; c < p.C; c++) { total += dy[first + c]${spec.log ? "" : " * y[first + c]"}; }
  for (var c = 0u; c < p.C; c++) {
    dx[first + c] = ${
      spec.log
        ? "dy[first + c] - exp(y[first + c]) * total"
        : "y[first + c] * (dy[first + c] - total)"
    };
  }`,
  });
}
