/**
 * @file Runs workloads for `compiled.ts`, naming each kernel that the driver is about to compile: the step
 * of that name, whose host time is measured, too, or without one all others that match.
 */

import { init, scope, synchronize } from "../mod.ts";
import { gpu, reopen } from "../engine/gpu/device.ts";
import { drawInputs, latheWork } from "./lathe.ts";
import { median } from "./measure.ts";
import { trainingStep } from "./steps.ts";
import { nameOf, type Step } from "./work.ts";
import { steps, type Workload, workloads } from "./workloads.ts";

const [filter, images, provider, name] = Deno.args as [string, string, "native" | "dawn", string];
const batch = Number(images);
const { features } = await init({ provider });
const f16 = features.has("shader-f16");
const list = name ? steps(false) : workloads({ batch, software: false, f16 });
// Models ran to find the workloads; what they compiled would not be compiled again.
await reopen({ provider });
const { device, info, queue } = gpu();
// The device that does nothing multiplies no matrix rightly; NVIDIA's have this shape.
if (f16 && provider === "dawn") Object.assign(info, { matrixShapes: [{ m: 16, n: 16, k: 16 }] });
device.lost.then(({ message, reason }) => {
  if (reason === "destroyed") return;
  console.log(`${name || "This"} is too much for the device, which has 3 GiB: ${message}`);
  Deno.exit(1);
});

/** Runs until the host's caches and compilers have settled, and those that are measured. */
const [WARM, RUNS] = [200, 101];

/** What a run costs the host where the GPU costs nothing: runs, one behind the other. */
async function hostCost(once: () => void): Promise<{ us: number; dispatches: number }> {
  const times: number[] = [];
  let dispatches = 0;
  for (let i = 0; i < WARM + RUNS; i++) {
    const before = queue.stats.dispatches;
    const start = performance.now();
    scope(once);
    if (i >= WARM) times.push(1000 * (performance.now() - start));
    dispatches = queue.stats.dispatches - before;
    if (i % 20 === 0) await synchronize();
  }
  return { us: median(times), dispatches };
}

/** What a step costs the host, replayed and as a plain function. */
async function hostLine(work: Step): Promise<string> {
  const { step, plain, dispose } = trainingStep(work);
  const parts: string[] = [];
  for (const [what, fn] of [["a replay", step], ["a plain step", plain]] as const) {
    const { us, dispatches } = await hostCost(() => void fn());
    parts.push(
      `${us.toFixed(0)} µs of the host ${what} of ${dispatches} dispatches, ` +
        `${(us / dispatches).toFixed(1)} each`,
    );
  }
  dispose();
  return `${name}: ${parts.join("; ")}`;
}

const named = new Set<string>();
const { launch } = queue;
queue.launch = (run) => {
  if (!named.has(run.kernel.code)) console.error(`LATHE KERNEL ${run.kernel.name}`);
  named.add(run.kernel.code);
  launch.call(queue, run);
};
const wanted = ({ work, from }: Workload) =>
  name ? nameOf(work) === name : work.op !== "step" && `${nameOf(work)} ${from}`.includes(filter);
for (const { work } of list.filter(wanted)) {
  const small = work.op === "step" ? { ...work, n: Math.min(work.n, batch) } : work;
  const inputs = drawInputs(small);
  const once = latheWork(small, inputs);
  for (const t of once()) t.dispose();
  once.dispose?.();
  for (const t of inputs) t.dispose();
  if (small.op === "step" && provider === "native") console.log(await hostLine(small));
}
// Dawn compiles elsewhere, and a device that does nothing never says that it is done.
await new Promise((resolve) => setTimeout(resolve, 2000));
Deno.exit(0);
