/** @file Pooling along one dimension, by that of two. */

import { checkOptions } from "../../engine/arguments.ts";
import {
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  avgPool2d,
  maxPool2d,
  type Tensor,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool } from "../module_text.ts";
import { checkSizes } from "./_check.ts";

/** Options of {@linkcode MaxPool1d}. */
export interface MaxPool1dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: number;
  /** Padding with −∞ on each side, at most half the window. Default 0. */
  padding?: number;
  /** Steps between the elements of the window. Default 1. */
  dilation?: number;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
}

/** Options of {@linkcode AvgPool1d}. */
export interface AvgPool1dOptions {
  /** Steps of the window. Default: the window's size. */
  stride?: number;
  /** Padding with zeros on each side, at most half the window. Default 0. */
  padding?: number;
  /** Whether a last window may reach over the end. Default false. */
  ceilMode?: boolean;
  /** Whether padding counts as zeros in the average. Default true. */
  countIncludePad?: boolean;
}

/** x [N, C, L] or [C, L] as an image of one row, through `pool`. */
function alongRows(layer: string, x: Tensor, pool: (image: Tensor) => Tensor): Tensor {
  if (![2, 3].includes(x.ndim)) {
    throw new TypeError(
      `Cannot pool [${x.shape.join(", ")}] by ${layer}: it must be [N, C, L] or [C, L]`,
    );
  }
  return pool(x.unsqueeze(-2)).squeeze(-2);
}

/** Largest element of each window: x [N, C, L] → y [N, C, OL], or both without N. */
export class MaxPool1d extends Module {
  /** Size of the window. */
  readonly kernelSize: number;
  /** Steps of the window. */
  readonly stride: number;
  /** Padding on each side. */
  readonly padding: number;
  /** Steps between the elements of the window. */
  readonly dilation: number;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: number, options: MaxPool1dOptions = {}) {
    super();
    checkOptions("make MaxPool1d", options, "new nn.MaxPool1d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, dilation = 1, ceilMode = false } = options;
    checkSizes("MaxPool1d", { kernelSize, stride, dilation });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.dilation = dilation;
    this.ceilMode = ceilMode;
  }
  /** x [N, C, L] → y [N, C, OL] */
  override forward(x: Tensor): Tensor {
    const { kernelSize, stride, padding, dilation, ceilMode } = this;
    return alongRows("MaxPool1d", x, (image) =>
      maxPool2d(image, [1, kernelSize], {
        stride: [1, stride],
        padding: [0, padding],
        dilation: [1, dilation],
        ceilMode,
      }));
  }
  override extraRepr(): string {
    const { kernelSize, stride, padding, dilation, ceilMode } = this;
    return `kernel_size=${kernelSize}, stride=${stride}, padding=${padding}, ` +
      `dilation=${dilation}, ceil_mode=${pythonBool(ceilMode)}`;
  }
}

/** Mean of each window: x [N, C, L] → y [N, C, OL], or both without N. */
export class AvgPool1d extends Module {
  /** Size of the window. */
  readonly kernelSize: number;
  /** Steps of the window. */
  readonly stride: number;
  /** Padding on each side. */
  readonly padding: number;
  /** Whether a last window may reach over the end. */
  readonly ceilMode: boolean;
  /** Whether padding counts as zeros in the average. */
  readonly countIncludePad: boolean;

  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: number, options: AvgPool1dOptions = {}) {
    super();
    checkOptions("make AvgPool1d", options, "new nn.AvgPool1d(3, { stride: 2 })");
    const { stride = kernelSize, padding = 0, ceilMode = false } = options;
    checkSizes("AvgPool1d", { kernelSize, stride });
    this.kernelSize = kernelSize;
    this.stride = stride;
    this.padding = padding;
    this.ceilMode = ceilMode;
    this.countIncludePad = options.countIncludePad ?? true;
  }
  /** x [N, C, L] → y [N, C, OL] */
  override forward(x: Tensor): Tensor {
    const { kernelSize, stride, padding, ceilMode, countIncludePad } = this;
    return alongRows("AvgPool1d", x, (image) =>
      avgPool2d(image, [1, kernelSize], {
        stride: [1, stride],
        padding: [0, padding],
        ceilMode,
        countIncludePad,
      }));
  }
  override extraRepr(): string {
    const { kernelSize, stride, padding } = this;
    return `kernel_size=(${kernelSize},), stride=(${stride},), padding=(${padding},)`;
  }
}

/** Means of windows chosen so that the output has `outputSize` places: x [N, C, L] → y [N, C, OL], or both without N. */
export class AdaptiveAvgPool1d extends Module {
  /** OL */
  readonly outputSize: number;

  /** @throws {RangeError} If the size is not a whole number of at least 1. */
  constructor(outputSize: number) {
    super();
    checkSizes("AdaptiveAvgPool1d", { outputSize });
    this.outputSize = outputSize;
  }
  /** x [N, C, L] → y [N, C, OL] */
  override forward(x: Tensor): Tensor {
    return alongRows(
      "AdaptiveAvgPool1d",
      x,
      (image) => adaptiveAvgPool2d(image, [1, this.outputSize]),
    );
  }
  override extraRepr(): string {
    return `output_size=${this.outputSize}`;
  }
}

/**
 * Largest elements of windows chosen so that the output has `outputSize` places: x [N, C, L] → y [N, C, OL], or both
 * without N.
 */
export class AdaptiveMaxPool1d extends Module {
  /** OL */
  readonly outputSize: number;

  /** @throws {RangeError} If the size is not a whole number of at least 1. */
  constructor(outputSize: number) {
    super();
    checkSizes("AdaptiveMaxPool1d", { outputSize });
    this.outputSize = outputSize;
  }
  /** x [N, C, L] → y [N, C, OL] */
  override forward(x: Tensor): Tensor {
    return alongRows(
      "AdaptiveMaxPool1d",
      x,
      (image) => adaptiveMaxPool2d(image, [1, this.outputSize]),
    );
  }
  override extraRepr(): string {
    return `output_size=${this.outputSize}`;
  }
}
