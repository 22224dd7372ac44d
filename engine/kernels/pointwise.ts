/**
 * y = f(x₀, x₁, …) element by element, any strides, broadcasting by stride 0.
 *
 * A thread owns `vec` consecutive elements (4 when every operand is contiguous or a uniform scalar,
 * else 1). Traffic: each operand once. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import {
  type BufferDecl,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  stridedOffsets,
  stridedParams,
} from "./kernel.ts";
import type { Param } from "./kernel.ts";

/** One operand of a pointwise expression. */
export type PointwiseInput =
  /** A tensor; `alias` reads the output buffer (in-place ops bind it once). */
  | { readonly name: string; readonly dtype: DType; readonly alias?: boolean }
  /** A number in the uniform block. */
  | { readonly name: string; readonly scalar: "f32" | "i32" | "u32" };

/** What varies between pointwise kernels. */
export interface PointwiseSpec {
  readonly name: string;
  readonly inputs: readonly PointwiseInput[];
  readonly output: DType;
  /** Type in which inputs reach the expression. */
  readonly compute: "f32" | "i32" | "u32";
  /** WGSL expression over the input names; its type is `result`. */
  readonly expression: string;
  /** Type of the expression's value. */
  readonly result: "f32" | "i32" | "u32" | "bool";
  /** Helper functions the expression calls. */
  readonly module?: string;
  /** Collapsed rank when some operand is strided; 0 when all are contiguous. */
  readonly rank: number;
}

/** Elements a thread of a contiguous pointwise kernel owns. */
export const POINTWISE_VEC = 4;

/** Builds the kernel. Tensors are named `b_<name>`, offsets `<name>_off`, the output `y`. */
export const pointwiseKernel: (spec: PointwiseSpec) => Kernel = memoized(buildPointwise);

function buildPointwise(spec: PointwiseSpec): Kernel {
  const tensors = spec.inputs.filter(isTensor);
  const buffers: BufferDecl[] = tensors.filter((t) => !t.alias).map((t) => ({
    name: `b_${t.name}`,
    access: "read",
    type: DTYPES[t.dtype].storage,
  }));
  buffers.push({ name: "b_y", access: "write", type: DTYPES[spec.output].storage });
  const operands = [...tensors.map((t) => t.name), "y"];
  const params: Record<string, Param["type"]> = { count: "u32", threads: "u32" };
  for (const input of spec.inputs) if (!isTensor(input)) params[input.name] = input.scalar;
  if (spec.rank > 0) Object.assign(params, stridedParams(spec.rank, operands));
  else for (const o of operands) params[`${o}_off`] = "u32";

  const args = spec.inputs.map((i) => `${i.name}: ${isTensor(i) ? spec.compute : i.scalar}`);
  const module = `${spec.module ?? ""}
fn f(${args.join(", ")}) -> ${spec.result} {
  return ${spec.expression};
}`;
  const call = (at: (name: string) => string) =>
    store(
      spec,
      `f(${
        spec.inputs.map((i) =>
          isTensor(i)
            ? load(i.alias ? "b_y" : `b_${i.name}`, i.dtype, spec.compute, at(i.name))
            : `p.${i.name}`
        ).join(", ")
      })`,
    );
  let body: string;
  if (spec.rank > 0) {
    body = `${linearThread("t", "p.count")}
${stridedOffsets(spec.rank, operands, "t")}
  b_y[y_at] = ${call((name) => `${name}_at`)};`;
  } else {
    const lines = [linearThread("t", "p.threads"), `  let i = t * ${POINTWISE_VEC}u;`];
    for (let v = 0; v < POINTWISE_VEC; v++) {
      const line = `b_y[p.y_off + i + ${v}u] = ${call((name) => `p.${name}_off + i + ${v}u`)};`;
      lines.push(v === 0 ? `  ${line}` : `  if (i + ${v}u < p.count) { ${line} }`);
    }
    body = lines.join("\n");
  }
  const variant = spec.rank > 0 ? `strided${spec.rank}` : "contiguous";
  return kernel({ name: `${spec.name}_${variant}`, buffers, params, module, body });
}

function isTensor(input: PointwiseInput): input is Extract<PointwiseInput, { dtype: DType }> {
  return "dtype" in input;
}

/** WGSL that reads an element in the compute type. */
function load(buffer: string, dtype: DType, compute: string, at: string): string {
  const value = `${buffer}[${at}]`;
  return DTYPES[dtype].storage === compute ? value : `${compute}(${value})`;
}

/** WGSL that converts the expression's value to the stored type. */
function store(spec: PointwiseSpec, value: string): string {
  const stored = DTYPES[spec.output].storage;
  if (spec.output === "bool" && spec.result !== "bool") return `u32(${value} != ${spec.result}(0))`;
  return stored === spec.result ? value : `${stored}(${value})`;
}
