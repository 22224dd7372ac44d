/** Ops that reverse, rotate, pad and mask: each output element is one input element or a constant. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { rearrangeKernel, triangleKernel } from "../kernels/rearrange.ts";
import { defineOp, type Op } from "../op.ts";
import { hostAt, hostFrom, hostZeros } from "../reference.ts";
import { normalizeDim, normalizeDims, show } from "../shape.ts";
import { fill } from "./fill.ts";
import { plain } from "./launch_pointwise.ts";
import { copyInto } from "./movement.ts";

/** Where a dimension starts and whether it runs backwards. */
interface Walk {
  readonly shift: number;
  readonly back: boolean;
}

function rearranged(x: DeviceArray, walks: readonly Walk[], name: string): DeviceArray {
  const y = DeviceArray.empty(x, name);
  const source = operand(x);
  const params: Record<string, number> = { count: y.size, x_off: source.offset };
  x.shape.forEach((s, d) => {
    params[`s${d}`] = s;
    params[`x${d}`] = x.strides[d]!;
    params[`shift${d}`] = walks[d]!.shift;
    params[`back${d}`] = Number(walks[d]!.back);
  });
  gpu().queue.launch({
    kernel: rearrangeKernel({ dtype: x.dtype, rank: x.shape.length }),
    buffers: [source.binding, operand(y).binding],
    params,
    grid: linearGrid(y.size, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: 0, bytes: 2 * y.bytes },
  });
  return y;
}

/** Attributes of {@linkcode flip}: dimensions to reverse. */
export interface FlipAttrs {
  readonly dims: readonly number[];
}

function flipped(x: DeviceArray, { dims }: FlipAttrs): DeviceArray {
  const at = normalizeDims("flip", dims, x.shape.length);
  return rearranged(
    x,
    x.shape.map((s, d) =>
      at.includes(d) ? { shift: s - 1, back: true } : { shift: 0, back: false }
    ),
    "flip",
  );
}

/** The order of elements reversed along dimensions. */
export const flip: Op<FlipAttrs> = defineOp<FlipAttrs>({
  name: "flip",
  linear: {},
  check([x], { dims }) {
    normalizeDims("flip", dims, x!.shape.length);
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward: (_ctx, [x], attrs) => [flipped(x!, attrs)],
  backward: (_ctx, [dy], attrs) => [flipped(dy!, attrs)],
  reference: ([x], { dims }) => {
    const at = normalizeDims("flip", dims, x!.shape.length);
    return [
      hostFrom(
        x!.shape,
        (c) => hostAt(x!, c.map((v, d) => at.includes(d) ? x!.shape[d]! - 1 - v : v)),
        x!.dtype,
      ),
    ];
  },
  samples: [
    { inputs: [{ shape: [7] }], attrs: { dims: [0] }, terms: 1 },
    { inputs: [{ shape: [3, 4, 5] }], attrs: { dims: [0, -1] }, terms: 1 },
    { inputs: [{ shape: [2, 3] }], attrs: { dims: [] }, terms: 1 },
    { inputs: [{ shape: [0, 3] }], attrs: { dims: [0, 1] }, terms: 1 },
    { inputs: [{ shape: [] }], attrs: { dims: [] }, terms: 1 },
    { inputs: [{ shape: [2, 1, 2, 1, 2, 1, 2, 3] }], attrs: { dims: [0, 7] }, terms: 1 },
  ],
});

/** Attributes of {@linkcode roll}: how far each of the dimensions moves. */
export interface RollAttrs {
  readonly shifts: readonly number[];
  readonly dims: readonly number[];
}

/** Shift of every dimension of `shape`; a dimension named twice moves twice. */
function shiftsOf(shape: readonly number[], { shifts, dims }: RollAttrs): number[] {
  const all = shape.map(() => 0);
  dims.forEach((d, i) => all[normalizeDim("roll", d, shape.length)]! += shifts[i]!);
  return all;
}

function rolled(x: DeviceArray, attrs: RollAttrs, sign: 1 | -1): DeviceArray {
  const shifts = shiftsOf(x.shape, attrs);
  const walks = x.shape.map((s, d) => ({
    shift: s === 0 ? 0 : modulo(-sign * shifts[d]!, s),
    back: false,
  }));
  return rearranged(x, walks, "roll");
}

/** What is left of a after whole multiples of b, 0 to b - 1. */
function modulo(a: number, b: number): number {
  return ((a % b) + b) % b;
}

/** Elements moved along dimensions; what leaves at the end comes in at the start. */
export const roll: Op<RollAttrs> = defineOp<RollAttrs>({
  name: "roll",
  linear: {},
  check([x], attrs) {
    const { shifts, dims } = attrs;
    if (shifts.length !== dims.length || !shifts.every(Number.isInteger)) {
      throw new TypeError(
        `Cannot roll ${show(x!.shape)} by ${show(shifts)} along ${show(dims)}: give one whole ` +
          "number a dimension",
      );
    }
    shiftsOf(x!.shape, attrs);
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward: (_ctx, [x], attrs) => [rolled(x!, attrs, 1)],
  backward: (_ctx, [dy], attrs) => [rolled(dy!, attrs, -1)],
  reference: ([x], attrs) => {
    const { shape, dtype } = x!;
    const shifts = shiftsOf(shape, attrs);
    const from = (c: readonly number[]) => c.map((v, d) => modulo(v - shifts[d]!, shape[d]!));
    return [hostFrom(shape, (c) => hostAt(x!, from(c)), dtype)];
  },
  samples: [
    { inputs: [{ shape: [7] }], attrs: { shifts: [2], dims: [0] }, terms: 1 },
    { inputs: [{ shape: [3, 5] }], attrs: { shifts: [-1, 12], dims: [0, -1] }, terms: 1 },
    { inputs: [{ shape: [4, 3] }], attrs: { shifts: [1, 2], dims: [0, 0] }, terms: 1 },
    { inputs: [{ shape: [2, 0] }], attrs: { shifts: [1], dims: [1] }, terms: 1 },
  ],
});

/** Attributes of {@linkcode padConstant}: elements added before and after each dimension. */
export interface PadAttrs {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly value: number;
}

function window(y: DeviceArray, { before }: PadAttrs, shape: readonly number[]): DeviceArray {
  const start = before.reduce((n, b, d) => n + b * y.strides[d]!, y.offset);
  return y.view(shape, y.strides, start);
}

/** x with `value` around it. */
export const padConstant: Op<PadAttrs> = defineOp<PadAttrs>({
  name: "padConstant",
  linear: { attrs: (attrs) => ({ ...attrs, value: 0 }) },
  check: ([x], { before, after }) => [{
    shape: x!.shape.map((s, d) => before[d]! + s + after[d]!),
    dtype: x!.dtype,
  }],
  forward(_ctx, [x], attrs, [out]) {
    const y = fill(out!, attrs.value);
    copyInto(x!, window(y, attrs, x!.shape));
    return [y];
  },
  backward: (ctx, [dy], attrs) => [window(dy!, attrs, ctx.inputs[0]!.shape)],
  reference: ([x], { before, after, value }) => {
    const shape = x!.shape.map((s, d) => before[d]! + s + after[d]!);
    const edge = x!.dtype === "bool" ? Number(value !== 0) : value;
    return [
      hostFrom(shape, (c) => {
        const at = c.map((v, d) => v - before[d]!);
        return at.every((v, d) => v >= 0 && v < x!.shape[d]!) ? hostAt(x!, at) : edge;
      }, x!.dtype),
    ];
  },
  samples: [
    { inputs: [{ shape: [4] }], attrs: { before: [2], after: [1], value: 0 }, terms: 1 },
    { inputs: [{ shape: [3, 2] }], attrs: { before: [0, 3], after: [1, 0], value: 2 }, terms: 1 },
    { inputs: [{ shape: [0, 2] }], attrs: { before: [2, 0], after: [1, 0], value: 1 }, terms: 1 },
    { inputs: [{ shape: [] }], attrs: { before: [], after: [], value: 1 }, terms: 1 },
  ],
});

/** Attributes of the triangles: the last (or first) diagonal that is kept; 0 is the main one. */
export interface TriangleAttrs {
  readonly diagonal: number;
}

function triangle(lower: boolean): Op<TriangleAttrs> {
  const name = lower ? "tril" : "triu";
  const masked = (x: DeviceArray, diagonal: number): DeviceArray => {
    const source = plain(x);
    const y = DeviceArray.empty(x, name);
    gpu().queue.launch({
      kernel: triangleKernel({ dtype: x.dtype, lower }),
      buffers: [operand(source).binding, operand(y).binding],
      params: { count: y.size, M: x.shape.at(-2)!, N: x.shape.at(-1)!, diagonal },
      grid: linearGrid(y.size, gpu().limits.maxComputeWorkgroupsPerDimension),
      cost: { flops: 0, bytes: 2 * y.bytes },
    });
    return y;
  };
  return defineOp<TriangleAttrs>({
    name,
    linear: {},
    check([x], { diagonal }) {
      if (x!.shape.length < 2) {
        throw new TypeError(`Cannot ${name} ${show(x!.shape)}: it needs at least two dimensions`);
      }
      checkWhole(name, { diagonal });
      return [{ shape: x!.shape, dtype: x!.dtype }];
    },
    forward: (_ctx, [x], { diagonal }) => [masked(x!, diagonal)],
    backward: (_ctx, [dy], { diagonal }) => [masked(dy!, diagonal)],
    reference: ([x], { diagonal }) => [
      hostFrom(x!.shape, (c) => {
        const off = c.at(-1)! - c.at(-2)!;
        return (lower ? off <= diagonal : off >= diagonal) ? hostAt(x!, c) : 0;
      }, x!.dtype),
    ],
    samples: [
      { inputs: [{ shape: [4, 4] }], attrs: { diagonal: 0 }, terms: 1 },
      { inputs: [{ shape: [2, 3, 5] }], attrs: { diagonal: 1 }, terms: 1 },
      { inputs: [{ shape: [5, 3] }], attrs: { diagonal: -2 }, terms: 1 },
      { inputs: [{ shape: [0, 3] }], attrs: { diagonal: 0 }, terms: 1 },
      { inputs: [{ shape: [3, 3], dtype: "u32", low: 1, high: 9 }], attrs: { diagonal: -1 } },
      { inputs: [{ shape: [2, 3], dtype: "i32", low: 1, high: 9 }], attrs: { diagonal: 1 } },
      {
        inputs: [{ shape: [3, 2], dtype: "bool", values: [1, 1, 1, 1, 1, 1] }],
        attrs: { diagonal: 0 },
      },
      {
        inputs: [{ shape: [2, 3], dtype: "bool", values: [1, 1, 1, 1, 1, 1] }],
        attrs: { diagonal: 1 },
      },
      {
        inputs: [{ shape: [2, 2], values: [1, Infinity, -Infinity, 2] }],
        attrs: { diagonal: 0 },
        grad: false,
      },
    ],
  });
}

/** Elements on and below a diagonal of the last two dimensions, 0 elsewhere. */
export const tril: Op<TriangleAttrs> = triangle(true);
/** Elements on and above a diagonal of the last two dimensions, 0 elsewhere. */
export const triu: Op<TriangleAttrs> = triangle(false);

/** Attributes of {@linkcode diagonal}. */
export interface DiagonalAttrs {
  readonly offset: number;
  readonly dim1: number;
  readonly dim2: number;
}

/** Shape and place of a diagonal: the other dimensions in order, then the diagonal. */
function diagonalOf(shape: readonly number[], { offset, dim1, dim2 }: DiagonalAttrs) {
  const a = normalizeDim("diagonal", dim1, shape.length);
  const b = normalizeDim("diagonal", dim2, shape.length);
  if (a === b || shape.length < 2) {
    throw new TypeError(
      `Cannot take the diagonal of ${show(shape)} along ${dim1} and ${dim2}: name two dimensions`,
    );
  }
  checkWhole("take the diagonal", { offset });
  const [down, right] = [Math.max(-offset, 0), Math.max(offset, 0)];
  const length = Math.max(0, Math.min(shape[a]! - down, shape[b]! - right));
  const rest = shape.map((_, d) => d).filter((d) => d !== a && d !== b);
  return { a, b, down, right, rest, shape: [...rest.map((d) => shape[d]!), length] };
}

function diagonalView(x: DeviceArray, attrs: DiagonalAttrs): DeviceArray {
  const { a, b, down, right, rest, shape } = diagonalOf(x.shape, attrs);
  const strides = [...rest.map((d) => x.strides[d]!), x.strides[a]! + x.strides[b]!];
  const start = shape.includes(0) ? 0 : down * x.strides[a]! + right * x.strides[b]!;
  return x.view(shape, strides, x.offset + start);
}

/** Elements whose indices along two dimensions are equal (or `offset` apart), as the last one; a view. */
export const diagonal: Op<DiagonalAttrs> = defineOp<DiagonalAttrs>({
  name: "diagonal",
  linear: {},
  check: ([x], attrs) => [{ shape: diagonalOf(x!.shape, attrs).shape, dtype: x!.dtype }],
  forward: (_ctx, [x], attrs) => [diagonalView(x!, attrs)],
  backward(ctx, [dy], attrs) {
    const dx = fill(ctx.inputs[0]!, 0);
    copyInto(dy!, diagonalView(dx, attrs));
    return [dx];
  },
  reference: ([x], attrs) => {
    const { a, b, down, right, rest, shape } = diagonalOf(x!.shape, attrs);
    if (shape.includes(0)) return [hostZeros(shape, x!.dtype)];
    return [
      hostFrom(shape, (c) => {
        const at = x!.shape.map(() => 0);
        rest.forEach((d, i) => at[d] = c[i]!);
        at[a] = down + c.at(-1)!;
        at[b] = right + c.at(-1)!;
        return hostAt(x!, at);
      }, x!.dtype),
    ];
  },
  samples: [
    { inputs: [{ shape: [3, 3] }], attrs: { offset: 0, dim1: 0, dim2: 1 }, terms: 1 },
    { inputs: [{ shape: [3, 2, 5] }], attrs: { offset: 1, dim1: 0, dim2: 2 }, terms: 1 },
    { inputs: [{ shape: [4, 3] }], attrs: { offset: -2, dim1: 0, dim2: 1 }, terms: 1 },
    { inputs: [{ shape: [4, 3] }], attrs: { offset: 7, dim1: 1, dim2: 0 }, terms: 1 },
  ],
});
