/** @file Metrics that stay on the GPU: add them up over batches and read them once. */

import { noGrad, type Tensor } from "../engine/mod.ts";

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
  check("topkAccuracy", logits, target);
  return noGrad(() => {
    const hits = logits.topk(options.k, { dim: 1 }).indices.eq(target.unsqueeze(1));
    return reduced(hits.to("f32").sum(1), options);
  });
}

function reduced(hits: Tensor, { reduction = "mean" }: AccuracyOptions): Tensor {
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
