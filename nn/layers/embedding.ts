/** @file Vectors by id. */

import { checkOptions } from "../../engine/arguments.ts";
import { embedding, noGrad, randn, type Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";

/** Options of {@linkcode Embedding}. */
export interface EmbeddingOptions {
  /** Id whose vector starts as zeros and gets no gradient; negative ones count from the end. */
  paddingIdx?: number;
}

/**
 * Rows of a learned table: ids [...] (i32 or u32) → [..., dim].
 *
 * weight [count, dim] starts normal with mean 0 and deviation 1, as in
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html
 *
 * @example
 * ```ts
 * import { init, nn, tensor } from "../../mod.ts";
 * await init();
 * const words = new nn.Embedding(100, 8, { paddingIdx: 0 });
 * console.log(words.forward(tensor([[5, 7, 0]], { dtype: "i32" })).shape); // [1, 3, 8]
 * ```
 */
export class Embedding extends Module {
  /** Number of ids. */
  readonly count: number;
  /** Length of a vector. */
  readonly dim: number;
  /** [count, dim] */
  weight: Parameter;
  readonly #paddingIdx: number | undefined;

  /** @throws {RangeError} If a size is not a whole number of at least 1, or paddingIdx is no id. */
  constructor(count: number, dim: number, options: EmbeddingOptions = {}) {
    checkOptions("make Embedding", options, "new nn.Embedding(100, 8, { paddingIdx: 0 })");
    super();
    checkSizes("Embedding", { count, dim });
    this.count = count;
    this.dim = dim;
    const { paddingIdx } = options;
    if (paddingIdx !== undefined) {
      if (!(Number.isInteger(paddingIdx) && paddingIdx >= -count && paddingIdx < count)) {
        throw new RangeError(
          `Cannot pad with id ${paddingIdx}: it must be ${-count} to ${count - 1}`,
        );
      }
      this.#paddingIdx = paddingIdx < 0 ? paddingIdx + count : paddingIdx;
    }
    this.weight = new Parameter(randn([count, dim]));
    if (this.#paddingIdx !== undefined) {
      const row = this.#paddingIdx;
      noGrad(() => this.weight.narrow(0, row, 1).zero_());
    }
  }

  /** ids [...] → [..., dim] */
  override forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight, { paddingIdx: this.#paddingIdx });
  }
  override extraRepr(): string {
    const padding = this.#paddingIdx === undefined ? "" : `, padding_idx=${this.#paddingIdx}`;
    return `${this.count}, ${this.dim}${padding}`;
  }
}
