/**
 * Fifty steps of each experiment's model, tiny, plain and captured: losses, parameters, running
 * statistics and the generator's place must be equal bit for bit.
 */

import { assert, assertEquals } from "@std/assert";
import {
  autocast,
  biTemperedLogisticLoss,
  capture,
  crossEntropy,
  GradScaler,
  init,
  manualSeed,
  multiboxTarget,
  nn,
  noGrad,
  randint,
  randn,
  scope,
  smoothL1Loss,
  synchronize,
  type Tensor,
  tensor,
} from "../../../mod.ts";

const info = await init();
const { models, optim } = nn;
const STEPS = 50;

/** A step to capture, what it trains, and the batches it takes in turn. */
interface Case {
  readonly step: (...inputs: Tensor[]) => Tensor;
  readonly model: nn.Module;
  readonly batches: readonly (readonly Tensor[])[];
  /** Called between steps, outside of what is captured. */
  readonly between?: () => void;
}

/** Everything that fifty steps leave. */
async function train(build: () => Case, captured: boolean) {
  manualSeed(8);
  const { step, model, batches, between } = build();
  const replayed = captured ? capture(step) : null;
  const call = (inputs: readonly Tensor[]) =>
    replayed ? replayed(...inputs) : scope(() => step(...inputs));
  const losses: Tensor[] = [];
  for (let i = 0; i < STEPS; i++) {
    losses.push(call(batches[i % batches.length]!));
    between?.();
    if (i % 10 === 9) await synchronize();
  }
  const state = Object.entries(model.stateDict());
  const left: Record<string, ArrayLike<number>> = {};
  for (const [name, t] of state) left[name] = await t.data();
  const result = {
    losses: await Promise.all(losses.map((t) => t.item())),
    left,
    next: await randn([4]).data(),
    graphs: replayed?.graphs ?? 0,
  };
  replayed?.dispose();
  return result;
}

function test(name: string, build: () => Case, options: { f16?: boolean } = {}): void {
  Deno.test({
    name: `captured steps are the plain ones bit for bit: ${name}`,
    ignore: options.f16 === true && !info.features.has("shader-f16"),
    fn: async () => {
      const plain = await train(build, false);
      const captured = await train(build, true);
      assertEquals(captured.graphs, 1);
      assertEquals(captured.losses, plain.losses);
      assertEquals(captured.next, plain.next);
      for (const [key, want] of Object.entries(plain.left)) {
        assertEquals(captured.left[key], want, key);
      }
      assert(plain.losses.every(Number.isFinite), `${plain.losses}`);
      assert(new Set(plain.losses).size > STEPS / 2, "the steps differ from one another");
    },
  });
}

/** `count` batches of images with a class each. */
function labelled(shape: readonly number[], classes: number, count = 3): Tensor[][] {
  return Array.from({ length: count }, () => [
    randn([...shape]),
    randint(0, classes, { shape: [shape[0]!] }),
  ]);
}

test("letters: AlexNet with dropout, momentum and a schedule", () => {
  const model = models.alexnet({ numClasses: 5, inChannels: 1, width: 0.125, poolSize: 1 });
  const optimizer = new optim.SGD(model.parameters(), {
    lr: 0.01,
    momentum: 0.9,
    weightDecay: 1e-4,
  });
  const scheduler = new optim.StepLR(optimizer, { stepSize: 20, gamma: 0.1 });
  return {
    model,
    batches: labelled([2, 1, 63, 63], 5),
    between: () => scheduler.step(),
    step: (x, y) => {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.forward(x!), y!);
      loss.backward();
      optimizer.step();
      return loss.detach();
    },
  };
});

test("moco: ConvNet twice, the momentum update and the queue", () => {
  const encoder = () => models.convNet({ channels: [4, 4, 4], outFeatures: 8, dropout: 0.3 });
  const model = new models.MoCo({ encoder, dim: 8, queueSize: 24 });
  const optimizer = new optim.SGD(model.encoder_q.parameters(), { lr: 0.06, momentum: 0.9 });
  return {
    model,
    batches: [0, 1, 2].map(() => [randn([4, 3, 32, 32]), randn([4, 3, 32, 32])]),
    step: (a, b) => {
      optimizer.zeroGrad();
      const loss = model.forward(a!, b!);
      loss.backward();
      optimizer.step();
      return loss.detach();
    },
  };
});

test("ssd: ToySsd with targets matched on the GPU, hard negatives, and smooth L1 loss", () => {
  const model = models.toySsd({ numClasses: 2, body: [2, 2, 4], channels: 4 });
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.05, weightDecay: 5e-4 });
  const labels = (shift: number) =>
    tensor([
      [[0, 0.1, 0.1 + shift, 0.5, 0.6], [1, 0.4, 0.3, 0.9, 0.8 + shift]],
      [[1, 0.2 + shift, 0.2, 0.7, 0.7], [-1, 0, 0, 0, 0]],
    ]);
  return {
    model,
    batches: [0, 0.05, 0.1].map((shift) => [randn([2, 3, 64, 64]), labels(shift)]),
    step: (x, y) => {
      optimizer.zeroGrad();
      const { anchors, classes, boxes } = model.forward(x!);
      const { locTarget, locMask, clsTarget } = noGrad(() =>
        multiboxTarget(anchors, y!, {
          clsPred: classes.detach().permute(0, 2, 1).contiguous(),
          negativeMiningRatio: 3,
        })
      );
      const ids = noGrad(() => clsTarget.to("i32").reshape(-1));
      const loss = crossEntropy(classes.reshape(-1, 3), ids, { ignoreIndex: -1 })
        .add(smoothL1Loss(boxes.mul(locMask), locTarget));
      loss.backward();
      optimizer.step();
      return loss.detach();
    },
  };
});

test("captioning: an encoder with BatchNorm1d, an LSTM, clipped gradients and Adam", () => {
  const model = models.captioner({
    vocabSize: 11,
    embedDim: 6,
    hiddenDim: 7,
    numLayers: 2,
    encoder: "small",
    imageSize: 32,
    frozen: false,
  });
  const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
  return {
    model,
    batches: [0, 1, 2].map(() => [randn([3, 3, 32, 32]), randint(0, 11, { shape: [3, 5] })]),
    step: (x, captions) => {
      optimizer.zeroGrad();
      const logits = model.forward(x!, captions!);
      const loss = crossEntropy(logits.reshape(-1, 11), captions!.reshape(-1), { ignoreIndex: 0 });
      loss.backward();
      nn.optim.clipGradNorm(model.parameters(), { maxNorm: 1 });
      optimizer.step();
      return loss.detach();
    },
  };
});

test("birdclef: EfficientNet-B0 with dropout, dropped paths and mixed precision", () => {
  const model = models.efficientnetB0({
    numClasses: 4,
    inChannels: 1,
    dropRate: 0.3,
    dropPathRate: 0.2,
  });
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const scaler = new GradScaler({ initScale: 2 ** 12, growthInterval: 6 });
  return {
    model,
    batches: labelled([2, 1, 32, 32], 4, 2),
    step: (x, y) => {
      optimizer.zeroGrad();
      const logits = autocast({ dtype: "f16" }, () => model.forward(x!));
      const loss = biTemperedLogisticLoss(logits.to("f32"), y!, { t1: 0.8, t2: 1.2 });
      scaler.scale(loss).backward();
      scaler.step(optimizer);
      scaler.update();
      return loss.detach();
    },
  };
}, { f16: true });
