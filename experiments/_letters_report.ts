/** @file The report page of the letters experiment. */

import { type nn } from "../mod.ts";
import { type ReportData, writeReport } from "../nn/run/mod.ts";
import { closingSections } from "./_report.ts";
import type { LabeledImages } from "../nn/data/mod.ts";

/** Numbers of one evaluated epoch, fractions in 0..1. */
export interface EpochRow {
  readonly epoch: number;
  readonly lr: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly valLoss: number;
  readonly valAccuracy: number;
  readonly keLoss: number;
  readonly keAccuracy: number;
}

/** What the page shows. */
export interface LettersReport {
  readonly subtitle: string;
  readonly history: readonly EpochRow[];
  /** Values of the headline, in order. */
  readonly results: Readonly<Record<string, number>>;
  readonly val: nn.data.Dataset<number>;
  readonly images: LabeledImages;
  /** Predicted class of each validation letter. */
  readonly predictions: ArrayLike<number>;
  readonly options: Readonly<Record<string, unknown>>;
  readonly architecture: string;
}

const LETTERS = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
/** Letters in the grid, of which at most half are wrong ones. */
const GRID = 60;

/** Writes `report.html`. */
export async function writeLettersReport(path: string, report: LettersReport): Promise<void> {
  const { history, val, images, predictions } = report;
  const x = { label: "Epoch", values: history.map((h) => h.epoch) };
  const percent = (v: number) => 100 * v;
  const truths: number[] = [];
  for (let i = 0; i < val.length; i++) truths.push(images.labels[await val.get(i)]!);
  const counts = LETTERS.map(() => LETTERS.map(() => 0));
  truths.forEach((t, i) => counts[t]![predictions[i]!]!++);

  const page: ReportData = {
    title: "Letters: coupled AlexNet",
    subtitle: report.subtitle,
    headline: Object.entries(report.results).map(([label, value]) => ({
      label,
      value: `${percent(value).toFixed(2)} %`,
    })),
    sections: [
      {
        kind: "curves",
        title: "Loss",
        x,
        y: { label: "Cross entropy" },
        series: [
          { name: "Training", values: history.map((h) => h.trainLoss) },
          { name: "Validation", values: history.map((h) => h.valLoss) },
          { name: "After equalization", values: history.map((h) => h.keLoss) },
        ],
      },
      {
        kind: "curves",
        title: "Accuracy",
        x,
        y: { label: "Accuracy", unit: "%" },
        series: [
          { name: "Training", values: history.map((h) => percent(h.trainAccuracy)) },
          { name: "Validation", values: history.map((h) => percent(h.valAccuracy)) },
          { name: "After equalization", values: history.map((h) => percent(h.keAccuracy)) },
        ],
      },
      {
        kind: "images",
        title: "Validation letters",
        note: "As the best weights read them; wrong ones first, at most half of the grid.",
        images: await pictures(val, images, predictions, truths),
      },
      {
        kind: "confusion",
        title: "Confusion on the validation letters",
        classes: LETTERS,
        counts,
      },
      ...closingSections(report.options, report.architecture),
    ],
  };
  await writeReport(path, page);
}

/** Wrong letters first, then right ones, in the order of the validation set. */
async function pictures(
  val: nn.data.Dataset<number>,
  images: LabeledImages,
  predictions: ArrayLike<number>,
  truths: readonly number[],
) {
  const all = truths.map((_, i) => i);
  const wrong = all.filter((i) => predictions[i] !== truths[i]).slice(0, GRID / 2);
  const right = all.filter((i) => predictions[i] === truths[i]).slice(0, GRID - wrong.length);
  const size = images.width * images.height;
  return await Promise.all([...wrong, ...right].map(async (i) => {
    const index = await val.get(i);
    return {
      picture: {
        width: images.width,
        height: images.height,
        channels: 1 as const,
        data: images.images.slice(index * size, (index + 1) * size),
      },
      caption: LETTERS[predictions[i]!]!,
      detail: `is ${LETTERS[truths[i]!]}`,
      wrong: predictions[i] !== truths[i],
    };
  }));
}
