/** Layer, group and root-mean-square normalisation. Instance normalisation is groups of one. */

import { DeviceArray, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { defineOp, type HostArray, type Op, run, type Sample, type SampleInput } from "../op.ts";
import { hostFrom, hostZeros } from "../reference.ts";
import { contiguousStrides, sameShape, show, sizeOf } from "../shape.ts";
import { plain } from "./launch_pointwise.ts";
import {
  applyNorm,
  gradientSums,
  moments,
  normInputGrad,
  normRows,
  type NormView,
  statsRow,
} from "./norm_core.ts";
import { sum } from "./reduce.ts";

/** Which of the optional inputs are there, in this order, and what is added to the variance. */
export interface AffineAttrs {
  readonly eps: number;
  readonly weight: boolean;
  readonly bias: boolean;
}

/** Attributes of {@linkcode layerNorm} and {@linkcode rmsNorm}. */
export interface LayerNormAttrs extends AffineAttrs {
  /** How many dimensions, from the last, are normalised together. */
  readonly dims: number;
}

/** Attributes of {@linkcode groupNorm}. */
export interface GroupNormAttrs extends AffineAttrs {
  /** Channels are cut into this many groups. */
  readonly groups: number;
}

/** Names the optional inputs that follow the first `lead`. */
export function affineOf<T>(inputs: readonly T[], attrs: AffineAttrs, lead = 1): { w?: T; b?: T } {
  return {
    w: attrs.weight ? inputs[lead] : undefined,
    b: attrs.bias ? inputs[lead + (attrs.weight ? 1 : 0)] : undefined,
  };
}

/**
 * Checks dtypes, weight, bias and eps.
 *
 * @throws {TypeError} if dtypes or shapes do not fit
 * @throws {RangeError} if eps is negative
 */
export function checkNorm(
  name: string,
  inputs: readonly Spec[],
  { attrs, affine, lead = 1 }: { attrs: AffineAttrs; affine: readonly number[]; lead?: number },
): void {
  for (const input of inputs) {
    if (!isFloat(input.dtype)) {
      throw new TypeError(`Cannot ${name} dtype ${input.dtype}: it must be a float`);
    }
  }
  const { w, b } = affineOf(inputs, attrs, lead);
  for (const [what, given] of [["weight", w], ["bias", b]] as const) {
    if (given && !sameShape(given.shape, affine)) {
      throw new TypeError(
        `Cannot ${name} ${show(inputs[0]!.shape)} with ${what} ${show(given.shape)}: it must be ` +
          show(affine),
      );
    }
  }
  if (!(attrs.eps >= 0)) {
    throw new RangeError(`Cannot ${name} with eps ${attrs.eps}: it must be at least 0`);
  }
}

/** Gradients of weight and bias: sums over the rows of what each one touched. */
function affineGrads(
  dy: DeviceArray,
  { x, stats, view, eps }: { x: DeviceArray; stats: DeviceArray; view: NormView; eps: number },
  shape: readonly number[],
): { dw: () => DeviceArray; db: () => DeviceArray } {
  const { length, channels } = view;
  const total = (a: DeviceArray) => {
    const byColumn = view.weights === "column";
    const seen = byColumn
      ? a.view([x.size / length, length], [length, 1])
      : a.view([x.size / length / channels, channels, length], [channels * length, length, 1]);
    const summed = run(sum, [seen], { dim: byColumn ? 0 : [0, 2] });
    return summed.view(shape, contiguousStrides(shape));
  };
  return {
    dw: () =>
      total(normRows("norm_dw_terms", {
        elements: { u: dy, x },
        statistics: { mean: statsRow(stats, 0), variance: statsRow(stats, 1) },
      }, {
        view,
        eps,
        expression: "u * (x - mean) * inverseSqrt(variance + p.eps)",
        out: { shape: x.shape, dtype: "f32" },
      })),
    db: () => total(dy),
  };
}

/** An op whose groups are runs of neighbouring elements of x. */
function rowNorm<A extends AffineAttrs>(name: string, recipe: {
  centred: boolean;
  view(x: readonly number[], attrs: A): NormView;
  affine(x: readonly number[], attrs: A): readonly number[];
  check(x: readonly number[], attrs: A): void;
  samples: readonly Sample<A>[];
}): Op<A> {
  const { centred } = recipe;
  return defineOp<A>({
    name,
    check(inputs, attrs) {
      const { shape, dtype } = inputs[0]!;
      recipe.check(shape, attrs);
      checkNorm(name, inputs, { attrs, affine: recipe.affine(shape, attrs) });
      return [{ shape, dtype }];
    },
    forward(ctx, inputs, attrs) {
      const x = plain(inputs[0]!);
      const { w, b } = affineOf(inputs, attrs);
      const view = recipe.view(x.shape, attrs);
      const stats = moments(x, view, centred);
      ctx.save(x, stats, ...(w ? [w] : []));
      return [applyNorm({ x, w, b }, rows(stats), { view, eps: attrs.eps })];
    },
    backward(ctx, [grad], attrs) {
      const [x, stats, w] = ctx.saved as [DeviceArray, DeviceArray, DeviceArray?];
      const { eps } = attrs;
      const view = recipe.view(x.shape, attrs);
      const dy = plain(grad!);
      const grads: (DeviceArray | null)[] = [null];
      if (ctx.wanted[0]) {
        const u = w
          ? normRows(`norm_weighted_dy_${view.weights}`, {
            elements: { dy },
            statistics: {},
            weights: { w },
          }, { view, expression: "dy * w", out: { shape: x.shape, dtype: "f32" } })
          : dy;
        const into = { u, x, stats };
        grads[0] = normInputGrad(into, gradientSums(into, { view, eps }), { view, centred });
      }
      const shape = recipe.affine(x.shape, attrs);
      const { dw, db } = affineGrads(dy, { x, stats, view, eps }, shape);
      if (attrs.weight) grads.push(ctx.wanted[1] ? dw() : null);
      if (attrs.bias) grads.push(ctx.wanted[grads.length] ? db() : null);
      return grads;
    },
    reference(inputs, attrs) {
      const x = inputs[0]!;
      const { w, b } = affineOf(inputs, attrs);
      const view = recipe.view(x.shape, attrs);
      return [hostNorm({ x, w, b }, { view, eps: attrs.eps, centred }).y];
    },
    samples: recipe.samples,
  });
}

/** Means and variances of statistics. */
export function rows(stats: DeviceArray): { mean: DeviceArray; variance: DeviceArray } {
  return { mean: statsRow(stats, 0), variance: statsRow(stats, 1) };
}

/** The same in float64, group by group. */
export function hostNorm(
  { x, w, b }: { x: HostArray; w?: HostArray; b?: HostArray },
  { view, eps, centred }: { view: NormView; eps: number; centred: boolean },
): { y: HostArray; mean: HostArray; variance: HostArray } {
  const members: number[][] = Array.from({ length: view.G }, () => []);
  const group = (i: number) => Math.floor(i / view.S) % view.G;
  x.data.forEach((_, i) => members[group(i)]!.push(i));
  const mean = hostFrom(
    [view.G],
    ([g]) => centred ? members[g!]!.reduce((n, i) => n + x.data[i]!, 0) / members[g!]!.length : 0,
  );
  const variance = hostFrom(
    [view.G],
    ([g]) =>
      members[g!]!.reduce((n, i) => n + (x.data[i]! - mean.data[g!]!) ** 2, 0) /
      members[g!]!.length,
  );
  const y = hostZeros(x.shape);
  x.data.forEach((v, i) => {
    const row = Math.floor(i / view.length);
    const c = view.weights === "row" ? row % view.channels : i % view.length;
    const g = group(i);
    y.data[i] = (v - mean.data[g]!) / Math.sqrt(variance.data[g]! + eps) * (w ? w.data[c]! : 1) +
      (b ? b.data[c]! : 0);
  });
  return { y, mean, variance };
}

/** Samples from rows of x's shape, weight's shape, attributes and range. */
export function samplesOf<A extends AffineAttrs>(
  rows: readonly (readonly [
    shape: readonly number[],
    affine: readonly number[],
    attrs: A,
    {
      grad?: boolean;
      low?: number;
      high?: number;
    }?,
  ])[],
): Sample<A>[] {
  return rows.map(([shape, affine, attrs, { grad, low, high } = {}]) => ({
    inputs: [
      { shape, low, high },
      ...(attrs.weight ? [{ shape: affine }] : []),
      ...(attrs.bias ? [{ shape: affine }] : []),
    ] as SampleInput[],
    attrs,
    grad,
  }));
}

/** Weight and bias. */
export const both: AffineAttrs = { eps: 1e-5, weight: true, bias: true };
/** Neither weight nor bias. */
export const neither: AffineAttrs = { eps: 1e-5, weight: false, bias: false };

function lastDims(shape: readonly number[], dims: number): readonly number[] {
  return shape.slice(shape.length - dims);
}

function checkLastDims(name: string, shape: readonly number[], dims: number): void {
  if (dims < 1 || dims > shape.length || sizeOf(lastDims(shape, dims)) === 0) {
    throw new TypeError(
      `Cannot ${name} the last ${dims} dimensions of ${show(shape)}: there must be at least one, ` +
        "with elements",
    );
  }
}

function rowsView(shape: readonly number[], { dims }: LayerNormAttrs): NormView {
  const L = sizeOf(lastDims(shape, dims));
  const rows = sizeOf(shape) / L;
  return {
    A: 1,
    G: rows,
    S: L,
    length: L,
    rowsPerGroup: 1,
    weights: "column",
    channels: 1,
  };
}

/** y = (x - mean) / √(variance + eps) · w + b over the last dimensions together. */
export const layerNorm: Op<LayerNormAttrs> = rowNorm<LayerNormAttrs>("layerNorm", {
  centred: true,
  view: rowsView,
  affine: (shape, { dims }) => lastDims(shape, dims),
  check: (shape, { dims }) => checkLastDims("layerNorm", shape, dims),
  samples: samplesOf([
    [[4, 7], [7], { ...both, dims: 1 }],
    [[2, 3, 4], [3, 4], { ...both, dims: 2 }],
    [[3, 8], [8], { ...neither, dims: 1 }],
    [[3, 8], [8], { ...both, bias: false, dims: 1 }],
    [[3, 8], [8], { ...both, weight: false, dims: 1 }],
    [[1, 2], [2], { ...both, eps: 0.1, dims: 1 }],
    [[0, 3], [3], { ...both, dims: 1 }],
    [[2, 257], [257], { ...both, dims: 1 }],
    [[3, 129], [129], { ...both, dims: 1 }, { low: 1000, high: 1002, grad: false }],
    [[2, 15], [15], { ...both, dims: 1 }],
    [[2, 15], [15], { ...neither, dims: 1 }],
  ]),
});

/** y = x / √(mean of x² + eps) · w over the last dimensions together. */
export const rmsNorm: Op<LayerNormAttrs> = rowNorm<LayerNormAttrs>("rmsNorm", {
  centred: false,
  view: rowsView,
  affine: (shape, { dims }) => lastDims(shape, dims),
  check: (shape, { dims }) => checkLastDims("rmsNorm", shape, dims),
  samples: samplesOf([
    [[4, 7], [7], { ...both, bias: false, dims: 1 }],
    [[2, 3, 4], [3, 4], { ...both, bias: false, dims: 2 }],
    [[3, 8], [8], { ...neither, dims: 1 }],
    [[2, 300], [300], { ...both, bias: false, dims: 1 }],
    [[2, 15], [15], { ...both, bias: false, dims: 1 }],
    [[0, 3], [3], { ...both, bias: false, dims: 1 }],
  ]),
});

/** y = (x - mean) / √(variance + eps) · w + b over each group of channels of each sample. */
export const groupNorm: Op<GroupNormAttrs> = rowNorm<GroupNormAttrs>("groupNorm", {
  centred: true,
  view(shape, { groups }) {
    const [N, C] = shape as [number, number];
    const S = sizeOf(shape.slice(2));
    const per = C / groups;
    return {
      A: 1,
      G: N * groups,
      S: per * S,
      length: S,
      rowsPerGroup: per,
      weights: "row",
      channels: C,
    };
  },
  affine: (shape) => [shape[1]!],
  check(shape, { groups }) {
    if (shape.length < 2 || !Number.isInteger(groups) || groups < 1 || shape[1]! % groups !== 0) {
      throw new TypeError(
        `Cannot groupNorm ${
          show(shape)
        } in ${groups} groups: it must be [N, C, …] and the groups ` +
          "must divide C",
      );
    }
    if (sizeOf(shape.slice(1)) === 0) {
      throw new TypeError(`Cannot groupNorm ${show(shape)}: a group has no elements`);
    }
  },
  samples: samplesOf([
    [[2, 3, 5], [3], { ...both, groups: 3 }],
    [[2, 4, 3, 3], [4], { ...both, groups: 2 }],
    [[3, 6], [6], { ...both, groups: 2 }],
    [[2, 4, 3], [4], { ...neither, groups: 1 }],
    [[1, 2, 8], [2], { ...neither, groups: 2 }],
    [[1, 2, 15], [2], { ...neither, groups: 2 }],
    [[2, 2, 15], [2], { ...both, groups: 1 }],
    [[2, 4, 9], [4], { ...both, groups: 2 }],
    [[1, 2, 16, 17], [2], { ...both, groups: 1 }],
    [[0, 4, 2], [4], { ...both, groups: 2 }],
  ]),
});
