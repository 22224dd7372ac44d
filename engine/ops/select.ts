/** Conversion between dtypes, and choice by a condition. */

import { checkDtype } from "../arguments.ts";
import type { DeviceArray, Spec } from "../array.ts";
import { type DType, DTYPES, isFloat, resultType } from "../dtype.ts";
import { defineOp, type Op } from "../op.ts";
import { hostMap } from "../reference.ts";
import { broadcastShapes } from "../shape.ts";
import { copyOf, inDType, pointwise, type PointwiseArgument } from "./launch_pointwise.ts";

/** Conversion to another dtype; the gradient is converted back. */
export const cast: Op<{ dtype: DType }> = defineOp<{ dtype: DType }>({
  name: "to",
  check([x], { dtype }) {
    checkDtype("convert", dtype);
    return [{ shape: x!.shape, dtype }];
  },
  forward: (_ctx, [x], { dtype }) => [copyOf(x!, dtype)],
  backward: (
    ctx,
    [dy],
  ) => [isFloat(ctx.inputs[0]!.dtype) ? inDType(dy!, ctx.inputs[0]!.dtype) : null],
  reference: ([x], { dtype }) => [
    hostMap(
      x!.shape,
      [x!],
      (v) => dtype === "bool" ? Number(v !== 0) : isFloat(dtype) ? v : Math.trunc(v),
      dtype,
    ),
  ],
  samples: [
    { inputs: [{ shape: [3, 4] }], attrs: { dtype: "f32" }, terms: 1 },
    { inputs: [{ shape: [9], low: -5, high: 5 }], attrs: { dtype: "i32" }, grad: false },
    {
      inputs: [{ shape: [9], dtype: "i32", low: -2, high: 2 }],
      attrs: { dtype: "bool" },
      grad: false,
    },
    {
      inputs: [{ shape: [9], dtype: "u32", low: 0, high: 9 }],
      attrs: { dtype: "f32" },
      grad: false,
    },
  ],
});

/** Element by element: a where cond is true, else b. Shapes broadcast. */
export const where: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "where",
  linear: { given: [0] },
  check([cond, a, b]) {
    if (cond!.dtype !== "bool") {
      throw new TypeError(`Cannot choose by a condition of dtype ${cond!.dtype}: it must be bool`);
    }
    return [{
      shape: broadcastShapes("where", cond!.shape, a!.shape, b!.shape),
      dtype: resultType(a!, b!),
    }];
  },
  forward(ctx, [cond, a, b], _attrs, [out]) {
    ctx.save(cond!);
    return [choose(cond!, a!, b!, out!)];
  },
  backward(ctx, [dy]) {
    const [cond] = ctx.saved;
    const zero = { value: 0, type: "f32" } as const;
    return [
      null,
      ctx.needs[1] ? choose(cond!, dy!, zero, dy!) : null,
      ctx.needs[2] ? choose(cond!, zero, dy!, dy!) : null,
    ];
  },
  reference: ([cond, a, b]) => [
    hostMap(
      broadcastShapes("where", cond!.shape, a!.shape, b!.shape),
      [cond!, a!, b!],
      (c, x, y) => c ? x : y,
    ),
  ],
  samples: [
    {
      inputs: [{ shape: [2, 3], dtype: "bool", low: 0, high: 2 }, { shape: [2, 3] }, {
        shape: [3],
      }],
      attrs: {},
      terms: 1,
    },
    {
      inputs: [{ shape: [4, 1], dtype: "bool", low: 0, high: 2 }, { shape: [] }, { shape: [5] }],
      attrs: {},
      terms: 1,
    },
    {
      inputs: [{ shape: [67], dtype: "bool", low: 0, high: 2 }, { shape: [67] }, { shape: [67] }],
      attrs: {},
      terms: 1,
    },
    // By fours, with one number on either side.
    ...[[[24], []], [[], [24]]].map(([a, b]) => ({
      inputs: [{ shape: [24], dtype: "bool" as const, low: 0, high: 2 }, { shape: a! }, {
        shape: b!,
      }],
      attrs: {},
      terms: 1,
    })),
  ],
});

function choose(
  cond: DeviceArray,
  a: PointwiseArgument,
  b: PointwiseArgument,
  out: Spec,
): DeviceArray {
  const kind = DTYPES[out.dtype].compute;
  return pointwise({
    name: "where",
    inputs: { c: cond, a, b },
    expression: `select(a, b, c == ${kind}(0))`,
    compute: kind,
    result: kind,
  }, { shape: out.shape, dtype: out.dtype });
}
