/** What all normalisations share: moments of groups, y = (x - mean)·rstd·w + b, and the gradients. */

import { DeviceArray, type Operand, operand, type Spec } from "../array.ts";
import type { DType } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import type { Binding } from "../gpu/queue.ts";
import { linearGrid, offsetName } from "../kernels/kernel.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import {
  GRAD_ROWS,
  gradMergeKernel,
  gradSharesKernel,
  momentMergeKernel,
  momentSharesKernel,
} from "../kernels/norm.ts";
import { NORM_COLUMNS, type NormRowsInput, normRowsKernel } from "../kernels/norm_rows.ts";
import { contiguous, pointwise } from "./launch_pointwise.ts";
import { rowGrid } from "./rows.ts";

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

/**
 * Threads that fill a machine, elements of a share below which splitting costs more, and shares of a group
 * that can be merged quickly. Of a discrete GPU they are guesses: none has been at hand.
 */
const SOFTWARE = { threads: 4096, share: 128, most: 256 };
const DISCRETE = { threads: 1 << 16, share: 4, most: 1024 };
/** Threads that merge the shares of a group on a discrete GPU, where there is that much to do. */
const MERGE_LANES = 64;

/** Shares of a group of `length` elements among `groups`. */
function splitsOf(groups: number, length: number): number {
  const { software } = gpu().info;
  const { threads, share, most } = software ? SOFTWARE : DISCRETE;
  const lanes = software ? 1 : 32;
  const wanted = Math.max(Math.ceil(threads / Math.max(groups, 1)), lanes);
  return Math.max(1, Math.min(wanted, Math.floor(length / share), most));
}

/** Threads that merge the shares of a group. */
function mergeLanes(splits: number): number {
  return gpu().info.software || splits < MERGE_LANES ? 1 : MERGE_LANES;
}

/** The shares of groups, and how a thread walks through its own. */
function layoutOf({ A, G, S }: NormView): {
  readonly params: Readonly<Record<string, number>>;
  readonly threads: number;
  readonly splits: number;
  /** Whether rows are whole fours, in which params then count. */
  readonly fours: boolean;
} {
  const splits = splitsOf(G, A * S);
  const fours = S % 4 === 0;
  const row = fours ? S / 4 : S;
  const threads = G * splits;
  return {
    params: {
      threads,
      A,
      G,
      S: row,
      splits,
      step_a: Math.floor(splits / row),
      step_s: splits % row,
    },
    threads,
    splits,
    fours,
  };
}

function grid(threads: number): [number, number, number] {
  return linearGrid(threads, gpu().limits.maxComputeWorkgroupsPerDimension);
}

/** Mean and biased variance of each group, [2, G] f32; x is plain. `centred` false: about 0. */
export function moments(x: DeviceArray, view: NormView, centred: boolean): DeviceArray {
  const { params, threads, splits, fours } = layoutOf(view);
  const unit = fours ? 4 : 1;
  const parts = DeviceArray.empty({ shape: [view.G, splits, 2], dtype: "f32" }, "norm shares");
  const stats = DeviceArray.empty({ shape: [2, view.G], dtype: "f32" }, "norm statistics");
  if (view.G === 0) return stats;
  gpu().queue.launch({
    kernel: momentSharesKernel({ input: x.dtype, centred, fours }),
    buffers: [operand(x).binding, operand(parts).binding],
    params,
    grid: grid(threads),
    cost: { flops: 4 * x.size, bytes: x.bytes + parts.bytes },
  });
  const lanes = mergeLanes(splits);
  gpu().queue.launch({
    kernel: momentMergeKernel(lanes),
    buffers: [operand(parts).binding, operand(stats).binding],
    params: { G: view.G, splits, length: view.A * view.S / unit, unit },
    grid: rowGrid(view.G, { lanes }),
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
  /** Rows of a plain f32 array [rows, groups], by name. */
  readonly table?: { readonly of: DeviceArray; readonly rows: Readonly<Record<string, number>> };
  /** One element a channel or column; absent ones are left out. */
  readonly weights?: Readonly<Record<string, DeviceArray | undefined>>;
}

/** An expression over elements, statistics of their group and weights, in one pass. */
export function normRows(
  name: string,
  inputs: NormRowsInputs,
  { view, eps = 0, expression, module, out }: {
    view: NormView;
    eps?: number;
    expression: string;
    module?: string;
    out: Spec;
  },
): DeviceArray {
  const y = DeviceArray.empty(out, name);
  if (y.size === 0) return y;
  const list: NormRowsInput[] = [];
  const buffers: Binding[] = [];
  const offsets: Record<string, number> = {};
  let fours = view.length % 4 === 0;
  let bytes = y.bytes;
  const add = (by: NormRowsInput["by"], arrays: NormRowsInputs["weights"]) => {
    for (const n in arrays) {
      const a = arrays[n];
      if (!a) continue;
      const { binding, offset } = operand(by === "weight" ? contiguous(a) : a);
      list.push({ name: n, dtype: a.dtype, by });
      buffers.push(binding);
      if (by !== "element") offsets[offsetName(n)] = offset;
      if (by === "weight" && view.weights === "column" && offset % 4 !== 0) fours = false;
      bytes += a.bytes;
    }
  };
  add("element", inputs.elements);
  add("statistics", inputs.statistics);
  add("weight", inputs.weights);
  if (inputs.table) buffers.push(operand(inputs.table.of).binding);
  buffers.push(operand(y).binding);
  const across = Math.ceil(view.length / NORM_COLUMNS);
  const threads = y.size / view.length * across;
  gpu().queue.launch({
    kernel: normRowsKernel({
      name,
      inputs: list,
      table: inputs.table?.rows,
      output: y.dtype,
      expression,
      module,
      weights: view.weights,
      fours,
    }),
    buffers,
    params: {
      threads,
      S: fours ? view.length / 4 : view.length,
      across,
      stat_div: view.rowsPerGroup,
      stat_mod: view.G,
      channels: view.channels,
      eps,
      ...offsets,
    },
    grid: grid(threads),
    cost: { flops: 5 * y.size, bytes },
  });
  return y;
}

/** WGSL of (x - mean) / √(variance + eps) · w + b + r, of which the last three may be absent. */
function normalised({ w, b, r }: { w?: unknown; b?: unknown; r?: unknown }): string {
  return `(x - mean) * inverseSqrt(variance + p.eps)${w ? " * w" : ""}${b ? " + b" : ""}` +
    (r ? " + r" : "");
}

/** What follows a normalisation in the same pass. */
export interface NormEpilogue {
  /** Added to what is normalised; plain, of the size of x. */
  readonly r?: DeviceArray;
  /** Applied last. */
  readonly epilogue?: Epilogue;
}

/** y = f((x - mean) / √(variance + eps) · w + b + r), in the dtype and shape of x. */
export function applyNorm(
  { x, w, b, r, epilogue }: NormInputs & NormEpilogue,
  { mean, variance }: { mean: DeviceArray; variance: DeviceArray },
  { view, eps }: { view: NormView; eps: number },
): DeviceArray {
  const name = ["normalise", view.weights, w && "weight", b && "bias", r && "add", epilogue?.name];
  const z = normalised({ w, b, r });
  return normRows(name.filter(Boolean).join("_"), {
    elements: { x, ...(r ? { r } : {}) },
    statistics: { mean: contiguous(mean), variance: contiguous(variance) },
    weights: { w, b },
  }, {
    view,
    eps,
    expression: epilogue ? `activation(${z})` : z,
    module: epilogue?.module,
    out: x,
  });
}

/** dy · f'(z) for z = (x - mean) / √(variance + eps) · w + b + r: what goes back through the activation. */
export function throughEpilogue(
  dy: DeviceArray,
  { x, w, b, r, epilogue }: NormInputs & NormEpilogue & { epilogue: Epilogue },
  { mean, variance }: { mean: DeviceArray; variance: DeviceArray },
  { view, eps }: { view: NormView; eps: number },
): DeviceArray {
  const name = ["normalise_back", w && "weight", b && "bias", r && "add", epilogue.name];
  return normRows(name.filter(Boolean).join("_"), {
    elements: { u: dy, x, ...(r ? { r } : {}) },
    statistics: { mean: contiguous(mean), variance: contiguous(variance) },
    weights: { w, b },
  }, {
    view,
    eps,
    expression: `activation_gradient(${normalised({ w, b, r })}, u)`,
    module: epilogue.module,
    out: x,
  });
}

/** The gradient that goes into a normalisation, and what it is of. */
export interface NormGradient {
  /** Gradient of what is normalised, or of the activation's output where there is one; plain. */
  readonly u: DeviceArray;
  readonly x: DeviceArray;
  /** Means and variances, [2, G]. */
  readonly stats: DeviceArray;
  /** Weight a group. */
  readonly w?: DeviceArray;
  /** The activation that u has yet to go back through, with its bias a group. */
  readonly gate?: { readonly epilogue: Epilogue; readonly b?: DeviceArray };
  /** Gradients of means and variances, [2, G]; plain. */
  readonly extra?: DeviceArray;
}

/** Sums over each group, and what they make of dx. */
export interface NormSums {
  /** Σu, the bias's gradient, and Σu·x̂, the weight's: [G] f32. */
  readonly plain: DeviceArray;
  readonly scaled: DeviceArray;
  /** The rows `GRAD_ROWS`. */
  readonly rows: DeviceArray;
}

/**
 * For each group the sums of u and of u·x̂, and what dx is made of, in two dispatches. A weight a group is
 * part of dx's scale; u does not have it yet.
 */
export function gradientSums(
  { u, x, stats, w, gate, extra }: NormGradient,
  { view, eps }: { view: NormView; eps: number },
): NormSums {
  const { G } = view;
  const empty = (...shape: number[]) =>
    DeviceArray.empty({ shape, dtype: "f32" }, "norm gradient sums");
  const sums = { plain: empty(G), scaled: empty(G), rows: empty(Object.keys(GRAD_ROWS).length, G) };
  if (G === 0) return sums;
  const { params, threads, splits, fours } = layoutOf(view);
  const parts = DeviceArray.empty({ shape: [2, G, splits], dtype: "f32" }, "norm gradient shares");
  const affine = [w, gate?.b].map((a) => a && operand(contiguous(a)));
  const [weight, bias] = affine;
  const bindings = (...operands: (Operand | undefined)[]) =>
    operands.filter((o) => o !== undefined).map((o) => o.binding);
  gpu().queue.launch({
    kernel: gradSharesKernel({
      input: x.dtype,
      grad: u.dtype,
      fours,
      ...(gate ? { epilogue: gate.epilogue, weight: w?.dtype, bias: gate.b?.dtype } : {}),
    }),
    buffers: bindings(
      operand(u),
      operand(x),
      operand(stats),
      ...(gate ? affine : []),
      operand(parts),
    ),
    params: { ...params, eps, weight_off: weight?.offset ?? 0, bias_off: bias?.offset ?? 0 },
    grid: grid(threads),
    cost: { flops: 5 * x.size, bytes: u.bytes + x.bytes + parts.bytes },
  });
  const { plain, scaled, rows } = sums;
  const lanes = mergeLanes(splits);
  gpu().queue.launch({
    kernel: gradMergeKernel({
      lanes,
      weight: w?.dtype,
      bias: gate?.b?.dtype,
      statistics: extra !== undefined,
    }),
    buffers: bindings(
      operand(parts),
      operand(stats),
      ...affine,
      extra && operand(extra),
      ...[plain, scaled, rows].map(operand),
    ),
    params: {
      G,
      splits,
      threads,
      eps,
      inverse_n: 1 / (view.A * view.S),
      weight_off: weight?.offset ?? 0,
      bias_off: bias?.offset ?? 0,
    },
    grid: rowGrid(G, { lanes }),
    cost: {
      flops: 2 * G * splits,
      bytes: parts.bytes + stats.bytes + plain.bytes + scaled.bytes + rows.bytes,
    },
  });
  return sums;
}

/** dx = scale·u + slope·(x - mean) + shift, from what {@linkcode gradientSums} gave. */
export function normInputGrad(
  { u, x, gate }: NormGradient,
  sums: NormSums,
  { view, centred }: { view: NormView; centred: boolean },
): DeviceArray {
  const { mean, scale, slope, shift, bias } = GRAD_ROWS;
  const b = gate?.b ? { bias } : undefined;
  const through = gate ? `activation_gradient((x - mean) * scale${b ? " + bias" : ""}, u)` : "u";
  const name = ["norm_dx", !centred && "about_0", gate?.epilogue.name, b && "bias"];
  return normRows(name.filter(Boolean).join("_"), {
    elements: { u, x },
    statistics: {},
    table: { of: sums.rows, rows: { mean, scale, slope, ...(centred ? { shift } : {}), ...b } },
  }, {
    view,
    expression: `fma(scale, ${through}, slope * (x - mean))${centred ? " + shift" : ""}`,
    module: gate?.epilogue.module,
    out: x,
  });
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
