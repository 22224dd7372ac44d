/**
 * The suite on adapters that have less. The engine itself refuses what the faked adapter could not do, so
 * a kernel that asks for more fails.
 *
 * Under each lack every test of the engine and of nn's layers, losses, optimizers, models,
 * metrics and boxes runs as it is, among them every sample of every op in every dtype
 * (`ops_test.ts`). Left out are files that open the device by themselves, that define ops of their own, or
 * that test the table of ops and what is said before `init()`.
 * A test may end in the engine's refusal by name and limit, where what it asks for cannot be had.
 */

import { assert, assertEquals } from "@std/assert";
import { gpu, type InitOptions, reopen } from "../../engine/gpu/device.ts";
import { synchronize } from "../../engine/read.ts";
import { type RegisteredTest, registeredTests, testFiles } from "./registered.ts";

const FOLDERS = ["engine", "nn", "nn/layers", "nn/models", "nn/optim", "nn/vision"];
/** What a file's tests do that only works in a process of their own; the edges of tiles take a minute. */
const ALONE = /\breopen\(|\binit\(\{|\bdefineOp\b|before init\(\)|ops_table|checkEdges/;

const files = FOLDERS.flatMap((folder) =>
  testFiles(`tests/${folder}`, (text) => !ALONE.test(text))
);

/**
 * Frees what a device that is gone has left: V8 does not see that each bind group costs software Vulkan a
 * memory mapping, of which Linux gives a process 65,530. Needs `--expose-gc`; without it, the engine decides.
 */
async function collectGarbage(): Promise<void> {
  (globalThis as { gc?: () => void }).gc?.();
  await new Promise((resolve) => setTimeout(resolve, 0));
}

type Outcome = "passed" | "refused" | "failed";

/** Whether an error says that the adapter cannot do what was asked for. */
function isRefusal(error: Error, most: number): boolean {
  if (error instanceof TypeError) {
    return /^Cannot run \S+ in f16: this adapter lacks it; use f32$/.test(error.message);
  }
  if (!(error instanceof RangeError)) return false;
  if (/^Cannot .*this adapter binds at (most|once)/.test(error.message)) return true;
  // A grid that was folded and is too large even so, not one that its op forgot to fold.
  const grid = /over (\d+) x (\d+) x (\d+) workgroups/.exec(error.message);
  return grid !== null && grid.slice(1).reduce((n, side) => n * Number(side), 1) > most ** 2;
}

async function outcomeOf(test: RegisteredTest): Promise<{ outcome: Outcome; message: string }> {
  try {
    await test.run();
    await synchronize();
    return { outcome: "passed", message: "" };
  } catch (error) {
    await synchronize().catch(() => {});
    const refused = error instanceof Error &&
      isRefusal(error, gpu().limits.maxComputeWorkgroupsPerDimension);
    const message = `${test.file}: ${test.name}: ${error instanceof Error ? error.stack : error}`;
    return { outcome: refused ? "refused" : "failed", message };
  }
}

/** Registers the test that runs the suite on an adapter that lacks something. */
export function testOnAdapter(lack: string, options: InitOptions): void {
  Deno.test(`the suite passes on an adapter with ${lack}`, async () => {
    const counts = { passed: 0, refused: 0, failed: 0 };
    const problems: string[] = [];
    const refused: string[] = [];
    for (const file of files) {
      // A device a file, as under `deno test`.
      await reopen(options);
      const { device, info } = gpu();
      for (const name of options.without ?? []) assert(!info.features.has(name), name);
      if (lack === "no subgroups") assertEquals(info.subgroupSize, 0);
      for (const test of await registeredTests([file])) {
        if (test.ignore) continue;
        const { outcome, message } = await outcomeOf(test);
        counts[outcome]++;
        if (outcome === "failed") problems.push(message);
        if (outcome === "refused") refused.push(message.split("\n")[0]!);
      }
      device.destroy();
      await collectGarbage();
    }
    console.log(
      `      ${files.length} files: ${counts.passed} passed, ${counts.refused} refused by limit:\n` +
        refused.map((r) => `      ${r}`).join("\n"),
    );
    assertEquals(problems, []);
    assert(counts.passed > 300 && counts.refused < counts.passed / 10, JSON.stringify(counts));
    await reopen();
  });
}
