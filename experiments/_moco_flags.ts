/** @file Flags of the moco experiment. */

import { defineFlags, UsageError } from "./_args.ts";
import { RUN_FLAGS } from "./_run.ts";

/** Every hyperparameter of the notebook is a flag; `full` are its values. */
export const FLAGS = defineFlags({
  data: {
    group: "Data",
    type: "path",
    help: "Folder of CIFAR-10's binary files; without it textures are drawn",
  },
  images: { type: "integer", default: 4096, min: 64, help: "Built-in images to train on" },
  testImages: { type: "integer", default: 1000, min: 10, help: "Built-in images to test on" },

  cropMin: {
    group: "Views",
    type: "number",
    default: 0.08,
    above: 0,
    max: 1,
    help: "Smallest share of an image that a view shows",
  },
  rotationMin: {
    type: "number",
    unit: "degrees",
    default: -317.6,
    help: "Smallest rotation; the notebook draws both ends once",
  },
  rotationMax: { type: "number", unit: "degrees", default: 329.4, help: "Largest rotation" },
  flip: { type: "number", default: 0, min: 0, max: 1, help: "Probability of a mirrored view" },
  blur: { type: "number", default: 0.5, min: 0, max: 1, help: "Probability of a blurred view" },
  jitter: {
    type: "number",
    default: 0.8,
    min: 0,
    max: 1,
    help: "Probability of brightness, contrast, saturation by 0.4 and hue by 0.1",
  },

  width: {
    group: "Model",
    type: "number",
    default: 1,
    above: 0,
    max: 4,
    help: "Factor of the encoder's channels 32, 64, 128",
  },
  dropout: { type: "number", default: 0.3, min: 0, below: 1, help: "Dropout of the encoder" },
  dim: { type: "integer", default: 512, min: 2, help: "Features of an encoder" },
  queue: { type: "integer", default: 4096, min: 1, help: "Keys in the dictionary" },
  keyMomentum: {
    type: "number",
    default: 0.99,
    min: 0,
    max: 1,
    help: "Share of the key encoder that stays at a step",
  },
  temperature: { type: "number", default: 0.07, above: 0, help: "Divisor of the similarities" },
  symmetric: { type: "boolean", default: true, help: "Both views are query and key in turn" },
  bnSplits: {
    type: "integer",
    default: 1,
    min: 1,
    help: "Parts of a batch that batch norm sees apart; the notebook defines 8 and uses 1",
  },

  batchSize: { group: "Training", type: "integer", default: 512, min: 2, help: "Images a step" },
  epochs: { type: "integer", default: 2500, min: 1, help: "Epochs of pre-training" },
  lr: { type: "number", default: 0.06, above: 0, help: "Learning rate of SGD" },
  momentum: { type: "number", default: 0.9, min: 0, below: 1, help: "Momentum of SGD" },
  weightDecay: { type: "number", default: 5e-4, min: 0, help: "Weight decay of SGD" },
  schedule: {
    type: "choice",
    choices: ["cosine", "step"],
    default: "cosine",
    help: "Learning rate to 0 by a cosine, or a tenth at epochs 120 and 160",
  },

  knnEvery: {
    group: "Evaluation",
    type: "integer",
    unit: "epochs",
    default: 10,
    min: 1,
    help: "Epochs between kNN scores",
  },
  knn: { type: "integer", default: 200, min: 1, help: "Neighbours that vote" },
  probe: {
    type: "choice",
    choices: ["output", "conv"],
    default: "output",
    help:
      "Features that are classified: the encoder's output as in the notebook, or what its linear " +
      "layer sees",
  },
  probeSteps: { type: "integer", default: 400, min: 1, help: "Steps of a linear classifier" },

  ...RUN_FLAGS,
}, {
  command: "deno task train moco",
  about:
    "Momentum contrast on CIFAR-10: features learned without labels, then linear classifiers on a part " +
    "of the labels. `deno task compare-moco` runs several dictionary sizes.",
  presets: {
    quick: {
      cropMin: 0.3,
      rotationMin: -180,
      rotationMax: 180,
      width: 0.5,
      dropout: 0,
      dim: 128,
      queue: 1024,
      temperature: 0.2,
      batchSize: 64,
      epochs: 16,
      knnEvery: 2,
      knn: 20,
    },
    full: {},
  },
});

/** The options of a run. */
export type MocoOptions = ReturnType<typeof FLAGS.parse>["options"];

/**
 * What the quick preset changes for real images: all channels, and views that keep what is up, as
 * photographs do.
 */
const QUICK_WITH_DATA: Partial<MocoOptions> = {
  rotationMin: -15,
  rotationMax: 15,
  flip: 0.5,
  width: 1,
  queue: 2048,
  batchSize: 128,
  lr: 0.03,
};

/** Values between the preset's and the command line's. */
export function baseOptions(
  { preset, options }: ReturnType<typeof FLAGS.parse>,
): Partial<MocoOptions> | undefined {
  return preset === "quick" && options.data !== undefined ? QUICK_WITH_DATA : undefined;
}

/**
 * Checks relations between flags that no single flag can.
 *
 * @throws {UsageError} Two of them do not fit together.
 */
export function checkOptions(options: MocoOptions): void {
  const { batchSize, symmetric, queue, bnSplits, rotationMin, rotationMax } = options;
  const keys = batchSize * (symmetric ? 2 : 1);
  if (queue % keys !== 0) {
    throw new UsageError(
      `Cannot queue ${keys} keys a step: --queue ${queue} must be a multiple of them`,
    );
  }
  if (batchSize % bnSplits !== 0) {
    throw new UsageError(
      `Cannot split batches of ${batchSize}: --bn-splits ${bnSplits} must divide --batch-size`,
    );
  }
  if (rotationMin > rotationMax) {
    throw new UsageError(
      `Cannot rotate by ${rotationMin} to ${rotationMax} degrees: --rotation-min must not be above ` +
        "--rotation-max",
    );
  }
}
