/**
 * GPU buffers, reused by size class.
 *
 * A buffer freed while work that uses it is still only recorded may be handed out again at once for
 * GPU output: dispatches of one pass run in order. It must not be handed out for a host write, since
 * `queue.writeBuffer` runs before the recorded work is submitted; `take` knows the difference.
 */

import type { Limits } from "./device.ts";
import { BufferUsage } from "./flags.ts";

/** A GPU buffer that belongs to the pool. */
export interface PooledBuffer {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  /** Number of the batch of commands that last used it; see {@linkcode BufferPool.batch}. */
  lastBatch: number;
  /** True while a captured graph uses it: it does not become free with the last tensor. */
  ofGraph?: boolean;
  /** True while a storage holds it. */
  held?: boolean;
}

/** Bytes and buffers the engine holds on the GPU. */
export interface MemoryInfo {
  /** Bytes of buffers that live tensors (and saved activations) use. */
  liveBytes: number;
  /** Bytes of free buffers kept for reuse. */
  pooledBytes: number;
  /** Largest `liveBytes` seen. */
  peakBytes: number;
  /** Buffers in use. */
  buffers: number;
}

/** A free buffer nobody took for this many batches is given back to the driver. */
const KEEP_BATCHES = 64;

/** Reuses GPU buffers and counts them. */
export class BufferPool {
  /** Number of the batch being recorded. The queue raises it at every submit. */
  batch = 1;
  readonly #device: GPUDevice;
  readonly #limits: Limits;
  readonly #free = new Map<number, PooledBuffer[]>();
  readonly #onDestroy: ((id: number) => void)[] = [];
  #nextId = 1;
  #info: MemoryInfo = { liveBytes: 0, pooledBytes: 0, peakBytes: 0, buffers: 0 };

  constructor(device: GPUDevice, limits: Limits) {
    this.#device = device;
    this.#limits = limits;
  }

  /** A copy of the counters. */
  info(): MemoryInfo {
    return { ...this.#info };
  }

  /** Sets the peak back to what is live now. */
  resetPeak(): void {
    this.#info.peakBytes = this.#info.liveBytes;
  }

  /** Calls `listener` with a buffer's id when it is destroyed, so that caches can forget it. */
  onDestroy(listener: (id: number) => void): void {
    this.#onDestroy.push(listener);
  }

  /**
   * The size of the buffer for `bytes`.
   *
   * @throws {RangeError} if the adapter has no buffer that large
   */
  sizeOf(bytes: number, { label, exact }: { label: string; exact?: boolean }): number {
    const { maxBufferSize } = this.#limits;
    const size = exact ? Math.min(bytes, maxBufferSize) : sizeClass(bytes, maxBufferSize);
    if (size >= bytes) return size;
    throw new RangeError(
      `Cannot allocate ${label} of ${mib(bytes)}: this adapter's largest buffer has ` +
        mib(this.#limits.maxBufferSize),
    );
  }

  /**
   * A buffer of at least `bytes`. Its contents are whatever the last user left.
   *
   * @param options.exact Whether it gets its own size, a multiple of 4, not its size class
   * @throws {RangeError} if the adapter has no buffer that large
   */
  take(
    bytes: number,
    options: { label: string; hostWrite?: boolean; exact?: boolean },
  ): PooledBuffer {
    const size = this.sizeOf(bytes, options);
    // The lowest number first: a step that finds the same buffers free takes them in the same order as
    // the step before, in whatever order that one gave them back, so that its bind groups fit again.
    const list = this.#free.get(size);
    let at = list ? list.length - 1 : -1;
    if (options.hostWrite) { while (at >= 0 && list![at]!.lastBatch >= this.batch) at--; }
    let taken: PooledBuffer;
    if (at >= 0) {
      taken = at === list!.length - 1 ? list!.pop()! : list!.splice(at, 1)[0]!;
      this.#info.pooledBytes -= size;
    } else {
      const buffer = this.#device.createBuffer({
        label: `${options.label} (${mib(size)})`,
        size,
        usage: BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST,
      });
      taken = { id: this.#nextId++, buffer, bytes: size, lastBatch: 0 };
    }
    taken.held = true;
    this.#info.liveBytes += size;
    this.#info.buffers++;
    this.#info.peakBytes = Math.max(this.#info.peakBytes, this.#info.liveBytes);
    return taken;
  }

  /** Takes a buffer back. */
  give(pooled: PooledBuffer): void {
    pooled.held = false;
    // Counted as live until the graph is disposed.
    if (pooled.ofGraph) return;
    this.#info.liveBytes -= pooled.bytes;
    this.#info.buffers--;
    this.#info.pooledBytes += pooled.bytes;
    insert(this.#free, pooled);
  }

  /** A buffer of a captured graph, which no storage holds yet. Planned, so it needs no size class. */
  takeForGraph(bytes: number): PooledBuffer {
    return Object.assign(this.take(bytes, { label: "graph", exact: true }), {
      ofGraph: true,
      held: false,
    });
  }

  /** Takes the buffers of a disposed graph back; those still held follow when they are given. */
  giveAll(buffers: Iterable<PooledBuffer>): void {
    for (const pooled of buffers) {
      pooled.ofGraph = false;
      if (!pooled.held) this.give(pooled);
    }
  }

  /** Destroys free buffers not used for `batches` batches. */
  trim(batches: number = KEEP_BATCHES): void {
    for (const [size, list] of this.#free) {
      const kept = list.filter((pooled) => {
        if (pooled.lastBatch + batches >= this.batch) return true;
        pooled.buffer.destroy();
        this.#info.pooledBytes -= pooled.bytes;
        for (const listener of this.#onDestroy) listener(pooled.id);
        return false;
      });
      if (kept.length > 0) this.#free.set(size, kept);
      else this.#free.delete(size);
    }
  }
}

/** Puts a buffer among the free ones of its size, which stand in falling order of their numbers. */
function insert(free: Map<number, PooledBuffer[]>, pooled: PooledBuffer): void {
  const list = free.get(pooled.bytes);
  if (!list) {
    free.set(pooled.bytes, [pooled]);
    return;
  }
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]!.id > pooled.id) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, pooled);
}

/**
 * `bytes` rounded up to a quarter of its power of two: at most 25 % is wasted, and what batches of many
 * lengths leave behind fits the next ones.
 */
export function sizeClass(bytes: number, max: number): number {
  if (bytes <= 256) return 256;
  const power = 2 ** Math.floor(Math.log2(bytes));
  const step = Math.max(power / 4, 256);
  return Math.min(Math.ceil(bytes / step) * step, Math.floor(max / 4) * 4);
}

/** Bytes in words, e.g. `1.5 MiB`. */
export function mib(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1048576) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1048576).toFixed(1)} MiB`;
}
