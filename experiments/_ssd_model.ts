/** @file Start, losses and outputs of the detector. */

import { multiboxTarget, nn, noGrad, smoothL1Loss, type Tensor } from "../mod.ts";

/** Shape of the detector. */
export interface DetectorOptions {
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** Factor of the channels of ToySSD: 16, 32, 64 and 128. */
  readonly width: number;
  /** Pairs of anchor sizes for the five scales. */
  readonly sizes: readonly (readonly [number, number])[];
}

/** A ToySSD of these channels, which are multiples of 4. */
export function makeDetector({ classes, width, sizes }: DetectorOptions): nn.models.ToySsd {
  const channels = (n: number) => Math.max(4, 4 * Math.round(width * n / 4));
  return nn.models.toySsd({
    numClasses: classes.length,
    body: [16, 32, 64].map(channels),
    channels: channels(128),
    sizes,
  });
}

/** MXNet's Xavier for the weights of convolutions; biases 0. Batch norms keep scale 1 and shift 0. */
export function initXavier(model: nn.Module, magnitude: number): void {
  for (const [, parameter] of model.namedParameters()) {
    if (parameter.ndim > 1) nn.init.mxnetXavier(parameter, { magnitude });
  }
  for (const module of model.modules()) {
    if (module instanceof nn.Conv2d && module.bias) nn.init.constant(module.bias, 0);
  }
}

/** What the losses depend on. */
export interface LossOptions {
  /** Factor of the focal loss. */
  readonly alpha: number;
  /** How strongly the focal loss fades what is right already. */
  readonly gamma: number;
  /** Factor of the box loss. */
  readonly boxWeight: number;
  /** An anchor is positive that overlaps an object by more. */
  readonly overlap: number;
  /** Negatives for each positive anchor; 0: every other anchor is one. */
  readonly negativeMining: number;
}

/** Losses and metrics of a batch, f32 scalars. */
export interface LossParts {
  /** What is minimised. */
  readonly loss: Tensor;
  readonly classLoss: Tensor;
  readonly boxLoss: Tensor;
  /** Share of the anchors that count whose class is right. */
  readonly accuracy: Tensor;
  /** Mean absolute error of the offsets, where only positive anchors are off. */
  readonly mae: Tensor;
}

/**
 * Focal loss of softmax probabilities: the mean of -alpha · (1 - p)^gamma · log p over all rows, with p
 * the probability of the row's class. logits [N, C], ids [N] i32; a row of id -1 counts as class 0, or,
 * with `ignore`, gives no loss.
 *
 * Source: Lin et al., "Focal loss for dense object detection", ICCV 2017.
 */
export function softmaxFocalLoss(
  logits: Tensor,
  ids: Tensor,
  options: { alpha: number; gamma: number; ignore?: boolean },
): Tensor {
  const { alpha, gamma, ignore = false } = options;
  const rows = noGrad(() => ids.maximum(ids.mul(0)).unsqueeze(1));
  const log = logits.logSoftmax(1).gather(1, rows).squeeze(1);
  // 1 - p without cancellation; the least value keeps the slope of its power finite.
  let loss = log.mul(-alpha);
  if (gamma > 0) loss = loss.mul(log.expm1().neg().clamp({ min: 1e-12 }).pow(gamma));
  if (ignore) loss = loss.mul(noGrad(() => ids.ge(0).to("f32")));
  return loss.mean();
}

/** Targets for every anchor, and the losses and metrics against them. labels [B, L, 5] */
export function detectionLoss(
  output: nn.models.SsdOutput,
  labels: Tensor,
  options: LossOptions,
): LossParts {
  const { anchors, classes, boxes } = output;
  const { negativeMining, overlap } = options;
  const C = classes.shape[2]!;
  const { locTarget, locMask, clsTarget } = noGrad(() =>
    multiboxTarget(anchors, labels, {
      clsPred: classes.detach().permute(0, 2, 1).contiguous(),
      overlapThreshold: overlap,
      ...negativeMining > 0 ? { negativeMiningRatio: negativeMining } : {},
    })
  );
  const logits = classes.reshape(-1, C);
  const ids = noGrad(() => clsTarget.to("i32").reshape(-1));
  const ignore = negativeMining > 0;
  const classLoss = softmaxFocalLoss(logits, ids, { ...options, ignore });
  const boxLoss = smoothL1Loss(boxes.mul(locMask), locTarget);
  const metrics = noGrad(() => ({
    accuracy: anchorAccuracy(logits.detach(), ids, { ignore }),
    mae: nn.metrics.meanAbsoluteError(boxes.detach(), locTarget, { mask: locMask }),
  }));
  const loss = classLoss.add(boxLoss.mul(options.boxWeight));
  return { loss, classLoss, boxLoss, ...metrics };
}

/** Share of rows whose largest logit is the id's; a row of id -1 is as in {@linkcode softmaxFocalLoss}. */
function anchorAccuracy(logits: Tensor, ids: Tensor, { ignore }: { ignore: boolean }): Tensor {
  if (!ignore) return nn.metrics.accuracy(logits, ids.maximum(ids.mul(0)));
  const right = nn.metrics.accuracy(logits, ids, { reduction: "sum" });
  return right.div(ids.ge(0).to("f32").sum().clamp({ min: 1 }));
}
