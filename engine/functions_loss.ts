/** Losses, as PyTorch's `torch.nn.functional` names them. */

import { biTempered } from "./ops/bi_tempered.ts";
import { crossEntropy as crossEntropyOp } from "./ops/cross_entropy.ts";
import { losses } from "./ops/loss.ts";
import type { Scalars } from "./ops/pointwise_row.ts";
import { checkOneOf, checkOptions } from "./arguments.ts";
import { isAutocasting } from "./autocast.ts";
import { full } from "./creation.ts";
import { isFloat } from "./dtype.ts";
import { oneHot } from "./functions_index.ts";
import { normalize } from "./functions_norm.ts";
import type { Op } from "./op.ts";
import { broadcastShapes, sameShape, show } from "./shape.ts";
import { apply, Tensor } from "./tensor.ts";

/** How losses by element or row become one: their mean, their sum, or not at all. */
export type Reduction = "mean" | "sum" | "none";

/** Options of most losses. */
export interface LossOptions {
  /** Default `mean`, over all elements. */
  reduction?: Reduction;
}

/** Options of losses with class ids. */
export interface ClassLossOptions extends LossOptions {
  /** Class id that gives no loss and does not count in the mean; default -100. */
  ignoreIndex?: number;
  /** Weight of each class [C]; the mean divides by the weights of the targets. */
  weight?: Tensor;
}

/** Options of {@linkcode crossEntropy}. */
export interface CrossEntropyOptions extends ClassLossOptions {
  /** Share of the target spread evenly over all classes; default 0. */
  labelSmoothing?: number;
}

const REDUCTIONS: readonly Reduction[] = ["mean", "sum", "none"];

function reduced(loss: Tensor, reduction: Reduction = "mean"): Tensor {
  checkOneOf("reduce a loss", { reduction }, REDUCTIONS);
  if (reduction === "none") return loss;
  return reduction === "sum" ? loss.sum() : loss.mean();
}

/** Logits [N, C, d…] (or [C]) as rows [M, C]. */
function classRows(x: Tensor): Tensor {
  const C = x.shape[x.ndim === 1 ? 0 : 1]!;
  if (x.ndim <= 2) return x.reshape([x.ndim === 1 ? 1 : x.shape[0]!, C]);
  const order = [0, ...x.shape.keys()].filter((d, i) => i === 0 || d > 1);
  return x.permute([...order, 1]).reshape([C === 0 ? 0 : x.size / C, C]);
}

function checkClasses(name: string, x: Tensor, target: Tensor): void {
  if (x.ndim === 0 || !isFloat(x.dtype)) {
    throw new TypeError(
      `Cannot take ${name} of ${show(x.shape)} ${x.dtype}: it must be a float [N, C], [N, C, d…] ` +
        "or [C]",
    );
  }
  const places = x.shape.filter((_, d) => d !== (x.ndim === 1 ? 0 : 1));
  const isIds = target.dtype === "i32" || target.dtype === "u32";
  const want = isIds ? places : x.shape;
  if (sameShape(target.shape, want) && (isIds || isFloat(target.dtype))) return;
  throw new TypeError(
    `Cannot take ${name} of ${show(x.shape)} and ${show(target.shape)} ${target.dtype}: targets ` +
      `must be class ids ${show(places)} in i32 or u32, or probabilities ${show(x.shape)}`,
  );
}

function checkWeight(name: string, weight: Tensor | undefined, classes: number): void {
  if (!weight || sameShape(weight.shape, [classes])) return;
  throw new TypeError(
    `Cannot take ${name} with weights ${show(weight.shape)}: they must be [${classes}]`,
  );
}

/**
 * -Σ q·log softmax(logits) for logits [N, C], [N, C, d1, …] or [C], and class ids [N], [N, d1, …] or []
 * (i32 or u32), or probabilities of the logits' shape. With class weights, a class counts w times and
 * the mean over ids is divided by the weights of the targets; over probabilities it is over the places.
 *
 * A class id out of range gives NaN (with weights, a RangeError at the next read).
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 * @throws {RangeError} if labelSmoothing is not from 0 to 1
 *
 * @example
 * ```ts
 * import { crossEntropy, init, tensor } from "../mod.ts";
 * await init();
 * const loss = crossEntropy(tensor([[2, 0], [0, 2]]), tensor([0, 1], { dtype: "i32" }));
 * console.log((await loss.item()).toFixed(4)); // 0.1269
 * ```
 */
export function crossEntropy(
  logits: Tensor,
  target: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  checked("crossEntropy", options);
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean", weight } = options;
  checkOneOf("take cross entropy", { reduction }, REDUCTIONS);
  checkClasses("cross entropy", logits, target);
  const rows = classRows(logits);
  const C = rows.shape[1]!;
  checkWeight("cross entropy", weight, C);
  const places = logits.shape.filter((_, d) => d !== (logits.ndim === 1 ? 0 : 1));
  if (isFloat(target.dtype)) {
    checkSmoothing(labelSmoothing);
    const given = classRows(target);
    const q = labelSmoothing > 0 ? given.mul(1 - labelSmoothing).add(labelSmoothing / C) : given;
    const terms = (weight ? q.mul(weight) : q).mul(rows.logSoftmax(1));
    const loss = terms.sum(1).neg();
    return reduction === "none" ? loss.reshape(places) : reduced(loss, reduction);
  }
  const ids = target.reshape(-1);
  if (!weight) {
    const attrs = { ignoreIndex, labelSmoothing, reduction };
    const loss = apply(crossEntropyOp, [rows, ids], attrs)[0]!;
    return reduction === "none" ? loss.reshape(places) : loss;
  }
  checkSmoothing(labelSmoothing);
  const logp = rows.logSoftmax(1);
  const { loss: nll, weights, kept } = pickedRows(logp, ids, { ignoreIndex, weight });
  let loss = nll;
  if (labelSmoothing > 0) {
    const even = logp.mul(weight).sum(1).neg();
    const smooth = even.where(kept, zeroLike(even));
    loss = nll.mul(1 - labelSmoothing).add(smooth.mul(labelSmoothing / C));
  }
  if (reduction === "none") return loss.reshape(places);
  return reduction === "sum" ? loss.sum() : loss.sum().div(weights.sum());
}

function checkSmoothing(labelSmoothing: number): void {
  if (labelSmoothing >= 0 && labelSmoothing <= 1) return;
  throw new RangeError(`Cannot smooth labels by ${labelSmoothing}: it must be 0 to 1`);
}

function zeroLike(t: Tensor): Tensor {
  return full(t.shape, 0, { dtype: t.dtype });
}

/** -w·logp[id] by row, w by row, and which rows are not ignored. */
function pickedRows(
  logp: Tensor,
  ids: Tensor,
  options: { ignoreIndex: number; weight?: Tensor },
): { loss: Tensor; weights: Tensor; kept: Tensor } {
  const { ignoreIndex, weight } = options;
  const kept = ids.ne(ignoreIndex);
  const safe = ids.mul(kept);
  const picked = logp.gather(1, safe.unsqueeze(1)).reshape(ids.shape);
  const none = zeroLike(picked);
  const ones = full(picked.shape, 1, { dtype: picked.dtype });
  const each = weight ? weight.gather(0, safe) : ones;
  const weights = each.where(kept, none);
  return { loss: picked.neg().where(kept, none).mul(weights), weights, kept };
}

/**
 * -w[t]·logp[t] for log probabilities [N, C], [N, C, d1, …] or [C] and class ids [N], [N, d1, …] or []
 * (i32 or u32); the mean divides by the weights of the targets. A class id out of range gives a
 * RangeError at the next read.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function nllLoss(logp: Tensor, target: Tensor, options: ClassLossOptions = {}): Tensor {
  const { ignoreIndex = -100, weight, reduction = "mean" } = checked("nllLoss", options);
  checkOneOf("take nllLoss", { reduction }, REDUCTIONS);
  checkClasses("nllLoss", logp, target);
  if (isFloat(target.dtype)) {
    throw new TypeError(`Cannot take nllLoss of ${target.dtype} targets: they must be i32 or u32`);
  }
  const rows = classRows(logp);
  checkWeight("nllLoss", weight, rows.shape[1]!);
  const { loss, weights } = pickedRows(rows, target.reshape(-1), { ignoreIndex, weight });
  if (reduction === "none") return loss.reshape(target.shape);
  return reduction === "sum" ? loss.sum() : loss.sum().div(weights.sum());
}

/** The options of a loss, checked. */
function checked<T>(name: string, options: T): T {
  return checkOptions(name, options, `${name}(x, target, { reduction: "sum" })`);
}

/** A loss of the table, of a prediction and a target of one shape. */
function byElement(
  op: Op<Scalars>,
  [x, target, weight]: readonly Tensor[],
  options: { scalars?: Scalars; by?: Tensor; reduction?: Reduction },
): Tensor {
  if (!sameShape(x!.shape, target!.shape)) {
    throw new TypeError(
      `Cannot take ${op.name} of ${show(x!.shape)} and ${
        show(target!.shape)
      }: the shapes must be ` +
        "equal",
    );
  }
  const other = weight ?? options.by;
  if (other && !sameShape(broadcastShapes(op.name, x!.shape, other.shape), x!.shape)) {
    throw new TypeError(
      `Cannot take ${op.name} of ${show(x!.shape)} with weights ${show(other.shape)}: they must ` +
        "broadcast to it",
    );
  }
  const inputs = weight ? [x!, target!, weight] : [x!, target!];
  const loss = apply(op, inputs, options.scalars ?? {})[0]!;
  return reduced(options.by ? loss.mul(options.by) : loss, options.reduction);
}

/** (x - t)². */
export function mseLoss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  return byElement(losses.mseLoss, [x, target], checked("mseLoss", options));
}

/** |x - t|. */
export function l1Loss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  return byElement(losses.l1Loss, [x, target], checked("l1Loss", options));
}

/**
 * With d = |x - t|: d² / (2 beta) below beta, else d - beta / 2. beta = 0 is the L1 loss.
 *
 * @throws {RangeError} if beta is below 0
 */
export function smoothL1Loss(
  x: Tensor,
  target: Tensor,
  options: LossOptions & { /** Default 1. */ beta?: number } = {},
): Tensor {
  const { beta = 1, reduction } = checked("smoothL1Loss", options);
  if (!(beta >= 0)) {
    throw new RangeError(`Cannot take smoothL1Loss with beta ${beta}: it must be at least 0`);
  }
  return byElement(losses.smoothL1Loss, [x, target], { scalars: { beta }, reduction });
}

/**
 * With d = |x - t|: d² / 2 below delta, else delta · (d - delta / 2).
 *
 * @throws {RangeError} if delta is not above 0
 */
export function huberLoss(
  x: Tensor,
  target: Tensor,
  options: LossOptions & { /** Default 1. */ delta?: number } = {},
): Tensor {
  const { delta = 1, reduction } = checked("huberLoss", options);
  if (!(delta > 0)) {
    throw new RangeError(`Cannot take huberLoss with delta ${delta}: it must be above 0`);
  }
  return byElement(losses.huberLoss, [x, target], { scalars: { delta }, reduction });
}

/** Options of {@linkcode bceLoss}. */
export interface BceOptions extends LossOptions {
  /** Factor of each element's loss; broadcasts. */
  weight?: Tensor;
}

/** -(t·log x + (1 - t)·log(1 - x)) for probabilities x; logarithms are at least -100. */
export function bceLoss(x: Tensor, target: Tensor, options: BceOptions = {}): Tensor {
  const { weight: by, reduction } = checked("bceLoss", options);
  return byElement(losses.bceLoss, [x, target], { by, reduction });
}

/** Options of {@linkcode bceWithLogitsLoss}. */
export interface BceWithLogitsOptions extends BceOptions {
  /** Factor of the positive part, such as negatives / positives of each class; broadcasts. */
  posWeight?: Tensor;
}

/**
 * -(posWeight·t·log σ(x) + (1 - t)·log(1 - σ(x))) for logits x, without overflow.
 *
 * @example
 * ```ts
 * import { bceWithLogitsLoss, init, tensor } from "../mod.ts";
 * await init();
 * const loss = bceWithLogitsLoss(tensor([200, -200]), tensor([1, 1]));
 * console.log(await loss.item()); // 100
 * ```
 */
export function bceWithLogitsLoss(
  x: Tensor,
  target: Tensor,
  options: BceWithLogitsOptions = {},
): Tensor {
  const { weight: by, posWeight, reduction } = checked("bceWithLogitsLoss", options);
  return posWeight
    ? byElement(losses.bceWithLogitsWeighted, [x, target, posWeight], { by, reduction })
    : byElement(losses.bceWithLogitsLoss, [x, target], { by, reduction });
}

/** Options of {@linkcode klDiv}. */
export interface KlDivOptions {
  /** `batchmean` divides the sum by the first size: the mathematical divergence. Default `mean`. */
  reduction?: Reduction | "batchmean";
  /** Whether targets are logarithms, too. Default false. */
  logTarget?: boolean;
}

/** t·(log t - x) for log probabilities x and probabilities t. */
export function klDiv(x: Tensor, target: Tensor, options: KlDivOptions = {}): Tensor {
  const { reduction = "mean", logTarget = false } = checked("klDiv", options);
  checkOneOf("take klDiv", { reduction }, [...REDUCTIONS, "batchmean"]);
  const op = logTarget ? losses.klDivLog : losses.klDiv;
  if (reduction !== "batchmean") return byElement(op, [x, target], { reduction });
  return byElement(op, [x, target], { reduction: "sum" }).div(x.shape[0] ?? 1);
}

/** Options of {@linkcode focalLoss}. */
export interface FocalOptions extends LossOptions {
  /** How strongly what is right already is faded; default 2. */
  gamma?: number;
  /** Weight of positives, 1 - alpha of negatives; null for none. Default 0.25. */
  alpha?: number | null;
  /** Fades only where the probability of the target is above it: ((1 - p) / (1 - r))^gamma. */
  reducedThreshold?: number;
  /** Divides by the sum of the fading factors. Default false. */
  normalized?: boolean;
  /** Least divisor of `normalized`; default 1e-6. */
  eps?: number;
  /** Target value that gives no loss; it counts in the mean. Default none. */
  ignoreIndex?: number;
}

/**
 * (1 - p)^gamma · BCE(x, t) · (alpha·t + (1 - alpha)·(1 - t)) for logits x and targets t of one shape,
 * with p = σ(x) where t is 1 and 1 - σ(x) where it is 0.
 *
 * Sources: Lin et al., "Focal loss for dense object detection", ICCV 2017; options as in
 * pytorch-toolbelt's focal_loss_with_logits
 *
 * @throws {TypeError} if shapes differ or are no floats
 */
export function focalLoss(x: Tensor, target: Tensor, options: FocalOptions = {}): Tensor {
  checked("focalLoss", options);
  const { gamma = 2, alpha = 0.25, reducedThreshold, normalized = false, eps = 1e-6 } = options;
  const { ignoreIndex, reduction } = options;
  const ce = bceWithLogitsLoss(x, target, { reduction: "none" });
  const rest = target.mul(-1).add(1);
  // 1 - p without the cancellation: σ(-x)·t + σ(x)·(1 - t).
  const missing = x.neg().sigmoid().mul(target).add(x.sigmoid().mul(rest));
  let fade = missing.pow(gamma);
  if (reducedThreshold !== undefined) {
    const scaled = missing.div(1 - reducedThreshold).pow(gamma);
    const ones = full(fade.shape, 1, { dtype: fade.dtype });
    fade = scaled.where(missing.le(1 - reducedThreshold), ones);
  }
  let loss = fade.mul(ce);
  if (alpha !== null) loss = loss.mul(target.mul(alpha).add(rest.mul(1 - alpha)));
  if (ignoreIndex !== undefined) {
    const kept = target.ne(ignoreIndex);
    loss = loss.where(kept, zeroLike(loss));
    fade = fade.where(kept, zeroLike(fade));
  }
  if (normalized) loss = loss.div(fade.sum().clamp({ min: eps }));
  return reduced(loss, reduction);
}

/** Options of {@linkcode focalCosineLoss}. */
export interface FocalCosineOptions extends LossOptions {
  /** Factor of the focal part; default 1. */
  alpha?: number;
  /** How strongly what is right already is faded; default 2. */
  gamma?: number;
  /** Share of the cross entropy; default 0.1. */
  xent?: number;
}

/**
 * 1 - cos(logits, onehot) + xent · mean(alpha·(1 - e^-ce)^gamma·ce) for logits [N, C] and class ids [N],
 * with ce the cross entropy of the logits scaled to length 1. `reduction` is that of the first part.
 *
 * Source: pytorch-toolbelt's FocalCosineLoss
 */
export function focalCosineLoss(
  logits: Tensor,
  target: Tensor,
  options: FocalCosineOptions = {},
): Tensor {
  const { alpha = 1, gamma = 2, xent = 0.1, reduction } = checked("focalCosineLoss", options);
  if (logits.ndim !== 2) {
    throw new TypeError(
      `Cannot take focalCosineLoss of ${show(logits.shape)}: logits must be [N, C]`,
    );
  }
  checkClasses("focalCosineLoss", logits, target);
  const hot = oneHot(target, logits.shape[1]!, { dtype: logits.dtype });
  const picked = logits.mul(hot).sum(1);
  // As in PyTorch's cosine_embedding_loss: 1e-12 under the root of each length.
  const lengths = logits.square().sum(1).add(1e-12).mul(1 + 1e-12).sqrt();
  const cosine = reduced(picked.div(lengths).mul(-1).add(1), reduction);
  const ce = crossEntropy(normalize(logits, { dim: 1 }), target, { reduction: "none" });
  const missing = ce.neg().exp().mul(-1).add(1);
  return cosine.add(missing.pow(gamma).mul(ce).mul(alpha).mean().mul(xent));
}

/** Options of {@linkcode softCrossEntropyLoss}. */
export interface SoftCrossEntropyOptions extends LossOptions {
  /** Share of the target spread evenly over all classes; default 0. */
  smoothFactor?: number;
  /** Class id that gives no loss, but counts in the mean; default -100. */
  ignoreIndex?: number;
}

/**
 * Cross entropy of logits [N, C] or [N, C, d1, …] with smoothed class ids, whose mean is over all places:
 * unlike {@linkcode crossEntropy}, ignored ones count in the divisor.
 *
 * Source: pytorch-toolbelt's SoftCrossEntropyLoss
 */
export function softCrossEntropyLoss(
  logits: Tensor,
  target: Tensor,
  options: SoftCrossEntropyOptions = {},
): Tensor {
  const { smoothFactor = 0, ignoreIndex, reduction } = checked("softCrossEntropyLoss", options);
  const loss = crossEntropy(logits, target, {
    labelSmoothing: smoothFactor,
    ignoreIndex,
    reduction: "none",
  });
  return reduced(loss, reduction);
}

/** Options of {@linkcode biTemperedLogisticLoss}. */
export interface BiTemperedOptions extends LossOptions {
  /** Temperature of the logarithm, below 2; below 1 bounds the loss. */
  t1: number;
  /** Temperature of the exponential, above 0; above 1 makes the tail heavy. */
  t2: number;
  /** Share of the target spread over the other classes; default 0. */
  labelSmoothing?: number;
  /** Class id that gives no loss, but counts in the mean. Default none. */
  ignoreIndex?: number;
  /** Rounds of the normalisation; default 5. */
  iterations?: number;
}

/**
 * The bi-tempered logistic loss of activations [N, C] with class ids [N] (i32 or u32) or probabilities
 * [N, C]; t1 = t2 = 1 is the softmax cross entropy.
 *
 * Source: Amid et al., "Robust bi-tempered logistic loss based on Bregman divergences", NeurIPS 2019,
 * https://arxiv.org/abs/1906.03361
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 * @throws {RangeError} if t1 is not below 2, t2 not above 0, or labelSmoothing not in [0, 1]
 *
 * @example
 * ```ts
 * import { biTemperedLogisticLoss, init, tensor } from "../mod.ts";
 * await init();
 * const ids = tensor([0], { dtype: "i32" });
 * const far = biTemperedLogisticLoss(tensor([[-90, 90]]), ids, { t1: 0.8, t2: 1.2 });
 * console.log(await far.item() < 5); // true: an outlier's loss is bounded
 * ```
 */
export function biTemperedLogisticLoss(
  activations: Tensor,
  target: Tensor,
  options: BiTemperedOptions,
): Tensor {
  checked("biTemperedLogisticLoss", options);
  const { t1, t2, labelSmoothing = 0, ignoreIndex, iterations = 5, reduction } = options;
  if (activations.ndim !== 2) {
    throw new TypeError(
      `Cannot take the bi-tempered loss of ${show(activations.shape)}: it must be [N, C]`,
    );
  }
  checkClasses("the bi-tempered loss", activations, target);
  checkSmoothing(labelSmoothing);
  const C = activations.shape[1]!;
  const ids = isFloat(target.dtype) ? null : target;
  const kept = ids && ignoreIndex !== undefined ? ids.ne(ignoreIndex) : null;
  let labels = ids ? oneHot(kept ? ids.mul(kept) : ids, C, { dtype: "f32" }) : target;
  if (labelSmoothing > 0 && C > 1) {
    const even = labelSmoothing / (C - 1);
    labels = labels.mul(1 - even * C).add(even);
  }
  // Under autocast the loss is f32 anyway.
  if (!isAutocasting()) labels = labels.to(activations.dtype);
  const loss = t1 === 1 && t2 === 1
    ? crossEntropy(activations, labels, { reduction: "none" })
    : apply(biTempered, [activations, labels], { t1, t2, iterations })[0]!;
  return reduced(kept ? loss.where(kept, zeroLike(loss)) : loss, reduction);
}
