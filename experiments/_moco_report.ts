/** @file What the moco experiment prints and shows. */

import { type nn } from "../mod.ts";
import { type ReportData, type ReportSection, writeReport } from "../nn/run/mod.ts";
import { closingSections } from "./_report.ts";
import type { Cifar10Images } from "../nn/data/mod.ts";
import type { ProbeTask } from "./_moco_probe.ts";

/** Enlargement of pictures, so that names fit below them. */
const ZOOM = 4;

/** Numbers of one epoch; fractions in 0..1, null where not measured. */
export interface EpochRow {
  readonly epoch: number;
  readonly lr: number;
  readonly loss: number;
  readonly knn: number | null;
  readonly seconds: number;
}

/** Columns of `metrics.csv`. */
export const COLUMNS = ["epoch", "lr", "train_loss", "knn_top1", "seconds"];

/** A row of `metrics.csv`. */
export function epochCells(row: EpochRow): Record<string, number | string> {
  return {
    epoch: row.epoch,
    lr: row.lr,
    train_loss: row.loss,
    knn_top1: row.knn ?? "",
    seconds: row.seconds,
  };
}

/** Accuracies of linear classifiers on one task. */
export interface ProbeResult extends ProbeTask {
  readonly trained: number;
  readonly untrained: number;
}

const NAMES: Readonly<Record<number, string>> = {
  2: "binary",
  5: "five classes",
  10: "ten classes",
};

/** What a task is called. */
export function taskName({ classes, share }: ProbeTask): string {
  return `${NAMES[classes]}, ${Math.round(100 * share)} % of labels`;
}

/** A share in percent, for tables. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

/** The table of the linear protocol, as text. */
export function protocolLines(results: readonly ProbeResult[]): string[] {
  return [
    `${"Linear classifier on".padEnd(32)}${"trained".padStart(10)}${"untrained".padStart(11)}`,
    ...results.map((r) =>
      taskName(r).padEnd(32) + percent(r.trained).padStart(10) + percent(r.untrained).padStart(11)
    ),
  ];
}

/** What the page shows. */
export interface MocoReport {
  readonly subtitle: string;
  readonly history: readonly EpochRow[];
  readonly results: readonly ProbeResult[];
  readonly knn: { readonly trained: number; readonly untrained: number };
  readonly classes: readonly string[];
  /** A few test images, each with its nearest training images. */
  readonly rows: readonly { readonly query: number; readonly nearest: readonly number[] }[];
  readonly train: Cifar10Images;
  readonly test: Cifar10Images;
  readonly options: Readonly<Record<string, unknown>>;
  readonly architecture: string;
}

/** Writes `report.html`. */
export async function writeMocoReport(path: string, report: MocoReport): Promise<void> {
  const { history, results, knn } = report;
  const x = { label: "Epoch", values: history.map((h) => h.epoch) };
  const ten = results.find((r) => r.classes === 10 && r.share === 1)!;
  const measured = history.filter((h) => h.knn !== null);
  const sections: ReportSection[] = [
    {
      kind: "curves",
      title: "Contrastive loss",
      x,
      y: { label: "Loss" },
      series: [{ name: "Training", values: history.map((h) => h.loss) }],
    },
    {
      kind: "curves",
      title: "Nearest neighbours",
      note:
        "Top-1 accuracy of a vote of the nearest training images; at 0 the untrained encoder's.",
      x: { label: "Epoch", values: [0, ...measured.map((h) => h.epoch)] },
      y: { label: "Top-1", unit: "%" },
      series: [{
        name: "kNN",
        values: [100 * knn.untrained, ...measured.map((h) => 100 * h.knn!)],
      }],
    },
    {
      kind: "table",
      title: "Linear classifiers on frozen features",
      columns: ["Task", "Trained encoder", "Untrained encoder"],
      rows: results.map((r) => [taskName(r), percent(r.trained), percent(r.untrained)]),
    },
    ...report.rows.map((row, i): ReportSection => ({
      kind: "images",
      title: `Nearest to test image ${row.query + 1}`,
      note: i === 0
        ? "First the test image, then the training images nearest to it; other classes are marked."
        : undefined,
      filter: false,
      images: [
        tile(report, { set: report.test, index: row.query, truth: undefined }),
        ...row.nearest.map((index) =>
          tile(report, { set: report.train, index, truth: report.test.labels[row.query]! })
        ),
      ],
    })),
    ...closingSections(report.options, report.architecture),
  ];
  const page: ReportData = {
    title: "MoCo: features without labels",
    subtitle: report.subtitle,
    headline: [
      { label: "Linear top-1", value: percent(ten.trained) },
      { label: "Untrained encoder", value: percent(ten.untrained) },
      { label: "kNN top-1", value: percent(knn.trained) },
    ],
    sections,
  };
  await writeReport(path, page);
}

/** One picture; `truth` is the class it should have. */
function tile(
  { classes }: MocoReport,
  { set, index, truth }: { set: Cifar10Images; index: number; truth: number | undefined },
) {
  const label = set.labels[index]!;
  return {
    picture: picture(set, index),
    caption: classes[label]!,
    detail: truth === undefined ? "test image" : undefined,
    wrong: truth !== undefined && truth !== label,
  };
}

/** An image with its colours side by side, {@linkcode ZOOM} times as wide. */
function picture(set: Cifar10Images, index: number): nn.run.ReportPicture {
  const start = index * 3 * set.width * set.height;
  const [width, height] = [ZOOM * set.width, ZOOM * set.height];
  const data = new Uint8Array(3 * width * height);
  for (let at = 0, y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const pixel = Math.floor(y / ZOOM) * set.width + Math.floor(x / ZOOM);
      for (let k = 0; k < 3; k++) {
        data[at++] = set.images[start + k * set.width * set.height + pixel]!;
      }
    }
  }
  return { width, height, channels: 3, data };
}
