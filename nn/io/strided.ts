/** @file Copying the elements of an array that lies in memory in another order. */

import { hostView } from "./host_array.ts";

/** Which elements an array has, and where. */
export interface StridedView {
  /** Bytes of an element: 1, 2, 4 or 8. */
  size: number;
  /** Size of each dim, outermost first. */
  shape: readonly number[];
  /** Elements from one place of a dim to the next, not negative. */
  strides: readonly number[];
}

/**
 * The bytes of an array in row-major order. Elements are copied as words of their size: NaNs stay as
 * they are.
 *
 * @param bytes Where the first element is the array's first; it must reach to the last.
 * @param view Size, shape and strides.
 */
export function gatherElements(bytes: Uint8Array, view: StridedView): Uint8Array<ArrayBuffer> {
  const { size, shape, strides } = view;
  const count = shape.reduce((product, size) => product * size, 1);
  const words = ({ 1: "U8", 2: "U16", 4: "U32", 8: "U64" } as const)[size as 1 | 2 | 4 | 8];
  const result = new Uint8Array(count * size);
  const source = hostView(words, bytes), data = hostView(words, result);
  const index = new Array<number>(shape.length).fill(0);
  for (let to = 0, from = 0; to < count; to++) {
    data[to] = source[from]!;
    for (let dim = index.length - 1; dim >= 0; dim--) {
      from += strides[dim]!;
      if (++index[dim]! < shape[dim]!) break;
      from -= index[dim]! * strides[dim]!;
      index[dim] = 0;
    }
  }
  return result;
}
