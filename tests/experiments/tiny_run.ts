/**
 * @file The smallest run with all that a checkpoint keeps: a model with dropout and batch statistics,
 * an optimizer with moments, a schedule, a shuffled loader and a history. It says when it saves, so that
 * a test can kill it there, and can be told to fail.
 */

import {
  capture,
  crossEntropy,
  GpuError,
  nn,
  noGrad,
  readAll,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { defineFlags, runMain } from "../../experiments/_args.ts";
import { TrainingLoop } from "../../experiments/_loop.ts";
import { RUN_FLAGS, startRun } from "../../experiments/_run.ts";

const FLAGS = defineFlags({
  epochs: { type: "integer", default: 8, min: 1, help: "Epochs" },
  batchSize: { type: "integer", default: 16, min: 1, help: "Samples a step" },
  width: { type: "integer", default: 256, min: 1, help: "Hidden values" },
  gpuFailsAt: { type: "integer", help: "The GPU fails in this epoch" },
  ...RUN_FLAGS,
}, { command: "tiny", about: "A tiny run for tests." });

const INPUTS = 64, CLASSES = 10, SAMPLES = 64;

interface Batch {
  inputs: Float32Array;
  labels: Int32Array;
}

interface Row {
  epoch: number;
  loss: number;
}

/** Says when a save begins and ends. */
class LoudLoop extends TrainingLoop<Batch, Row> {
  override async save(): Promise<void> {
    console.log("saving");
    await super.save();
    console.log("saved");
  }
}

/** Samples by a fixed seed: noise around a mean of their class. */
function makeSamples(): Batch {
  const random = new nn.data.HostRandom(7);
  const labels = Int32Array.from({ length: SAMPLES }, (_, i) => i % CLASSES);
  const inputs = Float32Array.from({ length: SAMPLES * INPUTS }, (_, i) => {
    const label = labels[Math.floor(i / INPUTS)]!;
    return random.uniform(-1, 1) + (i % CLASSES === label ? 1 : 0);
  });
  return { inputs, labels };
}

/** Runs it. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const columns = ["Epoch", "Loss", "LR"];
  const resumable = ["gpuFailsAt"];
  using start = await startRun({ experiment: "tiny", flags: FLAGS, args, columns, resumable });
  const folder = start.folder;
  const { options } = start;
  const { inputs, labels } = makeSamples();
  const model = new nn.Sequential(
    new nn.Linear(INPUTS, options.width),
    new nn.BatchNorm1d(options.width),
    new nn.ReLU(),
    new nn.Dropout(0.3),
    new nn.Linear(options.width, options.width),
    new nn.ReLU(),
    new nn.Linear(options.width, CLASSES),
  );
  const optimizer = new nn.optim.Adam(model.parameters(), { lr: 0.003 });
  const scheduler = new nn.optim.StepLR(optimizer, { stepSize: 3, gamma: 0.5 });
  const totals = zeros([2]);
  const step = capture((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
    noGrad(() => totals.add_(tensor([0, 1]).mul(loss.detach())));
  });
  const loop = new LoudLoop({
    start,
    loader: new nn.data.DataLoader({
      length: SAMPLES,
      get: (i: number) => i,
    }, {
      batchSize: options.batchSize,
      shuffle: true,
      seed: options.seed,
      collate: (indices: number[]) => ({
        inputs: Float32Array.from(
          indices.flatMap((i) => [...inputs.subarray(i * INPUTS, (i + 1) * INPUTS)]),
        ),
        labels: Int32Array.from(indices, (i) => labels[i]!),
      }),
    }),
    state: { model, optimizer, scheduler },
    totals,
    loss: (sums) => sums[1]!,
    step: ({ inputs, labels }) => {
      if (loop.history.length + 1 === options.gpuFailsAt) {
        throw new GpuError("The GPU device was lost: a test took it", { label: "device" });
      }
      step(tensor(inputs, { shape: [labels.length, INPUTS] }), tensor(labels));
    },
    progress: async () => {
      const [sums] = await readAll([totals]);
      return { loss: Number(sums![1]) };
    },
    endEpoch: (epoch, sums) => {
      const row = { epoch, loss: sums[1]! };
      folder.metrics.append({ Epoch: epoch, Loss: row.loss, LR: scheduler.getLastLr()[0]! });
      loop.events.scalars(epoch, { loss: row.loss });
      scheduler.step();
      return Promise.resolve(row);
    },
  });
  const code = await loop.run();
  if (code !== undefined) return code;
  await nn.io.saveSafetensors(folder.path("last.safetensors"), model.stateDict());
  folder.writeSummary({ seconds: 0, epochs: loop.history.length, metrics: {} });
  return 0;
}

if (import.meta.main) await runMain(() => main(Deno.args));
