/** @file What the letters experiment prints and writes for each epoch, in the notebook's words. */

import type { EpochRow } from "./_letters_report.ts";

/** Seconds that parts of an epoch took. */
export interface EpochTimes {
  /** Training and the first validation. */
  readonly epochSeconds: number;
  /** Equalization alone. */
  readonly keSeconds: number;
  /** Equalization and the validation after it. */
  readonly keForwardSeconds: number;
}

/** Columns of `metrics.csv`. */
export const COLUMNS = [
  "Epoch",
  "LR",
  "Running Train Loss",
  "Running Train Accuracy",
  "Validation Loss",
  "Validation Accuracy",
  "KE Validation Loss",
  "KE Validation Accuracy",
  "Epoch Time",
  "KE Time",
  "KE + Forward Pass Time",
];

/** A row of `metrics.csv`; accuracies in percent, times in seconds. */
export function epochCells(row: EpochRow, times: EpochTimes): Record<string, number> {
  return {
    "Epoch": row.epoch,
    "LR": row.lr,
    "Running Train Loss": row.trainLoss,
    "Running Train Accuracy": 100 * row.trainAccuracy,
    "Validation Loss": row.valLoss,
    "Validation Accuracy": 100 * row.valAccuracy,
    "KE Validation Loss": row.keLoss,
    "KE Validation Accuracy": 100 * row.keAccuracy,
    "Epoch Time": times.epochSeconds,
    "KE Time": times.keSeconds,
    "KE + Forward Pass Time": times.keForwardSeconds,
  };
}

/** The summary of an epoch. */
export function epochLines(row: EpochRow, times: EpochTimes, epochs: number): string[] {
  const percent = (v: number) => `${(100 * v).toFixed(4)}%`;
  const scores = (loss: number, accuracy: number) =>
    `Validation Loss: ${loss.toFixed(6)}, Validation Accuracy: ${percent(accuracy)}`;
  return [
    rule("=", `Epoch ${row.epoch} Results`),
    "--------------- Before Kernel Equalization -----------------",
    `Epoch ${row.epoch}/${epochs} Summary:`,
    `Running Train Loss: ${row.trainLoss.toFixed(6)}, ` +
    `Running Train Accuracy: ${percent(row.trainAccuracy)}`,
    scores(row.valLoss, row.valAccuracy),
    "---------------- After Kernel Equalization -----------------",
    scores(row.keLoss, row.keAccuracy),
    "~~~*~~~ Time Consumptions ~~~*~~~",
    `Epoch ${row.epoch} completed in ${(times.epochSeconds / 60).toFixed(4)} minutes.`,
    `Time Consumption of Kernel Equalization: ${times.keSeconds.toFixed(6)} seconds.`,
    "Time Consumption of Kernel Equalization + Forward Pass Validation dataset: " +
    `${(times.keForwardSeconds / 60).toFixed(4)} minutes.`,
  ];
}

/** A heading between two rules, as the notebook prints them. */
export function rule(mark: string, title: string): string {
  const line = mark.repeat(60);
  const side = mark.repeat(Math.max(3, Math.floor((58 - title.length) / 2)));
  return `\n${line}\n${side} ${title} ${side}\n${line}`;
}
