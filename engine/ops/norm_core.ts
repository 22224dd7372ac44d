/** What all normalisations share: moments of groups, y = (x - mean)·rstd·w + b, and the gradients. */

import { DeviceArray, operand } from "../array.ts";
import type { DType } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { gradSharesKernel, momentMergeKernel, momentSharesKernel } from "../kernels/norm.ts";
import { run } from "../op.ts";
import { contiguousStrides } from "../shape.ts";
import { contiguous, pointwise } from "./launch_pointwise.ts";
import { sum } from "./reduce.ts";

/** How a normalisation sees x: the kernels' [A, G, S] and three shapes that broadcast to each other. */
export interface NormView {
  /** Groups are one index along G. */
  readonly A: number;
  readonly G: number;
  readonly S: number;
  /** x. */
  readonly x: readonly number[];
  /** Statistics: G elements. */
  readonly stat: readonly number[];
  /** Weight and bias. */
  readonly affine: readonly number[];
}

/** x, weight and bias, the latter two where there are any. */
export interface NormInputs {
  readonly x: DeviceArray;
  readonly w?: DeviceArray;
  readonly b?: DeviceArray;
}

/** Threads that fill a machine, and elements of a share below which splitting costs more. */
const SOFTWARE = { threads: 4096, share: 128 };
const DISCRETE = { threads: 1 << 16, share: 4 };
/** Shares that one thread can merge quickly; also lanes that read neighbouring elements. */
const MOST_SPLITS = 256;

/** Shares of a group of `length` elements among `groups`. */
function splitsOf(groups: number, length: number): number {
  const { software } = gpu().info;
  const { threads, share } = software ? SOFTWARE : DISCRETE;
  const lanes = software ? 1 : 32;
  const wanted = Math.max(Math.ceil(threads / Math.max(groups, 1)), lanes);
  return Math.max(1, Math.min(wanted, Math.floor(length / share), MOST_SPLITS));
}

function layoutParams({ A, G, S }: NormView): Record<string, number> & { splits: number } {
  const splits = splitsOf(G, A * S);
  return {
    threads: G * splits,
    A,
    G,
    S,
    splits,
    step_a: Math.floor(splits / S),
    step_s: splits % S,
  };
}

function grid(threads: number): [number, number, number] {
  return linearGrid(threads, gpu().limits.maxComputeWorkgroupsPerDimension);
}

/** Mean and biased variance of each group, [2, G] f32; x is plain. `centred` false: about 0. */
export function moments(x: DeviceArray, view: NormView, centred: boolean): DeviceArray {
  const params = layoutParams(view);
  const { threads, splits } = params;
  const parts = DeviceArray.empty({ shape: [view.G, splits, 2], dtype: "f32" }, "norm shares");
  const stats = DeviceArray.empty({ shape: [2, view.G], dtype: "f32" }, "norm statistics");
  if (view.G === 0) return stats;
  gpu().queue.launch({
    kernel: momentSharesKernel({ input: x.dtype, centred }),
    buffers: [operand(x).binding, operand(parts).binding],
    params,
    grid: grid(threads as number),
    cost: { flops: 4 * x.size, bytes: x.bytes + parts.bytes },
  });
  gpu().queue.launch({
    kernel: momentMergeKernel(),
    buffers: [operand(parts).binding, operand(stats).binding],
    params: { G: view.G, splits, length: view.A * view.S },
    grid: grid(view.G),
    cost: { flops: 6 * view.G * splits, bytes: parts.bytes + stats.bytes },
  });
  return stats;
}

/** Row 0 (means) or 1 (variances) of statistics, in `shape`. */
export function statsRow(
  stats: DeviceArray,
  row: 0 | 1,
  shape: readonly number[],
): DeviceArray {
  const offset = stats.offset + row * stats.shape[1]!;
  return stats.view(shape, contiguousStrides(shape), offset);
}

/** The elements in row-major order as an array of `shape`. */
export function seen(array: DeviceArray, shape: readonly number[]): DeviceArray {
  return contiguous(array).view(shape, contiguousStrides(shape));
}

/** y = (x - mean) / √(variance + eps) · w + b, in the dtype and shape of x. */
export function applyNorm(
  { x, w, b }: NormInputs,
  { mean, variance }: { mean: DeviceArray; variance: DeviceArray },
  { view, eps }: { view: NormView; eps: number },
): DeviceArray {
  const y = pointwise({
    name: ["normalise", w && "weight", b && "bias"].filter(Boolean).join("_"),
    inputs: {
      x: seen(x, view.x),
      mean: seen(mean, view.stat),
      variance: seen(variance, view.stat),
      ...(w ? { w: seen(w, view.affine) } : {}),
      ...(b ? { b: seen(b, view.affine) } : {}),
      eps: { value: eps, type: "f32" },
    },
    expression: `(x - mean) * inverseSqrt(variance + eps)${w ? " * w" : ""}${b ? " + b" : ""}`,
    compute: "f32",
    result: "f32",
    flops: 5,
  }, { shape: view.x, dtype: x.dtype });
  return y.view(x.shape, contiguousStrides(x.shape));
}

/** [sum of u; sum of u·x̂] of each group, [2, G] f32; u and x are plain. */
export function groupSums(
  u: DeviceArray,
  x: DeviceArray,
  stats: DeviceArray,
  { view, eps }: { view: NormView; eps: number },
): DeviceArray {
  const params = layoutParams(view);
  const parts = DeviceArray.empty(
    { shape: [2, view.G, params.splits], dtype: "f32" },
    "norm gradient shares",
  );
  if (view.G > 0) {
    gpu().queue.launch({
      kernel: gradSharesKernel({ input: x.dtype, grad: u.dtype }),
      buffers: [u, x, stats, parts].map((a) => operand(a).binding),
      params: { ...params, eps },
      grid: grid(params.threads as number),
      cost: { flops: 5 * x.size, bytes: u.bytes + x.bytes + parts.bytes },
    });
  }
  return params.splits === 1 ? parts.view([2, view.G], [view.G, 1]) : run(sum, [parts], { dim: 2 });
}

/** A pointwise expression in f32 over arrays and numbers. */
export function f32Map(
  name: string,
  inputs: Readonly<Record<string, DeviceArray | number>>,
  { expression, shape, dtype = "f32" }: {
    expression: string;
    shape: readonly number[];
    dtype?: DType;
  },
): DeviceArray {
  const operands = Object.entries(inputs).map(([key, v]) =>
    [key, v instanceof DeviceArray ? v : { value: v, type: "f32" as const }] as const
  );
  return pointwise({
    name,
    inputs: Object.fromEntries(operands),
    expression,
    compute: "f32",
    result: "f32",
    flops: 4,
  }, { shape, dtype });
}

/**
 * dx = scale·(u - mean of u - x̂·mean of u·x̂) for sums of u over each group, where scale is rstd times
 * `w` if one is given (a weight a group). `extra` adds the gradients of mean and variance.
 */
export function normInputGrad(
  { u, x, sums, stats, w, extra }: {
    u: DeviceArray;
    x: DeviceArray;
    sums: DeviceArray;
    stats: DeviceArray;
    w?: DeviceArray;
    extra?: { mean: DeviceArray; variance: DeviceArray };
  },
  { view, eps, centred }: { view: NormView; eps: number; centred: boolean },
): DeviceArray {
  const shape = view.stat;
  const one = 1 / (view.A * view.S);
  const variance = statsRow(stats, 1, shape);
  const scale = f32Map(w ? "norm_scale_weight" : "norm_scale", {
    variance,
    eps,
    ...(w ? { w: seen(w, shape) } : {}),
  }, { expression: `inverseSqrt(variance + eps)${w ? " * w" : ""}`, shape });
  const slope = f32Map(extra ? "norm_slope_extra" : "norm_slope", {
    scale,
    variance,
    eps,
    scaled: statsRow(sums, 1, shape),
    one,
    ...(extra ? { dv: seen(extra.variance, shape) } : {}),
  }, {
    expression: `one * (${extra ? "2.0 * dv " : ""}- scale * scaled * inverseSqrt(variance + eps))`,
    shape,
  });
  const shift = centred
    ? f32Map(extra ? "norm_shift_extra" : "norm_shift", {
      scale,
      total: statsRow(sums, 0, shape),
      one,
      ...(extra ? { dm: seen(extra.mean, shape) } : {}),
    }, { expression: `one * (${extra ? "dm " : ""}- scale * total)`, shape })
    : null;
  const dx = f32Map(shift ? "norm_dx" : "norm_dx_centred_at_0", {
    u: seen(u, view.x),
    x: seen(x, view.x),
    mean: statsRow(stats, 0, shape),
    scale,
    slope,
    ...(shift ? { shift } : {}),
  }, {
    expression: `fma(scale, u, slope * (x - mean))${shift ? " + shift" : ""}`,
    shape: view.x,
    dtype: x.dtype,
  });
  return dx.view(x.shape, contiguousStrides(x.shape));
}
