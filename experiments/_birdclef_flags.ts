/** @file Flags of the birdclef experiment. */

import { defineFlags } from "./_args.ts";
import { RUN_FLAGS } from "./_run.ts";

/** Every hyperparameter of the notebook is a flag; `full` are its values. */
export const FLAGS = defineFlags({
  data: {
    group: "Data",
    type: "path",
    help:
      "Folder of train.csv (image_path, label, label_name, group, fold) and its PNG spectrograms; " +
      "without it songs are synthesised",
  },
  audio: {
    type: "path",
    help: "Folder of WAV recordings instead: a subfolder a species, or names as Barnowl_1.wav",
  },
  clips: { type: "integer", default: 640, min: 20, help: "Built-in recordings" },
  fold: { type: "integer", default: 0, min: 0, help: "Fold that validates; the others train" },
  folds: {
    type: "integer",
    default: 5,
    min: 2,
    help: "Folds that --audio is cut into, whole recordings each",
  },
  cap: { type: "integer", default: 500, min: 1, help: "Most spectrograms of a class in training" },
  floor: {
    type: "integer",
    default: 50,
    min: 1,
    help: "Fewest spectrograms of a class in training; smaller classes are repeated",
  },

  size: {
    group: "Spectrograms",
    type: "integer",
    unit: "pixels",
    default: 128,
    min: 16,
    help: "Shorter side after resizing",
  },
  brightness: {
    type: "number",
    default: 0.2,
    min: 0,
    max: 1,
    help: "Largest change of brightness",
  },
  contrast: { type: "number", default: 0.2, min: 0, max: 1, help: "Largest change of contrast" },
  noise: { type: "number", default: 0.3, min: 0, max: 1, help: "Probability of Gauss noise" },
  holes: {
    type: "number",
    default: 0.5,
    min: 0,
    max: 1,
    help: "Probability of holes: cutout or coarse dropout",
  },
  shift: { type: "number", default: 0.7, min: 0, max: 1, help: "Probability of shift and scale" },
  mixup: {
    type: "number",
    default: 0.2,
    min: 0,
    help: "Parameter of mixup's Beta distribution, between different classes; 0 is none",
  },

  dropOut: {
    group: "Model",
    type: "number",
    default: 0.3,
    min: 0,
    below: 1,
    help: "Dropout before the classifier",
  },
  dropPath: {
    type: "number",
    default: 0.2,
    min: 0,
    below: 1,
    help: "Probability that the last block drops its branch",
  },
  weights: {
    type: "path",
    help: "File with EfficientNet-B0's weights, as timm has them; another classifier is made anew",
  },
  gradientCheckpoint: {
    type: "boolean",
    default: false,
    help: "Runs blocks again for their gradients, to save memory",
  },

  batchSize: {
    group: "Training",
    type: "integer",
    default: 64,
    min: 1,
    help: "Spectrograms a step",
  },
  gradientAccumulation: {
    type: "integer",
    default: 1,
    min: 1,
    help: "Steps whose gradients are added up before the weights move",
  },
  dropLast: {
    type: "boolean",
    default: false,
    help:
      "Leaves out the last batch of an epoch unless it is full: few samples are poor statistics",
  },
  epochs: { type: "integer", default: 30, min: 1, help: "Epochs" },
  lr: {
    type: "number",
    default: 3e-4,
    above: 0,
    help: "Learning rate of AdamW; the notebook takes 3e-5 when it goes on from trained weights",
  },
  weightDecay: { type: "number", default: 3e-4, min: 0, help: "Weight decay of AdamW" },
  lrSchedule: {
    type: "choice",
    choices: ["constant", "cosine"],
    default: "constant",
    help: "Learning rate over the epochs: as it is, or to 0 by a cosine",
  },
  warmup: {
    type: "integer",
    unit: "epochs",
    default: 0,
    min: 0,
    help: "Epochs at first in which the learning rate rises evenly to its value",
  },
  loss: {
    type: "choice",
    choices: ["cross-entropy", "focal-cosine", "soft-cross-entropy", "bi-tempered"],
    default: "cross-entropy",
    help: "Loss; the cross entropies smooth labels by 0.25, bi-tempered has t1 0.8 and t2 1.2",
  },
  amp: {
    type: "boolean",
    default: true,
    help: "Mixed precision: f16 under autocast, with a gradient scaler",
  },
  initScale: { type: "number", default: 65536, above: 0, help: "Loss scale to begin with" },
  growthInterval: {
    type: "integer",
    unit: "steps",
    default: 2000,
    min: 1,
    help: "Steps without overflow before the loss scale doubles",
  },
  keepEpochs: { type: "boolean", default: true, help: "Keeps the weights of every epoch" },

  ...RUN_FLAGS,
}, {
  command: "deno task train birdclef",
  about: "Bird songs as spectrograms: EfficientNet-B0 in mixed precision, mixup, soft labels. " +
    "`deno task birdclef-folds` trains all folds; `deno task birdsong RECORDING.wav` uses a run.",
  presets: {
    quick: {
      size: 40,
      floor: 1,
      noise: 0.1,
      holes: 0,
      shift: 0,
      dropOut: 0.1,
      dropPath: 0,
      batchSize: 16,
      epochs: 12,
      lr: 0.002,
      lrSchedule: "cosine",
      warmup: 1,
      initScale: 1024,
      growthInterval: 100,
      keepEpochs: false,
    },
    full: {},
  },
});

/** What the quick preset changes for spectrograms of your own, of which there may be few. */
const QUICK_WITH_DATA: Partial<BirdclefOptions> = {
  size: 32,
  noise: 0.3,
  holes: 0.5,
  shift: 0.7,
  dropOut: 0.3,
  epochs: 15,
  lr: 0.0015,
  warmup: 0,
};

/** The options of a run. */
export type BirdclefOptions = ReturnType<typeof FLAGS.parse>["options"];

/** Values between the preset's and the command line's. */
export function baseOptions(
  { preset, options }: ReturnType<typeof FLAGS.parse>,
): Partial<BirdclefOptions> | undefined {
  const own = (options.data ?? options.audio) !== undefined;
  return preset === "quick" && own ? QUICK_WITH_DATA : undefined;
}
