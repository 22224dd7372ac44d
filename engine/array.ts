/**
 * A strided window on GPU memory without autograd: what ops compute on. Tensors wrap it.
 *
 * Every array holds one reference to its storage. Arrays made while an op runs belong to that op's
 * arena and are released when it ends, except those it returns or saves: rule writers free nothing.
 */

import { type DType, DTYPES, encode } from "./dtype.ts";
import { gpu } from "./gpu/device.ts";
import type { Binding } from "./gpu/queue.ts";
import { Storage } from "./gpu/storage.ts";
import { contiguousStrides, isContiguous, sizeOf } from "./shape.ts";

/** Shape and dtype of a value that may not exist yet. */
export interface Spec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Arrays that were made in it, or handed to it; a list of its own for each run of `inArena`. */
type Arena = DeviceArray[];

let arena: Arena | null = null;

/** How an array comes to its elements when they are first needed. */
export interface Deferred {
  /** Records what fills the array, whose memory has undefined contents so far. */
  make(array: DeviceArray): void;
  /** Gives up what it would have been made of. */
  drop(): void;
}

/** A strided window on GPU memory. */
export class DeviceArray implements Spec {
  #storage: Storage | null;
  #deferred: Deferred | null = null;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Elements to step for one step in each dimension; 0 where a dimension repeats. */
  readonly strides: readonly number[];
  /** First element, counted from the storage's start. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
  /** The arena that releases it when it ends; null where somebody else does. */
  owner: Arena | null = arena;
  #released = false;

  /** Takes over one reference to `storage`. */
  constructor(
    storage: Storage | Deferred,
    dtype: DType,
    shape: readonly number[],
    strides: readonly number[] = contiguousStrides(shape),
    offset = 0,
  ) {
    this.#storage = storage instanceof Storage ? storage : null;
    if (!(storage instanceof Storage)) this.#deferred = storage;
    this.dtype = dtype;
    this.shape = shape;
    this.strides = strides;
    this.size = sizeOf(shape);
    // Nothing has no place: a view of nothing may begin behind the end of the memory.
    this.offset = this.size === 0 ? 0 : offset;
    arena?.push(this);
  }

  /** A contiguous array with undefined contents. */
  static empty(spec: Spec, label = "array"): DeviceArray {
    const bytes = sizeOf(spec.shape) * DTYPES[spec.dtype].bytes;
    return new DeviceArray(Storage.empty(bytes, label), spec.dtype, spec.shape);
  }

  /** A contiguous array filled from the host. */
  static from(values: ArrayLike<number>, spec: Spec, label = "array"): DeviceArray {
    return new DeviceArray(Storage.from(encode(spec.dtype, values), label), spec.dtype, spec.shape);
  }

  /** The memory. Fills it first where that was put off. */
  get storage(): Storage {
    if (this.#storage) return this.#storage;
    const deferred = this.#deferred;
    if (!deferred) throw new Error("An array was used after it was released");
    // Where there is no room, the array stays as it was.
    const storage = Storage.empty(this.bytes, "deferred");
    this.#deferred = null;
    this.#storage = storage;
    deferred.make(this);
    return storage;
  }

  /** Whether its memory, if it has any yet, is on the device that is open. */
  get onOpenDevice(): boolean {
    return this.#storage?.onOpenDevice ?? true;
  }

  /** What will fill the memory, while nothing has. */
  get deferred(): Deferred | null {
    return this.#deferred;
  }

  /** Whether it is all of its storage, in order. */
  get isWhole(): boolean {
    return this.contiguous && this.offset === 0 &&
      Math.ceil(this.bytes / 4) * 4 >= this.storage.bytes;
  }

  /** The same memory under another layout. */
  view(shape: readonly number[], strides: readonly number[], offset = this.offset): DeviceArray {
    return new DeviceArray(this.storage.retain(), this.dtype, shape, strides, offset);
  }

  /** Another handle on the same layout. */
  alias(): DeviceArray {
    return this.view(this.shape, this.strides);
  }

  /** The same bits as another dtype of the same size. */
  bitcast(dtype: DType): DeviceArray {
    return new DeviceArray(this.storage.retain(), dtype, this.shape, this.strides, this.offset);
  }

  /** True when the elements lie row-major without gaps. */
  get contiguous(): boolean {
    return isContiguous(this.shape, this.strides);
  }

  /** Bytes of the elements. */
  get bytes(): number {
    return this.size * DTYPES[this.dtype].bytes;
  }

  /** True once {@linkcode release} was called. */
  get released(): boolean {
    return this.#released;
  }

  /** Gives the reference to the storage up. Does nothing the second time. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.owner = null;
    this.#deferred?.drop();
    this.#deferred = null;
    this.#storage?.release();
  }
}

/** A window that a kernel can bind, and where the array starts inside it, in elements. */
export interface Operand {
  readonly binding: Binding;
  readonly offset: number;
}

/** Binds the smallest aligned window that holds the whole array. */
export function operand(array: DeviceArray): Operand {
  const { shape, strides, offset } = array;
  const { bytes } = DTYPES[array.dtype];
  const align = gpu().limits.minStorageBufferOffsetAlignment;
  const first = offset * bytes;
  const start = first - first % align;
  let last = offset;
  if (array.size > 0) {
    for (let d = 0; d < shape.length; d++) {
      last += (shape[d]! - 1) * strides[d]!;
    }
  }
  return {
    binding: { storage: array.storage, byteOffset: start, byteEnd: (last + 1) * bytes },
    offset: (first - start) / bytes,
  };
}

/** True if a kernel without offset params can bind `array` as it lies. */
export function bindsPlain(array: DeviceArray): boolean {
  return array.contiguous &&
    (array.offset * DTYPES[array.dtype].bytes) %
          gpu().limits.minStorageBufferOffsetAlignment === 0;
}

/** Runs `fn` as if no arena were open: what it gives is released by whoever asked for it. */
export function outsideArenas<T>(fn: () => T): T {
  const outer = arena;
  arena = null;
  try {
    return fn();
  } finally {
    arena = outer;
  }
}

/**
 * Runs `fn` and releases every array made inside it but those in its result and those `kept` names.
 * Arrays in the result that were made outside come back as new handles.
 */
export function inArena<T extends DeviceArray | readonly (DeviceArray | null)[]>(
  fn: (keep: (array: DeviceArray) => void) => T,
): T {
  const outer = arena;
  const mine: Arena = [];
  arena = mine;
  /** Takes an array out of this arena. */
  const keep = (array: DeviceArray) => {
    if (array.owner === mine) array.owner = null;
  };
  const claim = (array: DeviceArray | null) => {
    if (array === null) return null;
    const claimed = array.owner === mine ? array : array.alias();
    claimed.owner = outer;
    outer?.push(claimed);
    return claimed;
  };
  let done = false;
  try {
    const result = fn(keep);
    arena = null;
    const claimed = result instanceof DeviceArray ? claim(result) : result.map(claim);
    done = true;
    return claimed as unknown as T;
  } finally {
    for (const array of mine) if (!done || array.owner === mine) array.release();
    arena = outer;
  }
}
