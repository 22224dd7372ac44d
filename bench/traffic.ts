/**
 * @file `deno task bench:traffic`: what the kernels' loads and stores come to on a GPU with subgroups of 32, without the
 * GPU. Two workgroups of each dispatch run on an emulated one (tests/emulator), on the sizes of a real one, and are
 * reckoned up for all:
 *
 *   kernel   times   threads   memory   cache   products   sectors   banks
 *
 * Microseconds of an H200: `memory` is the bytes that the work needs at 4 TB/s; `cache` what loads and stores take of the
 * first cache and workgroup memory, 128 bytes a cycle of each of 132 multiprocessors; `products` the FLOPs at 60
 * TFLOP/s. The largest of them is a bound, not a time. `sectors` is how many sectors of 32 bytes are touched for one that
 * would do, `banks` the same of turns of workgroup memory; `threads` those of the smallest dispatch.
 */

import { defineFlags, runMain, UsageError } from "../experiments/_args.ts";
import type { Cost } from "../engine/gpu/queue.ts";
import { DISCRETE, type EmulatedDevice, emulatedGpu } from "../tests/emulator/device.ts";
import type { Turns } from "../tests/emulator/traffic.ts";

const FLAGS = defineFlags({
  filter: {
    type: "string",
    default: "step MoCo ConvNet",
    help: "Workloads of `deno task bench` whose name or origin has this text",
  },
  batch: { type: "integer", min: 1, default: 64, help: "Images in a batch of single convolutions" },
  rows: { type: "integer", min: 1, default: 25, help: "Kernels that are shown of each workload" },
  matrices: { type: "boolean", default: true, help: "Whether the GPU has matrix units, for f16" },
}, {
  command: "deno task bench:traffic",
  about: "Shows what kernels' loads and stores come to on a GPU, without a GPU.",
});

/** Bytes, bytes of first caches, and FLOPs that an H200 does in a microsecond: 132 times 128 bytes at 1.7 GHz. */
const [MEMORY, CACHE, PRODUCTS] = [4e6, 28.7e6, 60e6];

/** What all dispatches of a kernel come to. */
interface Row extends Turns {
  readonly kernel: string;
  readonly times: number;
  readonly threads: number;
  readonly memory: number;
  readonly cache: number;
  readonly products: number;
}

/** The row of one dispatch. */
export function rowOf(
  kernel: string,
  { threads, cost, turns }: { threads: number; cost: Cost; turns: Turns },
): Row {
  return {
    ...turns,
    kernel,
    times: 1,
    threads,
    memory: cost.bytes / MEMORY,
    cache: (32 * turns.sectors + 128 * turns.turns) / CACHE,
    products: cost.flops / PRODUCTS,
  };
}

/** The rows of each kernel added up, the one that takes longest first. */
export function addedRows(rows: readonly Row[]): Row[] {
  const all = new Map<string, Row>();
  for (const row of rows) {
    const other = all.get(row.kernel);
    all.set(
      row.kernel,
      !other ? row : {
        kernel: row.kernel,
        times: row.times + other.times,
        threads: Math.min(row.threads, other.threads),
        memory: row.memory + other.memory,
        cache: row.cache + other.cache,
        products: row.products + other.products,
        sectors: row.sectors + other.sectors,
        fewestSectors: row.fewestSectors + other.fewestSectors,
        turns: row.turns + other.turns,
        fewestTurns: row.fewestTurns + other.fewestTurns,
      },
    );
  }
  const bound = (r: Row) => Math.max(r.memory, r.cache, r.products);
  return [...all.values()].sort((a, b) => bound(b) - bound(a));
}

const HEADING = ["times", "threads", "memory", "cache", "products", "sectors", "banks"];

function line(row: Row): string {
  const ratio = (a: number, b: number) => b > 0 ? (a / b).toFixed(2) : "";
  const numbers = [
    `${row.times}`,
    `${row.threads}`,
    ...[row.memory, row.cache, row.products].map((us) => us.toFixed(1)),
    ratio(row.sectors, row.fewestSectors),
    ratio(row.turns, row.fewestTurns),
  ];
  return `${row.kernel.padEnd(50)} ${numbers.map((n) => n.padStart(9)).join(" ")}`;
}

async function main(): Promise<void> {
  const { options } = FLAGS.parse(Deno.args);
  const { gpu: emulated, devices } = emulatedGpu(
    options.matrices ? DISCRETE : { ...DISCRETE, matrices: [] },
  );
  Object.defineProperty(navigator, "gpu", { value: emulated, configurable: true });
  // These open the GPU as they are loaded, or see what it can.
  const { init, scope } = await import("../mod.ts");
  const { gpu } = await import("../engine/gpu/device.ts");
  const { drawInputs, latheWork } = await import("./lathe.ts");
  const { nameOf } = await import("./work.ts");
  const { steps, workloads } = await import("./workloads.ts");
  await init();
  const device: EmulatedDevice = devices.at(-1)!;
  // Nothing that runs here is looked at but for its accesses, so nothing has to run whole.
  device.observe = () => {};
  const single = workloads({ batch: options.batch, software: false, f16: true })
    .filter(({ work }) => work.op !== "step");
  const list = [...steps(false), ...single]
    .filter(({ work, from }) => `${nameOf(work)} ${from}`.includes(options.filter));
  if (list.length === 0) {
    throw new UsageError(`No workload has ${JSON.stringify(options.filter)} in its name or origin`);
  }
  const { queue } = gpu();
  for (const { work, from } of list) {
    const inputs = drawInputs(work);
    const once = latheWork(work, inputs);
    queue.flush();
    const costs = new Map<string, { threads: number; cost: Cost }>();
    const rows: Row[] = [];
    const { launch } = queue;
    queue.launch = (run) => {
      const [x, y, z] = run.kernel.workgroup;
      const groups = run.grid.reduce((a, b) => a * b);
      costs.set(`${run.kernel.name} ${run.grid}`, { threads: groups * x * y * z, cost: run.cost });
      launch.call(queue, run);
    };
    device.observe = (kernel, grid, turns) => {
      const known = costs.get(`${kernel} ${grid}`);
      if (known) rows.push(rowOf(kernel, { ...known, turns }));
    };
    try {
      scope(() => void once());
      queue.flush();
    } finally {
      queue.launch = launch;
      device.observe = () => {};
    }
    const all = addedRows(rows);
    const bound = all.reduce((n, r) => n + Math.max(r.memory, r.cache, r.products), 0);
    console.log(
      `${nameOf(work)}, ${from}: ${rows.length} dispatches, at least ${bound.toFixed(0)} µs`,
    );
    console.log(`${"".padEnd(50)} ${HEADING.map((h) => h.padStart(9)).join(" ")}`);
    for (const row of all.slice(0, options.rows)) console.log(line(row));
    once.dispose?.();
    for (const t of inputs) t.dispose();
  }
  // Nothing is left to wait for but the engine's own buffers.
  Deno.exit(0);
}

if (import.meta.main) await runMain(main);
