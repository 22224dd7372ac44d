/**
 * @file Bird songs as spectrograms, in mixed precision.
 *
 * EfficientNet-B0 learns species from mel spectrograms with mixup between classes, soft labels, f16 under
 * autocast and a gradient scaler; one fold validates.
 *
 *   deno task train birdclef                            built-in songs, quick preset
 *   deno task train birdclef --data DIR --preset full   spectrograms of your own, the notebook's configuration
 *   deno task train birdclef --audio DIR                WAV recordings instead of spectrograms
 *   deno task birdclef-folds --data DIR                 every fold, with means
 *   deno task birdsong RECORDING.wav --weights RUN      which birds sing when
 *   deno task train birdclef --help                     every flag
 */

import {
  autocast,
  biTemperedLogisticLoss,
  capture,
  crossEntropy,
  focalCosineLoss,
  init,
  nn,
  noGrad,
  readAll,
  scope,
  softCrossEntropyLoss,
  stack,
  type Tensor,
  tensor,
  where,
  zeros,
} from "../mod.ts";
import { runMain, UsageError } from "./_args.ts";
import {
  asRgb,
  augment,
  type BirdBatch,
  type BirdSet,
  collate,
  loadBirds,
  upload,
} from "./_birdclef_data.ts";
import { baseOptions, type BirdclefOptions, FLAGS } from "./_birdclef_flags.ts";
import {
  COLUMNS,
  epochCells,
  type EpochRow,
  percent,
  writeBirdclefReport,
} from "./_birdclef_report.ts";
import { nearestNeighbour, type Scores, scoresOf } from "./_birdclef_scores.ts";
import { checkLoss, TrainingLoop } from "./_loop.ts";
import { type StartedRun, startRun } from "./_run.ts";
import { EpochLR } from "./_schedule.ts";

/** Names of the species, beside the weights. */
export const CLASSES = "classes.json";

/** The file of the best weights. */
export const BEST = "best.safetensors";

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  using start = await startRun({
    experiment: "birdclef",
    flags: FLAGS,
    args,
    columns: COLUMNS,
    resumable: ["audio", "keepEpochs"],
    base: baseOptions,
    check: checkOptions,
  });
  const run = start.folder;
  const { options } = start;
  if (options.amp && !(await init()).features.has("shader-f16")) {
    throw new UsageError(
      "Cannot train in mixed precision: this adapter has no shader-f16; --no-amp trains in f32",
    );
  }
  const set = await loadBirds({ ...options, cache: ".cache" }, (line) => run.log(line));
  const parts = splitFold(set, options);
  const batch = options.batchSize * options.gradientAccumulation;
  if (options.dropLast && parts.train.length < batch) {
    throw new UsageError(
      `Cannot train on ${parts.train.length} spectrograms in full batches of ${batch}: take a smaller ` +
        "--batch-size, or --no-drop-last",
    );
  }
  await Deno.writeTextFile(run.path(CLASSES), JSON.stringify(set.classes));
  const training = new Training(start, set, parts);
  await training.prepare();
  return await training.run();
}

/** Relations between flags that no single flag can check. */
function checkOptions(options: BirdclefOptions): void {
  const { data, audio, cap, floor } = options;
  if (data !== undefined && audio !== undefined) {
    throw new UsageError("Cannot read both --data and --audio: choose spectrograms or recordings");
  }
  if (cap < floor) {
    throw new UsageError(
      `Cannot keep ${floor} to ${cap} of a class: --cap must not be below --floor`,
    );
  }
}

/** Indices of training, each class between floor and cap, and of validation. */
interface Parts {
  readonly train: readonly number[];
  readonly val: readonly number[];
}

function splitFold(set: BirdSet, options: BirdclefOptions): Parts {
  const all = set.labels.map((_, i) => i);
  const val = all.filter((i) => set.folds[i] === options.fold);
  const others = all.filter((i) => set.folds[i] !== options.fold);
  if (val.length === 0 || others.length === 0) {
    const folds = [...new Set(set.folds)].sort((a, b) => a - b).join(", ");
    throw new UsageError(
      `Cannot validate on fold ${options.fold}: the data has the folds ${folds}, and at least two are needed`,
    );
  }
  const { cap, floor, seed } = options;
  const chosen = nn.data.resampleClasses(others.map((i) => set.labels[i]!), { cap, floor, seed });
  return { train: chosen.map((i) => others[i]!), val };
}

/** A new net as the options say. Its classifier is the notebook's: a fresh `Linear`, with that one's start. */
export function makeModel(options: BirdclefOptions, numClasses: number): nn.models.EfficientNet {
  const model = nn.models.efficientnetB0({
    numClasses,
    dropRate: options.dropOut,
    dropPathRate: options.dropPath,
    gradCheckpoint: options.gradientCheckpoint,
  });
  model.classifier = new nn.Linear(1280, numClasses);
  return model;
}

/** The loss of logits [B, C] and soft labels [B, C]: a mean. */
export function lossOf(name: BirdclefOptions["loss"], logits: Tensor, labels: Tensor): Tensor {
  switch (name) {
    case "cross-entropy":
      return crossEntropy(logits, labels, { labelSmoothing: 0.25 });
    case "focal-cosine":
      return focalCosineLoss(logits, labels.argmax(1));
    case "soft-cross-entropy":
      return softCrossEntropyLoss(logits, labels.argmax(1), { smoothFactor: 0.25 });
    case "bi-tempered":
      return biTemperedLogisticLoss(logits, labels, { t1: 0.8, t2: 1.2 });
  }
}

/**
 * Adds up gradients over a batch that is worked off in parts of at most `batchSize`, each loss weighted by
 * its share of the samples: the gradients are those of the mean over the whole batch, but for layers that
 * look at several samples, as batch statistics do. Gives that mean, detached.
 */
export function accumulate(
  { count, batchSize }: { count: number; batchSize: number },
  options: {
    scaler: nn.optim.GradScaler;
    /** Mean loss of `size` samples from the one at `first`. */
    lossOf: (first: number, size: number) => Tensor;
  },
): Tensor {
  const losses: Tensor[] = [];
  for (let first = 0; first < count; first += batchSize) {
    const size = Math.min(batchSize, count - first);
    const loss = options.lossOf(first, size).mul(size / count);
    options.scaler.scale(loss).backward();
    losses.push(loss.detach());
  }
  return noGrad(() => stack(losses).sum());
}

/** Everything one run holds. */
class Training {
  readonly #start: StartedRun<BirdclefOptions>;
  readonly #set: BirdSet;
  readonly #parts: Parts;
  readonly #model: nn.models.EfficientNet;
  readonly #optimizer: nn.optim.AdamW;
  readonly #scaler: nn.optim.GradScaler;
  readonly #scheduler: nn.optim.LRScheduler;
  readonly #loop: TrainingLoop<BirdBatch, EpochRow>;
  /**
   * On the GPU: sum of losses, samples, and the loss of the last batch. A batch whose loss overflows in f16
   * is not in the sums: its step is skipped, and the next ones may be finite.
   */
  readonly #totals = zeros([3]);
  /** On the GPU: steps skipped since training began, and the scale before the last step. */
  readonly #skipped = zeros([2]);
  #best = { cmap: -1, epoch: 0 };
  #epochStart = 0;

  constructor(start: StartedRun<BirdclefOptions>, set: BirdSet, parts: Parts) {
    const { options } = start;
    this.#start = start;
    this.#set = set;
    this.#parts = parts;
    this.#model = makeModel(options, set.classes.length);
    this.#optimizer = new nn.optim.AdamW(this.#model.parameters(), {
      lr: options.lr,
      weightDecay: options.weightDecay,
    });
    this.#scaler = new nn.optim.GradScaler({
      enabled: options.amp,
      initScale: options.initScale,
      growthInterval: options.growthInterval,
    });
    this.#scheduler = new EpochLR(this.#optimizer, options);
    const indices = { length: parts.train.length, get: (i: number) => parts.train[i]! };
    this.#loop = new TrainingLoop({
      start,
      loader: new nn.data.DataLoader(indices, {
        batchSize: options.batchSize * options.gradientAccumulation,
        shuffle: true,
        dropLast: options.dropLast,
        seed: options.seed,
        collate: (chosen: number[]) => collate(set, chosen),
      }),
      state: {
        model: this.#model,
        optimizer: this.#optimizer,
        scaler: this.#scaler,
        scheduler: this.#scheduler,
        skipped: {
          stateDict: () => ({ steps: this.#skipped }),
          loadStateDict: ({ steps }: { steps: Tensor }) => this.#skipped.copy_(steps),
        },
        best: {
          stateDict: () => this.#best,
          loadStateDict: (best: { cmap: number; epoch: number }) => {
            this.#best = best;
          },
        },
      },
      totals: this.#totals,
      loss: ([sum, count]) => sum! / count!,
      step: (batch) => {
        const { images, labels } = upload(set, batch);
        this.#step(images, labels);
      },
      beginEpoch: (epoch) => {
        start.folder.log(`\nep: ${epoch}`);
        this.#epochStart = performance.now();
        this.#model.train();
      },
      progress: async () => ({ loss: (await this.#totals.data() as Float32Array)[2]! }),
      endEpoch: (epoch, totals) => this.#endEpoch(epoch, totals),
    });
  }

  /** Loads given weights. */
  async prepare(): Promise<void> {
    const { weights } = this.#start.options;
    if (weights === undefined) return;
    const { loaded } = await nn.io.loadWeights(this.#model, weights, {
      except: "classifier",
      // The notebook wraps timm's net into one more module.
      stripPrefix: ["module.", "_orig_mod.", "model."],
    });
    this.#start.folder.log(`load_model: ${weights} (${loaded.length} tensors)`);
    if (!loaded.includes("classifier.weight")) {
      this.#start.folder.log(`The classifier is new: ${this.#set.classes.length} classes`);
    }
  }

  /**
   * One step; recorded at first, then replayed in one submit. With gradient accumulation the batch is
   * `batchSize` times that large and is worked off in parts.
   */
  readonly #step = capture((images: Tensor, labels: Tensor) => {
    const { amp, batchSize, loss: name } = this.#start.options;
    const count = images.shape[0]!;
    this.#optimizer.zeroGrad();
    const loss = accumulate({ count, batchSize }, {
      scaler: this.#scaler,
      lossOf: (first, size) => {
        const part = images.narrow(0, first, size);
        const view = augment(part, labels.narrow(0, first, size), this.#start.options);
        return autocast(
          { enabled: amp },
          () => lossOf(name, this.#model.forward(asRgb(view.images)), view.labels),
        );
      },
    });
    const before = noGrad(() => this.#scaler.scale(tensor(1)).reshape(1));
    this.#scaler.step(this.#optimizer);
    this.#scaler.update();
    noGrad(() => {
      const added = stack([loss.mul(count), tensor(count)]);
      const sums = this.#totals.narrow(0, 0, 2)
        .add(amp ? where(loss.isfinite(), added, 0) : added);
      this.#totals.narrow(0, 0, 2).copy_(sums);
      this.#totals.narrow(0, 2, 1).copy_(loss.reshape(1));
      const after = this.#scaler.scale(tensor(1)).reshape(1);
      this.#skipped.narrow(0, 0, 1).add_(after.lt(before).to("f32"));
      this.#skipped.narrow(0, 1, 1).copy_(after);
    });
  });

  /** Mean loss, and a row of probabilities for each validation spectrogram. */
  async #validate(): Promise<{ loss: number; probabilities: Float32Array[] }> {
    const { options } = this.#start;
    const { val } = this.#parts;
    this.#model.eval();
    using total = zeros([]);
    const parts: Tensor[] = [];
    const size = Math.max(32, options.batchSize);
    for (let first = 0; first < val.length; first += size) {
      const indices = val.slice(first, first + size);
      parts.push(scope(() =>
        noGrad(() => {
          const { images, labels } = upload(this.#set, collate(this.#set, indices));
          const logits = this.#model.forward(asRgb(images));
          total.add_(lossOf(options.loss, logits, labels).mul(indices.length));
          return logits.softmax(1);
        })
      ));
    }
    const [sum, ...rows] = await readAll([total, ...parts]);
    for (const part of parts) part.dispose();
    const C = this.#set.classes.length;
    const probabilities = rows.flatMap((values) =>
      Array.from(
        { length: values.length / C },
        (_, i) => (values as Float32Array).slice(i * C, (i + 1) * C),
      )
    );
    return { loss: Number(sum![0]) / val.length, probabilities };
  }

  #labels(): number[] {
    return this.#parts.val.map((index) => this.#set.labels[index]!);
  }

  async #endEpoch(epoch: number, [sum, count]: Float32Array): Promise<EpochRow> {
    const { folder, options } = this.#start;
    const { loss, probabilities } = await this.#validate();
    checkLoss("validation", { epoch, loss });
    const scores = scoresOf(probabilities, this.#labels());
    const [skipped, scale] = await this.#skipped.data() as Float32Array;
    const row: EpochRow = {
      epoch,
      lr: this.#scheduler.getLastLr()[0]!,
      trainLoss: sum! / count!,
      valLoss: loss,
      ...scores,
      scale: options.amp ? scale! : 1,
      skipped: skipped!,
      seconds: (performance.now() - this.#epochStart) / 1000,
    };
    logScores(folder, scores);
    folder.log(`train loss: ${row.trainLoss.toFixed(5)}`);
    folder.log(`valid loss: ${loss.toFixed(5)}, valid_acc: ${scores.cmap.toFixed(5)}`);
    if (options.amp) folder.log(`loss scale: ${row.scale}, skipped steps: ${row.skipped}`);
    folder.metrics.append(epochCells(row));
    this.#loop.events.scalars(epoch, {
      "loss/train": row.trainLoss,
      "loss/valid": loss,
      "valid/accuracy": scores.accuracy,
      "valid/mean_recall": scores.meanRecall,
      "valid/cmap": scores.cmap,
      "loss_scale": row.scale,
      "lr": row.lr,
    });
    const state = this.#model.stateDict();
    const metadata = { epoch: String(epoch), cmap: String(scores.cmap) };
    if (scores.cmap >= this.#best.cmap) {
      this.#best = { cmap: scores.cmap, epoch };
      await nn.io.saveSafetensors(folder.path(BEST), state, metadata);
      folder.log(`model save at score: ${scores.cmap.toFixed(5)}`);
    }
    if (options.keepEpochs) {
      const name = `epoch${epoch}.safetensors`;
      await nn.io.saveSafetensors(folder.path(name), state, metadata);
    }
    this.#scheduler.step();
    return row;
  }

  /** Trains, evaluates and reports; the exit code. */
  async run(): Promise<number> {
    const { folder, options, adapter } = this.#start;
    const { train, val } = this.#parts;
    folder.log(`Adapter: ${adapter}`);
    const parameters = this.#model.parameters().reduce((n, p) => n + p.size, 0);
    folder.log(
      `${parameters.toLocaleString("en-US")} parameters, ${this.#set.classes.length} classes`,
    );
    folder.log(`Spectrograms: ${this.#set.height} x ${this.#set.width}`);
    folder.log(`train dataset: ${train.length}`);
    folder.log(`valid dataset: ${val.length}`);
    if (options.gradientCheckpoint) folder.log("use gradient checkpoint");
    const code = await this.#loop.run();
    if (code !== undefined) return code;
    await this.#finish();
    return 0;
  }

  /** Scores of the best weights beside the baseline; report and summary. */
  async #finish(): Promise<void> {
    const { folder, options, preset, adapter } = this.#start;
    const { seconds, history } = this.#loop;
    await nn.io.loadWeights(this.#model, folder.path(BEST));
    const { probabilities } = await this.#validate();
    const scores = scoresOf(probabilities, this.#labels());
    const baseline = await nearestNeighbour(this.#set, this.#parts);
    folder.log(`\nBest weights, epoch ${this.#best.epoch}:`);
    logScores(folder, scores);
    if (baseline) {
      folder.log(
        `Nearest neighbour: accuracy ${percent(baseline.accuracy)}, mean recall ` +
          `${percent(baseline.meanRecall)}, cmap ${percent(baseline.cmap)}`,
      );
    }
    await writeBirdclefReport(folder.path("report.html"), {
      subtitle: `${preset} preset, seed ${options.seed}, fold ${options.fold}, ` +
        `${history.length} epochs in ${seconds.toFixed(0)} s on ${adapter}`,
      history,
      scores,
      baseline,
      set: this.#set,
      val: this.#parts.val,
      probabilities,
      options: folder.config.options,
      architecture: String(this.#model),
    });
    folder.writeSummary({
      seconds,
      epochs: history.length,
      metrics: {
        ...scores,
        ...baseline
          ? {
            nearestAccuracy: baseline.accuracy,
            nearestMeanRecall: baseline.meanRecall,
            nearestCmap: baseline.cmap,
          }
          : {},
      },
    });
    folder.log(`Report: ${folder.path("report.html")}`);
  }
}

function logScores(folder: nn.run.RunFolder, scores: Scores): void {
  folder.log(`accuracy: ${scores.accuracy}`);
  folder.log(`mean_recall: ${scores.meanRecall}`);
  folder.log(`cmap: ${scores.cmap}`);
}

if (import.meta.main) await runMain(() => main(Deno.args));
