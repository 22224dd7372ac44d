/**
 * @file Momentum contrast on CIFAR-10.
 *
 * Two encoders learn features without labels: a query must find the key of another view of its image in
 * a queue of keys of other images. Then linear classifiers on the frozen features, trained on 10 %, 50 %
 * and all of the labels, say what they are worth, beside those of the untrained encoder.
 *
 *   deno task train moco                            built-in textures, quick preset
 *   deno task train moco --data DIR --preset full   CIFAR-10's files, the notebook's configuration
 *   deno task compare-moco                          several dictionary sizes, one table
 *   deno task train moco --help                     every flag
 *
 * The notebook gives its optimizer the parameters of a model that it does not train, so its loss stays at
 * 16.1; here the query encoder is trained.
 */

import {
  arange,
  capture,
  cat,
  manualSeed,
  nn,
  noGrad,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../mod.ts";
import { runMain, UsageError } from "./_args.ts";
import { TrainingLoop } from "./_loop.ts";
import { gather, loadImages, type MocoSets, upload, view } from "./_moco_data.ts";
import { baseOptions, checkOptions, FLAGS, type MocoOptions } from "./_moco_flags.ts";
import {
  extractFeatures,
  knnAccuracy,
  type Labeled,
  linearProbe,
  neighbours,
  TASKS,
} from "./_moco_probe.ts";
import {
  COLUMNS,
  epochCells,
  type EpochRow,
  type ProbeResult,
  protocolLines,
  writeMocoReport,
} from "./_moco_report.ts";
import { type StartedRun, startRun } from "./_run.ts";
import { EpochLR } from "./_schedule.ts";

/** Test images in the report, and neighbours of each. */
const ROWS = 6, NEAREST = 7;

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  using start = await startRun({
    experiment: "moco",
    flags: FLAGS,
    args,
    columns: COLUMNS,
    resumable: ["knnEvery", "knn", "probe", "probeSteps"],
    base: baseOptions,
    check: checkOptions,
  });
  const run = start.folder;
  const sets = await loadImages({ ...start.options, cache: ".cache" }, (line) => run.log(line));
  if (sets.train.count < start.options.batchSize) {
    throw new UsageError(
      `Cannot train on ${sets.train.count} images: --batch-size must be at most that`,
    );
  }
  return await new Training(start, sets).run();
}

/** A new encoder. */
function makeEncoder(options: MocoOptions): nn.models.ConvNet {
  const { width, dropout, dim, bnSplits } = options;
  return nn.models.convNet({
    channels: [32, 64, 128].map((c) => Math.max(8, 8 * Math.round(c * width / 8))),
    dropout,
    outFeatures: dim,
    norm: bnSplits > 1
      ? (c) => new nn.SplitBatchNorm2d(c, { numSplits: bnSplits })
      : (c) => new nn.BatchNorm2d(c),
  });
}

/** Everything one run holds. */
class Training {
  readonly #start: StartedRun<MocoOptions>;
  readonly #sets: MocoSets;
  readonly #model: nn.models.MoCo;
  readonly #optimizer: nn.optim.SGD;
  readonly #scheduler: nn.optim.LRScheduler;
  readonly #loop: TrainingLoop<Uint8Array<ArrayBuffer>, EpochRow>;
  /** Steps an epoch. */
  readonly #steps: number;
  /** On the GPU: sum of the losses of the present epoch, their number, and each of them. */
  readonly #totals: Tensor;
  #epochStart = 0;

  constructor(start: StartedRun<MocoOptions>, sets: MocoSets) {
    const { options } = start;
    this.#start = start;
    this.#sets = sets;
    this.#model = nn.models.moco({
      encoder: () => makeEncoder(options),
      dim: options.dim,
      queueSize: options.queue,
      momentum: options.keyMomentum,
      temperature: options.temperature,
      symmetric: options.symmetric,
    });
    this.#optimizer = new nn.optim.SGD(this.#model.encoder_q.parameters(), {
      lr: options.lr,
      momentum: options.momentum,
      weightDecay: options.weightDecay,
    });
    this.#scheduler = options.schedule === "cosine"
      ? new EpochLR(this.#optimizer, { lrSchedule: "cosine", epochs: options.epochs })
      : new nn.optim.MultiStepLR(this.#optimizer, { milestones: [120, 160] });
    const indices = { length: sets.train.count, get: (i: number) => i };
    const loader = new nn.data.DataLoader(indices, {
      batchSize: options.batchSize,
      shuffle: true,
      dropLast: true,
      seed: options.seed,
      collate: (chosen: number[]) => gather(sets.train, chosen),
    });
    this.#steps = loader.length;
    this.#totals = zeros([2 + this.#steps]);
    this.#loop = new TrainingLoop({
      start,
      loader,
      state: { model: this.#model, optimizer: this.#optimizer, scheduler: this.#scheduler },
      totals: this.#totals,
      loss: ([sum, count]) => sum! / count!,
      step: (bytes) => this.#step(upload(bytes)),
      beginEpoch: () => {
        this.#epochStart = performance.now();
        this.#model.train();
      },
      progress: async () => {
        const [sum, count] = await this.#totals.data() as Float32Array;
        return { loss: sum! / count! };
      },
      endEpoch: (epoch, totals) => this.#endEpoch(epoch, totals),
      eventStep: ({ epoch }) => epoch * this.#steps,
    });
  }

  /** One step on uploaded images; recorded at first, then replayed in one submit. */
  readonly #step = capture((images: Tensor) => {
    const options = this.#start.options;
    this.#optimizer.zeroGrad();
    const loss = this.#model.forward(view(images, options), view(images, options));
    loss.backward();
    this.#optimizer.step();
    noGrad(() => {
      const value = loss.detach().reshape(1);
      const place = arange(this.#steps).eq(this.#totals.select(0, 1)).to("f32");
      this.#totals.add_(cat([value, tensor([1]), place.mul(value)]));
    });
  });

  /** Trains, evaluates and reports; the exit code. */
  async run(): Promise<number> {
    const { folder, adapter, options } = this.#start;
    const { train, test } = this.#sets;
    folder.log(`Adapter: ${adapter}`);
    folder.log(`${this.#model.encoder_q}`);
    folder.log(this.#model.encoder_q.summary([3, 32, 32]));
    folder.log(`Images: ${train.count} to train on, ${test.count} to test on`);
    folder.log(`Steps an epoch: ${this.#steps} of ${options.batchSize}, ${options.queue} keys`);
    const code = await this.#loop.run();
    if (code !== undefined) return code;
    await this.#finish();
    return 0;
  }

  async #endEpoch(epoch: number, totals: Float32Array): Promise<EpochRow> {
    const { folder, options } = this.#start;
    const seconds = (performance.now() - this.#epochStart) / 1000;
    const [sum, count, ...losses] = totals;
    const measured = epoch % options.knnEvery === 0 || epoch === options.epochs;
    const row: EpochRow = {
      epoch,
      lr: this.#scheduler.getLastLr()[0]!,
      loss: sum! / count!,
      knn: measured ? await this.#knn(this.#model.encoder_q as nn.models.ConvNet) : null,
      seconds,
    };
    const first = (epoch - 1) * this.#steps;
    losses.forEach((loss, i) => {
      this.#loop.events.scalars(first + i, { "Loss/train_batch": loss });
    });
    this.#loop.events.scalars(first + this.#steps - 1, {
      "Loss/train_epoch": row.loss,
      "lr": row.lr,
      ...row.knn === null ? {} : { "kNN/top1": row.knn },
    });
    folder.log(
      `Train Epoch: [${epoch}/${options.epochs}], lr: ${row.lr.toFixed(6)}, ` +
        `Loss: ${row.loss.toFixed(4)}` +
        (row.knn === null ? "" : `, kNN Top-1: ${(100 * row.knn).toFixed(2)}%`) +
        ` (${(this.#steps / seconds).toFixed(2)} it/s)`,
    );
    folder.metrics.append(epochCells(row));
    this.#scheduler.step();
    return row;
  }

  /** Features of both sets. */
  #features(encoder: nn.models.ConvNet): Labeled & Disposable {
    const { train, test } = this.#sets;
    const { batchSize, probe } = this.#start.options;
    const options = { batchSize: Math.max(batchSize, 128), probe };
    const features = {
      train: extractFeatures(encoder, train, options),
      test: extractFeatures(encoder, test, options),
    };
    return {
      ...features,
      trainLabels: train.labels,
      testLabels: test.labels,
      [Symbol.dispose]() {
        features.train.dispose();
        features.test.dispose();
      },
    };
  }

  async #knn(encoder: nn.models.ConvNet): Promise<number> {
    using features = this.#features(encoder);
    return await knnAccuracy(features, this.#start.options.knn);
  }

  /** The linear protocol on the trained and an untrained encoder; report and summary. */
  async #finish(): Promise<void> {
    const { folder, options, adapter, preset } = this.#start;
    const { seconds, history } = this.#loop;
    const encoder = this.#model.encoder_q as nn.models.ConvNet;
    await nn.io.saveSafetensors(folder.path("encoder.safetensors"), encoder.stateDict());
    using features = this.#features(encoder);
    // The seed gives the weights that training started with.
    manualSeed(options.seed);
    using fresh = makeEncoder(options);
    using before = this.#features(fresh);
    const results: ProbeResult[] = [];
    for (const task of TASKS) {
      const probe = { steps: options.probeSteps, seed: options.seed };
      results.push({
        ...task,
        trained: await linearProbe(features, task, probe),
        untrained: await linearProbe(before, task, probe),
      });
    }
    const knn = {
      trained: await knnAccuracy(features, options.knn),
      untrained: await knnAccuracy(before, options.knn),
    };
    for (const line of protocolLines(results)) folder.log(line);
    folder.log(
      `kNN: ${(100 * knn.trained).toFixed(2)} % trained, ${
        (100 * knn.untrained).toFixed(2)
      } % untrained`,
    );
    await Deno.writeTextFile(
      folder.path("protocol.json"),
      JSON.stringify({ results, knn }, null, 2),
    );
    const ten = results.find((r) => r.classes === 10 && r.share === 1)!;
    await writeMocoReport(folder.path("report.html"), {
      subtitle: `${preset} preset, seed ${options.seed}, ${history.length} epochs in ` +
        `${seconds.toFixed(0)} s on ${adapter}`,
      history,
      results,
      knn,
      classes: this.#sets.classes,
      rows: await nearestRows(features),
      train: this.#sets.train,
      test: this.#sets.test,
      options: folder.config.options,
      architecture: `${encoder}\n\n${encoder.summary([3, 32, 32])}`,
    });
    folder.writeSummary({
      seconds,
      epochs: history.length,
      metrics: {
        linearTop1: ten.trained,
        untrainedLinearTop1: ten.untrained,
        knnTop1: knn.trained,
        untrainedKnnTop1: knn.untrained,
      },
    });
    folder.log(`Report: ${folder.path("report.html")}`);
  }
}

/** The nearest training images of the first few test images. */
async function nearestRows(features: Labeled) {
  const count = Math.min(ROWS, features.testLabels.length);
  const k = Math.min(NEAREST, features.trainLabels.length);
  using indices = scope(() =>
    neighbours({ ...features, test: features.test.narrow(0, 0, count) }, k).indices
  );
  const found = await indices.array() as number[][];
  return found.map((nearest, query) => ({ query, nearest }));
}

if (import.meta.main) await runMain(() => main(Deno.args));
