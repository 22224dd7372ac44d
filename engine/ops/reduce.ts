/** Sums, means and extremes over dimensions. */

import { DeviceArray, operand } from "../array.ts";
import { type DType, DTYPES, isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { IS_NAN, reduceKernel, type ReduceSpec, rowReduceKernel } from "../kernels/reduce.ts";
import type { RowLayout } from "../kernels/rows.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { eachCoordinate, hostZeros } from "../reference.ts";
import { broadcastStrides, contiguousStrides, normalizeDims, show, sizeOf } from "../shape.ts";
import { copyOf, plain, pointwise } from "./launch_pointwise.ts";
import { groupShares, rowColumns, rowGrid, rowLayout } from "./rows.ts";

/** Attributes of a reduction: dimensions (all when absent) and whether they stay as size 1. */
export interface ReduceAttrs {
  readonly dim?: number | readonly number[];
  readonly keepdim?: boolean;
}

/** Threads a reduction aims at, and elements of a share below which splitting costs more than it gains. */
const SOFTWARE = { threads: 4096, share: 128 };
// No discrete GPU has been at hand: these are guesses.
const DISCRETE = { threads: 1 << 16, share: 8 };
/** Loads of a lane up to which a later pass adds shares without shares of its own. */
const MERGE_TURNS = 512;

/** Shares that a reduction of `length` elements to each of `outputs` is cut into, a thread a share. */
export function sharesOf(length: number, outputs: number): number {
  const { threads, share } = gpu().info.software ? SOFTWARE : DISCRETE;
  const wanted = Math.ceil(threads / Math.max(outputs, 1));
  return Math.max(1, Math.min(wanted, Math.floor(length / share)));
}

/** Who owns a share of a row, and into how many it is cut; rows of shares are cut only where they are long. */
function rowPlan(
  length: number,
  { outputs, merges }: { readonly outputs: number; readonly merges: boolean },
): RowLayout & { readonly splits: number } {
  const layout = rowLayout(length);
  const { lanes } = layout;
  const loads = rowColumns(length, layout);
  if (merges && loads <= lanes * MERGE_TURNS) return { ...layout, splits: 1 };
  const splits = lanes === 1
    ? sharesOf(length, outputs)
    : groupShares(loads, { lanes, rows: outputs });
  return { ...layout, splits };
}

/** The shape that is left when `dims` are reduced. */
export function reducedShape(
  shape: readonly number[],
  dims: readonly number[],
  keepdim = false,
): number[] {
  return keepdim
    ? shape.map((s, d) => dims.includes(d) ? 1 : s)
    : shape.filter((_, d) => !dims.includes(d));
}

/** x seen as [outer, R, inner] with the reduced dimensions, which are neighbours, in the middle. */
export function asMiddle(x: DeviceArray, dims: readonly number[]) {
  const at = dims[0] ?? 0;
  return {
    array: plain(x),
    outer: sizeOf(x.shape.slice(0, at)),
    length: dims.reduce((n, d) => n * x.shape[d]!, 1),
    inner: sizeOf(x.shape.slice(at + dims.length)),
  };
}

/** Sorted dimensions cut into runs of neighbours. */
export function neighbours(dims: readonly number[]): number[][] {
  const runs: number[][] = [];
  for (const d of dims) {
    const last = runs.at(-1);
    if (last && last.at(-1) === d - 1) last.push(d);
    else runs.push([d]);
  }
  return runs.length > 0 ? runs : [[]];
}

type ReduceRecipe =
  & Pick<ReduceSpec, "name" | "init" | "combine" | "module">
  & Partial<Pick<ReduceSpec, "map" | "finish">>
  & { first?: number };

/**
 * Reduces `dims` of `x` into a contiguous array of `shape`: one to three passes for each run of
 * neighbouring dimensions, the innermost run first, so that nothing is copied into another order.
 */
export function reduce(
  x: DeviceArray,
  recipe: ReduceRecipe & {
    dims: readonly number[];
    shape: readonly number[];
    output: DType;
  },
): DeviceArray {
  const accumulator = DTYPES[x.dtype].compute;
  const count = recipe.dims.reduce((n, d) => n * x.shape[d]!, 1);
  const runs = neighbours(recipe.dims);
  let array = x;
  for (let i = runs.length - 1; i >= 0; i--) {
    const last = i === 0;
    const dims = runs[i]!;
    array = reduceRun(array, {
      ...recipe,
      dims,
      count,
      accumulator,
      // Results between runs stay in the accumulator's type, with the reduced sizes as 1.
      map: i === runs.length - 1 ? recipe.map ?? "x" : "x",
      finish: last ? recipe.finish ?? "a" : "a",
      output: last ? recipe.output : accumulator,
      shape: last ? recipe.shape : reducedShape(array.shape, dims, true),
    });
  }
  return array;
}

/**
 * Columns from which on neighbouring threads take columns: on software the lanes of a subgroup, on a GPU any,
 * so that a subgroup's loads are neighbours.
 */
const COLUMNS = { software: 8, discrete: 2 };

/** Reduction of one run of neighbouring dimensions. */
type Run =
  & Required<Pick<ReduceRecipe, "name" | "init" | "combine" | "map" | "finish">>
  & {
    readonly module?: string;
    readonly first?: number;
    readonly dims: readonly number[];
    readonly shape: readonly number[];
    readonly output: DType;
    readonly count: number;
    readonly accumulator: "f32" | "i32" | "u32";
  };

/** What differs between the passes of a run. */
type Pass = Pick<Run, "map" | "finish" | "output" | "shape">;

function reduceRun(x: DeviceArray, run: Run): DeviceArray {
  const { array, outer, length, inner } = asMiddle(x, run.dims);
  const outputs = outer * inner;
  if (inner === 1) return reduceRows(array, { ...run, length, outputs });
  const { software } = gpu().info;
  const byColumn = inner >= (software ? COLUMNS.software : COLUMNS.discrete);
  const fours = byColumn && inner % 4 === 0;
  const unit = fours ? 4 : 1;
  const threads = outputs / unit;
  const wanted = sharesOf(length, threads);
  // The next pass reads shares by fours.
  const splits = wanted < 4 ? wanted : wanted - wanted % 4;
  const last = splits === 1;
  const text = passOf(run, { outputs, splits });
  const y = DeviceArray.empty({ shape: text.shape, dtype: text.output }, run.name);
  gpu().queue.launch({
    kernel: reduceKernel({ ...specOf(run, array, text), fours, apart: fours && !last }),
    buffers: [operand(array).binding, operand(y).binding],
    params: {
      outputs: threads,
      length,
      inner: inner / unit,
      splits,
      by_column: Number(byColumn),
      // On software rows of a share that are far apart would lie in pages of their own.
      row_step: software && byColumn ? 1 : splits,
      count: run.count,
      first: run.first ?? 0,
    },
    grid: linearGrid(threads * splits, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: array.size, bytes: array.bytes + y.bytes },
  });
  return last ? y : reduceRows(y, { ...run, map: "x", length: splits, outputs, merges: true });
}

/** What a pass stores: results, or shares [outputs, splits] for another pass. */
function passOf(run: Run, { outputs, splits }: { outputs: number; splits: number }): Pass {
  return splits === 1
    ? run
    : { map: run.map, finish: "a", output: run.accumulator, shape: [outputs, splits] };
}

/** Reduces each of `outputs` rows of `length` elements. */
function reduceRows(
  x: DeviceArray,
  run: Run & {
    readonly length: number;
    readonly outputs: number;
    /** Whether the rows are shares of an earlier pass. */
    readonly merges?: boolean;
  },
): DeviceArray {
  const { length, outputs } = run;
  const { splits, ...layout } = rowPlan(length, { outputs, merges: run.merges ?? false });
  const last = splits === 1;
  const text = passOf(run, { outputs, splits });
  const y = DeviceArray.empty({ shape: text.shape, dtype: text.output }, run.name);
  gpu().queue.launch({
    kernel: rowReduceKernel({ ...specOf(run, x, text), ...layout }),
    buffers: [operand(x).binding, operand(y).binding],
    params: {
      outputs,
      length: rowColumns(length, layout),
      splits,
      count: run.count,
      first: run.first ?? 0,
    },
    grid: rowGrid(outputs * splits, layout),
    cost: { flops: x.size, bytes: x.bytes + y.bytes },
  });
  return last ? y : reduceRows(y, { ...run, map: "x", length: splits, merges: true });
}

/** What a kernel's text says of one pass. */
function specOf(run: Run, input: DeviceArray, { map, finish, output }: Pass): ReduceSpec {
  const { init, combine, module, accumulator } = run;
  // What is stored as it is added up is a share.
  const name = output === accumulator && finish === "a" && run.finish !== "a"
    ? `${run.name}_shares`
    : run.name;
  return { name, input: input.dtype, output, accumulator, init, map, combine, finish, module };
}

/** `x` (a reduced gradient) seen at the shape before reduction. */
export function spread(
  dy: DeviceArray,
  shape: readonly number[],
  dims: readonly number[],
): DeviceArray {
  const kept = reducedShape(shape, dims, true);
  const strides = contiguousStrides(kept);
  const source = dy.contiguous ? dy : copyOf(dy);
  return source.view(kept, strides).view(shape, broadcastStrides(kept, strides, shape));
}

/** f of the elements that each output is made of. */
export function hostReduce(
  x: HostArray,
  { dim, keepdim }: ReduceAttrs,
  f: (values: number[]) => number,
  dtype: DType = "f32",
): HostArray {
  const dims = normalizeDims("reduce", dim, x.shape.length);
  const groups = Array.from(
    { length: sizeOf(reducedShape(x.shape, dims)) },
    (): number[] => [],
  );
  eachCoordinate(x.shape, (at, i) => {
    let p = 0;
    at.forEach((c, d) => {
      if (!dims.includes(d)) p = p * x.shape[d]! + c;
    });
    groups[p]!.push(x.data[i]!);
  });
  const y = hostZeros(reducedShape(x.shape, dims, keepdim), dtype);
  groups.forEach((g, i) => y.data[i] = f(g));
  return y;
}

/** Cases for any reduction: one run of dimensions, several, and lengths that are cut into shares. */
export const REDUCE_SAMPLES: readonly Sample<ReduceAttrs>[] = [
  { inputs: [{ shape: [7], distinct: true }], attrs: {} },
  { inputs: [{ shape: [3, 5], distinct: true }], attrs: { dim: 1 } },
  { inputs: [{ shape: [3, 5], distinct: true }], attrs: { dim: 0, keepdim: true } },
  { inputs: [{ shape: [2, 3, 4], distinct: true }], attrs: { dim: [0, 2] } },
  { inputs: [{ shape: [2, 3, 4], distinct: true }], attrs: { dim: [1, 2], keepdim: true } },
  { inputs: [{ shape: [] }], attrs: {} },
  { inputs: [{ shape: [1025] }], attrs: {}, grad: false },
  { inputs: [{ shape: [3, 700] }], attrs: { dim: 1 }, grad: false },
  { inputs: [{ shape: [701, 9] }], attrs: { dim: 0 }, grad: false },
  { inputs: [{ shape: [2, 530, 8] }], attrs: { dim: 1 }, grad: false },
  // More than the elements of a turn of the loop, one by one and by fours.
  { inputs: [{ shape: [2, 19], distinct: true }], attrs: { dim: 1 } },
  { inputs: [{ shape: [2, 36], distinct: true }], attrs: { dim: 1 } },
  ...[301, 1200, 8197, 8200].map((length) => ({
    inputs: [{ shape: [1, length], values: marked(length) }],
    attrs: { dim: 1 },
    grad: false,
  })),
  { inputs: [{ shape: [3, 8], distinct: true }], attrs: { dim: 0 } },
];

/** Numbers about 1 with a first and a last four that weigh as much as many others; the first is the largest. */
function marked(length: number): number[] {
  return Array.from(
    { length },
    (_, i) => i < 4 ? length / (8 + i) : i >= length - 4 ? length / 16 : 0.5 + (i * i % 11) / 11,
  );
}

/** y = sum of x over the dimensions; integers add as i32 or u32, bool counts as i32. */
export const sum: Op<ReduceAttrs> = defineOp<ReduceAttrs>({
  name: "sum",
  linear: {},
  check([x], { dim, keepdim }) {
    const dims = normalizeDims("sum", dim, x!.shape.length);
    return [{
      shape: reducedShape(x!.shape, dims, keepdim),
      dtype: x!.dtype === "bool" ? "i32" : x!.dtype,
    }];
  },
  forward: (_ctx, [x], { dim }, [out]) => [
    reduce(x!, {
      name: "sum",
      init: "0",
      combine: "a + x",
      dims: normalizeDims("sum", dim, x!.shape.length),
      shape: out!.shape,
      output: out!.dtype,
    }),
  ],
  backward: (ctx, [dy], { dim }) => {
    const { shape } = ctx.inputs[0]!;
    return [spread(dy!, shape, normalizeDims("sum", dim, shape.length))];
  },
  reference: ([x], attrs) => [hostReduce(x!, attrs, (v) => v.reduce((a, b) => a + b, 0))],
  samples: [
    ...REDUCE_SAMPLES,
    { inputs: [{ shape: [0, 3] }], attrs: { dim: 0 } },
    // Columns that are few: read side by side on a GPU, in many shares.
    ...[[1501, 3], [2, 800, 4]].map((shape) => ({
      inputs: [{ shape }],
      attrs: { dim: shape.length - 2 },
      grad: false,
    })),
  ],
});

/** The sum in another float dtype than x's: f32 sums are not rounded to an f16 on the way. */
export function sumIn(
  x: DeviceArray,
  { dim, keepdim = false, dtype }: {
    dim: number | readonly number[];
    keepdim?: boolean;
    dtype: DType;
  },
): DeviceArray {
  const dims = normalizeDims("sum", dim, x.shape.length);
  const shape = reducedShape(x.shape, dims, keepdim);
  return reduce(x, { name: "sum", init: "0", combine: "a + x", dims, shape, output: dtype });
}

/** y = sum of x over the dimensions divided by their size; floats only. */
export const mean: Op<ReduceAttrs> = defineOp<ReduceAttrs>({
  name: "mean",
  linear: {},
  check([x], { dim, keepdim }) {
    if (!isFloat(x!.dtype)) {
      throw new TypeError(
        `Cannot take the mean of dtype ${x!.dtype}: it must be a float, so call .to("f32") first`,
      );
    }
    const dims = normalizeDims("mean", dim, x!.shape.length);
    return [{ shape: reducedShape(x!.shape, dims, keepdim), dtype: x!.dtype }];
  },
  forward: (_ctx, [x], { dim }, [out]) => [
    reduce(x!, {
      name: "mean",
      init: "0",
      combine: "a + x",
      finish: "a / p.count",
      dims: normalizeDims("mean", dim, x!.shape.length),
      shape: out!.shape,
      output: out!.dtype,
    }),
  ],
  backward: (ctx, [dy], { dim }) => {
    const { shape } = ctx.inputs[0]!;
    const dims = normalizeDims("mean", dim, shape.length);
    const count = dims.reduce((n, d) => n * shape[d]!, 1);
    const scaled = pointwise({
      name: "mean_backward",
      inputs: { dy: dy!, scale: { value: 1 / count, type: "f32" } },
      expression: "dy * scale",
      compute: "f32",
      result: "f32",
    }, dy!);
    return [spread(scaled, shape, dims)];
  },
  reference: (
    [x],
    attrs,
  ) => [hostReduce(x!, attrs, (v) => v.reduce((a, b) => a + b, 0) / v.length)],
  samples: REDUCE_SAMPLES,
});

function extreme(largest: boolean): Op<ReduceAttrs> {
  const name = largest ? "max" : "min";
  const better = largest ? "x > a" : "x < a";
  return defineOp<ReduceAttrs>({
    name,
    check([x], { dim, keepdim }) {
      const dims = normalizeDims(name, dim, x!.shape.length);
      if (dims.some((d) => x!.shape[d] === 0)) {
        throw new RangeError(
          `Cannot take the ${name} of ${show(x!.shape)}: it has no elements there`,
        );
      }
      return [{ shape: reducedShape(x!.shape, dims, keepdim), dtype: x!.dtype }];
    },
    forward(ctx, [x], { dim }, [out]) {
      const kind = DTYPES[x!.dtype].compute;
      const lowest = kind === "f32"
        ? "p.first"
        : kind === "i32"
        ? (largest ? "-2147483648" : "2147483647")
        : largest
        ? "0u"
        : "4294967295u";
      const y = reduce(x!, {
        name,
        init: lowest,
        first: largest ? -Infinity : Infinity,
        combine: kind === "f32"
          ? `select(a, x, ${better} || is_nan(x))`
          : `select(a, x, ${better})`,
        module: kind === "f32" ? IS_NAN : "",
        dims: normalizeDims(name, dim, x!.shape.length),
        shape: out!.shape,
        output: out!.dtype,
      });
      ctx.save(x!, y);
      return [y];
    },
    // As PyTorch's amax: equal elements share the gradient.
    backward(ctx, [dy], { dim }) {
      const [x, y] = ctx.saved as [DeviceArray, DeviceArray];
      const dims = normalizeDims(name, dim, x.shape.length);
      const mask = pointwise({
        name: `${name}_mask`,
        inputs: { x, m: spread(y, x.shape, dims) },
        expression: "select(0.0, 1.0, x == m)",
        compute: "f32",
        result: "f32",
      }, { shape: x.shape, dtype: "f32" });
      const ties = reduce(mask, {
        name: "sum",
        init: "0",
        combine: "a + x",
        dims,
        shape: dy!.shape,
        output: "f32",
      });
      return [
        pointwise({
          name: `${name}_backward`,
          inputs: { mask, dy: spread(dy!, x.shape, dims), ties: spread(ties, x.shape, dims) },
          expression: "mask * dy / ties",
          compute: "f32",
          result: "f32",
        }, { shape: x.shape, dtype: dy!.dtype }),
      ];
    },
    reference: (
      [x],
      attrs,
    ) => [hostReduce(x!, attrs, (v) => extremeOf(v, largest), x!.dtype)],
    samples: [
      ...REDUCE_SAMPLES,
      { inputs: [{ shape: [6], dtype: "i32", low: -9, high: -1 }], attrs: {}, grad: false },
      // The extreme element first and last, so that its gradient is at either end.
      { inputs: [{ shape: [8], values: [-2, -1.5, -1, 0, 0.5, 1, 2, 3] }], attrs: {} },
      { inputs: [{ shape: [8], values: [3, 2, 1, 0.5, 0, -1, -1.5, -2] }], attrs: {} },
      { inputs: [{ shape: [5, 1], distinct: true }], attrs: { dim: 1 } },
      // At an end of what a lane of each layout walks.
      ...[19, 36, 301, 1200, 8197, 8200].flatMap((length) => {
        const rising = Array.from({ length }, (_, i) => i / 4 - 3);
        return [rising, rising.toReversed()].map((values) => ({
          inputs: [{ shape: [1, length], values }],
          attrs: { dim: 1 },
          grad: length < 100,
        }));
      }),
    ],
  });
}

/** Not Math.max(...values): a large array has more elements than a call takes arguments. */
export function extremeOf(values: readonly number[], largest: boolean): number {
  return values.reduce((m, v) => largest ? Math.max(m, v) : Math.min(m, v));
}

/** Largest element over the dimensions; NaN wins. */
export const max: Op<ReduceAttrs> = extreme(true);
/** Smallest element over the dimensions; NaN wins. */
export const min: Op<ReduceAttrs> = extreme(false);
