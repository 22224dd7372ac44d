/** @file A layer for each loss. */

import { checkOneOf, checkOptions } from "../../engine/arguments.ts";
import * as engine from "../../engine/mod.ts";
import type { Reduction, Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";

/** Base of the losses: from a prediction and a target to one number, or to one a row or element. */
export abstract class Loss extends Module {
  /** How losses by row or element become one. */
  readonly reduction: Reduction;

  /** @throws {TypeError} If the reduction is not mean, sum or none. */
  constructor(reduction: Reduction = "mean") {
    super();
    checkOneOf(`make ${this.constructor.name}`, { reduction }, ["mean", "sum", "none"]);
    this.reduction = reduction;
  }

  /** The loss of `x` against `target`. */
  abstract override forward(x: Tensor, target: Tensor): Tensor;
}

/** Options of losses with class ids. */
type ClassOptions = engine.ClassLossOptions;

/** Base of losses with class weights: a buffer that is saved with the layer, as in PyTorch. */
abstract class ClassLoss extends Loss {
  /** Class id that gives no loss. */
  readonly ignoreIndex: number;
  /** Weight of each class [C], or null. */
  declare weight: Tensor | null;

  constructor(options: ClassOptions) {
    super(options.reduction);
    this.ignoreIndex = options.ignoreIndex ?? -100;
    if (options.weight) this.registerBuffer("weight", options.weight);
    else this.weight = null;
  }

  protected get classOptions(): ClassOptions {
    const { ignoreIndex, reduction, weight } = this;
    return { ignoreIndex, reduction, weight: weight ?? undefined };
  }
}

/**
 * `crossEntropy` as a layer: logits [N, C, …] against class ids or probabilities.
 *
 * @example
 * ```ts
 * import { init, nn, tensor } from "../../mod.ts";
 * await init();
 * const loss = new nn.CrossEntropyLoss({ labelSmoothing: 0.1 });
 * const ids = tensor([0], { dtype: "i32" });
 * console.log((await loss.forward(tensor([[2, 0]]), ids).item()).toFixed(4)); // 0.2269
 * ```
 */
export class CrossEntropyLoss extends ClassLoss {
  /** Share of the target spread evenly over all classes. */
  readonly labelSmoothing: number;

  /** @param options As of `crossEntropy`; the layer takes `weight` over. */
  constructor(options: engine.CrossEntropyOptions = {}) {
    checkOptions("make CrossEntropyLoss", options, "new nn.CrossEntropyLoss({ weight })");
    super(options);
    this.labelSmoothing = options.labelSmoothing ?? 0;
  }
  /** Logits [N, C, …], class ids [N, …] or probabilities [N, C, …]. */
  override forward(x: Tensor, target: Tensor): Tensor {
    const { labelSmoothing } = this;
    return engine.crossEntropy(x, target, { ...this.classOptions, labelSmoothing });
  }
}

/** `nllLoss` as a layer: log probabilities [N, C, …] against class ids. */
export class NLLLoss extends ClassLoss {
  /** @param options As of `nllLoss`; the layer takes `weight` over. */
  constructor(options: engine.ClassLossOptions = {}) {
    checkOptions("make NLLLoss", options, "new nn.NLLLoss({ weight })");
    super(options);
  }
  /** Log probabilities [N, C, …], class ids [N, …]. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.nllLoss(x, target, this.classOptions);
  }
}

/** (x - t)². */
export class MSELoss extends Loss {
  /** @param options How to reduce. */
  constructor(options: engine.LossOptions = {}) {
    checkOptions("make MSELoss", options, 'new nn.MSELoss({ reduction: "sum" })');
    super(options.reduction);
  }
  /** Prediction and target of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.mseLoss(x, target, this);
  }
}

/** |x - t|. */
export class L1Loss extends Loss {
  /** @param options How to reduce. */
  constructor(options: engine.LossOptions = {}) {
    checkOptions("make L1Loss", options, 'new nn.L1Loss({ reduction: "sum" })');
    super(options.reduction);
  }
  /** Prediction and target of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.l1Loss(x, target, this);
  }
}

/** `smoothL1Loss` as a layer. */
export class SmoothL1Loss extends Loss {
  /** Where the square ends. */
  readonly beta: number;

  /** @param options How to reduce, and where the square ends (default 1). */
  constructor(options: engine.LossOptions & { beta?: number } = {}) {
    checkOptions("make SmoothL1Loss", options, "new nn.SmoothL1Loss({ beta: 2 })");
    super(options.reduction);
    this.beta = options.beta ?? 1;
  }
  /** Prediction and target of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.smoothL1Loss(x, target, this);
  }
}

/** `huberLoss` as a layer. */
export class HuberLoss extends Loss {
  /** Where the square ends. */
  readonly delta: number;

  /** @param options How to reduce, and where the square ends (default 1). */
  constructor(options: engine.LossOptions & { delta?: number } = {}) {
    checkOptions("make HuberLoss", options, "new nn.HuberLoss({ delta: 2 })");
    super(options.reduction);
    this.delta = options.delta ?? 1;
  }
  /** Prediction and target of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.huberLoss(x, target, this);
  }
}

/** `bceLoss` as a layer: probabilities against targets of their shape. */
export class BCELoss extends Loss {
  /** Factor of each element's loss, or null. */
  declare weight: Tensor | null;

  /** @param options How to reduce, and weights; the layer takes them over. */
  constructor(options: engine.BceOptions = {}) {
    checkOptions("make BCELoss", options, "new nn.BCELoss({ weight })");
    super(options.reduction);
    if (options.weight) this.registerBuffer("weight", options.weight);
    else this.weight = null;
  }
  /** Probabilities and targets of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    const { reduction, weight } = this;
    return engine.bceLoss(x, target, { reduction, weight: weight ?? undefined });
  }
}

/** `bceWithLogitsLoss` as a layer: logits against targets of their shape. */
export class BCEWithLogitsLoss extends Loss {
  /** Factor of each element's loss, or null. */
  declare weight: Tensor | null;
  /** Factor of the positive part, or null. Named as in PyTorch's state. */
  declare pos_weight: Tensor | null;

  /** @param options How to reduce, and weights; the layer takes them over. */
  constructor(options: engine.BceWithLogitsOptions = {}) {
    checkOptions("make BCEWithLogitsLoss", options, "new nn.BCEWithLogitsLoss({ posWeight })");
    super(options.reduction);
    if (options.weight) this.registerBuffer("weight", options.weight);
    else this.weight = null;
    if (options.posWeight) this.registerBuffer("pos_weight", options.posWeight);
    else this.pos_weight = null;
  }
  /** Logits and targets of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    const { reduction, weight, pos_weight } = this;
    return engine.bceWithLogitsLoss(x, target, {
      reduction,
      weight: weight ?? undefined,
      posWeight: pos_weight ?? undefined,
    });
  }
}

/** `klDiv` as a layer: log probabilities against probabilities. */
export class KLDivLoss extends Module {
  readonly #options: engine.KlDivOptions;

  /** @param options As of `klDiv`. */
  constructor(options: engine.KlDivOptions = {}) {
    checkOptions("make KLDivLoss", options, 'new nn.KLDivLoss({ reduction: "batchmean" })');
    super();
    const { reduction } = options;
    checkOneOf("make KLDivLoss", { reduction }, ["mean", "sum", "none", "batchmean"]);
    this.#options = { ...options };
  }
  /** Log probabilities and probabilities of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.klDiv(x, target, this.#options);
  }
}

/** `focalLoss` as a layer: logits against targets of their shape. */
export class FocalLoss extends Loss {
  readonly #options: engine.FocalOptions;

  /** @param options As of `focalLoss`. */
  constructor(options: engine.FocalOptions = {}) {
    checkOptions("make FocalLoss", options, "new nn.FocalLoss({ gamma: 2 })");
    super(options.reduction);
    this.#options = { ...options };
  }
  /** Logits and targets of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.focalLoss(x, target, this.#options);
  }
}

/** `focalCosineLoss` as a layer: logits [N, C] against class ids [N]. */
export class FocalCosineLoss extends Loss {
  readonly #options: engine.FocalCosineOptions;

  /** @param options As of `focalCosineLoss`. */
  constructor(options: engine.FocalCosineOptions = {}) {
    checkOptions("make FocalCosineLoss", options, "new nn.FocalCosineLoss({ gamma: 2 })");
    super(options.reduction);
    this.#options = { ...options };
  }
  /** Logits [N, C] and class ids [N]. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.focalCosineLoss(x, target, this.#options);
  }
}

/** `softCrossEntropyLoss` as a layer: logits [N, C, …] against class ids. */
export class SoftCrossEntropyLoss extends Loss {
  readonly #options: engine.SoftCrossEntropyOptions;

  /** @param options As of `softCrossEntropyLoss`. */
  constructor(options: engine.SoftCrossEntropyOptions = {}) {
    checkOptions(
      "make SoftCrossEntropyLoss",
      options,
      "new nn.SoftCrossEntropyLoss({ smoothFactor: 0.1 })",
    );
    super(options.reduction);
    this.#options = { ...options };
  }
  /** Logits [N, C, …] and class ids [N, …]. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.softCrossEntropyLoss(x, target, this.#options);
  }
}

/** `biTemperedLogisticLoss` as a layer: activations [N, C] against class ids or probabilities. */
export class BiTemperedLogisticLoss extends Loss {
  readonly #options: engine.BiTemperedOptions;

  /** @param options As of `biTemperedLogisticLoss`. */
  constructor(options: engine.BiTemperedOptions) {
    checkOptions(
      "make BiTemperedLogisticLoss",
      options,
      "new nn.BiTemperedLogisticLoss({ t1: 0.8, t2: 1.2 })",
    );
    super(options.reduction);
    this.#options = { ...options };
  }
  /** Activations [N, C], class ids [N] or probabilities [N, C]. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.biTemperedLogisticLoss(x, target, this.#options);
  }
}
