/** @file Where the time of a stretch of work goes: by kernel, by module, on a time line. */

import { checkOptions } from "./arguments.ts";
import { trackModules } from "./check.ts";
import { gpu } from "./gpu/device.ts";
import { type DispatchTime, Profiler } from "./gpu/profiler.ts";
import { measureRoofline, type Roofline } from "./roofline.ts";
import { profileTable, type TableOptions } from "./profile_table.ts";
import { chromeTrace } from "./profile_trace.ts";

export type { DispatchTime } from "./gpu/profiler.ts";

/** Time and work of some dispatches together. */
export interface WorkTime {
  readonly calls: number;
  /** Milliseconds on the GPU. */
  readonly ms: number;
  /** Floating-point operations, by the kernels' own account; a fused multiply-add counts 2. */
  readonly flops: number;
  /** Bytes read and written, by the kernels' own account, each operand once. */
  readonly bytes: number;
}

/** Totals of one kernel over a profiled stretch. */
export interface KernelTime extends WorkTime {
  readonly name: string;
  readonly gflops: number;
  /** GB/s, 10⁹ bytes. */
  readonly gbs: number;
  /** Shortest time that the roofline allows for this work, over the time it took: 0..1. */
  readonly roofline: number;
}

/** Totals of one module, those inside it included. */
export interface ModuleTime extends WorkTime {
  /** As `AlexNet.features.0`; an optimizer under its own name. */
  readonly path: string;
  /** Milliseconds of forward, and of the gradients of what forward ran. */
  readonly forwardMs: number;
  readonly backwardMs: number;
}

/** What {@linkcode profile} found. */
export class Profile {
  /** Every dispatch in order. */
  readonly dispatches: readonly DispatchTime[];
  /** Peaks of the adapter that shares are taken of. */
  readonly roofline: Roofline;
  /** Totals of each kernel, the slowest first. */
  readonly kernels: readonly KernelTime[];
  /** Totals of each module in order of first use; work outside of modules is in none. */
  readonly modules: readonly ModuleTime[];
  /** Milliseconds on the GPU in all. */
  readonly ms: number;

  /** @param dispatches May be those of several profiles, one after the other. */
  constructor(dispatches: readonly DispatchTime[], roofline: Roofline) {
    this.dispatches = dispatches;
    this.roofline = roofline;
    this.kernels = kernelTotals(dispatches, roofline);
    this.modules = moduleTotals(dispatches);
    this.ms = dispatches.reduce((n, d) => n + d.ms, 0);
  }

  /** The heaviest kernels and the modules, as lines of text. */
  table(options: TableOptions = {}): string {
    checkOptions("make a table", options, "profile.table({ kernels: 10 })");
    return profileTable(this, options);
  }

  /**
   * The time line in the trace event format, as JSON: https://ui.perfetto.dev and `chrome://tracing`
   * open it. One track has the kernels, the other the modules they belong to.
   */
  trace(): string {
    return chromeTrace(this.dispatches);
  }

  /** {@linkcode Profile.table} with its defaults. */
  toString(): string {
    return this.table();
  }
}

/** Options of {@linkcode profile}. */
export interface ProfileOptions {
  /** Peaks to compare with; measured once a device by default, which takes a second. */
  roofline?: Roofline;
}

/**
 * Runs `fn` and gives the time each dispatch took on the GPU, with totals by kernel and by module, forward
 * and backward apart. Each dispatch gets a pass of its own while it is profiled. A captured step can be
 * profiled as it is replayed; its modules are known if it was recorded inside `profile`, or with
 * `trackModules(true)`.
 *
 * @throws {GpuError} if the adapter has no timestamp queries
 *
 * @example
 * ```ts
 * import { init, profile, randn } from "../mod.ts";
 * await init();
 * const x = randn([64, 64]);
 * const found = await profile(() => void x.matmul(x).relu());
 * console.log(found.table());
 * for (const k of found.kernels) console.log(k.name, k.ms, k.gflops, k.gbs);
 * ```
 */
export async function profile(
  fn: () => void | Promise<void>,
  options: ProfileOptions = {},
): Promise<Profile> {
  checkOptions("profile", options, "profile(fn, { roofline })");
  const roofline = options.roofline ?? await measureRoofline();
  return new Profile(await timeDispatches(fn), roofline);
}

/** The time of each dispatch that `fn` makes. */
export async function timeDispatches(fn: () => void | Promise<void>): Promise<DispatchTime[]> {
  const { queue, device } = gpu();
  await queue.synchronize();
  const profiler = new Profiler(device);
  const tracked = trackModules(true);
  queue.profiler = profiler;
  try {
    await fn();
    await queue.synchronize();
  } finally {
    queue.profiler = null;
    trackModules(tracked);
  }
  return await profiler.finish();
}

function kernelTotals(dispatches: readonly DispatchTime[], roofline: Roofline): KernelTime[] {
  const totals = new Map<string, WorkTime>();
  for (const d of dispatches) totals.set(d.kernel, plus(totals.get(d.kernel), d));
  return [...totals].map(([name, t]) => ({
    name,
    ...t,
    gflops: t.flops / t.ms / 1e6,
    gbs: t.bytes / t.ms / 1e6,
    roofline: bestMs(t, roofline) / t.ms,
  })).sort((a, b) => b.ms - a.ms);
}

/** Milliseconds that the work takes at least: arithmetic and memory at their peaks, at once. */
export function bestMs(work: { flops: number; bytes: number }, { gflops, gbs }: Roofline): number {
  return Math.max(work.flops / gflops, work.bytes / gbs) / 1e6;
}

function moduleTotals(dispatches: readonly DispatchTime[]): ModuleTime[] {
  const totals = new Map<string, ModuleTime>();
  for (const d of dispatches) {
    for (const path of pathsOf(d)) {
      const t = totals.get(path);
      const backward = d.where?.backward === true;
      totals.set(path, {
        path,
        ...plus(t, d),
        forwardMs: (t?.forwardMs ?? 0) + (backward ? 0 : d.ms),
        backwardMs: (t?.backwardMs ?? 0) + (backward ? d.ms : 0),
      });
    }
  }
  return [...totals.values()];
}

/** `A`, `A.b` and `A.b.c` for a dispatch of `A.b.c`. */
function pathsOf({ where }: DispatchTime): string[] {
  if (!where?.module) return [];
  const names = where.module.split(".");
  return names.map((_, i) => names.slice(0, i + 1).join("."));
}

function plus(total: WorkTime | undefined, { ms, cost }: DispatchTime): WorkTime {
  const { calls, ms: before, flops, bytes } = total ?? { calls: 0, ms: 0, flops: 0, bytes: 0 };
  return {
    calls: calls + 1,
    ms: before + ms,
    flops: flops + cost.flops,
    bytes: bytes + cost.bytes,
  };
}
