/**
 * @file Whole training steps of the experiments' models on random data: forward, loss, backward, update.
 * Data loading, augmentation and the matching of anchors are left out.
 */

import {
  autocast,
  capture,
  crossEntropy,
  nn,
  noGrad,
  randint,
  randn,
  scope,
  smoothL1Loss,
  type Tensor,
} from "../mod.ts";
import type { Step } from "./work.ts";

/** Words of the captioning vocabulary, and of a caption with its ends. */
const VOCABULARY = 8492;
const WORDS = 20;
/** Features of ResNet-50. */
const FEATURES = 2048;

/** What a step trains. */
interface Training {
  readonly model: nn.Module;
  readonly loss: () => Tensor;
  readonly optimizer: nn.optim.SGD | nn.optim.Adam | nn.optim.AdamW;
  /** What it trains on. */
  readonly data: readonly Tensor[];
}

/**
 * A step that is captured from its second call on and gives the loss, and the same as a plain function; `dispose`
 * frees the model.
 */
export function trainingStep(
  work: Step,
): { step: () => Tensor; plain: () => Tensor; dispose: () => void } {
  const { model, loss: lossOf, optimizer, data } = training(work);
  const scaler = work.amp ? new nn.optim.GradScaler() : undefined;
  const plain = () => {
    optimizer.zeroGrad();
    const loss = scaler ? autocast({ dtype: "f16" }, lossOf) : lossOf();
    (scaler ? scaler.scale(loss) : loss).backward();
    if (scaler) {
      scaler.step(optimizer);
      scaler.update();
    } else optimizer.step();
    return loss.detach();
  };
  const step = capture(plain);
  const dispose = () => {
    step.dispose();
    scaler?.[Symbol.dispose]();
    optimizer.dispose();
    model.dispose();
    for (const t of data) t.dispose();
  };
  return { step, plain, dispose };
}

function training(work: Step): Training {
  const { n, side } = work;
  switch (work.model) {
    case "AlexNet":
      return classifier(nn.models.alexnet({ numClasses: 26, inChannels: 1 }), {
        shape: [n, 1, side, side],
        classes: 26,
        rule: "sgd",
      });
    case "ResNet-50":
      return classifier(nn.models.resnet50(), {
        shape: [n, 3, side, side],
        classes: 1000,
        rule: "sgd",
      });
    case "EfficientNet-B0":
      return classifier(nn.models.efficientnetB0({ numClasses: 264 }), {
        shape: [n, 3, side, side],
        classes: 264,
        rule: "adamw",
      });
    case "MoCo ConvNet":
      return classifier(nn.models.convNet({ imageSize: side }), {
        shape: [n, 3, side, side],
        classes: 512,
        rule: "sgd",
      });
    case "ToySSD":
      return detector(n, side);
    case "MoCo":
      return contrast(n, side);
    case "captioning":
    case "captioning decoder":
      return captions(work);
  }
}

function classifier(
  model: nn.Module & { forward(x: Tensor): Tensor },
  { shape, classes, rule }: {
    shape: readonly number[];
    classes: number;
    rule: "sgd" | "adamw";
  },
): Training {
  const [x, y] = [randn(shape), randint(0, classes, { shape: [shape[0]!] })];
  return {
    model,
    loss: () => crossEntropy(model.forward(x), y),
    optimizer: rule === "sgd"
      ? new nn.optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 })
      : new nn.optim.AdamW(model.parameters(), { lr: 1e-3 }),
    data: [x, y],
  };
}

/** Classes and offsets of all anchors against fixed targets. */
function detector(n: number, side: number): Training {
  const model = nn.models.toySsd();
  const x = randn([n, 3, side, side]);
  const anchors = noGrad(() => scope(() => model.forward(x).anchors.shape[1]!));
  const ids = randint(0, 2, { shape: [n * anchors] });
  const offsets = randn([n, 4 * anchors]);
  const mask = scope(() => randint(0, 2, { shape: [n, 4 * anchors] }).to("f32"));
  return {
    model,
    loss() {
      const { classes, boxes } = model.forward(x);
      return crossEntropy(classes.reshape(n * anchors, 2), ids)
        .add(smoothL1Loss(boxes.mul(mask), offsets));
    },
    optimizer: new nn.optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 }),
    data: [x, ids, offsets, mask],
  };
}

function contrast(n: number, side: number): Training {
  const model = nn.models.moco({ encoder: () => nn.models.convNet({ imageSize: side }) });
  const [first, second] = [randn([n, 3, side, side]), randn([n, 3, side, side])];
  const { encoder_q } = model;
  return {
    model,
    loss: () => model.forward(first, second),
    optimizer: new nn.optim.SGD(encoder_q.parameters(), { lr: 0.03, momentum: 0.9 }),
    data: [first, second],
  };
}

/** Teacher forcing; the residual net is not trained, and left out where its features are kept. */
function captions({ model: name, n, side }: Step): Training {
  const model = nn.models.captioner({ vocabSize: VOCABULARY });
  const { encoder, decoder } = model;
  if (name === "captioning decoder") encoder.resnet?.dispose();
  const input = name === "captioning" ? randn([n, 3, side, side]) : randn([n, FEATURES]);
  const words = randint(0, VOCABULARY, { shape: [n, WORDS] });
  const targets = words.reshape(n * WORDS);
  const parameters = [encoder.fc, encoder.batch_norm, decoder].flatMap((m) => m.parameters());
  return {
    model,
    loss: () => crossEntropy(model.forward(input, words).reshape(n * WORDS, VOCABULARY), targets),
    optimizer: new nn.optim.Adam(parameters, { lr: 1e-3 }),
    data: [input, words, targets],
  };
}
