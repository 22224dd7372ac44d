/** Bind groups, kept for reuse: a step that repeats the one before finds the same buffers again. */

import type { Pipeline } from "./pipelines.ts";
import type { Binding } from "./queue.ts";

/** Bind groups kept. Each costs software Vulkan a memory mapping, of which Linux gives 65,530. */
const MOST_GROUPS = 1 << 14;

/** A bind group and what it binds. */
interface Bound {
  readonly layoutId: number;
  /** Number of the buffer, first byte and bytes of each window. */
  readonly windows: readonly number[];
  readonly hash: number;
  readonly group: GPUBindGroup;
}

/** Groups of a slab of uniforms, by what they bind. Numbers are hashed and compared: text would take longer. */
export class BindGroups {
  readonly #device: GPUDevice;
  readonly #slab: GPUBuffer;
  readonly #limit: number;
  readonly #byHash = new Map<number, Bound[]>();
  readonly #ofBuffer = new Map<number, Bound[]>();
  #size = 0;

  /** @param limit the most bytes that one binding holds */
  constructor(device: GPUDevice, slab: GPUBuffer, limit: number) {
    this.#device = device;
    this.#slab = slab;
    this.#limit = limit;
  }

  /** Groups kept. */
  get size(): number {
    return this.#size;
  }

  /** The group that binds `buffers` for a pipeline. */
  get(pipeline: Pipeline, buffers: readonly Binding[]): GPUBindGroup {
    const { layoutId } = pipeline;
    let hash = layoutId;
    for (const b of buffers) hash = mixed(mixed(hash, b.storage.pooled.id), b.byteOffset);
    for (const bound of this.#byHash.get(hash) ?? []) {
      if (bound.layoutId === layoutId && this.#binds(bound, buffers)) return bound.group;
    }
    return this.#added(pipeline, buffers, hash);
  }

  /** Forgets every group that binds a buffer. */
  forget(id: number): void {
    for (const bound of this.#ofBuffer.get(id) ?? []) {
      const alike = this.#byHash.get(bound.hash);
      const at = alike?.indexOf(bound) ?? -1;
      if (at < 0) continue;
      if (alike!.length === 1) this.#byHash.delete(bound.hash);
      else alike!.splice(at, 1);
      this.#size--;
    }
    this.#ofBuffer.delete(id);
  }

  /** A new bind group of uniforms and windows of buffers. */
  make(
    { kernel, bindings }: Pipeline,
    slab: GPUBuffer,
    windows: readonly GPUBufferBinding[],
  ): GPUBindGroup {
    const uniforms = { buffer: slab, size: 256 };
    return this.#device.createBindGroup({
      label: kernel.name,
      layout: bindings,
      entries: [uniforms, ...windows].map((resource, binding) => ({ binding, resource })),
    });
  }

  /**
   * Bytes to bind: to the end of what is reserved where that is allowed, so that a group fits more launches.
   */
  windowSize(
    { byteOffset, byteEnd, reserved }: { byteOffset: number; byteEnd: number; reserved: number },
  ): number {
    const end = reserved - byteOffset <= this.#limit ? reserved : byteEnd;
    return Math.max(Math.ceil((end - byteOffset) / 4) * 4, 4);
  }

  #binds({ windows }: Bound, buffers: readonly Binding[]): boolean {
    for (let i = 0; i < buffers.length; i++) {
      const b = buffers[i]!;
      const fits = windows[3 * i] === b.storage.pooled.id && windows[3 * i + 1] === b.byteOffset &&
        windows[3 * i + 2] === this.#sizeOf(b);
      if (!fits) return false;
    }
    return true;
  }

  #added(pipeline: Pipeline, buffers: readonly Binding[], hash: number): GPUBindGroup {
    const windows = buffers.map((b) => ({
      buffer: b.storage.pooled.buffer,
      offset: b.byteOffset,
      size: this.#sizeOf(b),
    }));
    const group = this.make(pipeline, this.#slab, windows);
    if (this.#size >= MOST_GROUPS) {
      this.#byHash.clear();
      this.#ofBuffer.clear();
      this.#size = 0;
    }
    const bound = {
      layoutId: pipeline.layoutId,
      windows: buffers.flatMap((b, i) => [b.storage.pooled.id, b.byteOffset, windows[i]!.size]),
      hash,
      group,
    };
    add(this.#byHash, hash, bound);
    for (const b of buffers) add(this.#ofBuffer, b.storage.pooled.id, bound);
    this.#size++;
    return group;
  }

  #sizeOf({ storage: { pooled: { bytes } }, byteOffset, byteEnd }: Binding): number {
    return this.windowSize({ byteOffset, byteEnd, reserved: bytes });
  }
}

/** A hash with one more number in it. */
function mixed(hash: number, number: number): number {
  const product = Math.imul(hash ^ number, 0x9e3779b1);
  return product ^ product >>> 15;
}

function add<K>(lists: Map<K, Bound[]>, key: K, bound: Bound): void {
  const list = lists.get(key);
  if (list) list.push(bound);
  else lists.set(key, [bound]);
}
