/** Builds the op records of the table of losses: one kernel forward, one an input backward. */

import { isFloat } from "../dtype.ts";
import { defineOp, type GradientFormulas, type Op, type Sample } from "../op.ts";
import { hostMap } from "../reference.ts";
import { broadcastShapes } from "../shape.ts";
import { pointwise, type PointwiseArgument } from "./launch_pointwise.ts";
import { LOSSES, type LossRow } from "./loss_table.ts";
import { runFormulas } from "./pointwise_gradients.ts";
import { reads, type Scalars } from "./pointwise_row.ts";

/** Names of the inputs in formulas, in order. */
const NAMES = ["x", "t", "w"] as const;

/** Losses by element: x and t, for `bceWithLogitsWeighted` also w; all broadcast. */
export const losses: Record<keyof typeof LOSSES, Op<Scalars>> = build();

function build(): Record<keyof typeof LOSSES, Op<Scalars>> {
  const ops = {} as Record<keyof typeof LOSSES, Op<Scalars>>;
  for (const name of Object.keys(LOSSES) as (keyof typeof LOSSES)[]) {
    ops[name] = defineLoss(name, LOSSES[name]);
  }
  return ops;
}

function argumentsOf(
  arrays: readonly (PointwiseArgument | null)[],
  scalars: Scalars,
): Record<string, PointwiseArgument> {
  const inputs: Record<string, PointwiseArgument> = {};
  arrays.forEach((a, i) => {
    if (a) inputs[NAMES[i]!] = a;
  });
  for (const [name, value] of Object.entries(scalars)) inputs[name] = { value, type: "f32" };
  return inputs;
}

function defineLoss(name: string, row: LossRow): Op<Scalars> {
  const formulas = (needs: readonly boolean[], scalars: Scalars): GradientFormulas => {
    const wanted = row.gradients.filter((_, i) => needs[i]).join(" ");
    const inputs = NAMES.slice(0, row.gradients.length);
    const saved = inputs.filter((v) => reads(wanted, v));
    return { inputs, saved, gradients: row.gradients, scalars, module: row.module };
  };
  return defineOp<Scalars>({
    name,
    check(inputs) {
      const wrong = inputs.find((i) => !isFloat(i.dtype) || i.dtype !== inputs[0]!.dtype);
      if (wrong) {
        throw new TypeError(
          `Cannot take ${name} of dtypes ${
            inputs.map((i) => i.dtype).join(" and ")
          }: all must be ` +
            "the same float",
        );
      }
      const shape = broadcastShapes(name, ...inputs.map((i) => i.shape));
      return [{ shape, dtype: inputs[0]!.dtype }];
    },
    forward(ctx, inputs, scalars, [out]) {
      const { saved } = formulas(ctx.needs, scalars);
      ctx.save(...inputs.filter((_, i) => saved.includes(NAMES[i]!)));
      return [
        pointwise({
          name,
          inputs: argumentsOf(inputs, scalars),
          expression: row.f,
          compute: "f32",
          result: "f32",
          module: row.module,
          flops: 5,
        }, out!),
      ];
    },
    formulas,
    backward: (ctx, [dy], scalars) =>
      runFormulas(formulas(ctx.needs, scalars), ctx, dy!, {
        name: (i) => `${name}_backward_${NAMES[i]}`,
        out: () => dy!,
        flops: 5,
      }),
    reference: (inputs, scalars) => [
      hostMap(
        broadcastShapes(name, ...inputs.map((i) => i.shape)),
        inputs,
        (...values) => row.ref(values, scalars),
      ),
    ],
    samples: (row.scalars ?? [{}]).flatMap((attrs) => samplesOf(row, attrs)),
  });
}

function samplesOf(row: LossRow, attrs: Scalars): Sample<Scalars>[] {
  const three = row.gradients.length === 3;
  const samples: Sample<Scalars>[] = [[], [1], [7], [3, 5], [65], [0, 2]].map((shape) => ({
    inputs: [
      { shape, ...row.x, distinct: row.distinct },
      // Another shape, so that distinct values of x and t do not meet either.
      { shape, ...row.t, ...(row.distinct ? { low: 3, high: 7 } : {}) },
      ...(three ? [{ shape: shape.slice(-1), low: 0.5, high: 4 }] : []),
    ],
    attrs,
    terms: three ? 16 : 1,
  }));
  const points = row.extremes;
  if (points) {
    const inputs = Array.from({ length: points[0]!.length }, (_, i) => ({
      shape: [points.length],
      values: points.map((point) => point[i]!),
    }));
    samples.push({ inputs, attrs, grad: false, terms: 1 });
  }
  return samples;
}
