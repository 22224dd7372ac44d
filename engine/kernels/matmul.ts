/** C[z, m, n] = sum over k of A[z, m, k] · B[z, k, n] (+ bias[n]) for operands of any strides. */

import { type DType, DTYPES } from "../dtype.ts";
import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import { gemmKernel, type Tile } from "./gemm.ts";
import {
  asFloats,
  asStored,
  type BufferDecl,
  type Kernel,
  memoized,
  type Param,
  storedType,
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
  /** Applied to what is stored. */
  readonly epilogue?: Epilogue;
  /** Along what A, and B, are read four at a time. */
  readonly aFours?: "k" | "side";
  readonly bFours?: "k" | "side";
  /** Writes C four columns at a time. */
  readonly wide?: boolean;
}

/** Builds the kernel. */
export const matmulKernel: (spec: MatmulSpec, tile: Tile) => Kernel = memoized(buildMatmul);

function buildMatmul(spec: MatmulSpec, tile: Tile): Kernel {
  const { aFours, bFours, wide = false } = spec;
  const out = storedType(spec.c, wide);
  const buffers: BufferDecl[] = [
    { name: "a", access: "read", type: storedType(spec.a, aFours !== undefined) },
    { name: "b", access: "read", type: storedType(spec.b, bFours !== undefined) },
  ];
  if (spec.bias) buffers.push({ name: "bias", access: "read", type: DTYPES[spec.bias].storage });
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
    spec.epilogue?.name,
    spec.c !== "f32" && spec.c,
    aFours && `a4${aFours}`,
    bFours && `b4${bFours}`,
    wide && "wide",
  ];
  /** How the core reads `buffer` at index `at`. */
  const side = (buffer: "a" | "b", at: (i: number) => string, along?: "k" | "side") => ({
    type: DTYPES[spec[buffer]].storage as "f32" | "f16",
    load: (i: number) => `${buffer}[${at(i)}]`,
    fours: along && { along, load: (i: number) => `${buffer}[(${at(i)}) >> 2u]` },
  });
  return gemmKernel({
    name: name.filter(Boolean).join("_"),
    buffers,
    params,
    module: epilogueModule(spec.epilogue),
    setup: `${stridedOffsets(spec.batchRank, ["a", "b"], "batch")}
  let c_at = p.c_off + z * p.c_z;`,
    walk: {
      start: "  var ka = k_begin * p.a_k;\n  var kb = k_begin * p.b_k;",
      step: "    ka += p.a_k;\n    kb += p.b_k;",
    },
    a: {
      prepare: (i, m) => `  let ra${i} = a_at + ${m} * p.a_m;`,
      ...side("a", (i) => `ra${i} + ka`, aFours),
    },
    b: {
      prepare: (j, n) => `  let cb${j} = b_at + ${n} * p.b_n;`,
      ...side("b", (j) => `cb${j} + kb`, bFours),
    },
    wide,
    prepareStore: spec.bias
      ? (j, n) => {
        const bias = (s: number) => asFloats(`bias[p.bias_off + ${n} + ${s}u]`, spec.bias!);
        return `    let bias${j} = ${
          wide ? `vec4(${[0, 1, 2, 3].map(bias).join(", ")})` : bias(0)
        };`;
      }
      : undefined,
    store({ j, m, n, value }) {
      const sum = [value, spec.bias && `bias${j}`].filter(Boolean).join(" + ");
      const index = `c_at + ${m} * p.c_m + ${n}`;
      const at = `c[${wide ? `(${index}) >> 2u` : index}]`;
      const total = spec.accumulate ? `${asFloats(at, spec.c, wide)} + ${sum}` : sum;
      const result = activated(total, spec);
      return `${at} = ${asStored(result, spec.c, wide)};`;
    },
  }, tile);
}
