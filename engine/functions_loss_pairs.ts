/** How alike rows are, and losses of pairs, triplets and likelihoods; as PyTorch's `torch.nn.functional`. */

import { checkOneOf, checkOptions } from "./arguments.ts";
import { noGrad } from "./autograd.ts";
import type { LossOptions, Reduction } from "./functions_loss.ts";
import { normalize } from "./functions_norm.ts";
import { where } from "./functions_pointwise.ts";
import { broadcastShapes, sameShape, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

function reduced(loss: Tensor, reduction: Reduction = "mean"): Tensor {
  checkOneOf("reduce a loss", { reduction }, ["mean", "sum", "none"]);
  if (reduction === "none") return loss;
  return reduction === "sum" ? loss.sum() : loss.mean();
}

function checkSame(what: string, tensors: readonly Tensor[]): void {
  if (tensors.every((t) => sameShape(t.shape, tensors[0]!.shape))) return;
  throw new TypeError(
    `Cannot take ${what} of ${
      tensors.map((t) => show(t.shape)).join(" and ")
    }: shapes must be equal`,
  );
}

/**
 * Cosine of the angle between a and b along a dimension: a·b / (max(‖a‖, eps) · max(‖b‖, eps)). Shapes
 * broadcast; the dimension is that of their common shape.
 *
 * @param options `dim` (default 1) and `eps` (default 1e-8)
 *
 * @example
 * ```ts
 * import { cosineSimilarity, init, tensor } from "../mod.ts";
 * await init();
 * const y = cosineSimilarity(tensor([[3, 4], [1, 0]]), tensor([[4, 3], [-2, 0]]));
 * console.log((await y.data()).map((v) => Math.round(100 * v) / 100)); // [0.96, -1]
 * ```
 */
export function cosineSimilarity(
  a: Tensor,
  b: Tensor,
  options: { dim?: number; eps?: number } = {},
): Tensor {
  checkOptions("cosineSimilarity", options, "cosineSimilarity(a, b, { dim: 1 })");
  const { dim = 1, eps = 1e-8 } = options;
  // Lengths are those of the common shape: a number repeated along dim counts as often as it stands there.
  const shape = broadcastShapes("cosineSimilarity", a.shape, b.shape);
  const [x, y] = [a, b].map((t) => normalize(t.expand(shape), { dim, eps })) as [Tensor, Tensor];
  return x.mul(y).sum(dim);
}

/** Options of {@linkcode pairwiseDistance}. */
export interface PairwiseDistanceOptions {
  /** The norm's exponent; default 2. */
  p?: number;
  /** Added to each difference; default 1e-6. */
  eps?: number;
  /** Whether the dimension stays, with size 1; default false. */
  keepdim?: boolean;
}

/** ‖a - b + eps‖ₚ along the last dimension. Shapes broadcast. */
export function pairwiseDistance(
  a: Tensor,
  b: Tensor,
  options: PairwiseDistanceOptions = {},
): Tensor {
  checkOptions("pairwiseDistance", options, "pairwiseDistance(a, b, { p: 2 })");
  const { p = 2, eps = 1e-6, keepdim = false } = options;
  return a.sub(b).add(eps).norm(p, -1, { keepdim });
}

/** Options of losses with a margin. */
export interface MarginOptions extends LossOptions {
  /** How far apart is far enough. */
  margin?: number;
}

/**
 * 1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1, for rows a and b [N, D]
 * and targets [N]; or for one pair [D] and a target []. The default margin is 0.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html
 *
 * @throws {TypeError} if shapes do not fit
 */
export function cosineEmbeddingLoss(
  a: Tensor,
  b: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  checkOptions(
    "cosineEmbeddingLoss",
    options,
    "cosineEmbeddingLoss(a, b, target, { margin: 0.5 })",
  );
  const { margin = 0, reduction } = options;
  checkSame("cosineEmbeddingLoss", [a, b]);
  if (a.ndim < 1 || a.ndim > 2 || !sameShape(target.shape, a.shape.slice(0, -1))) {
    throw new TypeError(
      `Cannot take cosineEmbeddingLoss of ${show(a.shape)} with targets ${
        show(target.shape)
      }: they ` +
        "must be [N, D] and [N], or [D] and []",
    );
  }
  // PyTorch's 1e-12 under each root, which is more than f32 rounds away at lengths of 1e-3 and less.
  const length = (t: Tensor) => t.square().sum(-1).add(1e-12).sqrt();
  const cosine = a.mul(b).sum(-1).div(length(a).mul(length(b)));
  const alike = where(target.eq(1), cosine.mul(-1).add(1), 0);
  return reduced(where(target.eq(-1), cosine.sub(margin).relu(), alike), reduction);
}

/** Options of {@linkcode tripletMarginLoss}. */
export interface TripletMarginOptions extends MarginOptions {
  /** The norm's exponent; default 2. */
  p?: number;
  /** Added to each difference; default 1e-6. */
  eps?: number;
  /** Whether the negative may count from the positive, where that is nearer; default false. */
  swap?: boolean;
}

/**
 * max(0, d(anchor, positive) - d(anchor, negative) + margin) with d as {@linkcode pairwiseDistance}, for
 * rows [N, D]. The default margin is 1.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.TripletMarginLoss.html
 *
 * @throws {TypeError} if shapes differ
 */
export function tripletMarginLoss(
  anchor: Tensor,
  rows: { positive: Tensor; negative: Tensor },
  options: TripletMarginOptions = {},
): Tensor {
  checkOptions(
    "tripletMarginLoss",
    options,
    "tripletMarginLoss(anchor, { positive, negative }, { margin: 1 })",
  );
  const { margin = 1, p, eps, swap = false, reduction } = options;
  const { positive, negative } = rows;
  checkSame("tripletMarginLoss", [anchor, positive, negative]);
  const near = pairwiseDistance(anchor, positive, { p, eps });
  let far = pairwiseDistance(anchor, negative, { p, eps });
  if (swap) far = far.minimum(pairwiseDistance(positive, negative, { p, eps }));
  return reduced(near.sub(far).add(margin).relu(), reduction);
}

/**
 * max(0, -target · (a - b) + margin): a should be above b where the target is 1, and below where it is -1.
 * The default margin is 0.
 *
 * @throws {TypeError} if shapes differ
 */
export function marginRankingLoss(
  a: Tensor,
  b: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  checkOptions("marginRankingLoss", options, "marginRankingLoss(a, b, target, { margin: 1 })");
  const { margin = 0, reduction } = options;
  checkSame("marginRankingLoss", [a, b, target]);
  return reduced(b.sub(a).mul(target).add(margin).relu(), reduction);
}

/** Options of {@linkcode gaussianNllLoss}. */
export interface GaussianNllOptions extends LossOptions {
  /** Whether the constant ½ log 2π is added; default false. */
  full?: boolean;
  /** Least variance; default 1e-6. */
  eps?: number;
}

/**
 * ½ (log v + (x - target)² / v) for predictions x and variances v, which broadcast to x; those of x's shape
 * without the last dimension are one for each row. Variances below eps count as eps, but keep their gradient.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html
 */
export function gaussianNllLoss(
  x: Tensor,
  target: Tensor,
  variance: Tensor,
  options: GaussianNllOptions = {},
): Tensor {
  checkOptions("gaussianNllLoss", options, "gaussianNllLoss(x, target, variance, { full: true })");
  const { full = false, eps = 1e-6, reduction } = options;
  const rows = x.ndim > 0 && sameShape(variance.shape, x.shape.slice(0, -1));
  const given = rows ? variance.unsqueeze(-1) : variance;
  const missing = noGrad(() => given.mul(-1).add(eps).relu());
  const v = given.add(missing);
  const loss = v.log().add(x.sub(target).square().div(v)).mul(0.5);
  return reduced(full ? loss.add(0.5 * Math.log(2 * Math.PI)) : loss, reduction);
}

/** Options of {@linkcode poissonNllLoss}. */
export interface PoissonNllOptions extends LossOptions {
  /** Whether x is the logarithm of the rate; default true. */
  logInput?: boolean;
  /** Whether Stirling's t log t - t + ½ log 2πt is added for targets t above 1; default false. */
  full?: boolean;
  /** Added to a rate whose logarithm is taken; default 1e-8. */
  eps?: number;
}

/**
 * exp(x) - target · x for logarithms x of rates, or x - target · log(x + eps) for rates.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.PoissonNLLLoss.html
 */
export function poissonNllLoss(
  x: Tensor,
  target: Tensor,
  options: PoissonNllOptions = {},
): Tensor {
  checkOptions("poissonNllLoss", options, "poissonNllLoss(x, target, { full: true })");
  const { logInput = true, full = false, eps = 1e-8, reduction } = options;
  let loss = logInput ? x.exp().sub(target.mul(x)) : x.sub(target.mul(x.add(eps).log()));
  if (full) {
    const stirling = target.mul(target.log()).sub(target).add(
      target.mul(2 * Math.PI).log().mul(0.5),
    );
    loss = loss.add(where(target.gt(1), stirling, 0));
  }
  return reduced(loss, reduction);
}
