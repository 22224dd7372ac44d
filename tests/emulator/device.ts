/**
 * A GPU in JavaScript, with the part of WebGPU that the engine calls. It is slow, and sees what hardware does
 * not tell: races, threads that part before a barrier or subgroup operation, writes outside of a buffer.
 *
 * Work is done in `submit`, so that promises are fulfilled at once and writes by the host are in order.
 */

import { compile, type Program, wordsIn } from "./compile.ts";
import { Memory, type Now, wordsOf } from "./memory.ts";
import { type Arithmetic, type Runtime, runtimeOf } from "./numbers.ts";
import type { GlobalVar } from "./syntax.ts";
import { Traffic, type Turns } from "./traffic.ts";
import { runDispatch } from "./workgroup.ts";

const MATRIX = /subgroup_matrix_(left|right|result)<f(?:16|32), (\d+), (\d+)>/g;

/** WebGPU's limits where nobody asks for more. */
const DEFAULTS: Readonly<Record<string, number>> = {
  maxStorageBufferBindingSize: 2 ** 27,
  maxBufferSize: 2 ** 28,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupsPerDimension: 65535,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupSizeZ: 64,
  maxComputeWorkgroupStorageSize: 16384,
  minStorageBufferOffsetAlignment: 256,
  minUniformBufferOffsetAlignment: 256,
};

/** The hardware to emulate. */
export interface Hardware extends Arithmetic {
  readonly name: string;
  /** Threads of a subgroup; 0 without subgroups. */
  readonly subgroupSize: number;
  readonly features: readonly string[];
  readonly matrices: readonly { readonly M: number; readonly N: number; readonly K: number }[];
  readonly limits: Readonly<Record<string, number>>;
}

/** What a discrete GPU of NVIDIA's tells of itself, but for the sizes, which this machine could not hold. */
export const DISCRETE: Hardware = {
  name: "emulated discrete GPU",
  subgroupSize: 32,
  features: ["shader-f16", "subgroups", "timestamp-query", "chromium-experimental-subgroup-matrix"],
  matrices: [{ M: 16, N: 16, K: 16 }],
  limits: {
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxBufferSize: 2 ** 31,
    maxStorageBuffersPerShaderStage: 16,
    maxComputeWorkgroupsPerDimension: 65535,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
    maxComputeWorkgroupSizeY: 1024,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupStorageSize: 49152,
    minStorageBufferOffsetAlignment: 32,
    minUniformBufferOffsetAlignment: 64,
  },
  flush: true,
  unfused: false,
  coarse: false,
};

/** Other hardware, by name. */
export const HARDWARE: Readonly<Record<string, Hardware>> = {
  discrete: DISCRETE,
  /** With the largest errors that WGSL allows. */
  coarse: { ...DISCRETE, coarse: true, unfused: true },
  /** Subgroups as AMD's can be, and no matrix units. */
  wide: { ...DISCRETE, subgroupSize: 64, matrices: [] },
  /** What every WebGPU device has, and no more. */
  plain: { ...DISCRETE, subgroupSize: 0, features: [], matrices: [], limits: DEFAULTS },
};

/** Something that WebGPU refuses, told to the error scopes. */
class Refused extends Error {}

class UncapturedError extends Event {
  readonly error: { message: string };

  constructor(message: string) {
    super("uncapturederror");
    this.error = { message };
  }
}

class EmulatedBuffer {
  readonly size: number;
  readonly usage: number;
  readonly label: string;
  readonly device: EmulatedDevice;
  /** Null once it is destroyed. */
  bytes: ArrayBuffer | null;

  constructor(device: EmulatedDevice, { size, usage, label = "" }: GPUBufferDescriptor) {
    this.device = device;
    this.size = size;
    this.usage = usage;
    this.label = label;
    this.bytes = new ArrayBuffer(Math.ceil(size / 4) * 4);
  }

  get data(): ArrayBuffer {
    if (!this.bytes) throw new Refused(`buffer ${this.label} was destroyed`);
    return this.bytes;
  }

  mapAsync(): Promise<void> {
    return this.device.gone
      ? Promise.reject(new DOMException("The device was destroyed", "AbortError"))
      : Promise.resolve();
  }

  getMappedRange(): ArrayBuffer {
    return this.data;
  }

  unmap(): void {}

  destroy(): void {
    this.bytes = null;
  }
}

/** Times of passes, in nanoseconds. */
interface QuerySet {
  readonly times: BigUint64Array;
  destroy(): void;
}

interface TimestampWrites {
  readonly querySet: QuerySet;
  readonly beginningOfPassWriteIndex?: number;
  readonly endOfPassWriteIndex?: number;
}

interface Entry {
  readonly binding: number;
  readonly resource: {
    readonly buffer: EmulatedBuffer;
    readonly offset?: number;
    readonly size?: number;
  };
}

interface Pipeline {
  /** Null where it does not compile. */
  readonly program: Program | null;
  readonly label: string;
  getBindGroupLayout(): object;
}

/** A device on emulated hardware. */
export class EmulatedDevice extends EventTarget {
  /** What went wrong in the kernels so far, each thing once. */
  readonly faults: Set<string> = new Set();
  /**
   * While set, only two workgroups of each dispatch run, and what they load and store is told, reckoned up for all.
   * Results are wrong then, and races are not looked for.
   */
  observe: ((kernel: string, grid: readonly number[], turns: Turns) => void) | null = null;
  readonly features: ReadonlySet<string>;
  readonly limits: Readonly<Record<string, number>>;
  readonly adapterInfo: GPUAdapterInfo;
  readonly lost: Promise<{ reason: string; message: string }>;
  #lose!: (info: { reason: string; message: string }) => void;
  #gone = false;
  readonly queue: EmulatedQueue;
  readonly #hardware: Hardware;
  readonly #runtime: Runtime;
  readonly #scopes: string[][] = [];
  readonly #programs = new Map<string, Program>();

  constructor(
    hardware: Hardware,
    { features, limits, info }: {
      features: readonly string[];
      limits: Readonly<Record<string, number>>;
      info: GPUAdapterInfo;
    },
  ) {
    super();
    this.lost = new Promise((lose) => this.#lose = lose);
    this.#hardware = hardware;
    this.features = new Set(features);
    this.limits = { ...DEFAULTS, ...limits };
    this.adapterInfo = info;
    this.#runtime = runtimeOf(hardware);
    this.queue = new EmulatedQueue(this);
  }

  /** Runs `fn`; what it refuses goes to the innermost scope. */
  attempt<T>(fn: () => T): T | undefined {
    try {
      return fn();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (this.#gone) return undefined;
      const scope = this.#scopes.at(-1);
      if (scope) scope.push(error.message);
      else this.dispatchEvent(new UncapturedError(error.message));
      return undefined;
    }
  }

  pushErrorScope(): void {
    this.#scopes.push([]);
  }

  popErrorScope(): Promise<{ message: string } | null> {
    const [message] = this.#scopes.pop() ?? [];
    return Promise.resolve(message === undefined ? null : { message });
  }

  /** Whether it was destroyed: it does nothing more, and says nothing. */
  get gone(): boolean {
    return this.#gone;
  }

  destroy(): void {
    this.#gone = true;
    this.#lose({ reason: "destroyed", message: "The device was destroyed" });
  }

  createBuffer(descriptor: GPUBufferDescriptor): EmulatedBuffer {
    return new EmulatedBuffer(this, descriptor);
  }

  createShaderModule({ code }: GPUShaderModuleDescriptor): { code: string } {
    this.attempt(() => this.#compile(code));
    return { code };
  }

  createBindGroupLayout(descriptor: object): object {
    return descriptor;
  }

  createPipelineLayout(descriptor: object): object {
    return descriptor;
  }

  createComputePipeline(
    { label = "", compute }: { label?: string; compute: { module: { code: string } } },
  ): Pipeline {
    const program = this.attempt(() => {
      const program = this.#compile(compute.module.code);
      const [x, y, z] = program.workgroup, { limits } = this;
      if (x * y * z > limits.maxComputeInvocationsPerWorkgroup!) {
        throw new Refused(`${label}: workgroups of ${x * y * z} threads`);
      }
      const bytes = program.vars.reduce(
        (n, v) => n + (v.space === "workgroup" ? bytesOf(v) : 0),
        0,
      );
      if (bytes > limits.maxComputeWorkgroupStorageSize!) {
        throw new Refused(`${label}: ${bytes} bytes of workgroup memory`);
      }
      return program;
    });
    return { program: program ?? null, label, getBindGroupLayout: () => ({}) };
  }

  createBindGroup({ entries }: { entries: readonly Entry[] }): readonly Entry[] {
    this.attempt(() => entries.forEach(({ resource }) => this.#own(resource.buffer)));
    return entries;
  }

  #own({ device, label }: EmulatedBuffer): void {
    if (device !== this) throw new Refused(`buffer ${label} is another device's`);
  }

  createQuerySet({ count }: { count: number }): QuerySet {
    return { times: new BigUint64Array(count), destroy() {} };
  }

  createCommandEncoder(): EmulatedEncoder {
    return new EmulatedEncoder(this);
  }

  #compile(code: string): Program {
    const known = this.#programs.get(code);
    if (known) return known;
    try {
      const program = compile(code, this.#runtime);
      for (const [, side, columns, rows] of code.matchAll(MATRIX)) {
        const has = this.#hardware.matrices.some(({ M, N, K }) =>
          Number(columns) === (side === "left" ? K : N) &&
          Number(rows) === (side === "right" ? K : M)
        );
        if (!has) throw new Refused(`no matrices of ${columns} x ${rows} here`);
      }
      this.#programs.set(code, program);
      return program;
    } catch (error) {
      throw new Refused(error instanceof Error ? `error: ${error.message}` : String(error));
    }
  }

  /** Runs a kernel. */
  dispatch(
    { program, label }: Pipeline,
    { group, offset, grid }: {
      group: readonly Entry[];
      offset: number;
      grid: readonly [number, number, number];
    },
  ): void {
    if (!program) throw new Refused(`${label} did not compile`);
    for (const { resource } of group) this.#own(resource.buffer);
    const now: Now = { thread: 0, group: 0, phase: 0, storagePhase: 0 };
    const report = (fault: string) => this.#fault(label, fault);
    const memories: Record<string, Memory | Record<string, number>> = {};
    const written = new Map<EmulatedBuffer, string>();
    for (const v of program.vars) {
      if (v.space === "workgroup") continue;
      const { buffer, offset: start = 0, size } = group.find((e) =>
        e.binding === v.binding
      )!.resource;
      if (v.space === "uniform") {
        memories[v.name] = uniforms(v, buffer.data, start + offset);
        continue;
      }
      const other = written.get(buffer);
      if (other !== undefined && (v.space === "read_write" || other !== v.name)) {
        throw new Refused(`${label}: ${v.name} and ${other} are one buffer`);
      }
      if (v.space === "read_write") {
        for (const e of group) {
          if (e.binding !== v.binding && e.resource.buffer === buffer) {
            throw new Refused(`${label}: ${v.name} is bound twice`);
          }
        }
        written.set(buffer, v.name);
      }
      if (start % this.limits.minStorageBufferOffsetAlignment! !== 0) {
        throw new Refused(`${label}: ${v.name} begins at byte ${start}`);
      }
      const end = Math.min(buffer.size, start + (size ?? buffer.size - start));
      const words = wordsOf(wordsIn(v.type).of, buffer.data, start, end - start);
      const shadow = v.space === "read_write" && !this.observe;
      memories[v.name] = new Memory(words, { name: v.name, now, report, storage: true, shadow });
    }
    const own = program.vars.filter((v) => v.space === "workgroup");
    const fresh = () => {
      for (const v of own) {
        const words = wordsOf(wordsIn(v.type).of, new ArrayBuffer(bytesOf(v)), 0, bytesOf(v));
        memories[v.name] = new Memory(words, {
          name: v.name,
          now,
          report,
          storage: false,
          shadow: !this.observe,
        });
      }
      if (own.length > 0) program.bind(memories);
    };
    program.bind(memories);
    const { subgroupSize } = this.#hardware;
    const groups = grid[0] * grid[1] * grid[2];
    const only = this.observe
      ? new Set([Math.floor(groups / 3), Math.floor(groups / 2)])
      : undefined;
    if (this.observe) now.traffic = new Traffic(now, subgroupSize || 32);
    try {
      runDispatch({ program, grid, subgroupSize: subgroupSize || 1, now, report, fresh, only });
      if (now.traffic) {
        now.traffic.end();
        this.observe?.(label, grid, now.traffic.of(groups));
      }
    } catch (error) {
      report(error instanceof Error ? error.message : String(error));
    }
  }

  #fault(label: string, fault: string): void {
    // One of a kind: a race tends to be at every word.
    const kind = fault.replace(/\d+/g, "N");
    for (const f of this.faults) {
      if (f.startsWith(`${label}: `) && f.replace(/\d+/g, "N").endsWith(kind)) return;
    }
    this.faults.add(`${label}: ${fault}`);
  }
}

/** Bytes of a variable of a workgroup. */
function bytesOf({ type }: GlobalVar): number {
  const { of, words } = wordsIn(type);
  return words! * (of === "f16" ? 2 : 4);
}

/** The members of a struct of numbers. */
function uniforms({ type }: GlobalVar, bytes: ArrayBuffer, offset: number): Record<string, number> {
  if (type.kind !== "struct") throw new TypeError("Uniforms are structs here");
  const view = new DataView(bytes, offset), values: Record<string, number> = {};
  type.members.forEach(({ name, type: of }, i) => {
    const kind = of.kind === "scalar" ? of.name : "";
    values[name] = kind === "f32"
      ? view.getFloat32(4 * i, true)
      : kind === "i32"
      ? view.getInt32(4 * i, true)
      : view.getUint32(4 * i, true);
  });
  return values;
}

class EmulatedQueue {
  readonly #device: EmulatedDevice;

  constructor(device: EmulatedDevice) {
    this.#device = device;
  }

  writeBuffer(
    buffer: EmulatedBuffer,
    offset: number,
    data: ArrayBuffer | ArrayBufferView,
    from = 0,
    count?: number,
  ): void {
    this.#device.attempt(() => {
      const view = ArrayBuffer.isView(data);
      const width = view && "BYTES_PER_ELEMENT" in data ? data.BYTES_PER_ELEMENT as number : 1;
      const all = view
        ? new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
        : new Uint8Array(data);
      const part = all.subarray(
        from * width,
        count === undefined ? undefined : (from + count) * width,
      );
      if (part.length % 4 !== 0 || offset % 4 !== 0) throw new Refused("a write of parts of words");
      if (offset + part.length > buffer.size) {
        throw new Refused(`a write outside of ${buffer.label}`);
      }
      new Uint8Array(buffer.data).set(part, offset);
    });
  }

  submit(lists: readonly (() => void)[][]): void {
    if (this.#device.gone) return;
    this.#device.attempt(() => lists.forEach((list) => list.forEach((command) => command())));
  }

  onSubmittedWorkDone(): Promise<void> {
    return Promise.resolve();
  }
}

class EmulatedEncoder {
  readonly #device: EmulatedDevice;
  readonly #commands: (() => void)[] = [];

  constructor(device: EmulatedDevice) {
    this.#device = device;
  }

  copyBufferToBuffer(
    from: EmulatedBuffer,
    at: number,
    to: EmulatedBuffer,
    offset: number,
    bytes: number,
  ): void {
    this.#commands.push(() => {
      if (at + bytes > from.size || offset + bytes > to.size) throw new Refused("a copy outside");
      new Uint8Array(to.data).set(new Uint8Array(from.data, at, bytes), offset);
    });
  }

  clearBuffer(buffer: EmulatedBuffer, offset = 0, bytes?: number): void {
    this.#commands.push(() => new Uint8Array(buffer.data, offset, bytes).fill(0));
  }

  resolveQuerySet(
    { times }: QuerySet,
    first: number,
    count: number,
    to: EmulatedBuffer,
    offset: number,
  ): void {
    this.#commands.push(() => {
      new BigUint64Array(to.data, offset, count).set(times.subarray(first, first + count));
    });
  }

  beginComputePass(
    { timestampWrites: writes }: { timestampWrites?: TimestampWrites } = {},
  ): object {
    let pipeline: Pipeline, group: readonly Entry[], offset = 0;
    const stamp = (index: number | undefined) => {
      if (!writes || index === undefined) return;
      const { times } = writes.querySet;
      this.#commands.push(() => times[index] = BigInt(Math.round(performance.now() * 1e6)));
    };
    stamp(writes?.beginningOfPassWriteIndex);
    return {
      setPipeline: (given: Pipeline) => pipeline = given,
      setBindGroup(_at: number, given: readonly Entry[], offsets?: Uint32Array) {
        group = given;
        offset = offsets?.[0] ?? 0;
      },
      dispatchWorkgroups: (x: number, y = 1, z = 1) => {
        const work = { group, offset, grid: [x, y, z] as const }, run = pipeline;
        this.#commands.push(() => this.#device.dispatch(run, work));
      },
      end: () => stamp(writes?.endOfPassWriteIndex),
    };
  }

  finish(): (() => void)[] {
    return this.#commands;
  }
}

/** An entry point of WebGPU to emulated hardware, and the devices it has given. */
export function emulatedGpu(hardware: Hardware): { gpu: GPU; devices: EmulatedDevice[] } {
  const devices: EmulatedDevice[] = [];
  const { name, subgroupSize, limits, matrices } = hardware;
  const info = {
    vendor: "nvidia",
    architecture: "",
    device: "",
    description: name,
    subgroupMinSize: subgroupSize,
    subgroupMaxSize: subgroupSize,
    isFallbackAdapter: false,
    subgroupMatrixConfigs: matrices.map((m) => ({
      ...m,
      componentType: "f16",
      resultComponentType: "f32",
    })),
  };
  const adapter = {
    info,
    limits,
    features: new Set(hardware.features),
    requestDevice(
      { requiredFeatures: features = [], requiredLimits: asked = {} }: {
        requiredFeatures?: readonly string[];
        requiredLimits?: Readonly<Record<string, number>>;
      } = {},
    ) {
      const lacking = features.filter((f) => !hardware.features.includes(f));
      const over = Object.keys(asked).filter((name) =>
        name.startsWith("min") ? asked[name]! < limits[name]! : asked[name]! > limits[name]!
      );
      if (lacking.length + over.length > 0) {
        return Promise.reject(new TypeError(`No ${[...lacking, ...over].join(", ")} here`));
      }
      const facts = { features, limits: asked, info: info as unknown as GPUAdapterInfo };
      const device = new EmulatedDevice(hardware, facts);
      devices.push(device);
      return Promise.resolve(device);
    },
  };
  const gpu = { requestAdapter: () => Promise.resolve(adapter) };
  return { gpu: gpu as unknown as GPU, devices };
}

/**
 * Puts emulated hardware in place of this process's WebGPU. From now on each test fails if a kernel raced,
 * parted from a barrier or wrote outside in it.
 */
export function emulate(hardware: Hardware): void {
  const { gpu, devices } = emulatedGpu(hardware);
  Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  Deno.test.afterEach(() => {
    const faults = devices.flatMap(({ faults }) => [...faults]);
    for (const { faults } of devices) faults.clear();
    if (faults.length > 0) {
      throw new Error(`the emulated GPU met faults:\n  ${faults.join("\n  ")}`);
    }
  });
}
