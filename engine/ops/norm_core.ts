/** What all normalisations share: moments of groups, y = (x - mean)·rstd·w + b, and the gradients. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import type { DType } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { gradSharesKernel, momentMergeKernel, momentSharesKernel } from "../kernels/norm.ts";
import { NORM_COLUMNS, normRowsKernel } from "../kernels/norm_rows.ts";
import { run } from "../op.ts";
import { contiguous, pointwise } from "./launch_pointwise.ts";
import { sum } from "./reduce.ts";

/** How a normalisation sees x. */
export interface NormView {
  /** Statistics: x as [A, G, S], where a group is one index along G. */
  readonly A: number;
  readonly G: number;
  readonly S: number;
  /** Elements: rows of `length` neighbours in one group. */
  readonly length: number;
  /** Rows of a group that follow each other. */
  readonly rowsPerGroup: number;
  /** Weights go by row, modulo `channels`, or by column. */
  readonly weights: "row" | "column";
  readonly channels: number;
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

/** Row 0 (means) or 1 (variances) of statistics, one a group. */
export function statsRow(stats: DeviceArray, row: 0 | 1): DeviceArray {
  const G = stats.shape[1]!;
  return stats.view([G], [1], stats.offset + row * G);
}

/** Arrays that {@linkcode normRows} reads, by the name they have in the expression. */
export interface NormRowsInputs {
  /** Plain arrays of the size of x. */
  readonly elements: Readonly<Record<string, DeviceArray>>;
  /** One element a group. */
  readonly statistics: Readonly<Record<string, DeviceArray>>;
  /** One element a channel or column; absent ones are left out. */
  readonly weights?: Readonly<Record<string, DeviceArray | undefined>>;
}

/** An expression over elements, statistics of their group and weights, in one pass. */
export function normRows(
  name: string,
  inputs: NormRowsInputs,
  { view, eps = 0, expression, out }: {
    view: NormView;
    eps?: number;
    expression: string;
    out: Spec;
  },
): DeviceArray {
  const y = DeviceArray.empty(out, name);
  if (y.size === 0) return y;
  const named = [
    ...Object.entries(inputs.elements).map(([n, a]) => [n, a, "element"] as const),
    ...Object.entries(inputs.statistics).map(([n, a]) => [n, a, "statistics"] as const),
    ...Object.entries(inputs.weights ?? {}).flatMap(([n, a]) =>
      a ? [[n, contiguous(a), "weight"] as const] : []
    ),
  ];
  const operands = named.map(([n, a, by]) => ({ name: n, by, ...operand(a) }));
  const across = Math.ceil(view.length / NORM_COLUMNS);
  const threads = y.size / view.length * across;
  gpu().queue.launch({
    kernel: normRowsKernel({
      name,
      inputs: named.map(([n, a, by]) => ({ name: n, dtype: a.dtype, by })),
      output: y.dtype,
      expression,
      weights: view.weights,
    }),
    buffers: [...operands.map((o) => o.binding), operand(y).binding],
    params: {
      threads,
      S: view.length,
      across,
      stat_div: view.rowsPerGroup,
      stat_mod: view.G,
      channels: view.channels,
      eps,
      ...Object.fromEntries(
        operands.filter((o) => o.by !== "element").map((o) => [`${o.name}_off`, o.offset]),
      ),
    },
    grid: grid(threads),
    cost: { flops: 5 * y.size, bytes: named.reduce((n, [, a]) => n + a.bytes, y.bytes) },
  });
  return y;
}

/** y = (x - mean) / √(variance + eps) · w + b, in the dtype and shape of x. */
export function applyNorm(
  { x, w, b }: NormInputs,
  { mean, variance }: { mean: DeviceArray; variance: DeviceArray },
  { view, eps }: { view: NormView; eps: number },
): DeviceArray {
  const name = ["normalise", view.weights, w && "weight", b && "bias"].filter(Boolean).join("_");
  return normRows(name, {
    elements: { x },
    statistics: { mean: contiguous(mean), variance: contiguous(variance) },
    weights: { w, b },
  }, {
    view,
    eps,
    expression: `(x - mean) * inverseSqrt(variance + p.eps)${w ? " * w" : ""}${b ? " + b" : ""}`,
    out: x,
  });
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
  const shape = [view.G];
  const one = 1 / (view.A * view.S);
  const variance = statsRow(stats, 1);
  const scale = f32Map(w ? "norm_scale_weight" : "norm_scale", {
    variance,
    eps,
    ...(w ? { w } : {}),
  }, { expression: `inverseSqrt(variance + eps)${w ? " * w" : ""}`, shape });
  const slope = f32Map(extra ? "norm_slope_extra" : "norm_slope", {
    scale,
    variance,
    eps,
    scaled: statsRow(sums, 1),
    one,
    ...(extra ? { dv: extra.variance } : {}),
  }, {
    expression: `one * (${extra ? "2.0 * dv " : ""}- scale * scaled * inverseSqrt(variance + eps))`,
    shape,
  });
  const shift = centred
    ? f32Map(extra ? "norm_shift_extra" : "norm_shift", {
      scale,
      total: statsRow(sums, 0),
      one,
      ...(extra ? { dm: extra.mean } : {}),
    }, { expression: `one * (${extra ? "dm " : ""}- scale * total)`, shape })
    : null;
  return normRows(shift ? "norm_dx" : "norm_dx_about_0", {
    elements: { u, x },
    statistics: { mean: statsRow(stats, 0), scale, slope, ...(shift ? { shift } : {}) },
  }, {
    view,
    expression: `fma(scale, u, slope * (x - mean))${shift ? " + shift" : ""}`,
    out: x,
  });
}
