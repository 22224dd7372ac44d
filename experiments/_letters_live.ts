/** @file The letters experiment a step at a time, for a page that shows what it has learnt so far. */

import { capture, crossEntropy, nn, noGrad, readAll, scope, stack } from "../mod.ts";
import { type Tensor, tensor, zeros } from "../mod.ts";
import type { LabeledImages } from "../nn/data/mod.ts";
import { collate, fitInk, type LetterBatch, transform, upload } from "./_letters_data.ts";
import { FLAGS, type LettersOptions } from "./_letters_flags.ts";
import { initKaiming } from "./_letters_model.ts";
import { letterSample, type LettersSplit } from "./synth/letters.ts";

/** The classes in order. */
export const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const SIDE = 28;
/** Letters validated at a time. */
const BATCH = 64;

/** Means over some letters. */
export interface LetterScores {
  readonly loss: number;
  readonly accuracy: number;
}

/** Draws letters, each cropped to its ink as whoever draws one by hand has it. */
export function drawLetters(
  count: number,
  options: { split: LettersSplit; seed: number },
): LabeledImages {
  const images = new Uint8Array(count * SIDE * SIDE), labels = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const { image, label } = letterSample(i, options);
    images.set(image, i * SIDE * SIDE);
    labels[i] = label;
  }
  return fitInk({ images, labels, count, height: SIDE, width: SIDE });
}

/** Training that goes on as long as it is asked for steps. Options are those of the quick preset. */
export class LiveLetters implements Disposable {
  readonly options: LettersOptions = FLAGS.parse([]).options;
  readonly model: nn.models.AlexNet;
  /** Steps of an epoch. */
  readonly epochSteps: number;
  /** Steps so far. */
  steps = 0;
  readonly #optimizer: nn.optim.SGD;
  readonly #scheduler: nn.optim.StepLR;
  readonly #loader: nn.data.DataLoader<number, LetterBatch>;
  readonly #val: LabeledImages;
  /** On the GPU: sum of losses, letters right, letters seen since the last look. */
  readonly #totals: Tensor;
  #batches: AsyncIterator<LetterBatch> | undefined;

  /**
   * @param sets What to learn and to validate on, as {@linkcode drawLetters} gives them.
   * @throws {RangeError} If there are fewer letters to learn than a batch has.
   */
  constructor({ train, val }: { train: LabeledImages; val: LabeledImages }) {
    const { width, poolSize, dropout, batchSize, seed, lr, momentum, weightDecay } = this.options;
    if (train.count < batchSize) {
      throw new RangeError(`Cannot train on ${train.count} letters: a batch has ${batchSize}`);
    }
    this.#val = val;
    this.#totals = zeros([3]);
    this.model = nn.models.alexnet({ numClasses: 26, inChannels: 1, width, poolSize, dropout });
    initKaiming(this.model);
    this.#optimizer = new nn.optim.SGD(this.model.parameters(), { lr, momentum, weightDecay });
    const { lrStep: stepSize, lrGamma: gamma } = this.options;
    this.#scheduler = new nn.optim.StepLR(this.#optimizer, { stepSize, gamma });
    this.#loader = new nn.data.DataLoader({ length: train.count, get: (index) => index }, {
      batchSize,
      shuffle: true,
      dropLast: true,
      seed,
      collate: (indices: number[]) => collate(train, indices),
    });
    this.epochSteps = Math.floor(train.count / batchSize);
  }

  readonly #step = capture((images: Tensor, labels: Tensor) => {
    this.#optimizer.zeroGrad();
    const logits = this.model.forward(transform(images, { ...this.options, augment: true }));
    const loss = crossEntropy(logits, labels);
    loss.backward();
    this.#optimizer.step();
    noGrad(() => {
      const right = nn.metrics.accuracy(logits, labels, { reduction: "sum" });
      const count = labels.size;
      this.#totals.add_(stack([loss.detach().mul(count), right, tensor(count)]));
    });
  });

  /** One step on the next batch. It waits for the letters, not for the GPU. */
  async step(): Promise<void> {
    const batch = await this.#next();
    scope(() => {
      const { images, labels } = upload(batch);
      this.#step(images, labels);
    });
    this.steps++;
  }

  /** What the letters since the last call came to; waits for the GPU. */
  async progress(): Promise<LetterScores> {
    const [sum, right, seen] = await this.#totals.data() as Float32Array;
    noGrad(() => this.#totals.zero_());
    return { loss: sum! / seen!, accuracy: right! / seen! };
  }

  /** How the letters that it does not learn from are read, and as which classes. */
  async validate(): Promise<LetterScores & { guesses: number[] }> {
    const { count, labels } = this.#val;
    const logits: Tensor[] = [];
    for (let first = 0; first < count; first += BATCH) {
      const size = Math.min(BATCH, count - first);
      const indices = Array.from({ length: size }, (_, i) => first + i);
      logits.push(this.#logits(collate(this.#val, indices)));
    }
    const values = await readAll(logits);
    for (const t of logits) t.dispose();
    const rows = values.flatMap((part) =>
      Array.from(
        { length: part.length / 26 },
        (_, row) => softmax(part.subarray(26 * row, 26 * (row + 1)) as Float32Array),
      )
    );
    const guesses = rows.map((row) => row.indexOf(Math.max(...row)));
    const loss = rows.reduce((sum, row, i) => sum - Math.log(row[labels[i]!]!), 0) / count;
    const right = guesses.filter((guess, i) => guess === labels[i]).length;
    return { loss, accuracy: right / count, guesses };
  }

  /**
   * The probabilities of the 26 classes for a letter that somebody drew.
   *
   * @param image 28 rows of 28 grey values, 255 ink.
   */
  async read(image: Uint8Array): Promise<number[]> {
    const images = new Uint8Array(image), labels = Uint8Array.of(0);
    const set = fitInk({ images, labels, count: 1, height: SIDE, width: SIDE });
    using logits = this.#logits(collate(set, [0]));
    return softmax(await logits.data() as Float32Array);
  }

  /** Frees what is on the GPU. */
  [Symbol.dispose](): void {
    this.#step.dispose();
    this.#totals.dispose();
    this.#optimizer.dispose();
    this.model.dispose();
  }

  #logits(batch: LetterBatch): Tensor {
    this.model.eval();
    const logits = scope(() =>
      noGrad(() =>
        this.model.forward(transform(upload(batch).images, { ...this.options, augment: false }))
      )
    );
    this.model.train();
    return logits;
  }

  async #next(): Promise<LetterBatch> {
    for (;;) {
      this.#batches ??= this.#loader[Symbol.asyncIterator]();
      const { done, value } = await this.#batches.next();
      if (!done) return value;
      this.#batches = undefined;
      this.#scheduler.step();
    }
  }
}

function softmax(logits: Float32Array): number[] {
  const top = Math.max(...logits);
  const weights = Array.from(logits, (x) => Math.exp(x - top));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((x) => x / sum);
}
