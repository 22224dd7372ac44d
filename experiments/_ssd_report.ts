/** @file The report page of the detection experiment. */

import { nn } from "../mod.ts";
import { type ReportData, writeReport } from "../nn/run/mod.ts";
import type { Scene, SceneSet } from "./_ssd_data.ts";
import type { Detection, Evaluation } from "./_ssd_detect.ts";
import type { EpochRow } from "./_ssd_log.ts";

/** What the page shows. */
export interface SsdReport {
  readonly subtitle: string;
  readonly history: readonly EpochRow[];
  /** Of the best weights on the validation scenes. */
  readonly scores: Evaluation;
  readonly val: SceneSet;
  /** Names of the classes. */
  readonly classes: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly architecture: string;
}

/** Scenes on the contact sheet. */
const SHEET = 24;
/** Pixels that a picture on it is about wide. */
const SIDE = 256;
/** Lowest score of a box on the contact sheet, as in the notebook's display. */
const SHOWN = 0.45;
/** Least overlap of a found object. */
const FOUND = 0.5;
const PREDICTED = [230, 60, 50] as const;
const TRUE = [40, 200, 80] as const;

/** Writes `report.html`. */
export async function writeSsdReport(path: string, report: SsdReport): Promise<void> {
  const { history, scores, val, classes } = report;
  const x = { label: "Epoch", values: history.map((h) => h.epoch) };
  const percent = (v: number | null) => v === null ? null : 100 * v;
  const scored = history.filter((h) => h.map50 !== null);
  const objects = val.scenes.map((scene) => scene.objects);
  const page: ReportData = {
    title: "Detection: ToySSD",
    subtitle: report.subtitle,
    headline: [
      { label: "mAP@0.5", value: `${(100 * scores.map50).toFixed(1)} %` },
      { label: "mAP@[.5:.95]", value: `${(100 * scores.map).toFixed(1)} %` },
    ],
    sections: [
      {
        kind: "curves",
        title: "Losses",
        note: "Means over the anchors of the training pictures.",
        x,
        y: { label: "Loss" },
        series: [
          { name: "Class (focal)", values: history.map((h) => h.classLoss) },
          { name: "Box (smooth L1)", values: history.map((h) => h.boxLoss) },
        ],
      },
      {
        kind: "curves",
        title: "Average precision",
        note: "On the validation pictures, as COCO defines it.",
        x: { label: "Epoch", values: scored.map((h) => h.epoch) },
        y: { label: "mAP", unit: "%" },
        series: [
          { name: "mAP@0.5", values: scored.map((h) => percent(h.map50)) },
          { name: "mAP@[.5:.95]", values: scored.map((h) => percent(h.map)) },
        ],
      },
      {
        kind: "images",
        title: "Contact sheet",
        note:
          `Validation pictures: objects green, detections of score ${SHOWN} or more red. Marked ` +
          "pictures have an object that is missed or a detection that is wrong.",
        images: val.scenes.slice(0, SHEET).map((scene, i) =>
          sheetImage(scene, scores.detections[i]!, { size: val, classes })
        ),
      },
      ...classes.map((name, classId) => precisionCurve(name, { scores, objects, classId })),
      {
        kind: "table",
        title: "Average precision by overlap",
        columns: ["Overlap", "AP %"],
        rows: scores.atIou.map((ap, i) => [(0.5 + 0.05 * i).toFixed(2), (100 * ap).toFixed(1)]),
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

/** A scene with its objects and what was found. */
function sheetImage(
  scene: Scene,
  detections: readonly Detection[],
  { size, classes }: { size: SceneSet; classes: readonly string[] },
) {
  const shown = detections.filter((row) => row[1]! >= SHOWN);
  const { precision, recall, objects } = nn.metrics.precisionRecall(
    [shown.map((row) => [0, ...Array.from(row).slice(1)])],
    [scene.objects.map((row) => [0, ...row.slice(1)])],
    { iouThreshold: FOUND },
  );
  const found = Math.round((recall.at(-1) ?? 0) * objects);
  const wrong = Math.round((1 - (precision.at(-1) ?? 1)) * shown.length);
  const truths = scene.objects.map((row) => row.slice(1));
  const outlined = nn.vision.drawBoxes(enlarged(scene.image, size), truths, {
    colors: [TRUE],
    thickness: 1,
  });
  const picture = nn.vision.drawBoxes(
    outlined,
    shown.map((row) => Array.from(row).slice(2)),
    { colors: [PREDICTED], labels: shown.map((row) => row[1]!.toFixed(2)) },
  );
  const names = new Set(shown.map((row) => classes[row[0]!]!));
  return {
    picture: { ...picture, channels: 3 as const },
    caption: `${found} of ${objects} found${wrong > 0 ? `, ${wrong} wrong` : ""}`,
    detail: classes.length > 1 ? [...names].join(", ") : undefined,
    wrong: found < objects || wrong > 0,
  };
}

/** Planes as an RGB picture of whole pixels, each repeated so that it is about {@linkcode SIDE} wide. */
function enlarged(planes: Uint8Array, { width, height }: SceneSet): nn.vision.ByteImage {
  const times = Math.max(1, Math.round(SIDE / width)), pixels = width * height;
  const [W, H] = [times * width, times * height];
  const data = new Uint8Array(3 * W * H);
  for (let i = 0; i < data.length; i++) {
    const at = Math.floor(i / 3), x = Math.floor(at % W / times), y = Math.floor(at / W / times);
    data[i] = planes[(i % 3) * pixels + y * width + x]!;
  }
  return { width: W, height: H, data };
}

/** Precision over recall of a class at an overlap of 0.5. */
function precisionCurve(
  name: string,
  { scores, objects, classId }: {
    scores: Evaluation;
    objects: readonly (readonly (readonly number[])[])[];
    classId: number;
  },
) {
  const { precision, recall } = nn.metrics.precisionRecall(scores.detections, objects, { classId });
  // One point a recall: the best precision there.
  const best = new Map<number, number>();
  for (const [i, r] of recall.entries()) best.set(r, Math.max(best.get(r) ?? 0, precision[i]!));
  return {
    kind: "curves" as const,
    title: `Precision and recall: ${name}`,
    note: "At an overlap of 0.5, down the scores.",
    x: { label: "Recall %", values: [...best.keys()].map((v) => 100 * v) },
    y: { label: "Precision", unit: "%" },
    series: [{ name: "Precision", values: [...best.values()].map((v) => 100 * v) }],
  };
}
