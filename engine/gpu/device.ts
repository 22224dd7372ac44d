/**
 * The adapter and device, with every limit the adapter has, and the errors the device reports.
 *
 * There is one device a process. `init` opens it; everything else asks `gpu()` for it.
 */

import { GpuError, NoAdapterError } from "../errors.ts";
import { debug } from "./debug.ts";
import { BufferPool } from "./pool.ts";
import { PipelineCache } from "./pipelines.ts";
import { CommandQueue } from "./queue.ts";

/** What `init` found, in words a person can read. */
export interface DeviceInfo {
  /** Adapter name as the driver gives it, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  readonly adapter: string;
  /** PCI vendor or the implementation's word for it; may be empty. */
  readonly vendor: string;
  /** True when the adapter is a CPU program (lavapipe, SwiftShader): correct, but slow. */
  readonly software: boolean;
  /** Features granted by the device. */
  readonly features: ReadonlySet<string>;
  /** Limits granted by the device. */
  readonly limits: Limits;
  /** Lanes of a subgroup where kernels may use subgroup functions and the size is fixed; else 0. */
  readonly subgroupSize: number;
}

/** The limits kernels and planners look at. */
export interface Limits {
  /** Largest window of a storage buffer one binding can see, bytes. */
  maxStorageBufferBindingSize: number;
  /** Largest buffer, bytes. */
  maxBufferSize: number;
  /** Storage buffers one kernel can bind. */
  maxStorageBuffersPerShaderStage: number;
  /** Workgroups in one grid dimension. */
  maxComputeWorkgroupsPerDimension: number;
  /** Threads in a workgroup. */
  maxComputeInvocationsPerWorkgroup: number;
  /** Bytes of workgroup memory. */
  maxComputeWorkgroupStorageSize: number;
  /** Alignment of a storage binding's offset, bytes. */
  minStorageBufferOffsetAlignment: number;
  /** Alignment of a dynamic uniform offset, bytes. */
  minUniformBufferOffsetAlignment: number;
}

const LIMITS: readonly (keyof Limits)[] = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupsPerDimension",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupStorageSize",
  "minStorageBufferOffsetAlignment",
  "minUniformBufferOffsetAlignment",
];

/** Features asked for where the adapter grants them. None is required. */
const WANTED: readonly string[] = ["shader-f16", "subgroups", "timestamp-query"];

/** Options of {@linkcode init}. */
export interface InitOptions {
  /** A device the caller opened, for instance Dawn's through `npm:webgpu`. */
  device?: GPUDevice;
  /** Which adapter to prefer where there are several. */
  powerPreference?: GPUPowerPreference;
  /** Lower limits than the adapter's, to test how the engine copes with small ones. */
  limits?: Partial<Limits>;
  /** Features not to ask for, to test how the engine does without. */
  without?: readonly string[];
}

/** The open device with its queue, pool and pipelines. */
export class Gpu {
  /** The WebGPU device. */
  readonly device: GPUDevice;
  /** What was found. */
  readonly info: DeviceInfo;
  /** Buffers. */
  readonly pool: BufferPool;
  /** Compiled kernels. */
  readonly pipelines: PipelineCache;
  /** Recorded work. */
  readonly queue: CommandQueue;
  #errors: GpuError[] = [];

  constructor(device: GPUDevice, info: DeviceInfo, options: { enableSubgroups: boolean }) {
    this.device = device;
    this.info = info;
    this.pool = new BufferPool(device, info.limits);
    this.pipelines = new PipelineCache(device, { ...options, limits: info.limits });
    this.queue = new CommandQueue(device, this.pool, this.pipelines, info.limits);
    device.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      this.report(new GpuError(error.message.trim(), { label: "device" }));
    });
    device.lost.then((lost) => {
      if (lost.reason === "destroyed") return;
      this.report(
        new GpuError(`The GPU device was lost: ${lost.message || lost.reason}`, {
          label: "device",
        }),
      );
    });
  }

  /** Limits granted, as {@linkcode DeviceInfo.limits}. */
  get limits(): Limits {
    return this.info.limits;
  }

  /** Keeps an error to be thrown at the next `await`. */
  report(error: GpuError): void {
    this.#errors.push(error);
  }

  /** Throws the first error reported since the last call. */
  throwIfFailed(): void {
    const first = this.#errors[0];
    this.#errors = [];
    if (first) throw first;
  }
}

let current: Gpu | undefined;
let opening: Promise<DeviceInfo> | undefined;

/**
 * Opens the GPU. Call it once before anything else; a second call returns the same device's facts.
 *
 * @returns the adapter, its limits and features
 * @throws {NoAdapterError} if there is no WebGPU adapter
 *
 * @example
 * ```ts
 * import { init } from "../../mod.ts";
 * const info = await init();
 * console.log(info.adapter, info.software ? "(software)" : "");
 * ```
 */
export function init(options: InitOptions = {}): Promise<DeviceInfo> {
  if (current && !options.device) return Promise.resolve(current.info);
  opening ??= open(options).finally(() => opening = undefined);
  return opening;
}

/**
 * The open device.
 *
 * @throws {NoAdapterError} if {@linkcode init} was not awaited first
 */
export function gpu(): Gpu {
  if (!current) {
    throw new NoAdapterError("The GPU is not open: call `await init()` before the first tensor");
  }
  return current;
}

async function open(options: InitOptions): Promise<DeviceInfo> {
  const wgpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  const adapter = options.device ? null : await wgpu?.requestAdapter({
    powerPreference: options.powerPreference ?? "high-performance",
  });
  if (!options.device && !adapter) {
    throw new NoAdapterError(
      "No WebGPU adapter was found: install a Vulkan driver " +
        "(`deno task doctor` says how; Debian and Ubuntu: apt install mesa-vulkan-drivers)",
    );
  }
  const device = options.device ?? await requestDevice(adapter!, options.without ?? []);
  const limits = {} as Limits;
  for (const name of LIMITS) limits[name] = device.limits[name] as number;
  for (const [name, value] of Object.entries(options.limits ?? {}) as [keyof Limits, number][]) {
    limits[name] = name.startsWith("min")
      ? Math.max(limits[name], value)
      : Math.min(limits[name], value);
  }
  const about = adapter?.info ?? device.adapterInfo;
  const description = about ? adapterName(about) : "unknown adapter";
  const software = (about as { isFallbackAdapter?: boolean } | undefined)?.isFallbackAdapter ===
      true || /llvmpipe|lavapipe|swiftshader|software/i.test(description);
  const subgroups = await probeSubgroups(device);
  const sizes = about as { subgroupMinSize?: number; subgroupMaxSize?: number } | undefined;
  const fixed = sizes?.subgroupMinSize === sizes?.subgroupMaxSize;
  const info: DeviceInfo = {
    adapter: description,
    vendor: about?.vendor ?? "",
    software,
    features: new Set<string>(device.features as unknown as Iterable<string>),
    limits,
    subgroupSize: subgroups !== "none" && fixed ? sizes?.subgroupMinSize ?? 0 : 0,
  };
  current = new Gpu(device, info, { enableSubgroups: subgroups === "enable" });
  if (debug().level >= 1) {
    debug().write(
      `[lathe] ${info.adapter}${software ? " (software)" : ""}, features ${
        WANTED.filter((f) => info.features.has(f)).join(" ") || "none"
      }, binding ${limits.maxStorageBufferBindingSize >> 20} MiB`,
    );
  }
  return info;
}

/** The adapter's name; browsers tell vendor and architecture only. */
export function adapterName(about: {
  readonly description: string;
  readonly device?: string;
  readonly vendor: string;
  readonly architecture: string;
}): string {
  const { description, device, vendor, architecture } = about;
  return description || device || [vendor, architecture].filter((w) => w).join(" ") ||
    "unknown adapter";
}

/** Asks for the adapter's own limits and each wanted feature that it grants. */
async function requestDevice(
  adapter: GPUAdapter,
  without: readonly string[],
): Promise<GPUDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name] as number;
  // `subgroups` is missing from Deno's adapter.features but granted by name (Deno 2.9.6), so each
  // subset is tried rather than looked up.
  const listed = WANTED.filter((f) => adapter.features.has(f as GPUFeatureName));
  const tries = [[...new Set([...listed, "subgroups"])], listed, []]
    .map((features) => features.filter((f) => !without.includes(f)));
  let failure: unknown;
  for (const features of tries) {
    try {
      return await adapter.requestDevice({
        label: "lathe",
        requiredFeatures: features as GPUFeatureName[],
        requiredLimits,
      });
    } catch (error) {
      failure = error;
    }
  }
  throw new NoAdapterError(
    `The adapter ${adapter.info?.description ?? ""} gave no device: ${failure}`,
    { cause: failure },
  );
}

/**
 * Whether subgroup functions compile, and whether the text must enable them: naga (Deno 2.9.6) refuses
 * `enable subgroups;` and Dawn requires it.
 */
async function probeSubgroups(device: GPUDevice): Promise<"plain" | "enable" | "none"> {
  if (!device.features.has("subgroups" as GPUFeatureName)) return "none";
  const code = "@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) " +
    "{ let x = subgroupBroadcast(i, 0u); }";
  for (
    const [answer, text] of [["plain", code], ["enable", `enable subgroups;\n${code}`]] as const
  ) {
    device.pushErrorScope("validation");
    device.createShaderModule({ label: "subgroup probe", code: text });
    if (await device.popErrorScope() === null) return answer;
  }
  return "none";
}

/** Replaces the open device, for tests that fake limits. Tensors of the old one stay with it. */
export async function reopen(options: InitOptions = {}): Promise<DeviceInfo> {
  current = undefined;
  return await open(options);
}
