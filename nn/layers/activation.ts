/** @file A layer for each activation that tensors have as a method. */

import type { Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";

/** max(x, 0). */
export class ReLU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** 1 / (1 + exp(-x)). */
export class Sigmoid extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** x where positive, else negativeSlope · x. */
export class LeakyReLU extends Module {
  /** Slope below 0. */
  readonly negativeSlope: number;

  /** @param negativeSlope Slope below 0. */
  constructor(negativeSlope = 0.01) {
    super();
    this.negativeSlope = negativeSlope;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.leakyRelu(this.negativeSlope);
  }
  override extraRepr(): string {
    return `negative_slope=${this.negativeSlope}`;
  }
}

/** exp(x) / Σ exp(x) along a dimension. */
export class Softmax extends Module {
  /** The dimension summed over. */
  readonly dim: number;

  /** @param dim The dimension summed over. */
  constructor(dim: number) {
    super();
    this.dim = dim;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softmax(this.dim);
  }
  override extraRepr(): string {
    return `dim=${this.dim}`;
  }
}

/** Softmax over the channels at each place: x [N, C, H, W] or [C, H, W]. */
export class Softmax2d extends Module {
  /**
   * Same shape as x.
   *
   * @throws {TypeError} If x is no batch of images and no image.
   */
  override forward(x: Tensor): Tensor {
    if (![3, 4].includes(x.ndim)) {
      throw new TypeError(
        `Cannot Softmax2d [${x.shape.join(", ")}]: it must be [N, C, H, W] or [C, H, W]`,
      );
    }
    return x.softmax(-3);
  }
}

/** Logarithm of the softmax along a dimension, without overflow. */
export class LogSoftmax extends Module {
  /** The dimension summed over. */
  readonly dim: number;

  /** @param dim The dimension summed over. */
  constructor(dim: number) {
    super();
    this.dim = dim;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.logSoftmax(this.dim);
  }
  override extraRepr(): string {
    return `dim=${this.dim}`;
  }
}
