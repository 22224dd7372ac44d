/** @file Activations that learn, gate, shrink or cut off; settings and text as PyTorch's. */

import { checkOptions } from "../../engine/arguments.ts";
import { full, glu, prelu, type Tensor, where } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";

/**
 * x where positive, else weight · x with a learned weight: one for all, or one for each channel.
 *
 * Source: He et al., "Delving deep into rectifiers", https://arxiv.org/abs/1502.01852
 */
export class PReLU extends Module {
  /** Number of weights. */
  readonly numParameters: number;
  /** [numParameters] */
  weight: Parameter;

  /**
   * @param numParameters 1, or the number of channels.
   * @param options `init`: where the weights start. Default 0.25.
   * @throws {RangeError} If numParameters is not a whole number of at least 1.
   */
  constructor(numParameters = 1, options: { init?: number } = {}) {
    checkOptions("make PReLU", options, "new nn.PReLU(1, { init: 0.25 })");
    super();
    checkSizes("PReLU", { numParameters });
    this.numParameters = numParameters;
    this.weight = new Parameter(full([numParameters], options.init ?? 0.25));
  }
  /** x [N, C, …] → y of the same shape. */
  override forward(x: Tensor): Tensor {
    return prelu(x, this.weight);
  }
  override extraRepr(): string {
    return `num_parameters=${this.numParameters}`;
  }
}

/** The first half of x along a dimension times the sigmoid of the second. */
export class GLU extends Module {
  /** The dimension that is halved. */
  readonly dim: number;

  /** @param dim The dimension that is halved. */
  constructor(dim = -1) {
    super();
    this.dim = dim;
  }
  /** x of even size along dim → y of half that size. */
  override forward(x: Tensor): Tensor {
    return glu(x, this.dim);
  }
  override extraRepr(): string {
    return `dim=${this.dim}`;
  }
}

/** x drawn towards 0 by lambda; 0 where it is no further than that. */
export class Softshrink extends Module {
  /** How far. */
  readonly lambda: number;

  /**
   * @param lambda How far.
   * @throws {RangeError} If lambda is negative.
   */
  constructor(lambda = 0.5) {
    super();
    if (!(lambda >= 0)) {
      throw new RangeError(`Cannot make Softshrink with lambda ${lambda}: it must be 0 or more`);
    }
    this.lambda = lambda;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softshrink(this.lambda);
  }
  override extraRepr(): string {
    return String(this.lambda);
  }
}

/** 0 where |x| <= lambda, else x. */
export class Hardshrink extends Module {
  /** The largest size that becomes 0. */
  readonly lambda: number;

  /**
   * @param lambda The largest size that becomes 0.
   * @throws {RangeError} If lambda is negative.
   */
  constructor(lambda = 0.5) {
    super();
    if (!(lambda >= 0)) {
      throw new RangeError(`Cannot make Hardshrink with lambda ${lambda}: it must be 0 or more`);
    }
    this.lambda = lambda;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.hardshrink(this.lambda);
  }
  override extraRepr(): string {
    return String(this.lambda);
  }
}

/** x - tanh(x). */
export class Tanhshrink extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.sub(x.tanh());
  }
}

/** A value where x is at or below a threshold, else x, NaN too. */
export class Threshold extends Module {
  /** The largest x that is replaced. */
  readonly threshold: number;
  /** What replaces it. */
  readonly value: number;

  /**
   * @param threshold The largest x that is replaced.
   * @param value What replaces it.
   */
  constructor(threshold: number, value: number) {
    super();
    this.threshold = threshold;
    this.value = value;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return where(x.le(this.threshold), this.value, x);
  }
  override extraRepr(): string {
    return `threshold=${this.threshold}, value=${this.value}`;
  }
}

/** exp(-x) / Σ exp(-x) along a dimension. */
export class Softmin extends Module {
  /** The dimension summed over. */
  readonly dim: number;

  /** @param dim The dimension summed over. */
  constructor(dim: number) {
    super();
    this.dim = dim;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.neg().softmax(this.dim);
  }
  override extraRepr(): string {
    return `dim=${this.dim}`;
  }
}
