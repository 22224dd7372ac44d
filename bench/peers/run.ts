/** @file What `deno task bench --peers` runs. */

import type { DeviceInfo } from "../../mod.ts";
import type { ConvPass, Work } from "../work.ts";
import { compare, formatPeers, idleWait, peerHeader, type PeerResult, summary } from "./compare.ts";
import { type FirstSteps, firstSteps } from "./first_step.ts";
import { jaxJs } from "./jax.ts";
import { lathe } from "./lathe.ts";
import type { Library } from "./library.ts";
import { tensorflow } from "./tfjs.ts";

/** Work that every library is given, with where it comes from. */
export function peerWorkloads({ n }: { n: number }): { work: Work; from: string }[] {
  const gemm = (n: number): Work => ({ op: "gemm", m: n, k: n, n, dtype: "f32" });
  type Row = readonly [
    from: string,
    n: number,
    x: readonly [number, number],
    o: number,
    k: number,
    stride: number,
    padding: number,
    groups?: number,
  ];
  const convs: Row[] = [
    ["small batch of the literature", 16, [32, 32], 64, 3, 1, 1],
    ["AlexNet conv1", n, [3, 224], 64, 11, 4, 2],
    ["AlexNet conv2", n, [64, 27], 192, 5, 1, 2],
    ["AlexNet conv4", n, [384, 13], 256, 3, 1, 1],
    ["ResNet-50 conv1", n, [3, 224], 64, 7, 2, 3],
    ["ResNet-50 layer1 3x3", n, [64, 56], 64, 3, 1, 1],
    ["ResNet-50 layer2 1x1", n, [512, 28], 128, 1, 1, 0],
    ["ResNet-50 layer3 3x3", n, [256, 14], 256, 3, 1, 1],
    ["ResNet-50 layer4 3x3 stride 2", n, [512, 14], 512, 3, 2, 1],
    ["EfficientNet-B0 depthwise 5x5", n, [240, 28], 240, 5, 1, 2, 240],
    ["EfficientNet-B0 1x1", n, [40, 28], 240, 1, 1, 0],
    ["ToySSD body", n, [16, 256], 16, 3, 1, 1],
    ["MoCo ConvNet conv2", 64, [32, 15], 64, 3, 1, 0],
    ["MoCo ConvNet conv3", 64, [64, 6], 128, 3, 1, 0],
  ];
  const conv = ([, n, [c, side], o, k, s, p, groups = 1]: Row, pass: ConvPass): Work => ({
    op: "conv",
    pass,
    n,
    c,
    h: side,
    w: side,
    o,
    kernel: [k, k],
    stride: [s, s],
    padding: [p, p, p, p],
    groups,
  });
  const rows = (op: "softmax" | "cross entropy", from: string) => ({
    work: { op, rows: 64, columns: 8492 } as Work,
    from,
  });
  const square = (op: "sum rows" | "sum columns" | "transpose") => ({
    work: { op, rows: 2048, columns: 2048 } as Work,
    from: "reductions and layout",
  });
  return [
    ...[256, 512, 1024].map((n) => ({ work: gemm(n), from: "square matrices" })),
    ...convs.flatMap((row) =>
      (["forward", "dW", "train"] as const).map((pass) => ({ work: conv(row, pass), from: row[0] }))
    ),
    { work: { op: "batch norm", n, c: 64, h: 56, w: 56 }, from: "ResNet-50 layer1" },
    rows("softmax", "captioning vocabulary"),
    rows("cross entropy", "captioning vocabulary"),
    square("sum rows"),
    square("sum columns"),
    square("transpose"),
    {
      work: { op: "lstm", n: 64, steps: 20, features: 256, hidden: 512, pass: "forward" },
      from: "captioning decoder",
    },
    {
      work: { op: "lstm", n: 64, steps: 20, features: 256, hidden: 512, pass: "train" },
      from: "captioning decoder",
    },
    { work: { op: "adam", parameters: 1 << 22 }, from: "optimizer" },
    { work: { op: "step", model: "MoCo ConvNet", n: 64, side: 32 }, from: "MoCo, captured" },
  ];
}

/** First training steps of the MoCo ConvNet in new processes that find no compiled shader. */
export async function coldStart(): Promise<Record<"lathe" | "tfjs", FirstSteps>> {
  const cold = { lathe: await firstSteps("lathe"), tfjs: await firstSteps("tfjs") };
  for (
    const [name, { first, third }] of [["Lathe", cold.lathe], ["TensorFlow.js", cold.tfjs]] as const
  ) {
    console.log(
      `first step of MoCo ConvNet 64 x 32, cold shader cache: ${name} ${
        (first / 1e3).toFixed(1)
      } s, ` +
        `third ${(third / 1e3).toFixed(2)} s`,
    );
  }
  return cold;
}

/** Options of {@linkcode runPeers}. */
export interface RunPeersOptions {
  /** Time for each workload and library. */
  readonly seconds: number;
  readonly info: DeviceInfo;
  /** Whether jax-js's WASM runs convolutions, too, which takes it up to a minute each. */
  readonly wasmConvs: boolean;
  /** Called after each workload. */
  readonly save: (results: readonly PeerResult[]) => Promise<void>;
}

/** Times every library on `list` and prints the table as it goes. */
export async function runPeers(
  list: readonly { work: Work; from: string }[],
  { seconds, info, wasmConvs, save }: RunPeersOptions,
): Promise<PeerResult[]> {
  const libraries: (readonly [Library, number])[] = [];
  const jax = () => jaxJs("webgpu");
  const wasm = () => jaxJs("wasm", { convs: wasmConvs });
  for (const open of [() => Promise.resolve(lathe()), tensorflow, jax, wasm]) {
    try {
      const library = await open();
      libraries.push([library, await idleWait(library)]);
    } catch (error) {
      console.log(`Not compared: ${error}`);
    }
  }
  console.log(
    libraries.map(([{ name }, ms]) => `${name} waits ${ms.toFixed(2)} ms`).join(", ") +
      " at idle\n",
  );
  console.log(peerHeader(libraries.map(([{ name }]) => name)));
  const results: PeerResult[] = [];
  for (const workload of list) {
    const options = { rounds: info.software ? 5 : 9, sampleMs: seconds * 300 };
    const result = await compare(libraries, workload, options);
    results.push(result);
    console.log(formatPeers(result));
    await save(results);
    for (const { library, problem } of result.times) {
      if (problem && problem !== "lacks it") console.log(`    ${library}: ${problem}`);
    }
  }
  console.log("");
  for (const line of summary(results)) console.log(line);
  return results;
}
