/** @file Metrics that stay on the GPU: add them up over batches and read them once. */

import { checkOneOf, checkOptions } from "../engine/arguments.ts";
import { noGrad, type Tensor, zeros } from "../engine/mod.ts";

export { averagePrecision, bleu, type BleuOptions, paddedCmap } from "./metrics_host.ts";
export {
  type DetectionScores,
  meanAveragePrecision,
  type PrecisionRecall,
  precisionRecall,
  type PrecisionRecallOptions,
} from "./metrics_detection.ts";

/** Options of {@linkcode accuracy}. */
export interface AccuracyOptions {
  /** "mean": the share of right rows, 0 to 1. "sum": their number. Default "mean". */
  reduction?: "mean" | "sum";
}

/**
 * How often the largest logit is the target's: logits [N, C] and class ids [N] (i32) → f32 scalar.
 *
 * Over batches of different sizes add `reduction: "sum"`; it is exact up to 2^24 rows.
 *
 * @throws {TypeError} If the shapes do not fit.
 */
export function accuracy(logits: Tensor, target: Tensor, options: AccuracyOptions = {}): Tensor {
  checkOptions("accuracy", options, 'accuracy(logits, target, { reduction: "sum" })');
  check("accuracy", logits, target);
  return noGrad(() => reduced(logits.argmax(1).eq(target), options));
}

/**
 * How often the target is among the k largest logits: logits [N, C] and class ids [N] (i32) → f32
 * scalar. Of equal logits the first ones count as larger.
 *
 * @throws {TypeError} If the shapes do not fit.
 * @throws {RangeError} If k is not 1 to C.
 */
export function topkAccuracy(
  logits: Tensor,
  target: Tensor,
  options: AccuracyOptions & { k: number },
): Tensor {
  checkOptions("topkAccuracy", options, "topkAccuracy(logits, target, { k: 5 })");
  check("topkAccuracy", logits, target);
  return noGrad(() => {
    const hits = logits.topk(options.k, { dim: 1 }).indices.eq(target.unsqueeze(1));
    return reduced(hits.to("f32").sum(1), options);
  });
}

/**
 * Mean over the classes that occur in the target of the share of their rows whose largest logit is
 * theirs: logits [N, C] and class ids [N] (i32) → f32 scalar. NaN without rows.
 *
 * It is not the mean of its values over batches: call it on all rows.
 *
 * @throws {TypeError} If the shapes do not fit.
 */
export function meanRecall(logits: Tensor, target: Tensor): Tensor {
  check("meanRecall", logits, target);
  return noGrad(() => {
    const hits = logits.argmax(1).eq(target).to("f32");
    const none = zeros([logits.shape[1]!]);
    const found = none.scatterAdd(0, target, hits);
    const rows = none.scatterAdd(0, target, hits.mul(0).add(1));
    return found.div(rows.clamp({ min: 1 })).sum().div(rows.gt(0).to("f32").sum());
  });
}

/**
 * Mean of |prediction - target| over all elements, broadcast → f32 scalar.
 *
 * With `mask` (1 counts, 0 does not) masked elements are 0 on both sides and still divide, as the box
 * metric of SSD does.
 *
 * @throws {TypeError} If the shapes do not broadcast.
 */
export function meanAbsoluteError(
  prediction: Tensor,
  target: Tensor,
  options: { mask?: Tensor } = {},
): Tensor {
  checkOptions("meanAbsoluteError", options, "meanAbsoluteError(prediction, target, { mask })");
  return noGrad(() => {
    const off = prediction.sub(target).abs();
    return (options.mask ? off.mul(options.mask) : off).mean();
  });
}

function reduced(hits: Tensor, { reduction = "mean" }: AccuracyOptions): Tensor {
  checkOneOf("take accuracy", { reduction }, ["mean", "sum"]);
  const counted = hits.to("f32");
  return reduction === "sum" ? counted.sum() : counted.mean();
}

function check(metric: string, logits: Tensor, target: Tensor): void {
  if (logits.ndim === 2 && target.ndim === 1 && logits.shape[0] === target.shape[0]) return;
  throw new TypeError(
    `Cannot take the ${metric} of logits [${logits.shape.join(", ")}] and target ` +
      `[${target.shape.join(", ")}]: they must be [N, C] and [N]`,
  );
}
