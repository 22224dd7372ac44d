/** Positions of the largest and smallest elements. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { argReduceKernel, argSharesKernel } from "../kernels/reduce.ts";
import { defineOp, notDifferentiable, type Op, type Sample } from "../op.ts";
import { normalizeDims, show, sizeOf } from "../shape.ts";
import { permuted } from "./movement.ts";
import {
  asMiddle,
  extremeOf,
  hostReduce,
  neighbours,
  REDUCE_SAMPLES,
  type ReduceAttrs,
  reducedShape,
  sharesOf,
} from "./reduce.ts";
import { groupShares, rowGrid, rowLanes } from "./rows.ts";

/** One that differs from all others, in the first, a middle and the last share of a GPU, for every dtype. */
const ALONE: readonly Sample<ReduceAttrs>[] = [0, 1].flatMap((rest) =>
  [0, 11, 23].map((at) => ({
    inputs: [{
      shape: [24],
      values: Array.from({ length: 24 }, (_, i) => i === at ? 1 - rest : rest),
    }],
    attrs: {},
  }))
);

/** Extremes at position 1 and at either end, alone and in shares, in each type that has a kernel. */
const ENDS: readonly Sample<ReduceAttrs>[] = (["f32", "i32"] as const).flatMap((dtype) => [
  ...[[0, 9, -9, 1, 2], [0, -9, 9, 1, 2], [1, 3, 3, 2, 9], [5, 3, 3, 2, 0], [9, 3, 3, 2, 0]].map(
    (values) => ({ inputs: [{ shape: [values.length], dtype, values }], attrs: {} }),
  ),
  ...[[9, -9], [-9, 9]].map(([first, last]) => ({
    inputs: [{
      shape: [576],
      dtype,
      values: Array.from({ length: 576 }, (_, i) => i === 0 ? first! : i === 575 ? last! : i % 7),
    }],
    attrs: {},
  })),
]);

/** Columns from which on they are read side by side, and shares of one that are merged quickly: guesses. */
const COLUMNS = 8, MOST_SHARES = 4096;

/** Threads of a share, and the shares of each output. */
function argPlan(
  { outputs, length, inner }: { outputs: number; length: number; inner: number },
): { lanes: number; splits: number } {
  const lanes = inner < COLUMNS ? rowLanes(length) : 1;
  const splits = lanes === 1
    ? Math.min(sharesOf(length, outputs), MOST_SHARES)
    : groupShares(length, { lanes, rows: outputs });
  return { lanes, splits };
}

function argExtreme(largest: boolean): Op<ReduceAttrs> {
  const name = largest ? "argmax" : "argmin";
  return defineOp<ReduceAttrs>({
    name,
    check([x], { dim, keepdim }) {
      const dims = normalizeDims(name, dim, x!.shape.length);
      if (dims.some((d) => x!.shape[d] === 0)) {
        throw new RangeError(
          `Cannot take the ${name} of ${show(x!.shape)}: it has no elements there`,
        );
      }
      return [{ shape: reducedShape(x!.shape, dims, keepdim), dtype: "i32" }];
    },
    forward(_ctx, [x], { dim }, [out]) {
      const dims = normalizeDims(name, dim, x!.shape.length);
      const kept = x!.shape.map((_, d) => d).filter((d) => !dims.includes(d));
      // Positions count in the order of the dimensions, so those apart are brought together.
      const { array, outer, length, inner } = neighbours(dims).length === 1
        ? asMiddle(x!, dims)
        : asMiddle(permuted(x!, [...kept, ...dims]), dims.map((_, i) => kept.length + i));
      const outputs = outer * inner;
      const { lanes, splits } = argPlan({ outputs, length, inner });
      const input = array.dtype;
      const params = { outputs, length, inner, splits };
      const y = DeviceArray.empty(out!, name);
      const shares = splits === 1
        ? y
        : DeviceArray.empty({ shape: [outputs, splits], dtype: "i32" }, name);
      gpu().queue.launch({
        kernel: argReduceKernel({ input, largest, lanes }),
        buffers: [array, shares].map((a) => operand(a).binding),
        // On software columns far apart would lie in pages of their own.
        params: { ...params, by_column: Number(!gpu().info.software) },
        grid: rowGrid(shares.size, { lanes }),
        cost: { flops: array.size, bytes: array.bytes + shares.bytes },
      });
      if (splits === 1) return [y];
      const merging = rowLanes(splits);
      gpu().queue.launch({
        kernel: argSharesKernel({ input, largest, lanes: merging }),
        buffers: [array, shares, y].map((a) => operand(a).binding),
        params,
        grid: rowGrid(outputs, { lanes: merging }),
        cost: { flops: shares.size, bytes: 2 * shares.bytes + y.bytes },
      });
      return [y];
    },
    backward: notDifferentiable("gives positions, which are integers"),
    reference: ([x], attrs) => [
      hostReduce(x!, attrs, (v) => {
        const best = extremeOf(v, largest);
        return v.findIndex((e) => Object.is(e, best) || e === best);
      }, "i32"),
    ],
    samples: [
      // Rows whose best comes first, between and last, in every dtype.
      { inputs: [{ shape: [12, 3], distinct: true }], attrs: { dim: 1 } },
      ...REDUCE_SAMPLES,
      { inputs: [{ shape: [6], values: [1, 3, 3, 0, 0, 2] }], attrs: {} },
      { inputs: [{ shape: [5], values: [1, NaN, 3, NaN, -Infinity] }], attrs: {} },
      // Ties and NaN in several shares.
      { inputs: [{ shape: [2, 600], dtype: "i32", low: 0, high: 3 }], attrs: { dim: 1 } },
      {
        inputs: [{ shape: [600], values: Array.from({ length: 600 }, (_, i) => i % 299 / 9) }],
        attrs: {},
      },
      {
        inputs: [{
          shape: [700],
          values: Array.from({ length: 700 }, (_, i) => i === 401 || i === 500 ? NaN : i % 7),
        }],
        attrs: {},
      },
      ...ENDS,
      ...ALONE,
      // Shares of workgroups on a GPU, with equal ones in several, and columns apart and side by side.
      ...[[4201], [1500, 3], [2, 310, 9]].map((shape) => ({
        inputs: [{
          shape,
          values: Array.from({ length: sizeOf(shape) }, (_, i) => i * i % 977 % 401),
        }],
        attrs: shape.length === 1 ? {} : { dim: shape.length - 2 },
      })),
    ],
  });
}

/** Position (i32) of the first largest element; NaN counts as largest. */
export const argmax: Op<ReduceAttrs> = argExtreme(true);
/** Position (i32) of the first smallest element; NaN counts as smallest. */
export const argmin: Op<ReduceAttrs> = argExtreme(false);
