/** @file What predictions of bird species are worth, and a baseline without training. */

import { nn, noGrad, normalize, scope, tensor } from "../mod.ts";
import type { BirdSet } from "./_birdclef_data.ts";

/** The notebook's metrics, fractions in 0..1. */
export interface Scores {
  readonly accuracy: number;
  /** Mean over the classes that occur of the share of theirs that is found. */
  readonly meanRecall: number;
  /** Mean average precision with five rows of padding. */
  readonly cmap: number;
}

/** Scores of predictions: a row of C numbers a spectrogram, the larger the likelier. */
export function scoresOf(rows: readonly ArrayLike<number>[], labels: readonly number[]): Scores {
  const classes = rows[0]!.length;
  const [seen, found] = [new Float64Array(classes), new Float64Array(classes)];
  rows.forEach((row, i) => {
    const label = labels[i]!;
    seen[label]!++;
    if (argmax(row) === label) found[label]!++;
  });
  const occurring = Array.from(seen, (_, c) => c).filter((c) => seen[c]! > 0);
  return {
    accuracy: found.reduce((a, b) => a + b) / rows.length,
    meanRecall: occurring.reduce((sum, c) => sum + found[c]! / seen[c]!, 0) / occurring.length,
    cmap: nn.metrics.paddedCmap(rows, labels),
  };
}

/** Average precision of each class without padding; undefined for a class that does not occur. */
export function classPrecisions(
  rows: readonly ArrayLike<number>[],
  labels: readonly number[],
): (number | undefined)[] {
  return Array.from({ length: rows[0]!.length }, (_, c) => {
    if (!labels.includes(c)) return undefined;
    return nn.metrics.averagePrecision(
      rows.map((row) => row[c]!),
      labels.map((label) => Number(label === c)),
    );
  });
}

/** Place of the largest number; of equal ones the first. */
export function argmax(row: ArrayLike<number>): number {
  let best = 0;
  for (let c = 1; c < row.length; c++) if (row[c]! > row[best]!) best = c;
  return best;
}

/** Most products of pairs that the baseline takes. */
const MOST_PAIRS = 2e8;

/**
 * The nearest-neighbour baseline: a class's score is the largest cosine between a spectrogram, its mean
 * taken away, and those of the class in training. Null where there are too many to compare.
 */
export async function nearestNeighbour(
  set: BirdSet,
  parts: { train: readonly number[]; val: readonly number[] },
): Promise<Scores | null> {
  const { train, val } = parts;
  if (train.length * val.length > MOST_PAIRS) return null;
  const size = set.height * set.width;
  const matrix = (indices: readonly number[]) => {
    const values = new Float32Array(indices.length * size);
    indices.forEach((index, i) => values.set(set.pictures[index]!, i * size));
    const x = tensor(values, { shape: [indices.length, size] });
    return normalize(x.sub(x.mean(1, { keepdim: true })), { dim: 1 });
  };
  using cosines = scope(() =>
    noGrad(() => matrix(val).matmul(matrix(train).transpose(0, 1)).contiguous())
  );
  const values = await cosines.data() as Float32Array;
  const rows = val.map((_, i) => {
    const row = new Float32Array(set.classes.length).fill(-1);
    train.forEach((index, j) => {
      const label = set.labels[index]!;
      row[label] = Math.max(row[label]!, values[i * train.length + j]!);
    });
    return row;
  });
  return scoresOf(rows, val.map((index) => set.labels[index]!));
}
