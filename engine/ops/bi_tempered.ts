/** The bi-tempered logistic loss, row by row. */

import { DeviceArray, operand } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { biTemperedBackwardKernel, biTemperedKernel } from "../kernels/bi_tempered.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import { defineOp, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import { floatOf, inDType, plain } from "./launch_pointwise.ts";

/** Attributes of {@linkcode biTempered}. */
export interface BiTemperedAttrs {
  /** Temperature of the logarithm, below 2; below 1 bounds the loss. */
  readonly t1: number;
  /** Temperature of the exponential, above 0; above 1 makes the tail heavy. */
  readonly t2: number;
  /** Rounds of the normalisation. */
  readonly iterations: number;
}

function launch(kernel: Kernel, arrays: readonly DeviceArray[], attrs: BiTemperedAttrs): void {
  const [rows, C] = arrays[0]!.shape as [number, number];
  if (rows === 0) return;
  const { t1, t2, iterations } = attrs;
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: { rows, C, t1, t2, iterations },
    grid: linearGrid(rows, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: {
      flops: rows * C * 20 * (2 + iterations),
      bytes: arrays.reduce((n, a) => n + a.bytes, 0),
    },
  });
}

/** a [N, C], y [N, C], both f32 or both f16 → the loss of each row [N], computed in f32. */
export const biTempered: Op<BiTemperedAttrs> = defineOp<BiTemperedAttrs>({
  name: "biTempered",
  check([a, y], { t1, t2, iterations }) {
    if (!isFloat(a!.dtype) || y!.dtype !== a!.dtype || a!.shape.length !== 2) {
      throw new TypeError(
        `Cannot take the bi-tempered loss of ${show(a!.shape)} ${a!.dtype} and ${show(y!.shape)} ` +
          `${y!.dtype}: both must be [N, C], both f32 or both f16`,
      );
    }
    if (!sameShape(a!.shape, y!.shape) || a!.shape[1] === 0) {
      throw new TypeError(
        `Cannot take the bi-tempered loss of ${show(a!.shape)} and ${
          show(y!.shape)
        }: both must be ` +
          "[N, C] with at least one class",
      );
    }
    if (!(t1 < 2 && t2 > 0 && Number.isFinite(t1 + t2))) {
      throw new RangeError(
        `Cannot temper by t1 = ${t1} and t2 = ${t2}: t1 must be below 2 and t2 above 0`,
      );
    }
    if (!Number.isInteger(iterations) || iterations < 1) {
      throw new RangeError(
        `Cannot temper in ${iterations} rounds: it must be a whole number of at least 1`,
      );
    }
    return [{ shape: [a!.shape[0]!], dtype: a!.dtype }];
  },
  forward(ctx, inputs, attrs, [out]) {
    const [a, y] = [plain(inputs[0]!), plain(inputs[1]!)];
    const rows = { shape: out!.shape, dtype: "f32" } as const;
    const loss = DeviceArray.empty(rows, "bi-tempered loss");
    const norms = DeviceArray.empty(rows, "bi-tempered norms");
    launch(biTemperedKernel(floatOf(a)), [a, y, loss, norms], attrs);
    ctx.save(a, y, norms);
    return [inDType(loss, a.dtype)];
  },
  backward(ctx, [dy], attrs) {
    const [a, y, norms] = ctx.saved as readonly [DeviceArray, DeviceArray, DeviceArray];
    const da = DeviceArray.empty(a, "bi-tempered da");
    const dl = DeviceArray.empty(a, "bi-tempered dl");
    const dLoss = plain(inDType(dy!, "f32"));
    launch(biTemperedBackwardKernel(floatOf(a)), [a, y, norms, dLoss, da, dl], attrs);
    return [da, dl];
  },
  reference([a, y], { t1, t2, iterations }) {
    const [rows, C] = a!.shape as [number, number];
    const loss = hostZeros([rows]);
    const logT = (u: number, t: number) => t === 1 ? Math.log(u) : (u ** (1 - t) - 1) / (1 - t);
    const expT = (u: number, t: number) =>
      t === 1 ? Math.exp(u) : Math.max(1 + (1 - t) * u, 0) ** (1 / (1 - t));
    for (let n = 0; n < rows; n++) {
      const row = Array.from(a!.data.subarray(n * C, (n + 1) * C));
      const top = Math.max(...row);
      const sumAt = (f: (v: number) => number) => row.reduce((s, v) => s + expT(f(v - top), t2), 0);
      let norm: number;
      if (t2 >= 1) {
        let scale = 1;
        for (let k = 0; k < iterations; k++) scale = sumAt((v) => v * scale) ** (1 - t2);
        norm = top - logT(1 / sumAt((v) => v * scale), t2);
      } else {
        const count = row.filter((v) => v - top > -1 / (1 - t2)).length;
        let [low, high] = [0, -logT(1 / count, t2)];
        for (let k = 0; k < iterations; k++) {
          const middle = (low + high) / 2;
          if (sumAt((v) => v - middle) < 1) high = middle;
          else low = middle;
        }
        norm = top + (low + high) / 2;
      }
      for (let c = 0; c < C; c++) {
        const p = expT(row[c]! - norm, t2);
        const label = y!.data[n * C + c]!;
        const terms = label === 0 ? 0 : label * (logT(label + 1e-10, t1) - logT(p, t1));
        loss.data[n]! += terms - (label ** (2 - t1) - p ** (2 - t1)) / (2 - t1);
      }
    }
    return [loss];
  },
  // The gradient is that of the exact norm: enough rounds for float64 to reach it.
  samples: ([
    [0.8, 1.2, [3, 5]],
    [1, 1, [2, 4]],
    [0.5, 2, [4, 3]],
    [0.2, 4, [2, 7]],
    [0.7, 0.5, [3, 4]],
    [0.9, 1.5, [65, 2]],
    [0.8, 1.4, [0, 3]],
  ] as const).map(([t1, t2, shape]) => ({
    inputs: [{ shape, low: -3, high: 3 }, { shape, low: 0.05, high: 0.95 }],
    attrs: { t1, t2, iterations: t2 < 1 ? 50 : 200 },
    terms: 4 * shape[1],
  })),
});
