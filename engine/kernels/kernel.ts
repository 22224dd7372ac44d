/**
 * What a kernel is, and the text every kernel shares: bindings, uniform block, entry point, folded
 * grid. Kernels are pure functions from parameters to a {@linkcode Kernel}; nothing here knows of a
 * device or a tensor.
 *
 * Glossary: `offset` is an element offset into a bound window, `index` a linear element number of a
 * contiguous array, `coordinate` one number a dimension.
 */

import { type DType, DTYPES } from "../dtype.ts";

export { memoized } from "./memo.ts";

/** How a kernel uses a storage buffer. */
export type Access = "read" | "write";

/** A scalar of the uniform block. */
export interface Param {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

/** Shader text with everything the queue must know to run it. */
export interface Kernel {
  /** Name in labels, traces and messages; variants are part of it. */
  readonly name: string;
  /** Whole WGSL module with entry point `main`. */
  readonly code: string;
  /** Storage bindings in order. */
  readonly access: readonly Access[];
  /** Uniform scalars in order. At most 64. */
  readonly params: readonly Param[];
  /** Threads of a workgroup in x, y, z. */
  readonly workgroup: readonly [number, number, number];
  /** True if the text calls subgroup functions; some compilers want `enable subgroups;` for them. */
  readonly subgroups: boolean;
}

/** A storage binding as a kernel declares it. */
export interface BufferDecl {
  readonly name: string;
  readonly access: Access;
  /** WGSL element type of the runtime-sized array. */
  readonly type: string;
}

/** What {@linkcode kernel} assembles. */
export interface KernelParts {
  readonly name: string;
  readonly buffers: readonly BufferDecl[];
  readonly params: Readonly<Record<string, Param["type"]>>;
  readonly workgroup?: readonly [number, number, number];
  /** Functions and constants before the entry point. */
  readonly module?: string;
  /**
   * Body of `main(wid, lid)`: workgroup and local ids, vec3<u32>. `p.x` reads param x. With subgroup matrices
   * also `sub` and `lane`: the number of the thread's subgroup, and the thread's in it.
   */
  readonly body: string;
}

/** 0, 1, …, count - 1. */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** WGSL of a stored float as f32, in which kernels compute. */
export function asF32(value: string, dtype: "f32" | "f16"): string {
  return dtype === "f32" ? value : `f32(${value})`;
}

/** WGSL element type of a buffer of so stored elements, read one by one or four at a time. */
export function storedType(dtype: DType, fours = false): string {
  const { storage } = DTYPES[dtype];
  return fours ? `vec4<${storage}>` : storage;
}

/** WGSL of a stored element, or four, as f32. */
export function asFloats(value: string, dtype: DType, fours = false): string {
  if (DTYPES[dtype].storage === "f32") return value;
  return `${fours ? "vec4<f32>" : "f32"}(${value})`;
}

/** WGSL of an f32, or four, as a float is stored. */
export function asStored(value: string, dtype: DType, fours = false): string {
  return DTYPES[dtype].storage === "f32" ? value : `${storedType(dtype, fours)}(${value})`;
}

/** WGSL of an f32 as a float is stored. */
export function fromF32(value: string, dtype: "f32" | "f16"): string {
  return dtype === "f32" ? value : `f16(${value})`;
}

/** Threads of a one-dimensional workgroup. */
export const LINEAR = 64;

/** Matrices that a subgroup multiplies in one instruction: A is m by k, B is k by n, C is m by n. */
export interface MatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** A shape as names tell it. */
export function shapeName({ m, n, k }: MatrixShape): string {
  return `${m}x${n}x${k}`;
}

/** Dawn's extension for subgroup matrices, in the shader's words. */
export const MATRICES = "chromium_experimental_subgroup_matrix";

/** Number of the thread's subgroup, which compilers know to be the same in all lanes, and its lane. */
const SUBGROUP_PARAMS = `
  @builtin(subgroup_id) sub: u32,
  @builtin(subgroup_invocation_id) lane: u32,`;

/** Assembles a module. What a binding or the body needs is enabled: f16, subgroup matrices. */
export function kernel(parts: KernelParts): Kernel {
  const workgroup = parts.workgroup ?? [LINEAR, 1, 1];
  const params = Object.entries(parts.params).map(([name, type]) => ({ name, type }));
  if (params.length > 64) {
    throw new RangeError(`Kernel ${parts.name} has ${params.length} params: at most 64 fit`);
  }
  const fields = params.length > 0
    ? params.map((f) => `  ${f.name}: ${f.type},`).join("\n")
    : "  unused: u32,";
  const half = parts.buffers.some((b) => b.type.includes("f16"));
  const matrices = parts.body.includes("subgroup_matrix_");
  const buffers = parts.buffers.map((b, i) =>
    `@group(0) @binding(${i + 1}) var<storage, ${b.access === "read" ? "read" : "read_write"}> ` +
    `${b.name}: array<${b.type}>;`
  );
  const enabled = [half && "f16", matrices && MATRICES].filter(Boolean);
  const code = `${enabled.map((e) => `enable ${e};\n`).join("")}// ${parts.name}
struct Params {
${fields}
}
@group(0) @binding(0) var<uniform> p: Params;
${buffers.join("\n")}
${parts.module ?? ""}
@compute @workgroup_size(${workgroup.join(", ")})
fn main(
  @builtin(workgroup_id) wid: vec3<u32>,
  @builtin(local_invocation_id) lid: vec3<u32>,
  @builtin(num_workgroups) nwg: vec3<u32>,${matrices ? SUBGROUP_PARAMS : ""}
) {
${parts.body}
}
`;
  return {
    name: parts.name,
    code,
    access: parts.buffers.map((b) => b.access),
    params,
    workgroup,
    subgroups: /\bsubgroup[A-Z]\w*\(/.test(code),
  };
}

/**
 * First lines of a one-dimensional kernel: `name` is the thread's number under a grid folded over x
 * and y, and threads past `count` leave.
 */
export function linearThread(name: string, count: string): string {
  return `  let ${name} = (wid.y * nwg.x + wid.x) * ${LINEAR}u + lid.x;
  if (${name} >= ${count}) { return; }`;
}

/** Workgroups for `threads` threads of a one-dimensional kernel, folded to at most `most` a side. */
export function linearGrid(threads: number, most: number): [number, number, number] {
  const groups = Math.ceil(threads / LINEAR);
  if (groups <= most) return [groups, 1, 1];
  const y = Math.ceil(groups / most);
  return [Math.ceil(groups / y), y, 1];
}

/**
 * WGSL that turns linear index `index` into one element offset an operand, for a collapsed shape of
 * `rank` dimensions with sizes `p.s0…` and strides `p.<prefix>0…`. Unrolled: naga adds a counter to
 * every loop.
 *
 * @param operands prefixes; each gives a variable `<prefix>_at` that starts at `p.<prefix>_off`
 */
export function stridedOffsets(
  rank: number,
  operands: readonly string[],
  index = "i",
): string {
  const lines = operands.map((o) => `  var ${o}_at = p.${o}_off;`);
  lines.push(`  var rest = ${index};`);
  for (let d = rank - 1; d >= 0; d--) {
    const last = d === 0;
    lines.push(last ? `  let c${d} = rest;` : `  let c${d} = rest % p.s${d};`);
    if (!last) lines.push(`  rest = rest / p.s${d};`);
    for (const o of operands) lines.push(`  ${o}_at += c${d} * p.${o}${d};`);
  }
  return lines.join("\n");
}

/** Params that {@linkcode stridedOffsets} reads. */
export function stridedParams(
  rank: number,
  operands: readonly string[],
): Record<string, Param["type"]> {
  const params: Record<string, Param["type"]> = {};
  for (let d = 0; d < rank; d++) params[`s${d}`] = "u32";
  for (const o of operands) {
    params[`${o}_off`] = "u32";
    for (let d = 0; d < rank; d++) params[`${o}${d}`] = "u32";
  }
  return params;
}

/** Values for {@linkcode stridedParams}. */
export function stridedValues(
  shape: readonly number[],
  operands: Readonly<Record<string, { offset: number; strides: readonly number[] }>>,
): Record<string, number> {
  const values: Record<string, number> = {};
  for (let d = 0; d < shape.length; d++) values[numbered("s", d)] = shape[d]!;
  for (const o in operands) {
    const { offset, strides } = operands[o]!;
    values[offsetName(o)] = offset;
    for (let d = 0; d < strides.length; d++) values[numbered(o, d)] = strides[d]!;
  }
  return values;
}

const numberedNames = new Map<string, string[]>();
const offsetNames = new Map<string, string>();

/** `<name><number>`, as params are called: kept, as launches ask for the same ones over and over. */
export function numbered(name: string, number: number): string {
  let names = numberedNames.get(name);
  if (!names) numberedNames.set(name, names = []);
  return names[number] ??= `${name}${number}`;
}

/** `<name>_off`, as params are called. */
export function offsetName(name: string): string {
  let made = offsetNames.get(name);
  if (!made) offsetNames.set(name, made = `${name}_off`);
  return made;
}
