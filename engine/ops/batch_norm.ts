/** Batch normalisation, by the batch's statistics and by given ones. */

import { DeviceArray, type Spec } from "../array.ts";
import { defineOp, type HostArray, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { sameShape, show, sizeOf } from "../shape.ts";
import { contiguous, plain } from "./launch_pointwise.ts";
import { copyInto } from "./movement.ts";
import {
  type AffineAttrs,
  affineOf,
  both,
  checkNorm,
  hostNorm,
  neither,
  rows,
  samplesOf,
} from "./norm.ts";
import {
  applyNorm,
  f32Map,
  groupSums,
  moments,
  normInputGrad,
  normRows,
  type NormView,
  statsRow,
} from "./norm_core.ts";

function channelsView(shape: readonly number[]): NormView {
  const [N, C] = shape as [number, number];
  const S = sizeOf(shape.slice(2));
  return { A: N, G: C, S, length: S, rowsPerGroup: 1, weights: "row", channels: C };
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
    return [y, statsRow(stats, 0), statsRow(stats, 1)];
  },
  backward(ctx, [grad, dMean, dVariance], attrs) {
    const [x, stats, w] = ctx.saved as [DeviceArray, DeviceArray, DeviceArray?];
    const at = { view: channelsView(x.shape), eps: attrs.eps, centred: true };
    const u = plain(grad!);
    const sums = groupSums(u, x, stats, at);
    const extra = { mean: dMean!, variance: dVariance! };
    return [
      ctx.needs[0] ? normInputGrad({ u, x, sums, stats, w, extra }, at) : null,
      ...(attrs.weight ? [statsRow(sums, 1)] : []),
      ...(attrs.bias ? [statsRow(sums, 0)] : []),
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
    [[2, 5, 8], [5], both],
    [[2, 5, 8], [5], neither],
    [[2, 2, 8], [2], { ...both, bias: false }],
    [[2, 2, 8], [2], { ...both, weight: false }],
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
      normRows(w ? "batch_norm_eval_dx_weight" : "batch_norm_eval_dx", {
        elements: { u },
        statistics: { variance: contiguous(variance) },
        weights: { w },
      }, {
        view: at.view,
        eps: attrs.eps,
        expression: `u * inverseSqrt(variance + p.eps)${times}`,
        out: x,
      });
    const dMean = () =>
      f32Map(w ? "batch_norm_eval_dmean_weight" : "batch_norm_eval_dmean", {
        total: statsRow(sums!, 0),
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-total * inverseSqrt(variance + eps)${times}`, shape: [C] });
    const dVariance = () =>
      f32Map(w ? "batch_norm_eval_dvar_weight" : "batch_norm_eval_dvar", {
        scaled: statsRow(sums!, 1),
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-0.5 * scaled / (variance + eps)${times}`, shape: [C] });
    return [
      ctx.needs[0] ? dx() : null,
      ctx.needs[1] ? dMean() : null,
      ctx.needs[2] ? dVariance() : null,
      ...(attrs.weight ? [ctx.needs[3] ? statsRow(sums!, 1) : null] : []),
      ...(attrs.bias ? [ctx.needs.at(-1) ? statsRow(sums!, 0) : null] : []),
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
    [[3, 5, 2, 4], both],
    [[2, 5, 8], neither],
    [[4, 3], neither],
    [[2, 3, 8], { ...both, bias: false }],
    [[2, 3, 8], { ...both, weight: false }],
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
  copyInto(mean, statsRow(stats, 0));
  copyInto(variance, statsRow(stats, 1));
  return stats;
}
