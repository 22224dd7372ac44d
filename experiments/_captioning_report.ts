/** @file What the captioning experiment prints and shows. */

import { type ReportData, type ReportPicture, writeReport } from "../nn/run/mod.ts";
import { closingSections } from "./_report.ts";

/** Numbers of one epoch, losses in nats a word. */
export interface EpochRow {
  readonly epoch: number;
  readonly lr: number;
  readonly trainLoss: number;
  readonly valLoss: number;
  readonly seconds: number;
}

/** Columns of `metrics.csv`. */
export const COLUMNS = ["epoch", "lr", "train_loss", "val_loss", "seconds"];

/** A row of `metrics.csv`. */
export function epochCells(row: EpochRow): Record<string, number> {
  const { epoch, lr, trainLoss, valLoss, seconds } = row;
  return { epoch, lr, train_loss: trainLoss, val_loss: valLoss, seconds };
}

/** A validation picture with what the model and people say of it. */
export interface CaptionedPicture {
  readonly picture: ReportPicture;
  readonly generated: string;
  readonly references: readonly string[];
  /** Whether the generated caption is true, where that can be told. */
  readonly right?: boolean;
}

/** What the page shows. */
export interface CaptioningReport {
  readonly subtitle: string;
  readonly history: readonly EpochRow[];
  readonly unigramEntropy: number;
  /** Values of the headline, in order. */
  readonly results: Readonly<Record<string, string>>;
  /** BLEU-1 to BLEU-4, fractions. */
  readonly bleu: readonly number[];
  readonly pictures: readonly CaptionedPicture[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly architecture: string;
}

/** Writes `report.html`. */
export async function writeCaptioningReport(path: string, report: CaptioningReport): Promise<void> {
  const { history, unigramEntropy } = report;
  const page: ReportData = {
    title: "Captioning: pictures in words",
    subtitle: report.subtitle,
    headline: Object.entries(report.results).map(([label, value]) => ({ label, value })),
    sections: [
      {
        kind: "curves",
        title: "Loss",
        note:
          "Nats a word. The unigram entropy is the loss of guessing words by their frequency alone.",
        x: { label: "Epoch", values: history.map((h) => h.epoch) },
        y: { label: "Cross entropy" },
        series: [
          { name: "Training", values: history.map((h) => h.trainLoss) },
          { name: "Validation", values: history.map((h) => h.valLoss) },
          { name: "Unigram entropy", values: history.map(() => unigramEntropy) },
        ],
      },
      {
        kind: "table",
        title: "BLEU on the validation pictures",
        columns: ["", "Score"],
        rows: report.bleu.map((score, i) => [`BLEU-${i + 1}`, (100 * score).toFixed(2)]),
      },
      {
        kind: "images",
        title: "Validation pictures",
        note: "The generated caption, and below it one that a person (or the generator) wrote.",
        images: report.pictures.map((p) => ({
          picture: p.picture,
          caption: p.generated,
          // Flickr8k's captions end with " .", which would begin a line of its own.
          detail: p.references[0]?.replace(/\s+\.$/, "."),
          wrong: p.right === false,
        })),
      },
      ...closingSections(report.options, report.architecture),
    ],
  };
  await writeReport(path, page);
}
