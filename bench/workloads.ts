/** @file The named pieces of work that `deno task bench` times, each with the model it comes from. */

import { modelConvs } from "./shapes.ts";
import { flopsOf, type Step, type Work } from "./work.ts";

/** A piece of work and where it comes from. */
export interface Workload {
  readonly work: Work;
  /** The model or layer. */
  readonly from: string;
}

/** Options of {@linkcode workloads}. */
export interface WorkloadOptions {
  /** Images in a batch. */
  batch: number;
  /** Whether the adapter is a program on the CPU: training steps are smaller. */
  software: boolean;
  /** Whether the adapter has f16. */
  f16: boolean;
  /** Images in a batch of the training steps, in place of the models' own. */
  stepBatch?: number;
}

const GEMMS = [256, 512, 1024, 2048, 4096];
const PASSES = ["forward", "dX", "dW"] as const;

/** Everything. Runs the models once to find their convolutions. */
export function workloads({ batch, software, f16, stepBatch }: WorkloadOptions): Workload[] {
  const dtypes = f16 ? ["f32", "f16"] as const : ["f32"] as const;
  const gemms = dtypes.flatMap((dtype) =>
    GEMMS.map((n): Workload => ({
      work: { op: "gemm", m: n, k: n, n, dtype },
      from: "square matrices",
    }))
  );
  const convs = modelConvs().flatMap(({ shape, from }) =>
    PASSES.map((pass): Workload => ({
      work: { op: "conv", ...shape, n: batch, pass },
      from: from.join(", "),
    }))
  );
  return [...gemms, ...convs, ...others(batch), ...steps(software, stepBatch)];
}

function others(n: number): Workload[] {
  const lstm = { op: "lstm", n: 64, steps: 20, features: 256, hidden: 512 } as const;
  const side = 4096;
  return [
    { work: { op: "batch norm", n, c: 64, h: 56, w: 56 }, from: "ResNet-50 layer1" },
    { work: { op: "batch norm", n, c: 2048, h: 7, w: 7 }, from: "ResNet-50 layer4" },
    { work: { op: "batch norm", n, c: 96, h: 112, w: 112 }, from: "EfficientNet-B0" },
    { work: { op: "softmax", rows: 64, columns: 8492 }, from: "captioning vocabulary" },
    { work: { op: "cross entropy", rows: 64, columns: 8492 }, from: "captioning vocabulary" },
    { work: { ...lstm, pass: "forward" }, from: "captioning decoder" },
    { work: { ...lstm, pass: "train" }, from: "captioning decoder" },
    { work: { op: "adam", parameters: 1 << 25 }, from: "optimizer" },
    { work: { op: "sum rows", rows: side, columns: side }, from: "reduction" },
    { work: { op: "sum columns", rows: side, columns: side }, from: "reduction" },
    { work: { op: "transpose", rows: side, columns: side }, from: "layout" },
    { work: { op: "copy", rows: side, columns: side }, from: "layout" },
  ];
}

/** The experiments' configurations; on software with fewer images. */
export function steps(software: boolean, batch?: number): Workload[] {
  const rows: readonly [Step["model"], side: number, hardware: number, software: number][] = [
    ["AlexNet", 224, 64, 4],
    ["ResNet-50", 224, 64, 1],
    ["EfficientNet-B0", 224, 64, 1],
    ["ToySSD", 256, 32, 1],
    ["MoCo", 32, 512, 64],
    ["MoCo ConvNet", 32, 64, 64],
    ["captioning", 224, 64, 2],
    ["captioning decoder", 224, 64, 8],
  ];
  const list = rows.map(([model, side, hardware, small]): Workload => ({
    work: { op: "step", model, n: batch ?? (software ? small : hardware), side },
    from: `${model} training, captured`,
  }));
  const amp = list.filter(({ work }) => work.op === "step" && work.model === "EfficientNet-B0");
  return [
    ...list,
    ...amp.map(({ work, from }) => ({
      work: { ...work as Step, amp: true },
      from: `${from}, AMP`,
    })),
  ];
}

/** Floating-point operations above which work is skipped on a software adapter. */
const LARGEST = 15e9;

/** Why a piece of work is not run on this adapter unless it is forced; undefined where it is. */
export function skipReason(work: Work, { software }: { software: boolean }): string | undefined {
  const flops = flopsOf(work);
  if (!software || !(flops > LARGEST)) return undefined;
  return `${(flops / 1e9).toFixed(0)} GFLOP take too long on a software adapter; --force runs it`;
}
