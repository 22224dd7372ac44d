/**
 * y[c] = x[c'] for a strided x and a contiguous y of one shape, where each dimension of size s is
 * walked from another start (c' = (c + shift) mod s) or backwards (c' = shift - c, shift = s - 1).
 *
 * A thread owns one element. Traffic: each operand once. Source: ours.
 */

import type { DType } from "../dtype.ts";
import { DTYPES } from "../dtype.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** Builds the kernel; sizes are `s0…`, strides `x0…`, starts `shift0…`, directions `back0…` (0, 1). */
export const rearrangeKernel: (spec: { dtype: DType; rank: number }) => Kernel = memoized(
  ({ dtype, rank }: { dtype: DType; rank: number }) => {
    const { storage } = DTYPES[dtype];
    const params: Record<string, "u32"> = { count: "u32", x_off: "u32" };
    const lines = ["  var rest = t;", "  var at = p.x_off;"];
    for (let d = rank - 1; d >= 0; d--) {
      for (const name of ["s", "x", "shift", "back"]) params[`${name}${d}`] = "u32";
      lines.push(
        `  let c${d} = ${d === 0 ? "rest" : `rest % p.s${d}`};`,
        `  let m${d} = select(c${d} + p.shift${d}, p.shift${d} - c${d}, p.back${d} != 0u);`,
        `  at += (m${d} - select(0u, p.s${d}, m${d} >= p.s${d})) * p.x${d};`,
      );
      if (d > 0) lines.push(`  rest = rest / p.s${d};`);
    }
    return kernel({
      name: `rearrange${rank}_${dtype}`,
      buffers: [
        { name: "b_x", access: "read", type: storage },
        { name: "b_y", access: "write", type: storage },
      ],
      params,
      body: `${linearThread("t", "p.count")}
${lines.join("\n")}
  b_y[t] = b_x[at];`,
    });
  },
);
