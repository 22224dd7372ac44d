/** @file Layers for how alike rows are, and for losses of pairs, triplets and likelihoods. */

import { checkOptions } from "../../engine/arguments.ts";
import * as engine from "../../engine/mod.ts";
import type { Tensor } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { Loss } from "./loss.ts";

/** Cosine of the angle between rows: `cosineSimilarity` as a layer. */
export class CosineSimilarity extends Module {
  /** The dimension that is summed over. */
  readonly dim: number;
  /** Least length. */
  readonly eps: number;

  /** @param options `dim` (default 1) and `eps` (default 1e-8). */
  constructor(options: { dim?: number; eps?: number } = {}) {
    checkOptions("make CosineSimilarity", options, "new nn.CosineSimilarity({ dim: 1 })");
    super();
    this.dim = options.dim ?? 1;
    this.eps = options.eps ?? 1e-8;
  }
  /** a and b, whose shapes broadcast → theirs without dim. */
  override forward(a: Tensor, b: Tensor): Tensor {
    return engine.cosineSimilarity(a, b, { dim: this.dim, eps: this.eps });
  }
}

/** Distance of rows: `pairwiseDistance` as a layer. */
export class PairwiseDistance extends Module {
  readonly #options: engine.PairwiseDistanceOptions;

  /** @param options As of `pairwiseDistance`. */
  constructor(options: engine.PairwiseDistanceOptions = {}) {
    checkOptions("make PairwiseDistance", options, "new nn.PairwiseDistance({ p: 2 })");
    super();
    this.#options = { ...options };
  }
  /** a and b, whose shapes broadcast → theirs without the last dimension. */
  override forward(a: Tensor, b: Tensor): Tensor {
    return engine.pairwiseDistance(a, b, this.#options);
  }
}

/** 1 - cos(a, b) of pairs that belong together, cos(a, b) of others: `cosineEmbeddingLoss` as a layer. */
export class CosineEmbeddingLoss extends Module {
  readonly #options: engine.MarginOptions;

  /** @param options As of `cosineEmbeddingLoss`. */
  constructor(options: engine.MarginOptions = {}) {
    checkOptions(
      "make CosineEmbeddingLoss",
      options,
      "new nn.CosineEmbeddingLoss({ margin: 0.5 })",
    );
    super();
    this.#options = { ...options };
  }
  /** Rows a and b [N, D], targets [N] of 1 and -1. */
  override forward(a: Tensor, b: Tensor, target: Tensor): Tensor {
    return engine.cosineEmbeddingLoss(a, b, target, this.#options);
  }
}

/** Anchors nearer to their positives than to their negatives: `tripletMarginLoss` as a layer. */
export class TripletMarginLoss extends Module {
  readonly #options: engine.TripletMarginOptions;

  /** @param options As of `tripletMarginLoss`. */
  constructor(options: engine.TripletMarginOptions = {}) {
    checkOptions("make TripletMarginLoss", options, "new nn.TripletMarginLoss({ margin: 1 })");
    super();
    this.#options = { ...options };
  }
  /** Rows [N, D] each. */
  override forward(anchor: Tensor, positive: Tensor, negative: Tensor): Tensor {
    return engine.tripletMarginLoss(anchor, { positive, negative }, this.#options);
  }
}

/** Which of two scores is higher: `marginRankingLoss` as a layer. */
export class MarginRankingLoss extends Module {
  readonly #options: engine.MarginOptions;

  /** @param options As of `marginRankingLoss`. */
  constructor(options: engine.MarginOptions = {}) {
    checkOptions("make MarginRankingLoss", options, "new nn.MarginRankingLoss({ margin: 1 })");
    super();
    this.#options = { ...options };
  }
  /** Scores and targets of 1 and -1, of one shape. */
  override forward(a: Tensor, b: Tensor, target: Tensor): Tensor {
    return engine.marginRankingLoss(a, b, target, this.#options);
  }
}

/** Normal distributions predicted by mean and variance: `gaussianNllLoss` as a layer. */
export class GaussianNLLLoss extends Module {
  readonly #options: engine.GaussianNllOptions;

  /** @param options As of `gaussianNllLoss`. */
  constructor(options: engine.GaussianNllOptions = {}) {
    checkOptions("make GaussianNLLLoss", options, "new nn.GaussianNLLLoss({ full: true })");
    super();
    this.#options = { ...options };
  }
  /** Means, targets and variances, which broadcast to the means. */
  override forward(x: Tensor, target: Tensor, variance: Tensor): Tensor {
    return engine.gaussianNllLoss(x, target, variance, this.#options);
  }
}

/** Counts predicted by their rate or its logarithm: `poissonNllLoss` as a layer. */
export class PoissonNLLLoss extends Loss {
  readonly #options: engine.PoissonNllOptions;

  /** @param options As of `poissonNllLoss`. */
  constructor(options: engine.PoissonNllOptions = {}) {
    checkOptions("make PoissonNLLLoss", options, "new nn.PoissonNLLLoss({ full: true })");
    super(options.reduction);
    this.#options = { ...options };
  }
  /** Rates, or their logarithms, and counts of one shape. */
  override forward(x: Tensor, target: Tensor): Tensor {
    return engine.poissonNllLoss(x, target, this.#options);
  }
}
