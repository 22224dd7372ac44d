/** Products over dimensions, and whether any or all elements are true. */

import type { DeviceArray, Spec } from "../array.ts";
import { DTYPES, isFloat } from "../dtype.ts";
import { defineOp, notDifferentiable, type Op, type SampleInput } from "../op.ts";
import { normalizeDims } from "../shape.ts";
import { pointwise } from "./launch_pointwise.ts";
import {
  hostReduce,
  reduce,
  REDUCE_SAMPLES,
  type ReduceAttrs,
  reducedShape,
  spread,
} from "./reduce.ts";

/** y = product of x over the dimensions; integers multiply as i32 or u32, bool counts as i32. */
export const prod: Op<ReduceAttrs> = defineOp<ReduceAttrs>({
  name: "prod",
  check([x], { dim, keepdim }) {
    const dims = normalizeDims("prod", dim, x!.shape.length);
    return [{
      shape: reducedShape(x!.shape, dims, keepdim),
      dtype: x!.dtype === "bool" ? "i32" : x!.dtype,
    }];
  },
  forward(ctx, [x], { dim }, [out]) {
    ctx.save(x!);
    return [
      reduce(x!, {
        name: "prod",
        init: "1",
        combine: "a * x",
        dims: normalizeDims("prod", dim, x!.shape.length),
        shape: out!.shape,
        output: out!.dtype,
      }),
    ];
  },
  // The product of the others: of all non-zeros over x, of all non-zeros at the only zero, else 0.
  backward(ctx, [dy], { dim }) {
    const [x] = ctx.saved as [DeviceArray];
    const dims = normalizeDims("prod", dim, x.shape.length);
    const over = (name: string, map: string, combine: string, init: string) =>
      spread(
        reduce(x, { name, map, combine, init, dims, shape: dy!.shape, output: "f32" }),
        x.shape,
        dims,
      );
    return [
      pointwise({
        name: "prod_backward",
        inputs: {
          x,
          dy: spread(dy!, x.shape, dims),
          rest: over("prod_nonzero", "select(x, 1.0, x == 0.0)", "a * x", "1"),
          zeros: over("count_zeros", "select(0.0, 1.0, x == 0.0)", "a + x", "0"),
        },
        expression: "prod_gradient(x, dy * rest, zeros)",
        module: `
fn prod_gradient(x: f32, v: f32, zeros: f32) -> f32 {
  let at_zero = select(0.0, v, zeros == 1.0);
  return select(select(0.0, v / x, zeros == 0.0), at_zero, x == 0.0);
}`,
        compute: "f32",
        result: "f32",
      }, { shape: x.shape, dtype: dy!.dtype }),
    ];
  },
  factors: ([x], { dim }) =>
    normalizeDims("prod", dim, x!.shape.length).reduce((n, d) => n * x!.shape[d]!, 1),
  reference: ([x], attrs) => [hostReduce(x!, attrs, (v) => v.reduce((a, b) => a * b, 1))],
  samples: [
    ...REDUCE_SAMPLES.map((s) =>
      // Long products must neither vanish nor overflow; their rounding shows as their condition.
      s.grad === false || s.inputs[0]!.shape[1]! >= 19
        ? {
          ...s,
          // The longer, the nearer to 1.
          inputs: [nearOne(s.inputs[0]!.shape)],
          terms: 1,
        }
        : s
    ),
    { inputs: [{ shape: [0, 3] }], attrs: { dim: 0 } },
    { inputs: [{ shape: [6, 1], values: [1, 0, 2, -1, 3, 0.5] }], attrs: { dim: 1 } },
    {
      inputs: [{ shape: [4, 3], values: [1, 2, 3, 0, 2, -3, 0, 0.5, 2, 0, 0, 0] }],
      attrs: { dim: 1 },
    },
    {
      inputs: [{ shape: [5, 3], values: [0, 2, 3, 1, 1, 1, 1, 0, 2, 4, 3, 2, 2, 3, 0] }],
      attrs: { dim: 1 },
    },
    {
      inputs: [{ shape: [4], values: [3, 2, -1, 0] }],
      attrs: {},
    },
    // The first and the last of a long row are all of the product.
    ...[301, 1200, 8197, 8200].map((length) => ({
      inputs: [{
        shape: [1, length],
        values: Array.from({ length }, (_, i) => i === 0 ? 2 : i === length - 1 ? 3 : 1),
      }],
      attrs: { dim: 1 },
      grad: false,
      terms: 1,
    })),
    // Columns with no zero, one and two, one by one, by fours, and between other dimensions.
    {
      inputs: [{ shape: [4, 3], values: [1, 2, 0, 3, 0, 2, -1, 2, 0, 0.5, 3, 2] }],
      attrs: { dim: 0 },
    },
    { inputs: [{ shape: [3, 8], values: fewZeros(24) }], attrs: { dim: 0 } },
    // The first row tells them apart, in columns of more than one turn of the loop.
    {
      inputs: [{
        shape: [17, 3],
        values: [2, 0, 3, ...Array.from({ length: 48 }, (_, i) => 1 + (i % 5) / 20)],
      }],
      attrs: { dim: 0 },
    },
    { inputs: [{ shape: [2, 3, 8], values: fewZeros(48) }], attrs: { dim: 1 } },
  ],
});

function truth(name: "any" | "all"): Op<ReduceAttrs> {
  const any = name === "any";
  return defineOp<ReduceAttrs>({
    name,
    check: ([x], { dim, keepdim }): Spec[] => [{
      shape: reducedShape(x!.shape, normalizeDims(name, dim, x!.shape.length), keepdim),
      dtype: "bool",
    }],
    forward(_ctx, [x], { dim }, [out]) {
      const kind = DTYPES[x!.dtype].compute;
      return [
        reduce(x!, {
          name,
          init: any ? "0" : "1",
          map: `select(${kind}(0), ${kind}(1), is_true(x))`,
          combine: any ? "max(a, x)" : "min(a, x)",
          // NaN is true; by its bits, because compilers may assume there is none.
          module: isFloat(x!.dtype)
            ? "fn is_true(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) != 0u; }"
            : `fn is_true(x: ${kind}) -> bool { return x != ${kind}(0); }`,
          dims: normalizeDims(name, dim, x!.shape.length),
          shape: out!.shape,
          output: "bool",
        }),
      ];
    },
    backward: notDifferentiable("gives bool, which has no slope"),
    reference: (
      [x],
      attrs,
    ) => [
      hostReduce(x!, attrs, (v) =>
        Number(
          any ? v.some((e) => e !== 0) : v.every((e) => e !== 0),
        ), "bool"),
    ],
    samples: [
      ...REDUCE_SAMPLES,
      { inputs: [{ shape: [3, 4], dtype: "bool", low: 0, high: 2 }], attrs: { dim: 1 } },
      { inputs: [{ shape: [5, 2], dtype: "i32", low: -1, high: 2 }], attrs: { dim: 0 } },
      { inputs: [{ shape: [0, 3] }], attrs: { dim: 0 } },
      { inputs: [{ shape: [2, 3], values: [0, 0, 0, NaN, NaN, NaN] }], attrs: { dim: 1 } },
      // Only the last element decides.
      { inputs: [{ shape: [2, 3], values: [1, 2, 0, 0, 0, 1] }], attrs: { dim: 1 } },
      { inputs: [{ shape: [2, 3], values: [0, 0, 1e-30, -0, 0, -2] }], attrs: { dim: [1] } },
      // Only the first decides, or only the last, in rows as long as each layout's.
      ...[301, 1200, 8197, 8200].flatMap((length) =>
        [0, length - 1].map((at) => ({
          inputs: [{
            shape: [1, length],
            values: Array.from({ length }, (_, i) => Number((i === at) === any)),
          }],
          attrs: { dim: 1 },
        }))
      ),
      // The first row decides, in columns of more than one turn of the loop.
      {
        inputs: [{
          shape: [17, 3],
          values: Array.from({ length: 51 }, (_, i) => Number((i === 1) === any)),
        }],
        attrs: { dim: 0 },
      },
      // Columns that differ from their neighbours, one by one and by fours.
      ...[[2, 3], [2, 16]].map((shape) => ({
        inputs: [{
          shape,
          values: Array.from(
            { length: 2 * shape[1]! },
            (_, i) => Number((i * i + (i >> 2)) % 3 === 1),
          ),
        }],
        attrs: { dim: 0 },
      })),
      // The same in shares.
      {
        inputs: [{
          shape: [530, 8],
          values: Array.from({ length: 4240 }, (_, i) => Number((i === 2402) === any)),
        }],
        attrs: { dim: 0 },
      },
    ],
  });
}

/** True where some element is not 0; false of none. */
export const any: Op<ReduceAttrs> = truth("any");
/** True where no element is 0; true of none. */
export const all: Op<ReduceAttrs> = truth("all");

/** Small factors, of which some are zeros, in an order that does not repeat soon. */
function fewZeros(size: number): number[] {
  return Array.from({ length: size }, (_, i) => [2, 0, 1, -1, 3, 0.5, 1][(i * i + (i >> 3)) % 7]!);
}

/** Factors whose product over a row neither vanishes nor overflows. */
function nearOne(shape: readonly number[]): SampleInput {
  const far = Math.min(0.05, 20 / Math.max(...shape, 1));
  return { shape, low: 1 - far, high: 1 + far };
}
