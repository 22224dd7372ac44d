/** Gradients of normalisations: the op once more, made of simpler ones, and the gradient of those. */

import type { DeviceArray } from "../array.ts";
import type { BatchNormAttrs } from "../ops/batch_norm.ts";
import type { AffineAttrs, GroupNormAttrs, LayerNormAttrs } from "../ops/norm.ts";
import { unary } from "../ops/pointwise.ts";
import { sizeOf } from "../shape.ts";
import { apply, type Tensor } from "../tensor.ts";
import type { DoubleRule, Recorded } from "./rule.ts";

/** (x - mean) / √(variance + eps), the moments taken over `dims`; not centred, x / √(mean of x² + eps). */
function normalised(
  x: Tensor,
  dims: readonly number[],
  { eps, centred }: { readonly eps: number; readonly centred: boolean },
): { y: Tensor; mean: Tensor; variance: Tensor } {
  const mean = x.mean(dims, { keepdim: true });
  const from = centred ? x.sub(mean) : x;
  const variance = from.square().mean(dims, { keepdim: true });
  return { y: from.mul(variance.add(eps).rsqrt()), mean, variance };
}

/** The gradients of x, weight and bias where y = normalised x · weight + bias, which saved no bias. */
function throughAffine(
  ctx: Recorded<AffineAttrs>,
  dy: Tensor,
  given: {
    readonly x: Tensor;
    readonly y: Tensor;
    readonly w?: Tensor;
    readonly each: readonly number[];
  },
): (Tensor | null)[] {
  const { x, y, w, each } = given;
  const [dx, dw] = ctx.gradients([w ? y.mul(w.reshape(each)) : y], [dy], [x, w ?? null]);
  const perChannel = dy.shape.flatMap((_, d) => (each.at(d - dy.ndim) ?? 1) === 1 ? [d] : []);
  const db = () => dy.sum(perChannel).reshape(ctx.inputs.at(-1)!.shape);
  return [
    dx!,
    ...(ctx.attrs.weight ? [dw!] : []),
    ...(ctx.attrs.bias ? [ctx.needs.at(-1) ? db() : null] : []),
  ];
}

/** The rule of norms over the last dimensions. */
export function lastDimsNorm(
  { centred }: { readonly centred: boolean },
): DoubleRule<LayerNormAttrs> {
  return (ctx, [dy]) => {
    const [x, , w] = ctx.saved as readonly [DeviceArray, DeviceArray, DeviceArray?];
    const at = ctx.input(0, x);
    const dims = Array.from({ length: ctx.attrs.dims }, (_, i) => at.ndim - ctx.attrs.dims + i);
    const { y } = normalised(at, dims, { eps: ctx.attrs.eps, centred });
    const each = dims.map((d) => at.shape[d]!);
    return throughAffine(ctx, dy!, { x: at, y, w: w && ctx.input(1, w), each });
  };
}

/** x [N, C, …] with the channels in groups. */
export const groupNorm: DoubleRule<GroupNormAttrs> = (ctx, [dy]) => {
  const [x, , w] = ctx.saved as readonly [DeviceArray, DeviceArray, DeviceArray?];
  const { groups, eps } = ctx.attrs;
  const at = ctx.input(0, x);
  const [N, C] = at.shape as [number, number];
  const rows = at.reshape([N, groups, sizeOf(at.shape.slice(1)) / groups]);
  const { y } = normalised(rows, [2], { eps, centred: true });
  const each = [C, ...at.shape.slice(2).map(() => 1)];
  return throughAffine(ctx, dy!, { x: at, y: y.reshape(at.shape), w: w && ctx.input(1, w), each });
};

/** z = normalised x · weight + bias + residual, and its activation; the inputs from `lead` on that were saved. */
function finished(
  ctx: Recorded<BatchNormAttrs>,
  xHat: Tensor,
  { saved, lead }: { readonly saved: readonly DeviceArray[]; readonly lead: number },
): { y: Tensor; inputs: (Tensor | null)[] } {
  const { weight, bias, residual, activation } = ctx.attrs;
  const rest = [...saved];
  const inputs: (Tensor | null)[] = [];
  const next = (there: boolean | undefined, kept: boolean) => {
    if (!there) return null;
    const i = lead + inputs.length;
    const input = kept ? ctx.input(i, rest.shift()!) : null;
    inputs.push(input);
    return input;
  };
  const perChannel = (t: Tensor) => t.reshape([t.size, ...xHat.shape.slice(2).map(() => 1)]);
  const w = next(weight, true);
  const b = next(bias, activation !== undefined);
  const r = next(residual, activation !== undefined);
  let z = w ? xHat.mul(perChannel(w)) : xHat;
  if (b) z = z.add(perChannel(b));
  if (r) z = z.add(r);
  return { y: activation ? apply(unary[activation], [z], {})[0]! : z, inputs };
}

/** Gradients of a bias and a residual that were not saved: without an activation they are dy. */
function notSaved(
  ctx: Recorded<BatchNormAttrs>,
  dy: Tensor | null,
  lead: number,
): (Tensor | null)[] {
  const { weight, bias, residual, activation } = ctx.attrs;
  if (activation || !dy) return [];
  const others = dy.shape.flatMap((_, d) => d === 1 ? [] : [d]);
  const found: (Tensor | null)[] = new Array(lead + Number(weight)).fill(null);
  if (bias) found.push(dy.sum(others));
  if (residual) found.push(dy);
  return found;
}

/** By the batch's moments, which are outputs as well. */
export const batchNorm: DoubleRule<BatchNormAttrs> = (ctx, grads) => {
  const x = ctx.input(0, ctx.saved[0]!);
  const dims = x.shape.flatMap((_, d) => d === 1 ? [] : [d]);
  const { y: xHat, mean, variance } = normalised(x, dims, { eps: ctx.attrs.eps, centred: true });
  const { y, inputs } = finished(ctx, xHat, { saved: ctx.saved.slice(2), lead: 1 });
  const C = x.shape[1]!;
  const made = ctx.gradients([y, mean.reshape([C]), variance.reshape([C])], grads, [x, ...inputs]);
  const others = notSaved(ctx, grads[0]!, 1);
  return made.map((g, i) => g ?? others[i] ?? null);
};

/** By given moments. */
export const batchNormEval: DoubleRule<BatchNormAttrs> = (ctx, [dy]) => {
  const [x, mean, variance] = [0, 1, 2].map((i) => ctx.input(i, ctx.saved[i]!)) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const perChannel = (t: Tensor) => t.reshape([t.size, ...x.shape.slice(2).map(() => 1)]);
  const xHat = x.sub(perChannel(mean)).mul(perChannel(variance.add(ctx.attrs.eps).rsqrt()));
  const { y, inputs } = finished(ctx, xHat, { saved: ctx.saved.slice(3), lead: 3 });
  const made = ctx.gradients([y], [dy!], [x, mean, variance, ...inputs]);
  const others = notSaved(ctx, dy!, 3);
  return made.map((g, i) => g ?? others[i] ?? null);
};
