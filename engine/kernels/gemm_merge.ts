/**
 * C[z, m, n] = f(sum over s of shares[z, s, m, n] + bias[n] + C[z, m, n]): the second pass of a product
 * whose K is shared out. Bias, what C had before, and the activation may be absent; the bias of planes has a
 * number for every m, over and over.
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
  /** Whether the bias is of planes, not of columns. */
  readonly planes?: boolean;
  readonly accumulate?: boolean;
  readonly epilogue?: Epilogue;
  /** Whether a thread owns four neighbours. */
  readonly wide: boolean;
}

/** Builds the kernel. Params count threads and elements in units of what a thread owns. */
export const gemmMergeKernel: (spec: GemmMergeSpec) => Kernel = memoized(buildMerge);

function buildMerge(
  { c, bias, planes = false, accumulate, epilogue, wide }: GemmMergeSpec,
): Kernel {
  const fours = wide && !planes;
  const column = planes ? "(t / p.row) % p.planes" : "t % p.row";
  const more = [
    bias && `  sum += ${asFloats(`bias[p.bias_off + ${column}]`, bias, fours)};`,
    accumulate && `  sum += ${asFloats("c[p.c_off + t]", c, wide)};`,
  ];
  const name = [
    "gemm_merge",
    c,
    bias && `${planes ? "planes" : "bias"}_${bias}`,
    accumulate && "acc",
    epilogue?.name,
  ];
  return kernel({
    name: [...name, wide && "wide"].filter(Boolean).join("_"),
    buffers: [
      { name: "shares", access: "read", type: storedType("f32", wide) },
      ...(bias ? [{ name: "bias", access: "read", type: storedType(bias, fours) } as const] : []),
      { name: "c", access: "write", type: storedType(c, wide) },
    ],
    params: {
      count: "u32",
      // Elements of a share, of a row or plane, and shares of a product.
      part: "u32",
      row: "u32",
      splits: "u32",
      c_off: "u32",
      ...(bias ? { bias_off: "u32" } as const : {}),
      ...(planes ? { planes: "u32" } as const : {}),
    },
    module: epilogueModule(epilogue),
    body: `${linearThread("t", "p.count")}
  let first = (t / p.part) * p.splits * p.part + t % p.part;
  var sum = shares[first];
  for (var s = 1u; s < p.splits; s++) {
    sum += shares[first + s * p.part];
  }
${more.filter(Boolean).join("\n")}
  c[p.c_off + t] = ${asStored(activated("sum", { epilogue, wide }), c, wide)};`,
  });
}
