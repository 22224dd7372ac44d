/** What a failed batch of commands takes along, and what would make one fail. */

import type { GpuError } from "../errors.ts";
import type { Launch } from "./queue.ts";
import type { Storage } from "./storage.ts";

/** Batches that failed, and the storages that are lost by it. */
export class Losses {
  /** From the batch that failed to the last one recorded before that was known. */
  readonly #spans: { readonly from: number; readonly to: number; readonly error: GpuError }[] = [];

  /** Takes down a failure. */
  add(span: { readonly from: number; readonly to: number; readonly error: GpuError }): void {
    this.#spans.push(span);
  }

  /**
   * What kept a storage from being written, if anything did: it was to be written in a batch that failed, or after
   * it but before that was known, perhaps from what had failed.
   */
  of(storage: Storage): GpuError | null {
    const { ofEngine, writtenIn } = storage;
    if (ofEngine) return null;
    storage.failure ??=
      this.#spans.find(({ from, to }) => from <= writtenIn && writtenIn <= to)?.error ?? null;
    return storage.failure;
  }

  /** Takes down what a launch writes. */
  noteLaunch({ kernel: { access }, buffers }: Launch, batch: number): void {
    if (this.#spans.length === 0) {
      for (let i = 0; i < buffers.length; i++) {
        if (access[i] === "write") buffers[i]!.storage.writtenIn = batch;
      }
      return;
    }
    const uses = buffers.map((b) => b.storage);
    this.note({ uses, writes: uses.filter((_, i) => access[i] === "write"), batch });
  }

  /** Takes down what commands write. What is made of lost storages is lost as well. */
  note(
    { uses, writes, batch }: {
      uses: readonly Storage[];
      writes: readonly Storage[];
      batch: number;
    },
  ): void {
    const error = this.#spans.length === 0
      ? null
      : uses.map((storage) => this.of(storage)).find((e) => e !== null);
    for (const storage of writes) {
      storage.writtenIn = batch;
      if (error && !storage.ofEngine) storage.failure ??= error;
    }
  }
}

/**
 * Checks that a kernel is not given what it writes a second time. WebGPU would refuse the whole submit, and name
 * another kernel.
 *
 * @throws {TypeError} if it is
 */
export function checkShared({ buffers, kernel }: Launch): void {
  for (let i = 0; i < buffers.length; i++) {
    if (kernel.access[i] !== "write") continue;
    const own = buffers[i]!;
    for (let k = 0; k < buffers.length; k++) {
      const other = buffers[k]!;
      if (k === i || other.storage !== own.storage) continue;
      const apart = own.byteOffset >= other.byteEnd || other.byteOffset >= own.byteEnd;
      if (kernel.access[k] === "write" && apart) continue;
      throw new TypeError(
        `Cannot run ${kernel.name}: it writes ${own.storage.label}, which it is given twice; clone() one`,
      );
    }
  }
}
