/** C[z, m, n] = sum over k of A[z, m, k] · B[z, k, n] (+ bias[n]) for operands of any strides. */

import { type DType, DTYPES } from "../dtype.ts";
import { gemmKernel, type Tile } from "./gemm.ts";
import {
  type BufferDecl,
  type Kernel,
  memoized,
  type Param,
  stridedOffsets,
  stridedParams,
} from "./kernel.ts";

/** What varies between matrix products. */
export interface MatmulSpec {
  readonly a: DType;
  readonly b: DType;
  readonly c: DType;
  /** Rank of the collapsed batch dimensions of A and B; C is contiguous there. */
  readonly batchRank: number;
  /** Adds bias[n]. */
  readonly bias?: DType;
  /** Adds to C instead of overwriting it. */
  readonly accumulate?: boolean;
}

/** Builds the kernel. */
export const matmulKernel: (spec: MatmulSpec, tile: Tile) => Kernel = memoized(buildMatmul);

function buildMatmul(spec: MatmulSpec, tile: Tile): Kernel {
  const read = (name: string, dtype: DType, at: string) =>
    DTYPES[dtype].storage === "f32" ? `${name}[${at}]` : `f32(${name}[${at}])`;
  const buffers: BufferDecl[] = [
    { name: "a", access: "read", type: DTYPES[spec.a].storage },
    { name: "b", access: "read", type: DTYPES[spec.b].storage },
  ];
  if (spec.bias) buffers.push({ name: "bias", access: "read", type: DTYPES[spec.bias].storage });
  const out = DTYPES[spec.c].storage;
  buffers.push({ name: "c", access: "write", type: out });
  const params: Record<string, Param["type"]> = {
    a_m: "u32",
    a_k: "u32",
    b_k: "u32",
    b_n: "u32",
    c_z: "u32",
    c_m: "u32",
    c_off: "u32",
    ...(spec.bias ? { bias_off: "u32" } as const : {}),
    ...stridedParams(spec.batchRank, ["a", "b"]),
  };
  const name = [
    "matmul",
    spec.bias && "bias",
    spec.accumulate && "acc",
    spec.c !== "f32" && spec.c,
  ];
  return gemmKernel({
    name: name.filter(Boolean).join("_"),
    buffers,
    params,
    setup: `${stridedOffsets(spec.batchRank, ["a", "b"], "batch")}
  let c_at = p.c_off + z * p.c_z;`,
    walk: {
      start: "  var ka = k_begin * p.a_k;\n  var kb = k_begin * p.b_k;",
      step: "    ka += p.a_k;\n    kb += p.b_k;",
    },
    a: {
      prepare: (i, m) => `  let ra${i} = a_at + ${m} * p.a_m;`,
      load: (i) => read("a", spec.a, `ra${i} + ka`),
    },
    b: {
      prepare: (j, n) => `  let cb${j} = b_at + ${n} * p.b_n;`,
      load: (j) => read("b", spec.b, `cb${j} + kb`),
    },
    prepareStore: spec.bias
      ? (j, n) => `    let bias${j} = ${read("bias", spec.bias!, `p.bias_off + ${n}`)};`
      : undefined,
    store({ j, m, n, value }) {
      const sum = [value, spec.bias && `bias${j}`].filter(Boolean).join(" + ");
      const at = `c[c_at + ${m} * p.c_m + ${n}]`;
      const result = spec.accumulate ? `f32(${at}) + ${sum}` : sum;
      return `${at} = ${out === "f32" ? result : `${out}(${result})`};`;
    },
  }, tile);
}
