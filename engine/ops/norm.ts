/** Batch, layer, group and root-mean-square normalisation. Instance normalisation is groups of one. */

import { DeviceArray, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { defineOp, type HostArray, type Op, run, type Sample, type SampleInput } from "../op.ts";
import { eachCoordinate, hostFrom, hostZeros } from "../reference.ts";
import { contiguousStrides, sameShape, show, sizeOf } from "../shape.ts";
import { plain } from "./launch_pointwise.ts";
import {
  applyNorm,
  f32Map,
  groupSums,
  moments,
  normInputGrad,
  type NormView,
  seen,
  statsRow,
} from "./norm_core.ts";
import { copyInto } from "./movement.ts";
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
function affineOf<T>(inputs: readonly T[], attrs: AffineAttrs, lead = 1): { w?: T; b?: T } {
  return {
    w: attrs.weight ? inputs[lead] : undefined,
    b: attrs.bias ? inputs[lead + (attrs.weight ? 1 : 0)] : undefined,
  };
}

function checkNorm(
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

/** Gradients of weight and bias by sums over what they broadcast along. */
function affineGrads(
  dy: DeviceArray,
  { x, stats, view, eps }: { x: DeviceArray; stats: DeviceArray; view: NormView; eps: number },
  shape: readonly number[],
): { dw: () => DeviceArray; db: () => DeviceArray } {
  const dim = view.affine.flatMap((s, d) => s === 1 && view.x[d] !== 1 ? [d] : []);
  const total = (a: DeviceArray) => {
    const summed = run(sum, [a], { dim, keepdim: true });
    return seen(summed, shape);
  };
  const u = seen(dy, view.x);
  return {
    dw: () =>
      total(f32Map("norm_dw_terms", {
        u,
        x: seen(x, view.x),
        mean: statsRow(stats, 0, view.stat),
        variance: statsRow(stats, 1, view.stat),
        eps,
      }, { expression: "u * (x - mean) * inverseSqrt(variance + eps)", shape: view.x })),
    db: () => total(u),
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
      if (ctx.needs[0]) {
        const u = w
          ? f32Map("norm_weighted_dy", {
            dy: seen(dy, view.x),
            w: seen(w, view.affine),
          }, { expression: "dy * w", shape: view.x })
          : dy;
        const sums = groupSums(u, x, stats, { view, eps });
        grads[0] = normInputGrad({ u, x, sums, stats }, { view, eps, centred });
      }
      const shape = recipe.affine(x.shape, attrs);
      const { dw, db } = affineGrads(dy, { x, stats, view, eps }, shape);
      if (attrs.weight) grads.push(ctx.needs[1] ? dw() : null);
      if (attrs.bias) grads.push(ctx.needs[grads.length] ? db() : null);
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

function rows(stats: DeviceArray): { mean: DeviceArray; variance: DeviceArray } {
  const shape = [stats.shape[1]!];
  return { mean: statsRow(stats, 0, shape), variance: statsRow(stats, 1, shape) };
}

/** The same in float64, group by group. */
function hostNorm(
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
  eachCoordinate(view.x, (at, i) => {
    const c = at.reduce((n, k, d) => view.affine[d] === 1 ? n : n * view.affine[d]! + k, 0);
    const g = group(i);
    y.data[i] = (x.data[i]! - mean.data[g]!) / Math.sqrt(variance.data[g]! + eps) *
        (w ? w.data[c]! : 1) + (b ? b.data[c]! : 0);
  });
  return { y, mean, variance };
}

function samplesOf<A extends AffineAttrs>(
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

const both = { eps: 1e-5, weight: true, bias: true };
const neither = { eps: 1e-5, weight: false, bias: false };

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
  return { A: 1, G: rows, S: L, x: [rows, L], stat: [rows, 1], affine: [1, L] };
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
    [[3, 5], [5], { ...neither, dims: 1 }],
    [[3, 5], [5], { ...both, bias: false, dims: 1 }],
    [[3, 5], [5], { ...both, weight: false, dims: 1 }],
    [[1, 2], [2], { ...both, eps: 0.1, dims: 1 }],
    [[0, 3], [3], { ...both, dims: 1 }],
    [[2, 257], [257], { ...both, dims: 1 }],
    [[3, 129], [129], { ...both, dims: 1 }, { low: 1000, high: 1002, grad: false }],
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
    [[3, 5], [5], { ...neither, dims: 1 }],
    [[2, 300], [300], { ...both, bias: false, dims: 1 }],
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
      x: [N, groups, per, S],
      stat: [N, groups, 1, 1],
      affine: [1, groups, per, 1],
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
    [[1, 2, 16, 17], [2], { ...both, groups: 1 }],
    [[0, 4, 2], [4], { ...both, groups: 2 }],
  ]),
});

function channelsView(shape: readonly number[]): NormView {
  const [N, C] = shape as [number, number];
  const S = sizeOf(shape.slice(2));
  return { A: N, G: C, S, x: [N, C, S], stat: [1, C, 1], affine: [1, C, 1] };
}

function checkChannels(shape: readonly number[]): void {
  if (shape.length < 2) {
    throw new TypeError(`Cannot batchNorm ${show(shape)}: it must be [N, C, …]`);
  }
}

/**
 * Normalisation of each channel by the batch: y, and the batch's mean and biased variance, [C] f32
 * each. All three are differentiable.
 */
export const batchNorm: Op<AffineAttrs> = defineOp<AffineAttrs>({
  name: "batchNorm",
  check(inputs, attrs) {
    const { shape, dtype } = inputs[0]!;
    checkChannels(shape);
    const C = shape[1]!;
    checkNorm("batchNorm", inputs, { attrs, affine: [C] });
    const count = sizeOf(shape) / Math.max(C, 1);
    if (!(count > 1)) {
      throw new TypeError(
        `Cannot batchNorm ${show(shape)} in training: a channel has ${count} value, and its ` +
          "variance needs at least 2",
      );
    }
    return [{ shape, dtype }, { shape: [C], dtype: "f32" }, { shape: [C], dtype: "f32" }];
  },
  forward(ctx, inputs, attrs) {
    const x = plain(inputs[0]!);
    const { w, b } = affineOf(inputs, attrs);
    const view = channelsView(x.shape);
    const stats = moments(x, view, true);
    ctx.save(x, stats, ...(w ? [w] : []));
    const y = applyNorm({ x, w, b }, rows(stats), { view, eps: attrs.eps });
    return [y, statsRow(stats, 0, [view.G]), statsRow(stats, 1, [view.G])];
  },
  backward(ctx, [grad, dMean, dVariance], attrs) {
    const [x, stats, w] = ctx.saved as [DeviceArray, DeviceArray, DeviceArray?];
    const at = { view: channelsView(x.shape), eps: attrs.eps, centred: true };
    const u = plain(grad!);
    const sums = groupSums(u, x, stats, at);
    const extra = { mean: dMean!, variance: dVariance! };
    return [
      ctx.needs[0] ? normInputGrad({ u, x, sums, stats, w, extra }, at) : null,
      ...(attrs.weight ? [statsRow(sums, 1, [at.view.G])] : []),
      ...(attrs.bias ? [statsRow(sums, 0, [at.view.G])] : []),
    ];
  },
  reference(inputs, attrs) {
    const x = inputs[0]!;
    const at = { view: channelsView(x.shape), eps: attrs.eps, centred: true };
    const { y, mean, variance } = hostNorm({ x, ...affineOf(inputs, attrs) }, at);
    return [y, mean, variance];
  },
  samples: samplesOf([
    [[3, 2, 2, 2], [2], both],
    [[5, 3], [3], both],
    [[2, 3, 7], [3], neither],
    [[2, 2, 3], [2], { ...both, bias: false }],
    [[2, 2, 3], [2], { ...both, weight: false }],
    [[1, 2, 1, 2], [2], { ...both, eps: 0.1 }],
    [[3, 1, 9, 11], [1], both],
    [[130, 2, 3], [2], both],
    [[2, 2, 16, 16], [2], both, { low: 1000, high: 1002, grad: false }],
  ]),
});

/** Normalisation of each channel by a given mean and variance: inputs x, mean, variance, w, b. */
export const batchNormEval: Op<AffineAttrs> = defineOp<AffineAttrs>({
  name: "batchNormEval",
  check(inputs, attrs) {
    const [x, mean, variance] = inputs as [Spec, Spec, Spec];
    checkChannels(x.shape);
    const affine = [x.shape[1]!];
    checkNorm("batchNorm", inputs, { attrs, affine, lead: 3 });
    for (const [what, { shape }] of [["mean", mean], ["variance", variance]] as const) {
      if (!sameShape(shape, affine)) {
        throw new TypeError(
          `Cannot batchNorm ${show(x.shape)} with running ${what} ${show(shape)}: it must be ` +
            show(affine),
        );
      }
    }
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  forward(ctx, inputs, attrs) {
    const x = plain(inputs[0]!);
    const { w, b } = affineOf(inputs, attrs, 3);
    const given = { mean: inputs[1]!, variance: inputs[2]! };
    ctx.save(x, given.mean, given.variance, ...(w ? [w] : []));
    return [applyNorm({ x, w, b }, given, { view: channelsView(x.shape), eps: attrs.eps })];
  },
  backward(ctx, [grad], attrs) {
    const [x, mean, variance, w] = ctx.saved as [
      DeviceArray,
      DeviceArray,
      DeviceArray,
      DeviceArray?,
    ];
    const at = { view: channelsView(x.shape), eps: attrs.eps };
    const C = at.view.G;
    const u = plain(grad!);
    const needsSums = ctx.needs.slice(1).some(Boolean);
    const sums = needsSums ? groupSums(u, x, joined(mean, variance), at) : null;
    const weight: Record<string, DeviceArray> = w ? { w } : {};
    const times = w ? " * w" : "";
    const dx = () =>
      f32Map(w ? "batch_norm_eval_dx_weight" : "batch_norm_eval_dx", {
        u: seen(u, at.view.x),
        variance: seen(variance, at.view.stat),
        eps: attrs.eps,
        ...(w ? { w: seen(w, at.view.stat) } : {}),
      }, {
        expression: `u * inverseSqrt(variance + eps)${times}`,
        shape: at.view.x,
        dtype: x.dtype,
      }).view(x.shape, contiguousStrides(x.shape));
    const dMean = () =>
      f32Map(w ? "batch_norm_eval_dmean_weight" : "batch_norm_eval_dmean", {
        total: statsRow(sums!, 0, [C]),
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-total * inverseSqrt(variance + eps)${times}`, shape: [C] });
    const dVariance = () =>
      f32Map(w ? "batch_norm_eval_dvar_weight" : "batch_norm_eval_dvar", {
        scaled: statsRow(sums!, 1, [C]),
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-0.5 * scaled / (variance + eps)${times}`, shape: [C] });
    return [
      ctx.needs[0] ? dx() : null,
      ctx.needs[1] ? dMean() : null,
      ctx.needs[2] ? dVariance() : null,
      ...(attrs.weight ? [ctx.needs[3] ? statsRow(sums!, 1, [C]) : null] : []),
      ...(attrs.bias ? [ctx.needs.at(-1) ? statsRow(sums!, 0, [C]) : null] : []),
    ];
  },
  reference(inputs, attrs) {
    const [x, mean, variance] = inputs as [HostArray, HostArray, HostArray];
    const { w, b } = affineOf(inputs, attrs, 3);
    const { S, G } = channelsView(x.shape);
    const y = hostZeros(x.shape);
    x.data.forEach((v, i) => {
      const c = Math.floor(i / S) % G;
      const scaled = (v - mean.data[c]!) / Math.sqrt(variance.data[c]! + attrs.eps);
      y.data[i] = scaled * (w ? w.data[c]! : 1) + (b ? b.data[c]! : 0);
    });
    return [y];
  },
  samples: ([
    [[2, 3, 4], both],
    [[3, 2, 2, 2], both],
    [[4, 3], neither],
    [[2, 3, 5], { ...both, bias: false }],
    [[2, 3, 5], { ...both, weight: false }],
    [[0, 2, 3], both],
  ] as const).map(([shape, attrs]) => {
    const affine = { shape: [shape[1]] };
    return {
      inputs: [
        { shape },
        affine,
        { ...affine, low: 0.2, high: 2 },
        ...(attrs.weight ? [affine] : []),
        ...(attrs.bias ? [affine] : []),
      ],
      attrs,
    };
  }),
});

/** [mean; variance] as one array, as the kernels take statistics. */
function joined(mean: DeviceArray, variance: DeviceArray): DeviceArray {
  const C = mean.size;
  const stats = DeviceArray.empty({ shape: [2, C], dtype: "f32" }, "norm statistics");
  copyInto(mean, statsRow(stats, 0, [C]));
  copyInto(variance, statsRow(stats, 1, [C]));
  return stats;
}
