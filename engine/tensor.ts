/**
 * The tensor people hold: reading, gradients, writing in place. Its ops are one line each in
 * `tensor_shape.ts`, `tensor_pointwise.ts` and `tensor_reduce.ts`, which it inherits from; memory and
 * lifetime are in `tensor_base.ts`.
 */

import { checkOperand, checkOptions, checkWalk, given } from "./arguments.ts";
import { type DeviceArray, inArena } from "./array.ts";
import { isRecording, noGrad, walkBack } from "./autograd.ts";
import { category, isFloat, type TypedArray } from "./dtype.ts";
import { fill, fillInto } from "./ops/fill.ts";
import { indexCopyInto } from "./ops/index_rows.ts";
import { inDType } from "./ops/launch_pointwise.ts";
import * as move from "./ops/movement.ts";
import { binary } from "./ops/pointwise.ts";
import { nest, type Nested, readAll } from "./read.ts";
import { broadcastShapes, normalizeDim, sameShape, show } from "./shape.ts";
import { setTensorFactory } from "./tensor_base.ts";
import { combine, type Operand } from "./tensor_pointwise.ts";
import { TensorIndex } from "./tensor_index.ts";

export { apply } from "./apply.ts";
export type { Operand } from "./tensor_pointwise.ts";
export type { SortOptions } from "./tensor_index.ts";
export type { ReduceOptions } from "./tensor_reduce.ts";

/**
 * An n-dimensional array on the GPU.
 *
 * @example
 * ```ts
 * import { init, tensor } from "../mod.ts";
 * await init();
 * const w = tensor([[1, 2], [3, 4]], { requiresGrad: true });
 * const loss = w.square().sum();
 * loss.backward();
 * console.log(await w.grad!.array()); // [[2, 4], [6, 8]]
 * ```
 */
export class Tensor extends TensorIndex {
  // ---- reading ----

  /**
   * The elements in row-major order. Runs all recorded work first; in Deno a read takes at least
   * 10 ms, so read several tensors with one `readAll`.
   *
   * @throws {GpuError} if any work so far failed on the GPU
   */
  async data(): Promise<TypedArray> {
    return (await readAll([this]))[0]!;
  }
  /** The elements as nested arrays; a number for a scalar. */
  async array(): Promise<Nested> {
    const flat = await this.data();
    return nest(flat, this.shape, this.dtype === "bool");
  }
  /**
   * The only element.
   *
   * @throws {TypeError} if there are more or none
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new TypeError(`Cannot take the item of ${show(this.shape)}: it must have one element`);
    }
    return Number((await this.data())[0]);
  }

  // ---- autograd ----

  /**
   * Adds d this / d leaf to every leaf's `grad`.
   *
   * @param seed the gradient to start from; 1 for a tensor of one element
   * @throws {TypeError} if nothing requires a gradient, or a seed is missing or mis-shaped
   */
  backward(seed?: Tensor | null, options: { retainGraph?: boolean } = {}): void {
    const right = "y.backward(null, { retainGraph: true })";
    checkWalk("run backward", options, right, ["retainGraph"]);
    if (seed !== undefined && seed !== null && !(seed instanceof Tensor)) {
      throw new TypeError(
        `Cannot run backward from ${given(seed)}: the seed must be a tensor, and options come ` +
          `after it, as in ${right}`,
      );
    }
    const root = { edge: this.edge(), grad: startOf(this, seed ?? undefined) };
    walkBack([root], { retainGraph: options.retainGraph ?? false });
  }
  /** The same memory, off the tape. */
  detach(): Tensor {
    return new Tensor(this.device.alias());
  }

  // ---- in place: leaves must be inside noGrad ----

  /** Overwrites the elements with `source`, broadcast; returns the tensor. */
  copy_(source: Tensor): this {
    this.#checkInPlace("copy_", source);
    if (this.device.isWhole) this.device.storage.forgive();
    inArena(() => (move.copyInto(source.device, this.device), []));
    return this;
  }
  /** Sets every element; returns the tensor. */
  fill_(value: number): this {
    this.#checkInPlace("fill_");
    if (this.device.isWhole) this.device.storage.forgive();
    inArena(() => (fillInto(this.device, value), []));
    return this;
  }
  /** Sets every element to 0; returns the tensor. */
  zero_(): this {
    return this.fill_(0);
  }
  /**
   * Overwrites slice index[k] of `dim` with slice k of `source`; returns the tensor. Only what is written
   * is touched. Where an index comes twice, either of its slices may stay.
   *
   * @throws {TypeError} if shapes or dtypes do not fit
   */
  indexCopy_(dim: number, index: Tensor, source: Tensor): this {
    const d = normalizeDim("indexCopy_", dim, this.ndim);
    this.#checkTape("indexCopy_", source);
    this.#checkPlaces("indexCopy_");
    inArena(() => {
      indexCopyInto(this.device, { dim: d, index: index.device, src: source.device });
      return [];
    });
    this.device.storage.version++;
    return this;
  }
  /** this += alpha · other; returns the tensor. */
  add_(other: Operand, options: { alpha?: number } = {}): this {
    checkOptions("add_", options, "x.add_(y, { alpha: 2 })");
    const alpha = options.alpha ?? 1;
    if (typeof other === "number") return this.#assign("add_", binary.add, other * alpha);
    checkOperand("add_", other);
    if (alpha === 1) return this.#assign("add_", binary.add, other);
    this.#checkInPlace("add_", other);
    using term = noGrad(() => other.mul(alpha));
    return this.#assign("add_", binary.add, term);
  }
  /** this *= other; returns the tensor. */
  mul_(other: Operand): this {
    if (typeof other !== "number") checkOperand("mul_", other);
    return this.#assign("mul_", binary.mul, other);
  }
  #assign(name: string, op: typeof binary.add, other: Operand): this {
    this.#checkInPlace(name, typeof other === "number" ? undefined : other);
    return noGrad(() => {
      using result = combine(op, this, other);
      if (category(result.dtype) > category(this.dtype)) {
        throw new TypeError(
          `Cannot ${name} into ${this.dtype}: the result is ${result.dtype}; ` +
            (isFloat(result.dtype) ? "use an integer, or " : "") +
            `convert the tensor with to("${isFloat(result.dtype) ? "f32" : result.dtype}")`,
        );
      }
      return this.copy_(result);
    });
  }
  #checkInPlace(name: string, source?: Tensor): void {
    const shape = source?.shape ?? [];
    if (!sameShape(broadcastShapes(name, this.shape, shape), this.shape)) {
      throw new TypeError(
        `Cannot ${name} ${show(shape)} into ${show(this.shape)}: it does not broadcast to it`,
      );
    }
    this.#checkTape(name, source);
    this.#checkPlaces(name);
    this.device.storage.version++;
  }
  /** Throws where several elements share a place, which would keep any one of what is written. */
  #checkPlaces(name: string): void {
    const { shape, strides } = this.device;
    if (this.size === 0 || !strides.some((stride, d) => stride === 0 && shape[d]! > 1)) return;
    throw new TypeError(
      `Cannot ${name} ${
        show(shape)
      }, which is expanded: several elements share a place in memory; ` +
        "clone() it first",
    );
  }
  /** Throws where a gradient would be wrong or lost. */
  #checkTape(name: string, source?: Tensor): void {
    if (isRecording() && this.requiresGrad) {
      throw new TypeError(
        `Cannot ${name} a tensor that requires a gradient: do it inside noGrad()`,
      );
    }
    if (isRecording() && source?.requiresGrad) {
      throw new TypeError(
        `Cannot ${name} from a tensor that requires a gradient: the gradient would be lost; ` +
          "detach() it, or do it inside noGrad()",
      );
    }
  }
}

setTensorFactory((array, options) => new Tensor(array, options));

/**
 * Checks what a walk back from `root` starts with.
 *
 * @throws {TypeError} if nothing requires a gradient, or a seed is missing or mis-shaped
 */
export function checkStart(root: Tensor, seed?: Tensor): void {
  if (!root.requiresGrad) {
    throw new TypeError(
      "Cannot run backward from a tensor that requires no gradient: it was made from tensors " +
        "without requiresGrad, or inside noGrad()",
    );
  }
  if (!seed && root.size !== 1) {
    throw new TypeError(
      `Cannot run backward from ${show(root.shape)} without a seed: reduce it to one element or ` +
        "pass a gradient of its shape",
    );
  }
  if (seed && !sameShape(seed.shape, root.shape)) {
    throw new TypeError(
      `Cannot seed ${show(root.shape)} with ${show(seed.shape)}: the shapes must be equal`,
    );
  }
}

/** The seed of a backward pass from `root`, checked. */
export function startOf(root: Tensor, seed?: Tensor): DeviceArray {
  checkStart(root, seed);
  if (!seed) return fill(root.device, 1);
  return inArena(() => inDType(seed.device, root.dtype));
}
