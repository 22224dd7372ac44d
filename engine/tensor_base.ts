/**
 * What every tensor has besides its ops: memory, lifetime, a place on the tape, a gradient.
 */

import { DeviceArray } from "./array.ts";
import {
  addAndRelease,
  addInto,
  type Edge,
  type GradientSink,
  Node,
  ownGradient,
} from "./autograd.ts";
import { type DType, isFloat } from "./dtype.ts";
import { debug } from "./gpu/debug.ts";
import { gpu, openGpu } from "./gpu/device.ts";
import type { GraphRecorder } from "./gpu/graph.ts";
import { isZero } from "./ops/chain.ts";
import { enterScope, leaveScopes, type Scoped } from "./scope.ts";
import { settingSet } from "./setting.ts";
import { sameShape, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** How a tensor came to be. */
export interface TensorOptions {
  /** A leaf that collects a gradient. */
  readonly requiresGrad?: boolean;
  /** The recorded op and which of its outputs this is. */
  readonly source?: { readonly node: Node; readonly output: number };
}

/** Makes a tensor of an array whose handle it takes over. */
export type TensorFactory = (array: DeviceArray, options?: TensorOptions) => Tensor;

interface Resources {
  readonly array: DeviceArray;
  readonly node: Node | null;
}

let collected = 0;
let unreported = 0;
const registry = new FinalizationRegistry<Resources>(releaseCollected);
let wrap: TensorFactory;

function releaseCollected({ array, node }: Resources): void {
  collected++;
  // The collector calls for many tensors in a row; one line is enough for all of them.
  if (debug().level >= 1 && unreported++ === 0) queueMicrotask(reportCollected);
  array.release();
  node?.release();
}

function reportCollected(): void {
  debug().write(
    `[lathe] the garbage collector freed ${unreported} tensors: scope() or using frees them in time`,
  );
  unreported = 0;
}

/** Tells this file how to make a tensor; `tensor.ts` calls it once. */
export function setTensorFactory(make: TensorFactory): void {
  wrap = make;
}

/** A tensor of `array`; for files that `tensor.ts` itself imports. */
export function wrapTensor(array: DeviceArray, options?: TensorOptions): Tensor {
  return wrap(array, options);
}

/** Tensors that the garbage collector had to free because no scope or `using` did. */
export function collectedTensors(): number {
  return collected;
}

/** Memory, lifetime and gradient of a tensor. */
export abstract class TensorBase implements GradientSink, Disposable {
  readonly #array: DeviceArray;
  readonly #source: TensorOptions["source"];
  #leafRequiresGrad: boolean;
  #grad: Tensor | null = null;
  #collectable = false;

  /** Takes over the handle. Users make tensors with `tensor`, `zeros`, … */
  constructor(array: DeviceArray, options: TensorOptions = {}) {
    this.#array = array;
    this.#source = options.source;
    this.#leafRequiresGrad = options.requiresGrad ?? false;
    if (this.#leafRequiresGrad && !isFloat(array.dtype)) {
      throw new TypeError(`Cannot require a gradient of dtype ${array.dtype}: it must be a float`);
    }
    options.source?.node.retain();
    enterScope(this);
  }

  /** Has the garbage collector free it, should nothing else: it costs more than a scope does. For `scope`. */
  unscoped(): void {
    if (this.#collectable || this.#array.released) return;
    this.#collectable = true;
    const node = this.#source?.node ?? null;
    registry.register(this, { array: this.#array, node }, this);
  }

  /** Whether the memory was given back: any use throws. */
  get disposed(): boolean {
    return this.#array.released;
  }

  /** The memory behind the tensor. For ops and modules, not for users. */
  get device(): DeviceArray {
    if (this.#array.released) {
      throw new Error(
        `Cannot use a tensor ${
          show(this.shape)
        } that was freed: return it from scope() or keep() it`,
      );
    }
    if (!this.#array.onOpenDevice) {
      throw new Error(
        `Cannot use a tensor ${
          show(this.shape)
        } of an earlier device: init() has opened another since, so make or load it anew`,
      );
    }
    return this.#array;
  }

  /** Sizes, outermost first. */
  get shape(): readonly number[] {
    return this.#array.shape;
  }
  /** Element type. */
  get dtype(): DType {
    return this.#array.dtype;
  }
  /** Number of dimensions. */
  get ndim(): number {
    return this.#array.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return this.#array.size;
  }
  /** True if a gradient flows to or through this tensor. */
  get requiresGrad(): boolean {
    if (this.#source !== undefined) return true;
    if (isFloat(this.dtype)) openGpu()?.queue.recorder?.settingAsked(this, this.#asLeaf());
    return this.#leafRequiresGrad;
  }
  /** Tells whether it is a leaf that collects a gradient, for as long as somebody holds it. */
  #asLeaf(): () => boolean | undefined {
    const self = new WeakRef(this);
    return () => {
      const leaf = self.deref();
      return leaf && !leaf.disposed ? leaf.#leafRequiresGrad : undefined;
    };
  }
  /** True if no recorded op made this tensor. */
  get isLeaf(): boolean {
    return this.#source === undefined;
  }
  /** The gradient `backward` collected, or null. Leaves only. */
  get grad(): Tensor | null {
    const recorder = openGpu()?.queue.recorder;
    if (recorder) this.#readIn(recorder);
    return this.#grad;
  }
  /** Replaces the gradient; the old one is freed. */
  set grad(value: Tensor | null) {
    if (value && (!sameShape(value.shape, this.shape) || value.dtype !== this.dtype)) {
      throw new TypeError(
        `Cannot set a gradient ${show(value.shape)} ${value.dtype} on a tensor ` +
          `${show(this.shape)} ${this.dtype}: both must be equal`,
      );
    }
    openGpu()?.queue.recorder?.touch(this, "set");
    if (this.#grad !== value) this.#grad?.dispose();
    if (value) leaveScopes(value);
    this.#grad = value;
  }
  /** Notes that the step being recorded reads the gradient. */
  #readIn(recorder: GraphRecorder): void {
    const grad = this.#grad;
    if (!grad?.disposed) {
      recorder.read(this, grad?.device.storage, () => grad?.device.alias());
    }
  }

  /** Sets whether this leaf collects a gradient; returns the tensor. */
  requiresGrad_(value = true): this {
    if (!this.isLeaf) {
      throw new TypeError("Cannot change requiresGrad of a computed tensor: detach() it first");
    }
    if (value && !isFloat(this.dtype)) {
      throw new TypeError(`Cannot require a gradient of dtype ${this.dtype}: it must be a float`);
    }
    settingSet(this, value !== this.#leafRequiresGrad);
    this.#leafRequiresGrad = value;
    return this;
  }

  /** Where gradients of this tensor go. For the tape. */
  edge(): Edge {
    return this.#source ?? { leaf: this };
  }

  /** Adds to the collected gradient. For the tape. */
  accumulate(grad: DeviceArray): void {
    if (this.#array.released) {
      grad.release(); // nobody can ask a freed leaf for its gradient
      return;
    }
    const { recorder } = gpu().queue;
    // Where others see the gradient's memory, a step adds to what it reads there, and leaves another.
    if (recorder && this.#grad?.device.storage.isShared(1)) this.#readIn(recorder);
    if (!this.#grad) {
      recorder?.touch(this, "make");
      this.#grad = wrap(ownGradient(grad));
    } else if (isZero(grad)) {
      recorder?.touch(this, "add", this.#grad.device.storage);
      grad.release();
    } else if (
      recorder && recorder.touch(this, "add", this.#grad.device.storage) === "add" &&
      !recorder.owns(this.#grad.device.storage)
    ) {
      // One from outside: in place, so that each replay adds to the same memory.
      addInto(this.#grad.device, grad);
    } else {
      const total = addAndRelease(this.#grad.device.alias(), grad);
      this.#grad.dispose();
      this.#grad = wrap(total);
    }
    leaveScopes(this.#grad);
  }

  /** Gives up a gradient that outlives the tensor. For `scope`. */
  disown(livesOn: (owned: Scoped) => boolean): Scoped | null {
    const grad = this.#grad;
    if (grad === null || !livesOn(grad)) return null;
    this.#grad = null;
    return grad;
  }
  /** Frees the memory now instead of at the end of the scope. Later use throws. */
  dispose(): void {
    if (this.#array.released) return;
    if (this.#collectable) registry.unregister(this);
    this.#array.release();
    this.#source?.node.release();
    this.#grad?.dispose();
    this.#grad = null;
  }
  /** `using t = …` frees t at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Words for a person: shape and dtype, no elements (those need an `await`). */
  toString(): string {
    return `Tensor(${show(this.shape)}, ${this.dtype}${this.requiresGrad ? ", requiresGrad" : ""})`;
  }
  /** What `console.log` prints. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }
}
