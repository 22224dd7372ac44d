/** @file Runs workloads once for `compiled.ts`, naming each kernel that the driver is about to compile. */

import { init } from "../mod.ts";
import { gpu, reopen } from "../engine/gpu/device.ts";
import { drawInputs, latheWork } from "./lathe.ts";
import { nameOf, type Work } from "./work.ts";
import { workloads } from "./workloads.ts";

const [filter, batch, provider] = Deno.args as [string, string, "native" | "dawn"];
const { features } = await init({ provider });
const f16 = features.has("shader-f16");
const list = workloads({ batch: Number(batch), software: false, f16 });
const named = new Set<string>();
for (const { work, from } of list) {
  if (!`${nameOf(work)} ${from}`.includes(filter)) continue;
  // A device of its own: what was compiled would not be compiled again, and a piece of work fills it.
  await reopen({ provider });
  run(work);
}
// Dawn compiles elsewhere, and a device that does nothing never says that it is done.
await new Promise((resolve) => setTimeout(resolve, 2000));
Deno.exit(0);

function run(work: Work): void {
  const { device, info, queue } = gpu();
  // The device that does nothing multiplies no matrix rightly; NVIDIA's have this shape.
  if (f16 && provider === "dawn") Object.assign(info, { matrixShapes: [{ m: 16, n: 16, k: 16 }] });
  device.lost.then(({ message, reason }) => {
    if (reason === "destroyed") return;
    console.log(`${nameOf(work)} is too much for the device: ${message}`);
    Deno.exit(1);
  });
  const { launch } = queue;
  queue.launch = (run) => {
    if (!named.has(run.kernel.code)) console.error(`LATHE KERNEL ${run.kernel.name}`);
    named.add(run.kernel.code);
    launch.call(queue, run);
  };
  const inputs = drawInputs(work);
  const once = latheWork(work, inputs);
  for (const t of once()) t.dispose();
  once.dispose?.();
  for (const t of inputs) t.dispose();
}
