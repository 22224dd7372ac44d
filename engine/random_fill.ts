/** Random numbers into tensors that exist already: what initialisers need. Never recorded on the tape. */

import { inArena } from "./array.ts";
import { isFloat } from "./dtype.ts";
import { copyInto } from "./ops/movement.ts";
import { random, randomInto, type RandomParams } from "./ops/random.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Overwrites `t` with uniform numbers in [low, high) and returns it.
 *
 * @throws {TypeError} if t is not a float tensor
 */
export function fillUniform(t: Tensor, options: { low: number; high: number }): Tensor {
  return draw(t, { distribution: "uniform", a: options.low, b: options.high });
}

/**
 * Overwrites `t` with normal numbers of the given mean and standard deviation and returns it.
 *
 * @throws {TypeError} if t is not a float tensor
 */
export function fillNormal(t: Tensor, options: { mean: number; std: number }): Tensor {
  return draw(t, { distribution: "normal", a: options.mean, b: options.std });
}

function draw(t: Tensor, params: RandomParams): Tensor {
  if (!isFloat(t.dtype)) {
    throw new TypeError(`Cannot draw ${t.dtype} from a ${params.distribution} distribution`);
  }
  const y = t.device;
  inArena(() => {
    if (t.dtype === "f32" && y.contiguous) randomInto(y, params);
    else copyInto(random({ shape: t.shape, dtype: "f32" }, params), y);
    return [];
  });
  y.storage.version++;
  return t;
}
