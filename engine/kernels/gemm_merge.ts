/**
 * C[z, m, n] = f(sum over s of shares[z, s, m, n] + bias[n] + C[z, m, n]): the second pass of a product
 * whose K is shared out. Bias, what C had before, and the activation may be absent.
 *
 * A thread owns one element, or four neighbours where rows are whole fours. Shares are added in their
 * order, so that the same product gives the same bits. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

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
  const stored = (dtype: DType) => wide ? `vec4<${DTYPES[dtype].storage}>` : DTYPES[dtype].storage;
  const floats = wide ? "vec4<f32>" : "f32";
  const read = (value: string, dtype: DType) =>
    DTYPES[dtype].storage === "f32" ? value : `${floats}(${value})`;
  const more = [
    bias && `  sum += ${read("bias[p.bias_off + t % p.N]", bias)};`,
    accumulate && `  sum += ${read("c[p.c_off + t]", c)};`,
  ];
  const name = ["gemm_merge", c, bias && `bias_${bias}`, accumulate && "acc", epilogue?.name];
  return kernel({
    name: [...name, wide && "wide"].filter(Boolean).join("_"),
    buffers: [
      { name: "shares", access: "read", type: floats },
      ...(bias ? [{ name: "bias", access: "read", type: stored(bias) } as const] : []),
      { name: "c", access: "write", type: stored(c) },
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
  c[p.c_off + t] = ${
      DTYPES[c].storage === "f32"
        ? activated("sum", { epilogue, wide })
        : `${stored(c)}(${activated("sum", { epilogue, wide })})`
    };`,
  });
}
