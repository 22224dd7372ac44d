/**
 * @file The table of layers of `Module.summary`.
 *
 * Layout and sums: https://github.com/sksq96/pytorch-summary, whose MB are MiB of f32. Unlike there, a
 * parameter counts once however often it is used.
 */

import { type DType, noGrad, scope, Tensor, zeros } from "../engine/mod.ts";
import { watchForward } from "./forward.ts";
import type { Module } from "./module.ts";

const WIDTH = 64;

interface Row {
  readonly layer: string;
  readonly shapes: readonly (readonly number[])[];
  readonly parameters: number;
}

/** The table of layers for one sample of `inputShape`; see `Module.summary`. */
export function summarize(
  model: Module,
  inputShape: readonly number[],
  options: { dtype?: DType } = {},
): string {
  const rows = runRows(model, inputShape, options.dtype ?? "f32");
  const parameters = model.parameters();
  const total = count(parameters);
  const trainable = count(parameters.filter((p) => p.requiresGrad));
  const outputs = rows.flatMap(({ shapes }) => shapes).reduce((n, s) => n + product(s), 0);
  const bytes = {
    input: 4 * product(inputShape),
    pass: 2 * 4 * outputs, // an output and its gradient
    parameters: 4 * total,
  };
  return [
    "-".repeat(WIDTH),
    line("Layer (type)", "Output Shape", "Param #"),
    "=".repeat(WIDTH),
    ...rows.map((row) => line(row.layer, showShapes(row.shapes), group(row.parameters))),
    "=".repeat(WIDTH),
    `Total params: ${group(total)}`,
    `Trainable params: ${group(trainable)}`,
    `Non-trainable params: ${group(total - trainable)}`,
    "-".repeat(WIDTH),
    `Input size (MB): ${mebi(bytes.input)}`,
    `Forward/backward pass size (MB): ${mebi(bytes.pass)}`,
    `Params size (MB): ${mebi(bytes.parameters)}`,
    `Estimated Total Size (MB): ${mebi(bytes.input + bytes.pass + bytes.parameters)}`,
    "-".repeat(WIDTH),
  ].join("\n");
}

/** One row a layer, in the order in which they ran. */
function runRows(model: Module, inputShape: readonly number[], dtype: DType): Row[] {
  const rows: Row[] = [];
  const leaf = model.children().length === 0;
  const modes = model.modules().map((module) => ({ module, training: module.training }));
  model.eval();
  try {
    watchForward((module, output) => {
      if (module.isContainer() || (module === model && !leaf)) return;
      const outputs = (Array.isArray(output) ? output : [output]).filter((y) =>
        y instanceof Tensor
      );
      rows.push({
        layer: `${module.constructor.name}-${rows.length + 1}`,
        shapes: outputs.map((y) => y.shape.slice(1)),
        parameters: count(
          module.namedParameters().filter(([n]) => !n.includes(".")).map((e) => e[1]),
        ),
      });
    }, () => {
      noGrad(() =>
        scope(() =>
          void (model.forward as (x: Tensor) => unknown)(zeros([1, ...inputShape], { dtype }))
        )
      );
    });
  } finally {
    for (const { module, training } of modes) module.training = training;
  }
  return rows;
}

function line(layer: string, shape: string, parameters: string): string {
  return `${layer.padStart(20)}  ${shape.padStart(25)} ${parameters.padStart(15)}`;
}

function showShapes(shapes: readonly (readonly number[])[]): string {
  const texts = shapes.map((shape) => `[${[-1, ...shape].join(", ")}]`);
  return texts.length === 1 ? texts[0]! : `[${texts.join(", ")}]`;
}

function count(tensors: readonly Tensor[]): number {
  return tensors.reduce((n, t) => n + t.size, 0);
}

function product(shape: readonly number[]): number {
  return shape.reduce((n, size) => n * size, 1);
}

/** Digits in groups of three: 57,094,874. */
function group(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

function mebi(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(2);
}
