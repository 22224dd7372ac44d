/** @file Flags of the captioning experiment. */

import { defineFlags } from "./_args.ts";
import { RUN_FLAGS } from "./_run.ts";

/** Every hyperparameter of the notebook is a flag; `full` are its values. */
export const FLAGS = defineFlags({
  data: {
    group: "Data",
    type: "path",
    help:
      "Folder of captions.txt and the pictures (in Images/ or beside it); without it scenes are drawn",
  },
  scenes: { type: "integer", default: 2000, min: 10, help: "Built-in scenes" },
  split: {
    type: "number",
    default: 0.8,
    above: 0,
    below: 1,
    help: "Share of the pictures trained on, the rest validates",
  },
  minWordFreq: {
    type: "integer",
    default: 1,
    min: 1,
    help: "Least occurrences of a word to be in the vocabulary",
  },
  size: {
    type: "integer",
    unit: "pixels",
    default: 224,
    min: 16,
    help: "Side the pictures are resized to",
  },

  encoder: {
    group: "Model",
    type: "choice",
    choices: ["resnet50", "resnet34", "resnet18", "small"],
    default: "resnet50",
    help: "Convolutions that see the picture",
  },
  weights: { type: "path", help: "File with the encoder's weights, as torchvision has them" },
  frozen: {
    type: "boolean",
    default: true,
    help: "The convolutions stay as they are; --no-frozen trains them as well",
  },
  encoderStatistics: {
    type: "choice",
    choices: ["frozen", "batch"],
    default: "frozen",
    help:
      "Batch norm of a frozen encoder: its running statistics, with which a picture's features stay the " +
      "same and are kept on disk; or each batch's, as in the notebook, with which the encoder runs every step",
  },
  embedDim: { type: "integer", default: 256, min: 1, help: "Length of a word's vector" },
  hiddenDim: { type: "integer", default: 512, min: 1, help: "Features of the LSTM" },
  forgetBias: {
    type: "number",
    default: 0,
    help:
      "Added to the biases of the LSTM's forget gates at the start: larger, and it remembers longer",
  },

  batchSize: { group: "Training", type: "integer", default: 64, min: 2, help: "Captions a step" },
  captionsPerPicture: {
    type: "integer",
    default: 0,
    min: 0,
    help:
      "Captions of each picture an epoch, chosen anew each time and kept together in a batch, so that " +
      "the picture is encoded once; 0 takes all captions in any order",
  },
  epochs: { type: "integer", default: 50, min: 1, help: "Epochs" },
  lr: { type: "number", default: 0.001, above: 0, help: "Learning rate of Adam" },
  lrSchedule: {
    type: "choice",
    choices: ["constant", "cosine"],
    default: "constant",
    help: "Learning rate over the epochs: as it is, or to 0 by a cosine",
  },

  beams: {
    group: "Captions",
    type: "integer",
    default: 3,
    min: 1,
    max: 16,
    help: "Captions followed at a time by beam search; 1 is greedy",
  },
  maxWords: { type: "integer", default: 20, min: 1, help: "Most words of a generated caption" },

  ...RUN_FLAGS,
}, {
  command: "deno task train captioning",
  about:
    "Captions for pictures on Flickr8k: a residual net sees, an LSTM speaks. With --data the quick " +
    "preset trains the small encoder for 15 epochs. `deno task caption IMAGE --weights RUN` uses a run.",
  presets: {
    quick: {
      scenes: 2000,
      size: 48,
      encoder: "small",
      frozen: false,
      embedDim: 64,
      hiddenDim: 128,
      forgetBias: 2,
      batchSize: 64,
      captionsPerPicture: 2,
      epochs: 20,
      lr: 0.003,
      lrSchedule: "cosine",
    },
    full: {},
  },
});

/** What the quick preset changes for pictures of your own: photographs are larger and more varied. */
export const QUICK_WITH_DATA: Partial<CaptioningOptions> = {
  size: 64,
  embedDim: 128,
  hiddenDim: 256,
  batchSize: 160,
  captionsPerPicture: 5,
  epochs: 15,
  minWordFreq: 2,
};

/** The options of a run. */
export type CaptioningOptions = ReturnType<typeof FLAGS.parse>["options"];
