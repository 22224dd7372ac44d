/**
 * @file Single-shot detection with ToySSD.
 *
 * A small detector with five scales learns to find creatures (or Pikachu, from MXNet's RecordIO files) in
 * pictures: random crops that keep the objects, targets for every anchor, focal loss for classes, smooth
 * L1 for boxes. Decoding, targets and non-maximum suppression run on the GPU.
 *
 *   deno task train ssd                                    built-in scenes, quick preset
 *   deno task train ssd --data DIR --preset full           RecordIO files, the notebook's configuration
 *   deno task train ssd --help                             every flag
 *   deno task detect PICTURE --weights runs/ssd-…          a picture with its boxes
 */

import { capture, nn, noGrad, readAll, stack, type Tensor, zeros } from "../mod.ts";
import { runMain } from "./_args.ts";
import { TrainingLoop } from "./_loop.ts";
import { type StartedRun, startRun } from "./_run.ts";
import {
  collate,
  loadScenes,
  prepare,
  type SceneBatch,
  type SceneSet,
  upload,
} from "./_ssd_data.ts";
import { evaluate, type Evaluation } from "./_ssd_detect.ts";
import { detectorOptions, FLAGS, QUICK_WITH_DATA, type SsdOptions } from "./_ssd_flags.ts";
import {
  COLUMNS,
  epochLines,
  type EpochRow,
  intervalLine,
  introduce,
  rowCells,
} from "./_ssd_log.ts";
import { detectionLoss, initXavier, makeDetector } from "./_ssd_model.ts";
import { writeSsdReport } from "./_ssd_report.ts";
import { loadDetector } from "./_ssd_weights.ts";

const BEST = "best.safetensors";
/** Streams of random crops, apart from those that draw scenes. */
const CROPS = 2 ** 40;

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  using start = await startRun({
    experiment: "ssd",
    flags: FLAGS,
    args,
    columns: COLUMNS,
    resumable: ["logInterval"],
    base: ({ preset, options }) =>
      preset === "quick" && options.data !== undefined ? QUICK_WITH_DATA : undefined,
    check: (options) => void detectorOptions(options),
  });
  const run = start.folder;
  const { options } = start;
  const sets = await loadScenes(
    {
      ...options,
      dir: options.data,
      cache: ".cache",
      classes: detectorOptions(options).classes.length,
    },
    (line) => run.log(line),
  );
  const training = new Training(start, sets);
  if (options.weights !== undefined && !start.resumed) {
    await loadDetector(training.model, options.weights);
    run.log(`Weights: ${options.weights}`);
  }
  return await training.run();
}

/** Everything one run holds. */
class Training {
  readonly start: StartedRun<SsdOptions>;
  readonly options: SsdOptions;
  readonly sets: { readonly train: SceneSet; readonly val: SceneSet };
  readonly model: nn.models.ToySsd;
  readonly optimizer: nn.optim.SGD | nn.optim.Adam;
  readonly loop: TrainingLoop<SceneBatch, EpochRow>;
  /** On the GPU, sums over the epoch: class loss, box loss, accuracy, MAE, pictures. */
  readonly totals = zeros([5]);
  /** On the GPU: loss of the last batch. */
  readonly lastLoss = zeros([]);
  readonly #scheduler: nn.optim.OneCycleLR | undefined;
  /** Where epoch and interval began, in milliseconds. */
  #epochStart = 0;
  #intervalStart = 0;

  constructor(start: StartedRun<SsdOptions>, sets: Training["sets"]) {
    const { options, folder } = start;
    this.start = start;
    this.options = options;
    this.sets = sets;
    this.model = makeDetector(detectorOptions(options));
    initXavier(this.model, options.magnitude);
    const { lr, momentum, weightDecay } = options;
    const parameters = this.model.parameters();
    this.optimizer = options.optimizer === "sgd"
      ? new nn.optim.SGD(parameters, { lr, momentum, weightDecay })
      : new nn.optim.Adam(parameters, { lr, weightDecay });
    const loader = new nn.data.DataLoader({ length: sets.train.scenes.length, get: (i) => i }, {
      batchSize: options.batchSize,
      shuffle: true,
      seed: options.seed,
      collate: (indices: number[]) => collate(sets.train, indices),
    });
    if (options.schedule === "cycle") {
      this.#scheduler = new nn.optim.OneCycleLR(this.optimizer, {
        maxLr: lr,
        totalSteps: options.epochs * loader.length + 1,
        cycleMomentum: false,
      });
    }
    const { model, optimizer, totals } = this;
    const scheduler = this.#scheduler;
    this.loop = new TrainingLoop({
      start,
      loader,
      state: { model, optimizer, ...scheduler ? { scheduler } : {} },
      totals,
      loss: ([classLoss, boxLoss, , , pictures]) => (classLoss! + boxLoss!) / pictures!,
      step: (batch) => {
        const { epoch, batch: at } = loader.state();
        const random = new nn.data.HostRandom(options.seed, CROPS + epoch * loader.length + at);
        const tensors = upload(sets.train, batch, { options: this.#augment(), random });
        this.#step(tensors.images, tensors.crops, tensors.flips, tensors.labels);
        scheduler?.step();
      },
      beginEpoch: () => {
        this.#epochStart = this.#intervalStart = performance.now();
        model.train();
      },
      progress: async () => {
        const [[, , right, , seen], [loss]] = await readAll([totals, this.lastLoss]) as [
          Float32Array,
          Float32Array,
        ];
        return { loss: loss!, accuracy: right! / seen! };
      },
      afterStep: async ({ epoch, step }) => {
        if (step % options.logInterval !== 0) return;
        const sums = await totals.data() as Float32Array;
        const now = performance.now();
        const pictures = options.logInterval * options.batchSize;
        const speed = 1000 * pictures / (now - this.#intervalStart);
        this.#intervalStart = now;
        folder.log(intervalLine({ epoch, step, speed }, sums));
      },
      endEpoch: (epoch, sums) => this.#endEpoch(epoch, sums),
    });
  }

  #augment() {
    const { crop, cropCovered, cropArea, cropAttempts, flip } = this.options;
    return {
      crop,
      flip,
      minObjectCovered: cropCovered,
      minArea: cropArea,
      attempts: cropAttempts,
    };
  }

  /** One step of training on an uploaded batch; recorded at first, then replayed in one submit. */
  readonly #step = capture((images: Tensor, crops: Tensor, flips: Tensor, labels: Tensor) => {
    const { model, optimizer, options, totals, lastLoss } = this;
    const { size, brightness, contrast, saturation, hue } = options;
    optimizer.zeroGrad();
    const jitter = { brightness, contrast, saturation, hue };
    const mirror = options.flip > 0;
    const output = model.forward(prepare({ images, crops, flips }, { size, mirror, jitter }));
    const parts = detectionLoss(output, labels, options);
    parts.loss.backward();
    optimizer.step();
    noGrad(() => {
      const { classLoss, boxLoss, accuracy, mae } = parts;
      const means = [classLoss.detach(), boxLoss.detach(), accuracy, mae];
      const B = images.shape[0]!;
      totals.add_(stack([...means, zeros([]).add(1)]).mul(B));
      lastLoss.copy_(parts.loss.detach());
    });
  });

  /** Trains, evaluates and reports; the exit code. */
  async run(): Promise<number> {
    const { start, loop, sets, options, model } = this;
    const { folder } = start;
    folder.log(`Adapter: ${start.adapter}`);
    await introduce((line) => folder.log(line), { model, sets, options });
    const code = await loop.run();
    if (code !== undefined) return code;
    folder.log(`Training complete! Total time: ${(loop.seconds / 60).toFixed(4)} minutes.`);
    await this.#finish();
    return 0;
  }

  /** Scores on the validation scenes after an epoch; the best weights are kept. */
  async #endEpoch(epoch: number, sums: Float32Array): Promise<EpochRow> {
    const { options, loop, start } = this;
    const [classLoss, boxLoss, accuracy, mae] = [...sums].map((v) => v / sums[4]!) as [
      number,
      number,
      number,
      number,
    ];
    const seconds = (performance.now() - this.#epochStart) / 1000;
    const lr = this.optimizer.paramGroups[0]!.lr;
    const scored = epoch % options.evalEvery === 0 || epoch === options.epochs;
    const scores = scored ? await this.#evaluate() : undefined;
    const { map50 = null, map = null } = scores ?? {};
    const row: EpochRow = { epoch, lr, classLoss, boxLoss, accuracy, mae, map50, map };
    for (const line of epochLines(row, seconds)) start.folder.log(line);
    start.folder.metrics.append(rowCells(row, seconds));
    loop.events.scalars(epoch, {
      "loss/class": classLoss,
      "loss/box": boxLoss,
      "accuracy/train": accuracy,
      "mae/train": mae,
      "lr": lr,
      ...map50 !== null && map !== null ? { "map50/val": map50, "map/val": map } : {},
    });
    if (map50 !== null && map !== null && this.#isBest(map50, map)) {
      await nn.io.saveSafetensors(start.folder.path(BEST), this.model.stateDict(), {
        epoch: String(epoch),
        map50: String(map50),
      });
    }
    return row;
  }

  /** Whether no epoch before was as good at an overlap of 0.5, or, that being equal, at all of them. */
  #isBest(map50: number, map: number): boolean {
    return this.loop.history.every((row) =>
      row.map50 === null || row.map === null || map50 > row.map50 ||
      (map50 === row.map50 && map >= row.map)
    );
  }

  #evaluate(): Promise<Evaluation> {
    const { size, batchSize } = this.options;
    return evaluate(this.model, this.sets.val, { size, batchSize });
  }

  /** Scores of the best weights; report and summary. */
  async #finish(): Promise<void> {
    const { start, model, sets, loop, options } = this;
    const { folder } = start;
    model.loadStateDict(await nn.io.loadSafetensors(folder.path(BEST)));
    const scores = await this.#evaluate();
    const { map50, map } = scores;
    folder.log(`Validation: mAP@0.5 ${map50.toFixed(4)}, mAP@[.5:.95] ${map.toFixed(4)}`);
    const { seconds, history } = loop;
    await writeSsdReport(folder.path("report.html"), {
      subtitle: `${start.preset} preset, seed ${options.seed}, ${history.length} epochs in ` +
        `${seconds.toFixed(0)} s on ${start.adapter}`,
      history,
      scores,
      val: sets.val,
      classes: detectorOptions(options).classes,
      options: folder.config.options,
      architecture: `${model}\n\n${model.summary([3, options.size, options.size])}`,
    });
    folder.writeSummary({ seconds, epochs: history.length, metrics: { map50, map } });
    folder.log(`Report: ${folder.path("report.html")}`);
  }
}

if (import.meta.main) await runMain(() => main(Deno.args));
