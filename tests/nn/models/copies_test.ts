/**
 * What training steps of the models copy: bytes of kernels that only move or fill memory, as a share of all
 * bytes that the step's kernels account for. Counted, not timed.
 */

import { assert } from "@std/assert";
import { gpu } from "../../../engine/gpu/device.ts";
import {
  crossEntropy,
  init,
  manualSeed,
  nn,
  randint,
  randn,
  scope,
  synchronize,
} from "../../../mod.ts";

/** Kernels that compute nothing. */
const MOVES = /^(copy|fill|rearrange|transpose|flip|cat|slice)/;

/** Bytes that `fn` moves and bytes in all, and the heaviest of the moves. */
async function bytesOf(fn: () => void): Promise<{ moved: number; all: number; names: string[] }> {
  const { queue } = gpu();
  const { launch } = queue;
  const moves = new Map<string, number>();
  let all = 0;
  queue.launch = (run) => {
    launch.call(queue, run);
    all += run.cost.bytes;
    const { name } = run.kernel;
    if (MOVES.test(name)) moves.set(name, (moves.get(name) ?? 0) + run.cost.bytes);
  };
  try {
    scope(fn);
    await synchronize();
  } finally {
    queue.launch = launch;
  }
  const moved = [...moves.values()].reduce((n, b) => n + b, 0);
  return { moved, all, names: [...moves].map(([name, bytes]) => `${name} ${bytes}`) };
}

type Classifier = nn.Module & { forward(x: ReturnType<typeof randn>): ReturnType<typeof randn> };

/** A step of a classifier on two images. */
function classify(model: Classifier, shape: readonly number[]): () => void {
  const optimizer = new nn.optim.SGD(model.parameters(), { lr: 1e-3 });
  const [x, y] = [randn([2, ...shape]), randint(0, 4, { shape: [2] })];
  return () => {
    optimizer.zeroGrad();
    crossEntropy(model.forward(x), y).backward();
    optimizer.step();
  };
}

/** Each model, and the share of its bytes that may be moves. */
const STEPS: Record<string, { most: number; build(): () => void }> = {
  AlexNet: {
    most: 0.001,
    build: () =>
      classify(
        nn.models.alexnet({ numClasses: 4, inChannels: 1, width: 0.125, poolSize: 1 }),
        [1, 64, 64],
      ),
  },
  ConvNet: {
    most: 0.001,
    build: () => classify(nn.models.convNet({ outFeatures: 4 }), [3, 32, 32]),
  },
  "EfficientNet-B0": {
    most: 0.01,
    build: () => classify(nn.models.efficientnetB0({ numClasses: 4 }), [3, 32, 32]),
  },
  // The predictions change from [N, C, H, W] to [N, H · W · C], and their gradients back.
  ToySSD: {
    most: 0.02,
    build() {
      const model = nn.models.toySsd({ body: [8, 8, 8], channels: 16 });
      const optimizer = new nn.optim.SGD(model.parameters(), { lr: 1e-3 });
      const x = randn([2, 3, 64, 64]);
      return () => {
        optimizer.zeroGrad();
        const { classes, boxes } = model.forward(x);
        classes.square().mean().add(boxes.abs().mean()).backward();
        optimizer.step();
      };
    },
  },
  // The decoder, which is what is trained on kept features.
  captioner: {
    most: 0.05,
    build() {
      const model = nn.models.captioner({
        vocabSize: 50,
        encoder: 18,
        embedDim: 32,
        hiddenDim: 64,
      });
      const optimizer = new nn.optim.SGD(model.parameters(), { lr: 1e-3 });
      const [features, captions] = [randn([4, 512]), randint(0, 50, { shape: [4, 8] })];
      return () => {
        optimizer.zeroGrad();
        const logits = model.forward(features, captions);
        crossEntropy(logits.reshape(-1, 50), captions.reshape(-1)).backward();
        optimizer.step();
      };
    },
  },
};

for (const [name, { most, build }] of Object.entries(STEPS)) {
  Deno.test(`a training step of ${name} copies at most ${100 * most} % of its bytes`, async () => {
    await init();
    manualSeed(0);
    const { moved, all, names } = await bytesOf(build());
    const share = moved / all;
    assert(share <= most, `${(100 * share).toFixed(1)} %: ${names.join(", ")}`);
    assert(all > 1e5, `only ${all} bytes counted`);
  });
}
