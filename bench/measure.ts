/** @file Time, work and share of the best possible for one piece of work. */

import { gpu } from "../engine/gpu/device.ts";
import { bestMs, timeDispatches } from "../engine/profile.ts";
import { manualSeed, type Roofline, scope, synchronize } from "../mod.ts";
import { checkWork } from "./check.ts";
import { drawInputs, latheWork } from "./lathe.ts";
import { nameOf } from "./work.ts";
import type { Workload } from "./workloads.ts";

/** Result of one piece of work. */
export interface Result {
  readonly name: string;
  readonly from: string;
  /** Median, and the smallest and largest of the runs, milliseconds on the GPU. */
  readonly ms: number;
  readonly low: number;
  readonly high: number;
  /** Milliseconds by the wall clock for one of many runs, one after the other. */
  readonly wallMs: number;
  readonly gflops: number;
  readonly gbs: number;
  /** Shortest time that the roofline allows, over the time it took: 0..1. */
  readonly roofline: number;
  readonly dispatches: number;
  /** Microseconds of the host to encode and submit a dispatch, over all of a run; a submit is part of it. */
  readonly hostUs: number;
  /** Bytes of GPU memory in use at the most, all the work holds included, and of a step its first run. */
  readonly memory: number;
}

/** How to measure. */
export interface MeasureOptions {
  /** Time for each of the two clocks. */
  readonly seconds: number;
  readonly roofline: Roofline;
}

/** Runs that are timed by the GPU at least. */
const LEAST_RUNS = 3;
/** Most runs between two waits. */
const MOST_RUNS = 4096;

/** Middle value; NaN where there is none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  if (sorted.length === 0) return NaN;
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/**
 * Checks a piece of work, warms it up and times it.
 *
 * @throws {Error} Its results are wrong.
 */
export async function measure(
  { work, from }: Workload,
  { seconds, roofline }: MeasureOptions,
): Promise<Result> {
  manualSeed(1);
  await collect();
  const { pool } = gpu();
  pool.resetPeak();
  const { liveBytes } = pool.info();
  const inputs = drawInputs(work);
  const run = latheWork(work, inputs);
  await checkWork(work, inputs, run);
  const once = () => scope(() => void run());
  if (work.op !== "step") {
    pool.resetPeak(); // without the check's memory
    once();
  }
  await synchronize();
  const times: number[] = [];
  let [flops, bytes, dispatches] = [0, 0, 0];
  const end = performance.now() + seconds * 1000;
  while (times.length < LEAST_RUNS || performance.now() < end) {
    const timed = await timeDispatches(once);
    times.push(timed.reduce((n, d) => n + d.ms, 0));
    flops = timed.reduce((n, d) => n + d.cost.flops, 0);
    bytes = timed.reduce((n, d) => n + d.cost.bytes, 0);
    dispatches = timed.length;
  }
  const ms = median(times);
  const wallMs = await wallTime(once, { seconds, guess: ms });
  const hostMs = await hostTime(once);
  const memory = pool.info().peakBytes - liveBytes;
  for (const t of inputs) t.dispose();
  run.dispose?.();
  return {
    name: nameOf(work),
    from,
    ms,
    low: Math.min(...times),
    high: Math.max(...times),
    wallMs,
    gflops: flops / ms / 1e6,
    gbs: bytes / ms / 1e6,
    roofline: bestMs({ flops, bytes }, roofline) / ms,
    dispatches,
    hostUs: 1000 * hostMs / dispatches,
    memory,
  };
}

/** Lets tensors that nobody can reach give their memory back, where the collector can be asked to. */
async function collect(): Promise<void> {
  (globalThis as { gc?: () => void }).gc?.();
  // Finalizers run in a task of their own.
  await new Promise((resolve) => setTimeout(resolve));
}

/**
 * Milliseconds until one run is submitted. After a wait the host's caches are cold, which costs a small step half
 * of its time; behind another run a slow GPU holds the submit up. So it is the shorter of two in a row.
 */
async function hostTime(once: () => void): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < LEAST_RUNS; i++) {
    await synchronize();
    const start = performance.now();
    once();
    const middle = performance.now();
    once();
    const end = performance.now();
    times.push(Math.min(middle - start, end - middle));
  }
  return median(times);
}

/** Milliseconds of one run by the wall clock; what a wait takes when there is nothing to do is taken off. */
async function wallTime(
  once: () => void,
  { seconds, guess }: { seconds: number; guess: number },
): Promise<number> {
  const sample = async (runs: number) => {
    const start = performance.now();
    for (let i = 0; i < runs; i++) once();
    await synchronize();
    return performance.now() - start;
  };
  const idle = median([await sample(0), await sample(0), await sample(0)]);
  const runs = Math.min(MOST_RUNS, Math.max(1, Math.ceil(seconds * 1000 / 3 / guess)));
  const times: number[] = [];
  // Work that is long against the wait and the time for it needs no repeats.
  for (let i = 0; i < (guess > 2000 * seconds ? 1 : LEAST_RUNS); i++) {
    times.push(Math.max(await sample(runs) - idle, 1e-3) / runs);
  }
  return median(times);
}
