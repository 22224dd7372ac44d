import { checkOptions } from "../../engine/arguments.ts";
import { stdoutTerminal, type Terminal } from "./terminal.ts";

/** Options of {@linkcode ProgressBar}. */
export interface ProgressOptions {
  /** Text before the bar, e.g. `Epoch 3/12`. */
  label?: string;
  /** The word for one step in plain lines. Default `Batch`. */
  step?: string;
  /** The word for one sample in the rate. Default `samples`. */
  unit?: string;
  /**
   * What was done of the pass before, where it is resumed: steps, and samples as `update` counts them. Rate and
   * time left are those of the steps after it. Default 0.
   */
  start?: { step: number; samples?: number };
  /** How many plain lines a pass gives, about. Default 5, as every ~20 %. */
  lines?: number;
  /** Where to write. Default: the standard output. */
  terminal?: Terminal;
  /** Receives every plain line, also while a terminal shows the bar instead: for a log file. */
  record?: (line: string) => void;
  /** Clock in milliseconds. Default `performance.now`. */
  now?: () => number;
}

/** What a training loop knows after a step. Everything but `step` may come later or never. */
export interface ProgressUpdate {
  /** Steps done, 1..total. */
  step: number;
  /** Samples done in this pass so far; gives the rate. */
  samples?: number;
  /** Loss, as last read back. */
  loss?: number;
  /** Accuracy in 0..1, as last read back. */
  accuracy?: number;
  /** Seconds this pass has spent waiting for data so far; gives the wait share. */
  waitSeconds?: number;
}

interface Mark {
  time: number;
  step: number;
  samples: number;
}

const REDRAW_MS = 100;
// The rate looks back this far, so that compiling the first step soon stops to count.
const RATE_WINDOW_MS = 10_000;
const MAX_BAR = 40;
const MIN_BAR = 8;
// A full last column makes some terminals wrap, and Ctrl-C echoes as two cells.
const FREE_CELLS = 3;
const CLEAR_LINE = "\r\x1b[K";

/**
 * Progress of one pass over the data. On a terminal: one line with bar, rate, loss and time left,
 * redrawn at most 10 times a second. Anywhere else: plain lines, about one every 20 %.
 *
 * Metrics live on the GPU, so a loop reads them only when they are shown:
 *
 * @example
 * ```ts
 * import { ProgressBar } from "./progress.ts";
 *
 * const bar = new ProgressBar(20, { label: "Epoch 1/12" });
 * for (let step = 1; step <= 20; step++) {
 *   // train one batch; read the loss back only where it is shown
 *   if (bar.isReportStep(step)) bar.update({ step, samples: step * 128, loss: 1 / step });
 *   else bar.update({ step, samples: step * 128 });
 * }
 * bar.finish();
 * ```
 */
export class ProgressBar {
  readonly total: number;
  readonly #label: string;
  readonly #step: string;
  readonly #unit: string;
  readonly #interval: number;
  readonly #terminal: Terminal;
  readonly #record: ((line: string) => void) | undefined;
  readonly #now: () => number;
  readonly #start: number;
  #marks: Mark[] = [];
  #drawnAt = -Infinity;
  #visible = false;
  #finished = false;
  #state: ProgressUpdate;

  /**
   * @param total Steps in the pass.
   * @throws {RangeError} `total` is not a positive integer, or `start` not within it.
   */
  constructor(total: number, options: ProgressOptions = {}) {
    checkOptions("make ProgressBar", options, 'new ProgressBar(100, { label: "epoch 1" })');
    if (!Number.isInteger(total) || total < 1) {
      throw new RangeError(`Cannot show progress of ${total} steps: total must be an integer >= 1`);
    }
    const { step, samples = 0 } = options.start ?? { step: 0 };
    if (!Number.isInteger(step) || step < 0 || step > total) {
      throw new RangeError(
        `Cannot show progress from step ${step}: it must be an integer from 0 to ${total}`,
      );
    }
    this.total = total;
    this.#label = options.label ?? "";
    this.#step = options.step ?? "Batch";
    this.#unit = options.unit ?? "samples";
    this.#interval = Math.max(1, Math.floor(total / (options.lines ?? 5)));
    this.#terminal = options.terminal ?? stdoutTerminal();
    this.#record = options.record;
    this.#now = options.now ?? (() => performance.now());
    this.#start = this.#now();
    this.#marks.push({ time: this.#start, step, samples });
    this.#state = { step };
  }

  /** Whether `update` at this step gives a plain line: the moment to read loss and accuracy. */
  isReportStep(step: number): boolean {
    return (step - 1) % this.#interval === 0;
  }

  /** Tells what is done. Cheap: call it after every step. */
  update(update: ProgressUpdate): void {
    if (this.#finished) return;
    // A value that is absent now keeps its last reading.
    const known = Object.entries(update).filter(([, value]) => value !== undefined);
    this.#state = { ...this.#state, ...Object.fromEntries(known) };
    if (this.isReportStep(update.step)) this.#report();
    if (!this.#terminal.isTerminal) return;
    const now = this.#now();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#mark(now);
    this.#draw(now);
  }

  /** Writes a line above the bar. */
  log(line: string): void {
    this.#erase();
    this.#terminal.write(`${line}\n`);
    if (!this.#finished && this.#drawnAt > -Infinity) this.#draw(this.#now());
  }

  /** Ends the pass: the last state of the bar stays on the screen, with the time taken. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    if (!this.#terminal.isTerminal || this.#drawnAt === -Infinity) return;
    this.#draw(this.#now());
    this.#terminal.write("\n");
    this.#visible = false;
  }

  /** The plain line, in the words of the notebooks. */
  #report(): void {
    const { step, loss, accuracy } = this.#state;
    const values: string[] = [];
    if (loss !== undefined) values.push(`${this.#step} Loss: ${loss.toFixed(6)}`);
    if (accuracy !== undefined) {
      values.push(`${this.#step} Accuracy: ${(100 * accuracy).toFixed(4)}%`);
    }
    const tail = values.length > 0 ? ` - ${values.join(", ")}` : "";
    const line = `${this.#step} ${step}/${this.total}${tail}`;
    if (!this.#terminal.isTerminal) this.#terminal.write(`${line}\n`);
    this.#record?.(line);
  }

  #mark(time: number): void {
    const { step, samples = 0 } = this.#state;
    this.#marks.push({ time, step, samples });
    while (this.#marks.length > 2 && time - this.#marks[1]!.time >= RATE_WINDOW_MS) {
      this.#marks.shift();
    }
  }

  #erase(): void {
    if (this.#visible) this.#terminal.write(CLEAR_LINE);
    this.#visible = false;
  }

  #draw(now: number): void {
    const line = this.#line(now, Math.max(1, this.#terminal.columns() - FREE_CELLS));
    this.#terminal.write(CLEAR_LINE + line);
    this.#visible = true;
    this.#drawnAt = now;
  }

  #line(now: number, width: number): string {
    const { step, samples, loss, accuracy, waitSeconds } = this.#state;
    const from = this.#marks[0]!;
    const seconds = (now - from.time) / 1000;
    const elapsed = (now - this.#start) / 1000;
    const count = `${step}/${this.total}`;
    // Parts in the order they are shown; the least important (highest number) goes first.
    const parts: { text: string; drop: number }[] = [];
    if (samples !== undefined && seconds > 0) {
      const rate = (samples - from.samples) / seconds;
      parts.push({ text: `${formatRate(rate)} ${this.#unit}/s`, drop: 2 });
    }
    if (loss !== undefined) parts.push({ text: `loss ${formatLoss(loss)}`, drop: 1 });
    if (accuracy !== undefined) {
      parts.push({ text: `acc ${(100 * accuracy).toFixed(1)}%`, drop: 4 });
    }
    if (waitSeconds !== undefined && elapsed > 0) {
      parts.push({ text: `wait ${Math.round((100 * waitSeconds) / elapsed)}%`, drop: 5 });
    }
    if (this.#finished) parts.push({ text: formatSeconds(elapsed), drop: 3 });
    else if (step > from.step && seconds > 0) {
      const left = ((this.total - step) * seconds) / (step - from.step);
      parts.push({ text: `ETA ${formatSeconds(left)}`, drop: 3 });
    }
    const head = this.#label === "" ? "" : `${this.#label} `;
    for (;;) {
      const tail = [count, ...parts.map((part) => part.text)].join("  ");
      const room = width - head.length - tail.length - 1;
      if (room >= MIN_BAR) {
        return `${head}${bar(step / this.total, Math.min(MAX_BAR, room))} ${tail}`;
      }
      if (parts.length === 0) return `${head}${tail}`.slice(0, width);
      const least = parts.reduce((a, b) => (b.drop > a.drop ? b : a));
      parts.splice(parts.indexOf(least), 1);
    }
  }
}

function bar(fraction: number, cells: number): string {
  const halves = Math.round(Math.min(1, Math.max(0, fraction)) * cells * 2);
  const full = "━".repeat(halves >> 1);
  const half = halves % 2 === 1 ? "╸" : "";
  return (full + half).padEnd(cells, "┄");
}

/** Three figures or whole numbers: `0.52`, `7.31`, `84.2`, `1,204`. */
function formatRate(rate: number): string {
  if (rate < 10) return rate.toFixed(2);
  if (rate < 100) return rate.toFixed(1);
  return String(Math.round(rate)).replace(/\B(?=(\d{3})+$)/g, ",");
}

function formatLoss(loss: number): string {
  if (loss !== 0 && Math.abs(loss) < 1e-3) return loss.toExponential(2);
  return loss.toFixed(4);
}

/** `m:ss` or `h:mm:ss`; rounded up, so that the end is `0:00` and not before. */
function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.ceil(seconds);
  const h = Math.floor(whole / 3600);
  const m = Math.floor(whole / 60) % 60;
  const s = String(whole % 60).padStart(2, "0");
  return h > 0 ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}
