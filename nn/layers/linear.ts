/** @file y = x · Wᵀ + b. */

import { checkOptions } from "../../engine/arguments.ts";
import type { OutputActivation, Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool } from "../module_text.ts";
import type { Parameter } from "../parameter.ts";
import { affineParameters } from "./_affine.ts";
import { checkSizes } from "./_check.ts";

/** Options of {@linkcode Linear}. */
export interface LinearOptions {
  /** Whether to add a learned bias. Default true. */
  bias?: boolean;
}

/**
 * y = x · weightᵀ + bias for x [..., inFeatures] → y [..., outFeatures].
 *
 * weight [outFeatures, inFeatures] and bias [outFeatures] start uniform in ±1 / √inFeatures, as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * console.log(new nn.Linear(8, 2).forward(randn([4, 8])).shape); // [4, 2]
 * ```
 */
export class Linear extends Module {
  /** Features an input has. */
  readonly inFeatures: number;
  /** Features an output has. */
  readonly outFeatures: number;
  /** [outFeatures, inFeatures] */
  weight: Parameter;
  /** [outFeatures] */
  bias: Parameter | null;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super();
    checkOptions("make Linear", options, "new nn.Linear(8, 2, { bias: false })");
    checkSizes("Linear", { inFeatures, outFeatures });
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    const { weight, bias } = affineParameters([outFeatures, inFeatures], options);
    this.weight = weight;
    this.bias = bias;
  }

  /** x [..., inFeatures] → y [..., outFeatures], and the activation of that if one is given. */
  override forward(x: Tensor, { activation }: { activation?: OutputActivation } = {}): Tensor {
    return x.linear(this.weight, this.bias ?? undefined, { activation });
  }
  override extraRepr(): string {
    return `in_features=${this.inFeatures}, out_features=${this.outFeatures}, ` +
      `bias=${pythonBool(this.bias !== null)}`;
  }
}
