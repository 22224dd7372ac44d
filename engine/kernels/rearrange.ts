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

/**
 * y[b, i, j] = x[b, i, j] where j - i <= diagonal (`lower`) or >= diagonal, else 0; x contiguous
 * [..., M, N]. A thread owns one element.
 */
export const triangleKernel: (spec: { dtype: DType; lower: boolean }) => Kernel = memoized(
  ({ dtype, lower }: { dtype: DType; lower: boolean }) => {
    const { storage } = DTYPES[dtype];
    return kernel({
      name: `${lower ? "tril" : "triu"}_${dtype}`,
      buffers: [
        { name: "b_x", access: "read", type: storage },
        { name: "b_y", access: "write", type: storage },
      ],
      params: { count: "u32", M: "u32", N: "u32", diagonal: "i32" },
      body: `${linearThread("t", "p.count")}
  let j = t % p.N;
  let i = (t / p.N) % p.M;
  let kept = i32(j) - i32(i) ${lower ? "<=" : ">="} p.diagonal;
  b_y[t] = select(${storage}(0), b_x[t], kept);`,
    });
  },
);
