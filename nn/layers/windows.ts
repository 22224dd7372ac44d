/** @file Layers that take images apart into windows, and add windows up to images. */

import { checkOptions } from "../../engine/arguments.ts";
import { fold, type Pair, type Tensor, unfold, type WindowOptions } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";
import { checkPair } from "./_check.ts";

/** Sizes of the windows. */
abstract class Windows extends Module {
  /** Size of the window. */
  readonly kernelSize: Pair;
  /** Steps between the elements of the window. */
  readonly dilation: Pair;
  /** Zeros around the images. */
  readonly padding: Pair;
  /** Steps of the window. */
  readonly stride: Pair;

  constructor(kernelSize: Pair, options: WindowOptions) {
    super();
    const { name } = this.constructor;
    checkOptions(`make ${name}`, options, `new nn.${name}(…, { stride: 2 })`);
    const { dilation = 1, padding = 0, stride = 1 } = options;
    checkPair(name, kernelSize, { name: "kernelSize", min: 1 });
    checkPair(name, dilation, { name: "dilation", min: 1 });
    checkPair(name, padding, { name: "padding", min: 0 });
    checkPair(name, stride, { name: "stride", min: 1 });
    this.kernelSize = kernelSize;
    this.dilation = dilation;
    this.padding = padding;
    this.stride = stride;
  }
  override extraRepr(): string {
    const { kernelSize, dilation, padding, stride } = this;
    return `kernel_size=${pythonSize(kernelSize)}, dilation=${pythonSize(dilation)}, ` +
      `padding=${pythonSize(padding)}, stride=${pythonSize(stride)}`;
  }
}

/**
 * Windows of images as columns, also known as im2col: x [N, C, H, W] → y [N, C · KH · KW, windows], or both
 * without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Unfold.html
 */
export class Unfold extends Windows {
  /** @throws {RangeError} If a size is out of range. */
  constructor(kernelSize: Pair, options: WindowOptions = {}) {
    super(kernelSize, options);
  }
  /** x [N, C, H, W] → y [N, C · KH · KW, windows] */
  override forward(x: Tensor): Tensor {
    const { dilation, padding, stride } = this;
    return unfold(x, this.kernelSize, { dilation, padding, stride });
  }
}

/**
 * Columns added up to images, also known as col2im: x [N, C · KH · KW, windows] → y [N, C, H, W], or both without
 * N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Fold.html
 */
export class Fold extends Windows {
  /** [H, W], or one number for both. */
  readonly outputSize: Pair;

  /** @throws {RangeError} If a size is out of range. */
  constructor(outputSize: Pair, kernelSize: Pair, options: WindowOptions = {}) {
    super(kernelSize, options);
    checkPair("Fold", outputSize, { name: "outputSize", min: 1 });
    this.outputSize = outputSize;
  }
  /** x [N, C · KH · KW, windows] → y [N, C, H, W] */
  override forward(x: Tensor): Tensor {
    const { outputSize, dilation, padding, stride } = this;
    return fold(x, outputSize, this.kernelSize, { dilation, padding, stride });
  }
  override extraRepr(): string {
    return `output_size=${pythonSize(this.outputSize)}, ${super.extraRepr()}`;
  }
}
