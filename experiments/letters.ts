/**
 * @file Coupled AlexNet on EMNIST letters.
 *
 * AlexNet learns the 26 letters under random flips, rotations and affine maps. After each epoch pairs
 * of filters of the first layer are made equal (kernel equalization: a coupled pair needs one
 * convolution instead of two), and the net is validated before and after.
 *
 *   deno task train                                        built-in letters, quick preset
 *   deno task train letters --data DIR --preset full       EMNIST's files, the notebook's configuration
 *   deno task train letters --help                         every flag
 *
 * Quick preset on two cores of software Vulkan (lavapipe, Mesa 25): see the README for time and result.
 */

import { capture, crossEntropy, nn, noGrad, readAll } from "../mod.ts";
import { scope, stack, type Tensor, tensor, zeros } from "../mod.ts";
import { runMain, UsageError } from "./_args.ts";
import {
  collate,
  type LetterBatch,
  type LetterSets,
  loadLetters,
  transform,
  upload,
} from "./_letters_data.ts";
import { FLAGS, type LettersOptions, QUICK_WITH_DATA } from "./_letters_flags.ts";
import { COLUMNS, epochCells, epochLines, type EpochTimes, rule } from "./_letters_log.ts";
import { equalizeFilters, initKaiming } from "./_letters_model.ts";
import { type EpochRow, writeLettersReport } from "./_letters_report.ts";
import { checkLoss, TrainingLoop } from "./_loop.ts";
import { type StartedRun, startRun } from "./_run.ts";

const BEST = "best.safetensors";
const CLASSES = 26;

/** Loss a letter, and shares of letters right at once and among five, over a set. */
interface Scores {
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
  readonly predictions: Int32Array;
}

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  using start = await startRun({
    experiment: "letters",
    flags: FLAGS,
    args,
    columns: COLUMNS,
    resumable: ["patience"],
    base: ({ preset, options }) =>
      preset === "quick" && options.data !== undefined ? QUICK_WITH_DATA : undefined,
    check: checkOptions,
  });
  const run = start.folder;
  const { options } = start;
  const sets = await loadLetters(
    { dir: options.data, cache: ".cache", ...options },
    (line) => run.log(line),
  );
  return await new Training(start, sets).run_();
}

/** Relations between flags that no single flag can check. */
function checkOptions(options: LettersOptions): void {
  if (options.scaleMax < options.scaleMin) {
    throw new UsageError(
      `Cannot scale from ${options.scaleMin} to ${options.scaleMax}: --scale-max must not be below --scale-min`,
    );
  }
  const filters = Math.max(8, 8 * Math.round(64 * options.width / 8));
  if (options.alpha > filters / 2) {
    throw new UsageError(
      `Cannot couple ${options.alpha} pairs: the first layer has ${filters} filters, so --alpha is at ` +
        `most ${filters / 2}`,
    );
  }
}

/** Everything one run holds. */
class Training {
  readonly start: StartedRun<LettersOptions>;
  readonly options: LettersOptions;
  readonly run: nn.run.RunFolder;
  readonly sets: LetterSets;
  readonly model: nn.models.AlexNet;
  readonly optimizer: nn.optim.SGD;
  readonly scheduler: nn.optim.StepLR;
  readonly stopping: nn.optim.EarlyStopping;
  readonly loop: TrainingLoop<LetterBatch, EpochRow>;
  /** On the GPU: sum of losses, letters right, letters seen of the present epoch. */
  readonly totals = zeros([3]);
  /** On the GPU: mean loss of the last batch. */
  readonly lastLoss = zeros([]);
  #epochStart = 0;

  constructor(start: StartedRun<LettersOptions>, sets: LetterSets) {
    const { options, folder } = start;
    this.start = start;
    this.options = options;
    this.run = folder;
    this.sets = sets;
    this.model = nn.models.alexnet({
      numClasses: CLASSES,
      inChannels: 1,
      width: options.width,
      poolSize: options.poolSize,
      dropout: options.dropout,
    });
    if (options.init === "kaiming") initKaiming(this.model);
    this.optimizer = new nn.optim.SGD(this.model.parameters(), {
      lr: options.lr,
      momentum: options.momentum,
      weightDecay: options.weightDecay,
    });
    this.scheduler = new nn.optim.StepLR(this.optimizer, {
      stepSize: options.lrStep,
      gamma: options.lrGamma,
    });
    this.stopping = new nn.optim.EarlyStopping({ patience: options.patience });
    const { model, optimizer, scheduler, stopping, totals } = this;
    this.loop = new TrainingLoop({
      start,
      loader: new nn.data.DataLoader(sets.train, {
        batchSize: options.batchSize,
        shuffle: true,
        seed: options.seed,
        collate: (indices: number[]) => collate(sets.trainImages, indices),
      }),
      state: { model, optimizer, scheduler, stopping },
      totals,
      loss: ([sum, , seen]) => sum! / seen!,
      step: (batch) => {
        const { images, labels } = upload(batch);
        this.#step(images, labels);
      },
      beginEpoch: (epoch) => {
        this.#epochStart = performance.now();
        this.loop.logResources(`Epoch ${epoch} Start`);
        folder.log(rule("=", `Epoch ${epoch} Start`));
        model.train();
      },
      progress: async () => {
        const [[, right, seen], [loss]] = await readAll([totals, this.lastLoss]) as [
          Float32Array,
          Float32Array,
        ];
        return { loss: loss!, accuracy: right! / seen! };
      },
      endEpoch: (epoch, sums) => this.#endEpoch(epoch, sums),
      stopped: () => stopping.stopped,
    });
  }

  /** One step of training on uploaded letters; recorded at first, then replayed in one submit. */
  readonly #step = capture((images: Tensor, labels: Tensor) => {
    const { model, optimizer, options, totals, lastLoss } = this;
    optimizer.zeroGrad();
    const logits = model.forward(transform(images, { ...options, augment: true }));
    const loss = crossEntropy(logits, labels);
    loss.backward();
    optimizer.step();
    noGrad(() => {
      const count = labels.size;
      const right = nn.metrics.accuracy(logits, labels, { reduction: "sum" });
      totals.add_(stack([loss.detach().mul(count), right, tensor(count)]));
      lastLoss.copy_(loss.detach());
    });
  });

  /** Trains, evaluates and reports; the exit code. */
  async run_(): Promise<number> {
    const { run, options, loop } = this;
    this.#introduce();
    run.log(rule("#", `TRAINING STARTED: AlexNet on ${options.data ?? "built-in letters"}`));
    const code = await loop.run();
    if (code !== undefined) return code;
    if (this.stopping.stopped) run.log(rule("=", "Early Stopping Triggered!"));
    run.log(`Training complete! Total time: ${(loop.seconds / 60).toFixed(4)} minutes.`);
    await this.#finish();
    return 0;
  }

  #introduce(): void {
    const { run, options, model, sets } = this;
    run.log(`Adapter: ${this.start.adapter}`);
    run.log(rule("=", "Model & Data Pipeline Summary"));
    run.log(`Model Architecture:\n${model}\n\nModel Summary:`);
    run.log(model.summary([1, options.size, options.size]));
    run.log(`Number of images in train_loader: ${sets.train.length}`);
    run.log(`Number of images in val_loader: ${sets.val.length}`);
    run.log(`Number of images in test_loader: ${sets.test.length}`);
    this.loop.logResources("Initial");
  }

  /** The evaluations after an epoch, before and after equalization. */
  async #endEpoch(epoch: number, [loss, right, seen]: Float32Array): Promise<EpochRow> {
    const { run, options, loop } = this;
    const val = await this.evaluate(this.sets.val, this.sets.trainImages);
    checkLoss("validation", { epoch, loss: val.loss });
    const epochSeconds = (performance.now() - this.#epochStart) / 1000;

    const keStart = performance.now();
    equalizeFilters(this.model, options.alpha);
    const keSeconds = (performance.now() - keStart) / 1000;
    const ke = await this.evaluate(this.sets.val, this.sets.trainImages);
    const keForwardSeconds = (performance.now() - keStart) / 1000;

    const row: EpochRow = {
      epoch,
      lr: this.scheduler.getLastLr()[0]!,
      trainLoss: loss! / seen!,
      trainAccuracy: right! / seen!,
      valLoss: val.loss,
      valAccuracy: val.top1,
      keLoss: ke.loss,
      keAccuracy: ke.top1,
    };
    this.#logEpoch(row, { epochSeconds, keSeconds, keForwardSeconds });
    loop.events.scalars(epoch, {
      "loss/train": row.trainLoss,
      "loss/val": row.valLoss,
      "loss/ke_val": row.keLoss,
      "accuracy/train": row.trainAccuracy,
      "accuracy/val": row.valAccuracy,
      "accuracy/ke_val": row.keAccuracy,
      "lr": row.lr,
    });
    // As in the notebook, the loss before equalization decides and the weights after it are kept.
    if (this.stopping.step(val.loss)) {
      await nn.io.saveSafetensors(run.path(BEST), this.model.stateDict(), {
        epoch: String(epoch),
        valLoss: String(val.loss),
      });
    }
    this.scheduler.step();
    return row;
  }

  /** Scores of the model on a set, without augmentation. */
  async evaluate(
    set: nn.data.Dataset<number>,
    images: LetterSets["trainImages"],
  ): Promise<Scores> {
    const { model, options } = this;
    model.eval();
    const batches = new nn.data.DataLoader(set, {
      batchSize: Math.max(options.batchSize, 64),
      collate: (indices: number[]) => collate(images, indices),
    });
    using totals = zeros([3]);
    const predicted: Tensor[] = [];
    for await (const batch of batches) {
      predicted.push(scope(() =>
        noGrad(() => {
          const { images, labels } = upload(batch);
          const logits = model.forward(transform(images, { ...options, augment: false }));
          const sum = { reduction: "sum" } as const;
          totals.add_(stack([
            crossEntropy(logits, labels, sum),
            nn.metrics.accuracy(logits, labels, sum),
            nn.metrics.topkAccuracy(logits, labels, { k: 5, ...sum }),
          ]));
          return logits.argmax(1);
        })
      ));
    }
    const [sums, ...parts] = await readAll([totals, ...predicted]);
    for (const t of predicted) t.dispose();
    model.train();
    const predictions = Int32Array.from(parts.flatMap((part) => [...part]));
    const [loss, top1, top5] = [...sums!].map((total) => total / set.length);
    return { loss: loss!, top1: top1!, top5: top5!, predictions };
  }

  #logEpoch(row: EpochRow, times: EpochTimes): void {
    const { run, options } = this;
    for (const line of epochLines(row, times, options.epochs)) run.log(line);
    run.log(
      `Total Time Elapsed Since Training Started: ${(this.loop.seconds / 60).toFixed(4)} minutes.`,
    );
    run.metrics.append(epochCells(row, times));
    this.loop.logResources(`Epoch ${row.epoch} End`);
  }

  /** Scores of the best weights, equalized, on validation and test; report and summary. */
  async #finish(): Promise<void> {
    const { run, model, options, sets } = this;
    const best = await nn.io.loadSafetensors(run.path(BEST));
    model.loadStateDict(best);
    equalizeFilters(model, options.alpha);
    const val = await this.evaluate(sets.val, sets.trainImages);
    const test = await this.evaluate(sets.test, sets.testImages);
    run.log(rule("#", "CoupledNet"));
    for (const [name, scores] of [["Validation", val], ["Test", test]] as const) {
      run.log(
        `${name}: Top-1 Accuracy: ${(100 * scores.top1).toFixed(4)}%, ` +
          `Top-5 Accuracy: ${(100 * scores.top5).toFixed(4)}%, Loss: ${scores.loss.toFixed(6)}.`,
      );
    }
    const { seconds, history } = this.loop;
    const metrics = {
      valTop1: val.top1,
      valTop5: val.top5,
      testTop1: test.top1,
      testTop5: test.top5,
    };
    const { preset, seed } = run.config;
    await writeLettersReport(run.path("report.html"), {
      subtitle: `${preset} preset, seed ${seed}, ${history.length} epochs in ` +
        `${seconds.toFixed(0)} s on ${this.start.adapter}`,
      history,
      results: {
        "Validation top-1": val.top1,
        "Test top-1": test.top1,
        "Test top-5": test.top5,
      },
      val: sets.val,
      images: sets.trainImages,
      predictions: val.predictions,
      options: run.config.options,
      architecture: `${model}\n\n${model.summary([1, options.size, options.size])}`,
    });
    run.writeSummary({ seconds, epochs: history.length, metrics });
    run.log(`Report: ${run.path("report.html")}`);
  }
}

if (import.meta.main) await runMain(() => main(Deno.args));
