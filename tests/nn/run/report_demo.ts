/** @file A made-up report that has every kind of section. Run it to look at one: see the end. */

import { drawLetter } from "../../../experiments/synth/letters.ts";
import { HostRandom } from "../../../nn/data/rng.ts";
import type { ReportData } from "../../../nn/run/mod.ts";
import { writeReport } from "../../../nn/run/mod.ts";

const CLASSES = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
const EPOCHS = 24;

/** The report of a letters run that never was. */
export function demoReport(): ReportData {
  const random = new HostRandom(7);
  const epochs = Array.from({ length: EPOCHS }, (_, i) => i + 1);
  const noisy = (value: number) => value * random.normal(1, 0.04);
  const training = epochs.map((epoch) => noisy(3.1 * Math.exp(-epoch / 6) + 0.12));
  const validation = epochs.map((epoch) => noisy(2.9 * Math.exp(-epoch / 5) + 0.14));
  const accuracy = (losses: number[]) => losses.map((loss) => 99 * Math.exp(-loss / 2.2));
  const x = { label: "Epoch", values: epochs };
  const equalized = validation.map((loss) => noisy(loss * 1.1));
  const lines = (of: (losses: number[]) => number[]) => [
    { name: "Training", values: of(training) },
    { name: "Validation", values: of(validation) },
    { name: "After equalization", values: of(equalized) },
  ];
  return {
    title: "Letters: coupled AlexNet",
    subtitle: "Preset quick · seed 42 · llvmpipe (LLVM 19.1.7, 256 bits) · 4 May 2026, 13:37 UTC",
    headline: [
      { label: "Validation top-1", value: "97.2 %" },
      { label: "Test top-1", value: "96.8 %" },
      { label: "Test top-5", value: "99.7 %" },
      { label: "Training time", value: "1:52" },
    ],
    sections: [
      {
        kind: "curves",
        title: "Loss",
        x,
        y: { label: "Loss" },
        series: lines((losses) => losses),
      },
      {
        kind: "curves",
        title: "Accuracy",
        x,
        y: { label: "Accuracy", unit: "%" },
        series: lines(accuracy),
      },
      {
        kind: "images",
        title: "Validation letters",
        note: "A sample of the validation set with the prediction of the best weights.",
        images: Array.from({ length: 52 }, (_, i) => {
          const label = random.integer(0, 26);
          const wrong = i % 11 === 3;
          const data = drawLetter(label, new HostRandom(1, i));
          return {
            picture: { width: 28, height: 28, channels: 1 as const, data },
            caption: CLASSES[wrong ? (label + 7) % 26 : label]!,
            detail: `true ${CLASSES[label]}`,
            wrong,
          };
        }),
      },
      {
        kind: "confusion",
        title: "Confusion matrix",
        classes: CLASSES,
        counts: CLASSES.map((_, truth) => {
          const row: number[] = CLASSES.map(() => 0);
          for (let n = 0; n < 24; n++) {
            const guess = random.uniform() < 0.93 ? truth : random.integer(0, 26);
            row[guess] = row[guess]! + 1;
          }
          return row;
        }),
      },
      {
        kind: "table",
        title: "Final metrics",
        columns: ["Set", "Loss", "Top-1", "Top-5"],
        rows: [
          ["Validation", 0.1432917, "97.2 %", "99.8 %"],
          ["Validation, equalized", 0.1511, "97.1 %", "99.8 %"],
          ["Test", 0.15883, "96.8 %", "99.7 %"],
        ],
      },
      {
        kind: "curves",
        title: "Resources",
        x,
        y: { label: "Share", unit: "%" },
        series: [
          { name: "CPU", values: epochs.map(() => 92 + 6 * random.uniform()) },
          { name: "Memory", values: epochs.map((epoch) => 34 + 8 * (1 - Math.exp(-epoch / 4))) },
        ],
      },
      {
        kind: "curves",
        title: "GPU memory held",
        x,
        y: { label: "Memory", unit: "MiB" },
        series: [{ name: "Live", values: epochs.map(() => 218.4) }],
      },
      {
        kind: "table",
        title: "Configuration",
        rows: [
          ["preset", "quick"],
          ["data", "built-in"],
          ["image size", 64],
          ["batch size", 64],
          ["learning rate", 0.01],
          ["momentum", 0.9],
          ["weight decay", 1e-4],
          ["alpha", 4],
          ["flip", true],
          ["resume", undefined],
          ['path with <tags> & "quotes"', "/home/somebody/with/a/rather/long/path/to/the/letters"],
        ],
      },
      {
        kind: "text",
        title: "Architecture",
        text:
          "AlexNet(\n  (features): Sequential(\n    (0): Conv2d(1, 64, kernel_size=(11, 11))\n  )\n)",
        preformatted: true,
        collapsed: true,
      },
      {
        kind: "text",
        title: "About",
        text: "Letters are drawn.\n\nNothing of </script><script>alert(1)</script> runs.",
      },
    ],
  };
}

// deno run --allow-read --allow-write=. tests/nn/run/report_demo.ts
if (import.meta.main) await writeReport("report.html", demoReport());
