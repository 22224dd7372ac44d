import { checkOptions } from "../../engine/arguments.ts";

/** One reading of {@linkcode ResourceMonitor.sample}; what cannot be known is undefined. */
export interface ResourceSample {
  /** CPU time of this process since the sample before, in percent of all cores. */
  cpuPercent: number | undefined;
  /** Cores the percentage refers to. */
  cores: number;
  /** Resident bytes of this process. */
  processBytes: number | undefined;
  /** Memory in use on the whole machine, in percent. */
  memoryPercent: number | undefined;
  /** GPU bytes the engine holds now. */
  gpuLiveBytes: number | undefined;
  /** Most GPU bytes the engine has held. */
  gpuPeakBytes: number | undefined;
  /** Name of the adapter. */
  adapter: string | undefined;
}

/** GPU memory as the engine's `memory()` reports it. */
export interface GpuMemory {
  liveBytes: number;
  pooledBytes: number;
  peakBytes: number;
}

/** Options of {@linkcode ResourceMonitor}. */
export interface ResourceMonitorOptions {
  /** Name of the adapter. */
  adapter?: string;
  /** Reads the engine's memory counters; `engine.memory` fits. */
  gpuMemory?: () => GpuMemory;
  /** Clock in milliseconds. Default `performance.now`. */
  now?: () => number;
}

interface ProcessGlobal {
  process?: { cpuUsage?: () => { user: number; system: number } };
}

const MIB = 1024 ** 2;

/**
 * Reads CPU, memory and GPU memory use. Never prompts: without `--allow-sys=systemMemoryInfo` the
 * machine's memory reads `n/a`.
 *
 * @example
 * ```ts
 * import { init, memory } from "../../mod.ts";
 * import { formatResources, ResourceMonitor } from "./resources.ts";
 *
 * const { adapter } = await init();
 * const monitor = new ResourceMonitor({ adapter, gpuMemory: memory });
 * for (const line of formatResources(monitor.sample())) console.log(line);
 * ```
 */
export class ResourceMonitor {
  readonly #options: ResourceMonitorOptions;
  readonly #now: () => number;
  #cpuMs: number | undefined;
  #time: number;

  constructor(options: ResourceMonitorOptions = {}) {
    checkOptions("make ResourceMonitor", options, "new ResourceMonitor({ adapter })");
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#cpuMs = cpuMilliseconds();
    this.#time = this.#now();
  }

  /** Reads everything now. CPU use is over the time since the last call, or since the start. */
  sample(): ResourceSample {
    const cores = navigator.hardwareConcurrency;
    const time = this.#now();
    const cpuMs = cpuMilliseconds();
    const wall = (time - this.#time) * cores;
    const busy = cpuMs === undefined || this.#cpuMs === undefined ? undefined : cpuMs - this.#cpuMs;
    this.#time = time;
    this.#cpuMs = cpuMs;
    const gpu = this.#options.gpuMemory?.();
    return {
      cpuPercent: busy === undefined || wall <= 0 ? undefined : Math.min(100, (100 * busy) / wall),
      cores,
      processBytes: processBytes(),
      memoryPercent: memoryPercent(),
      gpuLiveBytes: gpu?.liveBytes,
      gpuPeakBytes: gpu?.peakBytes,
      adapter: this.#options.adapter,
    };
  }
}

/** The lines of the notebooks' monitor, without their end of line. */
export function formatResources(sample: ResourceSample): string[] {
  const live = formatMib(sample.gpuLiveBytes);
  const peak = formatMib(sample.gpuPeakBytes);
  return [
    `GPU 0: ${sample.adapter ?? "n/a"}`,
    `  Memory Usage: ${live} (Held by the engine) / ${peak} (Peak)`,
    `CPU Usage: ${formatPercent(sample.cpuPercent)} (This process, of ${sample.cores} cores)`,
    `Memory Usage: ${formatPercent(sample.memoryPercent)}, ` +
    `${formatMib(sample.processBytes)} by this process`,
    "-".repeat(60),
  ];
}

function formatMib(bytes: number | undefined): string {
  return bytes === undefined ? "n/a" : `${(bytes / MIB).toFixed(1)} MiB`;
}

function formatPercent(percent: number | undefined): string {
  return percent === undefined ? "n/a" : `${percent.toFixed(1)}%`;
}

/** User and system time of this process in milliseconds; undefined in a browser. */
function cpuMilliseconds(): number | undefined {
  const usage = (globalThis as ProcessGlobal).process?.cpuUsage?.();
  return usage && (usage.user + usage.system) / 1000;
}

function processBytes(): number | undefined {
  return typeof Deno === "undefined" ? undefined : Deno.memoryUsage().rss;
}

function memoryPercent(): number | undefined {
  if (typeof Deno === "undefined") return undefined;
  const { state } = Deno.permissions.querySync({ name: "sys", kind: "systemMemoryInfo" });
  if (state !== "granted") return undefined;
  const { total, available } = Deno.systemMemoryInfo();
  return total > 0 ? (100 * (total - available)) / total : undefined;
}
