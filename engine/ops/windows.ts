/** Windows along a dimension: a view of them, and their sum where they overlap. Each is the other's gradient. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { foldKernel } from "../kernels/fold.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { defineOp, type Op, run } from "../op.ts";
import { eachCoordinate, hostAt, hostFrom, hostZeros } from "../reference.ts";
import { normalizeDim, show } from "../shape.ts";

/** Windows of `size` elements `dilation` apart, one every `step`. */
interface WindowAttrs {
  readonly dim: number;
  readonly step: number;
  readonly dilation: number;
}

/** Attributes of {@linkcode unfold}. */
export interface UnfoldAttrs extends WindowAttrs {
  /** Elements of a window. */
  readonly size: number;
}

/** Attributes of {@linkcode fold}. */
export interface FoldAttrs extends WindowAttrs {
  /** Size of the dimension that the windows come from. */
  readonly length: number;
}

/** From the first element of a window to its last. */
function reachOf(size: number, { dilation }: WindowAttrs): number {
  return dilation * (size - 1) + 1;
}

/** How many windows there are, and the dimension they lie along. */
function windowsOf(shape: readonly number[], attrs: UnfoldAttrs): { dim: number; count: number } {
  const { size, step, dilation } = attrs;
  if (shape.length === 0) throw new TypeError("Cannot unfold [], which has no dimension");
  const dim = normalizeDim("unfold", attrs.dim, shape.length);
  checkWhole("unfold", { size, step, dilation }, 1);
  const reach = reachOf(size, attrs);
  if (reach > shape[dim]!) {
    throw new RangeError(
      `Cannot unfold dimension ${dim} of ${show(shape)} into windows of ${reach}: it must hold one`,
    );
  }
  return { dim, count: Math.floor((shape[dim]! - reach) / step) + 1 };
}

/** x [..., L, ...] → [..., windows, ..., size]; a view. */
export const unfold: Op<UnfoldAttrs> = defineOp<UnfoldAttrs>({
  name: "unfold",
  linear: {},
  check([x], attrs) {
    const { dim, count } = windowsOf(x!.shape, attrs);
    const shape = x!.shape.map((s, d) => d === dim ? count : s);
    return [{ shape: [...shape, attrs.size], dtype: x!.dtype }];
  },
  forward(_ctx, [x], attrs, [out]) {
    const { dim } = windowsOf(x!.shape, attrs), stride = x!.strides[dim]!;
    const strides = x!.strides.map((s, d) => d === dim ? s * attrs.step : s);
    return [x!.view(out!.shape, [...strides, stride * attrs.dilation])];
  },
  backward(ctx, [dy], attrs) {
    const { shape } = ctx.inputs[0]!, { dim } = windowsOf(shape, attrs);
    const { step, dilation } = attrs;
    return [run(fold, [dy!], { dim, step, dilation, length: shape[dim]! })];
  },
  reference([x], attrs) {
    const { dim, count } = windowsOf(x!.shape, attrs);
    const shape = [...x!.shape.map((s, d) => d === dim ? count : s), attrs.size];
    const place = (at: readonly number[]) => at[dim]! * attrs.step + at.at(-1)! * attrs.dilation;
    return [
      hostFrom(
        shape,
        (at) => hostAt(x!, at.slice(0, -1).map((c, d) => d === dim ? place(at) : c)),
        x!.dtype,
      ),
    ];
  },
  samples: [
    { inputs: [{ shape: [7] }], attrs: { dim: 0, size: 3, step: 1, dilation: 1 }, terms: 3 },
    { inputs: [{ shape: [2, 9, 3] }], attrs: { dim: -2, size: 2, step: 3, dilation: 2 }, terms: 1 },
    { inputs: [{ shape: [3, 8] }], attrs: { dim: 1, size: 3, step: 2, dilation: 2 }, terms: 3 },
    { inputs: [{ shape: [0, 4] }], attrs: { dim: 1, size: 4, step: 1, dilation: 1 }, terms: 1 },
  ],
});

/** The dimension along which the windows lie, how many there are and of how many elements. */
function foldOf(shape: readonly number[], attrs: FoldAttrs) {
  const { step, dilation, length } = attrs;
  if (shape.length < 2) {
    throw new TypeError(`Cannot fold ${show(shape)}: it must be [..., windows, ..., size]`);
  }
  const dim = normalizeDim("fold", attrs.dim, shape.length - 1);
  checkWhole("fold", { step, dilation }, 1);
  checkWhole("fold", { length });
  const count = shape[dim]!, size = shape.at(-1)!;
  const end = count === 0 || size === 0 ? 0 : step * (count - 1) + reachOf(size, attrs);
  if (end > length) {
    throw new RangeError(
      `Cannot fold ${show(shape)} to length ${length}: its windows reach to ${end}`,
    );
  }
  return { dim, count, size, shape: shape.slice(0, -1).map((s, d) => d === dim ? length : s) };
}

/** x [..., windows, ..., size] → [..., length, ...], with the windows added up where they overlap. */
export const fold: Op<FoldAttrs> = defineOp<FoldAttrs>({
  name: "fold",
  linear: {},
  check([x], attrs) {
    if (x!.dtype === "bool") throw new TypeError("Cannot fold bool: convert it to a number first");
    return [{ shape: foldOf(x!.shape, attrs).shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x], attrs, [out]) {
    const { dim, count, size } = foldOf(x!.shape, attrs), { step, dilation } = attrs;
    const y = DeviceArray.empty(out!, "fold"), source = operand(x!);
    const params: Record<string, number> = {
      count: y.size,
      x_off: source.offset,
      windows: count,
      size,
      step,
      dilation,
      xk: x!.strides.at(-1)!,
    };
    y.shape.forEach((s, d) => {
      params[`s${d}`] = s;
      params[`x${d}`] = x!.strides[d]!;
    });
    gpu().queue.launch({
      kernel: foldKernel({ dtype: x!.dtype, rank: y.shape.length, dim }),
      buffers: [source.binding, operand(y).binding],
      params,
      grid: linearGrid(y.size, gpu().limits.maxComputeWorkgroupsPerDimension),
      cost: { flops: x!.size, bytes: x!.bytes + y.bytes },
    });
    return [y];
  },
  backward(ctx, [dy], { dim, step, dilation }) {
    return [run(unfold, [dy!], { dim, step, dilation, size: ctx.inputs[0]!.shape.at(-1)! })];
  },
  reference([x], attrs) {
    const { dim, shape } = foldOf(x!.shape, attrs);
    const y = hostZeros(shape, x!.dtype);
    eachCoordinate(x!.shape, (at, i) => {
      const place = at[dim]! * attrs.step + at.at(-1)! * attrs.dilation;
      const to = shape.reduce((p, s, d) => p * s + (d === dim ? place : at[d]!), 0);
      y.data[to]! += x!.data[i]!;
    });
    return [y];
  },
  samples: [
    { inputs: [{ shape: [5, 3] }], attrs: { dim: 0, step: 1, dilation: 1, length: 7 }, terms: 3 },
    {
      inputs: [{ shape: [2, 3, 3, 2] }],
      attrs: { dim: 1, step: 2, dilation: 2, length: 8 },
      terms: 2,
    },
    {
      inputs: [{ shape: [3, 2, 3], dtype: "i32" }],
      attrs: { dim: -2, step: 2, dilation: 1, length: 7 },
      terms: 3,
    },
    { inputs: [{ shape: [0, 2, 4] }], attrs: { dim: 1, step: 1, dilation: 1, length: 6 } },
    { inputs: [{ shape: [4, 2] }], attrs: { dim: 0, step: 4, dilation: 1, length: 15 }, terms: 1 },
  ],
});
