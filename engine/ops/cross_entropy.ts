/** Cross entropy of logits against class ids. */

import { DeviceArray, operand } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { type Kernel, LINEAR, linearGrid } from "../kernels/kernel.ts";
import {
  crossEntropyBackwardKernel,
  crossEntropyReduceKernel,
  type CrossEntropyReduceSpec,
  type CrossEntropyReduction,
  crossEntropyRowsKernel,
} from "../kernels/cross_entropy.ts";
import { defineOp, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { fill } from "./fill.ts";
import { floatOf, inDType, plain } from "./launch_pointwise.ts";
import { rowColumns, rowGrid, rowLayout } from "./rows.ts";

/** Attributes of {@linkcode crossEntropy}. */
export interface CrossEntropyAttrs {
  /** Rows with this target give no loss and no gradient and do not count in the mean. */
  readonly ignoreIndex: number;
  /** 0 <= s < 1: the target distribution is (1 - s)·onehot + s/C. */
  readonly labelSmoothing: number;
  /** `mean` over the rows that count, `sum`, or `none` for a loss a row. */
  readonly reduction: CrossEntropyReduction;
}

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  params: Record<string, number>,
  grid: readonly [number, number, number],
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params,
    grid,
    cost: { flops: 6 * arrays[0]!.size, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

/** Rows that a lane adds up before another workgroup is worth it, on a GPU; a guess, none has been at hand. */
const LANE_ROWS = 8;

/** [sum or mean of the loss, rows that count]: in one workgroup, or in several and one for what they gave. */
function reducedRows(
  { loss, t }: { loss: DeviceArray; t: DeviceArray },
  { reduction, ignore }: { reduction: "sum" | "mean"; ignore: number },
): DeviceArray {
  const rows = loss.size;
  // Memory of a workgroup is filled with zeros first, which alone takes 0.3 s to compile on software.
  const lanes = gpu().info.software ? 1 : LINEAR;
  const groups = lanes === 1 ? 1 : Math.min(Math.ceil(rows / (LINEAR * LANE_ROWS)), LINEAR) || 1;
  const pass = (
    inputs: readonly DeviceArray[],
    spec: Omit<CrossEntropyReduceSpec, "lanes">,
    size: { rows: number; groups: number },
  ) => {
    const y = DeviceArray.empty({ shape: [size.groups, 2], dtype: "f32" }, "cross entropy");
    launch(
      crossEntropyReduceKernel({ ...spec, lanes }),
      [...inputs, y],
      { rows: size.rows, threads: size.groups * lanes, ignore },
      [size.groups, 1, 1],
    );
    return y;
  };
  const from = t.dtype;
  if (groups === 1) return pass([loss, t], { from, to: reduction }, { rows, groups });
  const shares = pass([loss, t], { from, to: "shares" }, { rows, groups });
  return pass([shares], { from: "shares", to: reduction }, { rows: groups, groups: 1 });
}

/**
 * -log softmax(x)[n, t[n]] for x [N, C] f32 or f16 and t [N] i32 or u32, reduced over the rows in f32. The
 * loss has the logits' dtype.
 */
export const crossEntropy: Op<CrossEntropyAttrs> = defineOp<CrossEntropyAttrs>({
  name: "crossEntropy",
  check([x, t], { reduction, labelSmoothing }) {
    if (!isFloat(x!.dtype) || (t!.dtype !== "i32" && t!.dtype !== "u32")) {
      throw new TypeError(
        `Cannot take the cross entropy of ${x!.dtype} logits and ${
          t!.dtype
        } targets: logits must ` +
          "be f32 or f16 and class ids i32 or u32",
      );
    }
    if (x!.shape.length !== 2 || t!.shape.length !== 1 || x!.shape[0] !== t!.shape[0]) {
      throw new TypeError(
        `Cannot take the cross entropy of ${show(x!.shape)} and ${
          show(t!.shape)
        }: logits must be ` +
          "[N, C] and class ids [N]",
      );
    }
    if (x!.shape[1] === 0) throw new TypeError("Cannot take the cross entropy of 0 classes");
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
      throw new RangeError(
        `Cannot smooth labels by ${labelSmoothing}: it must be 0 to 1`,
      );
    }
    return [{ shape: reduction === "none" ? t!.shape : [], dtype: x!.dtype }];
  },
  forward(ctx, [logits, target], { ignoreIndex, labelSmoothing, reduction }, [out]) {
    const [x, t] = [plain(logits!), plain(target!)];
    const [rows, C] = x.shape as [number, number];
    const layout = rowLayout(C);
    const params = {
      rows,
      C: rowColumns(C, layout),
      classes: C,
      ignore: ignoreIndex,
      smoothing: labelSmoothing,
    };
    const loss = DeviceArray.empty({ shape: [rows], dtype: "f32" }, "cross entropy rows");
    const shifts = DeviceArray.empty({ shape: [rows, 2], dtype: "f32" }, "cross entropy shifts");
    launch(
      crossEntropyRowsKernel({ target: t.dtype, ...floatOf(x), ...layout }),
      [x, t, loss, shifts],
      params,
      rowGrid(rows, layout),
    );
    if (reduction === "none") {
      ctx.save(x, t, shifts);
      return [inDType(loss, x.dtype)];
    }
    const total = reducedRows({ loss, t }, { reduction, ignore: ignoreIndex });
    ctx.save(x, t, shifts, total);
    return [inDType(total.view(out!.shape, []), x.dtype)];
  },
  backward(ctx, [dy], { ignoreIndex, labelSmoothing, reduction }) {
    const [x, t, shifts, total] = ctx.saved as DeviceArray[] as [
      DeviceArray,
      DeviceArray,
      DeviceArray,
      DeviceArray,
    ];
    if (x.size === 0) return [fill(x, 0), null];
    const dx = DeviceArray.empty(x, "cross entropy dx");
    const dLoss = plain(inDType(dy!, "f32"));
    const classes = x.shape[1]!;
    const fours = classes % 4 === 0;
    const unit = fours ? 4 : 1;
    launch(
      crossEntropyBackwardKernel({ target: t.dtype, reduction, fours, ...floatOf(x) }),
      reduction === "mean" ? [x, t, shifts, total, dLoss, dx] : [x, t, shifts, dLoss, dx],
      {
        count: x.size / unit,
        C: classes / unit,
        classes,
        ignore: ignoreIndex,
        smoothing: labelSmoothing,
      },
      linearGrid(x.size / unit, gpu().limits.maxComputeWorkgroupsPerDimension),
    );
    return [dx, null];
  },
  reference([x, t], { ignoreIndex, labelSmoothing, reduction }) {
    const [rows, C] = x!.shape as [number, number];
    const loss = hostZeros([rows]);
    let count = 0;
    for (let n = 0; n < rows; n++) {
      const target = t!.data[n]!;
      if (target === ignoreIndex) continue;
      count++;
      const row = x!.data.subarray(n * C, (n + 1) * C);
      const top = Math.max(...row);
      const lse = top + Math.log(row.reduce((s, v) => s + Math.exp(v - top), 0));
      const mean = row.reduce((s, v) => s + v, 0) / C;
      loss.data[n] = target < 0 || target >= C ? NaN : lse - (1 - labelSmoothing) * row[target]! -
        (labelSmoothing > 0 ? labelSmoothing * mean : 0);
    }
    if (reduction === "none") return [loss];
    const sum = loss.data.reduce((a, b) => a + b, 0);
    return [{
      shape: [],
      dtype: "f32",
      data: Float64Array.of(reduction === "mean" ? sum / count : sum),
    }];
  },
  samples: [
    ...drawnSamples(),
    // Without the last class in the maximum its exponential overflows.
    {
      inputs: [{ shape: [1, 3], values: [0, -1, 300] }, {
        shape: [1],
        dtype: "i32" as const,
        values: [1],
      }],
      attrs: { ignoreIndex: -100, labelSmoothing: 0, reduction: "mean" as const },
      grad: false,
      terms: 3,
    },
    {
      inputs: [{ shape: [1, 8], values: [0, -1, 0, 1, 0, 1, 2, 300] }, {
        shape: [1],
        dtype: "i32" as const,
        values: [1],
      }],
      attrs: { ignoreIndex: -100, labelSmoothing: 0, reduction: "mean" as const },
      grad: false,
      terms: 8,
    },
    // The last class of a long row is a tenth of the sum, or its exponential overflows without it in the maximum.
    ...[67, 132, 513, 2052].flatMap((classes) =>
      [Math.log(classes / 10), 300].map((last) => ({
        inputs: [
          {
            shape: [1, classes],
            values: Array.from({ length: classes }, (_, c) => c === classes - 1 ? last : 0),
          },
          { shape: [1], dtype: "i32" as const, values: [1] },
        ],
        attrs: { ignoreIndex: -100, labelSmoothing: 0, reduction: "mean" as const },
        grad: last < 300,
        terms: classes,
      }))
    ),
    // A class that cannot be, and rows that are NaN.
    {
      inputs: [
        {
          shape: [4, 3],
          values: [0, -Infinity, 2, -Infinity, 1, 3, 0, NaN, 1, NaN, 1, 2],
        },
        { shape: [4], dtype: "i32" as const, values: [2, 1, 0, 1] },
      ],
      attrs: { ignoreIndex: -100, labelSmoothing: 0, reduction: "none" as const },
      grad: false,
      terms: 3,
    },
  ],
});

/** The reductions, with classes to ignore; more rows than one workgroup has threads. */
function drawnSamples() {
  const many = Array.from({ length: 133 }, (_, i) => i % 7 === 0 ? -100 : i % 2);
  return ([
    ["mean", 0, [4, 7], [0, 6, 3, 3]],
    ["sum", 0.1, [3, 5], [4, -100, 0]],
    ["none", 0.25, [3, 2], [1, 0, 1]],
    ["mean", 0.1, [5, 26], [25, 0, -100, 7, -100]],
    ["mean", 0, [1, 1], [0]],
    // By fours, with the class at each place of its four; long rows.
    ["mean", 0.1, [5, 8], [0, 5, 2, 7, -100]],
    ["none", 0, [4, 12], [11, 6, 1, 8]],
    ["sum", 0.2, [2, 132], [131, 12]],
    ["mean", 0, [3, 67], [66, 0, 31]],
    ["mean", 0, [133, 2], many],
    ["sum", 0, [133, 2], many],
  ] as const).map(([reduction, labelSmoothing, shape, target]) => ({
    inputs: [
      { shape, low: -4, high: 4 },
      { shape: [shape[0]], dtype: "i32" as const, values: target },
    ],
    attrs: { ignoreIndex: -100, labelSmoothing, reduction },
    terms: shape[0] * shape[1],
  }));
}
