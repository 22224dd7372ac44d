/** @file What the detection experiment prints and writes, in the notebook's words. */

import { cat, multiboxPrior, nn, noGrad, rand, scope, type Tensor, zeros } from "../mod.ts";
import { downSample } from "../nn/models/toy_ssd.ts";
import type { SceneSet } from "./_ssd_data.ts";
import type { SsdOptions } from "./_ssd_flags.ts";

/** Numbers of one epoch; accuracies and precisions are fractions in 0..1. */
export interface EpochRow {
  readonly epoch: number;
  readonly lr: number;
  readonly classLoss: number;
  readonly boxLoss: number;
  readonly accuracy: number;
  readonly mae: number;
  /** Null where the epoch was not validated. */
  readonly map50: number | null;
  readonly map: number | null;
}

/** Columns of `metrics.csv`. */
export const COLUMNS = [
  "Epoch",
  "LR",
  "Class Loss",
  "Box Loss",
  "Accuracy",
  "MAE",
  "mAP@0.5",
  "mAP@[.5:.95]",
  "Epoch Time",
];

/** A row of `metrics.csv`; `seconds` is the time of training. */
export function rowCells(row: EpochRow, seconds: number): Record<string, number | undefined> {
  return {
    "Epoch": row.epoch,
    "LR": row.lr,
    "Class Loss": row.classLoss,
    "Box Loss": row.boxLoss,
    "Accuracy": row.accuracy,
    "MAE": row.mae,
    "mAP@0.5": row.map50 ?? undefined,
    "mAP@[.5:.95]": row.map ?? undefined,
    "Epoch Time": seconds,
  };
}

/** Speed and metrics within an epoch; `sums` are the loop's totals. */
export function intervalLine(
  { epoch, step, speed }: { epoch: number; step: number; speed: number },
  sums: ArrayLike<number>,
): string {
  const mean = (i: number) => (sums[i]! / sums[4]!).toFixed(6);
  return `[Epoch ${epoch} Batch ${step}] speed: ${speed.toFixed(6)} samples/s, ` +
    `training: accuracy=${mean(2)}, mae=${mean(3)}`;
}

/** The summary of an epoch. */
export function epochLines(row: EpochRow, seconds: number): string[] {
  const { epoch, map50, map } = row;
  const lines = [
    `[Epoch ${epoch}] training: accuracy=${row.accuracy.toFixed(6)}, mae=${row.mae.toFixed(6)}, ` +
    `class loss=${row.classLoss.toFixed(6)}, box loss=${row.boxLoss.toFixed(6)}`,
    `[Epoch ${epoch}] time cost: ${seconds.toFixed(6)}`,
  ];
  if (map50 !== null && map !== null) {
    lines.push(
      `[Epoch ${epoch}] validation: mAP@0.5=${map50.toFixed(6)}, mAP@[.5:.95]=${map.toFixed(6)}`,
    );
  }
  return lines;
}

/** A shape as Python prints it. */
function tuple(t: Tensor | readonly number[]): string {
  return `(${("shape" in t ? t.shape : t).join(", ")})`;
}

/**
 * The notebook's way to the model: an anchor, predictors, blocks and how their outputs are joined, then
 * the model of this run, its outputs and a batch.
 */
export async function introduce(
  say: (line: string) => void,
  { model, sets, options }: {
    model: nn.models.ToySsd;
    sets: { readonly train: SceneSet; readonly val: SceneSet };
    options: SsdOptions;
  },
): Promise<void> {
  using anchors = scope(() =>
    multiboxPrior(zeros([1, 3, 40, 40]), { sizes: [0.5, 0.25, 0.1], ratios: [1, 2, 0.5] })
  );
  const first = [...await anchors.data()].slice(4 * (20 * 40 + 20) * 5).slice(0, 4);
  say(`The first anchor box at row 21, column 21: ${numbers(first)}`);
  scope(() => noGrad(() => shapes(say)));
  say(`${model}`);
  const { size, batchSize, alpha, gamma } = options;
  say(model.summary([3, size, size]));
  const training = model.training;
  model.eval();
  scope(() =>
    noGrad(() => {
      const out = model.forward(zeros([1, 3, size, size]));
      say(
        `Outputs: anchors ${tuple(out.anchors)} class prediction ${tuple(out.classes)} ` +
          `box prediction ${tuple(out.boxes)}`,
      );
    })
  );
  if (training) model.train();
  const { train, val } = sets;
  say(`Scenes: ${train.scenes.length} to train on, ${val.scenes.length} to validate on`);
  const labels = [batchSize, train.mostObjects, 5];
  say(
    `DataBatch: data shapes: [${tuple([batchSize, 3, size, size])}] label shapes: [${
      tuple(labels)
    }]`,
  );
  for (const object of train.scenes[0]!.objects) say(numbers(object));
  say(`FocalLoss(alpha=${alpha}, gamma=${gamma})`);
  say(`SmoothL1Loss(beta=1, weight=${options.boxWeight})`);
}

/** Numbers as NumPy prints a row. */
function numbers(row: ArrayLike<number>): string {
  return `[${Array.from(row, (v) => String(Number(v.toPrecision(8)))).join(" ")}]`;
}

/** Shapes of the parts that the model is made of. */
function shapes(say: (line: string) => void): void {
  using made = new DisposableStack();
  const predictor = (inputs: number, outputs: number) =>
    made.use(new nn.Conv2d(inputs, outputs, { kernelSize: 3, padding: 1 }));
  const half = (inputs: number, outputs: number) => made.use(downSample(inputs, outputs));
  const classPredictor = (inputs: number, anchors: number) => predictor(inputs, anchors * (10 + 1));
  const flatten = (x: Tensor) => x.permute(0, 2, 3, 1).flatten(1);
  say(`Class prediction ${tuple(classPredictor(3, 5).forward(zeros([2, 3, 20, 20])))}`);
  say(`Box prediction ${tuple(predictor(3, 10 * 4).forward(zeros([2, 3, 20, 20])))}`);
  const before = rand([2, 3, 20, 20]);
  say(`Before ${tuple(before)} after ${tuple(half(3, 10).forward(before))}`);
  const map1 = zeros([2, 8, 20, 20]);
  say(`Feature map 1 ${tuple(map1)}`);
  const y1 = classPredictor(8, 5).forward(map1);
  say(`Class prediction for feature map 1 ${tuple(y1)}`);
  const map2 = half(8, 16).forward(map1);
  say(`Feature map 2 ${tuple(map2)}`);
  const y2 = classPredictor(16, 3).forward(map2);
  say(`Class prediction for feature map 2 ${tuple(y2)}`);
  const flat = [flatten(y1), flatten(y2)] as const;
  say(`Flatten class prediction 1 ${tuple(flat[0])}`);
  say(`Flatten class prediction 2 ${tuple(flat[1])}`);
  say(`Concat class predictions ${tuple(cat([...flat], 1))}`);
  const { body } = made.use(nn.models.toySsd());
  const maps = body.forward(zeros([2, 3, 256, 256]));
  say(`Body network [${[0, 1].map((i) => tuple(maps.select(0, i))).join(", ")}]`);
}

/** The numbers behind the detections of one picture x [1, 3, S, S], as the notebook shows them. */
export function outputLines(
  x: Tensor,
  values: Readonly<Record<"anchors" | "classes" | "boxes" | "output", ArrayLike<number>>>,
  options: { classes: number },
): string[] {
  const { anchors, classes, boxes, output } = values;
  return [
    `x ${tuple(x)}`,
    `anchors\n${table(anchors, 4)}`,
    `class predictions\n${table(classes, options.classes)}`,
    `box delta predictions\n${table(boxes, boxes.length)}`,
    `detections\n${table(output, 6)}`,
  ];
}

/** Rows of `columns` numbers, of which the first and last three are shown, in rows as in columns. */
function table(values: ArrayLike<number>, columns: number): string {
  const ends = <T>(all: readonly T[], gap: T) =>
    all.length > 6 ? [...all.slice(0, 3), gap, ...all.slice(-3)] : all;
  const rows = ends([...Array(Math.floor(values.length / columns)).keys()], -1);
  return rows.map((row) => {
    if (row < 0) return " ...";
    const cells = Array.from({ length: columns }, (_, c) => values[row * columns + c]!.toFixed(6));
    return `[${ends(cells, "...").join(" ")}]`;
  }).join("\n");
}
