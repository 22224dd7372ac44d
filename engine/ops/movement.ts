/** Ops that move elements without computing: views where the layout allows, copies elsewhere. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray } from "../array.ts";
import { DTYPES } from "../dtype.ts";
import { defineOp, type HostArray, type Op } from "../op.ts";
import { eachCoordinate, hostAt, hostFrom, hostZeros } from "../reference.ts";
import {
  broadcastStrides,
  inferReshape,
  normalizeDim,
  reshapeStrides,
  sameShape,
  show,
  sizeOf,
} from "../shape.ts";
import { copyOf, pointwiseInto } from "./launch_pointwise.ts";
import { fill } from "./fill.ts";

/** The same elements in row-major order under another shape; one size may be -1. */
export const reshape: Op<{ shape: readonly number[] }> = defineOp<{ shape: readonly number[] }>({
  name: "reshape",
  linear: {},
  check: ([x], { shape }) => [{ shape: inferReshape(x!.shape, shape), dtype: x!.dtype }],
  forward: (_ctx, [x], _attrs, [out]) => [reshaped(x!, out!.shape)],
  backward: (ctx, [dy]) => [reshaped(dy!, ctx.inputs[0]!.shape)],
  reference: ([x], { shape }) => [{ ...x!, shape: inferReshape(x!.shape, shape) }],
  samples: [
    { inputs: [{ shape: [2, 6] }], attrs: { shape: [3, -1] }, terms: 1 },
    { inputs: [{ shape: [4, 3, 2] }], attrs: { shape: [24] }, terms: 1 },
    { inputs: [{ shape: [1] }], attrs: { shape: [] }, terms: 1 },
    { inputs: [{ shape: [0, 4] }], attrs: { shape: [2, 0] }, terms: 1 },
  ],
});

/** `x` seen under `shape`: a view if strides allow, else a copy. */
export function reshaped(x: DeviceArray, shape: readonly number[]): DeviceArray {
  const strides = reshapeStrides(x.shape, x.strides, shape);
  return strides ? x.view(shape, strides) : copyOf(x).view(shape, contiguousOf(shape));
}

function contiguousOf(shape: readonly number[]): number[] {
  return reshapeStrides([sizeOf(shape)], [1], shape)!;
}

/** Dimensions in another order. */
export const permute: Op<{ dims: readonly number[] }> = defineOp<{ dims: readonly number[] }>({
  name: "permute",
  linear: {},
  check([x], { dims }) {
    const order = dims.map((d) => normalizeDim("permute", d, x!.shape.length));
    if (order.length !== x!.shape.length || new Set(order).size !== order.length) {
      throw new TypeError(
        `Cannot permute ${show(x!.shape)} by ${show(dims)}: name each of its ` +
          `${x!.shape.length} dimensions once`,
      );
    }
    return [{ shape: order.map((d) => x!.shape[d]!), dtype: x!.dtype }];
  },
  forward: (_ctx, [x], { dims }) => [permuted(x!, dims)],
  backward(_ctx, [dy], { dims }) {
    const inverse = new Array<number>(dims.length);
    dims.forEach((d, i) => inverse[d < 0 ? d + dims.length : d] = i);
    return [permuted(dy!, inverse)];
  },
  reference: ([x], { dims }) => [
    hostFrom(dims.map((d) => x!.shape.at(d)!), (at) => {
      const from = new Array<number>(dims.length);
      dims.forEach((d, i) => from[d < 0 ? d + dims.length : d] = at[i]!);
      return hostAt(x!, from);
    }, x!.dtype),
  ],
  samples: [
    { inputs: [{ shape: [2, 3] }], attrs: { dims: [1, 0] }, terms: 1 },
    { inputs: [{ shape: [2, 3, 4] }], attrs: { dims: [2, 0, 1] }, terms: 1 },
    { inputs: [{ shape: [2, 1, 5, 3] }], attrs: { dims: [0, -1, 1, 2] }, terms: 1 },
  ],
});

/** A view with dimensions reordered. */
export function permuted(x: DeviceArray, dims: readonly number[]): DeviceArray {
  const order = dims.map((d) => d < 0 ? d + x.shape.length : d);
  return x.view(order.map((d) => x.shape[d]!), order.map((d) => x.strides[d]!));
}

/** Repeats dimensions of size 1 without copying; -1 keeps a size. */
export const expand: Op<{ shape: readonly number[] }> = defineOp<{ shape: readonly number[] }>({
  name: "expand",
  linear: {},
  check([x], { shape }) {
    const lead = shape.length - x!.shape.length;
    const out = shape.map((s, i) => s === -1 && i >= lead ? x!.shape[i - lead]! : s);
    const fits = lead >= 0 && x!.shape.every((s, i) => s === 1 || s === out[lead + i]) &&
      out.every((s) => Number.isInteger(s) && s >= 0);
    if (!fits) {
      throw new TypeError(
        `Cannot expand ${show(x!.shape)} to ${show(shape)}: only dimensions of size 1 repeat`,
      );
    }
    return [{ shape: out, dtype: x!.dtype }];
  },
  forward: (_ctx, [x], _attrs, [out]) => [
    x!.view(out!.shape, broadcastStrides(x!.shape, x!.strides, out!.shape)),
  ],
  backward: (_ctx, [dy]) => [dy!],
  reference: ([x], { shape }) => {
    const lead = shape.length - x!.shape.length;
    const out = shape.map((s, i) => s === -1 ? x!.shape[i - lead]! : s);
    return [hostFrom(out, (at) => hostAt(x!, at), x!.dtype)];
  },
  samples: [
    { inputs: [{ shape: [3, 1] }], attrs: { shape: [3, 4] }, terms: 4 },
    { inputs: [{ shape: [1, 5] }], attrs: { shape: [2, 3, -1] }, terms: 6 },
  ],
});

/** Attributes of {@linkcode slice}, already normalised: 0 <= start <= end <= size, step >= 1. */
export interface SliceAttrs {
  readonly dim: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** Every step-th index from start to before end along one dimension; a view. */
export const slice: Op<SliceAttrs> = defineOp<SliceAttrs>({
  name: "slice",
  linear: {},
  check([x], { dim, start, end, step }) {
    const size = x!.shape[dim]!;
    checkWhole("slice", { step }, 1);
    checkWhole("slice", { start, end });
    if (start < 0 || end < start || end > size) {
      throw new RangeError(
        `Cannot slice dimension ${dim} of ${show(x!.shape)} from ${start} to ${end}: ` +
          `the range must lie within 0 to ${size}`,
      );
    }
    const shape = [...x!.shape];
    shape[dim] = Math.ceil((end - start) / step);
    return [{ shape, dtype: x!.dtype }];
  },
  forward: (_ctx, [x], attrs, [out]) => [sliced(x!, attrs, out!.shape)],
  backward(ctx, [dy], attrs) {
    const dx = fill(ctx.inputs[0]!, 0);
    copyInto(dy!, sliced(dx, attrs, dy!.shape));
    return [dx];
  },
  reference: ([x], { dim, start, end, step }) => {
    const shape = [...x!.shape];
    shape[dim] = Math.ceil((end - start) / step);
    return [
      hostFrom(
        shape,
        (at) => hostAt(x!, at.map((c, d) => d === dim ? start + c * step : c)),
        x!.dtype,
      ),
    ];
  },
  samples: [
    { inputs: [{ shape: [5, 3] }], attrs: { dim: 0, start: 1, end: 4, step: 1 }, terms: 1 },
    { inputs: [{ shape: [2, 7] }], attrs: { dim: 1, start: 1, end: 7, step: 3 }, terms: 1 },
    { inputs: [{ shape: [4, 2] }], attrs: { dim: 0, start: 2, end: 2, step: 1 }, terms: 1 },
  ],
});

function sliced(x: DeviceArray, { dim, start, step }: SliceAttrs, shape: readonly number[]) {
  const strides = x.strides.map((s, d) => d === dim ? s * step : s);
  return x.view(shape, strides, x.offset + start * x.strides[dim]!);
}

/** Copies `from` into `to`, element by element, whatever their layouts. */
export function copyInto(from: DeviceArray, to: DeviceArray): void {
  const bool = to.dtype === "bool";
  const kind = DTYPES[bool ? from.dtype : to.dtype].compute;
  pointwiseInto({
    name: "copy",
    inputs: { x: from },
    expression: bool ? `!(x == ${kind}(0))` : "x",
    compute: kind,
    result: bool ? "bool" : kind,
    flops: 0,
  }, to);
}

/** Tensors one after the other along a dimension. */
export const cat: Op<{ dim: number }> = defineOp<{ dim: number }>({
  name: "cat",
  linear: {},
  check(inputs, { dim }) {
    const first = inputs[0];
    if (!first) throw new TypeError("Cannot cat nothing: give at least one tensor");
    if (first.shape.length === 0) {
      throw new TypeError("Cannot cat [], which has no dimension: use stack");
    }
    let total = 0;
    for (const x of inputs) {
      const like = x.shape.map((s, d) => d === dim ? first.shape[d]! : s);
      if (!sameShape(like, first.shape) || x.dtype !== first.dtype) {
        throw new TypeError(
          `Cannot cat ${show(first.shape)} ${first.dtype} with ${show(x.shape)} ${x.dtype} along ` +
            `dimension ${dim}: dtypes and all other sizes must be equal`,
        );
      }
      total += x.shape[dim]!;
    }
    return [{ shape: first.shape.map((s, d) => d === dim ? total : s), dtype: first.dtype }];
  },
  forward(_ctx, inputs, { dim }, [out]) {
    const y = DeviceArray.empty(out!, "cat");
    let start = 0;
    for (const x of inputs) {
      const end = start + x.shape[dim]!;
      copyInto(x, sliced(y, { dim, start, end, step: 1 }, x.shape));
      start = end;
    }
    return [y];
  },
  backward(ctx, [dy], { dim }) {
    let start = 0;
    return ctx.inputs.map((x) => {
      const at = start;
      start += x.shape[dim]!;
      return sliced(dy!, { dim, start: at, end: start, step: 1 }, x.shape);
    });
  },
  reference(inputs, { dim }) {
    const first = inputs[0]!;
    const total = inputs.reduce((n, x) => n + x.shape[dim]!, 0);
    const y: HostArray = hostZeros(first.shape.map((s, d) => d === dim ? total : s), first.dtype);
    let start = 0;
    for (const x of inputs) {
      eachCoordinate(x.shape, (at, i) => {
        let p = 0;
        y.shape.forEach((s, d) => p = p * s + at[d]! + (d === dim ? start : 0));
        y.data[p] = x.data[i]!;
      });
      start += x.shape[dim]!;
    }
    return [y];
  },
  samples: [
    { inputs: [{ shape: [2, 3] }, { shape: [4, 3] }], attrs: { dim: 0 }, terms: 1 },
    {
      inputs: [{ shape: [2, 1] }, { shape: [2, 3] }, { shape: [2, 0] }],
      attrs: { dim: 1 },
      terms: 1,
    },
  ],
});
