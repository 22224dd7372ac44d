/** The k largest or smallest elements of the last dimension. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { topkBackwardKernel, topkKernel } from "../kernels/topk.ts";
import { defineOp, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { plain } from "./launch_pointwise.ts";
import { hostOrder } from "./sort.ts";

/** Attributes of {@linkcode topk}. */
export interface TopkAttrs {
  readonly k: number;
  readonly largest: boolean;
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
    const source = plain(x!);
    const C = x!.shape.at(-1)!;
    const rows = x!.size / C;
    const v = DeviceArray.empty(values!, "topk values");
    const i = DeviceArray.empty(indices!, "topk indices");
    gpu().queue.launch({
      kernel: topkKernel({ dtype: x!.dtype, largest }),
      buffers: [operand(source).binding, operand(v).binding, operand(i).binding],
      params: { rows, C, k },
      grid: linearGrid(rows, gpu().limits.maxComputeWorkgroupsPerDimension),
      cost: { flops: x!.size * k, bytes: x!.bytes * k + v.bytes + i.bytes },
    });
    ctx.save(i);
    return [v, i];
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
  ],
});
