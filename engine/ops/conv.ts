/** Two-dimensional convolution of NCHW tensors and its gradients. */

import { checkWhole } from "../arguments.ts";
import type { DeviceArray, Spec } from "../array.ts";
import { type DType, isFloat } from "../dtype.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { show } from "../shape.ts";
import { convForward, convInputGrad, convWeightGrad, type Window } from "./conv_core.ts";
import {
  checkActivation,
  gradientFromOutput,
  hostActivation,
  OUTPUT_ACTIVATIONS,
  type OutputActivation,
} from "./epilogue.ts";
import { plain } from "./launch_pointwise.ts";
import { sumIn } from "./reduce.ts";

/** Attributes of {@linkcode conv2d}, normalised to pairs [height, width]. */
export interface ConvAttrs extends Window {
  /** Zeros below and to the right; as many as above and to the left where absent. */
  readonly paddingEnd?: readonly [number, number];
  /** Applied to the sum. */
  readonly activation?: OutputActivation;
}

/** Output size of a window sliding over `size` with `padding` at the start and `paddingEnd`. */
export function slidingSize(
  size: number,
  { kernel, stride, padding, dilation, paddingEnd = padding }: {
    kernel: number;
    stride: number;
    padding: number;
    dilation: number;
    paddingEnd?: number;
  },
): number {
  return Math.floor((size + padding + paddingEnd - dilation * (kernel - 1) - 1) / stride) + 1;
}

function outputShape(x: readonly number[], w: readonly number[], attrs: ConvAttrs): number[] {
  const out = (d: 0 | 1) =>
    slidingSize(x[2 + d]!, {
      kernel: w[2 + d]!,
      stride: attrs.stride[d],
      padding: attrs.padding[d],
      dilation: attrs.dilation[d],
      paddingEnd: attrs.paddingEnd?.[d],
    });
  return [x[0]!, w[0]!, out(0), out(1)];
}

/**
 * Checks what a convolution and its transpose share: dtypes, ranks, bias of `channels` and options.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 * @throws {RangeError} if an option is out of range
 */
export function checkConv(
  name: string,
  [x, w, bias]: readonly Spec[],
  { attrs, channels, weight }: { attrs: ConvAttrs; channels: number; weight: string },
): void {
  for (const input of [x!, w!, ...(bias ? [bias] : [])]) {
    if (!isFloat(input.dtype) || input.dtype !== x!.dtype) {
      throw new TypeError(
        `Cannot ${name} dtypes ${x!.dtype} and ${input.dtype}: all must be the same float`,
      );
    }
  }
  if (x!.shape.length !== 4 || w!.shape.length !== 4) {
    throw new TypeError(
      `Cannot ${name} ${show(x!.shape)} with weight ${show(w!.shape)}: they must be ` +
        `[N, C, H, W] or [C, H, W], and ${weight}`,
    );
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== channels)) {
    throw new TypeError(
      `Cannot add bias ${show(bias.shape)} to ${channels} channels: it must be [${channels}]`,
    );
  }
  const { stride, padding, paddingEnd = [], dilation } = attrs;
  checkWhole(name, { stride }, 1);
  checkWhole(name, { padding: [...padding, ...paddingEnd] }, 0);
  checkWhole(name, { dilation }, 1);
}

/** The bias's gradient: dy over all positions. */
export function biasGrad(dy: DeviceArray, dtype: DType): DeviceArray {
  return sumIn(dy, { dim: [0, 2, 3], dtype });
}

/** The product in float64: each (input, weight, output) coordinate triple that meets. */
export function eachTap(
  shapes: { x: readonly number[]; w: readonly number[]; y: readonly number[] },
  { stride, padding, dilation, groups }: Window,
  visit: (x: number[], w: number[], y: number[]) => void,
): void {
  const [B, , H, W] = shapes.x as [number, number, number, number];
  const [O, C, KH, KW] = shapes.w as [number, number, number, number];
  const [OH, OW] = shapes.y.slice(2) as [number, number];
  for (let b = 0; b < B; b++) {
    for (let o = 0; o < O; o++) {
      for (let c = 0; c < C; c++) {
        const channel = Math.floor(o / (O / groups)) * C + c;
        for (let oh = 0; oh < OH; oh++) {
          for (let ow = 0; ow < OW; ow++) {
            for (let kh = 0; kh < KH; kh++) {
              for (let kw = 0; kw < KW; kw++) {
                const ih = oh * stride[0] - padding[0] + kh * dilation[0];
                const iw = ow * stride[1] - padding[1] + kw * dilation[1];
                if (ih < 0 || iw < 0 || ih >= H || iw >= W) continue;
                visit([b, channel, ih, iw], [o, c, kh, kw], [b, o, oh, ow]);
              }
            }
          }
        }
      }
    }
  }
}

/** Index of the element at `at`. */
export function hostIndex({ shape }: { shape: readonly number[] }, at: readonly number[]): number {
  return at.reduce((n, c, d) => n * shape[d]! + c, 0);
}

/**
 * y[b, o] = f(bias[o] + sum over c, kh, kw of w[o, c, kh, kw] · x[b, c, …]); cross-correlation as in PyTorch,
 * and an activation where there is one.
 */
export const conv2d: Op<ConvAttrs> = defineOp<ConvAttrs>({
  name: "conv2d",
  check([x, w, bias], attrs) {
    const { groups } = attrs;
    checkActivation("conv2d", attrs.activation, OUTPUT_ACTIVATIONS);
    checkConv("conv2d", [x!, w!, ...(bias ? [bias] : [])], {
      attrs,
      channels: w!.shape[0]!,
      weight: "[O, C / groups, KH, KW]",
    });
    const [O, C] = w!.shape as [number, number];
    if (!Number.isInteger(groups) || groups < 1 || O % groups !== 0 || x!.shape[1] !== C * groups) {
      throw new TypeError(
        `Cannot conv2d ${show(x!.shape)} with weight ${show(w!.shape)} in ${groups} groups: the ` +
          `weight takes ${C * groups} input channels, the input has ${
            x!.shape[1]
          }, and ${O} output ` +
          "channels must divide into the groups",
      );
    }
    const shape = outputShape(x!.shape, w!.shape, attrs);
    if (shape[2]! < 1 || shape[3]! < 1) {
      throw new RangeError(
        `Cannot conv2d ${show(x!.shape)} with weight ${
          show(w!.shape)
        }: the padded input is smaller ` +
          "than the kernel",
      );
    }
    return [{ shape, dtype: x!.dtype }];
  },
  forward(ctx, [x, w, bias], attrs, [out]) {
    const inputs = { x: plain(x!), w: plain(w!), bias: bias && plain(bias) };
    const { activation } = attrs;
    const y = convForward({ ...inputs, activation }, attrs, out!.shape);
    ctx.save(
      ...(activation ? [y] : []),
      ...(ctx.needs[0] ? [inputs.w] : []),
      ...(ctx.needs[1] ? [inputs.x] : []),
    );
    return [y];
  },
  backward(ctx, [grad], attrs) {
    const [xs, ws] = [ctx.inputs[0]!, ctx.inputs[1]!];
    const saved = [...ctx.saved];
    const { activation } = attrs;
    const dy = plain(activation ? gradientFromOutput(activation, saved.shift()!, grad!) : grad!);
    const w = ctx.needs[0] ? saved.shift()! : null;
    const x = ctx.needs[1] ? saved.shift()! : null;
    const [dx, dw, dBias] = ctx.wanted;
    const grads = [
      w && dx ? convInputGrad({ dy, w }, attrs, xs.shape) : null,
      x && dw ? convWeightGrad({ dy, x }, attrs, ws.shape) : null,
    ];
    if (ctx.inputs[2]) grads.push(dBias ? biasGrad(dy, dBias) : null);
    return grads;
  },
  sumsOf: ({ activation: _, ...attrs }) => attrs,
  reference([x, w, bias], attrs) {
    const y: HostArray = hostFrom(
      outputShape(x!.shape, w!.shape, attrs),
      ([, o]) => bias ? bias.data[o!]! : 0,
    );
    eachTap({ x: x!.shape, w: w!.shape, y: y.shape }, attrs, (xAt, wAt, yAt) => {
      y.data[hostIndex(y, yAt)]! += hostAt(w!, wAt) * hostAt(x!, xAt);
    });
    const f = hostActivation(attrs.activation);
    return [{ ...y, data: y.data.map(f) }];
  },
  samples: [
    // The core with and without fours, and a kernel that activations follow.
    ...OUTPUT_ACTIVATIONS.flatMap((activation) => [
      sample([2, 3, 6, 5], [9, 3, 3, 3], { padding: [1, 1], activation }),
      withoutBias(sample([2, 4, 4, 6], [9, 4, 1, 1], { activation })),
      sample([1, 2, 5, 4], [2, 1, 3, 3], { groups: 2, activation }),
    ]),
    sample([2, 3, 6, 5], [4, 3, 3, 3], { padding: [1, 1] }),
    sample([1, 1, 5, 5], [1, 1, 1, 1], {}),
    sample([2, 2, 9, 8], [3, 2, 3, 2], { stride: [2, 3] }),
    sample([1, 1, 19, 17], [5, 1, 11, 11], { stride: [4, 4], padding: [2, 2] }),
    sample([2, 4, 7, 7], [6, 2, 3, 3], { groups: 2, padding: [1, 0] }),
    sample([1, 3, 8, 8], [3, 1, 3, 3], { groups: 3, padding: [1, 1], stride: [2, 2] }),
    sample([1, 2, 9, 9], [2, 2, 3, 3], { dilation: [2, 3], padding: [2, 1] }),
    sample([1, 2, 9, 8], [2, 2, 3, 3], { dilation: [2, 3], stride: [2, 2], padding: [1, 2] }),
    sample([2, 2, 6, 7], [3, 2, 3, 3], { padding: [0, 1], paddingEnd: [1, 2], stride: [2, 3] }),
    sample([1, 2, 5, 5], [2, 2, 2, 2], { padding: [0, 0], paddingEnd: [1, 1] }),
    sample([1, 3, 7, 7], [2, 3, 1, 1], { stride: [2, 2] }),
    sample([2, 3, 6, 5], [3, 1, 3, 2], { groups: 3, padding: [1, 1] }),
    sample([1, 2, 9, 7], [4, 1, 5, 3], { groups: 2, padding: [2, 1], stride: [2, 1] }),
    sample([1, 2, 9, 9], [2, 1, 3, 3], { groups: 2, dilation: [2, 3], stride: [3, 2] }),
    sample([2, 2, 9, 15], [2, 1, 3, 3], { groups: 2, padding: [0, 1], paddingEnd: [1, 2] }),
    sample([0, 2, 4, 4], [2, 1, 3, 3], { groups: 2 }),
    // More than the rows and columns of Y that one thread owns, and their ends.
    sample([2, 2, 6, 7], [2, 1, 3, 3], { groups: 2, padding: [1, 1] }),
    sample([1, 2, 9, 6], [2, 1, 5, 5], { groups: 2, padding: [2, 2] }),
    sample([1, 2, 8, 13], [2, 1, 5, 5], { groups: 2, padding: [1, 2], stride: [2, 2] }),
    sample([1, 2, 7, 11], [2, 1, 3, 3], { groups: 2, padding: [0, 3], stride: [2, 2] }),
    withoutBias(sample([1, 2, 5, 5], [2, 1, 3, 3], { groups: 2, padding: [1, 2] })),
    sample([3, 9, 4, 4], [10, 9, 1, 1], {}),
    // More than the 8 rows of the smallest tile, padded and not.
    sample([1, 2, 7, 7], [9, 2, 3, 3], { padding: [1, 1] }),
    sample([1, 2, 7, 7], [9, 2, 3, 3], {}),
    sample([1, 1, 4, 3], [9, 1, 2, 2], { padding: [1, 0] }),
    sample([1, 4, 4, 4], [9, 4, 3, 3], { padding: [1, 1] }),
    sample([1, 4, 4, 4], [9, 4, 3, 3], {}),
    sample([1, 1, 4, 4], [9, 1, 2, 2], {}),
    sample([0, 2, 4, 4], [3, 2, 3, 3], {}),
    // Images that Winograd's filtering takes two at a time, with tiles that end outside.
    sample([3, 2, 5, 4], [3, 2, 3, 3], { padding: [1, 0] }),
    // Whole fours of neighbours: positions, weights, both, and neither, with tails of every tile.
    sample([2, 3, 4, 6], [9, 3, 1, 1], {}),
    sample([2, 4, 4, 10], [17, 4, 1, 1], {}),
    sample([1, 4, 3, 3], [9, 4, 1, 1], {}),
    withoutBias(sample([1, 4, 6, 6], [17, 4, 3, 3], { padding: [1, 1] })),
    sample([1, 4, 6, 6], [8, 4, 3, 3], { padding: [1, 1], stride: [2, 2] }),
    withoutBias(sample([1, 2, 7, 7], [9, 2, 3, 3], { padding: [1, 1] })),
    withoutBias(sample([1, 2, 7, 8], [9, 2, 2, 2], {})),
    withoutBias(sample([1, 2, 3, 3], [9, 2, 2, 2], {})),
    // Few rows by fours of columns that an activation follows.
    sample([1, 3, 4, 4], [5, 3, 3, 3], { padding: [1, 1], activation: "relu" }),
    // Shares of K on a GPU, merged by fours and one by one.
    ...[
      sample([2, 8, 8, 9], [5, 8, 8, 8], { padding: [1, 1], activation: "relu" }),
      withoutBias(sample([1, 16, 8, 8], [4, 8, 8, 8], { padding: [1, 0], groups: 2 })),
      sample([1, 8, 8, 8], [3, 8, 8, 8], { padding: [1, 0] }),
      // Several patches, and blocks of channels, of the kernel for few channels.
      sample([2, 5, 9, 34], [17, 5, 3, 3], { padding: [1, 1] }),
      sample([1, 5, 2, 8], [16, 5, 3, 3], { padding: [1, 1] }),
    ].map((s) => ({ ...s, grad: false })),
    // All channels of its workgroups, forward and back, stored by fours and one by one.
    ...OUTPUT_ACTIVATIONS.flatMap((activation) =>
      [
        sample([1, 3, 3, 6], [16, 3, 3, 3], { padding: [1, 1], activation }),
        sample([1, 3, 3, 8], [16, 3, 3, 3], { padding: [1, 1], activation }),
      ].map((s) => ({ ...s, grad: false }))
    ),
    ...[6, 8].flatMap((W) => [
      sample([1, 8, 3, W], [8, 8, 3, 3], { padding: [1, 1] }),
      withoutBias(sample([1, 16, 1, W], [5, 16, 3, 3], { padding: [1, 1] })),
      withoutBias(sample([1, 5, 1, W], [16, 5, 3, 3], { padding: [1, 1] })),
    ]),
    // No channels: the bias is all there is.
    sample([2, 0, 4, 4], [3, 0, 3, 3], { activation: "sigmoid" }),
  ],
});

function withoutBias(sample: Sample<ConvAttrs>): Sample<ConvAttrs> {
  return { ...sample, inputs: sample.inputs.slice(0, 2) };
}

function sample(
  x: readonly number[],
  w: readonly number[],
  attrs: Partial<ConvAttrs>,
): Sample<ConvAttrs> {
  const full: ConvAttrs = {
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
    ...attrs,
  };
  const [O, ...rest] = w as [number, number, number, number];
  return {
    inputs: [{ shape: x }, { shape: w }, { shape: [O] }],
    attrs: full,
    terms: Math.max(rest.reduce((n, s) => n * s, 1), x[0]! * x[2]! * x[3]!) + 1,
  };
}
