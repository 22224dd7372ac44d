/**
 * @file A training step of the MoCo experiment's ConvNet in two libraries, with the same weights: 512
 * features as logits, cross entropy, SGD with momentum.
 */

import { capture, crossEntropy, nn, noGrad, type Tensor } from "../../mod.ts";
import type { InputSpec } from "../work.ts";
import type { HostInput } from "./library.ts";
import type { Tf, TfTensor } from "./tfjs_types.ts";

const CHANNELS = [3, 32, 64, 128] as const;
const FEATURES = 512;
/** Cells of the last map, 2 x 2. */
const CELLS = 4;
const LR = 0.01;
const MOMENTUM = 0.9;
const DROPOUT = 0.3;
const EPS = 1e-5;
/** Steps whose losses are compared. */
const CHECKED_STEPS = 3;

/** Images, classes, three convolution weights, weight and bias of the linear layer. */
export function convNetInputs(n: number): InputSpec[] {
  const weight = (shape: readonly number[]) => ({
    shape,
    scale: 1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1)),
  });
  return [
    { shape: [n, 3, 32, 32], scale: 1 },
    { shape: [n], scale: 1, classes: FEATURES },
    ...[1, 2, 3].map((i) => weight([CHANNELS[i]!, CHANNELS[i - 1]!, 3, 3])),
    weight([FEATURES, FEATURES]),
    { shape: [FEATURES], scale: 0.1 },
  ];
}

/** The captured step with dropout, and losses of a few steps without. */
export function latheConvNet(
  [x, y, ...weights]: readonly Tensor[],
): { check: () => Tensor[]; step: () => Tensor } {
  const make = (dropout: number) => {
    const model = nn.models.convNet({ dropout });
    const matrices = model.parameters().filter((p) => p.ndim > 1);
    const own = [...matrices, model.fc.bias!];
    noGrad(() => own.forEach((p, i) => p.copy_(weights[i]!)));
    const optimizer = new nn.optim.SGD(model.parameters(), { lr: LR, momentum: MOMENTUM });
    return () => {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.forward(x!), y!);
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
  };
  const check = make(0);
  return {
    check: () => Array.from({ length: CHECKED_STEPS }, check),
    step: capture(make(DROPOUT)),
  };
}

/** The same in TensorFlow.js. */
export function tfConvNet(
  tf: Tf,
  [x, y, ...weights]: readonly HostInput[],
): { check: () => TfTensor[]; step: () => void; dispose: () => void } {
  const images = toNhwc(tf, x!);
  const classes = tf.tidy(() =>
    tf.oneHot(tf.tensor(y!.data as Int32Array, y!.shape, "int32"), FEATURES).toFloat()
  );
  const make = (dropout: number) => {
    const model = tf.sequential();
    for (const [i, filters] of CHANNELS.slice(1).entries()) {
      model.add(tf.layers.conv2d({
        filters,
        kernelSize: 3,
        useBias: false,
        ...(i === 0 ? { inputShape: [32, 32, 3] } : {}),
      }));
      model.add(tf.layers.batchNormalization({ epsilon: EPS, momentum: 0.9 }));
      model.add(tf.layers.activation({ activation: "relu" }));
      if (dropout > 0) model.add(tf.layers.dropout({ rate: dropout }));
      model.add(tf.layers.maxPooling2d({ poolSize: 2 }));
    }
    model.add(tf.layers.flatten());
    model.add(tf.layers.dense({ units: FEATURES }));
    setWeights(tf, model.trainableWeights, weights);
    const optimizer = tf.train.momentum(LR, MOMENTUM);
    return () =>
      optimizer.minimize(
        () => tf.losses.softmaxCrossEntropy(classes, model.apply(images, { training: true })),
        true,
      )!;
  };
  const check = make(0);
  const step = make(DROPOUT);
  return {
    check: () => Array.from({ length: CHECKED_STEPS }, check),
    step: () => step().dispose(),
    dispose: () => tf.dispose([images, classes]),
  };
}

/** [N, C, H, W] on the host as a tensor [N, H, W, C]. */
export function toNhwc(tf: Tf, { data, shape }: HostInput): TfTensor {
  return tf.tidy(() => tf.tensor(data, shape).transpose([0, 2, 3, 1]));
}

/** Weights [O, C, 3, 3] become [3, 3, C, O], and the linear layer's rows follow the map's layout. */
function setWeights(
  tf: Tf,
  own: readonly { readonly shape: readonly number[]; write(value: TfTensor): void }[],
  weights: readonly HostInput[],
): void {
  const [bias, linear] = [weights.at(-1)!, weights.at(-2)!];
  own.filter((w) => w.shape.length === 4).forEach((w, i) => {
    const { data, shape } = weights[i]!;
    w.write(tf.tensor(data, shape).transpose([2, 3, 1, 0]));
  });
  for (const w of own) {
    if (w.shape.length === 2) {
      const cells = tf.tensor(linear.data, [FEATURES, FEATURES / CELLS, CELLS]);
      w.write(cells.transpose([2, 1, 0]).reshape([FEATURES, FEATURES]));
    } else if (w === own.at(-1)) w.write(tf.tensor(bias.data, bias.shape));
  }
}
