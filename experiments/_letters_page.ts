/** @file Script of the page of `deno task train:browser`: it trains, shows how far it is and reads what is drawn. */

/// <reference lib="dom" />

import uPlot from "npm:uplot@1.6.32";
import { init, manualSeed, nn } from "../mod.ts";
import type { LabeledImages } from "../nn/data/mod.ts";
import { drawLetters, LETTERS, LiveLetters } from "./_letters_live.ts";

/** How much there is to learn; the tests take less. */
export interface LettersPageOptions {
  /** Letters to learn. Default 5304, as in the quick preset. */
  letters?: number;
  /** Letters to validate on. Default 520. */
  valLetters?: number;
  /** Steps after which it pauses. Default none. */
  steps?: number;
}

const SIDE = 28;
/** Steps between looks at the loss: each look waits for the GPU. */
const LOOK = 10;
/** Pixels of the pen, of 280: as thick as the strokes of the letters it learns from. */
const PEN = 26;
const SHOWN = 5;

function byId<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** Trains in the page's document, whose body is that of the page, until `steps` are done or for ever. */
export async function startLettersPage(options: LettersPageOptions = {}): Promise<void> {
  const { letters = 5304, valLetters = 520, steps = Infinity } = options;
  const status = byId("status");
  try {
    const { adapter } = await init();
    manualSeed(42);
    status.textContent = `Drawing ${letters + valLetters} letters …`;
    await painted();
    const val = drawLetters(valLetters, { split: "test", seed: 42 });
    using live = new LiveLetters({
      train: drawLetters(letters, { split: "train", seed: 42 }),
      val,
    });
    const { size, batchSize } = live.options;
    const count = live.model.parameters().reduce((sum, p) => sum + p.size, 0);
    status.textContent = `AlexNet of ${count.toLocaleString("en")} parameters on ${adapter}: ` +
      `${letters} drawn letters at ${size} × ${size} pixels, ${batchSize} a step, moved and mirrored at random`;
    await train(live, { val, steps });
  } catch (error) {
    showError(error);
    throw error;
  }
}

/** Says in the page what failed, in place of what it says of the training. */
function showError(error: unknown): void {
  const status = byId("status");
  status.classList.add("error");
  status.textContent = error instanceof Error ? error.message : String(error);
}

async function train(
  live: LiveLetters,
  { val, steps }: { val: LabeledImages; steps: number },
): Promise<void> {
  const pause = byId<HTMLButtonElement>("pause"), save = byId<HTMLButtonElement>("save");
  const chart = makeChart(byId("chart"));
  const paper = new Paper(byId<HTMLCanvasElement>("paper"), byId<HTMLButtonElement>("clear"));
  let goOn = Promise.withResolvers<void>(), paused = false;
  pause.onclick = () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) goOn.resolve();
    else goOn = Promise.withResolvers();
  };
  save.onclick = () => void download(live.model, "letters.safetensors").catch(showError);
  pause.disabled = save.disabled = false;
  // Drawing while it pauses is read, too.
  paper.changed = () => paused && void showGuesses(live, paper).catch(showError);

  let last = performance.now(), lastSteps = live.steps;
  // What takes time besides steps does not count to their rate.
  const restart = () => {
    last = performance.now();
    lastSteps = live.steps;
  };
  while (live.steps < steps) {
    await live.step();
    if (live.steps % LOOK === 0 || live.steps === steps) {
      const { loss } = await live.progress();
      const seconds = (performance.now() - last) / 1000;
      byId("rate").textContent = ((live.steps - lastSteps) / seconds).toFixed(1);
      byId("steps").textContent = live.steps.toLocaleString("en");
      byId("loss").textContent = loss.toFixed(3);
      chart.add(live.steps, loss);
      await showGuesses(live, paper);
      await painted();
      restart();
    }
    if (live.steps % Math.ceil(live.epochSteps / 4) === 0 || live.steps === steps) {
      const { accuracy, guesses } = await live.validate();
      byId("right").textContent = percent(accuracy);
      showGallery(val, guesses);
      restart();
    }
    if (paused) {
      await goOn.promise;
      restart();
    }
  }
}

/** The next time that the page is painted; at once in a window that nobody sees, soon in one hidden meanwhile. */
function painted(): Promise<unknown> {
  if (document.hidden) return new Promise((resolve) => setTimeout(resolve));
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 200);
  });
}

async function showGuesses(live: LiveLetters, paper: Paper): Promise<void> {
  const table = byId("guesses");
  const image = paper.image();
  if (image === undefined) return table.replaceChildren();
  const { sheet } = paper;
  const shares = (await live.read(image)).map((share, i) => ({ share, letter: LETTERS[i]! }));
  if (sheet !== paper.sheet) return; // cleared meanwhile
  const best = shares.sort((a, b) => b.share - a.share).slice(0, SHOWN);
  table.replaceChildren(...best.map(({ share, letter }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, letter),
      element("td", {}, element("meter", { value: share, title: `${letter}: ${percent(share)}` })),
      element("td", {}, percent(share)),
    )
  ));
}

/** The first letters that are not learnt from, each as it is read. */
function showGallery(val: LabeledImages, guesses: readonly number[]): void {
  const shown = Math.min(78, val.count);
  byId("gallery").replaceChildren(
    ...Array.from({ length: shown }, (_, i) => {
      const canvas = element("canvas", { width: SIDE, height: SIDE });
      const pixels = new ImageData(SIDE, SIDE);
      const bytes = val.images.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE);
      bytes.forEach((ink, at) => pixels.data.set([ink, ink, ink, 255], 4 * at));
      canvas.getContext("2d")!.putImageData(pixels, 0, 0);
      const [truth, guess] = [LETTERS[val.labels[i]!]!, LETTERS[guesses[i]!]!];
      return element(
        "figure",
        { className: guess === truth ? "" : "wrong", title: `${truth}, read as ${guess}` },
        canvas,
        element("figcaption", {}, guess),
      );
    }),
  );
}

/** Where letters are drawn by hand. */
class Paper {
  /** Called when the drawing is another. */
  changed: () => void = () => {};
  /** Another number each time that it is cleared. */
  sheet = 0;
  readonly #context: CanvasRenderingContext2D;
  #empty = true;

  constructor(canvas: HTMLCanvasElement, clear: HTMLButtonElement) {
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    this.#context = context;
    Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    context.strokeStyle = "#fff";
    const place = ({ offsetX, offsetY }: PointerEvent) => {
      const scale = canvas.width / canvas.clientWidth;
      return [offsetX * scale, offsetY * scale] as const;
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      context.beginPath();
      context.moveTo(...place(event));
      canvas.onpointermove?.(event);
    };
    canvas.onpointermove = (event) => {
      if (event.buttons === 0) return;
      context.lineTo(...place(event));
      context.stroke();
      this.#empty = false;
    };
    canvas.onpointerup = () => this.changed();
    clear.onclick = () => {
      context.clearRect(0, 0, canvas.width, canvas.height);
      this.#empty = true;
      this.sheet++;
      this.changed();
    };
  }

  /** 28 rows of 28 grey values, 255 ink; none while nothing is drawn. */
  image(): Uint8Array | undefined {
    if (this.#empty) return undefined;
    const small = new OffscreenCanvas(SIDE, SIDE).getContext("2d")!;
    small.imageSmoothingQuality = "high";
    small.drawImage(this.#context.canvas, 0, 0, SIDE, SIDE);
    const { data } = small.getImageData(0, 0, SIDE, SIDE);
    return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i + 3]!);
  }
}

interface Chart {
  /** Adds a point. */
  add(step: number, loss: number): void;
}

function makeChart(parent: HTMLElement): Chart {
  const colour = (name: string) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888";
  const xs: number[] = [], losses: number[] = [], smooth: number[] = [];
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 } };
  const size = () => ({ width: Math.max(240, parent.clientWidth), height: 300 });
  const plot = new uPlot(
    {
      ...size(),
      legend: { live: false },
      scales: {
        x: { time: false },
        y: { range: { min: { pad: 0, hard: 0 }, max: { pad: 0.05 } } },
      },
      axes: [{ ...axis }, { ...axis }],
      series: [
        { label: "Step" },
        {
          label: `Loss of ${LOOK} steps`,
          stroke: colour("muted"),
          width: 0.5,
          points: { show: false },
        },
        { label: "Smoothed", stroke: colour("s1"), width: 2, points: { show: false } },
      ],
    },
    [xs, losses, smooth],
    parent,
  );
  new ResizeObserver(() => plot.setSize(size())).observe(parent);
  return {
    add(step, loss) {
      xs.push(step);
      losses.push(loss);
      smooth.push(0.8 * (smooth.at(-1) ?? loss) + 0.2 * loss);
      plot.setData([xs, losses, smooth]);
    },
  };
}

/** Offers the weights as a file, which `nn.io.loadWeights` and PyTorch's safetensors read. */
async function download(model: nn.Module, name: string): Promise<void> {
  const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>>();
  const [blob] = await Promise.all([
    new Response(readable).blob(),
    nn.io.saveSafetensors(writable, model.stateDict()),
  ]);
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// The tests import this script into a page of theirs.
if (document.querySelector('script[src="page.js"]')) await startLettersPage();
