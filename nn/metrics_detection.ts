/** @file Metrics of object detection, on the host in float64. Boxes are [xmin, ymin, xmax, ymax]. */

import { checkOptions } from "../engine/arguments.ts";

/** Options of {@linkcode precisionRecall}. */
export interface PrecisionRecallOptions {
  /** Class to look at. Default 0. */
  classId?: number;
  /** Least overlap (intersection over union) of a detection with its object. Default 0.5. */
  iouThreshold?: number;
  /** Best detections of an image that count. Default 100. */
  maxDetections?: number;
}

/** Precision and recall down to each detection, from the highest score. */
export interface PrecisionRecall {
  readonly scores: Float64Array;
  readonly precision: Float64Array;
  readonly recall: Float64Array;
  /** Objects of the class. */
  readonly objects: number;
}

/** Rows of an image: [class, score, box] of detections, [class, box] of objects. */
type Rows = readonly ArrayLike<number>[];

/**
 * Precision and recall of detections of one class over images. Down the scores, each detection takes the
 * object of its image and class that it overlaps most and that none took before; it is right if that
 * overlap is at least the threshold.
 *
 * @param detections For each image rows [class, score, box], as `multiboxDetection` gives them; rows of a
 * class below 0 are none.
 * @param objects For each image rows [class, box]; the first of a class below 0 ends the list.
 * @throws {TypeError} If there are not as many lists of both.
 *
 * Source: COCO's evaluation (pycocotools), without crowds and areas.
 */
export function precisionRecall(
  detections: readonly Rows[],
  objects: readonly Rows[],
  options: PrecisionRecallOptions = {},
): PrecisionRecall {
  checkOptions(
    "precisionRecall",
    options,
    "precisionRecall(detections, objects, { iouThreshold: 0.5 })",
  );
  const { classId = 0, iouThreshold = 0.5, maxDetections = 100 } = options;
  if (detections.length !== objects.length) {
    throw new TypeError(
      `Cannot compare detections of ${detections.length} images with objects of ` +
        `${objects.length}: give a list of both for each image`,
    );
  }
  const found: { score: number; right: boolean }[] = [];
  let count = 0;
  for (const [i, rows] of detections.entries()) {
    const truths = listed(objects[i]!).filter((row) => row[0] === classId);
    count += truths.length;
    const best = rows.filter((row) => row[0] === classId)
      .sort((a, b) => b[1]! - a[1]!).slice(0, maxDetections);
    const free = truths.map(() => true);
    for (const row of best) {
      let at = -1, most = Math.min(iouThreshold, 1 - 1e-10);
      for (const [j, truth] of truths.entries()) {
        const overlap = free[j] ? iou(row, 2, truth) : -1;
        if (overlap < most) continue;
        [at, most] = [j, overlap];
      }
      if (at >= 0) free[at] = false;
      found.push({ score: row[1]!, right: at >= 0 });
    }
  }
  found.sort((a, b) => b.score - a.score);
  const [precision, recall] = [new Float64Array(found.length), new Float64Array(found.length)];
  let right = 0;
  for (const [i, detection] of found.entries()) {
    if (detection.right) right++;
    precision[i] = right / (i + 1);
    recall[i] = count > 0 ? right / count : 0;
  }
  return { scores: Float64Array.from(found, (f) => f.score), precision, recall, objects: count };
}

/** Rows up to the first of a class below 0. */
function listed(rows: Rows): Rows {
  const end = rows.findIndex((row) => row[0]! < 0);
  return end < 0 ? rows : rows.slice(0, end);
}

/** Overlap of the box at `from` of a row with the box of an object. */
function iou(row: ArrayLike<number>, from: number, truth: ArrayLike<number>): number {
  const a = (k: number) => row[from + k]!, b = (k: number) => truth[1 + k]!;
  const side = (k: number) => Math.max(0, Math.min(a(k + 2), b(k + 2)) - Math.max(a(k), b(k)));
  const inter = side(0) * side(1);
  const area = (v: (k: number) => number) => (v(2) - v(0)) * (v(3) - v(1));
  const union = area(a) + area(b) - inter;
  return union > 0 ? inter / union : 0;
}

/** Mean average precision of detections. */
export interface DetectionScores {
  /** Mean over the overlaps. */
  readonly map: number;
  /** Mean over the classes, for each overlap asked for. */
  readonly atIou: readonly number[];
}

/** Overlaps of COCO: 0.5, 0.55, … 0.95. */
const COCO_IOUS = linspace(0.5, 0.95, 10);
/** Recalls at which COCO reads the precision. */
const RECALLS = linspace(0, 1, 101);

/**
 * Mean average precision as COCO defines it: for each overlap threshold and each class with objects, the
 * mean over the recalls 0, 0.01, … 1 of the highest precision at that recall or more. 0 without objects.
 *
 * @param detections For each image rows [class, score, box]; a class below 0 is no detection.
 * @param objects For each image rows [class, box]; the first of a class below 0 ends the list.
 * @param options `iouThresholds`, by default 0.5 to 0.95 in steps of 0.05; `maxDetections` of an image, 100.
 * @throws {TypeError} If there are not as many lists of both.
 *
 * @example
 * ```ts
 * import { meanAveragePrecision } from "./metrics_detection.ts";
 *
 * const found = [[[0, 0.9, 0.1, 0.1, 0.5, 0.5], [0, 0.8, 0.6, 0.6, 0.9, 0.9]]];
 * const objects = [[[0, 0.1, 0.1, 0.5, 0.5]]];
 * console.log(meanAveragePrecision(found, objects).map); // 1: the wrong one comes last
 * ```
 */
export function meanAveragePrecision(
  detections: readonly Rows[],
  objects: readonly Rows[],
  options: { iouThresholds?: readonly number[]; maxDetections?: number } = {},
): DetectionScores {
  checkOptions(
    "meanAveragePrecision",
    options,
    "meanAveragePrecision(detections, objects, { maxDetections: 100 })",
  );
  const { iouThresholds = COCO_IOUS, maxDetections } = options;
  const classes = new Set(objects.flatMap((rows) => listed(rows).map((row) => row[0]!)));
  const mean = (values: readonly number[]) =>
    values.length > 0 ? values.reduce((sum, v) => sum + v, 0) / values.length : 0;
  const atIou = iouThresholds.map((iouThreshold) =>
    mean(
      [...classes].map((classId) =>
        interpolated(
          precisionRecall(detections, objects, { classId, iouThreshold, maxDetections }),
        )
      ),
    )
  );
  return { map: mean(atIou), atIou };
}

/** NumPy's numbers of that name to the last bit: a recall may be equal to one of them. */
function linspace(start: number, stop: number, count: number): number[] {
  const step = (stop - start) / (count - 1);
  return Array.from({ length: count }, (_, i) => i === count - 1 ? stop : start + i * step);
}

/** Mean over {@linkcode RECALLS} of the highest precision at that recall or more. */
function interpolated({ precision, recall }: PrecisionRecall): number {
  const highest = precision.slice();
  for (let i = highest.length - 2; i >= 0; i--) {
    highest[i] = Math.max(highest[i]!, highest[i + 1]!);
  }
  let total = 0, at = 0;
  for (const wanted of RECALLS) {
    while (at < recall.length && recall[at]! < wanted) at++;
    total += highest[at] ?? 0;
  }
  return total / RECALLS.length;
}
