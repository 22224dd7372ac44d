/** @file What features are worth: nearest neighbours, and linear classifiers on a part of the labels. */

import {
  capture,
  cat,
  crossEntropy,
  nn,
  noGrad,
  normalize,
  oneHot,
  scope,
  type Tensor,
  tensor,
} from "../mod.ts";
import type { Cifar10Images } from "../nn/data/mod.ts";
import { gather, normalized, upload } from "./_moco_data.ts";

/** Which features of the encoder are looked at. */
export type ProbeFeatures = "output" | "conv";

/** Features [N, F] of all images of a set, the encoder in evaluation. */
export function extractFeatures(
  encoder: nn.models.ConvNet,
  set: Cifar10Images,
  options: { batchSize: number; probe: ProbeFeatures },
): Tensor {
  const { batchSize, probe } = options;
  const training = encoder.training;
  encoder.eval();
  const forward = capture((x: Tensor) =>
    noGrad(() => {
      const maps = normalized(x);
      if (probe === "output") return encoder.forward(maps);
      return encoder.flat.forward(encoder.conv.forward(maps));
    })
  );
  const parts: Tensor[] = [];
  for (let first = 0; first < set.count; first += batchSize) {
    const count = Math.min(batchSize, set.count - first);
    const indices = Array.from({ length: count }, (_, i) => first + i);
    parts.push(scope(() => forward(upload(gather(set, indices)))));
  }
  forward.dispose();
  encoder.train(training);
  const all = noGrad(() => cat(parts));
  for (const part of parts) part.dispose();
  return all;
}

/** Features and labels of two sets. */
export interface Labeled {
  /** [N, F] and [M, F]. */
  readonly train: Tensor;
  readonly test: Tensor;
  readonly trainLabels: ArrayLike<number>;
  readonly testLabels: ArrayLike<number>;
}

/** The k most similar training images of each test image, by cosine: similarities and indices [M, k]. */
export function neighbours(sets: Labeled, k: number): { values: Tensor; indices: Tensor } {
  return noGrad(() => {
    const bank = normalize(sets.train, { dim: 1 }).transpose(0, 1);
    return normalize(sets.test, { dim: 1 }).matmul(bank).topk(k, { dim: 1 });
  });
}

/**
 * Share of test images whose class wins the vote of their k nearest training images, each with weight
 * exp(cosine / 0.1) (Wu et al., "Unsupervised feature learning via non-parametric instance
 * discrimination", https://arxiv.org/abs/1805.01978).
 */
export async function knnAccuracy(sets: Labeled, k: number): Promise<number> {
  using share = scope(() =>
    noGrad(() => {
      const { values, indices } = neighbours(sets, Math.min(k, sets.trainLabels.length));
      const labels = tensor(Int32Array.from(sets.trainLabels));
      const votes = oneHot(labels.indexSelect(0, indices.flatten()), 10).to("f32")
        .reshape(...indices.shape, 10)
        .mul(values.div(0.1).exp().unsqueeze(2))
        .sum(1);
      return nn.metrics.accuracy(votes, tensor(Int32Array.from(sets.testLabels)));
    })
  );
  return await share.item() as number;
}

/** A classification on some classes with some of the labels. */
export interface ProbeTask {
  /** Classes 0 to classes - 1 take part. */
  readonly classes: number;
  /** Share of their training labels that is used. */
  readonly share: number;
}

/** The tasks of the notebook: two, five and all ten classes, on 10 % and 50 % of the labels; and on all. */
export const TASKS: readonly ProbeTask[] = [2, 5, 10].flatMap((classes) =>
  [0.1, 0.5, 1].map((share) => ({ classes, share }))
);

/**
 * Share of test images that a linear classifier on frozen features gets right.
 *
 * Features are brought to mean 0 and, together, deviation 1 of the training ones: then the Hessian's
 * largest eigenvalue is at most 1/2 and gradient descent with a rate of 3 and momentum 0.9 is stable. The
 * classifier starts at zero and takes full-batch steps, so that nothing but the choice of labels is random.
 */
export async function linearProbe(
  sets: Labeled,
  task: ProbeTask,
  options: { steps: number; seed: number },
): Promise<number> {
  const { classes, share } = task;
  const chosen = indicesBelow(sets.trainLabels, classes);
  new nn.data.HostRandom(options.seed, classes).shuffle(chosen);
  const few = chosen.slice(0, Math.max(classes, Math.round(share * chosen.length)));
  const asked = indicesBelow(sets.testLabels, classes);
  const pick = (x: Tensor, indices: number[]) => x.indexSelect(0, tensor(Int32Array.from(indices)));
  const labels = (of: ArrayLike<number>, indices: number[]) =>
    tensor(Int32Array.from(indices, (i) => of[i]!));

  const { x, y, test, target } = scope(() =>
    noGrad(() => {
      const raw = pick(sets.train, few);
      const mean = raw.mean(0);
      const scale = raw.std(0, { correction: 0 }).add(1e-5).mul(Math.sqrt(raw.shape[1]!));
      return {
        x: raw.sub(mean).div(scale),
        y: labels(sets.trainLabels, few),
        test: pick(sets.test, asked).sub(mean).div(scale),
        target: labels(sets.testLabels, asked),
      };
    })
  );
  using classifier = new nn.Linear(x.shape[1]!, classes);
  nn.init.constant(classifier.weight, 0);
  nn.init.constant(classifier.bias!, 0);
  using optimizer = new nn.optim.SGD(classifier.parameters(), { lr: 3, momentum: 0.9 });
  const step = capture(() => {
    optimizer.zeroGrad();
    crossEntropy(classifier.forward(x), y).backward();
    optimizer.step();
  });
  for (let i = 0; i < options.steps; i++) scope(() => step());
  step.dispose();
  using right = scope(() => noGrad(() => nn.metrics.accuracy(classifier.forward(test), target)));
  const result = await right.item() as number;
  for (const t of [x, y, test, target]) t.dispose();
  return result;
}

function indicesBelow(labels: ArrayLike<number>, classes: number): number[] {
  return Array.from({ length: labels.length }, (_, i) => i).filter((i) => labels[i]! < classes);
}
