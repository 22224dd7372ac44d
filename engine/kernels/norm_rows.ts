/**
 * y = f(elements, statistics, weights) over rows of a contiguous [R, S], where all elements of a row
 * share their statistics and either share their weight (a channel is a row) or take it by column.
 *
 * A thread owns eight columns of a row, `across` apart, so that neighbouring threads touch neighbours
 * and a row number is divided out of an index once for eight elements: on software Vulkan that is a
 * quarter of the time of a broadcasting pointwise kernel. Source: ours.
 */

import { type DType, DTYPES } from "../dtype.ts";
import {
  type BufferDecl,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  type Param,
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
}

/** Builds the kernel. Inputs but elements may start at an offset `<name>_off`. */
export const normRowsKernel: (spec: NormRowsSpec) => Kernel = memoized(buildNormRows);

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
  const buffers: BufferDecl[] = spec.inputs.map(({ name, dtype }) => ({
    name: `b_${name}`,
    access: "read",
    type: DTYPES[dtype].storage,
  }));
  if (spec.table) buffers.push({ name: "b_table", access: "read", type: "f32" });
  buffers.push({ name: "b_y", access: "write", type: DTYPES[spec.output].storage });
  const byColumn = (i: NormRowsInput) => i.by === "weight" && spec.weights === "column";
  const once: string[] = [];
  const each: string[] = [];
  for (const input of spec.inputs) {
    const { name, by, dtype } = input;
    if (by !== "element") params[`${name}_off`] = "u32";
    const index = by === "element"
      ? "at"
      : `p.${name}_off + ${byColumn(input) ? "s" : by === "weight" ? "channel" : "group"}`;
    const value = `b_${name}[${index}]`;
    const line = `let ${name} = ${DTYPES[dtype].storage === "f32" ? value : `f32(${value})`};`;
    (by === "element" || byColumn(input) ? each : once).push(line);
  }
  for (const [name, row] of Object.entries(spec.table ?? {})) {
    once.push(`let ${name} = b_table[${row}u * p.stat_mod + group];`);
  }
  const stored = DTYPES[spec.output].storage;
  const value = stored === "f32" ? spec.expression : `${stored}(${spec.expression})`;
  const columns = Array.from({ length: NORM_COLUMNS }, (_, k) =>
    `  {
    let s = column + ${k}u * p.across;
    if (s < p.S) {
      let at = row * p.S + s;
      ${each.join("\n      ")}
      b_y[at] = ${value};
    }
  }`);
  return kernel({
    name: spec.name,
    buffers,
    params,
    module: spec.module,
    body: `${linearThread("t", "p.threads")}
  let row = t / p.across;
  let column = t % p.across;
  let group = (row / p.stat_div) % p.stat_mod;
  let channel = row % p.channels;
  ${once.join("\n  ")}
${columns.join("\n")}`,
  });
}
