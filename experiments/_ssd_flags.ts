/** @file Flags of the detection experiment. */

import { defineFlags, UsageError } from "./_args.ts";
import { RUN_FLAGS } from "./_run.ts";
import type { DetectorOptions } from "./_ssd_model.ts";

/** Every hyperparameter of the notebook is a flag; `full` are its values. */
export const FLAGS = defineFlags({
  data: {
    group: "Data",
    type: "path",
    help: "Folder of one …train.rec and one …val.rec of im2rec; without it scenes are drawn",
  },
  classes: {
    type: "string",
    default: "pikachu",
    help: "Names of the classes in the order of their ids, with commas",
  },
  scenes: { type: "integer", default: 900, min: 1, help: "Built-in scenes to train on" },
  valScenes: { type: "integer", default: 100, min: 1, help: "Built-in scenes to validate on" },

  size: {
    group: "Images",
    type: "integer",
    unit: "pixels",
    default: 256,
    min: 64,
    help: "Side of what the network sees",
  },
  crop: { type: "number", default: 1, min: 0, max: 1, help: "Probability of a random crop" },
  cropCovered: {
    type: "number",
    default: 0.95,
    min: 0,
    below: 1,
    help: "Least share of an object in the crop",
  },
  cropArea: {
    type: "number",
    default: 0.05,
    above: 0,
    max: 1,
    help: "Least area of a crop, as a share of the picture",
  },
  cropAttempts: { type: "integer", default: 200, min: 1, help: "Draws of a crop" },
  flip: { type: "number", default: 0, min: 0, max: 1, help: "Probability of a mirrored picture" },
  brightness: { type: "number", default: 0, min: 0, max: 1, help: "Colour jitter: 1 ± this" },
  contrast: { type: "number", default: 0, min: 0, max: 1, help: "Colour jitter: 1 ± this" },
  saturation: { type: "number", default: 0, min: 0, max: 1, help: "Colour jitter: 1 ± this" },
  hue: { type: "number", default: 0, min: 0, max: 0.5, help: "Colour jitter: turn up to ± this" },

  width: {
    group: "Model",
    type: "number",
    default: 1,
    above: 0,
    max: 4,
    help: "Factor of ToySSD's channels",
  },
  sizes: {
    type: "string",
    default: "0.2,0.272,0.37,0.447,0.54,0.619,0.71,0.79,0.88,0.961",
    help: "Sizes of the anchors as shares of the picture, two for each of the five scales",
  },
  magnitude: { type: "number", default: 2, above: 0, help: "Magnitude of MXNet's Xavier start" },
  weights: {
    type: "path",
    help: "Weights to start from: MXNet's .params, a run folder, .safetensors …",
  },

  alpha: { group: "Loss", type: "number", default: 0.25, above: 0, help: "Focal loss: factor" },
  gamma: { type: "number", default: 2, min: 0, help: "Focal loss: fading of what is right" },
  boxWeight: { type: "number", default: 1, min: 0, help: "Factor of the box loss" },
  overlap: {
    type: "number",
    default: 0.5,
    above: 0,
    max: 1,
    help: "Overlap with an object above which an anchor is positive",
  },
  negativeMining: {
    type: "number",
    default: 0,
    min: 0,
    help: "Negatives for each positive anchor, the hardest; 0: all",
  },

  batchSize: { group: "Training", type: "integer", default: 32, min: 1, help: "Pictures a step" },
  epochs: { type: "integer", default: 150, min: 1, help: "Epochs" },
  optimizer: { type: "choice", choices: ["sgd", "adam"], default: "sgd", help: "Optimizer" },
  lr: { type: "number", default: 0.1, above: 0, help: "Learning rate, the largest of a cycle" },
  schedule: {
    type: "choice",
    choices: ["constant", "cycle"],
    default: "constant",
    help: "Learning rate: as it is, or one rise and fall over all epochs",
  },
  momentum: { type: "number", default: 0, min: 0, below: 1, help: "Momentum of SGD" },
  weightDecay: { type: "number", default: 5e-4, min: 0, help: "Weight decay" },
  logInterval: {
    type: "integer",
    unit: "batches",
    default: 20,
    min: 1,
    help: "Batches between lines of speed and metrics",
  },
  evalEvery: {
    type: "integer",
    unit: "epochs",
    default: 1,
    min: 1,
    help: "Epochs between validations",
  },

  ...RUN_FLAGS,
}, {
  command: "deno task train ssd",
  about:
    "Single-shot detection: ToySSD with five scales on pictures and boxes from RecordIO files.",
  presets: {
    quick: {
      classes: "creature",
      scenes: 800,
      valScenes: 100,
      size: 96,
      width: 0.5,
      flip: 0.5,
      cropArea: 0.3,
      batchSize: 16,
      epochs: 8,
      optimizer: "adam",
      lr: 0.005,
      schedule: "cycle",
    },
    full: { checkpointEvery: 10 },
  },
});

/**
 * What the quick preset changes for records of your own: small objects in few photographs need finer
 * pictures, smaller anchors and more epochs.
 */
export const QUICK_WITH_DATA: Partial<SsdOptions> = {
  classes: "pikachu",
  size: 160,
  sizes: "0.1,0.141,0.2,0.272,0.37,0.447,0.54,0.619,0.71,0.79",
  crop: 0.7,
  batchSize: 10,
  epochs: 40,
  evalEvery: 4,
  logInterval: 15,
};

/** The options of a run. */
export type SsdOptions = ReturnType<typeof FLAGS.parse>["options"];

/**
 * The detector that options describe.
 *
 * @throws {UsageError} Names or sizes are no such lists.
 */
export function detectorOptions(
  { classes, sizes, width }: Pick<SsdOptions, "classes" | "sizes" | "width">,
): DetectorOptions {
  const names = classes.split(",").map((name) => name.trim());
  if (names.some((name) => name === "")) {
    throw new UsageError(`Cannot use classes "${classes}": give names with commas between them`);
  }
  const numbers = sizes.split(",").map(Number);
  if (numbers.length !== 10 || !numbers.every((v) => v > 0 && v <= 2)) {
    throw new UsageError(
      `Cannot use anchor sizes "${sizes}": --sizes takes 10 numbers above 0 and at most 2, with commas`,
    );
  }
  const pairs = [0, 2, 4, 6, 8].map((i) => [numbers[i]!, numbers[i + 1]!] as const);
  return { classes: names, width, sizes: pairs };
}
