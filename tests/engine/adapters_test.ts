/**
 * The generated tests on adapters that have less: every op that has a reference, under each lack. The
 * engine itself refuses what the faked adapter could not do, so a kernel that asks for more fails.
 */

import { assert, assertEquals } from "@std/assert";
import { gpu, type InitOptions, reopen } from "../../engine/gpu/device.ts";
import { allOps, type Op } from "../../engine/op.ts";
import { sizeOf } from "../../engine/shape.ts";
import { checkOp } from "../helpers/check_op.ts";
import { ROOT } from "../helpers/source.ts";

for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
  if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
}

/** Adapters by what they lack. */
const ADAPTERS: Readonly<Record<string, InitOptions>> = {
  // Few, so that the small grids of the samples have to be folded as large ones are at 65,535.
  "16 workgroups a side": { limits: { maxComputeWorkgroupsPerDimension: 16 } },
  "bindings of 1 MiB": { limits: { maxStorageBufferBindingSize: 1 << 20 } },
  "8 storage buffers": { limits: { maxStorageBuffersPerShaderStage: 8 } },
  "no f16": { without: ["shader-f16"] },
  "no subgroups": { without: ["subgroups"] },
};

/** At most two samples of each op, the largest among them; `ops_test.ts` runs them all. */
function few(op: Op<unknown>, turn: number): { only: number[] } {
  const work = op.samples.map((s) => s.inputs.reduce((n, i) => n + sizeOf(i.shape), 0));
  return { only: [work.indexOf(Math.max(...work)), turn % op.samples.length] };
}

const tested = [...allOps().values()].filter((op) => op.reference !== null);

Object.entries(ADAPTERS).forEach(([lack, options], turn) => {
  Deno.test(`every op gives what its reference gives on an adapter with ${lack}`, async () => {
    await reopen(options);
    const { info } = gpu();
    for (const name of options.without ?? []) assert(!info.features.has(name), name);
    if (lack === "no subgroups") assertEquals(info.subgroupSize, 0);
    const problems: string[] = [];
    for (const op of tested) {
      // Other dtypes have kernels of their own, but one lack of room and that of f16 tell enough.
      const dtypes = turn === 0 || lack === "no f16";
      const result = await checkOp(op, { ...few(op, turn), dtypes });
      problems.push(...result.problems.map((p) => `${op.name}: ${p}`));
    }
    assertEquals(problems, []);
    assert(gpu().queue.stats.dispatches > 5 * tested.length);
  });
});

Deno.test("an array over the binding limit is cut, or refused by name and limit", async () => {
  // Far below any real limit, so that the samples themselves are over it.
  await reopen({ limits: { maxStorageBufferBindingSize: 1024 } });
  const refusal = /RangeError: Cannot .*(binds at most|this adapter binds)/;
  const problems: string[] = [];
  let refused = 0;
  let runs = 0;
  for (const op of tested) {
    const result = await checkOp(op, { ...few(op, 0), dtypes: false });
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
