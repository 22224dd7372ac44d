/** @file What the birdclef experiment prints and shows. */

import { type ReportData, type ReportPicture, writeReport } from "../nn/run/mod.ts";
import type { BirdSet } from "./_birdclef_data.ts";
import { argmax, classPrecisions, type Scores } from "./_birdclef_scores.ts";

/** Numbers of one epoch. */
export interface EpochRow extends Scores {
  readonly epoch: number;
  readonly lr: number;
  readonly trainLoss: number;
  readonly valLoss: number;
  /** Loss scale, and steps skipped since training began; 1 and 0 without mixed precision. */
  readonly scale: number;
  readonly skipped: number;
  readonly seconds: number;
}

/** Columns of `metrics.csv`. */
export const COLUMNS = [
  "epoch",
  "lr",
  "train_loss",
  "valid_loss",
  "accuracy",
  "mean_recall",
  "cmap",
  "loss_scale",
  "skipped_steps",
  "seconds",
];

/** A row of `metrics.csv`. */
export function epochCells(row: EpochRow): Record<string, number> {
  return {
    epoch: row.epoch,
    lr: row.lr,
    train_loss: row.trainLoss,
    valid_loss: row.valLoss,
    accuracy: row.accuracy,
    mean_recall: row.meanRecall,
    cmap: row.cmap,
    loss_scale: row.scale,
    skipped_steps: row.skipped,
    seconds: row.seconds,
  };
}

/** A share in percent, for tables. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

/** What the page shows. */
export interface BirdclefReport {
  readonly subtitle: string;
  readonly history: readonly EpochRow[];
  readonly scores: Scores;
  readonly baseline: Scores | null;
  readonly set: BirdSet;
  /** Validation spectrograms, and a row of probabilities for each. */
  readonly val: readonly number[];
  readonly probabilities: readonly ArrayLike<number>[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly architecture: string;
}

/** Spectrograms in the grid, of which at most half are wrong ones. */
const GRID = 32;
/** Most classes that the confusion matrix shows. */
const MOST_CONFUSED = 40;

/** Writes `report.html`. */
export async function writeBirdclefReport(path: string, report: BirdclefReport): Promise<void> {
  const { history, set, val, probabilities, scores, baseline } = report;
  const x = { label: "Epoch", values: history.map((h) => h.epoch) };
  const labels = val.map((index) => set.labels[index]!);
  const predictions = probabilities.map(argmax);
  const all = val.map((_, i) => i);
  const wrong = all.filter((i) => predictions[i] !== labels[i]).slice(0, GRID / 2);
  const others = all.filter((i) => predictions[i] === labels[i]), room = GRID - wrong.length;
  // Evenly from all: neighbours are of one species.
  const right = others.filter((_, i) => i * room % Math.max(others.length, 1) < room);
  const precisions = classPrecisions(probabilities, labels);
  const page: ReportData = {
    title: "BirdCLEF: birds by their songs",
    subtitle: report.subtitle,
    headline: [
      { label: "Padded cmAP", value: percent(scores.cmap) },
      { label: "Accuracy", value: percent(scores.accuracy) },
      { label: "Mean recall", value: percent(scores.meanRecall) },
      ...baseline ? [{ label: "Nearest neighbour", value: percent(baseline.accuracy) }] : [],
    ],
    sections: [
      {
        kind: "curves",
        title: "Loss",
        x,
        y: { label: "Loss" },
        series: [
          { name: "Training", values: history.map((h) => h.trainLoss) },
          { name: "Validation", values: history.map((h) => h.valLoss) },
        ],
      },
      {
        kind: "curves",
        title: "Validation scores",
        x,
        y: { label: "Score", unit: "%" },
        series: [
          { name: "Accuracy", values: history.map((h) => 100 * h.accuracy) },
          { name: "Mean recall", values: history.map((h) => 100 * h.meanRecall) },
          { name: "Padded cmAP", values: history.map((h) => 100 * h.cmap) },
        ],
      },
      {
        kind: "images",
        title: "Validation spectrograms",
        note: "Time to the right, frequency upwards; wrong ones first, at most half of the grid.",
        images: [...wrong, ...right].map((i) => ({
          picture: pictureOf(set, val[i]!),
          caption: `${set.classes[predictions[i]!]} ${
            (100 * probabilities[i]![predictions[i]!]!).toFixed(0)
          } %`,
          detail: `is ${set.classes[labels[i]!]}`,
          wrong: predictions[i] !== labels[i],
        })),
      },
      ...set.classes.length > MOST_CONFUSED ? [] : [{
        kind: "confusion" as const,
        title: "Confusion on the validation fold",
        classes: set.classes,
        counts: set.classes.map((_, truth) =>
          set.classes.map((_, guess) =>
            all.filter((i) => labels[i] === truth && predictions[i] === guess).length
          )
        ),
      }],
      {
        kind: "table",
        title: "Average precision of each species",
        columns: ["Species", "Spectrograms", "Average precision"],
        rows: set.classes.map((name, c) => [
          name,
          labels.filter((label) => label === c).length,
          precisions[c] === undefined ? "" : percent(precisions[c]!),
        ]),
      },
      {
        kind: "table",
        title: "Configuration",
        collapsed: true,
        rows: Object.entries(report.options).map(([name, value]) => [name, String(value)]),
      },
      {
        kind: "text",
        title: "Architecture",
        collapsed: true,
        preformatted: true,
        text: report.architecture,
      },
    ],
  };
  await writeReport(path, page);
}

/** Fewest pixels of a spectrogram's width on the page. */
const WIDE = 96;

/** A spectrogram, small ones enlarged a whole number of times. */
function pictureOf({ pictures, width, height }: BirdSet, index: number): ReportPicture {
  const k = Math.max(1, Math.ceil(WIDE / width)), W = k * width;
  const data = Uint8Array.from({ length: W * k * height }, (_, at) => {
    const [x, y] = [Math.floor(at % W / k), Math.floor(at / W / k)];
    return pictures[index]![y * width + x]!;
  });
  return { width: W, height: k * height, channels: 1, data };
}
