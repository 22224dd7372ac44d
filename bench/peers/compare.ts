/**
 * @file `deno task bench --peers`: the same work in several libraries, alternating in one run.
 *
 * Every library gets the same random inputs and its results are compared with ours before anything is
 * timed. A sample is the wall time of some runs and one wait for the GPU, less the time that a wait takes
 * when there is nothing to wait for; runs are as many as make a sample long against that wait.
 */

import { readAll } from "../../mod.ts";
import { median } from "../measure.ts";
import { flopsOf, inputsOf, nameOf, type Work } from "../work.ts";
import { convNetInputs } from "./conv_net.ts";
import { drawSpecs } from "../lathe.ts";
import type { HostInput, Job, Library } from "./library.ts";

/** Time of one library for one piece of work. */
export interface PeerTime {
  readonly library: string;
  /** Median milliseconds of one run; NaN where `problem` says why there is none. */
  readonly ms: number;
  /** Median over the rounds of this library's time by ours: above 1 ours is faster. */
  readonly ratio: number;
  readonly problem?: string;
}

/** All libraries on one piece of work, ours first. */
export interface PeerResult {
  readonly name: string;
  readonly from: string;
  readonly flops: number;
  readonly times: readonly PeerTime[];
}

/** How long to measure. */
export interface CompareOptions {
  /** Alternating rounds. */
  readonly rounds: number;
  /** Least time of a sample, milliseconds. */
  readonly sampleMs: number;
}

interface Entry {
  readonly library: Library;
  job: Job | null;
  readonly idleMs: number;
  problem?: string;
  runs: number;
  readonly samples: number[];
}

/** Most runs of a sample: results of some libraries live until the wait. */
const MOST_RUNS = 64;

/** Work that takes longer than so many samples is not repeated in every round. */
const MOST_SAMPLES = 20;

/** exp of the mean logarithm. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((n, v) => n + Math.log(v), 0) / values.length);
}

/** Milliseconds that waiting takes when there is nothing to wait for. */
export async function idleWait(library: Library): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    await library.synchronize();
    times.push(performance.now() - start);
  }
  return median(times);
}

/** Random inputs on the host, from our generator. */
async function hostInputs(work: Work): Promise<HostInput[]> {
  const specs = work.op === "step" ? convNetInputs(work.n) : inputsOf(work);
  const tensors = drawSpecs(specs);
  const data = await readAll(tensors);
  for (const t of tensors) t.dispose();
  return specs.map(({ shape }, i) => ({ shape, data: data[i] as HostInput["data"] }));
}

/**
 * Largest distance between two results, as a share of what rounding may explain: sums of n terms of
 * size s in f32 differ by about 2⁻²⁴ · √n · s, and n is at most the elements of an input.
 */
export function difference(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let worst = 0;
  for (const [i, x] of a.entries()) {
    const y = b[i];
    if (!y || y.length !== x.length) return Infinity;
    let [square, far] = [0, 0];
    for (let j = 0; j < x.length; j++) {
      square += x[j]! ** 2;
      far = Math.max(far, Math.abs(x[j]! - y[j]!));
      if (Number.isNaN(y[j]!)) return Infinity;
    }
    worst = Math.max(worst, far / Math.sqrt(square / x.length || 1));
  }
  return worst;
}

/** Largest difference of results, by their root mean square, that passes for rounding. */
const ALLOWED = 2e-3;

async function prepareAll(
  libraries: readonly (readonly [Library, number])[],
  work: Work,
): Promise<Entry[]> {
  const inputs = await hostInputs(work);
  const entries: Entry[] = [];
  let wanted: readonly Float32Array[] | undefined;
  for (const [library, idleMs] of libraries) {
    const entry: Entry = { library, job: null, idleMs, runs: 1, samples: [] };
    entries.push(entry);
    entry.problem = await failureOf(async () => {
      entry.job = await library.prepare(work, inputs);
      if (!entry.job) return;
      const results = await entry.job.results();
      wanted ??= results;
      const far = difference(wanted, results.slice(0, wanted.length));
      if (far > ALLOWED) throw new Error(`WRONG by ${far.toPrecision(2)}`);
    });
    if (!entry.job) entry.problem ??= "lacks it";
  }
  return entries;
}

async function sample({ library, job, idleMs }: Entry, runs: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < runs; i++) await job!.run();
  await library.synchronize();
  return Math.max(performance.now() - start - idleMs, 1e-3) / runs;
}

/** Times one piece of work in all libraries. */
export async function compare(
  libraries: readonly (readonly [Library, number])[],
  { work, from }: { work: Work; from: string },
  options: CompareOptions,
): Promise<PeerResult> {
  const entries = await prepareAll(libraries, work);
  const running = entries.filter((e) => e.job && !e.problem);
  for (const entry of running) {
    await attempt(entry, async () => {
      const first = await sample(entry, 1);
      if (first > MOST_SAMPLES * options.sampleMs) {
        entry.samples.push(first);
        return;
      }
      const once = first > options.sampleMs ? first : await sample(entry, 2);
      entry.runs = Math.min(MOST_RUNS, Math.max(1, Math.ceil(options.sampleMs / once)));
    });
  }
  for (let round = 0; round < options.rounds; round++) {
    for (const entry of running) {
      const spent = entry.samples.reduce((n, ms) => n + ms, 0) * entry.runs;
      if (entry.samples.length > 0 && spent > MOST_SAMPLES * options.sampleMs) continue;
      await attempt(entry, async () => void entry.samples.push(await sample(entry, entry.runs)));
    }
  }
  for (const { job } of entries) job?.dispose();
  const ours = entries[0]!.samples;
  return {
    name: nameOf(work),
    from,
    flops: flopsOf(work),
    times: entries.map(({ library, samples, problem }) => ({
      library: library.name,
      ms: median(samples),
      ratio: pairedRatio(samples, ours),
      ...(problem ? { problem } : {}),
    })),
  };
}

/** Median of the ratios in each round that has both times; NaN if there is none. */
export function pairedRatio(theirs: readonly number[], ours: readonly number[]): number {
  const rounds = Math.min(theirs.length, ours.length);
  return median(theirs.slice(0, rounds).map((ms, i) => ms / ours[i]!));
}

/** Runs `fn`; an error ends the entry's part in this comparison. */
async function attempt(entry: Entry, fn: () => Promise<void>): Promise<void> {
  if (entry.problem) return;
  const problem = await failureOf(fn);
  if (!problem) return;
  entry.problem = problem;
  entry.samples.length = 0;
}

/**
 * Why `fn` failed, if it did. Libraries print what the GPU refuses and go on without it, so what they
 * print as an error counts as one.
 */
async function failureOf(fn: () => Promise<void>): Promise<string | undefined> {
  const { error: print } = console;
  let printed: string | undefined;
  console.error = (...words: unknown[]) => void (printed ??= words.join(" "));
  try {
    await fn();
  } catch (error) {
    printed = String(error);
  } finally {
    console.error = print;
  }
  return printed === undefined ? undefined : `fails: ${printed.split("\n")[0]}`;
}

/** Column titles of the table. */
export function peerHeader(libraries: readonly string[]): string {
  const [ours, ...others] = libraries;
  return `${"workload".padEnd(54)} ${ours!.padStart(9)} ${"GFLOP/s".padStart(8)}` +
    others.map((name) => ` ${name.padStart(13)} ${"ratio".padStart(7)}`).join("");
}

/** A line of the table: our time and rate, then each library's time and how often it is ours. */
export function formatPeers({ name, flops, times }: PeerResult): string {
  const [ours, ...others] = times;
  const rate = Number.isNaN(flops) ? "" : (flops / ours!.ms / 1e6).toFixed(1);
  const cell = ({ ms, ratio, problem }: PeerTime) =>
    problem
      ? ` ${(problem === "lacks it" ? "–" : "fails").padStart(13)} ${"".padStart(7)}`
      : ` ${ms.toFixed(2).padStart(13)} ${`${ratio.toFixed(2)}x`.padStart(7)}`;
  return `${name.padEnd(54)} ${ours!.ms.toFixed(2).padStart(9)} ${rate.padStart(8)}` +
    others.map(cell).join("");
}

/** Geometric mean and smallest ratio for each library, over results that are right. */
export function summary(results: readonly PeerResult[]): string[] {
  const names = results[0]?.times.slice(1).map((t) => t.library) ?? [];
  return names.flatMap((name) => {
    const right = results.flatMap((r) => {
      const time = r.times.find((t) => t.library === name);
      return time && !time.problem && time.ratio > 0 ? [{ work: r.name, ratio: time.ratio }] : [];
    });
    if (right.length === 0) return [];
    const worst = right.reduce((a, b) => a.ratio < b.ratio ? a : b);
    const mean = geometricMean(right.map((r) => r.ratio));
    return [
      `${name}: geometric mean ${mean.toFixed(2)}x over ${right.length}, ` +
      `least ${worst.ratio.toFixed(2)}x (${worst.work})`,
    ];
  });
}
