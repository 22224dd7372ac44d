/** Random numbers into tensors that exist already: what initialisers need. Never recorded on the tape. */

import { inArena } from "./array.ts";
import { isFloat } from "./dtype.ts";
import { copyInto } from "./ops/movement.ts";
import { random, randomInto, type RandomParams } from "./ops/random.ts";
import { philox4x32 } from "./philox.ts";
import { nextCall, rngState } from "./rng.ts";
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

/** `count` normal numbers on the host, in float64, as one call of the engine's generator. */
export function hostNormals(count: number): Float64Array {
  const { seed } = rngState();
  const call = nextCall();
  const halves = (v: number): [number, number] => [v >>> 0, Math.floor(v / 2 ** 32)];
  const values = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const [a, b, c, d] = philox4x32([i / 2, 0, ...halves(call)], halves(seed));
    // Box-Muller of two uniform numbers with 53 bits, the first above 0.
    const u = (a * 2 ** 21 + (b >>> 11) + 1) / 2 ** 53;
    const v = (c * 2 ** 21 + (d >>> 11)) / 2 ** 53;
    const radius = Math.sqrt(-2 * Math.log(u));
    values[i] = radius * Math.cos(2 * Math.PI * v);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(2 * Math.PI * v);
  }
  return values;
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
