/**
 * Windows added up where they overlap: y[…, i, …] = Σ x[…, w, …, k] over the w and k with
 * step·w + dilation·k = i, where w is the place along one dimension and k the last dimension of a strided x. y is
 * contiguous.
 *
 * A thread owns one output element. Traffic: each operand once. Source: ours.
 */

import type { DType } from "../dtype.ts";
import { DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** What varies between the texts: the stored type, dimensions of y, and the one along which windows lie. */
export interface FoldSpec {
  readonly dtype: DType;
  readonly rank: number;
  readonly dim: number;
}

/** Builds the kernel; sizes of y are `s0…`, strides of x `x0…` and `xk` of its last dimension. */
export const foldKernel: (spec: FoldSpec) => Kernel = memoized(({ dtype, rank, dim }: FoldSpec) => {
  const { storage, compute } = DTYPES[dtype];
  const params: Record<string, "u32"> = {
    count: "u32",
    x_off: "u32",
    windows: "u32",
    size: "u32",
    step: "u32",
    dilation: "u32",
    xk: "u32",
  };
  const lines = ["  var rest = t;", "  var at = p.x_off;"];
  for (let d = rank - 1; d >= 0; d--) {
    params[`s${d}`] = params[`x${d}`] = "u32";
    lines.push(`  let c${d} = ${d === 0 ? "rest" : `rest % p.s${d}`};`);
    if (d !== dim) lines.push(`  at += c${d} * p.x${d};`);
    if (d > 0) lines.push(`  rest = rest / p.s${d};`);
  }
  return kernel({
    name: `fold${rank}_${dim}_${dtype}`,
    buffers: [
      { name: "b_x", access: "read", type: storage },
      { name: "b_y", access: "write", type: storage },
    ],
    params,
    body: `${linearThread("t", "p.count")}
${lines.join("\n")}
  var sum = ${compute}(0);
  for (var k = 0u; k < p.size; k++) {
    let reach = k * p.dilation;
    // Element k of window w is here; none is where its reach goes further.
    let w = select((c${dim} - reach) / p.step, p.windows, reach > c${dim});
    if (w < p.windows && w * p.step + reach == c${dim}) {
      sum += ${compute}(b_x[at + w * p.x${dim} + k * p.xk]);
    }
  }
  b_y[t] = ${storage}(sum);`,
  });
});
