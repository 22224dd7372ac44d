/**
 * The adapter and device, with every limit the adapter has, and the errors the device reports.
 *
 * There is one device a process. `init` opens it; everything else asks `gpu()` for it.
 */

import { checkOptions, given } from "../arguments.ts";
import { GpuError, NoAdapterError } from "../errors.ts";
import { loadDawn } from "./dawn.ts";
import { debug } from "./debug.ts";
import type { MatrixShape } from "../kernels/kernel.ts";
import { MATRICES_FEATURE, matrixShapesOf } from "./matrices.ts";
import { BufferPool } from "./pool.ts";
import { PipelineCache } from "./pipelines.ts";
import { CommandQueue } from "./queue.ts";

/**
 * Whose WebGPU to use: `native` is the runtime's own (wgpu in Deno, the browser's in a page), `dawn` is
 * Chrome's, through `npm:webgpu`.
 */
export type Provider = "native" | "dawn";

/** What `init` found, in words a person can read. */
export interface DeviceInfo {
  /** Where the device comes from; `caller` for one that was handed to `init`. */
  readonly provider: Provider | "caller";
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
  /**
   * Shapes that a subgroup multiplies on matrix units (tensor cores), f16 in and sums in f32, as far as they gave
   * right answers when the device was opened. Only Dawn offers them.
   */
  readonly matrixShapes: readonly MatrixShape[];
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
const WANTED: readonly string[] = [
  "shader-f16",
  "subgroups",
  "timestamp-query",
  MATRICES_FEATURE,
];

/** Options of {@linkcode init}. */
export interface InitOptions {
  /**
   * A device the caller opened, for instance to share it with a renderer. The engine uses what it was
   * opened with: ask for the adapter's limits and for `shader-f16`, `subgroups` and `timestamp-query`.
   * It stays the caller's to destroy; one of Dawn's lives no longer than the `GPU` it came from.
   */
  device?: GPUDevice;
  /**
   * Whose WebGPU to use; `"native"` by default. `"dawn"` loads Dawn from `npm:webgpu@0.6.2` (132 MB, the
   * first time only; Deno only; needs `--allow-ffi`). It reads back in 0.6 ms what Deno's own takes 12 ms
   * for, and may leave out bounds checks. Where a worker ends itself, await `synchronize()` first: Dawn
   * stops the process when a promise of its own is still open then.
   */
  provider?: Provider;
  /**
   * `false` leaves out the checks that keep a shader's indices inside its buffers, and the clearing of
   * workgroup memory: faster, but a wrong index reads or overwrites other memory. Only Dawn has this
   * switch; `true` by default.
   */
  robustness?: boolean;
  /** Which adapter to prefer where there are several; `"high-performance"` by default. */
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
  #lost: GpuError | null = null;

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
    device.lost.then(({ message, reason }) => {
      const how = reason === "destroyed" ? "destroyed" : `lost: ${message || reason}`;
      this.#lost = new GpuError(`The GPU device was ${how}`, { label: "device" });
    });
  }

  /** Whether the device is gone. */
  get lost(): boolean {
    return this.#lost !== null;
  }

  /** Limits granted, as {@linkcode DeviceInfo.limits}. */
  get limits(): Limits {
    return this.info.limits;
  }

  /** Keeps an error to be thrown at the next `await`. */
  report(error: GpuError): void {
    this.#errors.push(error);
  }

  /** Throws the first error reported since the last call; once the device is lost, that each time. */
  throwIfFailed(): void {
    const first = this.#lost ?? this.#errors[0];
    this.#errors = [];
    if (first) throw first;
  }
}

let current: Gpu | undefined;

/** Settles when the calls of {@linkcode init} so far are done: one opens at a time. */
let turn: Promise<unknown> = Promise.resolve();

/** How the open device was asked for; {@linkcode reopen} keeps to it. */
let asked: Pick<InitOptions, "provider" | "robustness"> = {};

/**
 * Opens the GPU. Call it once before anything else; a second call returns the same device's facts. After the
 * device was lost (a driver's reset, `destroy()`) it opens another; what was on the lost one is gone. So it is
 * when another device is given: tensors of the one before then cannot be used.
 *
 * @returns the adapter, its limits and features
 * @throws {NoAdapterError} if there is no WebGPU adapter, or the provider does not load
 * @throws {TypeError} if the options do not go together, or the device is none
 * @throws {GpuError} if the device given is lost
 * @throws {Error} if the GPU is open already, from another provider
 *
 * @example
 * ```ts
 * import { init } from "../../mod.ts";
 * const info = await init();
 * console.log(info.adapter, info.software ? "(software)" : "");
 * ```
 */
export async function init(options: InitOptions = {}): Promise<DeviceInfo> {
  checkInit(options);
  const mine = turn.then(() => openOrKeep(options));
  turn = mine.catch(() => {});
  return await mine;
}

async function openOrKeep(options: InitOptions): Promise<DeviceInfo> {
  const { device } = options;
  if (current && (!device || device === current.device)) {
    sameProvider(current.info, options);
    if (!await isLost(current.device)) return current.info;
  }
  if (device && await isLost(device)) {
    throw new GpuError("Cannot open the GPU: the device given was lost or destroyed", {
      label: "device",
    });
  }
  return current && !device ? await reopen(options) : await open(options);
}

/** Whether a device is lost by now: `lost` settles some time after `destroy()`. */
async function isLost(device: GPUDevice): Promise<boolean> {
  device.pushErrorScope("internal"); // Chrome tells of the loss with the answer, Deno a task later
  await device.popErrorScope().catch(() => null);
  const { promise: later, resolve } = Promise.withResolvers<false>();
  setTimeout(resolve, 0, false);
  return await Promise.race([device.lost.then(() => true), later]);
}

const OPTIONS: readonly (keyof InitOptions)[] = [
  "device",
  "provider",
  "robustness",
  "powerPreference",
  "limits",
  "without",
];

function isDevice(value: unknown): boolean {
  return typeof value === "object" && value !== null && "createBuffer" in value;
}

function checkInit(options: InitOptions): void {
  if (isDevice(options)) {
    throw new TypeError("Cannot open the GPU with a device as options: write init({ device })");
  }
  checkOptions("open the GPU", options, 'init({ powerPreference: "low-power" })', OPTIONS);
  const { device, provider, robustness } = options;
  if (provider !== undefined && provider !== "native" && provider !== "dawn") {
    throw new TypeError(
      `Unknown provider ${JSON.stringify(provider)}: it must be "native" or "dawn"`,
    );
  }
  if (device && provider) {
    throw new TypeError("Cannot take both a device and a provider: leave one out");
  }
  if (device !== undefined && !isDevice(device)) {
    throw new TypeError(
      `Cannot open the GPU with device ${given(device)}: it must be a GPUDevice, as ` +
        "`await adapter.requestDevice()` gives it",
    );
  }
  if (robustness === false && provider !== "dawn") {
    throw new TypeError('Cannot leave out bounds checks here: only provider "dawn" can');
  }
}

/** The facts of the open device, if it is the one asked for. */
function sameProvider(info: DeviceInfo, { provider }: InitOptions): DeviceInfo {
  if (provider && provider !== info.provider) {
    throw new Error(
      `Cannot open the GPU with provider "${provider}": it is open with "${info.provider}"; name the ` +
        "provider in the first call of init()",
    );
  }
  return info;
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

/** The open device, if there is one. */
export function openGpu(): Gpu | undefined {
  return current;
}

/** The entry point of a provider's WebGPU; undefined where the runtime has none. */
export async function openProvider(
  options: Pick<InitOptions, "provider" | "robustness"> = {},
): Promise<GPU | undefined> {
  if (options.provider === "dawn") {
    return await loadDawn({ robustness: options.robustness ?? true });
  }
  return (globalThis.navigator as Navigator | undefined)?.gpu;
}

/**
 * What to do where there is no adapter.
 *
 * @param found `api`: there is a `navigator.gpu`; `page`: this is no Deno; `secure`: no page from plain http.
 */
export function withoutAdapter(found: { api: boolean; page: boolean; secure: boolean }): string {
  if (!found.page) {
    return "No WebGPU adapter was found: install a Vulkan driver " +
      "(`deno task doctor` says how; Debian and Ubuntu: apt install mesa-vulkan-drivers)";
  }
  if (!found.secure) {
    return "There is no WebGPU on a page from plain http: serve it over https, or on localhost";
  }
  return found.api
    ? "No WebGPU adapter was found: turn on hardware acceleration in the browser's settings " +
      "(chrome://gpu says what it can use)"
    : "There is no WebGPU here: take a current Chrome, Edge, Safari or Firefox, or give init() a device";
}

async function open(options: InitOptions): Promise<DeviceInfo> {
  const wgpu = options.device ? undefined : await openProvider(options);
  const adapter = await wgpu?.requestAdapter({
    powerPreference: options.powerPreference ?? "high-performance",
  });
  if (!options.device && !adapter) {
    throw new NoAdapterError(withoutAdapter({
      api: wgpu !== undefined,
      page: !("Deno" in globalThis) || "document" in globalThis,
      secure: Reflect.get(globalThis, "isSecureContext") !== false,
    }));
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
  const subgroupSize = subgroups !== "none" && fixed ? sizes?.subgroupMinSize ?? 0 : 0;
  const info: DeviceInfo = {
    provider: options.device ? "caller" : options.provider ?? "native",
    adapter: description,
    vendor: about?.vendor ?? "",
    software,
    features: new Set<string>(device.features as unknown as Iterable<string>),
    limits,
    subgroupSize,
    matrixShapes: await matrixShapesOf(device, { about, subgroupSize }),
  };
  current = new Gpu(device, info, { enableSubgroups: subgroups === "enable" });
  asked = { provider: options.provider, robustness: options.robustness };
  if (debug().level >= 1) {
    debug().write(
      `[lathe] ${info.adapter}${software ? " (software)" : ""}, ${info.provider}, features ${
        WANTED.filter((f) => info.features.has(f)).join(" ") || "none"
      }, binding ${Math.floor(limits.maxStorageBufferBindingSize / 2 ** 20)} MiB`,
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

/**
 * Replaces the open device by one of the same provider, for tests that fake limits. Tensors of the old
 * one stay with it.
 */
export async function reopen(options: InitOptions = {}): Promise<DeviceInfo> {
  current = undefined;
  return await open(options.device ? options : { ...asked, ...options });
}
