/**
 * @file Dispatches in the trace event format of Chrome and Perfetto.
 *
 * Source: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 */

import type { DispatchTime } from "./gpu/profiler.ts";

/** Numbers of the process and of its tracks. */
const PROCESS = 1;
const KERNELS = 1;
const MODULES = 2;

/** An event that lasts, times in microseconds. */
interface Slice {
  readonly ph: "X";
  readonly name: string;
  readonly cat: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

/** The time line as JSON. */
export function chromeTrace(dispatches: readonly DispatchTime[]): string {
  const name = (what: string, tid: number, text: string) => ({
    ph: "M",
    name: what,
    pid: PROCESS,
    tid,
    args: { name: text },
  });
  return JSON.stringify({
    displayTimeUnit: "ms",
    traceEvents: [
      name("process_name", 0, "GPU"),
      name("thread_name", KERNELS, "kernels"),
      name("thread_name", MODULES, "modules"),
      ...dispatches.map(kernelSlice),
      ...moduleSlices(dispatches),
    ],
  });
}

function kernelSlice({ kernel, grid, cost, where, start, ms }: DispatchTime): Slice {
  return {
    ph: "X",
    name: kernel,
    cat: "kernel",
    pid: PROCESS,
    tid: KERNELS,
    ts: 1e3 * start,
    dur: 1e3 * ms,
    args: {
      grid: grid.join(" x "),
      ...(where?.module ? { module: where.module } : {}),
      ...(where ? { pass: where.backward ? "backward" : "forward" } : {}),
      flops: cost.flops,
      bytes: cost.bytes,
      ...(ms > 0 ? { gflops: cost.flops / ms / 1e6, gbs: cost.bytes / ms / 1e6 } : {}),
    },
  };
}

/** One slice for each stretch of dispatches of the same module and pass, inside those of its parents. */
function moduleSlices(dispatches: readonly DispatchTime[]): Slice[] {
  const slices: Slice[] = [];
  let open: { name: string; cat: string; start: number; end: number }[] = [];
  const close = (depth: number) => {
    for (const { name, cat, start, end } of open.slice(depth)) {
      const at = { pid: PROCESS, tid: MODULES, ts: 1e3 * start, dur: 1e3 * (end - start) };
      slices.push({ ph: "X", name, cat, ...at });
    }
    open = open.slice(0, depth);
  };
  for (const { where, start, ms } of dispatches) {
    const names = where?.module ? where.module.split(".") : [];
    const cat = where?.backward ? "backward" : "forward";
    const differs = names.findIndex((name, i) => open[i]?.name !== name || open[i]?.cat !== cat);
    close(differs < 0 ? names.length : differs);
    for (const name of names.slice(open.length)) open.push({ name, cat, start, end: start });
    for (const slice of open) slice.end = start + ms;
  }
  close(0);
  return slices;
}
