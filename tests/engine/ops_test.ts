/**
 * Tests generated from the op records: every op, every sample. `tests/helpers/check_op.ts` says what is
 * compared and derives the tolerances.
 */

import { assert } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import { memory, synchronize } from "../../engine/read.ts";
import { checkOp, type Counts } from "../helpers/check_op.ts";
import { ROOT } from "../helpers/source.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

// A record registers itself when its file is loaded, so a new file is picked up by itself.
for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
  if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
}

/** Ops whose results are random, and the tests that check them in place of a reference. */
const RANDOM: Readonly<Record<string, string>> = { dropout: "tests/engine/rng_test.ts" };

const total: Counts = { samples: 0, forward: 0, gradients: 0, dtypes: 0 };

for (const op of allOps().values()) {
  if (!op.reference) continue;
  Deno.test(`${op.name} gives what its reference and its differences give`, async () => {
    await init();
    await synchronize();
    const before = memory().liveBytes;
    const { problems, counts } = await checkOp(op);
    for (const key of Object.keys(total) as (keyof Counts)[]) total[key] += counts[key];
    const shown = problems.slice(0, 8).map((p) => `  ${p}`).join("\n");
    assert(problems.length === 0, `${problems.length} arrays differ in ${op.name}:\n${shown}`);
    assertNothingLeft(before, "bytes left behind");
  });
}

Deno.test("every op has samples, a reference and a gradient, or says why not", () => {
  const ops = [...allOps().values()];
  assert(ops.length > 40, `only ${ops.length} ops found`);
  for (const op of ops) {
    assert(op.samples.length > 0, `${op.name} has no samples`);
    assert(op.reference || RANDOM[op.name], `${op.name} has no reference and no reason for it`);
    assert(!op.reference || !RANDOM[op.name], `${op.name} has a reference now`);
    if ("notDifferentiable" in op.backward) {
      assert(op.backward.notDifferentiable.length > 10, `${op.name} does not say why`);
    } else if (op.reference) {
      const checked = op.samples.some((s) => s.grad !== false);
      assert(checked, `${op.name} has a gradient that no sample checks`);
    }
  }
});

Deno.test("the generated tests covered what there is", () => {
  // Run alone (--filter) there is nothing to count.
  if (total.samples === 0) return;
  console.log(
    `      ${allOps().size} ops, ${total.samples} samples, ${total.forward} forward runs, ` +
      `${total.gradients} gradients, ${total.dtypes} runs in other dtypes`,
  );
  assert(total.gradients > total.samples);
});
