/** @file Layers that pad rows, images and volumes. */

import type { PadOptions, Tensor } from "../../engine/mod.ts";
import { checkWhole } from "../../engine/arguments.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";

/** Places before and after a row; or one number for both. */
export type RowPadding = number | readonly [number, number];
/** Columns before and after, rows before and after; or one number for all four. */
export type ImagePadding = number | readonly [number, number, number, number];
/** Columns before and after, rows before and after, images before and after; or one number for all six. */
export type VolumePadding = number | readonly [number, number, number, number, number, number];

const SIDES = ["left", "right", "top", "bottom", "front", "back"];

/** Base of the layers that pad the last dimensions. */
export abstract class BorderPad extends Module {
  /** Before and after each dimension, the last one first. */
  readonly padding: readonly number[];

  /**
   * @param padding One number for all sides, or one each.
   * @param dims How many dimensions are padded.
   * @throws {RangeError} If the padding is neither.
   */
  constructor(padding: number | readonly number[], dims: number) {
    super();
    this.padding = typeof padding === "number"
      ? Array<number>(2 * dims).fill(padding)
      : [...padding];
    checkWhole(`make ${this.constructor.name}`, { padding: this.padding });
    if (this.padding.length !== 2 * dims) {
      throw new RangeError(
        `Cannot make ${this.constructor.name} with padding [${
          this.padding.join(", ")
        }]: it must be a ` +
          `number or [${SIDES.slice(0, 2 * dims).join(", ")}]`,
      );
    }
  }

  /** How the places are filled. */
  protected abstract readonly fill: PadOptions;

  /** x [..., dims] → y with the padding around them */
  override forward(x: Tensor): Tensor {
    return x.pad(this.padding, this.fill);
  }
  override extraRepr(): string {
    return pythonSize(this.padding);
  }
}

/** A number around the last dimensions. */
abstract class ConstantPad extends BorderPad {
  /** The number. */
  readonly value: number;
  protected override readonly fill: PadOptions;

  constructor(padding: number | readonly number[], value: number, dims: number) {
    super(padding, dims);
    this.value = value;
    this.fill = { value };
  }
  override extraRepr(): string {
    return `padding=${pythonSize(this.padding)}, value=${this.value}`;
  }
}

/** Base of the layers that pad rows: x [N, C, L] → y [N, C, OL]. */
export abstract class RowPad extends BorderPad {
  /** @throws {RangeError} If the padding is not one whole number or two. */
  constructor(padding: RowPadding) {
    super(padding, 1);
  }
}

/** Base of the layers that pad images: x [N, C, H, W] → y [N, C, OH, OW]. */
export abstract class ImagePad extends BorderPad {
  /** @throws {RangeError} If the padding is not one whole number or four. */
  constructor(padding: ImagePadding) {
    super(padding, 2);
  }
}

/** Base of the layers that pad volumes: x [N, C, D, H, W] → y [N, C, OD, OH, OW]. */
export abstract class VolumePad extends BorderPad {
  /** @throws {RangeError} If the padding is not one whole number or six. */
  constructor(padding: VolumePadding) {
    super(padding, 3);
  }
}

/** Zeros around rows; a negative number cuts places off. */
export class ZeroPad1d extends RowPad {
  protected override readonly fill: PadOptions = {};
}

/** Zeros around images; a negative number cuts places off. */
export class ZeroPad2d extends ImagePad {
  protected override readonly fill: PadOptions = {};
}

/** Zeros around volumes; a negative number cuts places off. */
export class ZeroPad3d extends VolumePad {
  protected override readonly fill: PadOptions = {};
}

/** A number around rows; a negative padding cuts places off. */
export class ConstantPad1d extends ConstantPad {
  /**
   * @param padding Before and after, or one number for both.
   * @param value What is put there.
   */
  constructor(padding: RowPadding, value: number) {
    super(padding, value, 1);
  }
}

/** A number around images; a negative padding cuts places off. */
export class ConstantPad2d extends ConstantPad {
  /**
   * @param padding Left, right, top and bottom, or one number for all.
   * @param value What is put there.
   */
  constructor(padding: ImagePadding, value: number) {
    super(padding, value, 2);
  }
}

/** A number around volumes; a negative padding cuts places off. */
export class ConstantPad3d extends ConstantPad {
  /**
   * @param padding Left, right, top, bottom, front and back, or one number for all.
   * @param value What is put there.
   */
  constructor(padding: VolumePadding, value: number) {
    super(padding, value, 3);
  }
}

/** Rows mirrored at their borders, which are not repeated. */
export class ReflectionPad1d extends RowPad {
  protected override readonly fill: PadOptions = { mode: "reflect" };
}

/** Images mirrored at their borders, which are not repeated. */
export class ReflectionPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "reflect" };
}

/** Volumes mirrored at their borders, which are not repeated. */
export class ReflectionPad3d extends VolumePad {
  protected override readonly fill: PadOptions = { mode: "reflect" };
}

/** The borders of rows repeated. */
export class ReplicationPad1d extends RowPad {
  protected override readonly fill: PadOptions = { mode: "replicate" };
}

/** The borders of images repeated. */
export class ReplicationPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "replicate" };
}

/** The borders of volumes repeated. */
export class ReplicationPad3d extends VolumePad {
  protected override readonly fill: PadOptions = { mode: "replicate" };
}

/** Rows continued by their other side. */
export class CircularPad1d extends RowPad {
  protected override readonly fill: PadOptions = { mode: "circular" };
}

/** Images continued by their other side. */
export class CircularPad2d extends ImagePad {
  protected override readonly fill: PadOptions = { mode: "circular" };
}

/** Volumes continued by their other side. */
export class CircularPad3d extends VolumePad {
  protected override readonly fill: PadOptions = { mode: "circular" };
}
