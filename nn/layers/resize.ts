/** @file Layers that change the size of images: resizing, and channels to places and back. */

import { checkOptions } from "../../engine/arguments.ts";
import { interpolate, type InterpolateOptions, type Tensor } from "../../engine/mod.ts";
import { sizeOf } from "../../engine/shape.ts";
import { Module } from "../module.ts";
import { pythonFloat, pythonSize } from "../module_text.ts";
import { checkSizes } from "./_check.ts";

/** Options of {@linkcode Upsample}: either `size` or `scaleFactor`. */
export interface UpsampleOptions {
  /** Output size: of all dimensions, or [OH, OW], for rows [OL], for volumes [OD, OH, OW]. */
  size?: number | readonly number[];
  /** Outputs to an input pixel, along all dimensions or each. */
  scaleFactor?: number | readonly number[];
  /** Default "nearest"; weighted are rows "linear", images "bilinear" and volumes "trilinear". */
  mode?: InterpolateOptions["mode"];
  /** Whether the middles of the corners stay where they are, if not "nearest". Default false. */
  alignCorners?: boolean;
}

/**
 * Images resized by `interpolate`: x [N, C, H, W] → y [N, C, OH, OW], of a given size or ⌊H · factor⌋; rows
 * [N, C, L] and volumes [N, C, D, H, W] as well.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Upsample.html
 */
export class Upsample extends Module {
  /** Output size, where it is given. */
  readonly size: number | readonly number[] | null;
  /** Outputs to an input pixel, where they are given. */
  readonly scaleFactor: number | readonly number[] | null;
  /** How places in between are filled. */
  readonly mode: NonNullable<InterpolateOptions["mode"]>;
  /** Whether the middles of the corners stay where they are. */
  readonly alignCorners: boolean;

  /** @throws {TypeError} If neither or both of `size` and `scaleFactor` are given. */
  constructor(options: UpsampleOptions) {
    super();
    checkOptions("make Upsample", options, "new nn.Upsample({ scaleFactor: 2 })");
    const { size = null, scaleFactor = null, mode = "nearest", alignCorners = false } = options;
    if ((size === null) === (scaleFactor === null)) {
      throw new TypeError("Cannot make Upsample: give either size or scaleFactor");
    }
    this.size = size;
    this.scaleFactor = scaleFactor;
    this.mode = mode;
    this.alignCorners = alignCorners;
  }

  /** x [N, C, H, W] → y [N, C, OH, OW], rows and volumes likewise. */
  override forward(x: Tensor): Tensor {
    const { mode, alignCorners, size, scaleFactor } = this;
    const to = size === null ? { scaleFactor: scaleFactor! } : { size };
    return interpolate(x, { ...to, mode, alignCorners });
  }
  override extraRepr(): string {
    const { size, scaleFactor, mode } = this;
    const factor = typeof scaleFactor === "number"
      ? pythonFloat(scaleFactor)
      : `(${scaleFactor?.map(pythonFloat).join(", ")})`;
    return (size === null ? `scale_factor=${factor}` : `size=${pythonSize(size)}`) +
      `, mode='${mode}'`;
  }
}

/**
 * Channels as places, r · r to each: x [..., C · r², H, W] → y [..., C, H · r, W · r].
 *
 * Source: Shi et al., "Real-time single image and video super-resolution", https://arxiv.org/abs/1609.05158
 */
export class PixelShuffle extends Module {
  /** r */
  readonly upscaleFactor: number;

  /** @throws {RangeError} If r is not a whole number of at least 1. */
  constructor(upscaleFactor: number) {
    super();
    checkSizes("PixelShuffle", { upscaleFactor });
    this.upscaleFactor = upscaleFactor;
  }
  /** x [..., C · r², H, W] → y [..., C, H · r, W · r] */
  override forward(x: Tensor): Tensor {
    const r = this.upscaleFactor;
    const [C, H, W] = x.shape.slice(-3) as [number, number, number];
    if (x.ndim < 3 || C % (r * r) !== 0) {
      throw new TypeError(
        `Cannot shuffle the pixels of [${
          x.shape.join(", ")
        }]: it must be [..., C, H, W] with C a ` +
          `multiple of ${r * r}`,
      );
    }
    const batch = x.shape.slice(0, -3);
    return x.reshape(sizeOf(batch), C / (r * r), r, r, H, W).permute(0, 1, 4, 2, 5, 3)
      .reshape(...batch, C / (r * r), H * r, W * r);
  }
  override extraRepr(): string {
    return `upscale_factor=${this.upscaleFactor}`;
  }
}

/** Places as channels, the reverse of {@linkcode PixelShuffle}: x [..., C, H · r, W · r] → y [..., C · r², H, W]. */
export class PixelUnshuffle extends Module {
  /** r */
  readonly downscaleFactor: number;

  /** @throws {RangeError} If r is not a whole number of at least 1. */
  constructor(downscaleFactor: number) {
    super();
    checkSizes("PixelUnshuffle", { downscaleFactor });
    this.downscaleFactor = downscaleFactor;
  }
  /** x [..., C, H · r, W · r] → y [..., C · r², H, W] */
  override forward(x: Tensor): Tensor {
    const r = this.downscaleFactor;
    const [C, H, W] = x.shape.slice(-3) as [number, number, number];
    if (x.ndim < 3 || H % r !== 0 || W % r !== 0) {
      throw new TypeError(
        `Cannot unshuffle the pixels of [${
          x.shape.join(", ")
        }]: it must be [..., C, H, W] with H and W ` +
          `multiples of ${r}`,
      );
    }
    const batch = x.shape.slice(0, -3);
    return x.reshape(sizeOf(batch), C, H / r, r, W / r, r).permute(0, 1, 3, 5, 2, 4)
      .reshape(...batch, C * r * r, H / r, W / r);
  }
  override extraRepr(): string {
    return `downscale_factor=${this.downscaleFactor}`;
  }
}
