/** Batch normalisation, by the batch's statistics and by given ones. */

import { DeviceArray, type Spec } from "../array.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { sameShape, show, sizeOf } from "../shape.ts";
import {
  type Activation,
  ACTIVATIONS,
  checkActivation,
  epilogueOf,
  hostActivation,
} from "./epilogue.ts";
import { fill } from "./fill.ts";
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
  gradientSums,
  moments,
  normInputGrad,
  normRows,
  type NormView,
  statsRow,
  throughEpilogue,
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

/** Attributes of both: the affine inputs, and what follows the normalisation in the same pass. */
export interface BatchNormAttrs extends AffineAttrs {
  /** Whether the last input is added before the activation. */
  readonly residual?: boolean;
  /** Applied last. */
  readonly activation?: Activation;
}

/** Inputs that may be absent, from the first after x, or after given statistics. */
function optionsOf<T>(inputs: readonly T[], attrs: BatchNormAttrs, lead = 1): {
  w?: T;
  b?: T;
  r?: T;
} {
  return { ...affineOf(inputs, attrs, lead), r: attrs.residual ? inputs.at(-1) : undefined };
}

/**
 * Checks what both have in common.
 *
 * @throws {TypeError} if dtypes or shapes do not fit, or the activation is none of those there are
 */
function checkBatchNorm(inputs: readonly Spec[], attrs: BatchNormAttrs, lead: number): void {
  const { shape, dtype } = inputs[0]!;
  checkChannels(shape);
  checkNorm("batchNorm", inputs, { attrs, affine: [shape[1]!], lead });
  checkActivation("batchNorm", attrs.activation);
  const { r } = optionsOf(inputs, attrs);
  if (r && (!sameShape(r.shape, shape) || r.dtype !== dtype)) {
    throw new TypeError(
      `Cannot batchNorm ${dtype} ${show(shape)} and add ${r.dtype} ${
        show(r.shape)
      }: the residual ` +
        "must have the same shape and dtype",
    );
  }
}

/** What is kept of the optional inputs for the gradient, in this order. */
function kept(
  { w, b, r }: { w?: DeviceArray; b?: DeviceArray; r?: DeviceArray },
  attrs: BatchNormAttrs,
) {
  const { activation } = attrs;
  return [w, activation && b, activation && r].filter((a) => a instanceof DeviceArray);
}

/** The same again, by name, from what was saved. */
function fromKept(saved: readonly DeviceArray[], attrs: BatchNormAttrs) {
  const rest = [...saved];
  const { activation, weight, bias, residual } = attrs;
  const next = (there: boolean) => there ? rest.shift() : undefined;
  return {
    w: next(weight),
    b: next(activation !== undefined && bias),
    r: next(activation !== undefined && residual === true),
  };
}

/** y in float64, from the normalised x. */
function finished(
  y: HostArray,
  r: HostArray | undefined,
  { activation }: BatchNormAttrs,
): HostArray {
  const f = hostActivation(activation);
  return { ...y, data: y.data.map((v, i) => f(v + (r ? r.data[i]! : 0))) };
}

/**
 * Normalisation of each channel by the batch, y = f((x - mean) / √(variance + eps) · w + b + residual), and
 * the batch's mean and biased variance, [C] f32 each. All three are differentiable.
 */
export const batchNorm: Op<BatchNormAttrs> = defineOp<BatchNormAttrs>({
  name: "batchNorm",
  check(inputs, attrs) {
    const { shape, dtype } = inputs[0]!;
    checkBatchNorm(inputs, attrs, 1);
    const C = shape[1]!;
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
    const { w, b, r: residual } = optionsOf(inputs, attrs);
    const r = residual && plain(residual);
    const view = channelsView(x.shape);
    const stats = moments(x, view, true);
    ctx.save(x, stats, ...kept({ w, b, r }, attrs));
    const epilogue = epilogueOf(attrs.activation);
    const y = applyNorm({ x, w, b, r, epilogue }, rows(stats), { view, eps: attrs.eps });
    return [y, statsRow(stats, 0), statsRow(stats, 1)];
  },
  // dx is the normalisation's of u = dy · f'(z), which a residual gets as it is.
  backward: {
    partial(ctx, [dy, dMean, dVariance], attrs) {
      const [x, stats] = ctx.saved as readonly [DeviceArray, DeviceArray];
      const { w, b, r } = fromKept(ctx.saved.slice(2), attrs);
      const at = { view: channelsView(x.shape), eps: attrs.eps, centred: true };
      const zeros = () => fill({ shape: [at.view.G], dtype: "f32" }, 0);
      const extra = dMean || dVariance ? joined(dMean ?? zeros(), dVariance ?? zeros()) : undefined;
      const epilogue = epilogueOf(attrs.activation);
      let u = dy ? plain(dy) : fill(x, 0);
      if (epilogue && attrs.residual) {
        u = throughEpilogue(u, { x, w, b, r, epilogue }, rows(stats), at);
      }
      const gate = epilogue && !attrs.residual ? { epilogue, b } : undefined;
      const gradient = { u, x, stats, w, gate, extra };
      const needsSums = ctx.needs.slice(0, inputsBefore(attrs, 1)).some(Boolean);
      const sums = needsSums ? gradientSums(gradient, at) : null;
      return [
        ctx.needs[0] ? normInputGrad(gradient, sums!, at) : null,
        ...(attrs.weight ? [sums?.scaled ?? null] : []),
        ...(attrs.bias ? [sums?.plain ?? null] : []),
        ...(attrs.residual ? [u] : []),
      ];
    },
  },
  reference(inputs, attrs) {
    const x = inputs[0]!;
    const at = { view: channelsView(x.shape), eps: attrs.eps, centred: true };
    const { w, b, r } = optionsOf(inputs, attrs);
    const { y, mean, variance } = hostNorm({ x, w, b }, at);
    return [finished(y, r, attrs), mean, variance];
  },
  samples: [
    ...samplesOf<BatchNormAttrs>([
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
    ...epilogueSamples(1),
    // One by one with a weight or a bias alone.
    ...samplesOf<BatchNormAttrs>([
      [[2, 3, 5], [3], { ...both, bias: false }],
      [[2, 3, 5], [3], { ...both, weight: false }],
      [[2, 3, 5], [3], neither],
      // The same behind relu, with rows of other sizes and of whole fours.
      ...[5, 8].flatMap((S) =>
        [{ ...both, bias: false }, { ...both, weight: false }].map((some) =>
          [[2, 3, S], [3], { ...some, activation: "relu" }] as const
        )
      ),
    ]),
  ],
});

/** Samples with every activation, with and without a residual, after `lead` inputs. */
function epilogueSamples(lead: 1 | 3): Sample<BatchNormAttrs>[] {
  const affine = [both, { ...both, bias: false }, { ...both, weight: false }, neither];
  // The models' own with rows of whole fours and of others, the rest by turns; and shares of a channel.
  const shapes = [[2, 2, 15], [2, 2, 2, 4]];
  const inModels: BatchNormAttrs[] = [
    { ...both, activation: "relu" },
    { ...both, activation: "silu" },
    { ...both, activation: "relu", residual: true },
    { ...both, residual: true },
  ];
  const others: BatchNormAttrs[] = [
    ...ACTIVATIONS.map((activation) => ({ ...both, activation })),
    ...ACTIVATIONS.map((activation) => ({ ...both, activation, residual: true })),
    ...affine.map((some) => ({ ...some, activation: "silu" as const })),
    ...affine.map((some) => ({ ...some, activation: "relu" as const, residual: true })),
  ];
  const cases: (readonly [BatchNormAttrs, readonly number[]])[] = [
    ...inModels.flatMap((attrs) => shapes.map((shape) => [attrs, shape] as const)),
    ...others.map((attrs, i) => [attrs, shapes[i % 2]!] as const),
    [inModels[0]!, [130, 2, 3]],
    [inModels[0]!, [130, 2, 4]],
    ...[3, 8].map((S) => [{ ...neither, activation: "relu" }, [130, 2, S]] as const),
    ...shapes.map((shape) => [{ ...neither, activation: "hardswish" }, shape] as const),
    [{ ...neither, activation: "relu" }, shapes[1]!],
  ];
  return cases.map(([attrs, shape]) => {
    const channel = { shape: [shape[1]!] };
    return {
      inputs: [
        { shape },
        ...(lead === 3 ? [channel, { ...channel, low: 0.2, high: 2 }] : []),
        ...(attrs.weight ? [channel] : []),
        ...(attrs.bias ? [channel] : []),
        ...(attrs.residual ? [{ shape }] : []),
      ],
      attrs,
    };
  });
}

/**
 * Normalisation of each channel by a given mean and variance, y = f(… + residual) as in {@linkcode batchNorm}:
 * inputs x, mean, variance, w, b, residual.
 */
export const batchNormEval: Op<BatchNormAttrs> = defineOp<BatchNormAttrs>({
  name: "batchNormEval",
  check(inputs, attrs) {
    const [x, mean, variance] = inputs as [Spec, Spec, Spec];
    checkBatchNorm(inputs, attrs, 3);
    const affine = [x.shape[1]!];
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
    const { w, b, r: residual } = optionsOf(inputs, attrs, 3);
    const r = residual && plain(residual);
    const given = { mean: inputs[1]!, variance: inputs[2]! };
    ctx.save(x, given.mean, given.variance, ...kept({ w, b, r }, attrs));
    const epilogue = epilogueOf(attrs.activation);
    return [
      applyNorm({ x, w, b, r, epilogue }, given, { view: channelsView(x.shape), eps: attrs.eps }),
    ];
  },
  backward(ctx, [grad], attrs) {
    const [x, mean, variance] = ctx.saved as readonly [DeviceArray, DeviceArray, DeviceArray];
    const { w, b, r } = fromKept(ctx.saved.slice(3), attrs);
    const at = { view: channelsView(x.shape), eps: attrs.eps };
    const C = at.view.G;
    const epilogue = epilogueOf(attrs.activation);
    const dy = plain(grad!);
    const u = epilogue ? throughEpilogue(dy, { x, w, b, r, epilogue }, { mean, variance }, at) : dy;
    const needsSums = ctx.needs.slice(1, inputsBefore(attrs, 3)).some(Boolean);
    const sums = needsSums ? gradientSums({ u, x, stats: joined(mean, variance) }, at) : null;
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
        total: sums!.plain,
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-total * inverseSqrt(variance + eps)${times}`, shape: [C] });
    const dVariance = () =>
      f32Map(w ? "batch_norm_eval_dvar_weight" : "batch_norm_eval_dvar", {
        scaled: sums!.scaled,
        variance,
        eps: attrs.eps,
        ...weight,
      }, { expression: `-0.5 * scaled / (variance + eps)${times}`, shape: [C] });
    return [
      ctx.needs[0] ? dx() : null,
      ctx.needs[1] ? dMean() : null,
      ctx.needs[2] ? dVariance() : null,
      ...(attrs.weight ? [sums?.scaled ?? null] : []),
      ...(attrs.bias ? [sums?.plain ?? null] : []),
      ...(attrs.residual ? [u] : []),
    ];
  },
  reference(inputs, attrs) {
    const [x, mean, variance] = inputs as [HostArray, HostArray, HostArray];
    const { w, b, r } = optionsOf(inputs, attrs, 3);
    const { S, G } = channelsView(x.shape);
    const y = hostZeros(x.shape);
    x.data.forEach((v, i) => {
      const c = Math.floor(i / S) % G;
      const scaled = (v - mean.data[c]!) / Math.sqrt(variance.data[c]! + attrs.eps);
      y.data[i] = scaled * (w ? w.data[c]! : 1) + (b ? b.data[c]! : 0);
    });
    return [finished(y, r, attrs)];
  },
  samples: [
    ...([
      [[2, 3, 4], both],
      [[3, 5, 2, 4], both],
      [[2, 5, 8], neither],
      [[4, 3], neither],
      [[2, 3, 8], { ...both, bias: false }],
      [[2, 3, 8], { ...both, weight: false }],
      // All eight columns of a thread, one by one.
      [[2, 2, 15], both],
      [[2, 2, 15], neither],
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
    ...epilogueSamples(3),
  ],
});

/** Inputs before the residual, `lead` of them before weight and bias. */
function inputsBefore({ weight, bias }: BatchNormAttrs, lead: number): number {
  return lead + Number(weight) + Number(bias);
}

/** [mean; variance], or their gradients, as one array, as the kernels take them. */
function joined(mean: DeviceArray, variance: DeviceArray): DeviceArray {
  const C = mean.size;
  const stats = DeviceArray.empty({ shape: [2, C], dtype: "f32" }, "norm statistics");
  copyInto(mean, statsRow(stats, 0));
  copyInto(variance, statsRow(stats, 1));
  return stats;
}
