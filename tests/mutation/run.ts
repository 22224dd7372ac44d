/**
 * @file `deno task test:mutation`: plants faults in the kernels, one at a time, and counts how many the
 * tests catch. Arguments pick kernels whose names hold one of them; `--list` names the faults;
 * `--part=1/2` takes every second kernel from the first on, so that two processes share the work;
 * `--after=NAME` goes on behind a kernel, where a run broke off;
 * `--cases=WORD` collects only the cases whose names hold the word, which is quicker and proves less.
 *
 * A kernel's faults are tried on the cases that run it; see `cases.ts`. A fault whose text does not
 * compile is no fault and is not counted, nor is one that changes no result; see `EQUIVALENT`. Ends
 * with `N of M planted faults caught`.
 */

import { gpu, init } from "../../engine/gpu/device.ts";
import type { Kernel } from "../../engine/kernels/kernel.ts";
import { synchronize } from "../../engine/read.ts";
import { kernelNames, variantsOf } from "../helpers/kernel_names.ts";
import { type Case, opCases, testCases } from "./cases.ts";
import { EQUIVALENT, faultsOf, fused } from "./faults.ts";

/** The texts under one name, for several dtypes, and the cases that launch any of them. */
interface Used {
  readonly texts: Map<string, Kernel>;
  readonly cases: Case[];
}

/** Kernels that tests bring along. */
const OF_TESTS = /^(poison$|planted_|philox_known)/;

/**
 * Chains are made of expressions that have kernels of their own, wherever a gradient happens to form one; how
 * they are put together is for one file to test.
 */
const CHAIN = /\bfn link0\(/;
const CHAINS_TEST = "tests/engine/chain_test.ts";

const ENDING = new WeakMap<Kernel, Kernel>();

/** The kernel with loops that end whatever its buffers hold. */
function ending(kernel: Kernel): Kernel {
  if (OF_TESTS.test(kernel.name)) return kernel;
  let known = ENDING.get(kernel);
  if (!known) ENDING.set(kernel, known = { ...kernel, code: fused(kernel.code) });
  return known;
}

/** Seconds after which a fault is worth a line. */
const SLOW = 20;

/** Cases between two collections of what tests leave: V8 does not see what GPU objects weigh. */
const COLLECT = 32;
let runs = 0;

/** Runs a case; true if something is wrong. */
async function fails(subject: Case): Promise<boolean> {
  if (++runs % COLLECT === 0) (globalThis as { gc?: () => void }).gc?.();
  try {
    const problems = await subject.run();
    await synchronize();
    return problems.length > 0;
  } catch (error) {
    // What else the fault broke must not be thrown in the next case.
    await synchronize().catch(() => {});
    if (String(error).includes("does not compile")) throw error;
    return true;
  }
}

/** The kernels that the cases launch, by name. */
async function usedKernels(cases: readonly Case[]): Promise<Map<string, Used>> {
  const used = new Map<string, Used>();
  const { queue } = gpu();
  const { launch } = queue;
  let current: Case | null = null;
  queue.launch = (run) => {
    launch.call(queue, run);
    const { kernel } = run;
    if (!current || run.grid.includes(0) || OF_TESTS.test(kernel.name)) return;
    if (CHAIN.test(kernel.code) && !current.name.includes(CHAINS_TEST)) return;
    const known: Used = used.get(kernel.name) ?? { texts: new Map(), cases: [] };
    known.texts.set(kernel.code, kernel);
    if (known.cases.at(-1) !== current) known.cases.push(current);
    used.set(kernel.name, known);
  };
  for (const subject of cases) {
    current = subject;
    const start = performance.now();
    if (await fails(subject)) {
      console.log(`left out: ${subject.name} fails without a fault`);
      for (const known of used.values()) {
        if (known.cases.at(-1) === subject) known.cases.pop();
      }
    }
    subject.seconds = (performance.now() - start) / 1000;
  }
  queue.launch = launch;
  return used;
}

/** Cases of the op that the kernel is named after first: they are likeliest to tell. Tests last. */
function ordered(name: string, { cases }: Used): Case[] {
  const rank = (c: Case) => c.op === "" ? 2 + c.seconds : name.startsWith(c.op) ? 0 : 1;
  return cases.toSorted((a, b) => rank(a) - rank(b));
}

/** The faults of a kernel: each slip in every text that has the place. */
function slips({ texts }: Used): { what: string; planted: Map<string, Kernel> }[] {
  const found = new Map<string, { what: string; planted: Map<string, Kernel> }>();
  for (const kernel of texts.values()) {
    for (const { what, slip, code } of faultsOf(kernel)) {
      const known = found.get(slip) ?? { what, planted: new Map() };
      known.planted.set(kernel.code, { ...kernel, code });
      found.set(slip, known);
    }
  }
  return [...found.values()];
}

/** Runs the cases with those texts in place of others, until one fails. */
async function outcomeOf(
  cases: readonly Case[],
  planted: ReadonlyMap<string, Kernel>,
): Promise<"caught" | "survived" | "invalid"> {
  const { pipelines } = gpu();
  const { get } = pipelines;
  pipelines.get = (k) => get.call(pipelines, planted.get(k.code) ?? k);
  let outcome: "survived" | "invalid" = "survived";
  try {
    for (const subject of cases) {
      try {
        if (await fails(subject)) return "caught";
      } catch {
        outcome = "invalid";
      }
    }
    return outcome;
  } finally {
    pipelines.get = get;
    // Thousands of them would fill the memory.
    for (const kernel of planted.values()) pipelines.forget(kernel);
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

/** Variants of kernels that nothing launched. */
function unreached(names: readonly string[]): string[] {
  return kernelNames().flatMap(variantsOf)
    .filter((variant) => !names.some((name) => new RegExp(`^${variant}$`).test(name)));
}

/** What follows `flag` among the arguments; "" where it is not there. */
function valueOf(flag: string): string {
  return Deno.args.find((a) => a.startsWith(flag))?.slice(flag.length) ?? "";
}

/** Every kernel, or those of the part that `--part=I/N` names. */
function ofPart(names: string[]): string[] {
  const part = valueOf("--part=");
  if (part === "") return names;
  const [, i = 0, n = 0] = /^(\d+)\/(\d+)$/.exec(part)?.map(Number) ?? [];
  if (i < 1 || i > n) throw new Error(`--part=${part} is no part: --part=1/2 is the first of two`);
  return names.filter((_, at) => at % n === i - 1);
}

async function main(): Promise<number> {
  const list = Deno.args.includes("--list");
  const words = Deno.args.filter((w) => !w.startsWith("--"));
  await init();
  // What a faulty kernel writes may be another's bounds.
  const { pipelines } = gpu(), { get } = pipelines;
  pipelines.get = (k) => get.call(pipelines, ending(k));
  const word = valueOf("--cases=");
  const cases = [...await opCases(), ...await testCases()].filter((c) => c.name.includes(word));
  const used = await usedKernels(cases);
  if (word === "") {
    for (const variant of unreached([...used.keys()])) console.log(`not reached: ${variant}`);
  }
  const part = ofPart(
    families(used.keys()).filter((n) => words.length === 0 || words.some((w) => n.includes(w))),
  );
  const names = part.slice(part.indexOf(valueOf("--after=")) + 1);
  const counts = { caught: 0, survived: 0, invalid: 0, equivalent: 0 };
  const start = performance.now();
  for (const name of names) {
    const entry = used.get(name)!;
    const cases = ordered(name, entry);
    for (const { what, planted } of slips(entry)) {
      if (list) {
        console.log(`${name} (${cases.length} cases): ${what}`);
        continue;
      }
      if (EQUIVALENT.some(([k, w]) => k.test(name) && w.test(what))) {
        counts.equivalent++;
        continue;
      }
      const begin = performance.now();
      const outcome = await outcomeOf(cases, planted);
      const took = (performance.now() - begin) / 1000;
      if (took > SLOW) console.log(`${took.toFixed(0)} s for ${name}: ${what}`);
      counts[outcome]++;
      const tried = counts.caught + counts.survived;
      if (tried % 100 === 0) console.log(`${tried} tried, the last in ${name}`);
      if (outcome === "survived") console.log(`survived in ${name}: ${what}`);
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
