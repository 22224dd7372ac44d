/**
 * y = f(elements, statistics, weights) over rows of a contiguous [R, S], where all elements of a row
 * share their statistics and either share their weight (a channel is a row) or take it by column.
 *
 * A thread owns eight columns of a row, `across` apart, so that neighbouring threads touch neighbours
 * and a row number is divided out of an index once for eight elements: on software Vulkan that is a
 * quarter of the time of a broadcasting pointwise kernel. Where rows are whole fours it owns two of them,
 * each one load. Source: ours.
 */

import type { DType } from "../dtype.ts";
import {
  asFloats,
  asStored,
  type BufferDecl,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  type Param,
  storedType,
} from "./kernel.ts";

/** Columns of a thread. */
export const NORM_COLUMNS = 8;

/** An array that the expression reads under its name. */
export interface NormRowsInput {
  readonly name: string;
  readonly dtype: DType;
  /** Read at each element, at the row's statistics, or at the weight of the row or column. */
  readonly by: "element" | "statistics" | "weight";
}

/** What varies between the text of these kernels. */
export interface NormRowsSpec {
  readonly name: string;
  readonly inputs: readonly NormRowsInput[];
  /** Rows of a table [rows, groups] by the names that the expression has for the row's group. */
  readonly table?: Readonly<Record<string, number>>;
  readonly output: DType;
  /** WGSL f32 expression over the inputs' names and `p.eps`. */
  readonly expression: string;
  /** Functions that the expression calls. */
  readonly module?: string;
  /** Whether weights go by row (channel) or by column. */
  readonly weights: "row" | "column";
  /** Whether rows are whole fours, which are then one load: params count columns in fours. */
  readonly fours: boolean;
}

/** Columns, or fours of them, that a thread owns. */
function columnsOf({ fours }: { readonly fours: boolean }): number {
  return fours ? NORM_COLUMNS / 4 : NORM_COLUMNS;
}

/** Builds the kernel. Inputs but elements may start at an offset `<name>_off`. */
export const normRowsKernel: (spec: NormRowsSpec) => Kernel = memoized(buildNormRows);

/**
 * WGSL of `body` at each of the thread's columns `s`. Eight texts in a row are no faster than a loop and
 * take three times as long to compile; two fours in a row are 1.2 times as fast (lavapipe, 2026-11).
 */
function eachColumn(spec: NormRowsSpec, body: string): string {
  const columns = columnsOf(spec);
  if (!spec.fours) {
    return `  let end = min(p.S, column + ${columns}u * p.across);
  for (var s = column; s < end; s += p.across) {
    ${body}
  }`;
  }
  return Array.from({ length: columns }, (_, k) =>
    `  {
    let s = column + ${k}u * p.across;
    if (s < p.S) {
    ${body}
    }
  }`).join("\n");
}

function buildNormRows(spec: NormRowsSpec): Kernel {
  const params: Record<string, Param["type"]> = {
    threads: "u32",
    S: "u32",
    across: "u32",
    stat_div: "u32",
    stat_mod: "u32",
    channels: "u32",
    eps: "f32",
  };
  const { fours } = spec;
  const byColumn = (i: NormRowsInput) => i.by === "weight" && spec.weights === "column";
  const varies = (i: NormRowsInput) => i.by === "element" || byColumn(i);
  const buffers: BufferDecl[] = spec.inputs.map((i) => ({
    name: `b_${i.name}`,
    access: "read",
    type: storedType(i.dtype, fours && varies(i)),
  }));
  if (spec.table) buffers.push({ name: "b_table", access: "read", type: "f32" });
  buffers.push({ name: "b_y", access: "write", type: storedType(spec.output, fours) });
  const once: string[] = [];
  const each: string[] = [];
  for (const input of spec.inputs) {
    const { name, by, dtype } = input;
    if (by !== "element") params[`${name}_off`] = "u32";
    const start = fours && byColumn(input) ? `(p.${name}_off >> 2u)` : `p.${name}_off`;
    const index = by === "element"
      ? "at"
      : `${start} + ${byColumn(input) ? "s" : by === "weight" ? "channel" : "group"}`;
    const value = `b_${name}[${index}]`;
    const line = `let ${name} = ${asFloats(value, dtype, fours && varies(input))};`;
    (varies(input) ? each : once).push(line);
  }
  for (const [name, row] of Object.entries(spec.table ?? {})) {
    once.push(`let ${name} = b_table[${row}u * p.stat_mod + group];`);
  }
  const rowNames = Object.keys(spec.table ?? {});
  const names = [...spec.inputs.map((i) => i.name), ...rowNames];
  const call = (part: string) => {
    const values = spec.inputs.map((i) => varies(i) ? `${i.name}${part}` : i.name);
    return `value_of(${[...values, ...rowNames].join(", ")})`;
  };
  const result = fours ? `vec4(${[".x", ".y", ".z", ".w"].map(call).join(", ")})` : call("");
  const element = `let at = row * p.S + s;
    ${each.join("\n    ")}
    b_y[at] = ${asStored(result, spec.output, fours)};`;
  return kernel({
    name: `${spec.name}${fours ? "_fours" : ""}`,
    buffers,
    params,
    module: `${spec.module ?? ""}
fn value_of(${names.map((n) => `${n}: f32`).join(", ")}) -> f32 {
  return ${spec.expression};
}`,
    body: `${linearThread("t", "p.threads")}
  let row = t / p.across;
  let column = t % p.across;
  let group = (row / p.stat_div) % p.stat_mod;
  let channel = row % p.channels;
  ${once.join("\n  ")}
${eachColumn(spec, element)}`,
  });
}
