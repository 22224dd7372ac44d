/**
 * @file `deno task bench`: times named workloads and compares them with what the adapter can do at best,
 * measured in the same run.
 *
 * Inputs are random and results are checked before they are timed. Each workload warms up, then runs until
 * `--seconds` have passed, at least three times. The time is the median of the sums over its kernels by
 * the GPU's own clock; "wall" is one of many runs by the host's. `--filter` and `--json` are as in `deno bench`,
 * which itself times one call at a time by the host's clock: of a kernel of 1 ms it would see the 11 ms that
 * Deno takes to say that a GPU is done. FLOPs and bytes are the kernels' own
 * account. On shared machines only ratios of one sitting mean much: `--compare` prints them to an earlier
 * run, `--merge` to PyTorch's (`bench/torch.py`), `--peers` to the libraries it runs itself.
 */

import { type DeviceInfo, init, manualSeed, measureRoofline, type Roofline } from "../mod.ts";
import { defineFlags, GPU_FLAG, runMain, UsageError } from "../experiments/_args.ts";
import { measure, type Result } from "./measure.ts";
import { type Column, formatResult, header } from "./table.ts";
import { flopsOf, nameOf } from "./work.ts";
import { skipReason, type Workload, workloads } from "./workloads.ts";

const FLAGS = defineFlags({
  filter: { type: "string", help: "Only workloads whose name or origin has this text" },
  batch: { type: "integer", min: 1, help: "Images in a batch; 4 on software, 64 elsewhere" },
  stepBatch: {
    type: "integer",
    min: 1,
    help: "Images in a training step's batch; else the models' own, fewer on software",
  },
  seconds: { type: "number", default: 0.5, above: 0, help: "Time for each workload and clock" },
  force: {
    type: "boolean",
    default: false,
    help: "Run what takes too long on a software adapter, too",
  },
  gpu: GPU_FLAG,
  json: { type: "path", help: "Write the results to this file" },
  compare: { type: "path", help: "Print ratios to the results in this file" },
  merge: { type: "path", help: "Print ratios to PyTorch's times in this file" },
  list: { type: "path", help: "Write the workloads to this file, for bench/torch.py, and end" },
  peers: {
    type: "boolean",
    default: false,
    help: "The same work in TensorFlow.js and jax-js instead, alternating, as ratios to ours",
  },
  wasmConvs: {
    type: "boolean",
    default: false,
    help: "With --peers: convolutions in jax-js's WASM, too, up to a minute each",
  },
}, {
  command: "deno task bench",
  about: "Times kernels and training steps against the roofline, earlier runs and other libraries.",
});

/** What `--json` writes. */
export interface BenchFile {
  readonly adapter: string;
  readonly deno: string;
  readonly date: string;
  readonly batch: number;
  readonly roofline: Roofline;
  readonly results: readonly Result[];
}

/** Figures by the row, such as `f32`, and the name of the work. */
type Rows = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** What `bench/torch.py --json` writes. */
export interface TorchFile {
  readonly device: string;
  readonly torch: string;
  /** Milliseconds. */
  readonly rows: Rows;
  /** Bytes at the most, of training steps. */
  readonly memory: Rows;
}

/** The parsed content of a JSON file that the user names. */
async function readJson<T>(path: string): Promise<T> {
  try {
    return JSON.parse(await Deno.readTextFile(path)) as T;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`Cannot read ${path}: it is no JSON`);
    throw error;
  }
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(path, JSON.stringify(value, null, 2) + "\n");
}

/** The columns that results are compared with. */
async function columnsOf(options: { compare?: string; merge?: string }): Promise<Column[]> {
  const columns: Column[] = [];
  if (options.compare !== undefined) {
    const { results } = await readJson<BenchFile>(options.compare);
    columns.push({
      title: "faster",
      figures: new Map(results.map((r) => [r.name, r.ms])),
      of: "ms",
    });
  }
  if (options.merge !== undefined) {
    const { rows, memory } = await readJson<TorchFile>(options.merge);
    const add = (rows: Rows, of: Column["of"], text: string) => {
      for (const [row, figures] of Object.entries(rows)) {
        const title = `torch ${row}${text}`;
        columns.push({ title, figures: new Map(Object.entries(figures)), of });
      }
    };
    add(rows, "wallMs", "");
    add(memory, "memory", " memory");
  }
  return columns;
}

function matching(list: readonly Workload[], filter: string | undefined): Workload[] {
  const found = list.filter(({ work, from }) =>
    !filter || `${nameOf(work)} ${from}`.includes(filter)
  );
  if (found.length === 0) {
    throw new UsageError(`No workload has "${filter}" in its name or origin`);
  }
  return found;
}

async function main(): Promise<void> {
  const { options } = FLAGS.parse(Deno.args);
  const columns = await columnsOf(options);
  const info = await init({ provider: options.gpu as "native" | "dawn" });
  const { software } = info;
  const batch = options.batch ?? (software ? 4 : 64);
  manualSeed(1);
  console.log(`${info.adapter}${software ? " (software)" : ""}, Deno ${Deno.version.deno}`);
  if (options.peers) return await peers({ ...options, batch }, info);
  const f16 = info.features.has("shader-f16");
  const list = matching(
    workloads({ batch, software, f16, stepBatch: options.stepBatch }),
    options.filter,
  );
  if (options.list !== undefined) {
    const named = list.filter(({ work }) => options.force || !skipReason(work, info))
      .map(({ work }) => ({ name: nameOf(work), flops: flopsOf(work), ...work }));
    await writeJson(options.list, named);
    return;
  }
  const roofline = await measureRoofline();
  console.log(
    `Roofline: ${roofline.gflops.toFixed(1)} GFLOP/s of f32 fma, ` +
      `${roofline.gbs.toFixed(1)} GB/s copy\n`,
  );
  console.log(header(columns));
  const results: Result[] = [];
  for (const workload of list) {
    const reason = options.force ? undefined : skipReason(workload.work, info);
    const result = reason ?? await measured(workload, { seconds: options.seconds, roofline });
    if (typeof result === "string") console.log(`${nameOf(workload.work)}: ${result}`);
    else {
      results.push(result);
      console.log(formatResult(result, columns));
      const file: BenchFile = { ...aboutRun(info, batch), roofline, results };
      if (options.json !== undefined) await writeJson(options.json, file);
    }
  }
}

/** What every file of results says about the run. */
function aboutRun({ adapter }: DeviceInfo, batch: number) {
  const date = new Date().toISOString().slice(0, 10);
  return { adapter, deno: Deno.version.deno, date, batch };
}

/** The result, or why there is none. */
async function measured(
  workload: Workload,
  options: { seconds: number; roofline: Roofline },
): Promise<Result | string> {
  try {
    return await measure(workload, options);
  } catch (error) {
    Deno.exitCode = 1;
    return `FAILED: ${(error as Error).message.split("\n")[0]}`;
  }
}

/** Times the libraries that do the same work; `deno.lock` of this folder pins them. */
async function peers(
  options: { batch: number; filter?: string; seconds: number; json?: string; wasmConvs: boolean },
  info: DeviceInfo,
): Promise<void> {
  const { coldStart, peerWorkloads, runPeers } = await import("./peers/run.ts");
  const { filter = "" } = options;
  const withFirstStep = "first step".includes(filter);
  const all = peerWorkloads({ n: options.batch });
  const list = filter !== "" && withFirstStep ? [] : matching(all, filter);
  const save = async (results: unknown, cold?: unknown) => {
    if (options.json === undefined) return;
    await writeJson(options.json, { ...aboutRun(info, options.batch), results, cold });
  };
  const results = await runPeers(list, {
    seconds: options.seconds,
    wasmConvs: options.wasmConvs,
    info,
    save,
  });
  if (withFirstStep) await save(results, await coldStart());
  // Workers of jax-js would keep the process alive.
  Deno.exit(0);
}

if (import.meta.main) await runMain(main);
