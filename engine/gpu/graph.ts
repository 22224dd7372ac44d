/**
 * A step recorded once: its dispatches with their bind groups and uniforms, and the buffers they use.
 * Replaying it encodes them again, without running any of the JavaScript that made them.
 *
 * Nothing runs while a step is recorded, and what it makes has no memory yet. Afterwards it is known which
 * dispatches need what, memory is planned by that, and the step runs as a replay.
 */

import type { Binding, Command, CommandQueue, Launch, Where } from "./queue.ts";
import { alignUp, planMemory } from "./plan.ts";
import type { Pipeline } from "./pipelines.ts";
import type { BufferPool, PooledBuffer } from "./pool.ts";
import type { Storage } from "./storage.ts";

/** A launch that waits for its memory. */
interface Recorded extends Launch {
  readonly pipeline: Pipeline;
  readonly uniforms: ArrayBuffer;
  readonly where: Where | undefined;
}

/** A buffer of a span, and where it begins there. */
interface Home {
  readonly pooled: PooledBuffer;
  readonly offset: number;
}

/**
 * How many times as large as itself the buffer of a tensor that outlives the step may be: it is held for as
 * long as the tensor, with or without the graph.
 */
const LITTLE = 1.25;

/** Bytes of a tensor from which on one dispatch over it is enough for any GPU. */
const SMALL = 4 << 20;

/**
 * What a step does first with a leaf's gradient: it sets it (or drops it), whatever there was; makes it, where there
 * was none; adds to the one there was, in place; or reads that.
 */
export type GradientStart = "set" | "make" | "add" | "read";

/** A setting that a step asked for: what it was, and what it is now; undefined once nobody can set it any more. */
export interface SettingSeen {
  readonly was: unknown;
  readonly now: () => unknown;
}

/** The fields of an object as a step found them. */
export interface FieldsSeen {
  /** The name of one that is another now, or null. */
  changed(): string | null;
  /** Without those that have changed since. */
  lasting(): FieldsSeen;
}

/** Takes down the dispatches of one step. */
export class GraphRecorder {
  readonly #queue: CommandQueue;
  readonly #pool: BufferPool;
  readonly #launches: Recorded[] = [];
  /** Storages made by the recording. */
  readonly #made = new Set<Storage>();
  /** Storages that were there before, kept alive by the graph. */
  readonly #outside = new Set<Storage>();
  /** Those of them that the step returns: a reference each is the graph's, too. */
  readonly #returned: Storage[] = [];
  /** Whether state was made that a replay would make anew: the step is not to be replayed. */
  makesState = false;
  /** What must be done before each replay. */
  readonly before = new Set<() => void>();
  /** By owner, what must hold for the step to be replayed. */
  readonly conditions = new Map<object, () => boolean>();
  /** By owner, its fields when the step first used it. */
  readonly fields = new Map<object, FieldsSeen>();
  /** Leaves whose gradient the step uses, what it does first, with what there was, and a handle of what it reads. */
  readonly leaves = new Map<
    object,
    { readonly start: GradientStart; readonly before?: Storage; readonly source?: object }
  >();

  /** By owner, what the step asked for; null for what it set before it asked. */
  readonly #settings = new Map<object, SettingSeen | null>();

  constructor(queue: CommandQueue, pool: BufferPool) {
    this.#queue = queue;
    this.#pool = pool;
  }

  /** Called for every setting that is asked for. */
  settingAsked(owner: object, now: () => unknown): void {
    if (!this.#settings.has(owner)) this.#settings.set(owner, { was: now(), now });
  }

  /** Called for every setting before it is set. */
  settingSet(owner: object): void {
    if (!this.#settings.has(owner)) this.#settings.set(owner, null);
  }

  /** The settings that the step depends on: those that it found, and that can still be others. */
  get settings(): SettingSeen[] {
    return [...this.#settings.values()].filter((seen) => seen !== null)
      .filter(({ now }) => now() !== undefined);
  }

  /** Runs `fn` and takes its dispatches down. */
  record<T>(fn: () => T): T {
    this.#queue.recorder = this;
    try {
      return fn();
    } finally {
      this.#queue.recorder = null;
    }
  }

  /** Called for every storage that gets its memory from the graph. */
  made(storage: Storage): void {
    this.#made.add(storage);
  }

  /** Whether a storage gets its memory from the graph. */
  owns(storage: Storage): boolean {
    return this.#made.has(storage);
  }

  /** Called for every leaf whose gradient is about to change, with what is added to; returns what was done first. */
  touch(leaf: object, start: GradientStart, before?: Storage): GradientStart {
    const first = this.leaves.get(leaf);
    if (!first) this.leaves.set(leaf, { start, before });
    return first?.start ?? start;
  }

  /** Called for every leaf whose gradient somebody asks for; `handle` makes a handle that the recording keeps. */
  read(leaf: object, before: Storage | undefined, handle: () => object | undefined): void {
    if (this.leaves.has(leaf)) return;
    const start = before ? "read" : "make"; // to find none is to depend on that
    this.leaves.set(leaf, { start, before, source: handle() });
    if (before) before.asGradient++;
  }

  /** Called by the queue for every dispatch. */
  add(launch: Recorded): void {
    this.#launches.push(launch);
    for (const { storage } of launch.buffers) this.#use(storage);
  }

  /** Called for every tensor that the step returns, with the storage of the recording's own handle. */
  returned(storage: Storage): void {
    this.#use(storage);
    if (!this.#outside.has(storage)) return;
    storage.lendToGraph();
    this.#returned.push(storage);
  }

  #use(storage: Storage): void {
    if (this.#made.has(storage) || this.#outside.has(storage)) return;
    this.#outside.add(storage.retainForGraph());
  }

  /** The recorded graph, with its memory. */
  finish(): Graph {
    const launches = this.#seen();
    const { homes, memory } = this.#place(launches);
    const align = this.#queue.slabAlign;
    const offsets: number[] = [];
    let size = 0;
    for (const { uniforms } of launches) {
      offsets.push(size);
      size += alignUp(uniforms.byteLength, align);
    }
    const data = new Uint8Array(size);
    launches.forEach(({ uniforms }, i) => data.set(new Uint8Array(uniforms), offsets[i]!));
    const slab = this.#queue.makeSlab(data.buffer);
    const groups = new Map<string, GPUBindGroup>();
    const commands = launches.map((launch, i): Command => {
      const { pipeline, grid, cost, where } = launch;
      const windows = launch.buffers.map((binding) => this.#window(binding, homes));
      const key = [
        pipeline.layoutId,
        ...windows.map(({ pooled, offset, size }) => `${pooled.id}@${offset}+${size}`),
      ].join();
      let group = groups.get(key);
      if (!group) {
        const bound = windows.map(({ pooled: { buffer }, offset, size }) => ({
          buffer,
          offset,
          size,
        }));
        groups.set(key, group = this.#queue.groups.make(pipeline, slab, bound));
      }
      return { pipeline, group, slabOffset: offsets[i]!, grid, cost, where };
    });
    const outside = [...this.#outside];
    const writes = new Set<Storage>();
    for (const { buffers, kernel } of launches) {
      buffers.forEach(({ storage }, i) => {
        const seen = storage.held || !this.#made.has(storage);
        if (seen && kernel.access[i] === "write") writes.add(storage);
      });
    }
    return new Graph(commands, {
      memory,
      outside,
      returned: this.#returned,
      writes: [...writes],
      slab,
      pool: this.#pool,
    });
  }

  /** The launches whose results somebody can see: what is held, was there before, or is used by such a launch. */
  #seen(): Recorded[] {
    const used = new Set<Storage>();
    const seen = this.#launches.toReversed().filter(({ buffers, kernel }) => {
      const counts = buffers.some(({ storage }, i) =>
        kernel.access[i] === "write" &&
        (storage.held || !this.#made.has(storage) || used.has(storage))
      );
      if (counts) { for (const { storage } of buffers) used.add(storage); }
      return counts;
    });
    return seen.reverse();
  }

  /**
   * What each storage that the recording made needs. A dispatch and the next count as one here: WebGPU lets
   * them run at the same time only if neither writes a buffer that the other uses, so tensors of two that
   * do not depend on each other must not meet in one. Large ones may: their dispatches fill a GPU alone.
   */
  #needs(launches: readonly Recorded[]): Map<Storage, Need> {
    const needs = new Map<Storage, Need>();
    const uses = launches.map(({ buffers, kernel }, at) =>
      buffers.map(({ storage }, i) => {
        let need = needs.get(storage);
        if (!need && this.#made.has(storage)) {
          needs.set(storage, need = { first: at, last: at, others: new Set() });
        }
        if (need) need.last = storage.bytes < SMALL ? at + 1 : at;
        return { storage, need, writes: kernel.access[i] === "write" };
      })
    );
    uses.forEach((own, at) => {
      for (const a of own) {
        for (const b of [...own, ...uses[at + 1] ?? []]) {
          if (a.storage === b.storage || !a.writes && !b.writes) continue;
          a.need?.others.add(b.storage);
          b.need?.others.add(a.storage);
        }
      }
    });
    for (const storage of this.#made) {
      if (!storage.held) continue;
      const need = needs.get(storage);
      if (need) need.last = Infinity;
      else needs.set(storage, { first: launches.length, last: Infinity, others: new Set() });
    }
    return needs;
  }

  /**
   * Buffers for what the recording made. What is still held gets its buffer for good; the rest, which only the
   * graph's own dispatches can see, a place.
   */
  #place(launches: readonly Recorded[]): { homes: Map<Storage, Home>; memory: PooledBuffer[] } {
    const needs = [...this.#needs(launches)];
    const ids = new Map(needs.map(([storage], i) => [storage, i]));
    // An empty storage is bound as well, so it has a place.
    const spans = needs.map(([storage, { first, last, others }]) => ({
      bytes: Math.max(storage.bytes, 1),
      first,
      last,
      apart: new Set([...others].map((other) => ids.get(other) ?? -1)),
    }));
    const { buffers, places } = planMemory(spans, {
      align: this.#queue.storageAlign,
      slack: LITTLE,
    });
    const memory = buffers.map((bytes) => this.#pool.takeForGraph(bytes));
    const homes = new Map<Storage, Home>();
    needs.forEach(([storage], i) => {
      const { buffer, offset } = places[i]!;
      const pooled = memory[buffer]!;
      if (storage.held) storage.settle(pooled);
      homes.set(storage, { pooled, offset });
    });
    return { homes, memory };
  }

  /**
   * What a launch sees of a buffer: up to the end of what is reserved for the storage, as plain launches see
   * all of a buffer.
   */
  #window(
    { storage, byteOffset, byteEnd }: Binding,
    homes: ReadonlyMap<Storage, Home>,
  ): { pooled: PooledBuffer; offset: number; size: number } {
    const home = homes.get(storage);
    const pooled = home?.pooled ?? storage.pooled;
    const { storageAlign } = this.#queue;
    const reserved = home ? alignUp(Math.max(storage.bytes, 1), storageAlign) : pooled.bytes;
    const size = this.#queue.groups.windowSize({ byteOffset, byteEnd, reserved });
    return { pooled, offset: (home?.offset ?? 0) + byteOffset, size };
  }
}

/** When a storage is needed, and which others the same dispatches use, where either is written. */
interface Need {
  first: number;
  last: number;
  readonly others: Set<Storage>;
}

/** A recorded step. */
export class Graph {
  readonly commands: readonly Command[];
  readonly #parts: {
    memory: readonly PooledBuffer[];
    outside: readonly Storage[];
    returned: readonly Storage[];
    writes: readonly Storage[];
    slab: GPUBuffer;
    pool: BufferPool;
  };
  readonly #buffers: readonly PooledBuffer[];
  /** What was there before and somebody besides the graph holds; the rest are constants of the step. */
  readonly #shared: readonly Storage[];

  constructor(
    commands: readonly Command[],
    parts: {
      memory: readonly PooledBuffer[];
      outside: readonly Storage[];
      returned: readonly Storage[];
      writes: readonly Storage[];
      slab: GPUBuffer;
      pool: BufferPool;
    },
  ) {
    this.commands = commands;
    this.#parts = parts;
    this.#buffers = [...parts.memory, ...parts.outside.map((s) => s.pooled)];
    this.#shared = parts.outside.filter((s) => !s.forgotten);
  }

  /**
   * Whether it uses a tensor that has been freed since, or a device that is not the open one: a plain call would
   * use another, or fail.
   */
  isStale(open: BufferPool): boolean {
    return open !== this.#parts.pool || this.#shared.some((s) => s.forgotten);
  }

  /** Every buffer a replay touches. */
  get buffers(): readonly PooledBuffer[] {
    return this.#buffers;
  }

  /** What was there before and a replay reads or writes. */
  get uses(): readonly Storage[] {
    return this.#parts.outside;
  }

  /** What a replay writes and others than its own dispatches can see. */
  get writes(): readonly Storage[] {
    return this.#parts.writes;
  }

  /** Bytes that belong to the graph alone. */
  get bytes(): number {
    return this.#parts.memory.reduce((n, b) => n + b.bytes, 0);
  }

  /** Gives the memory back. The graph cannot be replayed afterwards. */
  dispose(): void {
    for (const storage of this.#parts.returned) storage.lendToGraph(false);
    for (const storage of this.#parts.outside) storage.releaseForGraph();
    this.#parts.pool.giveAll(this.#parts.memory);
    this.#parts.slab.destroy();
  }
}
