/**
 * @file What `dawn_test.ts` runs in a process of its own, which alone has the permission that Dawn needs.
 * Prints one line of JSON: a {@linkcode SmokeReport}.
 */

import {
  capture,
  crossEntropy,
  init,
  manualSeed,
  nn,
  randint,
  randn,
  scope,
} from "../../../mod.ts";
import type { Tensor } from "../../../mod.ts";
import { NoAdapterError } from "../../../engine/errors.ts";
import { loadDawn } from "../../../engine/gpu/dawn.ts";
import { gpu, reopen } from "../../../engine/gpu/device.ts";
import { allOps } from "../../../engine/op.ts";
import { checkOp } from "../../helpers/check_op.ts";

/** What was seen. */
export interface SmokeReport {
  /** Why Dawn did not load, or an empty text. */
  skipped: string;
  providers: string[];
  features: string[];
  /** Problems of ops against their references, by op. */
  ops: Record<string, readonly string[]>;
  /** Losses of plain and of replayed steps, without and with bounds checks. */
  losses: { plain: number[]; replayed: number[]; unchecked: number[] };
  /** Whether a timer ran while a read waited for the GPU. */
  timerRan: boolean;
  /** Errors: a second provider, a lost device. */
  errors: Record<string, string>;
}

/** Ops with kernels of several kinds: tiles, rows, reductions, windows, scans. */
const OPS = ["matmul", "softmax", "sum", "maxPool2d", "cumsum"];

/** Losses of a few steps of a small net. */
async function train(captured: boolean): Promise<number[]> {
  manualSeed(5);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 4, { kernelSize: 3, padding: 1 }),
    new nn.BatchNorm2d(4),
    new nn.ReLU(),
    new nn.Flatten(),
    new nn.Dropout(0.3),
    new nn.Linear(4 * 36, 3),
  );
  const optimizer = new nn.optim.Adam(model.parameters(), { lr: 0.01 });
  const plain = (x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
    return loss.detach();
  };
  const step = captured ? capture(plain) : (x: Tensor, y: Tensor) => scope(() => plain(x, y));
  const [x, y] = [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })];
  const losses: number[] = [];
  for (let i = 0; i < 6; i++) losses.push(await step(x, y).item());
  return losses;
}

/** Whether a timer of no delay runs before a read of long work is done. */
async function timerRunsDuringRead(): Promise<boolean> {
  const a = randn([256, 256]);
  let ran = false;
  const product = scope(() => {
    let y = a;
    for (let i = 0; i < 20; i++) y = y.matmul(a).mul(1e-2);
    return y;
  });
  const timer = setTimeout(() => ran = true, 0);
  await product.data();
  clearTimeout(timer);
  return ran;
}

async function messageOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "";
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

async function smoke(): Promise<SmokeReport> {
  const info = await init({ provider: "dawn" });
  const report: SmokeReport = {
    skipped: "",
    providers: [info.provider],
    features: [...info.features],
    ops: {},
    losses: { plain: await train(false), replayed: await train(true), unchecked: [] },
    timerRan: await timerRunsDuringRead(),
    errors: { second: await messageOf(() => init({ provider: "native" })) },
  };
  for (const name of OPS) report.ops[name] = (await checkOp(allOps().get(name)!)).problems;

  report.providers.push((await reopen({ limits: { maxBufferSize: 1 << 26 } })).provider);
  await reopen({ provider: "dawn", robustness: false });
  report.losses.unchecked = await train(true);

  const adapter = await (await loadDawn({ robustness: true })).requestAdapter();
  const device = await adapter!.requestDevice({
    requiredLimits: {
      maxStorageBuffersPerShaderStage: adapter!.limits.maxStorageBuffersPerShaderStage,
    },
  });
  report.providers.push((await init({ device })).provider);
  const x = randn([8]);
  await x.data();
  gpu().device.destroy();
  report.errors.lost = await messageOf(() => x.mul(2).data());
  return report;
}

let report: Partial<SmokeReport>;
try {
  report = await smoke();
} catch (error) {
  if (!(error instanceof NoAdapterError)) throw error;
  report = { skipped: error.message };
}
console.log(JSON.stringify(report));
