/**
 * @file `deno task bench`: times named workloads by the GPU's own clock and compares them with what the
 * adapter can do at best, measured in the same run.
 *
 * Inputs are random; each workload warms up, then runs until `--seconds` have passed, at least three
 * times. The time is the median of the sums over its kernels; flops and bytes are the kernels' own
 * account. `--compare OLD.json` prints ratios to an earlier run: on shared machines only ratios of one
 * sitting mean much.
 */

import { type DeviceInfo, init, manualSeed, profile, scope } from "../mod.ts";
import { defineFlags, runMain, UsageError } from "../experiments/_args.ts";
import { measureRoofline, type Roofline } from "../engine/roofline.ts";
import { nameOf } from "./work.ts";
import { type Workload, workloads } from "./workloads.ts";

const FLAGS = defineFlags({
  filter: { type: "string", help: "Only workloads whose name or origin has this text" },
  batch: { type: "integer", min: 1, help: "Images in a batch; 8 on software, 64 elsewhere" },
  seconds: { type: "number", default: 1, above: 0, help: "Time for each workload" },
  json: { type: "path", help: "Write the results to this file" },
  compare: { type: "path", help: "Print ratios to the results in this file" },
  peers: {
    type: "boolean",
    default: false,
    help: "The same work in TensorFlow.js and jax-js instead, alternating, as ratios to ours",
  },
}, {
  command: "deno task bench",
  about: "Times kernels and training steps by GPU timestamps, against the roofline.",
});

/** Result of one workload. */
export interface Result {
  readonly name: string;
  readonly from: string;
  /** Median, and the smallest and largest of the runs, milliseconds on the GPU. */
  readonly ms: number;
  readonly low: number;
  readonly high: number;
  readonly gflops: number;
  readonly gbs: number;
  /** Share of the roofline at this intensity, 0..1. */
  readonly roofline: number;
  readonly dispatches: number;
}

/** What `--json` writes. */
export interface BenchFile {
  readonly adapter: string;
  readonly deno: string;
  readonly date: string;
  readonly batch: number;
  readonly roofline: Roofline;
  readonly results: readonly Result[];
}

/** Time, work and share of the best possible for one workload. */
async function measure(
  workload: Workload,
  options: { seconds: number; roofline: Roofline },
): Promise<Result> {
  manualSeed(1);
  const run = workload.build();
  const once = () => scope(() => void run());
  once();
  const times: number[] = [];
  let [flops, bytes, dispatches] = [0, 0, 0];
  const end = performance.now() + options.seconds * 1000;
  while (times.length < 3 || performance.now() < end) {
    const { kernels } = await profile(once, { roofline: options.roofline });
    times.push(kernels.reduce((n, k) => n + k.ms, 0));
    flops = kernels.reduce((n, k) => n + k.flops, 0);
    bytes = kernels.reduce((n, k) => n + k.bytes, 0);
    dispatches = kernels.reduce((n, k) => n + k.calls, 0);
  }
  times.sort((a, b) => a - b);
  const ms = times[times.length >> 1]!;
  const { gflops, gbs } = options.roofline;
  const bestMs = Math.max(flops / gflops, bytes / gbs) / 1e6;
  return {
    name: workload.name,
    from: workload.from,
    ms,
    low: times[0]!,
    high: times.at(-1)!,
    gflops: flops / ms / 1e6,
    gbs: bytes / ms / 1e6,
    roofline: bestMs / ms,
    dispatches,
  };
}

/** One line of the table. */
export function formatResult(r: Result, before?: Result): string {
  const spread = `${r.low.toFixed(2)}–${r.high.toFixed(2)}`;
  const ratio = before ? `  ${(before.ms / r.ms).toFixed(2)}x` : "";
  return `${r.name.padEnd(58)} ${r.ms.toFixed(2).padStart(9)} ${spread.padStart(17)} ` +
    `${r.gflops.toFixed(2).padStart(9)} ${r.gbs.toFixed(2).padStart(8)} ` +
    `${(100 * r.roofline).toFixed(0).padStart(4)} %${ratio}`;
}

async function readOld(path: string | undefined): Promise<BenchFile | undefined> {
  if (path === undefined) return undefined;
  try {
    return JSON.parse(await Deno.readTextFile(path)) as BenchFile;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`Cannot read ${path}: it is no JSON`);
    throw error;
  }
}

async function main(): Promise<void> {
  const { options } = FLAGS.parse(Deno.args);
  const old = await readOld(options.compare);
  const info = await init();
  const batch = options.batch ?? (info.software ? 8 : 64);
  if (options.peers) return await peers({ ...options, batch }, info);
  const list = workloads({ batch, largest: info.software ? 5e9 : Infinity }).filter((w) =>
    !options.filter || `${w.name} ${w.from}`.includes(options.filter)
  );
  if (list.length === 0) {
    throw new UsageError(`No workload has "${options.filter}" in its name or origin`);
  }
  console.log(`${info.adapter}${info.software ? " (software)" : ""}, Deno ${Deno.version.deno}`);
  const roofline = await measureRoofline();
  console.log(
    `Roofline: ${roofline.gflops.toFixed(1)} GFLOP/s of f32 fma, ${
      roofline.gbs.toFixed(1)
    } GB/s copy\n`,
  );
  console.log(
    `${"workload".padEnd(58)} ${"ms".padStart(9)} ${"low–high".padStart(17)} ` +
      `${"GFLOP/s".padStart(9)} ${"GB/s".padStart(8)}   best${old ? "  faster" : ""}`,
  );
  const results: Result[] = [];
  for (const workload of list) {
    const result = await measure(workload, { seconds: options.seconds, roofline });
    results.push(result);
    console.log(formatResult(result, old?.results.find((r) => r.name === result.name)));
  }
  if (options.json !== undefined) {
    const file: BenchFile = {
      adapter: info.adapter,
      deno: Deno.version.deno,
      date: new Date().toISOString().slice(0, 10),
      batch,
      roofline,
      results,
    };
    await Deno.writeTextFile(options.json, JSON.stringify(file, null, 2) + "\n");
  }
}

/** Times the libraries that do the same work; `deno.lock` of this folder pins them. */
async function peers(
  options: { batch: number; filter?: string; seconds: number; json?: string },
  info: DeviceInfo,
): Promise<void> {
  const { coldStart, peerWorkloads, runPeers } = await import("./peers/run.ts");
  manualSeed(1);
  const list = peerWorkloads({ n: options.batch }).filter(({ work, from }) =>
    !options.filter || `${nameOf(work)} ${from}`.includes(options.filter)
  );
  console.log(`${info.adapter}${info.software ? " (software)" : ""}, Deno ${Deno.version.deno}`);
  const results = await runPeers(list, { seconds: options.seconds, info });
  const cold = "first step".includes(options.filter ?? "") ? await coldStart() : undefined;
  if (options.json !== undefined) {
    const { adapter } = info;
    const file = { adapter, deno: Deno.version.deno, batch: options.batch, results, cold };
    await Deno.writeTextFile(options.json, JSON.stringify(file, null, 2) + "\n");
  }
  // Workers of jax-js would keep the process alive.
  Deno.exit(0);
}

if (import.meta.main) await runMain(main);
