/** @file Numbers of an optimizer that live in GPU memory. */

import { beforeReplay, recordingNow } from "../../engine/capture.ts";
import { keep, noGrad, type Tensor, tensor } from "../../engine/mod.ts";

/** What a captured step had for a tensor. */
interface Seen {
  readonly recording: object;
  readonly first: readonly number[];
  last: readonly number[];
}

/**
 * A short f32 tensor that is rewritten in place, and only when its numbers change: kernels read it, so
 * a new learning rate neither compiles a shader nor moves a buffer.
 *
 * In a captured step the first numbers are written from the host before it runs, and others after them by a
 * dispatch of its own. A replay begins with the first ones again where others followed, or where they belong to
 * the step (`fixed`); else with those that there are then.
 */
export class HyperTensor implements Disposable {
  #tensor: Tensor | null = null;
  #values: readonly number[] = [];
  #seen: Seen | null = null;
  readonly #fixed: boolean;

  /** @param options `fixed`: replays have the numbers of the recording. */
  constructor(options: { fixed?: boolean } = {}) {
    this.#fixed = options.fixed ?? false;
  }

  /** The tensor, holding `values`. Their number must not change. */
  with(values: readonly number[]): Tensor {
    const recording = recordingNow();
    const again = recording !== null && this.#seen?.recording === recording;
    this.#write(values, recording !== null && !again);
    if (again) this.#seen!.last = this.#values;
    else if (recording) {
      const seen: Seen = { recording, first: this.#values, last: this.#values };
      this.#seen = seen;
      beforeReplay(() => this.#begin(seen));
    }
    return this.#tensor!;
  }

  /** Writes what differs: from the host, before all that is recorded, or by a dispatch in its order. */
  #write(values: readonly number[], fromHost: boolean): void {
    if (this.#tensor === null) this.#tensor = keep(tensor([...values]));
    else if (values.every((value, i) => Object.is(value, this.#values[i]))) return;
    else if (fromHost) {
      this.#tensor.device.storage.write(new Uint8Array(Float32Array.from(values).buffer));
    } else {
      using fresh = tensor([...values]);
      noGrad(() => this.#tensor!.copy_(fresh));
    }
    this.#values = [...values];
  }

  /** What a replay begins with; afterwards the tensor holds what the step ends with. */
  #begin({ first, last }: Seen): void {
    if (this.#tensor === null || (last === first && !this.#fixed)) return;
    this.#write(first, false);
    this.#values = last;
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
