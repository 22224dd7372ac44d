/** @file A picture of a recording: its spectrogram, and below it which species sings when. */

import type { Picture } from "../nn/data/picture.ts";
import { drawBoxes } from "../nn/vision/mod.ts";
import { type Recording, type SoundView, spectrogramOf } from "./_birdclef_audio.ts";

/** Which species sings how probably, over time. */
export interface Timeline {
  /** Names of the species. */
  readonly classes: readonly string[];
  /** Starts of the moments in seconds; each lasts to the next one, the last one to `seconds`. */
  readonly starts: readonly number[];
  /** A row of probabilities a moment. */
  readonly probabilities: readonly ArrayLike<number>[];
  /** Length of the recording. */
  readonly seconds: number;
}

/** Probabilities in 0..1 of each window and where it starts. */
export interface WindowScores {
  readonly starts: readonly number[];
  readonly rows: readonly ArrayLike<number>[];
}

/**
 * Moments between one window's start or end and the next, each with the mean of the windows that cover
 * it. Windows are in order and leave no gap.
 */
export function timelineOf(
  { starts, rows }: WindowScores,
  options: { window: number; seconds: number; classes: readonly string[] },
): Timeline {
  const { window, seconds, classes } = options;
  const ends = starts.map((start) => Math.min(start + window, seconds));
  // Edges nearer than a millisecond are one: sums of seconds are rounded.
  const edges = [...starts, ...ends].sort((a, b) => a - b)
    .filter((edge, i, all) => i === 0 || edge - all[i - 1]! > 1e-3)
    .filter((edge) => edge < seconds - 1e-3);
  const probabilities = edges.map((edge, k) => {
    const middle = (edge + (edges[k + 1] ?? seconds)) / 2;
    const mean = new Float64Array(classes.length);
    let count = 0;
    for (const [i, row] of rows.entries()) {
      if (starts[i]! > middle || ends[i]! < middle) continue;
      count++;
      for (let c = 0; c < mean.length; c++) mean[c]! += row[c]!;
    }
    return mean.map((sum) => sum / count);
  });
  return { classes, starts: edges, probabilities, seconds };
}

/** A stretch of a recording with one likeliest species. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly label: number;
  /** Mean probability over the stretch. */
  readonly probability: number;
}

/** Moments with the same likeliest species, joined. */
export function stretches({ starts, probabilities, seconds }: Timeline): Stretch[] {
  const found: (Stretch & { area: number })[] = [];
  for (const [k, row] of probabilities.entries()) {
    const [from, to] = [starts[k]!, starts[k + 1] ?? seconds];
    let label = 0;
    for (let c = 1; c < row.length; c++) if (row[c]! > row[label]!) label = c;
    const last = found.at(-1);
    const joined = last?.label === label;
    const begin = joined ? last.from : from;
    const area = (joined ? last.area : 0) + row[label]! * (to - from);
    if (joined) found.pop();
    found.push({ from: begin, to, label, area, probability: area / (to - begin) });
  }
  return found.map(({ from, to, label, probability }) => ({ from, to, label, probability }));
}

/** Pixels of the picture's parts. */
const LEFT = 190, RIGHT = 20, TOP = 14, PLOT = 900, SOUND = 200, ROW = 24, GAP = 26, BOTTOM = 34;
const DOT = 2, LETTER = 6 * DOT, LINE = 9 * DOT;
/** Most species that are shown: those that reach the highest probabilities. */
const MOST_ROWS = 16;
const PAPER = [255, 255, 255] as const, INK = [30, 34, 40] as const;
/** From no probability to certainty. */
const EMPTY = [236, 239, 243] as const, FULL = [18, 82, 168] as const;

/** The picture: RGB, species in the order of their labels, time to the right in seconds. */
export function drawTimeline(recording: Recording, timeline: Timeline): Picture {
  const { classes, starts, probabilities, seconds } = timeline;
  const peak = classes.map((_, c) => Math.max(...probabilities.map((row) => row[c]!)));
  const shown = classes.map((_, c) => c).sort((a, b) => peak[b]! - peak[a]!).slice(0, MOST_ROWS)
    .sort((a, b) => a - b);
  const width = LEFT + PLOT + RIGHT, height = TOP + SOUND + GAP + shown.length * ROW + BOTTOM;
  const canvas = new Canvas(width, height);

  const view: SoundView = {
    seconds,
    step: seconds,
    look: 64,
    hop: Math.max(1, 1000 * seconds / PLOT),
    mels: 100,
  };
  const sound = spectrogramOf(recording.samples, { ...view, sampleRate: recording.sampleRate });
  canvas.fill({ x: LEFT, y: TOP, width: PLOT, height: SOUND }, (u, v) => {
    const column = Math.min(sound.width - 1, Math.floor(u * sound.width));
    const grey = sound.data[Math.floor(v * sound.height) * sound.width + column]!;
    return [255 - grey, 255 - grey, 255 - grey];
  });
  canvas.text("0.15 to 8 kHz", { x: LEFT - 14 * LETTER, y: TOP + SOUND / 2 - LINE / 2 });

  const strips = TOP + SOUND + GAP;
  for (const [row, c] of shown.entries()) {
    const y = strips + row * ROW;
    const name = classes[c]!.slice(0, Math.floor(LEFT / LETTER) - 1);
    canvas.text(name, { x: LEFT - (name.length + 1) * LETTER, y: y + 2 });
    canvas.fill({ x: LEFT, y, width: PLOT, height: ROW - 3 }, (u) => {
      let k = starts.length - 1;
      while (k > 0 && starts[k]! > u * seconds) k--;
      const p = probabilities[k]![c]!;
      return [0, 1, 2].map((i) => Math.round(EMPTY[i]! + p * (FULL[i]! - EMPTY[i]!)));
    });
  }
  const end = strips + shown.length * ROW;
  for (const tick of ticks(seconds)) {
    const x = LEFT + Math.round(tick / seconds * (PLOT - 1));
    canvas.fill({ x, y: end, width: 2, height: 6 }, () => INK);
    canvas.fill({ x, y: TOP + SOUND, width: 2, height: 6 }, () => INK);
    const text = `${Number(tick.toFixed(1))} s`;
    canvas.text(text, { x: x - text.length * LETTER / 2, y: end + 10 });
  }
  return canvas.picture();
}

/** Round times, about eight of them. */
function ticks(seconds: number): number[] {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((s) => seconds / s <= 8) ?? seconds / 8;
  return Array.from({ length: Math.floor(seconds / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** RGB pixels. */
class Canvas {
  readonly #width: number;
  readonly #height: number;
  #data: Uint8Array;
  #labels: { text: string; x: number; y: number }[] = [];

  constructor(width: number, height: number) {
    this.#width = width;
    this.#height = height;
    this.#data = Uint8Array.from({ length: width * height * 3 }, (_, i) => PAPER[i % 3]!);
  }

  /** Colours a rectangle; `colour` takes places in it as fractions. */
  fill(
    box: { x: number; y: number; width: number; height: number },
    colour: (u: number, v: number) => ArrayLike<number>,
  ): void {
    for (let y = 0; y < box.height; y++) {
      for (let x = 0; x < box.width; x++) {
        const at = ((box.y + y) * this.#width + box.x + x) * 3;
        this.#data.set(colour((x + 0.5) / box.width, (y + 0.5) / box.height), at);
      }
    }
  }

  /** Dark letters with their upper left corner there. */
  text(text: string, { x, y }: { x: number; y: number }): void {
    this.#labels.push({ text, x, y });
  }

  picture(): Picture {
    const [W, H] = [this.#width, this.#height];
    // A box whose label lies above it: the plate is drawn, the outline has no thickness.
    const boxes = this.#labels.map(({ x, y }) => [x / W, (y + LINE) / H, x / W, (y + LINE) / H]);
    const { data } = drawBoxes({ width: W, height: H, data: this.#data }, boxes, {
      labels: this.#labels.map((l) => l.text),
      labelScale: DOT,
      thickness: 0,
      colors: [INK],
    });
    return { width: W, height: H, channels: 3, data: Uint8Array.from(data) };
  }
}
