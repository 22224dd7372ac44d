/**
 * Time a kernel takes, by timestamp queries: one pass a dispatch, so profiled runs are slower than
 * others, but each kernel's own time is right.
 */

import { GpuError } from "../errors.ts";
import { BufferUsage, MapMode } from "./flags.ts";
import type { Cost } from "./queue.ts";

/** Totals of one kernel over a profiled stretch. */
export interface KernelTime {
  readonly name: string;
  readonly calls: number;
  /** Milliseconds on the GPU. */
  readonly ms: number;
  /** Floating-point operations. */
  readonly flops: number;
  /** Bytes read and written, by the kernels' own account. */
  readonly bytes: number;
}

/** Dispatches one query set can time. */
const MOST = 2048;

/** Collects timestamps of dispatches until `finish`. */
export class Profiler {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  #pending: { name: string; cost: Cost }[] = [];
  #batches: { buffer: GPUBuffer; items: { name: string; cost: Cost }[] }[] = [];

  constructor(device: GPUDevice) {
    if (!device.features.has("timestamp-query")) {
      throw new GpuError("Cannot profile: this adapter has no timestamp queries", {
        label: "profiler",
      });
    }
    this.#device = device;
    this.#queries = device.createQuerySet({
      label: "profiler",
      type: "timestamp",
      count: 2 * MOST,
    });
  }

  /** True when the next dispatch needs a new submit, since the query set is full. */
  get full(): boolean {
    return this.#pending.length >= MOST;
  }

  /** Where the pass of the next dispatch writes its times. */
  next(name: string, cost: Cost): GPUComputePassTimestampWrites {
    const i = this.#pending.push({ name, cost }) - 1;
    return {
      querySet: this.#queries,
      beginningOfPassWriteIndex: 2 * i,
      endOfPassWriteIndex: 2 * i + 1,
    };
  }

  /** Copies the times of this submit out; called before the encoder is finished. */
  resolve(encoder: GPUCommandEncoder): void {
    const count = this.#pending.length;
    if (count === 0) return;
    const size = count * 16;
    const resolved = this.#device.createBuffer({
      label: "profiler resolve",
      size,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    });
    const buffer = this.#device.createBuffer({
      label: "profiler read",
      size,
      usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
    });
    encoder.resolveQuerySet(this.#queries, 0, 2 * count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, buffer, 0, size);
    this.#batches.push({ buffer, items: this.#pending });
    this.#pending = [];
  }

  /** Totals a kernel, the slowest first. */
  async finish(): Promise<KernelTime[]> {
    const totals = new Map<string, { calls: number; ms: number; flops: number; bytes: number }>();
    for (const { buffer, items } of this.#batches) {
      await buffer.mapAsync(MapMode.READ);
      const times = new BigUint64Array(buffer.getMappedRange().slice(0));
      buffer.destroy();
      items.forEach(({ name, cost }, i) => {
        const t = totals.get(name) ?? { calls: 0, ms: 0, flops: 0, bytes: 0 };
        t.calls++;
        t.ms += Number(times[2 * i + 1]! - times[2 * i]!) / 1e6;
        t.flops += cost.flops;
        t.bytes += cost.bytes;
        totals.set(name, t);
      });
    }
    this.#queries.destroy();
    return [...totals].map(([name, t]) => ({ name, ...t })).sort((a, b) => b.ms - a.ms);
  }
}
