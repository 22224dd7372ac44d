/** The k largest or smallest elements of the last dimension. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import type { Lanes } from "../kernels/rows.ts";
import { topkBackwardKernel, topkKernel } from "../kernels/topk.ts";
import { defineOp, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { plain } from "./launch_pointwise.ts";
import { sharesOf } from "./reduce.ts";
import { groupShares, rowGrid, rowLanes } from "./rows.ts";
import { hostOrder } from "./sort.ts";

/** Attributes of {@linkcode topk}. */
export interface TopkAttrs {
  readonly k: number;
  readonly largest: boolean;
}

/** Times k that a piece of a row is long at least, so that there is less to do in every pass. */
const SHRINKS = 4;
/**
 * Rows that fill software's subgroup, and shortest piece of fewer. lavapipe, 2 cores, Deno 2.9.6, 2026-11: with k = 10
 * one row of 100,000 takes 0.31 times as long in pieces, 16 of 40,000 with k = 5 take 1.1 times.
 */
const SOFTWARE = { rows: 8, piece: 1024 };

/** Threads of a piece, and the pieces that each of `rows` rows of C is cut into. */
function topkPlan(C: number, { k, rows }: { k: number; rows: number }): Lanes & { chunks: number } {
  const lanes = rowLanes(C);
  const wanted = lanes > 1
    ? groupShares(C, { lanes, rows })
    : gpu().info.software && rows < SOFTWARE.rows
    ? Math.min(sharesOf(C, rows), Math.floor(C / SOFTWARE.piece))
    : 1;
  return { lanes, chunks: Math.max(1, Math.min(wanted, Math.floor(C / (SHRINKS * k)))) };
}

/** The k best of rows, or of the best of their pieces and where those came from. */
function topkOf(
  { values, places }: { values: DeviceArray; places?: DeviceArray },
  options: TopkAttrs & { readonly out: readonly [Spec, Spec] },
): { values: DeviceArray; indices: DeviceArray } {
  const { k, largest, out } = options;
  const C = values.shape.at(-1)!;
  const rows = values.size / C;
  const { lanes, chunks } = topkPlan(C, { k, rows });
  const shape = [rows, chunks * k];
  const [v, i] = chunks === 1
    ? out
    : [{ shape, dtype: values.dtype }, { shape, dtype: "i32" as const }];
  const best = {
    values: DeviceArray.empty(v!, "topk values"),
    indices: DeviceArray.empty(i!, "topk indices"),
  };
  const merges = places !== undefined;
  gpu().queue.launch({
    kernel: topkKernel({ dtype: values.dtype, largest, merges, lanes }),
    buffers: [values, ...(merges ? [places] : []), best.values, best.indices]
      .map((a) => operand(a).binding),
    params: { rows, C, k, chunks },
    grid: rowGrid(rows * chunks, { lanes }),
    cost: {
      flops: values.size * k,
      bytes: values.bytes * k + best.values.bytes + best.indices.bytes,
    },
  });
  return chunks === 1 ? best : topkOf({ values: best.values, places: best.indices }, options);
}

/** Values and positions (i32) of the k best, best first; equal ones in order of position. */
export const topk: Op<TopkAttrs> = defineOp<TopkAttrs>({
  name: "topk",
  check([x], { k }) {
    const C = x!.shape.at(-1) ?? 0;
    if (!Number.isInteger(k) || k < 1 || k > C) {
      throw new RangeError(
        `Cannot take the top ${k} of ${show(x!.shape)}: k must be a whole number ` +
          `from 1 to ${C}`,
      );
    }
    const shape = [...x!.shape.slice(0, -1), k];
    return [{ shape, dtype: x!.dtype }, { shape, dtype: "i32" }];
  },
  forward(ctx, [x], { k, largest }, [values, indices]) {
    const best = topkOf({ values: plain(x!) }, { k, largest, out: [values!, indices!] });
    ctx.save(best.indices);
    return [best.values, best.indices];
  },
  backward(ctx, [dy], { k }) {
    const [indices] = ctx.saved as [DeviceArray];
    const dx = DeviceArray.empty(ctx.inputs[0]!, "topk_backward");
    gpu().queue.launch({
      kernel: topkBackwardKernel({ dtype: dx.dtype }),
      buffers: [operand(indices).binding, operand(plain(dy!)).binding, operand(dx).binding],
      params: { count: dx.size, C: dx.shape.at(-1)!, k },
      grid: linearGrid(dx.size, gpu().limits.maxComputeWorkgroupsPerDimension),
      cost: { flops: 0, bytes: dx.bytes },
    });
    return [dx];
  },
  reference([x], { k, largest }) {
    const C = x!.shape.at(-1)!;
    const shape = [...x!.shape.slice(0, -1), k];
    const [values, indices] = [hostZeros(shape, x!.dtype), hostZeros(shape, "i32")];
    for (let row = 0; row < x!.data.length / C; row++) {
      const order = hostOrder(x!, row * C, { C, descending: largest });
      const at = (c: number) => x!.data[row * C + c]!;
      for (let j = 0; j < k; j++) {
        values.data[row * k + j] = at(order[j]!);
        indices.data[row * k + j] = order[j]!;
      }
    }
    return [values, indices];
  },
  samples: [
    { inputs: [{ shape: [4, 9], distinct: true }], attrs: { k: 3, largest: true }, terms: 1 },
    { inputs: [{ shape: [2, 3, 5], distinct: true }], attrs: { k: 5, largest: false }, terms: 1 },
    {
      inputs: [{ shape: [1, 6], values: [2, 5, 5, 1, 5, 0] }],
      attrs: { k: 4, largest: true },
      grad: false,
      terms: 1,
    },
    // The largest and the smallest last.
    ...[[0, 1, 0.5, 2, 3, -1, -2, 0, -3, 5], [3, 1, 2, 0.5, 0, 5, 2, 3, 4, -1]].map((
      values,
      i,
    ) => ({
      inputs: [{ shape: [2, 5], values }],
      attrs: { k: 2, largest: i === 0 },
      terms: 1,
    })),
    ...[true, false].map((largest) => ({
      inputs: [{ shape: [1, 5], values: largest ? [0, 0, 0, 0, 1] : [1, 1, 1, 1, 0] }],
      attrs: { k: 1, largest },
      grad: false,
      terms: 1,
    })),
    ...[true, false].map((largest) => ({
      inputs: [{ shape: [1, 6], values: [2, NaN, -Infinity, 1, NaN, 0] }],
      attrs: { k: 5, largest },
      grad: false,
      terms: 1,
    })),
    {
      inputs: [{ shape: [3, 4], dtype: "i32", low: -5, high: 5 }],
      attrs: { k: 2, largest: true },
      terms: 1,
    },
    // A workgroup a row on a GPU; rows in pieces, with equal ones and NaN in several.
    { inputs: [{ shape: [2, 70], distinct: true }], attrs: { k: 3, largest: true }, terms: 1 },
    { inputs: [{ shape: [1, 41], distinct: true }], attrs: { k: 41, largest: false }, terms: 1 },
    ...[true, false].map((largest) => ({
      inputs: [{
        shape: [1, 4201],
        values: Array.from({ length: 4201 }, (_, i) => i % 1997 === 1996 ? NaN : i * i % 977 - 300),
      }],
      attrs: { k: 3, largest },
      grad: false,
      terms: 1,
    })),
    // The best at the end of the first piece of four, of the first of two, and of the last.
    {
      inputs: [{
        shape: [1, 4201],
        values: Array.from({ length: 4201 }, (_, i) => i === 1050 || i === 2100 ? 9000 : i),
      }],
      attrs: { k: 3, largest: true },
      grad: false,
      terms: 1,
    },
  ],
});
