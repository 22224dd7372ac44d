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

import { capture, crossEntropy, init, manualSeed, memory, nn, noGrad, readAll } from "../mod.ts";
import { rngState, scope, setRngState, stack, type Tensor, tensor, zeros } from "../mod.ts";
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

const CHECKPOINT = "checkpoint.safetensors";
const BEST = "best.safetensors";
const CLASSES = 26;

/** A checkpoint's content. */
interface Saved {
  model: Record<string, Tensor>;
  optimizer: nn.optim.OptimizerState;
  scheduler: nn.optim.LRSchedulerState;
  stopping: nn.optim.EarlyStoppingState;
  rng: { seed: number; calls: number };
  loader: { epoch: number; batch: number };
  totals: Tensor;
  history: EpochRow[];
  seconds: number;
}

/** Loss a letter, and shares of letters right at once and among five, over a set. */
interface Scores {
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
  readonly predictions: Int32Array;
}

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const first = FLAGS.parse(args);
  const from = first.options.resume;
  const stored = from === undefined ? undefined : nn.run.readConfig(from);
  if (stored && stored.experiment !== "letters") {
    throw new UsageError(
      `Cannot resume ${from}: it is a run of ${stored.experiment}, not of letters`,
    );
  }
  const ownData = first.preset === "quick" && first.options.data !== undefined;
  const base = stored
    ? stored.options as Partial<LettersOptions>
    : ownData
    ? QUICK_WITH_DATA
    : undefined;
  const { options, preset, given } = FLAGS.parse(args, { base });
  checkOptions(options);
  if (stored) checkResumed(given);

  const info = await init();
  manualSeed(options.seed);
  const kept = { ...options, resume: undefined, out: undefined };
  using run = from !== undefined
    ? await nn.run.RunFolder.open(from, { columns: COLUMNS })
    : await nn.run.RunFolder.create({
      experiment: "letters",
      preset,
      seed: options.seed,
      adapter: info.adapter,
      options: kept,
    }, { columns: COLUMNS, out: options.out });

  const sets = await loadLetters({
    dir: options.data,
    cache: ".cache",
    ...options,
  }, (line) => run.log(line));
  const training = new Training(options, { run, sets, adapter: info.adapter });
  return await training.run_(from !== undefined);
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

/** Flags that may differ when a run goes on: the others would make it another run. */
const RESUMABLE: ReadonlySet<string> = new Set([
  "resume",
  "epochs",
  "patience",
  "checkpointEvery",
  "data",
]);

function checkResumed(given: ReadonlySet<string>): void {
  const changed = [...given].find((name) => !RESUMABLE.has(name));
  if (changed === undefined) return;
  const flag = changed.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
  throw new UsageError(
    `Cannot change --${flag} of a run that goes on: only --epochs, --patience, --checkpoint-every and ` +
      "--data may differ",
  );
}

/** Everything one run holds. */
class Training {
  readonly options: LettersOptions;
  readonly run: nn.run.RunFolder;
  readonly sets: LetterSets;
  readonly adapter: string;
  readonly model: nn.models.AlexNet;
  readonly optimizer: nn.optim.SGD;
  readonly scheduler: nn.optim.StepLR;
  readonly stopping: nn.optim.EarlyStopping;
  readonly loader: nn.data.DataLoader<number, LetterBatch>;
  /** On the GPU: sum of losses, letters right, letters seen of the present epoch. */
  readonly totals: Tensor;
  /** On the GPU: mean loss of the last batch. */
  readonly lastLoss: Tensor;
  readonly monitor: nn.run.ResourceMonitor;
  history: EpochRow[] = [];
  #started = performance.now();
  #secondsBefore = 0;

  constructor(
    options: LettersOptions,
    parts: { run: nn.run.RunFolder; sets: LetterSets; adapter: string },
  ) {
    this.options = options;
    this.run = parts.run;
    this.sets = parts.sets;
    this.adapter = parts.adapter;
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
    this.loader = new nn.data.DataLoader(this.sets.train, {
      batchSize: options.batchSize,
      shuffle: true,
      seed: options.seed,
      collate: (indices: number[]) => collate(this.sets.trainImages, indices),
    });
    this.totals = zeros([3]);
    this.lastLoss = zeros([]);
    this.monitor = new nn.run.ResourceMonitor({ adapter: this.adapter, gpuMemory: memory });
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

  /** Seconds trained so far, sessions before a resume included. */
  get seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#started) / 1000;
  }

  /** Trains, evaluates and reports; the exit code. */
  async run_(resume: boolean): Promise<number> {
    const { run, options } = this;
    this.#introduce();
    if (resume) await this.#load();
    const ended = () => this.stopping.stopped || this.loader.epoch >= options.epochs;
    let finished = ended();
    using interrupt = new nn.run.Interrupt({
      onFirst: () => run.log("\nStopping after this step; press Ctrl-C again to stop at once"),
    });
    using events = new nn.run.EventWriter(run.dir, { resumeAt: this.loader.epoch + 1 });
    run.log(rule("#", `TRAINING STARTED: AlexNet on ${options.data ?? "built-in letters"}`));
    while (!finished) {
      const stopped = await this.#epoch(interrupt, events);
      if (stopped) return await this.#interrupted(interrupt);
      finished = ended();
      if (this.stopping.stopped) run.log(rule("=", "Early Stopping Triggered!"));
      if (finished || this.loader.epoch % options.checkpointEvery === 0) await this.#save();
      if (await interrupt.poll() && !finished) return await this.#interrupted(interrupt);
    }
    run.log(`Training complete! Total time: ${(this.seconds / 60).toFixed(4)} minutes.`);
    await this.#finish();
    return 0;
  }

  #introduce(): void {
    const { run, options, model, sets } = this;
    run.log(`Adapter: ${this.adapter}`);
    run.log(rule("=", "Model & Data Pipeline Summary"));
    run.log(`Model Architecture:\n${model}\n\nModel Summary:`);
    run.log(model.summary([1, options.size, options.size]));
    run.log(`Number of images in train_loader: ${sets.train.length}`);
    run.log(`Number of images in val_loader: ${sets.val.length}`);
    run.log(`Number of images in test_loader: ${sets.test.length}`);
    this.#resources("Initial");
  }

  #resources(when: string): void {
    this.run.log(`\n............... ${when} - GPU & CPU monitoring ...............`);
    for (const line of nn.run.formatResources(this.monitor.sample())) this.run.log(line);
  }

  /** One epoch of training and its evaluations; true when it was interrupted and must be saved. */
  async #epoch(interrupt: nn.run.Interrupt, events: nn.run.EventWriter): Promise<boolean> {
    const { run, options, loader } = this;
    const epoch = loader.epoch + 1;
    const start = performance.now();
    this.#resources(`Epoch ${epoch} Start`);
    run.log(rule("=", `Epoch ${epoch} Start`));
    if (!await this.#train(interrupt, epoch)) return true;
    const [loss, right, seen] = await this.totals.data() as Float32Array;
    const val = await this.evaluate(this.sets.val, this.sets.trainImages);
    const epochSeconds = (performance.now() - start) / 1000;

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
    this.history.push(row);
    this.#logEpoch(row, { epochSeconds, keSeconds, keForwardSeconds });
    events.scalars(epoch, {
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
    this.totals.zero_();
    return false;
  }

  /** The steps of an epoch that are left; false when interrupted after one. */
  async #train(interrupt: nn.run.Interrupt, epoch: number): Promise<boolean> {
    const { loader, options, model } = this;
    model.train();
    const bar = this.run.progress(loader.length, { label: `Epoch ${epoch}/${options.epochs}` });
    let step = loader.state().batch;
    let waited = 0;
    let asked = performance.now();
    for await (const batch of loader) {
      waited += (performance.now() - asked) / 1000;
      scope(() => {
        const { images, labels } = upload(batch);
        this.#step(images, labels);
      });
      step++;
      const update = { step, samples: step * options.batchSize, waitSeconds: waited };
      if (bar.isReportStep(step)) {
        const [[, right, seen], [loss]] = await readAll([this.totals, this.lastLoss]) as [
          Float32Array,
          Float32Array,
        ];
        bar.update({ ...update, loss: loss!, accuracy: right! / seen! });
      } else bar.update(update);
      if (await interrupt.poll() && step < loader.length) {
        bar.finish();
        return false;
      }
      asked = performance.now();
    }
    bar.finish();
    return true;
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
      `Total Time Elapsed Since Training Started: ${(this.seconds / 60).toFixed(4)} minutes.`,
    );
    run.metrics.append(epochCells(row, times));
    this.#resources(`Epoch ${row.epoch} End`);
  }

  /** Writes everything a resumed run needs. */
  async #save(): Promise<void> {
    const state: Saved = {
      model: this.model.stateDict(),
      optimizer: this.optimizer.stateDict(),
      scheduler: this.scheduler.stateDict(),
      stopping: this.stopping.stateDict(),
      rng: rngState(),
      loader: this.loader.state(),
      totals: this.totals,
      history: this.history,
      seconds: this.seconds,
    };
    await nn.io.saveCheckpoint(this.run.path(CHECKPOINT), state);
  }

  /** Goes to where the checkpoint was written. */
  async #load(): Promise<void> {
    const { run } = this;
    const saved = await nn.io.loadCheckpoint<Saved>(run.path(CHECKPOINT));
    this.model.loadStateDict(saved.model);
    this.optimizer.loadStateDict(saved.optimizer);
    this.scheduler.loadStateDict(saved.scheduler);
    this.stopping.loadStateDict(saved.stopping);
    setRngState(saved.rng);
    this.loader.loadState(saved.loader);
    this.totals.copy_(saved.totals);
    this.history = saved.history;
    this.#secondsBefore = saved.seconds;
    this.#started = performance.now();
    run.metrics.rewind(this.loader.epoch);
    const { epoch, batch } = saved.loader;
    run.log(
      `Resumed from ${run.dir} at epoch ${epoch + 1}, batch ${batch} of ${this.loader.length}`,
    );
  }

  async #interrupted(interrupt: nn.run.Interrupt): Promise<number> {
    await this.#save();
    this.run.log(`Interrupted; everything is saved. Go on with:`);
    this.run.log(`  deno task train letters --resume ${this.run.dir}`);
    return interrupt.exitCode;
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
    const { seconds } = this;
    const metrics = {
      valTop1: val.top1,
      valTop5: val.top5,
      testTop1: test.top1,
      testTop5: test.top5,
    };
    const { preset, seed } = run.config;
    await writeLettersReport(run.path("report.html"), {
      subtitle: `${preset} preset, seed ${seed}, ${this.history.length} epochs in ` +
        `${seconds.toFixed(0)} s on ${this.adapter}`,
      history: this.history,
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
    run.writeSummary({ seconds, epochs: this.history.length, metrics });
    run.log(`Report: ${run.path("report.html")}`);
  }
}

if (import.meta.main) await runMain(() => main(Deno.args));
