/** @file One-dimensional and transposed convolution layers. */

import { checkOptions, checkWhole, noneIfValid } from "../../engine/arguments.ts";
import {
  conv1d,
  convTranspose1d,
  convTranspose2d,
  type Pair,
  type Tensor,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";
import type { Parameter } from "../parameter.ts";
import { affineParameters } from "./_affine.ts";
import { checkGroups, checkPair, checkSizes } from "./_check.ts";

/** Options of {@linkcode Conv1d}. */
export interface Conv1dLayerOptions {
  /** Size of the window. */
  kernelSize: number;
  /** Steps of the window. Default 1. */
  stride?: number;
  /** Zeros on both sides, or [before, after], or "same" (stride 1 only), or "valid" for none. Default 0. */
  padding?: Pair | "same" | "valid";
  /** Steps between the elements of the window. Default 1. */
  dilation?: number;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Cross-correlation of x [N, inChannels, L] with weight [outChannels, inChannels / groups, K], plus
 * bias [outChannels] → y [N, outChannels, OL]; all without N for one sample.
 *
 * Weight and bias start as in https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html
 */
export class Conv1d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** Size of the window. */
  readonly kernelSize: number;
  /** Steps of the window. */
  readonly stride: number;
  /** Zeros around the input. */
  readonly padding: Pair | "same";
  /** Steps between the elements of the window. */
  readonly dilation: number;
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [outChannels, inChannels / groups, K] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: Conv1dLayerOptions) {
    super();
    checkOptions("make Conv1d", options, "new nn.Conv1d(4, 8, { kernelSize: 3 })");
    const { kernelSize, stride = 1, dilation = 1, groups = 1 } = options;
    const padding = noneIfValid("make Conv1d", options.padding ?? 0);
    checkGroups("Conv1d", inChannels, outChannels, groups);
    checkSizes("Conv1d", { kernelSize, stride, dilation });
    if (padding !== "same") checkPair("Conv1d", padding, { name: "padding", min: 0 });
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.dilation = dilation;
    this.groups = groups;
    const shape = [outChannels, inChannels / groups, kernelSize];
    const { weight, bias } = affineParameters(shape, options);
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, L] → y [N, outChannels, OL] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    return conv1d(x, this.weight, { bias, stride, padding, dilation, groups });
  }
  override extraRepr(): string {
    const { padding, dilation, groups } = this;
    return `${this.inChannels}, ${this.outChannels}, kernel_size=(${this.kernelSize},), ` +
      `stride=(${this.stride},)` +
      (padding === "same"
        ? ", padding=same"
        : typeof padding === "number"
        ? (padding === 0 ? "" : `, padding=(${padding},)`)
        : `, padding=${pythonSize(padding)}`) +
      (dilation !== 1 ? `, dilation=(${dilation},)` : "") +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
}

/** Options of {@linkcode ConvTranspose2d}. */
export interface ConvTranspose2dOptions {
  /** Size of the window. */
  kernelSize: Pair;
  /** Steps of the window in the output. Default 1. */
  stride?: Pair;
  /** Rows and columns cut off on each side of the output. Default 0. */
  padding?: Pair;
  /** Rows and columns added below and to the right of the output. Default 0. */
  outputPadding?: Pair;
  /** Steps between the elements of the window. Default 1. */
  dilation?: Pair;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Transposed convolution of x [N, inChannels, H, W] with weight [inChannels, outChannels / groups, KH,
 * KW], plus bias [outChannels] → y [N, outChannels, OH, OW] with
 * OH = (H − 1) · stride − 2 · padding + dilation · (KH − 1) + outputPadding + 1; all without N for one image.
 *
 * Weight and bias start as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html
 */
export class ConvTranspose2d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** [height, width] of the window. */
  readonly kernelSize: readonly [number, number];
  /** Steps of the window in the output. */
  readonly stride: readonly [number, number];
  /** Rows and columns cut off the output. */
  readonly padding: readonly [number, number];
  /** Rows and columns added to the output. */
  readonly outputPadding: readonly [number, number];
  /** Steps between the elements of the window. */
  readonly dilation: readonly [number, number];
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [inChannels, outChannels / groups, KH, KW] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: ConvTranspose2dOptions) {
    super();
    const name = "ConvTranspose2d";
    checkOptions(`make ${name}`, options, `new nn.${name}(3, 8, { kernelSize: 3 })`);
    const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
    checkGroups(name, inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = checkPair(name, options.kernelSize, { name: "kernelSize", min: 1 });
    this.stride = checkPair(name, stride, { name: "stride", min: 1 });
    this.padding = checkPair(name, padding, { name: "padding", min: 0 });
    this.outputPadding = checkPair(name, outputPadding, { name: "outputPadding", min: 0 });
    this.dilation = checkPair(name, dilation, { name: "dilation", min: 1 });
    this.groups = groups;
    const shape = [inChannels, outChannels / groups, ...this.kernelSize];
    const { weight, bias } = affineParameters(shape, { ...options, biasSize: outChannels });
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, H, W] → y [N, outChannels, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, outputPadding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    const options = { bias, stride, padding, outputPadding, dilation, groups };
    return convTranspose2d(x, this.weight, options);
  }
  override extraRepr(): string {
    const { padding, outputPadding, dilation, groups } = this;
    const pair = (name: string, value: readonly number[], usual: number) =>
      value.some((v) => v !== usual) ? `, ${name}=${pythonSize(value)}` : "";
    return `${this.inChannels}, ${this.outChannels}, kernel_size=${pythonSize(this.kernelSize)}, ` +
      `stride=${pythonSize(this.stride)}` +
      pair("padding", padding, 0) +
      pair("dilation", dilation, 1) +
      pair("output_padding", outputPadding, 0) +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
}

/** Options of {@linkcode ConvTranspose1d}. */
export interface ConvTranspose1dLayerOptions {
  /** Size of the window. */
  kernelSize: number;
  /** Steps of the window in the output. Default 1. */
  stride?: number;
  /** Places cut off on each side of the output. Default 0. */
  padding?: number;
  /** Places added at the end of the output. Default 0. */
  outputPadding?: number;
  /** Steps between the elements of the window. Default 1. */
  dilation?: number;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Transposed convolution of x [N, inChannels, L] with weight [inChannels, outChannels / groups, K], plus
 * bias [outChannels] → y [N, outChannels, OL] with
 * OL = (L − 1) · stride − 2 · padding + dilation · (K − 1) + outputPadding + 1; all without N for one sample.
 *
 * Weight and bias start as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose1d.html
 */
export class ConvTranspose1d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** Size of the window. */
  readonly kernelSize: number;
  /** Steps of the window in the output. */
  readonly stride: number;
  /** Places cut off the output. */
  readonly padding: number;
  /** Places added to the output. */
  readonly outputPadding: number;
  /** Steps between the elements of the window. */
  readonly dilation: number;
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [inChannels, outChannels / groups, K] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: ConvTranspose1dLayerOptions) {
    super();
    const name = "ConvTranspose1d";
    checkOptions(`make ${name}`, options, `new nn.${name}(3, 8, { kernelSize: 3 })`);
    const { kernelSize, stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } =
      options;
    checkGroups(name, inChannels, outChannels, groups);
    checkSizes(name, { kernelSize, stride, dilation });
    checkWhole(`make ${name}`, { padding, outputPadding }, 0);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.outputPadding = outputPadding;
    this.dilation = dilation;
    this.groups = groups;
    const shape = [inChannels, outChannels / groups, kernelSize];
    const { weight, bias } = affineParameters(shape, { ...options, biasSize: outChannels });
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, L] → y [N, outChannels, OL] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, outputPadding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    const options = { bias, stride, padding, outputPadding, dilation, groups };
    return convTranspose1d(x, this.weight, options);
  }
  override extraRepr(): string {
    const { padding, outputPadding, dilation, groups } = this;
    const unless = (name: string, value: number, usual: number) =>
      value === usual ? "" : `, ${name}=(${value},)`;
    return `${this.inChannels}, ${this.outChannels}, kernel_size=(${this.kernelSize},), ` +
      `stride=(${this.stride},)` +
      unless("padding", padding, 0) +
      unless("dilation", dilation, 1) +
      unless("output_padding", outputPadding, 0) +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
}
