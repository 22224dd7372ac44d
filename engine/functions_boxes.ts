/** Boxes of object detection as functions. Boxes are [xmin, ymin, xmax, ymax] in fractions of the image. */

import { checkOptions } from "./arguments.ts";
import { inArena } from "./array.ts";
import { noGrad } from "./autograd.ts";
import {
  boxNms,
  type DetectionAttrs,
  multiboxDetection as detectionOp,
  type NmsAttrs,
} from "./ops/box_suppress.ts";
import { multiboxTarget as targetOp, priorBoxes, type TargetAttrs } from "./ops/boxes.ts";
import { show } from "./shape.ts";
import { apply, Tensor } from "./tensor.ts";

/** Options of {@linkcode multiboxPrior}. */
export interface MultiboxPriorOptions {
  /** Scales as fractions of the image's height; default [1]. */
  sizes?: readonly number[];
  /** Width over height; default [1]. The first goes with every size, the others with the first size. */
  ratios?: readonly number[];
  /** Cuts boxes off at the image's edge; default false. */
  clip?: boolean;
  /** Distance of cells [y, x]; default 1 / H and 1 / W. */
  steps?: readonly [number, number];
  /** Where a cell's centre lies [y, x], 0 to 1; default 0.5. */
  offsets?: readonly [number, number];
}

/**
 * Anchors [1, H·W·(S + R - 1), 4] for a feature map x [..., H, W]: cell after cell, each with every
 * size at the first ratio, then the first size at the other ratios. Half a box is size·H/W·√ratio / 2
 * wide and size / √ratio / 2 high.
 *
 * Source: MXNet's MultiBoxPrior.
 *
 * @throws {TypeError} if x has fewer than two dimensions
 * @throws {RangeError} if a size or ratio is not positive, or an offset outside [0, 1]
 */
export function multiboxPrior(x: Tensor, options: MultiboxPriorOptions = {}): Tensor {
  checkOptions("multiboxPrior", options, "multiboxPrior(x, { sizes: [0.5] })");
  const { sizes = [1], ratios = [1], clip = false, steps = [-1, -1], offsets = [0.5, 0.5] } =
    options;
  if (x.ndim < 2) {
    throw new TypeError(`Cannot multiboxPrior ${show(x.shape)}: it must be [..., H, W]`);
  }
  for (const [name, values] of [["sizes", sizes], ["ratios", ratios]] as const) {
    if (values.length === 0 || !values.every((v) => v > 0)) {
      throw new RangeError(
        `Cannot multiboxPrior with ${name} [${values.join(", ")}]: give one or more above 0`,
      );
    }
  }
  if (!offsets.every((v) => v >= 0 && v <= 1)) {
    throw new RangeError(
      `Cannot multiboxPrior with offsets [${offsets.join(", ")}]: they must be 0 to 1`,
    );
  }
  const [H, W] = x.shape.slice(-2) as [number, number];
  return new Tensor(inArena(() => priorBoxes({ H, W, sizes, ratios, clip, steps, offsets })));
}

/** Options of {@linkcode multiboxTarget}. */
export interface MultiboxTargetOptions {
  /** An anchor is positive above this overlap; default 0.5; not positive: only matched pairs are. */
  overlapThreshold?: number;
  /** Class of anchors that do not count; default -1. */
  ignoreLabel?: number;
  /** Negatives for each positive; default -1: every other anchor is a negative. */
  negativeMiningRatio?: number;
  /** Mining takes anchors that overlap less than this; default 0.5. */
  negativeMiningThresh?: number;
  /** Fewest negatives an image with mining (as MXNet's CUDA kernel); default 0. */
  minimumNegativeSamples?: number;
  /** Divisors of the offsets; default [0.1, 0.1, 0.2, 0.2]. */
  variances?: readonly [number, number, number, number];
}

/** What an anchor should predict. */
export interface MultiboxTargets {
  /** Offsets [B, 4·A]; 0 where there is no object. */
  readonly locTarget: Tensor;
  /** 1 for the four offsets of a positive anchor, else 0: [B, 4·A]. */
  readonly locMask: Tensor;
  /** Class [B, A] as a float: 0 background, c + 1 for class c, `ignoreLabel` for what does not count. */
  readonly clsTarget: Tensor;
}

/**
 * Targets of anchors [1, A, 4] for labels [B, L, 5 or more] of rows [class, box]; a row of class -1
 * ends an image's list. Greedy one-to-one matching first, then every anchor over the threshold; with
 * mining, the negatives whose background probability in `clsPred` [B, C, A] is lowest.
 *
 * An image without objects ignores all its anchors. With fewer candidates than mining asks for, all of
 * them are taken. Not differentiable. Source: MXNet's MultiBoxTarget.
 *
 * Inputs are f32 or f16, computed in f32; results are f16 if all inputs are.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function multiboxTarget(
  anchors: Tensor,
  labels: Tensor,
  options: MultiboxTargetOptions & { clsPred: Tensor },
): MultiboxTargets {
  checkOptions("multiboxTarget", options, "multiboxTarget(anchors, labels, { clsPred })");
  const { clsPred, ...rest } = options;
  const attrs: TargetAttrs = {
    overlapThreshold: 0.5,
    ignoreLabel: -1,
    negativeMiningRatio: -1,
    negativeMiningThresh: 0.5,
    minimumNegativeSamples: 0,
    variances: [0.1, 0.1, 0.2, 0.2],
    ...rest,
  };
  const [locTarget, locMask, clsTarget] = apply(targetOp, [anchors, labels, clsPred], attrs);
  return { locTarget: locTarget!, locMask: locMask!, clsTarget: clsTarget! };
}

/** Options of {@linkcode multiboxDetection}. */
export interface MultiboxDetectionOptions {
  /** Cuts boxes off at the image's edge; default true. */
  clip?: boolean;
  /** Lowest score of a detection; default 0.01. */
  threshold?: number;
  /** Overlap from which the worse box goes; default 0.5. Outside (0, 1]: no suppression, no sorting. */
  nmsThreshold?: number;
  /** Boxes of different classes suppress each other, too; default false. */
  forceSuppress?: boolean;
  /** Factors of the offsets; default [0.1, 0.1, 0.2, 0.2]. */
  variances?: readonly [number, number, number, number];
  /** Best detections that suppression looks at; default -1: all. */
  nmsTopk?: number;
}

/**
 * Detections [B, A, 6] of rows [class, score, box], best first, from class probabilities [B, C, A]
 * (class 0 is the background), offsets [B, 4·A] and anchors [1, A, 4]. Suppressed rows and those past
 * `nmsTopk` have class -1; rows without detection are -1 everywhere.
 *
 * Not differentiable. Source: MXNet's MultiBoxDetection (its CUDA kernel past `nmsTopk`).
 *
 * Inputs are f32 or f16, computed in f32; results are f16 if all inputs are.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function multiboxDetection(
  clsProb: Tensor,
  locPred: Tensor,
  options: MultiboxDetectionOptions & { anchors: Tensor },
): Tensor {
  checkOptions("multiboxDetection", options, "multiboxDetection(clsProb, locPred, { anchors })");
  const { anchors, ...rest } = options;
  const attrs: DetectionAttrs = {
    clip: true,
    threshold: 0.01,
    nmsThreshold: 0.5,
    forceSuppress: false,
    variances: [0.1, 0.1, 0.2, 0.2],
    nmsTopk: -1,
    ...rest,
  };
  return apply(detectionOp, [clsProb, locPred, anchors], attrs)[0]!;
}

/** Options of {@linkcode nms}, with MXNet's defaults. */
export type NmsOptions = Partial<NmsAttrs>;

/**
 * Non-maximum suppression of rows x [..., n, k] (f32 or f16): those with score > `validThresh` (0) and not of
 * class `backgroundId`, best first, without those that a better one of their class overlaps by more
 * than `overlapThresh` (0.5). Rows behind the survivors are -1 everywhere.
 *
 * Columns: score at `scoreIndex` (1), four coordinates from `coordStart` (2), class at `idIndex` (-1:
 * one class). `topk` cuts before the suppression. Not differentiable. Source: MXNet's box_nms.
 *
 * @throws {TypeError} if x is not [..., n, k], f32 or f16
 * @throws {RangeError} if a column is outside the row
 */
export function nms(x: Tensor, options: NmsOptions = {}): Tensor {
  checkOptions("nms", options, "nms(x, { overlapThresh: 0.5 })");
  const attrs: NmsAttrs = {
    overlapThresh: 0.5,
    validThresh: 0,
    topk: -1,
    coordStart: 2,
    scoreIndex: 1,
    idIndex: -1,
    backgroundId: -1,
    forceSuppress: false,
    inFormat: "corner",
    outFormat: "corner",
    ...options,
  };
  return apply(boxNms, [x], attrs)[0]!;
}

/**
 * Intersection over union of every pair: a [..., N, 4] and b [..., M, 4] → [..., N, M]; 0 where the
 * union is empty. Differentiable where boxes overlap. Boxes in f16 are compared in f32, since areas
 * overflow in f16; the result is f32, as torchvision's.
 *
 * @throws {TypeError} if a or b is not [..., 4]
 */
export function boxIou(a: Tensor, b: Tensor): Tensor {
  for (const t of [a, b]) {
    if (t.ndim < 2 || t.shape.at(-1) !== 4) {
      throw new TypeError(
        `Cannot boxIou ${show(a.shape)} and ${show(b.shape)}: both must be [..., n, 4]`,
      );
    }
  }
  const float = (t: Tensor) => t.dtype === "f16" ? t.to("f32") : t;
  const [left, right] = [float(a).unsqueeze(-2), float(b).unsqueeze(-3)];
  const [low, high] = [(t: Tensor) => t.narrow(-1, 0, 2), (t: Tensor) => t.narrow(-1, 2, 2)];
  const product = (t: Tensor) => t.select(-1, 0).mul(t.select(-1, 1));
  const area = (t: Tensor) => product(high(t).sub(low(t)));
  const inter = product(
    high(left).minimum(high(right)).sub(low(left).maximum(low(right))).clamp({ min: 0 }),
  );
  const union = area(left).add(area(right)).sub(inter);
  const empty = noGrad(() => union.le(0));
  return inter.div(union.maskedFill(empty, 1)).maskedFill(empty, 0);
}
