/**
 * @file `deno task test:mutation`: plants faults in the kernels, one at a time, and counts how many the
 * generated tests catch. Arguments pick kernels whose names hold one of them; `--list` names the faults.
 *
 * A kernel's faults are tried on the samples that run it. A fault whose text does not compile is no
 * fault and is not counted. Ends with `N of M planted faults caught`.
 */

import { gpu, reopen } from "../../engine/gpu/device.ts";
import type { Kernel } from "../../engine/kernels/kernel.ts";
import { allOps, type Op } from "../../engine/op.ts";
import { checkOp } from "../helpers/check_op.ts";
import { ROOT } from "../helpers/source.ts";
import { EQUIVALENT, type Fault, faultsOf } from "./faults.ts";

/** One run of the generated tests: an op with one of its samples, or with all other dtypes. */
interface Case {
  readonly op: Op<unknown>;
  readonly sample: number | "dtypes";
}

/** Runs a case; true if something differs from its reference. */
async function fails({ op, sample }: Case): Promise<boolean> {
  const options = sample === "dtypes" ? { only: [] } : { only: [sample], dtypes: false };
  try {
    return (await checkOp(op, options)).problems.length > 0;
  } catch (error) {
    if (error instanceof Error && error.message.includes("does not compile")) throw error;
    return true;
  }
}

/** The kernels that the generated tests launch, by name, each with the cases that launch it. */
async function usedKernels(): Promise<Map<string, { kernel: Kernel; cases: Case[] }>> {
  const used = new Map<string, { kernel: Kernel; cases: Case[] }>();
  await reopen();
  const { queue } = gpu();
  const { launch } = queue;
  let current: Case | null = null;
  queue.launch = (run) => {
    launch.call(queue, run);
    if (run.grid.includes(0)) return; // nothing runs
    const known = used.get(run.kernel.name) ?? { kernel: run.kernel, cases: [] };
    if (known.kernel.code !== run.kernel.code) return;
    if (current && !known.cases.includes(current)) known.cases.push(current);
    used.set(run.kernel.name, known);
  };
  for (const op of allOps().values()) {
    if (!op.reference) continue;
    const samples: Case["sample"][] = [...op.samples.keys(), "dtypes"];
    for (const sample of samples) {
      current = { op, sample };
      if (await fails(current)) {
        console.log(`left out: ${op.name} fails without a fault, sample ${sample}`);
        for (const { cases } of used.values()) {
          if (cases.at(-1) === current) cases.pop();
        }
      }
    }
  }
  return used;
}

/** Cases of the op that the kernel is named after first: they are likeliest to tell. */
function ordered(kernel: Kernel, cases: readonly Case[]): Case[] {
  const own = (c: Case) => kernel.name.startsWith(c.op.name) ? 0 : 1;
  return cases.toSorted((a, b) => own(a) - own(b));
}

async function tryFault(
  { kernel, cases }: { kernel: Kernel; cases: readonly Case[] },
  fault: Fault,
): Promise<"caught" | "survived" | "invalid"> {
  const { device } = gpu();
  await reopen();
  device.destroy();
  gpu().pipelines.rewrite = (k) => k.code === kernel.code ? fault.code : k.code;
  try {
    for (const c of ordered(kernel, cases)) if (await fails(c)) return "caught";
    return "survived";
  } catch {
    return "invalid";
  }
}

/** One kernel a family: of variants by rank only the first. */
function families(names: Iterable<string>): string[] {
  const seen = new Set<string>();
  return [...names].filter((name) => {
    const family = name.replace(/strided\d+/, "strided");
    return !seen.has(family) && seen.add(family);
  });
}

async function main(): Promise<number> {
  const list = Deno.args.includes("--list");
  const words = Deno.args.filter((w) => !w.startsWith("--"));
  for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
    if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
  }
  const used = await usedKernels();
  const names = families(used.keys()).filter((n) =>
    words.length === 0 || words.some((w) => n.includes(w))
  );
  const counts = { caught: 0, survived: 0, invalid: 0, equivalent: 0 };
  const start = performance.now();
  for (const name of names) {
    const entry = used.get(name)!;
    for (const fault of faultsOf(entry.kernel)) {
      if (list) {
        console.log(`${name}: ${fault.what}`);
        continue;
      }
      if (EQUIVALENT.some(([k, what]) => k.test(name) && what.test(fault.what))) {
        counts.equivalent++;
        continue;
      }
      const outcome = await tryFault(entry, fault);
      counts[outcome]++;
      if (outcome === "survived") console.log(`survived in ${name}: ${fault.what}`);
    }
  }
  if (list) return 0;
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  const planted = counts.caught + counts.survived;
  console.log(
    `${names.length} kernels, ${seconds} s; left out: ${counts.invalid} texts that did not compile, ` +
      `${counts.equivalent} faults that change no result\n` +
      `${counts.caught} of ${planted} planted faults caught`,
  );
  return counts.survived === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
