/** Softmax and its logarithm over the last dimension. */

import { DeviceArray, operand } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { softmaxBackwardKernel, softmaxKernel } from "../kernels/softmax.ts";
import { defineOp, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { floatOf, plain } from "./launch_pointwise.ts";
import { rowColumns, rowGrid, rowLayout } from "./rows.ts";

function define(log: boolean): Op<Record<never, never>> {
  const name = log ? "logSoftmax" : "softmax";
  /** How a kernel goes through the rows of x. */
  const rowsOf = (x: DeviceArray) => {
    const C = x.shape.at(-1)!;
    const rows = x.size / C;
    const layout = rowLayout(C);
    return {
      spec: { log, ...floatOf(x), ...layout },
      params: { rows, C: rowColumns(C, layout) },
      grid: rowGrid(rows, layout),
    };
  };
  return defineOp<Record<never, never>>({
    name,
    check([x]) {
      if (!isFloat(x!.dtype)) {
        throw new TypeError(`Cannot ${name} dtype ${x!.dtype}: it must be a float`);
      }
      if (x!.shape.length === 0) {
        throw new TypeError(`Cannot ${name} ${show(x!.shape)}: it needs a dimension`);
      }
      return [{ shape: x!.shape, dtype: x!.dtype }];
    },
    forward(ctx, [x]) {
      const source = plain(x!);
      const y = DeviceArray.empty(x!, name);
      ctx.save(y);
      if (y.size === 0) return [y];
      const { spec, params, grid } = rowsOf(y);
      gpu().queue.launch({
        kernel: softmaxKernel(spec),
        buffers: [operand(source).binding, operand(y).binding],
        params,
        grid,
        cost: { flops: 5 * y.size, bytes: 4 * y.bytes },
      });
      return [y];
    },
    backward(ctx, [dy]) {
      const [y] = ctx.saved as [DeviceArray];
      const dx = DeviceArray.empty(y, `${name}_backward`);
      if (dx.size === 0) return [dx];
      const { spec, params, grid } = rowsOf(y);
      gpu().queue.launch({
        kernel: softmaxBackwardKernel(spec),
        buffers: [operand(y).binding, operand(plain(dy!)).binding, operand(dx).binding],
        params,
        grid,
        cost: { flops: 4 * y.size, bytes: 5 * y.bytes },
      });
      return [dx];
    },
    reference([x]) {
      const y = hostZeros(x!.shape);
      const C = x!.shape.at(-1)!;
      for (let first = 0; first < x!.data.length; first += C) {
        const row = x!.data.subarray(first, first + C);
        const top = Math.max(...row);
        const total = row.reduce((s, v) => s + Math.exp(v - top), 0);
        row.forEach((v, c) =>
          y.data[first + c] = log ? v - top - Math.log(total) : Math.exp(v - top) / total
        );
      }
      return [y];
    },
    samples: [
      { inputs: [{ shape: [4, 7] }], attrs: {} },
      { inputs: [{ shape: [2, 3, 5] }], attrs: {} },
      { inputs: [{ shape: [3, 8] }], attrs: {} },
      // Long enough for a workgroup a row on a discrete GPU, by fours and not.
      { inputs: [{ shape: [2, 132] }], attrs: {} },
      { inputs: [{ shape: [3, 67] }], attrs: {} },
      { inputs: [{ shape: [1, 513] }], attrs: {}, grad: false },
      { inputs: [{ shape: [1, 2052] }], attrs: {}, grad: false },
      {
        inputs: [{ shape: [1, 8], values: [0, 1, -1, 2, 0, 1, 2, 300] }],
        attrs: {},
        grad: false,
      },
      { inputs: [{ shape: [3, 1] }], attrs: {} },
      {
        inputs: [{ shape: [2, 3], values: [1000, 999, 0, -1000, -1000, -1001] }],
        attrs: {},
        grad: false,
      },
      // The largest is last: without it in the maximum the exponentials overflow.
      { inputs: [{ shape: [1, 5], values: [0, 1, -1, 2, 300] }], attrs: {}, grad: false },
      // So is it in each layout of a long row.
      ...[67, 132, 513, 2052].map((length) => ({
        inputs: [{
          shape: [1, length],
          values: Array.from({ length }, (_, i) => i === length - 1 ? 300 : i % 3),
        }],
        attrs: {},
        grad: false,
      })),
      // The last of a long row is a tenth of the sum.
      ...[513, 2052].map((length) => ({
        inputs: [{
          shape: [1, length],
          values: Array.from({ length }, (_, i) => i === length - 1 ? Math.log(length / 10) : 0),
        }],
        attrs: {},
        grad: false,
      })),
      { inputs: [{ shape: [0, 3] }], attrs: {} },
      { inputs: [{ shape: [2, 0] }], attrs: {} },
    ],
  });
}

/** exp(x) / sum exp(x) over the last dimension. */
export const softmax: Op<Record<never, never>> = define(false);
/** log of the softmax over the last dimension. */
export const logSoftmax: Op<Record<never, never>> = define(true);
