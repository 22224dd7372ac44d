/** @file From pictures to detections, and their scores over a set. */

import { multiboxDetection, nn, noGrad, readAll, scope, type Tensor } from "../mod.ts";
import { collate, prepare, type SceneSet, upload } from "./_ssd_data.ts";

/** A detection: [class, score, xmin, ymin, xmax, ymax], the box in fractions of the picture. */
export type Detection = ArrayLike<number>;

/** Best rows of each picture that are looked at and read. */
const TOP = 200;

/** How detections are chosen. */
export interface DetectOptions {
  /** Lowest score. Default 0.01. */
  readonly threshold?: number;
  /** Overlap from which the worse of two boxes goes. Default 0.5. */
  readonly nmsThreshold?: number;
  /** Cuts boxes off at the picture's edge. Default true. */
  readonly clip?: boolean;
}

/** Detections [B, at most 200, 6] of prepared pictures, best first; rows of class -1 are none. */
export function detect(
  model: nn.models.ToySsd,
  x: Tensor,
  options: DetectOptions = {},
): Tensor {
  return noGrad(() => {
    const { anchors, classes, boxes } = model.forward(x);
    const probabilities = classes.softmax(2).permute(0, 2, 1).contiguous();
    const rows = multiboxDetection(probabilities, boxes, { anchors, nmsTopk: TOP, ...options });
    return rows.narrow(1, 0, Math.min(TOP, rows.shape[1]!));
  });
}

/** The rows of what {@linkcode detect} gave, for each picture. */
export function rowsOf(detections: ArrayLike<number>, pictures: number): Detection[][] {
  const values = detections as Float32Array;
  const rows = values.length / 6 / pictures;
  return Array.from({ length: pictures }, (_, i) => {
    const all = Array.from({ length: rows }, (_, k) => {
      const at = 6 * (i * rows + k);
      return values.subarray(at, at + 6);
    });
    return all.filter((row) => row[0]! >= 0);
  });
}

/** Detections of a whole set, and what they are worth. */
export interface Evaluation {
  /** Mean average precision at an overlap of 0.5. */
  readonly map50: number;
  /** Mean over the overlaps 0.5 to 0.95, as COCO. */
  readonly map: number;
  /** For each overlap from 0.5 to 0.95. */
  readonly atIou: readonly number[];
  /** For each picture. */
  readonly detections: readonly Detection[][];
}

/** Scores of a model on a set of scenes, which are read from the GPU at once. */
export async function evaluate(
  model: nn.models.ToySsd,
  set: SceneSet,
  options: { size: number; batchSize: number },
): Promise<Evaluation> {
  const { size, batchSize } = options;
  const training = model.training;
  model.eval();
  const parts: Tensor[] = [], counts: number[] = [];
  for (let at = 0; at < set.scenes.length; at += batchSize) {
    const end = Math.min(at + batchSize, set.scenes.length);
    const indices = Array.from({ length: end - at }, (_, i) => at + i);
    parts.push(scope(() => {
      const tensors = noGrad(() => upload(set, collate(set, indices)));
      return detect(model, prepare(tensors, { size })).contiguous();
    }));
    counts.push(indices.length);
  }
  const read = await readAll(parts);
  for (const part of parts) part.dispose();
  if (training) model.train();
  const detections = read.flatMap((values, i) => rowsOf(values, counts[i]!));
  const objects = set.scenes.map((scene) => scene.objects);
  const { map, atIou } = nn.metrics.meanAveragePrecision(detections, objects);
  return { map50: atIou[0]!, map, atIou, detections };
}
