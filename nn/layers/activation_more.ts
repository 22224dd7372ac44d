/** @file Layers of the smooth and the piecewise linear activations; settings and text as PyTorch's. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonFloat } from "../module_text.ts";

/** x where positive, else alpha · (exp(x) - 1). */
export class ELU extends Module {
  /** Where the left side ends, less its sign. */
  readonly alpha: number;

  /** @param alpha Where the left side ends, less its sign. */
  constructor(alpha = 1) {
    super();
    this.alpha = alpha;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.elu(this.alpha);
  }
  override extraRepr(): string {
    return `alpha=${pythonFloat(this.alpha)}`;
  }
}

/** 1.0507 · elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017). */
export class SELU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.selu();
  }
}

/** x where positive, else alpha · (exp(x / alpha) - 1). */
export class CELU extends Module {
  /** Where the left side ends, less its sign. */
  readonly alpha: number;

  /**
   * @param alpha Where the left side ends, less its sign.
   * @throws {RangeError} If alpha is 0.
   */
  constructor(alpha = 1) {
    super();
    if (alpha === 0) throw new RangeError("Cannot make CELU with alpha 0: it divides by alpha");
    this.alpha = alpha;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.celu(this.alpha);
  }
  override extraRepr(): string {
    return `alpha=${pythonFloat(this.alpha)}`;
  }
}

/** x · Φ(x), Φ the normal distribution function. */
export class GELU extends Module {
  /** `tanh` for the approximation by tanh. */
  readonly approximate: "none" | "tanh";

  /** @param options `approximate: "tanh"` for the approximation by tanh; default "none". */
  constructor(options: { approximate?: "none" | "tanh" } = {}) {
    checkOptions("make GELU", options, 'new nn.GELU({ approximate: "tanh" })');
    super();
    this.approximate = options.approximate ?? "none";
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.gelu({ approximate: this.approximate });
  }
  override extraRepr(): string {
    return `approximate='${this.approximate}'`;
  }
}

/** x · sigmoid(x). */
export class SiLU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.silu();
  }
}

/** x · tanh(softplus(x)). */
export class Mish extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.mish();
  }
}

/** log(1 + exp(beta · x)) / beta; x where beta · x is over the threshold. */
export class Softplus extends Module {
  /** How sharp the bend is. */
  readonly beta: number;
  /** Where the function becomes linear. */
  readonly threshold: number;

  /** @param options `beta` (default 1) and `threshold` (default 20). */
  constructor(options: { beta?: number; threshold?: number } = {}) {
    checkOptions("make Softplus", options, "new nn.Softplus({ beta: 2 })");
    super();
    this.beta = options.beta ?? 1;
    this.threshold = options.threshold ?? 20;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softplus({ beta: this.beta, threshold: this.threshold });
  }
  override extraRepr(): string {
    return `beta=${pythonFloat(this.beta)}, threshold=${pythonFloat(this.threshold)}`;
  }
}

/** x / (1 + |x|). */
export class Softsign extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softsign();
  }
}

/** log(sigmoid(x)) without overflow. */
export class LogSigmoid extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.logSigmoid();
  }
}

/** x / 6 + 1/2 limited to [0, 1]. */
export class Hardsigmoid extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.hardsigmoid();
  }
}

/** x · hardsigmoid(x). */
export class Hardswish extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.hardswish();
  }
}

/** x limited to [min, max]; no gradient on the bounds. */
export class Hardtanh extends Module {
  /** Lower bound. */
  readonly min: number;
  /** Upper bound. */
  readonly max: number;

  /**
   * @param options `min` (default -1) and `max` (default 1).
   * @throws {RangeError} If max is not above min.
   */
  constructor(options: { min?: number; max?: number } = {}) {
    checkOptions("make Hardtanh", options, "new nn.Hardtanh({ min: 0, max: 6 })");
    super();
    const { min = -1, max = 1 } = options;
    if (!(max > min)) {
      throw new RangeError(
        `Cannot make Hardtanh from ${min} to ${max}: max must be above min`,
      );
    }
    this.min = min;
    this.max = max;
  }
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.hardtanh({ min: this.min, max: this.max });
  }
  override extraRepr(): string {
    return `min_val=${pythonFloat(this.min)}, max_val=${pythonFloat(this.max)}`;
  }
}

/** max(x, 0) limited to 6. */
export class ReLU6 extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.hardtanh({ min: 0, max: 6 });
  }
}
