/**
 * @file Image captioning on Flickr8k.
 *
 * A residual net sees a picture, an LSTM says what is in it. With `--preset full` the encoder is a frozen
 * ResNet-50 (`--weights resnet50.pth`), whose features are kept on disk so that an epoch costs only the
 * decoder; the quick preset trains a small encoder from scratch on drawn scenes.
 *
 *   deno task train captioning                              built-in scenes, quick preset
 *   deno task train captioning --data DIR --preset full --weights resnet50-11ad3fa6.pth
 *   deno task caption IMAGE --weights runs/captioning-TIME  a caption for any picture
 *   deno task train captioning --help                       every flag
 *
 * Losses are means over words, without padding. The notebook's count padding (see the vocabulary) and are
 * means over batches.
 */

import {
  capture,
  cat,
  crossEntropy,
  nn,
  noGrad,
  readAll,
  scope,
  stack,
  type Tensor,
  tensor,
  zeros,
} from "../mod.ts";
import { runMain, UsageError } from "./_args.ts";
import {
  type CaptionBatch,
  type CaptionSets,
  collate,
  fillPictures,
  keptFeatures,
  loadCaptions,
  type Pair,
  Pictures,
  trainingOrder,
  uploadCaptions,
} from "./_captioning_data.ts";
import { generate } from "./_captioning_decode.ts";
import { type CaptioningOptions, FLAGS, QUICK_WITH_DATA } from "./_captioning_flags.ts";
import {
  type CaptionedPicture,
  COLUMNS,
  epochCells,
  type EpochRow,
  writeCaptioningReport,
} from "./_captioning_report.ts";
import { PAD, tokenize, unigramEntropy, type Vocabulary } from "./_captioning_vocab.ts";
import { checkLoss, TrainingLoop } from "./_loop.ts";
import { type StartedRun, startRun } from "./_run.ts";
import { EpochLR } from "./_schedule.ts";
import { isTrue, sceneOfFile } from "./synth/scenes.ts";

/** The best weights, the last ones, and the words. */
export const BEST = "best.safetensors", FINAL = "final.safetensors", WORDS = "vocabulary.json";

/** Pictures that a step encodes are a multiple of this, so that few steps are recorded. */
const PICTURES_STEP = 8;

/** Pictures in the report. */
const SHOWN = 24;

/** Runs the experiment. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  using start = await startRun({
    experiment: "captioning",
    flags: FLAGS,
    args,
    columns: COLUMNS,
    resumable: ["beams", "maxWords"],
    base: ({ preset, options }) =>
      preset === "quick" && options.data !== undefined ? QUICK_WITH_DATA : undefined,
    check: checkOptions,
  });
  const run = start.folder;
  const sets = await loadCaptions({ ...start.options, cache: ".cache" }, (line) => run.log(line));
  await Deno.writeTextFile(run.path(WORDS), JSON.stringify(sets.vocabulary.words));
  run.log(`Vocabulary saved to: ${run.path(WORDS)}`);
  run.log(`Vocabulary size: ${sets.vocabulary.size}`);
  const training = new Training(start, sets);
  await training.prepare();
  return await training.run();
}

/** Relations between flags that no single flag can check. */
function checkOptions(options: CaptioningOptions): void {
  if (options.encoder === "small" && options.weights !== undefined) {
    throw new UsageError(
      "Cannot load --weights into the small encoder: choose --encoder resnet18, resnet34 or resnet50",
    );
  }
}

/** A new model as the options say. */
export function makeModel(options: CaptioningOptions, vocabulary: Vocabulary): nn.models.Captioner {
  const { encoder, embedDim, hiddenDim, forgetBias, size, frozen, encoderStatistics } = options;
  const depths = { resnet18: 18, resnet34: 34, resnet50: 50, small: "small" } as const;
  return nn.models.captioner({
    vocabSize: vocabulary.size,
    embedDim,
    hiddenDim,
    forgetBias,
    encoder: depths[encoder],
    imageSize: size,
    frozen,
    freezeStatistics: encoderStatistics === "frozen",
  });
}

/** Everything one run holds. */
class Training {
  readonly #start: StartedRun<CaptioningOptions>;
  readonly #sets: CaptionSets;
  readonly #model: nn.models.Captioner;
  readonly #optimizer: nn.optim.Adam;
  readonly #scheduler: nn.optim.LRScheduler;
  readonly #loader: nn.data.DataLoader<number, CaptionBatch>;
  readonly #loop: TrainingLoop<CaptionBatch, EpochRow>;
  /** On the GPU: sum of losses over words, words, and the mean loss of the last batch. */
  readonly #totals: Tensor = zeros([3]);
  /** Best validation loss so far, and its epoch. */
  #best = { valLoss: Infinity, epoch: 0 };
  /** What the encoder is given: kept features [P, F], or pictures. */
  #features: Tensor | undefined;
  #pictures: Pictures | undefined;
  #epochStart = 0;

  constructor(start: StartedRun<CaptioningOptions>, sets: CaptionSets) {
    const { options } = start;
    this.#start = start;
    this.#sets = sets;
    this.#model = makeModel(options, sets.vocabulary);
    const { encoder, decoder } = this.#model;
    const trained = [
      ...decoder.parameters(),
      ...encoder.fc.parameters(),
      ...encoder.batch_norm.parameters(),
      ...options.frozen ? [] : encoder.net.parameters(),
    ];
    this.#optimizer = new nn.optim.Adam(trained, { lr: options.lr });
    this.#scheduler = new EpochLR(this.#optimizer, options);
    const { batchSize, captionsPerPicture: count, seed } = options;
    this.#loader = new nn.data.DataLoader({ length: sets.train.length, get: (i: number) => i }, {
      batchSize,
      sampler: trainingOrder(sets.train, { count, seed, batchSize }),
      collate: (chosen: number[]) => collate(chosen.map((i) => sets.train[i]!)),
    });
    this.#loop = new TrainingLoop({
      start,
      loader: this.#loader,
      state: {
        model: this.#model,
        optimizer: this.#optimizer,
        scheduler: this.#scheduler,
        best: {
          stateDict: () => this.#best,
          // Older runs kept the loss as text, for the sake of Infinity.
          loadStateDict: (best: { valLoss: number | string; epoch: number }) => {
            this.#best = { ...best, valLoss: Number(best.valLoss) };
          },
        },
      },
      totals: this.#totals,
      loss: ([sum, words]) => sum! / words!,
      step: (batch) => {
        const { ids, rows } = uploadCaptions(batch);
        // Kept features cost nothing: one row a caption has always one shape.
        const step = this.#features ? batch.rows.length : PICTURES_STEP;
        this.#step(this.#seen(fillPictures(batch, step)), ids, rows);
      },
      beginEpoch: () => {
        this.#epochStart = performance.now();
        this.#model.train();
      },
      progress: async () => ({ loss: (await this.#totals.data() as Float32Array)[2]! }),
      endEpoch: (epoch, totals) => this.#endEpoch(epoch, totals),
    });
  }

  /** Loads the encoder's weights and what it will see. */
  async prepare(): Promise<void> {
    const { folder, options } = this.#start;
    const { encoder } = this.#model;
    const say = (line: string) => folder.log(line);
    if (options.weights !== undefined) {
      const { loaded } = await nn.io.loadWeights(encoder.net, options.weights, { except: "fc" });
      say(`Loaded ${loaded.length} tensors of the encoder from ${options.weights}`);
    } else if (options.frozen) {
      say("The frozen encoder has random weights: give --weights, or train it with --no-frozen");
    }
    const keep = options.frozen && options.encoderStatistics === "frozen";
    if (keep) {
      this.#features = await keptFeatures(encoder, {
        sets: this.#sets,
        size: options.size,
        file: `.cache/captioning-${options.encoder}-${options.size}.safetensors`,
        batchSize: 16,
        say,
      });
    } else {
      this.#pictures = await Pictures.read(this.#sets, options.size, say);
    }
  }

  /** What the encoder is given for pictures: kept features [B, F], or images [B, 3, S, S]. */
  #seen(indices: readonly number[]): Tensor {
    if (this.#pictures) return this.#pictures.upload(indices);
    return this.#features!.indexSelect(0, tensor(Int32Array.from(indices)));
  }

  /** One step of training; recorded at first for each shape of a batch, then replayed. */
  readonly #step = capture((seen: Tensor, ids: Tensor, rows: Tensor) => {
    this.#optimizer.zeroGrad();
    const { sum, words } = this.#loss(seen, { ids, rows });
    const loss = sum.div(words);
    loss.backward();
    this.#optimizer.step();
    noGrad(() => {
      const before = this.#totals.narrow(0, 0, 2);
      const last = loss.detach().reshape(1);
      this.#totals.copy_(cat([before.add(stack([sum.detach(), words])), last]));
    });
  });

  /**
   * Sum of the losses of words 1 … of captions [B, T] about some rows of what is seen, and their number. Batch
   * norm is over captions, so features become a row a caption before it.
   */
  #loss(
    seen: Tensor,
    { ids, rows }: { ids: Tensor; rows: Tensor },
  ): { sum: Tensor; words: Tensor } {
    const [, T] = ids.shape as [number, number];
    const { encoder, decoder } = this.#model;
    const features = seen.ndim === 2 ? seen : encoder.features(seen);
    const vectors = encoder.forward(features.indexSelect(0, rows));
    const logits = decoder.forward(vectors, ids).narrow(1, 1, T - 1);
    const targets = ids.narrow(1, 1, T - 1).reshape(-1);
    const sum = crossEntropy(logits.reshape(-1, logits.shape[2]!), targets, {
      ignoreIndex: PAD,
      reduction: "sum",
    });
    return { sum, words: noGrad(() => targets.ne(PAD).to("f32").sum()) };
  }

  /** Mean loss of validation words. */
  async #validate(): Promise<number> {
    const { options } = this.#start;
    const { val } = this.#sets;
    this.#model.eval();
    using totals = zeros([2]);
    const loader = new nn.data.DataLoader({ length: val.length, get: (i: number) => val[i]! }, {
      batchSize: options.batchSize,
      collate: (pairs: Pair[]) => collate(pairs),
    });
    for await (const batch of loader) {
      scope(() =>
        noGrad(() => {
          const { sum, words } = this.#loss(
            this.#seen(batch.pictures),
            uploadCaptions(batch),
          );
          totals.add_(stack([sum, words]));
        })
      );
    }
    const [sum, words] = await totals.data() as Float32Array;
    return sum! / words!;
  }

  async #endEpoch(epoch: number, [sum, words]: Float32Array): Promise<EpochRow> {
    const { folder, options } = this.#start;
    const valLoss = await this.#validate();
    checkLoss("validation", { epoch, loss: valLoss });
    const row: EpochRow = {
      epoch,
      lr: this.#scheduler.getLastLr()[0]!,
      trainLoss: sum! / words!,
      valLoss,
      seconds: (performance.now() - this.#epochStart) / 1000,
    };
    folder.log(
      `[Epoch ${epoch}/${options.epochs}] Train Loss: ${row.trainLoss.toFixed(4)} | ` +
        `Val Loss: ${valLoss.toFixed(4)} (${row.seconds.toFixed(1)} s)`,
    );
    folder.metrics.append(epochCells(row));
    this.#loop.events.scalars(epoch, {
      "loss/train": row.trainLoss,
      "loss/val": valLoss,
      "lr": row.lr,
    });
    const state = this.#model.stateDict();
    const metadata = { epoch: String(epoch), valLoss: String(valLoss) };
    if (valLoss < this.#best.valLoss) {
      this.#best = { valLoss, epoch };
      await nn.io.saveSafetensors(folder.path(BEST), state, metadata);
      folder.log(`New best model saved -> ${folder.path(BEST)} (val_loss=${valLoss.toFixed(4)})`);
    }
    if (epoch === options.epochs) {
      await nn.io.saveSafetensors(folder.path(FINAL), state, metadata);
    }
    this.#scheduler.step();
    return row;
  }

  /** Trains, generates captions and reports; the exit code. */
  async run(): Promise<number> {
    const { folder, options, adapter } = this.#start;
    const { train, val, valPictures, pictures } = this.#sets;
    folder.log(`Using device: ${adapter}`);
    const parameters = this.#model.parameters();
    const count = (list: readonly Tensor[]) =>
      list.reduce((total, p) => total + p.size, 0).toLocaleString("en-US");
    folder.log(`${count(parameters)} total parameters.`);
    const frozen = new Set<Tensor>(options.frozen ? this.#model.encoder.net.parameters() : []);
    folder.log(`${count(parameters.filter((p) => !frozen.has(p)))} training parameters.`);
    folder.log(
      `${pictures.length - valPictures.length} pictures and ${train.length} captions to train on ` +
        `(${this.#loader.length} batches of ${options.batchSize} an epoch), ` +
        `${valPictures.length} and ${val.length} to validate`,
    );
    const entropy = unigramEntropy(train.map(({ ids }) => ids));
    folder.log(`Unigram entropy: ${entropy.toFixed(4)} nats a word`);
    const code = await this.#loop.run();
    if (code !== undefined) return code;
    folder.log(`\nFinal model weights saved to ${folder.path(FINAL)}`);
    folder.log(`Best val_loss=${this.#best.valLoss.toFixed(4)} (weights at ${folder.path(BEST)})`);
    await this.#finish(entropy);
    return 0;
  }

  /** Captions of the best weights for validation pictures; report and summary. */
  async #finish(entropy: number): Promise<void> {
    const { folder, options, preset, adapter } = this.#start;
    const { seconds, history } = this.#loop;
    await nn.io.loadWeights(this.#model, folder.path(BEST));
    const { valPictures, pictures } = this.#sets;
    const generated = await this.#generate(valPictures);
    const references = valPictures.map((i) => pictures[i]!.captions.map((c) => tokenize(c)));
    const candidates = generated.map((caption) => tokenize(caption));
    const bleu = [1, 2, 3, 4].map((maxN) => nn.metrics.bleu(candidates, references, { maxN }));
    bleu.forEach((score, i) => folder.log(`BLEU-${i + 1}: ${(100 * score).toFixed(2)}`));
    const right = valPictures.map((picture, i) => this.#isTrue(picture, generated[i]!));
    const known = right.filter((r) => r !== undefined);
    const accuracy = known.length > 0 ? known.filter((r) => r).length / known.length : undefined;
    if (accuracy !== undefined) {
      folder.log(`True captions: ${(100 * accuracy).toFixed(2)} % of ${known.length}`);
    }
    const shown: CaptionedPicture[] = [];
    for (const [i, picture] of valPictures.slice(0, SHOWN).entries()) {
      const { name, captions } = pictures[picture]!;
      const { data, width, height, channels } = await nn.data.readImage(
        `${this.#sets.folder}/${name}`,
        { channels: 3 },
      );
      shown.push({
        picture: { data, width, height, channels: channels as 3 },
        generated: generated[i]!,
        references: captions,
        right: right[i],
      });
    }
    await writeCaptioningReport(folder.path("report.html"), {
      subtitle: `${preset} preset, seed ${options.seed}, ${history.length} epochs in ` +
        `${seconds.toFixed(0)} s on ${adapter}`,
      history,
      unigramEntropy: entropy,
      results: {
        "Validation loss": this.#best.valLoss.toFixed(3),
        "Unigram entropy": entropy.toFixed(3),
        "BLEU-4": (100 * bleu[3]!).toFixed(2),
        ...accuracy === undefined ? {} : { "True captions": `${(100 * accuracy).toFixed(1)} %` },
      },
      bleu,
      pictures: shown,
      options: folder.config.options,
      architecture: String(this.#model),
    });
    folder.writeSummary({
      seconds,
      epochs: history.length,
      metrics: {
        valLoss: this.#best.valLoss,
        unigramEntropy: entropy,
        bleu1: bleu[0]!,
        bleu2: bleu[1]!,
        bleu3: bleu[2]!,
        bleu4: bleu[3]!,
        ...accuracy === undefined ? {} : { captionAccuracy: accuracy },
      },
    });
    folder.log(`Report: ${folder.path("report.html")}`);
  }

  /** Captions of pictures. */
  async #generate(indices: readonly number[]): Promise<string[]> {
    const { beams, maxWords, batchSize } = this.#start.options;
    const { encoder, decoder } = this.#model;
    this.#model.eval();
    const parts: Tensor[] = [];
    for (let first = 0; first < indices.length; first += batchSize) {
      const part = indices.slice(first, first + batchSize);
      parts.push(scope(() => {
        const vectors = noGrad(() => encoder.forward(this.#seen(part)));
        return generate(decoder, vectors, { beams, maxWords });
      }));
    }
    const ids = await readAll(parts);
    for (const part of parts) part.dispose();
    const T = maxWords + 1;
    return ids.flatMap((rows) =>
      Array.from(
        { length: rows.length / T },
        (_, i) => this.#sets.vocabulary.decode((rows as Int32Array).subarray(i * T, (i + 1) * T)),
      )
    );
  }

  /** Whether a caption is true of a built-in scene; undefined for other pictures. */
  #isTrue(picture: number, caption: string): boolean | undefined {
    const { data, seed } = this.#start.options;
    if (data !== undefined) return undefined;
    const scene = sceneOfFile(this.#sets.pictures[picture]!.name, seed);
    return scene && isTrue(caption, scene);
  }
}

if (import.meta.main) await runMain(() => main(Deno.args));
