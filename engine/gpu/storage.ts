/** Reference-counted ownership of one pooled buffer. Views share it. */

import { gpu, openGpu } from "./device.ts";
import type { Gpu } from "./device.ts";
import type { GpuError } from "../errors.ts";
import { BufferUsage } from "./flags.ts";
import type { PooledBuffer } from "./pool.ts";

/** Ids of buffers outside the pool count down from -1. */
let nextOutside = -1;

/** Something that will read a storage as it is now. */
export interface Reader {
  /** Reads it, before it changes. */
  settle(): void;
}

/** Owner of a GPU buffer; the buffer goes back to the pool with the last reference. */
export class Storage {
  /** Raised by every in-place write, so that the tape notices a saved array that changed. */
  version = 0;
  /** Work that was put off and will read this; whoever writes calls {@linkcode settleReaders} first. */
  readers: Set<Reader> | null = null;
  /** Number of the batch of commands that last wrote it; see `BufferPool.batch`. */
  writtenIn = 0;
  /** The error of a kernel that should have written it, or what it was made from. */
  failure: GpuError | null = null;
  /** Bytes asked for; the buffer may be larger. */
  readonly bytes: number;
  /** References that captured steps have as gradients that they read or leave. */
  asGradient = 0;
  /** Name in messages. */
  readonly label: string;
  /** Whether it is the engine's own: a failed batch that writes it loses no numbers of anybody's. */
  readonly ofEngine: boolean;
  readonly #gpu: Gpu;
  /** Null while a recorded step is without memory, and after the last reference. */
  #pooled: PooledBuffer | null;
  #references = 1;
  /** References of captured graphs among them. */
  #graphs = 0;

  private constructor(
    owner: Gpu,
    pooled: PooledBuffer | null,
    { bytes, label, ofEngine = false }: { bytes: number; label: string; ofEngine?: boolean },
  ) {
    this.ofEngine = ofEngine;
    this.#gpu = owner;
    this.#pooled = pooled;
    this.bytes = bytes;
    this.label = label;
  }

  /** Room for `bytes` bytes with undefined contents. While a step is recorded there is none before its end. */
  static empty(bytes: number, label: string): Storage {
    const owner = gpu();
    const { recorder } = owner.queue;
    if (!recorder) return new Storage(owner, owner.pool.take(bytes, { label }), { bytes, label });
    owner.pool.sizeOf(bytes, { label }); // throws here, where it can be handled, not at the end
    const storage = new Storage(owner, null, { bytes, label });
    recorder.made(storage);
    return storage;
  }

  /** Room filled from the host. */
  static from(data: Uint8Array<ArrayBuffer>, label: string): Storage {
    const owner = gpu();
    const padded = data.byteLength % 4 === 0 ? data : pad(data);
    const pooled = owner.pool.take(padded.byteLength, { label, hostWrite: true });
    if (padded.byteLength > 0) owner.device.queue.writeBuffer(pooled.buffer, 0, padded);
    return new Storage(owner, pooled, { bytes: padded.byteLength, label });
  }

  /**
   * Zeros outside the pool, for state of the engine's own that `memory()` does not count. Lives as
   * long as the device.
   */
  static outside(bytes: number, label: string): Storage {
    const owner = gpu();
    const usage = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
    const buffer = owner.device.createBuffer({ label, size: bytes, usage });
    const pooled = { id: nextOutside--, buffer, bytes, lastBatch: 0 };
    return new Storage(owner, pooled, { bytes, label, ofEngine: true });
  }

  /**
   * The buffer, still owned here.
   *
   * @throws {Error} if every reference was released, or it is part of a step that is being recorded
   */
  get pooled(): PooledBuffer {
    if (!this.#pooled) {
      if (this.held) {
        throw new Error(
          `Tensor storage ${this.label} has no memory yet: capture() has not finished the step it is part of`,
        );
      }
      throw new Error(
        `Tensor storage ${this.label} was already freed: keep(t) or return it from scope() to use it later`,
      );
    }
    return this.#pooled;
  }

  /** Whether it is on the device that is open: another than the one it was made on may be by now. */
  get onOpenDevice(): boolean {
    return this.#gpu === openGpu();
  }

  /** References held. */
  get references(): number {
    return this.#references;
  }

  /** Whether there is a reference left. */
  get held(): boolean {
    return this.#references > 0;
  }

  /** Whether only captured graphs hold it: nothing else can see it any more. */
  get forgotten(): boolean {
    return this.#references === this.#graphs;
  }

  /** Whether somebody besides captured steps, and the `known` references, holds it. */
  isShared(known: number): boolean {
    return this.#references - this.#graphs - this.asGradient > known;
  }

  /** Adds a captured graph's reference. */
  retainForGraph(): this {
    this.#graphs++;
    return this.retain();
  }

  /** Gives a captured graph's reference up. */
  releaseForGraph(): void {
    this.#graphs--;
    this.release();
  }

  /** Counts a reference that there is as a captured graph's, or no longer: of a tensor that only the graph has. */
  lendToGraph(lent = true): void {
    this.#graphs += lent ? 1 : -1;
  }

  /** Gives it the memory that a recorded step has for it. */
  settle(pooled: PooledBuffer): void {
    this.#pooled = pooled;
    pooled.held = true;
  }

  /** Adds a reference. */
  retain(): this {
    this.#references++;
    return this;
  }

  /** Gives a reference up. */
  release(): void {
    if (--this.#references > 0 || !this.#pooled) return;
    this.#gpu.pool.give(this.#pooled);
    this.#pooled = null;
  }

  /** Forgets what kept it from being written: all of it is about to be overwritten. */
  forgive(): void {
    this.failure = null;
    this.writtenIn = 0;
  }

  /** Has the work done that was put off and reads what is about to be overwritten. */
  settleReaders(): void {
    for (const reader of [...this.readers ?? []]) reader.settle();
  }

  /** Overwrites bytes from the host, after all work recorded so far. */
  write(data: Uint8Array<ArrayBuffer>, byteOffset = 0): void {
    this.settleReaders();
    if (data.byteLength >= this.bytes) this.forgive();
    const pooled = this.pooled;
    if (pooled.lastBatch === this.#gpu.pool.batch) this.#gpu.queue.flush();
    this.#gpu.device.queue.writeBuffer(pooled.buffer, byteOffset, data);
  }
}

/** Bytes padded to a whole number of words, as `writeBuffer` wants. */
function pad(data: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const padded = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  padded.set(data);
  return padded;
}
