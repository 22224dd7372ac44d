/** Inputs of tests that f32 holds exactly, drawn from a name. */

import { tensor } from "../../engine/creation.ts";
import { sizeOf } from "../../engine/shape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { Draw } from "./draw.ts";

/** Unit roundoff of f32. */
export const U = 2 ** -24;

/** Numbers in [low, high). */
export function numbers(name: string, count: number, low = -1, high = 1): number[] {
  const draw = new Draw(name);
  return Array.from({ length: count }, () => Math.fround(low + (high - low) * draw.uniform()));
}

/** A tensor of numbers in [low, high). */
export function drawn(name: string, shape: readonly number[], low = -1, high = 1): Tensor {
  return tensor(numbers(name, sizeOf(shape), low, high), { shape });
}

/** The numbers of a tensor of `shape` with `f` of each place, in order. */
export function each(
  shape: readonly number[],
  f: (...at: number[]) => number,
): number[] {
  return Array.from({ length: sizeOf(shape) }, (_, i) => {
    const at: number[] = [];
    for (let d = shape.length - 1, rest = i; d >= 0; d--) {
      at.unshift(rest % shape[d]!);
      rest = Math.floor(rest / shape[d]!);
    }
    return f(...at);
  });
}
