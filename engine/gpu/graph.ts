/**
 * A step recorded once: its dispatches with their bind groups and uniforms, and the buffers they use.
 * Replaying it encodes them again, without running any of the JavaScript that made them.
 */

import type { Command, CommandQueue } from "./queue.ts";
import { type BufferPool, type PooledBuffer, PrivatePool } from "./pool.ts";
import type { Storage } from "./storage.ts";

/** What a dispatch used, besides what a {@linkcode Command} holds. */
export interface Used {
  readonly uniforms: ArrayBuffer;
  readonly storages: readonly Storage[];
  /** What of the storages' buffers it saw. */
  readonly windows: readonly GPUBufferBinding[];
}

/** Takes down the dispatches of one step. */
export class GraphRecorder {
  readonly memory = new PrivatePool();
  readonly #queue: CommandQueue;
  readonly #pool: BufferPool;
  readonly #steps: (Used & { command: Command })[] = [];
  /** Storages made before the recording, kept alive by the graph. */
  readonly #outside = new Set<Storage>();

  constructor(queue: CommandQueue, pool: BufferPool) {
    this.#queue = queue;
    this.#pool = pool;
  }

  /** Runs `fn` with its buffers taken for the graph; its dispatches are not part of it. */
  prepare<T>(fn: () => T): T {
    this.#pool.capturing = this.memory;
    try {
      return fn();
    } finally {
      this.#pool.capturing = null;
    }
  }

  /** Runs `fn` and takes its dispatches down. */
  record<T>(fn: () => T): T {
    this.#queue.recorder = this;
    this.#pool.capturing = this.memory;
    try {
      return fn();
    } finally {
      this.#queue.recorder = null;
      this.#pool.capturing = null;
    }
  }

  /** Called by the queue for every dispatch. */
  add(command: Command, used: Used): void {
    this.#steps.push({ command, ...used });
    for (const storage of used.storages) {
      if (storage.pooled.graph === this.memory || this.#outside.has(storage)) continue;
      this.#outside.add(storage.retain());
    }
  }

  /** The recorded graph. */
  finish(): Graph {
    const align = this.#queue.slabAlign;
    const offsets: number[] = [];
    let size = 0;
    for (const { uniforms } of this.#steps) {
      offsets.push(size);
      size += Math.ceil(Math.max(uniforms.byteLength, 4) / align) * align;
    }
    const data = new Uint8Array(size);
    this.#steps.forEach(({ uniforms }, i) => data.set(new Uint8Array(uniforms), offsets[i]!));
    const slab = this.#queue.makeSlab(data.buffer);
    // Dispatches that shared a group do so with these uniforms.
    const groups = new Map<GPUBindGroup, GPUBindGroup>();
    const commands = this.#steps.map(({ command, windows }, i) => {
      let group = groups.get(command.group);
      group ??= this.#queue.makeGroup(command.pipeline, slab, windows);
      groups.set(command.group, group);
      return { ...command, group, slabOffset: offsets[i]! };
    });
    return new Graph(commands, {
      memory: this.memory,
      outside: [...this.#outside],
      slab,
      pool: this.#pool,
    });
  }

  /** Gives everything back after a step that failed. */
  abandon(): void {
    for (const storage of this.#outside) storage.release();
    this.#pool.giveAll(this.memory);
  }
}

/** A recorded step. */
export class Graph {
  readonly commands: readonly Command[];
  readonly #parts: {
    memory: PrivatePool;
    outside: readonly Storage[];
    slab: GPUBuffer;
    pool: BufferPool;
  };
  readonly #buffers: readonly PooledBuffer[];

  constructor(
    commands: readonly Command[],
    parts: {
      memory: PrivatePool;
      outside: readonly Storage[];
      slab: GPUBuffer;
      pool: BufferPool;
    },
  ) {
    this.commands = commands;
    this.#parts = parts;
    this.#buffers = [...parts.memory.buffers, ...parts.outside.map((s) => s.pooled)];
  }

  /** Every buffer a replay touches. */
  get buffers(): readonly PooledBuffer[] {
    return this.#buffers;
  }

  /** Bytes that belong to the graph alone. */
  get bytes(): number {
    return [...this.#parts.memory.buffers].reduce((n, b) => n + b.bytes, 0);
  }

  /** Gives the memory back. The graph cannot be replayed afterwards. */
  dispose(): void {
    for (const storage of this.#parts.outside) storage.release();
    this.#parts.pool.giveAll(this.#parts.memory);
    this.#parts.slab.destroy();
  }
}
