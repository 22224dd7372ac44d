/**
 * C[z, m, n] = f(sum over s of shares[z, s, m, n] + bias[n] + C[z, m, n]): the second pass of a product
 * whose K is shared out. Bias, what C had before, and the activation may be absent.
 *
 * A thread owns one element, or four neighbours where rows are whole fours. Shares are added in their
 * order, so that the same product gives the same bits. Source: ours.
 */

import type { DType } from "../dtype.ts";
import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import {
  asFloats,
  asStored,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  storedType,
} from "./kernel.ts";

/** What varies between the text of these kernels. */
export interface GemmMergeSpec {
  readonly c: DType;
  readonly bias?: DType;
  readonly accumulate?: boolean;
  readonly epilogue?: Epilogue;
  /** Whether a thread owns four neighbours. */
  readonly wide: boolean;
}

/** Builds the kernel. Params count threads and elements in units of what a thread owns. */
export const gemmMergeKernel: (spec: GemmMergeSpec) => Kernel = memoized(buildMerge);

function buildMerge({ c, bias, accumulate, epilogue, wide }: GemmMergeSpec): Kernel {
  const more = [
    bias && `  sum += ${asFloats("bias[p.bias_off + t % p.N]", bias, wide)};`,
    accumulate && `  sum += ${asFloats("c[p.c_off + t]", c, wide)};`,
  ];
  const name = ["gemm_merge", c, bias && `bias_${bias}`, accumulate && "acc", epilogue?.name];
  return kernel({
    name: [...name, wide && "wide"].filter(Boolean).join("_"),
    buffers: [
      { name: "shares", access: "read", type: storedType("f32", wide) },
      ...(bias ? [{ name: "bias", access: "read", type: storedType(bias, wide) } as const] : []),
      { name: "c", access: "write", type: storedType(c, wide) },
    ],
    params: {
      count: "u32",
      // Elements of a share, of a row, and shares of a product.
      MN: "u32",
      N: "u32",
      splits: "u32",
      c_off: "u32",
      ...(bias ? { bias_off: "u32" } as const : {}),
    },
    module: epilogueModule(epilogue),
    body: `${linearThread("t", "p.count")}
  let first = (t / p.MN) * p.splits * p.MN + t % p.MN;
  var sum = shares[first];
  for (var s = 1u; s < p.splits; s++) {
    sum += shares[first + s * p.MN];
  }
${more.filter(Boolean).join("\n")}
  c[p.c_off + t] = ${asStored(activated("sum", { epilogue, wide }), c, wide)};`,
  });
}
