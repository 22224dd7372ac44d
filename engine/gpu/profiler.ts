/**
 * Time each dispatch takes, by timestamp queries: one pass a dispatch, so profiled runs are slower than
 * others, but each kernel's own time is right.
 */

import { GpuError } from "../errors.ts";
import { BufferUsage, MapMode } from "./flags.ts";
import type { Command, Cost, Where } from "./queue.ts";

/** One dispatch of a profiled stretch. */
export interface DispatchTime {
  readonly kernel: string;
  /** Workgroups in x, y, z. */
  readonly grid: readonly [number, number, number];
  readonly cost: Cost;
  /** The module it comes from; undefined where nothing tracks modules. */
  readonly where: Where | undefined;
  /** Milliseconds on the GPU's clock, from the first dispatch. */
  readonly start: number;
  /** Milliseconds on the GPU. */
  readonly ms: number;
}

/** A dispatch whose times are still on the GPU. */
type Timed = Omit<DispatchTime, "start" | "ms">;

/** Dispatches one query set can time. */
const MOST = 2048;

/** Collects timestamps of dispatches until `finish`. */
export class Profiler {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  #pending: Timed[] = [];
  #batches: { resolved: GPUBuffer; buffer: GPUBuffer; items: Timed[] }[] = [];

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
  next(kernel: string, { grid, cost, where }: Command): GPUComputePassTimestampWrites {
    const i = this.#pending.push({ kernel, grid, cost, where }) - 1;
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
    this.#batches.push({ resolved, buffer, items: this.#pending });
    this.#pending = [];
  }

  /** Every dispatch in order. */
  async finish(): Promise<DispatchTime[]> {
    const dispatches: DispatchTime[] = [];
    let origin: bigint | undefined;
    for (const { resolved, buffer, items } of this.#batches) {
      await buffer.mapAsync(MapMode.READ);
      const times = new BigUint64Array(buffer.getMappedRange().slice(0));
      buffer.destroy();
      resolved.destroy();
      for (const [i, item] of items.entries()) {
        const [begin, end] = [times[2 * i]!, times[2 * i + 1]!];
        origin ??= begin;
        dispatches.push({
          ...item,
          start: Number(begin - origin) / 1e6,
          ms: Number(end - begin) / 1e6,
        });
      }
    }
    this.#queries.destroy();
    return dispatches;
  }
}
