/** Transposed two-dimensional convolution: the gradient of a convolution as an op of its own. */

import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { show } from "../shape.ts";
import { biasGrad, checkConv, eachTap, hostIndex } from "./conv.ts";
import { convForward, convInputGrad, convWeightGrad, type Window } from "./conv_core.ts";
import { plain } from "./launch_pointwise.ts";

/** Attributes of {@linkcode convTranspose2d}, normalised to pairs [height, width]. */
export interface ConvTransposeAttrs extends Window {
  /** Rows and columns added below and to the right of the output. */
  readonly outputPadding: readonly [number, number];
}

function outputShape(
  x: readonly number[],
  w: readonly number[],
  { stride, padding, dilation, outputPadding, groups }: ConvTransposeAttrs,
): number[] {
  const out = (d: 0 | 1) =>
    (x[2 + d]! - 1) * stride[d] - 2 * padding[d] + dilation[d] * (w[2 + d]! - 1) +
    outputPadding[d] + 1;
  return [x[0]!, w[1]! * groups, out(0), out(1)];
}

/**
 * y = the gradient that a convolution with weight w [C, O / groups, KH, KW] has for its input where its
 * output has x [N, C, H, W], plus bias [O].
 */
export const convTranspose2d: Op<ConvTransposeAttrs> = defineOp<ConvTransposeAttrs>({
  name: "convTranspose2d",
  check(inputs, attrs) {
    const [x, w] = inputs;
    const { groups, outputPadding, stride, dilation } = attrs;
    checkConv("convTranspose2d", inputs, {
      attrs,
      channels: (w!.shape[1] ?? 0) * groups,
      weight: "[C, O / groups, KH, KW]",
    });
    const C = w!.shape[0]!;
    if (!Number.isInteger(groups) || groups < 1 || C % groups !== 0 || x!.shape[1] !== C) {
      throw new TypeError(
        `Cannot convTranspose2d ${show(x!.shape)} with weight ${show(w!.shape)} in ${groups} ` +
          `groups: the weight takes ${C} input channels, the input has ${x!.shape[1]}, and they ` +
          "must divide into the groups",
      );
    }
    for (const d of [0, 1] as const) {
      const most = Math.max(stride[d], dilation[d]) - 1;
      if (!Number.isInteger(outputPadding[d]) || outputPadding[d] < 0 || outputPadding[d] > most) {
        throw new RangeError(
          `Cannot convTranspose2d with outputPadding ${
            show(outputPadding)
          }: it must be below the ` +
            `larger of stride ${show(stride)} and dilation ${show(dilation)}`,
        );
      }
    }
    const shape = outputShape(x!.shape, w!.shape, attrs);
    if (shape[2]! < 1 || shape[3]! < 1) {
      throw new RangeError(
        `Cannot convTranspose2d ${show(x!.shape)} with weight ${
          show(w!.shape)
        }: the padding leaves ` +
          "nothing of the output",
      );
    }
    return [{ shape, dtype: x!.dtype }];
  },
  forward(ctx, [x, w, bias], attrs, [out]) {
    const inputs = { dy: plain(x!), w: plain(w!), bias: bias && plain(bias) };
    ctx.save(...(ctx.needs[0] ? [inputs.w] : []), ...(ctx.needs[1] ? [inputs.dy] : []));
    return [convInputGrad(inputs, attrs, out!.shape)];
  },
  backward(ctx, [grad], attrs) {
    const dy = plain(grad!);
    const [xs, ws] = [ctx.inputs[0]!, ctx.inputs[1]!];
    const saved = [...ctx.saved];
    const w = ctx.needs[0] ? saved.shift()! : null;
    const x = ctx.needs[1] ? saved.shift()! : null;
    const [dx, dw, dBias] = ctx.wanted;
    const grads = [
      w && dx ? convForward({ x: dy, w }, attrs, xs.shape) : null,
      x && dw ? convWeightGrad({ x: dy, dy: x }, attrs, ws.shape) : null,
    ];
    if (ctx.inputs[2]) grads.push(dBias ? biasGrad(dy, dBias) : null);
    return grads;
  },
  reference([x, w, bias], attrs) {
    const y: HostArray = hostFrom(
      outputShape(x!.shape, w!.shape, attrs),
      ([, o]) => bias ? bias.data[o!]! : 0,
    );
    eachTap({ x: y.shape, w: w!.shape, y: x!.shape }, attrs, (yAt, wAt, xAt) => {
      y.data[hostIndex(y, yAt)]! += hostAt(w!, wAt) * hostAt(x!, xAt);
    });
    return [y];
  },
  samples: [
    sample([2, 3, 4, 5], [3, 2, 3, 3], { padding: [1, 1] }),
    sample([1, 2, 4, 3], [2, 3, 3, 2], { stride: [2, 3], outputPadding: [1, 2] }),
    sample([1, 4, 3, 3], [4, 2, 3, 3], { groups: 2, stride: [2, 2], padding: [1, 0] }),
    sample([2, 2, 3, 4], [2, 1, 3, 3], { groups: 2, stride: [2, 1], padding: [1, 1] }),
    sample([1, 2, 5, 6], [2, 1, 3, 3], { groups: 2, padding: [1, 1] }),
    // Depthwise by blocks of 2 x 2.
    sample([2, 2, 3, 6], [2, 1, 3, 3], { groups: 2, stride: [2, 2], padding: [1, 0] }),
    sample([1, 2, 4, 6], [2, 1, 5, 5], {
      groups: 2,
      stride: [2, 2],
      padding: [2, 1],
      outputPadding: [1, 0],
    }),
    sample([1, 2, 3, 3], [2, 2, 3, 3], { dilation: [2, 3], outputPadding: [1, 2] }),
    sample([1, 1, 2, 2], [1, 1, 1, 1], { stride: [3, 2] }),
    // More than the 8 rows of the smallest tile, with few and with many columns.
    sample([1, 2, 1, 2], [2, 9, 2, 2], {}),
    sample([1, 2, 4, 8], [2, 9, 3, 3], { padding: [1, 1] }),
    sample([1, 1, 8, 6], [1, 9, 1, 3], {}),
    sample([0, 2, 3, 3], [2, 2, 3, 3], {}),
    // Shares of K on a GPU, merged by fours and one by one.
    ...[
      sample([2, 8, 1, 5], [8, 3, 8, 8], {}),
      sample([1, 8, 3, 4], [8, 3, 8, 8], {}),
      // Several patches of the kernel for few channels.
      sample([1, 5, 9, 34], [5, 9, 3, 3], { padding: [1, 1] }),
    ].map((s) => ({ ...s, grad: false })),
    // All channels of its workgroups, stored by fours and one by one.
    ...[6, 8].flatMap((W) => [
      sample([1, 4, 3, W], [4, 8, 3, 3], { padding: [1, 1] }),
      sample([1, 4, 2, W], [4, 16, 3, 3], { padding: [1, 1] }),
    ]),
  ],
});

function sample(
  x: readonly number[],
  w: readonly number[],
  attrs: Partial<ConvTransposeAttrs>,
): Sample<ConvTransposeAttrs> {
  const full: ConvTransposeAttrs = {
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    outputPadding: [0, 0],
    groups: 1,
    ...attrs,
  };
  const [, ...taps] = outputShape(x, w, full);
  const [C, O, KH, KW] = w as [number, number, number, number];
  return {
    inputs: [{ shape: x }, { shape: w }, { shape: [O * full.groups] }],
    attrs: full,
    terms: Math.max(C * KH * KW, x[0]! * taps[1]! * taps[2]!) + 1,
  };
}
