/** @file Layers that pad images. */

import type { PadOptions, Tensor } from "../../engine/mod.ts";
import { checkWhole } from "../../engine/arguments.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";

/** Columns before and after, rows before and after; or one number for all four. */
export type ImagePadding = number | readonly [number, number, number, number];

/** Base of the layers that pad images: x [N, C, H, W] → y [N, C, OH, OW]. */
export abstract class ImagePad extends Module {
  /** Left, right, top, bottom. */
  readonly padding: readonly number[];

  /** @throws {RangeError} If the padding is not one whole number or four. */
  constructor(padding: ImagePadding) {
    super();
    this.padding = typeof padding === "number"
      ? [padding, padding, padding, padding]
      : [...padding];
    checkWhole(`make ${this.constructor.name}`, { padding: this.padding });
    if (this.padding.length !== 4) {
      throw new RangeError(
        `Cannot make ${this.constructor.name} with padding [${
          this.padding.join(", ")
        }]: it must be a ` +
          "number or [left, right, top, bottom]",
      );
    }
  }

  /** How the places are filled. */
  protected abstract readonly fill: PadOptions;

  /** x [N, C, H, W] → y [N, C, OH, OW] */
  override forward(x: Tensor): Tensor {
    return x.pad(this.padding, this.fill);
  }
  override extraRepr(): string {
    return pythonSize(this.padding);
  }
}

/** Zeros around images; a negative number cuts places off. */
export class ZeroPad2d extends ImagePad {
  protected override readonly fill: PadOptions = {};
}

/** A number around images; a negative padding cuts places off. */
export class ConstantPad2d extends ImagePad {
  /** The number. */
  readonly value: number;
  protected override readonly fill: PadOptions;

  /**
   * @param padding Left, right, top and bottom, or one number for all.
   * @param value What is put there.
   */
  constructor(padding: ImagePadding, value: number) {
    super(padding);
    this.value = value;
    this.fill = { value };
  }
  override extraRepr(): string {
    return `padding=${pythonSize(this.padding)}, value=${this.value}`;
  }
}

/** Images mirrored at their borders, which are not repeated. */
export class ReflectionPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "reflect" };
}

/** The borders of images repeated. */
export class ReplicationPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "replicate" };
}

/** Images continued by their other side. */
export class CircularPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "circular" };
}
