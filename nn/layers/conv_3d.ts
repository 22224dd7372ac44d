/** @file Convolution layers of volumes. */

import { checkOptions, noneIfValid } from "../../engine/arguments.ts";
import { conv3d, convTranspose3d, type Tensor, type Triple } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";
import type { Parameter } from "../parameter.ts";
import { affineParameters } from "./_affine.ts";
import { checkGroups, checkTriple } from "./_check.ts";

/** Options of {@linkcode Conv3d}. */
export interface Conv3dLayerOptions {
  /** Size of the window. */
  kernelSize: Triple;
  /** Steps of the window. Default 1. */
  stride?: Triple;
  /** Zeros around the input on both sides, or "same" (stride 1 only), or "valid" for none. Default 0. */
  padding?: Triple | "same" | "valid";
  /** Steps between the elements of the window. Default 1. */
  dilation?: Triple;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Cross-correlation of x [N, inChannels, D, H, W] with weight [outChannels, inChannels / groups, KD, KH, KW], plus
 * bias [outChannels] → y [N, outChannels, OD, OH, OW]; all without N for one volume.
 *
 * OD = ⌊(D + 2 · padding − dilation · (KD − 1) − 1) / stride⌋ + 1. Weight and bias start as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv3d.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const conv = new nn.Conv3d(1, 8, { kernelSize: [1, 3, 3], padding: [0, 1, 1] });
 * console.log(conv.forward(randn([2, 1, 4, 8, 8])).shape); // [2, 8, 4, 8, 8]
 * ```
 */
export class Conv3d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** [depth, height, width] of the window. */
  readonly kernelSize: readonly [number, number, number];
  /** Steps of the window. */
  readonly stride: readonly [number, number, number];
  /** Zeros around the input. */
  readonly padding: readonly [number, number, number] | "same";
  /** Steps between the elements of the window. */
  readonly dilation: readonly [number, number, number];
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [outChannels, inChannels / groups, KD, KH, KW] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: Conv3dLayerOptions) {
    super();
    checkOptions("make Conv3d", options, "new nn.Conv3d(3, 8, { kernelSize: 3 })");
    const { stride = 1, dilation = 1, groups = 1 } = options;
    const padding = noneIfValid("make Conv3d", options.padding ?? 0);
    checkGroups("Conv3d", inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = checkTriple("Conv3d", options.kernelSize, { name: "kernelSize", min: 1 });
    this.stride = checkTriple("Conv3d", stride, { name: "stride", min: 1 });
    this.padding = padding === "same"
      ? padding
      : checkTriple("Conv3d", padding, { name: "padding", min: 0 });
    this.dilation = checkTriple("Conv3d", dilation, { name: "dilation", min: 1 });
    this.groups = groups;
    const shape = [outChannels, inChannels / groups, ...this.kernelSize];
    const { weight, bias } = affineParameters(shape, options);
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, D, H, W] → y [N, outChannels, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    return conv3d(x, this.weight, { bias, stride, padding, dilation, groups });
  }
  override extraRepr(): string {
    const { padding, dilation, groups } = this;
    return `${this.inChannels}, ${this.outChannels}, kernel_size=${pythonSize(this.kernelSize)}, ` +
      `stride=${pythonSize(this.stride)}` +
      (padding === "same" ? ", padding=same" : unless("padding", padding, 0)) +
      unless("dilation", dilation, 1) +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
}

/** A list as `extraRepr` prints it, if it is not the usual one. */
function unless(name: string, value: readonly number[], usual: number): string {
  return value.some((v) => v !== usual) ? `, ${name}=${pythonSize(value)}` : "";
}

/** Options of {@linkcode ConvTranspose3d}. */
export interface ConvTranspose3dLayerOptions {
  /** Size of the window. */
  kernelSize: Triple;
  /** Steps of the window in the output. Default 1. */
  stride?: Triple;
  /** Places cut off on each side of the output. Default 0. */
  padding?: Triple;
  /** Places added at the end of the output. Default 0. */
  outputPadding?: Triple;
  /** Steps between the elements of the window. Default 1. */
  dilation?: Triple;
  /** Groups of channels convolved apart. Default 1. */
  groups?: number;
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * Transposed convolution of x [N, inChannels, D, H, W] with weight [inChannels, outChannels / groups, KD, KH, KW],
 * plus bias [outChannels] → y [N, outChannels, OD, OH, OW] with
 * OD = (D − 1) · stride − 2 · padding + dilation · (KD − 1) + outputPadding + 1; all without N for one volume.
 *
 * Weight and bias start as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose3d.html
 */
export class ConvTranspose3d extends Module {
  /** Channels of an input. */
  readonly inChannels: number;
  /** Channels of an output. */
  readonly outChannels: number;
  /** [depth, height, width] of the window. */
  readonly kernelSize: readonly [number, number, number];
  /** Steps of the window in the output. */
  readonly stride: readonly [number, number, number];
  /** Places cut off the output. */
  readonly padding: readonly [number, number, number];
  /** Places added to the output. */
  readonly outputPadding: readonly [number, number, number];
  /** Steps between the elements of the window. */
  readonly dilation: readonly [number, number, number];
  /** Groups of channels convolved apart. */
  readonly groups: number;
  /** [inChannels, outChannels / groups, KD, KH, KW] */
  weight: Parameter;
  /** [outChannels] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is out of range, or the groups do not divide the channels. */
  constructor(inChannels: number, outChannels: number, options: ConvTranspose3dLayerOptions) {
    super();
    const name = "ConvTranspose3d";
    checkOptions(`make ${name}`, options, `new nn.${name}(3, 8, { kernelSize: 3 })`);
    const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
    checkGroups(name, inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = checkTriple(name, options.kernelSize, { name: "kernelSize", min: 1 });
    this.stride = checkTriple(name, stride, { name: "stride", min: 1 });
    this.padding = checkTriple(name, padding, { name: "padding", min: 0 });
    this.outputPadding = checkTriple(name, outputPadding, { name: "outputPadding", min: 0 });
    this.dilation = checkTriple(name, dilation, { name: "dilation", min: 1 });
    this.groups = groups;
    const shape = [inChannels, outChannels / groups, ...this.kernelSize];
    const { weight, bias } = affineParameters(shape, { ...options, biasSize: outChannels });
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, inChannels, D, H, W] → y [N, outChannels, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, outputPadding, dilation, groups } = this;
    const bias = this.bias ?? undefined;
    const options = { bias, stride, padding, outputPadding, dilation, groups };
    return convTranspose3d(x, this.weight, options);
  }
  override extraRepr(): string {
    const { padding, outputPadding, dilation, groups } = this;
    return `${this.inChannels}, ${this.outChannels}, kernel_size=${pythonSize(this.kernelSize)}, ` +
      `stride=${pythonSize(this.stride)}` +
      unless("padding", padding, 0) +
      unless("dilation", dilation, 1) +
      unless("output_padding", outputPadding, 0) +
      (groups !== 1 ? `, groups=${groups}` : "") +
      (this.bias ? "" : ", bias=False");
  }
}
