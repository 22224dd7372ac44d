/** @file Flags of the letters experiment. */

import { defineFlags } from "./_args.ts";
import { RUN_FLAGS } from "./_run.ts";

/** Every hyperparameter of the notebook is a flag; `full` are its values. */
export const FLAGS = defineFlags({
  data: {
    group: "Data",
    type: "path",
    help: "Folder of EMNIST letters' idx files (plain or .gz); without it letters are drawn",
  },
  split: {
    type: "number",
    default: 0.85,
    above: 0,
    below: 1,
    help: "Share trained on, the rest validates",
  },
  letters: {
    type: "integer",
    default: 26000,
    min: 52,
    help: "Built-in letters to train and validate on",
  },
  testLetters: { type: "integer", default: 2600, min: 26, help: "Built-in letters to test on" },
  fitInk: {
    type: "boolean",
    default: false,
    help: "Crop each letter to its ink, as EMNIST's files are, for data that were not cropped",
  },

  size: {
    group: "Images",
    type: "integer",
    unit: "pixels",
    default: 224,
    min: 63,
    help: "Side of the images",
  },
  flip: { type: "number", default: 0.5, min: 0, max: 1, help: "Probability of a mirrored letter" },
  rotation: {
    type: "number",
    unit: "degrees",
    default: 20,
    min: 0,
    max: 180,
    help: "Largest rotation",
  },
  translate: {
    type: "number",
    default: 0.1,
    min: 0,
    max: 1,
    help: "Largest shift as a fraction of the side",
  },
  scaleMin: { type: "number", default: 0.8, above: 0, help: "Smallest scale" },
  scaleMax: { type: "number", default: 1.2, above: 0, help: "Largest scale" },
  shear: {
    type: "number",
    unit: "degrees",
    default: 10,
    min: 0,
    max: 80,
    help: "Largest shear along x",
  },

  width: {
    group: "Model",
    type: "number",
    default: 1,
    above: 0,
    max: 4,
    help: "Factor of AlexNet's channels",
  },
  poolSize: { type: "integer", default: 6, min: 1, help: "Side the features are averaged to" },
  dropout: {
    type: "number",
    default: 0.5,
    min: 0,
    below: 1,
    help: "Probability of a zero in the classifier",
  },
  init: {
    type: "choice",
    choices: ["torch", "kaiming"],
    default: "torch",
    help: "Start: PyTorch's default, or He's, which a narrow net needs to leave the first plateau",
  },
  alpha: {
    type: "integer",
    default: 0,
    min: 0,
    help: "Coupling factor: pairs of filters of the first layer made equal after each epoch",
  },

  batchSize: { group: "Training", type: "integer", default: 128, min: 1, help: "Letters a step" },
  epochs: { type: "integer", default: 300, min: 1, help: "Most epochs" },
  lr: { type: "number", default: 0.01, above: 0, help: "Learning rate of SGD" },
  momentum: { type: "number", default: 0.9, min: 0, below: 1, help: "Momentum of SGD" },
  weightDecay: { type: "number", default: 1e-4, min: 0, help: "Weight decay of SGD" },
  lrStep: {
    type: "integer",
    unit: "epochs",
    default: 10,
    min: 1,
    help: "Epochs between drops of the rate",
  },
  lrGamma: { type: "number", default: 0.1, above: 0, max: 1, help: "Factor of a drop" },
  patience: {
    type: "integer",
    unit: "epochs",
    default: 15,
    min: 1,
    help: "Epochs without a better validation loss before it stops",
  },

  ...RUN_FLAGS,
}, {
  command: "deno task train letters",
  about:
    "Coupled AlexNet on EMNIST letters: classification with kernel equalization. With --data the " +
    "quick preset trains 40 epochs, drops the rate after 25 and crops to the ink.",
  presets: {
    quick: {
      size: 64,
      width: 0.1875,
      poolSize: 1,
      dropout: 0,
      init: "kaiming",
      letters: 6240,
      testLetters: 1040,
      batchSize: 16,
      epochs: 8,
      lr: 0.004,
      lrStep: 6,
    },
    full: { checkpointEvery: 30 },
  },
});

/**
 * What the quick preset changes for letters of your own: real handwriting needs more epochs, and files
 * that were not cropped as EMNIST's are.
 */
export const QUICK_WITH_DATA: Partial<LettersOptions> = { epochs: 40, lrStep: 25, fitInk: true };

/** The options of a run. */
export type LettersOptions = ReturnType<typeof FLAGS.parse>["options"];
