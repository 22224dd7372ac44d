/** @file Pooling layers. */

import { checkOptions } from "../../engine/arguments.ts";
import {
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  avgPool2d,
  maxPool2d,
  type Pair,
  type Tensor,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool, pythonSize } from "../module_text.ts";
import { checkPair } from "./_check.ts";

/** Options of {@linkcode AvgPool2d}. */
export interface AvgPool2dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: Pair;
  /** Padding on each side, at most half the window. Default 0. */
  padding?: Pair;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
  /** Whether padding counts as zeros in the average. Default true. */
  countIncludePad?: boolean;
}

/** Options of {@linkcode MaxPool2d}. */
export interface MaxPool2dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: Pair;
  /** Padding with −∞ on each side, at most half the window. Default 0. */
  padding?: Pair;
  /** Steps between the elements of the window. Default 1. */
  dilation?: Pair;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
}

/**
 * Largest element of each window: x [N, C, H, W] → y [N, C, OH, OW],
 * or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
 */
export class MaxPool2d extends Module {
  /** Size of the window. */
  readonly kernelSize: Pair;
  /** Steps of the window. */
  readonly stride: Pair;
  /** Padding on each side. */
  readonly padding: Pair;
  /** Steps between the elements of the window. */
  readonly dilation: Pair;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: Pair, options: MaxPool2dOptions = {}) {
    super();
    checkOptions("make MaxPool2d", options, "new nn.MaxPool2d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, dilation = 1, ceilMode = false } = options;
    const example = "new nn.MaxPool2d(2)";
    checkPair("MaxPool2d", kernelSize, { name: "kernelSize", min: 1, example });
    checkPair("MaxPool2d", stride, { name: "stride", min: 1 });
    checkPair("MaxPool2d", padding, { name: "padding", min: 0 });
    checkPair("MaxPool2d", dilation, { name: "dilation", min: 1 });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.dilation = dilation;
    this.ceilMode = ceilMode;
  }

  /** x [N, C, H, W] → y [N, C, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, ceilMode } = this;
    return maxPool2d(x, this.kernelSize, { stride, padding, dilation, ceilMode });
  }
  override extraRepr(): string {
    return `kernel_size=${pythonSize(this.kernelSize)}, stride=${pythonSize(this.stride)}, ` +
      `padding=${pythonSize(this.padding)}, dilation=${pythonSize(this.dilation)}, ` +
      `ceil_mode=${pythonBool(this.ceilMode)}`;
  }
}

/**
 * Mean of each window: x [N, C, H, W] → y [N, C, OH, OW],
 * or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
 */
export class AvgPool2d extends Module {
  /** Size of the window. */
  readonly kernelSize: Pair;
  /** Steps of the window. */
  readonly stride: Pair;
  /** Padding on each side. */
  readonly padding: Pair;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;
  /** Whether padding counts as zeros in the average. */
  readonly countIncludePad: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: Pair, options: AvgPool2dOptions = {}) {
    super();
    checkOptions("make AvgPool2d", options, "new nn.AvgPool2d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, ceilMode = false } = options;
    const example = "new nn.AvgPool2d(2)";
    checkPair("AvgPool2d", kernelSize, { name: "kernelSize", min: 1, example });
    checkPair("AvgPool2d", stride, { name: "stride", min: 1 });
    checkPair("AvgPool2d", padding, { name: "padding", min: 0 });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.ceilMode = ceilMode;
    this.countIncludePad = options.countIncludePad ?? true;
  }

  /** x [N, C, H, W] → y [N, C, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, ceilMode, countIncludePad } = this;
    return avgPool2d(x, this.kernelSize, { stride, padding, ceilMode, countIncludePad });
  }
  override extraRepr(): string {
    return `kernel_size=${pythonSize(this.kernelSize)}, stride=${pythonSize(this.stride)}, ` +
      `padding=${pythonSize(this.padding)}`;
  }
}

/**
 * Means of windows chosen so that the output has `outputSize`: x [N, C, H, W] → y [N, C, OH, OW],
 * or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
 */
export class AdaptiveAvgPool2d extends Module {
  /** [OH, OW], or one number for both. */
  readonly outputSize: Pair;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(outputSize: Pair) {
    super();
    checkPair("AdaptiveAvgPool2d", outputSize, { name: "outputSize", min: 1 });
    this.outputSize = outputSize;
  }

  /** x [N, C, H, W] → y [N, C, OH, OW] */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
  override extraRepr(): string {
    return `output_size=${pythonSize(this.outputSize)}`;
  }
}

/**
 * Largest elements of windows chosen so that the output has `outputSize`: x [N, C, H, W] → y [N, C, OH, OW],
 * or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
 */
export class AdaptiveMaxPool2d extends Module {
  /** [OH, OW], or one number for both. */
  readonly outputSize: Pair;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(outputSize: Pair) {
    super();
    checkPair("AdaptiveMaxPool2d", outputSize, { name: "outputSize", min: 1 });
    this.outputSize = outputSize;
  }

  /** x [N, C, H, W] → y [N, C, OH, OW] */
  override forward(x: Tensor): Tensor {
    return adaptiveMaxPool2d(x, this.outputSize);
  }
  override extraRepr(): string {
    return `output_size=${pythonSize(this.outputSize)}`;
  }
}
