/** Small float64 helpers that the ops' references are written with. Clarity before speed. */

import type { DType } from "./dtype.ts";
import type { HostArray } from "./op.ts";
import { broadcastStrides, contiguousStrides, sizeOf } from "./shape.ts";

/** A host array of zeros. */
export function hostZeros(shape: readonly number[], dtype: DType = "f32"): HostArray {
  return { shape, dtype, data: new Float64Array(sizeOf(shape)) };
}

/** A host array whose element at coordinates `at` is `f(at)`. */
export function hostFrom(
  shape: readonly number[],
  f: (at: readonly number[]) => number,
  dtype: DType = "f32",
): HostArray {
  const out = hostZeros(shape, dtype);
  eachCoordinate(shape, (at, i) => out.data[i] = f(at));
  return out;
}

/** Calls `visit` for each coordinate in row-major order. The array is reused between calls. */
export function eachCoordinate(
  shape: readonly number[],
  visit: (at: readonly number[], index: number) => void,
): void {
  const at = new Array<number>(shape.length).fill(0);
  const total = sizeOf(shape);
  for (let i = 0; i < total; i++) {
    visit(at, i);
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++at[d]! < shape[d]!) break;
      at[d] = 0;
    }
  }
}

/** Element of `array` at `at`; broadcasts when `at` has more or larger dimensions. */
export function hostAt(array: HostArray, at: readonly number[]): number {
  const lead = at.length - array.shape.length;
  let i = 0;
  for (let d = 0; d < array.shape.length; d++) {
    const size = array.shape[d]!;
    i = i * size + (size === 1 ? 0 : at[lead + d]!);
  }
  return array.data[i]!;
}

/** f applied element by element with broadcasting. */
export function hostMap(
  shape: readonly number[],
  inputs: readonly HostArray[],
  f: (...values: number[]) => number,
  dtype: DType = "f32",
): HostArray {
  const out = hostZeros(shape, dtype);
  const strides = inputs.map((a) => broadcastStrides(a.shape, contiguousStrides(a.shape), shape));
  const values = new Array<number>(inputs.length);
  eachCoordinate(shape, (at, i) => {
    inputs.forEach((a, k) => {
      let p = 0;
      for (let d = 0; d < at.length; d++) p += at[d]! * strides[k]![d]!;
      values[k] = a.data[p]!;
    });
    out.data[i] = f(...values);
  });
  return out;
}
