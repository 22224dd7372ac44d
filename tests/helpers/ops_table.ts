/**
 * @file `deno task docs:ops`: writes `engine/OPS.md`, the table of ops, from their records. Needs no
 * adapter: dtypes are found by asking each op's `check`.
 */

import { doubleOf } from "../../engine/double/walk.ts";
import type { DType } from "../../engine/dtype.ts";
import { allOps, type Op } from "../../engine/op.ts";
import { sizeOf } from "../../engine/shape.ts";
import { ROOT } from "./source.ts";

const ORDER: readonly DType[] = ["f32", "f16", "i32", "u32", "bool"];

/** Where the table is kept. */
export const OPS_TABLE = new URL("engine/OPS.md", ROOT);

/** Loads every record. */
export async function loadOps(): Promise<void> {
  for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
    if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
  }
}

/** The dtypes that an op takes, and what it makes of them, e.g. `f32, f16 → same; i32 → f32`. */
function dtypesOf(op: Op<unknown>): string {
  const sample =
    op.samples.find((s) =>
      s.inputs.some((i) => !i.dtype) && s.inputs.every((i) => sizeOf(i.shape) > 1)
    ) ?? op.samples.find((s) => s.inputs.some((i) => !i.dtype)) ?? op.samples[0]!;
  const fixed = sample.inputs.filter((i) => i.dtype).map((i) => i.dtype!);
  const byResult = new Map<string, DType[]>();
  for (const dtype of ORDER) {
    const specs = sample.inputs.map((i) => ({ shape: i.shape, dtype: i.dtype ?? dtype }));
    try {
      const outputs = op.check(specs, sample.attrs).map((o) => o.dtype);
      const same = outputs.every((o) => o === dtype);
      const result = same ? "same" : outputs.join(" ");
      byResult.set(result, [...byResult.get(result) ?? [], dtype]);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }
  if (sample.inputs.every((i) => i.dtype)) {
    const outputs = op.check(
      sample.inputs.map((i) => ({ shape: i.shape, dtype: i.dtype! })),
      sample.attrs,
    );
    return `${fixed.join(" ")} → ${outputs.map((o) => o.dtype).join(" ")}`;
  }
  const also = fixed.length > 0 ? ` with ${fixed.join(" ")}` : "";
  return [...byResult].map(([result, dtypes]) => `${dtypes.join(", ")}${also} → ${result}`)
    .join("; ");
}

/** The table as Markdown. */
export function opsTable(): string {
  const ops = [...allOps().values()].toSorted((a, b) => a.name < b.name ? -1 : 1);
  const lines = ops.map((op) => {
    const gradient = "notDifferentiable" in op.backward
      ? `no: ${op.backward.notDifferentiable}`
      : typeof doubleOf(op) === "object"
      ? "yes, but none of that"
      : "yes";
    const reference = op.reference ? "yes" : "no: random";
    return `| \`${op.name}\` | ${
      dtypesOf(op)
    } | ${gradient} | ${reference} | ${op.samples.length} |`;
  });
  const differentiable = ops.filter((op) => !("notDifferentiable" in op.backward)).length;
  const samples = ops.reduce((n, op) => n + op.samples.length, 0);
  return `# Ops

Written by \`deno task docs:ops\` from the op records in \`engine/ops/\`; do not edit. Functions and
methods of the engine are one of these ops or are made of several.

${ops.length} ops, ${differentiable} with a gradient, ${samples} samples. Every sample is run on contiguous, shifted,
transposed and sliced inputs and compared with a float64 reference; gradients are compared with central
differences of that reference, and so are gradients of gradients.

Dtypes: what the inputs may be → what the outputs are.

| op | dtypes | gradient | reference | samples |
| --- | --- | --- | --- | --- |
${lines.join("\n")}
`;
}

if (import.meta.main) {
  await loadOps();
  await Deno.writeTextFile(OPS_TABLE, opsTable());
}
