/**
 * Gradients in terms of ops, for those ops that are neither linear nor formulas of each element. What stands
 * first in `saved` is what the op's forward rule saved first.
 */

import { eye, ones, zeros } from "../creation.ts";
import { where } from "../functions_pointwise.ts";
import type { CheckpointAttrs } from "../functions_autograd.ts";
import type { CustomAttrs } from "../functions_custom.ts";
import type { ConvAttrs } from "../ops/conv.ts";
import { conv2d } from "../ops/conv.ts";
import { convTranspose2d, type ConvTransposeAttrs } from "../ops/conv_transpose.ts";
import type { Window } from "../ops/conv_sizes.ts";
import type { CrossEntropyAttrs } from "../ops/cross_entropy.ts";
import { FROM_OUTPUT, type OutputActivation } from "../ops/epilogue.ts";
import type { IndexSelectAttrs } from "../ops/index_rows.ts";
import type { LinearAttrs } from "../ops/matmul.ts";
import type { ReduceAttrs } from "../ops/reduce.ts";
import type { ScanAttrs } from "../ops/scan.ts";
import { normalizeDim, normalizeDims, sizeOf } from "../shape.ts";
import { apply, type Tensor } from "../tensor.ts";
import { gridSample } from "./grid_sample.ts";
import { batchNorm, batchNormEval, groupNorm, lastDimsNorm } from "./norms.ts";
import { recurrent } from "./recurrent.ts";
import { type DoubleRule, ofFormula, type Recorded } from "./rule.ts";

type None = Record<never, never>;

/** dy · f'(z) of an activation that the op applied to its output y, which it saved first. */
function beforeActivation(
  ctx: Recorded<{ readonly activation?: OutputActivation }>,
  dy: Tensor,
): { dz: Tensor; rest: Recorded["saved"] } {
  const { activation } = ctx.attrs;
  if (!activation) return { dz: dy, rest: ctx.saved };
  const [y, ...rest] = ctx.saved;
  const values = { dy, y: ctx.output(0, y!) };
  return {
    dz: ofFormula(activation, { formula: FROM_OUTPUT[activation], values, scalars: {} }),
    rest,
  };
}

// ---- products ----

const matmul: DoubleRule<None> = (ctx, [dy]) => {
  const [da, db] = ctx.wanted;
  const [aRank, bRank] = ctx.inputs.map((i) => i.shape.length);
  // Vectors are a row on the left and a column on the right.
  let dc = aRank === 1 ? dy!.unsqueeze(bRank === 1 ? 0 : -2) : dy!;
  if (bRank === 1) dc = dc.unsqueeze(-1);
  const b = da && ctx.input(1, ctx.saved[0]!);
  const a = db && ctx.input(0, ctx.saved[ctx.needs[0] ? 1 : 0]!);
  const forA = b && dc.matmul((bRank === 1 ? b.unsqueeze(-1) : b).transpose(-1, -2));
  const forB = a && (aRank === 1 ? a.unsqueeze(0) : a).transpose(-1, -2).matmul(dc);
  return [
    forA ? aRank === 1 ? forA.squeeze(-2) : forA : null,
    forB ? bRank === 1 ? forB.squeeze(-1) : forB : null,
  ];
};

const linear: DoubleRule<LinearAttrs> = (ctx, [dy]) => {
  const { dz, rest } = beforeActivation(ctx, dy!);
  const [dx, dw, dBias] = ctx.wanted;
  const w = dx && ctx.input(1, rest[0]!);
  const x = dw && ctx.input(0, rest[ctx.needs[0] ? 1 : 0]!);
  const rows = (t: Tensor) => t.reshape([sizeOf(t.shape.slice(0, -1)), t.shape.at(-1)!]);
  return [
    w ? dz.matmul(w) : null,
    x ? rows(dz).transpose(0, 1).matmul(rows(x)) : null,
    dBias ? rows(dz).sum(0) : null,
  ];
};

// ---- convolutions: a gradient is a convolution, too ----

/** The input's gradient: dy [N, O, OH, OW] spread by w [O, C / groups, KH, KW] to [N, C, H, W]. */
function convInput(dy: Tensor, w: Tensor, at: Window, [, , H, W]: readonly number[]): Tensor {
  const { groups, stride, dilation, padding: [top, left] } = at;
  const attrs = { groups, stride, dilation, padding: [0, 0], outputPadding: [0, 0] } as const;
  const whole = apply(convTranspose2d, [dy, w], attrs)[0]!;
  // What the padding saw is cut off, and what no window reached is 0.
  const missing = [H! + top - whole.shape[2]!, W! + left - whole.shape[3]!].map((n) =>
    Math.max(0, n)
  );
  const padded = missing.some(Boolean) ? whole.pad([0, missing[1]!, 0, missing[0]!]) : whole;
  return padded.slice(2, top, top + H!).slice(3, left, left + W!);
}

/** The weight's gradient [O, C, KH, KW]: x [N, C·groups, H, W] convolved by dy [N, O, OH, OW], N and C swapped. */
function convWeight(
  x: Tensor,
  dy: Tensor,
  at: Window & { readonly paddingEnd?: readonly [number, number] },
  [O, C, KH, KW]: readonly number[],
): Tensor {
  const { groups, padding, paddingEnd, stride, dilation } = at;
  const N = x.shape[0]!;
  const swapped = (t: Tensor, perGroup: number) =>
    t.reshape([N, groups, perGroup, ...t.shape.slice(2)]);
  const images = swapped(x, C!).permute([2, 1, 0, 3, 4]).reshape([
    C!,
    groups * N,
    ...x.shape.slice(2),
  ]);
  const windows = swapped(dy, O! / groups).permute([1, 2, 0, 3, 4])
    .reshape([O!, N, ...dy.shape.slice(2)]);
  const attrs = { groups, padding, paddingEnd, stride: dilation, dilation: stride };
  const made = apply(conv2d, [images, windows], attrs)[0]!; // [C, O, at least KH, at least KW]
  return made.slice(2, 0, KH!).slice(3, 0, KW!).transpose(0, 1);
}

const convolution: DoubleRule<ConvAttrs> = (ctx, [dy]) => {
  const { dz, rest } = beforeActivation(ctx, dy!);
  const [dx, dw, dBias] = ctx.wanted;
  const [x, w] = ctx.inputs;
  return [
    dx ? convInput(dz, ctx.input(1, rest[0]!), ctx.attrs, x!.shape) : null,
    dw ? convWeight(ctx.input(0, rest[ctx.needs[0] ? 1 : 0]!), dz, ctx.attrs, w!.shape) : null,
    dBias ? dz.sum([0, 2, 3]) : null,
  ];
};

const transposed: DoubleRule<ConvTransposeAttrs> = (ctx, [dy]) => {
  const [dx, dw, dBias] = ctx.wanted;
  const { outputPadding: _, ...at } = ctx.attrs;
  const [x, w] = ctx.inputs;
  const whole = dx && apply(conv2d, [dy!, ctx.input(1, ctx.saved[0]!)], at)[0]!;
  return [
    // Rows that only outputPadding gives room for are not x's.
    whole ? whole.slice(2, 0, x!.shape[2]!).slice(3, 0, x!.shape[3]!) : null,
    dw ? convWeight(dy!, ctx.input(0, ctx.saved[ctx.needs[0] ? 1 : 0]!), at, w!.shape) : null,
    dBias ? dy!.sum([0, 2, 3]) : null,
  ];
};

// ---- softmax and the loss of classes ----

const softmax: DoubleRule<None> = (ctx, [dy]) => {
  const y = ctx.output(0, ctx.saved[0]!);
  return [y.mul(dy!.sub(y.mul(dy!).sum(-1, { keepdim: true })))];
};

const logSoftmax: DoubleRule<None> = (ctx, [dy]) => {
  const y = ctx.output(0, ctx.saved[0]!);
  return [dy!.sub(y.exp().mul(dy!.sum(-1, { keepdim: true })))];
};

const crossEntropy: DoubleRule<CrossEntropyAttrs> = (ctx, [dy]) => {
  const { ignoreIndex, labelSmoothing, reduction } = ctx.attrs;
  const [x, ids] = [ctx.input(0, ctx.saved[0]!), ctx.constant(ctx.saved[1]!)];
  const [N, C] = x.shape as [number, number];
  const counts = ids.ne(ignoreIndex).to("f32");
  const each = reduction === "none" ? dy! : dy!.expand([N]);
  const rows = reduction === "mean" ? each.div(counts.sum().maximum(1)) : each;
  const classes = tensorOfClasses(C, ids.dtype);
  const target = ids.unsqueeze(1).eq(classes).to("f32").mul(1 - labelSmoothing).add(
    labelSmoothing / C,
  );
  return [x.softmax(1).sub(target).mul(rows.mul(counts).unsqueeze(1)), null];
};

function tensorOfClasses(C: number, dtype: Tensor["dtype"]): Tensor {
  return ones([C]).cumsum(0).sub(1).to(dtype);
}

// ---- reductions and scans ----

/** Equal elements share the gradient, as in the op. */
const extreme: DoubleRule<ReduceAttrs> = (ctx, [dy]) => {
  const [x, y] = ctx.saved.map((array) => ctx.constant(array));
  const dims = normalizeDims("max", ctx.attrs.dim, x!.ndim);
  const shape = x!.shape.map((s, d) => dims.includes(d) ? 1 : s);
  const best = x!.eq(y!.reshape(shape)).to("f32");
  return [best.div(best.sum(dims, { keepdim: true })).mul(dy!.reshape(shape))];
};

/** The product of what stands before each element in the last dimension. */
function productBefore(x: Tensor): Tensor {
  return x.pad([1, 0], { value: 1 }).narrow(-1, 0, x.shape.at(-1)!).cumprod(-1);
}

/** dx[r] = dy · the product of those before and of those after, which has no division, so zeros are right. */
const prod: DoubleRule<ReduceAttrs> = (ctx, [dy]) => {
  const x = ctx.input(0, ctx.saved[0]!);
  const dims = normalizeDims("prod", ctx.attrs.dim, x.ndim);
  const order = [...x.shape.keys()].filter((d) => !dims.includes(d));
  const back = [...order, ...dims];
  const moved = x.permute(back);
  const kept = order.map((d) => x.shape[d]!);
  const flat = moved.reshape([...kept, sizeOf(dims.map((d) => x.shape[d]!))]);
  const others = productBefore(flat).mul(productBefore(flat.flip(-1)).flip(-1));
  const dx = others.mul(dy!.reshape(kept).unsqueeze(-1));
  return [dx.reshape(moved.shape).permute(x.shape.map((_, d) => back.indexOf(d)))];
};

/** x [..., L] as [..., L, L] whose row r has 1 in place of element r. */
function leavingOut(x: Tensor): Tensor {
  const L = x.shape.at(-1)!;
  return where(eye(L).to("bool"), ones([]), x.unsqueeze(-2));
}

/** dx[r] = Σ over k ≥ r of dy[k] · the product of x[0] … x[k] without x[r]. */
const cumprod: DoubleRule<ScanAttrs> = (ctx, [dy]) => {
  const x = ctx.input(0, ctx.saved[0]!);
  const dim = normalizeDim("cumprod", ctx.attrs.dim, x.ndim);
  const last = (t: Tensor) => t.transpose(dim, -1);
  const products = leavingOut(last(x)).cumprod(-1); // [..., r, k]
  return [last(products.triu().mul(last(dy!).unsqueeze(-2)).sum(-1))];
};

// ---- what picks elements: the gradient goes where they came from ----

/** Positions in the last dimension of x, in the output's shape. */
const fromLastDimension: DoubleRule<unknown> = (ctx, [dy]) => {
  const { shape } = ctx.inputs[0]!;
  if (shape.length === 0) return [dy!];
  return [zeros(shape).scatterAdd(-1, ctx.constant(ctx.saved[0]!), dy!)];
};

/** Positions ih·W + iw in a plane of x [N, C, H, W]. */
const fromPlane: DoubleRule<unknown> = (ctx, [dy]) => {
  const [N, C, H, W] = ctx.inputs[0]!.shape as [number, number, number, number];
  const flat = (t: Tensor) => t.reshape([N, C, sizeOf(t.shape.slice(2))]);
  const places = ctx.constant(ctx.saved[0]!).to("i32");
  return [zeros([N, C, H * W]).scatterAdd(-1, flat(places), flat(dy!)).reshape([N, C, H, W])];
};

const indexSelect: DoubleRule<IndexSelectAttrs> = (ctx, [dy]) => {
  const index = ctx.constant(ctx.saved[0]!);
  const { paddingIdx } = ctx.attrs;
  const counts = index.ne(paddingIdx).to("f32").reshape(dy!.shape.map((s, d) => d === 0 ? s : 1));
  const rows = paddingIdx < 0 ? dy! : dy!.mul(counts);
  return [zeros(ctx.inputs[0]!.shape).indexAdd(0, index, rows), null];
};

/** Gradients are f32 on this walk, whatever was converted to what. */
const to: DoubleRule<unknown> = (_ctx, [dy]) => [dy!];

const customGrad: DoubleRule<CustomAttrs> = (ctx, [dy]) =>
  ctx.attrs.gradient(dy!.to(ctx.outputs[0]!.dtype)).map((t) => t && t.to("f32"));

/** Runs the function again and keeps what it makes: the memory that was saved is needed after all. */
const checkpoint: DoubleRule<CheckpointAttrs> = (ctx, grads) => {
  const { again, others } = ctx.attrs;
  const inputs = ctx.saved.map((array, i) => ctx.inputAsIs(i, array));
  return ctx.gradients(again(inputs), grads, [...inputs, ...others]);
};

/** Rules by the name of the op. */
export const RULES: Readonly<Record<string, DoubleRule<never>>> = {
  matmul,
  linear,
  conv2d: convolution,
  convTranspose2d: transposed,
  softmax,
  logSoftmax,
  crossEntropy,
  layerNorm: lastDimsNorm({ centred: true }),
  rmsNorm: lastDimsNorm({ centred: false }),
  groupNorm,
  batchNorm,
  batchNormEval,
  recurrent,
  max: extreme,
  min: extreme,
  prod,
  cumprod,
  sort: fromLastDimension,
  topk: fromLastDimension,
  maxPool2d: fromPlane,
  adaptiveMaxPool2d: fromPlane,
  indexSelect,
  gridSample,
  to,
  customGrad,
  checkpoint,
};

/** Why the others have none, and what to do instead. */
export const REFUSED: Readonly<Record<string, string>> = {
  biTempered: "there is no rule for it",
};
