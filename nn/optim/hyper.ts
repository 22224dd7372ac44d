/** @file Numbers of an optimizer that live in GPU memory. */

import { keep, type Tensor, tensor } from "../../engine/mod.ts";

/**
 * A short f32 tensor that is rewritten in place, and only when its numbers change: kernels read it, so
 * a new learning rate neither compiles a shader nor moves a buffer.
 */
export class HyperTensor implements Disposable {
  #tensor: Tensor | null = null;
  #values: readonly number[] = [];

  /** The tensor, holding `values`. Their number must not change. */
  with(values: readonly number[]): Tensor {
    if (this.#tensor === null) {
      this.#tensor = keep(tensor([...values]));
    } else if (values.some((value, i) => !Object.is(value, this.#values[i]))) {
      // From the host, not by a dispatch: a captured step would write these numbers at each replay.
      this.#tensor.device.storage.write(new Uint8Array(Float32Array.from(values).buffer));
    }
    this.#values = [...values];
    return this.#tensor;
  }

  /** True once {@linkcode HyperTensor.with} has made the tensor. */
  get used(): boolean {
    return this.#tensor !== null;
  }

  /** Frees the tensor. */
  [Symbol.dispose](): void {
    this.#tensor?.dispose();
    this.#tensor = null;
  }
}
