/** Every op's samples on adapters far smaller than any real one, and on one that is planned for as a GPU. */

import { assert, assertEquals } from "@std/assert";
import { gpu, reopen } from "../../engine/gpu/device.ts";
import { allOps, type Op } from "../../engine/op.ts";
import { sizeOf } from "../../engine/shape.ts";
import { checkOp } from "../helpers/check_op.ts";
import { ROOT } from "../helpers/source.ts";

for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
  if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
}

const tested = [...allOps().values()].filter((op) => op.reference !== null);

Deno.test("every op gives what its reference gives as on a GPU with 16 workgroups a side", async () => {
  // Few, so that the small grids of the samples have to be folded as large ones are at 65,535. On a GPU
  // products, norms and optimizers are planned otherwise.
  await reopen({ limits: { maxComputeWorkgroupsPerDimension: 16 } });
  Object.assign(gpu().info, { software: false });
  const problems: string[] = [];
  for (const op of tested) {
    const result = await checkOp(op);
    problems.push(...result.problems.map((p) => `${op.name}: ${p}`));
  }
  assertEquals(problems, []);
  await reopen();
});

/** The largest sample of an op and its first. */
function few(op: Op<unknown>): number[] {
  const work = op.samples.map((s) => s.inputs.reduce((n, i) => n + sizeOf(i.shape), 0));
  return [work.indexOf(Math.max(...work)), 0];
}

Deno.test("an array over the binding limit is cut, or refused by name and limit", async () => {
  // Far below any real limit, so that the samples themselves are over it.
  await reopen({ limits: { maxStorageBufferBindingSize: 1024 } });
  const refusal = /RangeError: Cannot .*(binds at most|this adapter binds)/;
  const problems: string[] = [];
  let refused = 0;
  let runs = 0;
  for (const op of tested) {
    const result = await checkOp(op, { only: few(op), dtypes: false });
    runs += result.counts.samples;
    for (const p of result.problems) {
      if (refusal.test(p)) refused++;
      else problems.push(`${op.name}: ${p}`);
    }
  }
  assertEquals(problems, []);
  assert(refused > 0 && refused < runs / 2, `${refused} of ${runs} refused`);
  await reopen();
});

Deno.test("a kernel with more buffers than the adapter binds is refused", async () => {
  await reopen({ limits: { maxStorageBuffersPerShaderStage: 1 } });
  const { problems } = await checkOp(allOps().get("add")!);
  const message = "Cannot run add_contiguous: it binds 3 buffers and this adapter binds 1";
  assert(problems.some((p) => p.includes(message)), problems[0]);
  await reopen();
});
