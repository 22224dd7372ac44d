/** @file The tensors a module learns. */

import { checkOptions } from "../engine/arguments.ts";
import { keep, noGrad, Tensor } from "../engine/mod.ts";

/** Options of {@linkcode Parameter}. */
export interface ParameterOptions {
  /** False for a frozen parameter. Default true. */
  requiresGrad?: boolean;
}

/**
 * A tensor that a module learns: a leaf that collects a gradient and outlives every `scope`. A module
 * registers the parameters among its properties.
 *
 * @example
 * ```ts
 * import { init, nn, ones } from "../mod.ts";
 * await init();
 * const scale = new nn.Parameter(ones([64]));
 * ```
 */
export class Parameter extends Tensor {
  /**
   * Takes over `data`: its memory becomes the parameter's, and `data` itself is freed.
   *
   * @param data Float values to start from; copied if another tensor shares their memory.
   * @throws {TypeError} If `data` is no float tensor, or is a parameter: share that one instead.
   */
  constructor(data: Tensor, options: ParameterOptions = {}) {
    checkOptions("make a parameter", options, "new nn.Parameter(t, { requiresGrad: false })");
    super(takeOver(data), { requiresGrad: options.requiresGrad ?? true });
    keep(this);
  }
}

function takeOver(data: Tensor): Tensor["device"] {
  if (data instanceof Parameter) {
    throw new TypeError(
      "Cannot make a parameter from a parameter: assign the same object to share it, or clone() it",
    );
  }
  if (data.dtype !== "f32" && data.dtype !== "f16") {
    throw new TypeError(`Cannot make a parameter of dtype ${data.dtype}: it must be a float`);
  }
  const { contiguous, offset, storage } = data.device;
  const own = contiguous && offset === 0 && storage.references === 1;
  const source = own ? data : noGrad(() => data.clone());
  const array = source.device.alias();
  source.dispose();
  data.dispose();
  return array;
}
