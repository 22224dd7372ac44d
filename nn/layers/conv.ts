/** @file Convolution layers. */

import { checkOptions, noneIfValid } from "../../engine/arguments.ts";
import {
  conv2d,
  type OutputActivation,
  type Pair,
  samePadding,
  type Sides,
  type Tensor,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";
import type { Parameter } from "../parameter.ts";
import { affineParameters } from "./_affine.ts";
import { checkGroups, checkPair } from "./_check.ts";

/** Options of {@linkcode Conv2d}. */
export interface Conv2dOptions {
  /** Size of the window. */
  kernelSize: Pair;
  /** Steps of the window. Default 1. */
  stride?: Pair;
  /**
   * Zeros around the input, on both sides or on each, or "same" (stride 1 only), or "valid" for none.
   * Default 0.
   */
  padding?: Pair | Sides | "same" | "valid";
  /** Steps between the elements of the window. Default 1. */
  dilation?: Pair;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Cross-correlation of x [N, inChannels, H, W] with weight [outChannels, inChannels / groups, KH, KW],
 * plus bias [outChannels] → y [N, outChannels, OH, OW]; all without N for one image.
 *
 * OH = ⌊(H + 2 · padding − dilation · (KH − 1) − 1) / stride⌋ + 1. Weight and bias start uniform in
 * ±1 / √(inChannels / groups · KH · KW), as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const conv = new nn.Conv2d(1, 8, { kernelSize: 3, padding: 1 });
 * console.log(conv.forward(randn([2, 1, 28, 28])).shape); // [2, 8, 28, 28]
 * ```
 */
export class Conv2d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** [height, width] of the window. */
  readonly kernelSize: readonly [number, number];
  /** Steps of the window. */
  readonly stride: readonly [number, number];
  /** Zeros around the input. */
  readonly padding: readonly [number, number] | Sides | "same";
  /** Steps between the elements of the window. */
  readonly dilation: readonly [number, number];
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [outChannels, inChannels / groups, KH, KW] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: Conv2dOptions) {
    super();
    checkOptions("make Conv2d", options, "new nn.Conv2d(3, 8, { kernelSize: 3 })");
    const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
    checkGroups("Conv2d", inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = checkPair("Conv2d", options.kernelSize, { name: "kernelSize", min: 1 });
    this.stride = checkPair("Conv2d", stride, { name: "stride", min: 1 });
    this.padding = checkPadding(padding);
    this.dilation = checkPair("Conv2d", dilation, { name: "dilation", min: 1 });
    this.groups = groups;
    const shape = [outChannels, inChannels / groups, ...this.kernelSize];
    const { weight, bias } = affineParameters(shape, options);
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, H, W] → y [N, outChannels, OH, OW], and the activation of that if one is given. */
  override forward(x: Tensor, { activation }: { activation?: OutputActivation } = {}): Tensor {
    const { stride, padding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    return conv2d(x, this.weight, { bias, stride, padding, dilation, groups, activation });
  }
  override extraRepr(): string {
    const { dilation, groups } = this;
    return `${this.inChannels}, ${this.outChannels}, kernel_size=${pythonSize(this.kernelSize)}, ` +
      `stride=${pythonSize(this.stride)}` +
      this.paddingRepr() +
      (dilation.some((d) => d !== 1) ? `, dilation=${pythonSize(dilation)}` : "") +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
  /** The padding as `extraRepr` prints it. */
  protected paddingRepr(): string {
    const { padding } = this;
    if (padding === "same") return ", padding=same";
    if ("top" in padding) {
      const { left, right, top, bottom } = padding;
      return `, padding=${pythonSize([left, right, top, bottom])}`;
    }
    return padding.some((p) => p !== 0) ? `, padding=${pythonSize(padding)}` : "";
  }
}

function checkPadding(given: Pair | Sides | "same" | "valid"): Conv2d["padding"] {
  const padding = noneIfValid("make Conv2d", given);
  if (padding === "same") return padding;
  if (typeof padding === "number" || !("top" in padding)) {
    return checkPair("Conv2d", padding, { name: "padding", min: 0 });
  }
  const { top, bottom, left, right } = padding;
  for (const sides of [[top, bottom], [left, right]] as const) {
    checkPair("Conv2d", sides, { name: "padding", min: 0 });
  }
  return { top, bottom, left, right };
}

/**
 * A {@linkcode Conv2d} with TensorFlow's "SAME" padding, computed from each input's size: OH = ⌈H /
 * stride⌉, and an odd zero goes below and to the right. timm's `tf_` models are made of it.
 *
 * Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
 */
export class Conv2dSame extends Conv2d {
  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: Omit<Conv2dOptions, "padding">) {
    super(inChannels, outChannels, { ...options, padding: 0 });
  }

  /**
   * x [N, inChannels, H, W] → y [N, outChannels, ⌈H / stride⌉, ⌈W / stride⌉], and the activation of that if
   * one is given.
   */
  override forward(x: Tensor, { activation }: { activation?: OutputActivation } = {}): Tensor {
    const { kernelSize, stride, dilation, groups } = this;
    const along = (d: 0 | 1) =>
      samePadding(x.shape.at(d - 2) ?? 1, {
        kernel: kernelSize[d],
        stride: stride[d],
        dilation: dilation[d],
      });
    const [[top, bottom], [left, right]] = [along(0), along(1)];
    const padding = { top, bottom, left, right };
    const bias = this.bias ?? undefined;
    return conv2d(x, this.weight, { bias, stride, padding, dilation, groups, activation });
  }
}
