/**
 * Records dispatches and submits them in batches: one compute pass and one submit for all that was
 * recorded since the last flush. The only file that dispatches.
 *
 * A batch is flushed when a result is read, when the outermost `scope` ends, when `synchronize` is
 * awaited, and when the uniform slab is full.
 */

import { GpuError } from "../errors.ts";
import { BufferUsage, MapMode } from "./flags.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { debug } from "./debug.ts";
import type { Limits } from "./device.ts";
import { BindGroups } from "./groups.ts";
import type { Pipeline, PipelineCache } from "./pipelines.ts";
import { type BufferPool, mib } from "./pool.ts";
import type { Graph, GraphRecorder } from "./graph.ts";
import { uniformsOf, writeParam } from "./params.ts";
import type { Profiler } from "./profiler.ts";
import { checkShared, Losses } from "./losses.ts";
import type { Storage } from "./storage.ts";

/** A window of a storage buffer that a kernel sees. */
export interface Binding {
  readonly storage: Storage;
  /** First byte of the window; a multiple of `minStorageBufferOffsetAlignment`. */
  readonly byteOffset: number;
  /** First byte after the window. */
  readonly byteEnd: number;
}

/** One kernel run: what, on which buffers, with which numbers, over which grid. */
export interface Launch {
  readonly kernel: Kernel;
  /** In the order of the kernel's bindings. */
  readonly buffers: readonly Binding[];
  /** A number for each of the kernel's params. */
  readonly params: Readonly<Record<string, number>>;
  /** Workgroups in x, y, z. */
  readonly grid: readonly [number, number, number];
  /** What the run does, for the profiler. */
  readonly cost: Cost;
}

/** Work and traffic of a launch. */
export interface Cost {
  /** Floating-point operations; a fused multiply-add counts 2. */
  readonly flops: number;
  /** Bytes read and written, each operand counted once. */
  readonly bytes: number;
}

/** A dispatch, ready to be encoded. */
export interface Command {
  readonly pipeline: Pipeline;
  /** Uniforms and buffers. */
  readonly group: GPUBindGroup;
  /** First byte of the uniforms in their slab. */
  readonly slabOffset: number;
  readonly grid: readonly [number, number, number];
  readonly cost: Cost;
  /** Where it comes from, while that is tracked. */
  readonly where: Where | undefined;
}

/** The module that work comes from, and whether it belongs to a gradient. */
export interface Where {
  readonly module: string;
  readonly backward: boolean;
}

/** Counters since the device was opened. */
export interface QueueStats {
  dispatches: number;
  submits: number;
  readbacks: number;
}

const SLAB_BYTES = 1 << 18;

/** The command queue of a device. */
export class CommandQueue {
  /** Counters since the device was opened. */
  readonly stats: QueueStats = { dispatches: 0, submits: 0, readbacks: 0 };
  /** Times every dispatch while set. */
  profiler: Profiler | null = null;
  /** Takes every dispatch while set; none runs. */
  recorder: GraphRecorder | null = null;
  /** Bind groups kept for reuse. */
  readonly groups: BindGroups;
  /** Tells where work comes from; set by what knows of modules. */
  where: () => Where | undefined = () => undefined;
  /** In place of `where`, while work is done that was put off. */
  #as: { readonly where: Where | undefined } | null = null;
  readonly #device: GPUDevice;
  readonly #pool: BufferPool;
  readonly #pipelines: PipelineCache;
  readonly #limits: Limits;
  readonly #slab: GPUBuffer;
  /** What the slab holds, with the uniforms that are not sent yet. */
  readonly #slabHost = new ArrayBuffer(SLAB_BYTES);
  readonly #slabView = new DataView(this.#slabHost);
  /**
   * Bytes of the host's copy that may differ from the slab. At first all: under a dynamic offset wgpu does not
   * zero what was never written, and memory that another device gave back is not zero.
   */
  #changed = { from: 0, to: SLAB_BYTES };
  readonly #slabAlign: number;
  #slabUsed = 0;
  #commands: Command[] = [];
  #failures: Promise<GpuError | null>[] = [];
  readonly #losses = new Losses();

  constructor(device: GPUDevice, pool: BufferPool, pipelines: PipelineCache, limits: Limits) {
    this.#device = device;
    this.#pool = pool;
    this.#pipelines = pipelines;
    this.#limits = limits;
    this.#slabAlign = limits.minUniformBufferOffsetAlignment;
    this.#slab = device.createBuffer({
      label: "uniform slab",
      size: SLAB_BYTES,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    this.groups = new BindGroups(device, this.#slab, limits.maxStorageBufferBindingSize);
    pool.onDestroy((id) => this.groups.forget(id));
  }

  /** Commands recorded and not yet submitted. */
  get pending(): number {
    return this.#commands.length;
  }

  /**
   * Records one kernel run.
   *
   * @throws {RangeError} if the grid or a window is over the adapter's limit
   */
  launch(run: Launch): void {
    const { kernel, grid } = run;
    if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return;
    const most = this.#limits.maxComputeWorkgroupsPerDimension;
    // Written so that NaN fails, too: a pass that has a bad grid cannot be submitted any more.
    if (!(grid[0] <= most && grid[1] <= most && grid[2] <= most)) {
      throw new RangeError(
        `Cannot dispatch ${kernel.name} over ${grid.join(" x ")} workgroups: this adapter takes ` +
          `${most} a dimension, so the op must fold its grid`,
      );
    }
    for (let i = 0; i < run.buffers.length; i++) {
      const { storage } = run.buffers[i]!;
      if (storage.readers && kernel.access[i] === "write") storage.settleReaders();
    }
    this.#checkBindings(run);
    checkShared(run);
    const pipeline = this.#pipelines.get(kernel);
    const where = this.#as ? this.#as.where : this.where();
    if (this.recorder) this.recorder.add({ ...run, pipeline, uniforms: uniformsOf(run), where });
    else {
      if (this.#slabUsed + 256 > SLAB_BYTES) this.flush();
      const { batch } = this.#pool;
      this.#losses.noteLaunch(run, batch);
      const slabOffset = this.#writeParams(run);
      for (const b of run.buffers) b.storage.pooled.lastBatch = batch;
      const group = this.groups.get(pipeline, run.buffers);
      this.#commands.push({ pipeline, group, slabOffset, grid, cost: run.cost, where });
      this.stats.dispatches++;
    }
    if (debug().level >= 2) this.#print(run);
  }

  /** Runs `fn` with what it records counted as coming from `where`. */
  as<T>(where: Where | undefined, fn: () => T): T {
    const before = this.#as;
    this.#as = { where };
    try {
      return fn();
    } finally {
      this.#as = before;
    }
  }

  /** Submits everything recorded. */
  flush(): void {
    if (this.#commands.length === 0) return;
    this.#device.pushErrorScope("out-of-memory");
    this.#device.pushErrorScope("validation");
    this.#writeSlab();
    const encoder = this.#device.createCommandEncoder({ label: `batch ${this.#pool.batch}` });
    if (this.profiler) this.#encodeTimed(encoder, this.profiler);
    else {
      const pass = encoder.beginComputePass({ label: `batch ${this.#pool.batch}` });
      this.#encode(pass, this.#commands);
      pass.end();
    }
    this.#device.queue.submit([encoder.finish()]);
    const names = this.#commands.map((c) => c.pipeline.kernel.name);
    this.#watch(names, this.#pool.batch);
    this.#watch(names, this.#pool.batch);
    this.#commands = [];
    this.#slabUsed = 0;
    this.stats.submits++;
    this.#pool.batch++;
    if (this.#pool.batch % 64 === 0) this.#pool.trim();
  }

  /** Sends what has changed: nothing in a loop whose steps launch the same. Each write costs ~100 µs. */
  #writeSlab(): void {
    const { from, to } = this.#changed;
    if (from < to) {
      this.#device.queue.writeBuffer(this.#slab, from, this.#slabHost, from, to - from);
    }
    this.#changed = { from: SLAB_BYTES, to: 0 };
  }

  /**
   * Adds the dispatches of a captured graph to those recorded, as they are. Nothing may be put off meanwhile that
   * reads what they write: the tape puts off nothing beyond its walk.
   */
  replay({ commands, buffers, uses, writes }: Graph): void {
    for (const command of commands) this.#commands.push(command);
    for (const pooled of buffers) pooled.lastBatch = this.#pool.batch;
    this.#losses.note({ uses, writes, batch: this.#pool.batch });
    this.stats.dispatches += commands.length;
  }

  /** A uniform buffer of a graph's own. */
  makeSlab(data: ArrayBuffer): GPUBuffer {
    const buffer = this.#device.createBuffer({
      label: "graph uniforms",
      size: data.byteLength + 256,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    // Deno panics at a write of nothing.
    if (data.byteLength > 0) this.#device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  }

  /** Alignment of an offset into uniforms, bytes. */
  get slabAlign(): number {
    return this.#slabAlign;
  }

  /** Alignment of what lies in one storage buffer, bytes; also the least size of a buffer. */
  get storageAlign(): number {
    return Math.max(this.#limits.minStorageBufferOffsetAlignment, 256);
  }

  #encode(pass: GPUComputePassEncoder, commands: readonly Command[]): void {
    let bound: GPUComputePipeline | null = null;
    const offsets = new Uint32Array(1);
    for (const command of commands) {
      if (command.pipeline.pipeline !== bound) {
        bound = command.pipeline.pipeline;
        pass.setPipeline(bound);
      }
      offsets[0] = command.slabOffset;
      pass.setBindGroup(0, command.group, offsets, 0, 1);
      pass.dispatchWorkgroups(command.grid[0], command.grid[1], command.grid[2]);
    }
  }

  /** A pass a dispatch, with timestamps. */
  #encodeTimed(encoder: GPUCommandEncoder, profiler: Profiler): void {
    for (const command of this.#commands) {
      if (profiler.full) profiler.resolve(encoder);
      const { name } = command.pipeline.kernel;
      const pass = encoder.beginComputePass({
        label: name,
        timestampWrites: profiler.next(name, command),
      });
      this.#encode(pass, [command]);
      pass.end();
    }
    profiler.resolve(encoder);
  }

  /**
   * Copies bytes of several buffers back to the host in one go, after all recorded work.
   *
   * @throws {GpuError} the first error of the work so far, or the one that kept a buffer from being written
   */
  async read(windows: readonly Binding[]): Promise<ArrayBuffer[]> {
    if (this.recorder) {
      throw new Error(
        `Cannot read ${
          windows[0]?.storage.label ?? "a tensor"
        } while capture() records: return it ` +
          "from the captured function and read it after the call",
      );
    }
    this.flush();
    const sizes = windows.map((w) => Math.ceil((w.byteEnd - w.byteOffset) / 4) * 4);
    const total = sizes.reduce((a, b) => a + b, 0);
    // The copies are submitted before the first await: later work must not change what is read.
    const staging = total === 0 ? null : this.#copyToStaging(windows, sizes);
    try {
      await this.settle();
      for (const { storage } of windows) {
        const error = this.#losses.of(storage);
        if (error) throw error;
      }
      if (!staging) return windows.map(() => new ArrayBuffer(0));
      this.stats.readbacks++;
      await staging.mapAsync(MapMode.READ);
      const all = staging.getMappedRange();
      let at = 0;
      const parts = windows.map((w, i) => {
        const part = all.slice(at, at + w.byteEnd - w.byteOffset);
        at += sizes[i]!;
        return part;
      });
      staging.unmap();
      return parts;
    } finally {
      staging?.destroy();
    }
  }

  #copyToStaging(windows: readonly Binding[], sizes: readonly number[]): GPUBuffer {
    const total = sizes.reduce((a, b) => a + b, 0);
    const staging = this.#device.createBuffer({
      label: `readback (${mib(total)})`,
      size: total,
      usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
    });
    const encoder = this.#device.createCommandEncoder({ label: "readback" });
    let at = 0;
    windows.forEach((w, i) => {
      if (sizes[i] === 0) return;
      encoder.copyBufferToBuffer(w.storage.pooled.buffer, w.byteOffset, staging, at, sizes[i]!);
      at += sizes[i]!;
    });
    this.#device.queue.submit([encoder.finish()]);
    return staging;
  }

  /** Waits until the GPU has done all recorded work. */
  async synchronize(): Promise<void> {
    this.flush();
    await this.#device.queue.onSubmittedWorkDone();
    await this.settle();
  }

  /** Waits for the error scopes of submitted work and throws the first error. */
  async settle(): Promise<void> {
    const failures = this.#failures;
    this.#failures = [];
    const errors = await Promise.all(failures);
    // A kernel that does not compile makes its batch fail, too: the cause is thrown, once.
    await this.#pipelines.settle();
    for (const error of errors) if (error) throw error;
  }

  #watch(names: string[], batch: number): void {
    this.#failures.push(
      this.#device.popErrorScope().then((error) => {
        if (!error) return null;
        const named = names.find((n) => error.message.includes(n)) ?? names[0] ?? "batch";
        const failure = new GpuError(`Kernel ${named} failed: ${error.message.trim()}`, {
          label: named,
        });
        const to = this.#commands.length > 0 ? this.#pool.batch : this.#pool.batch - 1;
        this.#losses.add({ from: batch, to, error: failure });
        return failure;
      }),
    );
  }

  #writeParams(run: Launch): number {
    const offset = this.#slabUsed;
    const { params } = run.kernel;
    for (let i = 0; i < params.length; i++) {
      const at = offset + i * 4;
      const before = this.#slabView.getUint32(at, true);
      writeParam(this.#slabView, at, run, i);
      if (this.#slabView.getUint32(at, true) === before) continue;
      this.#changed.from = Math.min(this.#changed.from, at);
      this.#changed.to = Math.max(this.#changed.to, at + 4);
    }
    const bytes = Math.max(params.length * 4, 4);
    this.#slabUsed += Math.ceil(bytes / this.#slabAlign) * this.#slabAlign;
    return offset;
  }

  #checkBindings({ buffers, kernel }: Launch): void {
    if (buffers.length !== kernel.access.length) {
      throw new Error(
        `Kernel ${kernel.name} binds ${kernel.access.length} buffers, was given ${buffers.length}`,
      );
    }
    const most = this.#limits.maxStorageBufferBindingSize;
    for (const { storage, byteOffset, byteEnd } of buffers) {
      const size = byteEnd - byteOffset;
      if (size <= most) continue;
      throw new RangeError(
        `Cannot bind ${storage.label} to ${kernel.name}: it needs ${mib(size)} and this ` +
          `adapter binds at most ${mib(most)}`,
      );
    }
  }

  #print(run: Launch): void {
    const { flops, bytes } = run.cost;
    const number = this.recorder ? "taken" : String(this.stats.dispatches);
    debug().write(
      `[lathe] ${number.padStart(6)} ${run.kernel.name.padEnd(32)} ` +
        `${run.grid.join("x").padEnd(14)} ${(flops / 1e6).toFixed(2).padStart(9)} MFLOP ` +
        `${mib(bytes).padStart(10)}  live ${mib(this.#pool.info().liveBytes)}`,
    );
  }
}
