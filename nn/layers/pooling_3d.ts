/** @file Pooling layers of volumes. */

import { checkOptions } from "../../engine/arguments.ts";
import {
  adaptiveAvgPool3d,
  adaptiveMaxPool3d,
  avgPool3d,
  maxPool3d,
  type Tensor,
  type Triple,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool, pythonSize } from "../module_text.ts";
import { checkTriple } from "./_check.ts";

/** Options of {@linkcode MaxPool3d}. */
export interface MaxPool3dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: Triple;
  /** Padding with −∞ on each side, at most half the window. Default 0. */
  padding?: Triple;
  /** Steps between the elements of the window. Default 1. */
  dilation?: Triple;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
}

/** Options of {@linkcode AvgPool3d}. */
export interface AvgPool3dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: Triple;
  /** Padding on each side, at most half the window. Default 0. */
  padding?: Triple;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
  /** Whether padding counts as zeros in the average. Default true. */
  countIncludePad?: boolean;
}

/**
 * Largest element of each window: x [N, C, D, H, W] → y [N, C, OD, OH, OW], or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool3d.html
 */
export class MaxPool3d extends Module {
  /** Size of the window. */
  readonly kernelSize: Triple;
  /** Steps of the window. */
  readonly stride: Triple;
  /** Padding on each side. */
  readonly padding: Triple;
  /** Steps between the elements of the window. */
  readonly dilation: Triple;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: Triple, options: MaxPool3dOptions = {}) {
    super();
    checkOptions("make MaxPool3d", options, "new nn.MaxPool3d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, dilation = 1, ceilMode = false } = options;
    checkTriple("MaxPool3d", kernelSize, { name: "kernelSize", min: 1 });
    checkTriple("MaxPool3d", stride, { name: "stride", min: 1 });
    checkTriple("MaxPool3d", padding, { name: "padding", min: 0 });
    checkTriple("MaxPool3d", dilation, { name: "dilation", min: 1 });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.dilation = dilation;
    this.ceilMode = ceilMode;
  }

  /** x [N, C, D, H, W] → y [N, C, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, ceilMode } = this;
    return maxPool3d(x, this.kernelSize, { stride, padding, dilation, ceilMode });
  }
  override extraRepr(): string {
    return `kernel_size=${pythonSize(this.kernelSize)}, stride=${pythonSize(this.stride)}, ` +
      `padding=${pythonSize(this.padding)}, dilation=${pythonSize(this.dilation)}, ` +
      `ceil_mode=${pythonBool(this.ceilMode)}`;
  }
}

/**
 * Mean of each window: x [N, C, D, H, W] → y [N, C, OD, OH, OW], or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html
 */
export class AvgPool3d extends Module {
  /** Size of the window. */
  readonly kernelSize: Triple;
  /** Steps of the window. */
  readonly stride: Triple;
  /** Padding on each side. */
  readonly padding: Triple;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;
  /** Whether padding counts as zeros in the average. */
  readonly countIncludePad: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: Triple, options: AvgPool3dOptions = {}) {
    super();
    checkOptions("make AvgPool3d", options, "new nn.AvgPool3d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, ceilMode = false } = options;
    checkTriple("AvgPool3d", kernelSize, { name: "kernelSize", min: 1 });
    checkTriple("AvgPool3d", stride, { name: "stride", min: 1 });
    checkTriple("AvgPool3d", padding, { name: "padding", min: 0 });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.ceilMode = ceilMode;
    this.countIncludePad = options.countIncludePad ?? true;
  }

  /** x [N, C, D, H, W] → y [N, C, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    const { stride, padding, ceilMode, countIncludePad } = this;
    return avgPool3d(x, this.kernelSize, { stride, padding, ceilMode, countIncludePad });
  }
  override extraRepr(): string {
    return `kernel_size=${pythonSize(this.kernelSize)}, stride=${pythonSize(this.stride)}, ` +
      `padding=${pythonSize(this.padding)}`;
  }
}

/**
 * Means of windows chosen so that the output has `outputSize`: x [N, C, D, H, W] → y [N, C, OD, OH, OW], or both
 * without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
 */
export class AdaptiveAvgPool3d extends Module {
  /** [OD, OH, OW], or one number for all. */
  readonly outputSize: Triple;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(outputSize: Triple) {
    super();
    checkTriple("AdaptiveAvgPool3d", outputSize, { name: "outputSize", min: 1 });
    this.outputSize = outputSize;
  }

  /** x [N, C, D, H, W] → y [N, C, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool3d(x, this.outputSize);
  }
  override extraRepr(): string {
    return `output_size=${pythonSize(this.outputSize)}`;
  }
}

/**
 * Largest elements of windows chosen so that the output has `outputSize`: x [N, C, D, H, W] → y [N, C, OD, OH, OW],
 * or both without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool3d.html
 */
export class AdaptiveMaxPool3d extends Module {
  /** [OD, OH, OW], or one number for all. */
  readonly outputSize: Triple;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(outputSize: Triple) {
    super();
    checkTriple("AdaptiveMaxPool3d", outputSize, { name: "outputSize", min: 1 });
    this.outputSize = outputSize;
  }

  /** x [N, C, D, H, W] → y [N, C, OD, OH, OW] */
  override forward(x: Tensor): Tensor {
    return adaptiveMaxPool3d(x, this.outputSize);
  }
  override extraRepr(): string {
    return `output_size=${pythonSize(this.outputSize)}`;
  }
}
