/** @file Layers without numbers of their own: shape, identity, dropout. */

import { dropout, type Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";

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
      throw new RangeError(`Cannot make Dropout with p ${p}: it must be 0 to 1`);
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
