/** Two-dimensional convolution of NCHW tensors and its gradients. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import type { Kernel } from "../kernels/kernel.ts";
import {
  convForwardKernel,
  convInputGradKernel,
  type ConvSpec,
  convWeightGradKernel,
} from "../kernels/conv.ts";
import type { Tile } from "../kernels/gemm.ts";
import { defineOp, type Op, run, type Sample } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { contiguousStrides, show } from "../shape.ts";
import { type GemmSize, launchGemm, planGemm } from "./gemm_plan.ts";
import { fill } from "./fill.ts";
import { plain } from "./launch_pointwise.ts";
import { sum } from "./reduce.ts";

/** Attributes of {@linkcode conv2d}, normalised to pairs [height, width]. */
export interface ConvAttrs {
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly groups: number;
}

interface Sizes {
  readonly B: number;
  readonly C: number;
  readonly O: number;
  readonly H: number;
  readonly W: number;
  readonly OH: number;
  readonly OW: number;
  readonly KH: number;
  readonly KW: number;
}

/** Output size of a window sliding over `size` with padding on both sides. */
export function slidingSize(
  size: number,
  { kernel, stride, padding, dilation }: {
    kernel: number;
    stride: number;
    padding: number;
    dilation: number;
  },
): number {
  return Math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
}

function sizesOf(x: readonly number[], w: readonly number[], attrs: ConvAttrs): Sizes {
  const [B, CG, H, W] = x as [number, number, number, number];
  const [OG, C, KH, KW] = w as [number, number, number, number];
  const out = (size: number, kernel: number, d: 0 | 1) =>
    slidingSize(size, {
      kernel,
      stride: attrs.stride[d],
      padding: attrs.padding[d],
      dilation: attrs.dilation[d],
    });
  void CG;
  return { B, C, O: OG / attrs.groups, H, W, OH: out(H, KH, 0), OW: out(W, KW, 1), KH, KW };
}

function paramsOf(s: Sizes, attrs: ConvAttrs): Record<string, number> {
  return {
    C: s.C,
    O: s.O,
    groups: attrs.groups,
    H: s.H,
    W: s.W,
    OH: s.OH,
    OW: s.OW,
    KH: s.KH,
    KW: s.KW,
    stride_h: attrs.stride[0],
    stride_w: attrs.stride[1],
    pad_h: attrs.padding[0],
    pad_w: attrs.padding[1],
    dil_h: attrs.dilation[0],
    dil_w: attrs.dilation[1],
  };
}

/** One product of the three, on the shared core. */
function product(
  build: (spec: ConvSpec, tile: Tile) => Kernel,
  run: {
    spec: ConvSpec;
    size: GemmSize;
    attrs: ConvAttrs;
    sizes: Sizes;
    inputs: readonly DeviceArray[];
    output(splits: number): DeviceArray;
  },
): DeviceArray {
  const planned = planGemm(run.size);
  const plan = run.spec.shares ? planned : { ...planned, splits: 1 };
  const y = run.output(plan.splits);
  launchGemm(build(run.spec, plan.tile), {
    size: run.size,
    plan,
    buffers: [...run.inputs, y].map((a) => operand(a).binding),
    params: paramsOf(run.sizes, run.attrs),
    cost: {
      flops: 2 * run.size.batch * run.size.M * run.size.N * run.size.K,
      bytes: run.inputs.reduce((n, a) => n + a.bytes, y.bytes),
    },
  });
  return y;
}

/** The dtype of a checked input. */
function floatOf({ dtype }: Spec): "f32" | "f16" {
  return dtype === "f16" ? "f16" : "f32";
}

function isPadded(attrs: ConvAttrs): boolean {
  return attrs.padding[0] > 0 || attrs.padding[1] > 0;
}

/** y[b, o] = bias[o] + sum over c, kh, kw of w[o, c, kh, kw] · x[b, c, …]; cross-correlation as in PyTorch. */
export const conv2d: Op<ConvAttrs> = defineOp<ConvAttrs>({
  name: "conv2d",
  check([x, w, bias], attrs) {
    for (const input of [x!, w!, ...(bias ? [bias] : [])]) {
      if (!isFloat(input.dtype) || input.dtype !== x!.dtype) {
        throw new TypeError(
          `Cannot conv2d dtypes ${x!.dtype} and ${input.dtype}: all must be the same float`,
        );
      }
    }
    if (x!.shape.length !== 4 || w!.shape.length !== 4) {
      throw new TypeError(
        `Cannot conv2d ${show(x!.shape)} with weight ${
          show(w!.shape)
        }: they must be [N, C, H, W] ` +
          "and [O, C / groups, KH, KW]",
      );
    }
    const { groups } = attrs;
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
    if (bias && (bias.shape.length !== 1 || bias.shape[0] !== O)) {
      throw new TypeError(
        `Cannot add bias ${show(bias.shape)} to ${O} channels: it must be [${O}]`,
      );
    }
    for (
      const [name, pair, least] of [
        ["stride", attrs.stride, 1],
        ["padding", attrs.padding, 0],
        ["dilation", attrs.dilation, 1],
      ] as const
    ) {
      if (pair.some((v) => !Number.isInteger(v) || v < least)) {
        throw new RangeError(
          `Cannot conv2d with ${name} ${show(pair)}: it must be whole numbers of at least ${least}`,
        );
      }
    }
    const s = sizesOf(x!.shape, w!.shape, attrs);
    if (s.OH < 1 || s.OW < 1) {
      throw new RangeError(
        `Cannot conv2d ${show(x!.shape)} with weight ${
          show(w!.shape)
        }: the padded input is smaller ` +
          "than the kernel",
      );
    }
    return [{ shape: [s.B, O, s.OH, s.OW], dtype: x!.dtype }];
  },
  forward(ctx, [x, w, bias], attrs, [out]) {
    const inputs = [plain(x!), plain(w!)];
    const s = sizesOf(x!.shape, w!.shape, attrs);
    ctx.save(...(ctx.needs[0] ? [inputs[1]!] : []), ...(ctx.needs[1] ? [inputs[0]!] : []));
    if (s.C === 0) return [fill(out!, 0)];
    return [
      product(convForwardKernel, {
        spec: { dtype: floatOf(out!), padded: isPadded(attrs), bias: bias !== undefined },
        size: { M: s.O, N: s.B * s.OH * s.OW, K: s.C * s.KH * s.KW, batch: attrs.groups },
        attrs,
        sizes: s,
        inputs: bias ? [...inputs, plain(bias)] : inputs,
        output: () => DeviceArray.empty(out!, "conv2d"),
      }),
    ];
  },
  backward(ctx, [grad], attrs) {
    const dy = plain(grad!);
    const [xs, ws] = [ctx.inputs[0]!, ctx.inputs[1]!];
    const s = sizesOf(xs.shape, ws.shape, attrs);
    const saved = [...ctx.saved];
    const dx = ctx.needs[0]
      ? product(convInputGradKernel, {
        spec: {
          dtype: floatOf(xs),
          padded: isPadded(attrs),
          unitStride: attrs.stride[0] === 1 && attrs.stride[1] === 1,
        },
        size: { M: s.C, N: s.B * s.H * s.W, K: s.O * s.KH * s.KW, batch: attrs.groups },
        attrs,
        sizes: s,
        inputs: [dy, saved.shift()!],
        output: () => DeviceArray.empty(xs, "conv2d dx"),
      })
      : null;
    const dw = ctx.needs[1]
      ? addShares(
        product(convWeightGradKernel, {
          spec: { dtype: floatOf(xs), padded: isPadded(attrs), shares: true },
          size: { M: s.O, N: s.C * s.KH * s.KW, K: s.B * s.OH * s.OW, batch: attrs.groups },
          attrs,
          sizes: s,
          inputs: [dy, saved.shift()!],
          output: (splits) =>
            DeviceArray.empty({ shape: [splits, ...ws.shape], dtype: "f32" }, "conv2d dw"),
        }),
        ws.shape,
      )
      : null;
    const grads = [dx, dw];
    if (ctx.inputs[2]) grads.push(ctx.needs[2] ? run(sum, [dy], { dim: [0, 2, 3] }) : null);
    return grads;
  },
  reference([x, w, bias], attrs) {
    const s = sizesOf(x!.shape, w!.shape, attrs);
    return [
      hostFrom([s.B, w!.shape[0]!, s.OH, s.OW], (at) => {
        const [b, o, oh, ow] = at as [number, number, number, number];
        const group = Math.floor(o / s.O);
        let total = bias ? bias.data[o]! : 0;
        for (let c = 0; c < s.C; c++) {
          for (let kh = 0; kh < s.KH; kh++) {
            for (let kw = 0; kw < s.KW; kw++) {
              const ih = oh * attrs.stride[0] - attrs.padding[0] + kh * attrs.dilation[0];
              const iw = ow * attrs.stride[1] - attrs.padding[1] + kw * attrs.dilation[1];
              if (ih < 0 || iw < 0 || ih >= s.H || iw >= s.W) continue;
              total += hostAt(w!, [o, c, kh, kw]) * hostAt(x!, [b, group * s.C + c, ih, iw]);
            }
          }
        }
        return total;
      }),
    ];
  },
  samples: [
    sample([2, 3, 6, 5], [4, 3, 3, 3], { padding: [1, 1] }),
    sample([1, 1, 5, 5], [1, 1, 1, 1], {}),
    sample([2, 2, 9, 8], [3, 2, 3, 2], { stride: [2, 3] }),
    sample([1, 1, 19, 17], [5, 1, 11, 11], { stride: [4, 4], padding: [2, 2] }),
    sample([2, 4, 7, 7], [6, 2, 3, 3], { groups: 2, padding: [1, 0] }),
    sample([1, 3, 8, 8], [3, 1, 3, 3], { groups: 3, padding: [1, 1], stride: [2, 2] }),
    sample([1, 2, 9, 9], [2, 2, 3, 3], { dilation: [2, 3], padding: [2, 1] }),
    sample([3, 9, 4, 4], [10, 9, 1, 1], {}),
    sample([0, 2, 4, 4], [3, 2, 3, 3], {}),
  ],
});

/** The sum over the leading dimension of shares. */
function addShares(shares: DeviceArray, shape: readonly number[]): DeviceArray {
  if (shares.shape[0] === 1) return shares.view(shape, contiguousStrides(shape));
  return run(sum, [shares], { dim: 0 });
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
