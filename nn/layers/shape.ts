/** @file Layers without numbers of their own: shape, identity, dropout. */

import { checkOptions, given } from "../../engine/arguments.ts";
import { dropout, ones, type Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonSize } from "../module_text.ts";

/** Options of {@linkcode Flatten}. */
export interface FlattenOptions {
  /** First dimension to join. Default 1: the batch stays. */
  startDim?: number;
  /** Last dimension to join. Default -1. */
  endDim?: number;
}

/** Joins dimensions: x [N, C, H, W] → y [N, C · H · W]. */
export class Flatten extends Module {
  /** First dimension to join. */
  readonly startDim: number;
  /** Last dimension to join. */
  readonly endDim: number;

  /** @param options Dimensions to join. */
  constructor(options: FlattenOptions = {}) {
    checkOptions("make Flatten", options, "new nn.Flatten({ startDim: 1 })");
    super();
    this.startDim = options.startDim ?? 1;
    this.endDim = options.endDim ?? -1;
  }
  /** The same elements with dimensions joined. */
  override forward(x: Tensor): Tensor {
    return x.flatten(this.startDim, this.endDim);
  }
  override extraRepr(): string {
    return `start_dim=${this.startDim}, end_dim=${this.endDim}`;
  }
}

/** Cuts a dimension into several: the reverse of {@linkcode Flatten}. */
export class Unflatten extends Module {
  /** The dimension to cut. */
  readonly dim: number;
  /** Sizes of the dimensions in its place. */
  readonly sizes: readonly number[];

  /**
   * @param dim The dimension to cut.
   * @param sizes Sizes of the dimensions in its place; one may be -1.
   */
  constructor(dim: number, sizes: readonly number[]) {
    super();
    this.dim = dim;
    this.sizes = [...sizes];
  }
  /** The same elements with one dimension cut. */
  override forward(x: Tensor): Tensor {
    const at = this.dim < 0 ? this.dim + x.ndim : this.dim;
    const size = x.shape[at];
    if (size === undefined) {
      throw new RangeError(
        `Cannot unflatten dimension ${this.dim} of [${x.shape.join(", ")}]: there is none`,
      );
    }
    // -1 is found here: reshape cannot tell it where another dimension is empty.
    const known = this.sizes.reduce((n, s) => s === -1 ? n : n * s, 1);
    const sizes = this.sizes.map((s) => s === -1 && size % known === 0 ? size / known : s);
    return x.reshape([...x.shape.slice(0, at), ...sizes, ...x.shape.slice(at + 1)]);
  }
  override extraRepr(): string {
    return `dim=${this.dim}, unflattened_size=${pythonSize(this.sizes)}`;
  }
}

/** y = x. */
export class Identity extends Module {
  /** x itself. */
  override forward(x: Tensor): Tensor {
    return x;
  }
}

/**
 * While training: y = x / (1 − p) with probability 1 − p, else 0, drawn for each element. In
 * evaluation y = x.
 *
 * Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
 * JMLR 15, 2014.
 */
export class Dropout extends Module {
  /** Probability of a zero. */
  readonly p: number;

  /**
   * @param p Probability of a zero, 0 to 1.
   * @throws {RangeError} If p is outside 0 to 1.
   */
  constructor(p = 0.5) {
    super();
    if (!(p >= 0 && p <= 1)) {
      throw new RangeError(
        `Cannot make ${this.constructor.name} with p ${given(p)}: it must be 0 to 1`,
      );
    }
    this.p = p;
  }
  /** Same shape as x; x itself in evaluation and with p = 0. */
  override forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    return this.p === 1 ? x.mul(0) : dropout(x, this.p);
  }
  override extraRepr(): string {
    return `p=${this.p}, inplace=False`;
  }
}

/**
 * {@linkcode Dropout} of whole channels: those of x [N, C, L] or [C, L] are drawn, each with all its places.
 *
 * Source: Tompson et al., "Efficient object localization using convolutional networks",
 * https://arxiv.org/abs/1411.4280
 */
export class Dropout1d extends Dropout {
  /** Same shape as x; x itself in evaluation and with p = 0. */
  override forward(x: Tensor): Tensor {
    return dropChannels(this, x, { 2: 1, 3: 2 });
  }
}

/**
 * {@linkcode Dropout} of whole channels: those of x [N, C, H, W] are drawn, each with all its places. Of three
 * dimensions the first two are samples and channels, [N, C, L], as in PyTorch: put one image into a batch.
 */
export class Dropout2d extends Dropout {
  /** Same shape as x; x itself in evaluation and with p = 0. */
  override forward(x: Tensor): Tensor {
    return dropChannels(this, x, { 3: 2, 4: 2 });
  }
}

/** {@linkcode Dropout} of whole channels: those of x [N, C, D, H, W] or [C, D, H, W] are drawn, each with all its places. */
export class Dropout3d extends Dropout {
  /** Same shape as x; x itself in evaluation and with p = 0. */
  override forward(x: Tensor): Tensor {
    return dropChannels(this, x, { 4: 1, 5: 2 });
  }
}

/** @param drawn By number of dimensions, how many of them, from the first on, have draws of their own. */
function dropChannels(
  { training, p, constructor }: Dropout,
  x: Tensor,
  drawn: Readonly<Record<number, number>>,
): Tensor {
  const own = drawn[x.ndim];
  if (own === undefined) {
    throw new TypeError(
      `Cannot drop channels of [${x.shape.join(", ")}]: ${constructor.name} takes ` +
        `${Object.keys(drawn).join(" or ")} dimensions, samples and channels first`,
    );
  }
  if (!training || p === 0) return x;
  if (p === 1) return x.mul(0);
  const channels = ones(x.shape.map((size, d) => d < own ? size : 1), { dtype: x.dtype as "f32" });
  return x.mul(dropout(channels, p));
}
