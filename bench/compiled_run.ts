/**
 * @file Runs workloads once for `compiled.ts`, naming each kernel that the driver is about to compile: the step
 * of that name, or without one all others that match.
 */

import { init } from "../mod.ts";
import { gpu, reopen } from "../engine/gpu/device.ts";
import { drawInputs, latheWork } from "./lathe.ts";
import { nameOf } from "./work.ts";
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
}
// Dawn compiles elsewhere, and a device that does nothing never says that it is done.
await new Promise((resolve) => setTimeout(resolve, 2000));
Deno.exit(0);
