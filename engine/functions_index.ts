/** Indexing functions that are not methods. */

import { checkOptions } from "./arguments.ts";
import { inArena } from "./array.ts";
import type { DType } from "./dtype.ts";
import { indexSelect, oneHot as oneHotOp } from "./ops/index_rows.ts";
import { random } from "./ops/random.ts";
import { sortedOrder } from "./ops/sort.ts";
import { show } from "./shape.ts";
import { apply, Tensor } from "./tensor.ts";

/**
 * Rows of weight [V, D] by id: ids [...] (i32 or u32) → [..., D]. Gradients of equal ids add up in the
 * order of the ids; the row `paddingIdx` (negative counts from the end) gets none.
 *
 * An id outside 0..V-1 gives NaN, and a RangeError at the next `await` that reads.
 *
 * @throws {TypeError} if weight is not [V, D] or ids are not i32 or u32
 * @throws {RangeError} if paddingIdx is outside the rows
 */
export function embedding(
  ids: Tensor,
  weight: Tensor,
  options: { paddingIdx?: number } = {},
): Tensor {
  checkOptions("embedding", options, "embedding(ids, weight, { paddingIdx: 0 })");
  if (weight.ndim !== 2) {
    throw new TypeError(`Cannot embed with a weight ${show(weight.shape)}: it must be [V, D]`);
  }
  const [V, D] = weight.shape as [number, number];
  const { paddingIdx } = options;
  if (paddingIdx !== undefined && !(paddingIdx >= -V && paddingIdx < V)) {
    throw new RangeError(
      `Cannot embed with paddingIdx ${paddingIdx}: it must be ${-V} to ${V - 1}`,
    );
  }
  const row = paddingIdx === undefined ? -1 : paddingIdx < 0 ? paddingIdx + V : paddingIdx;
  return apply(indexSelect, [weight, ids.reshape(-1)], { paddingIdx: row })[0]!
    .reshape([...ids.shape, D]);
}

/**
 * ids [...] (i32 or u32) → [..., numClasses] with 1 at the id and 0 elsewhere; i32 unless said
 * otherwise. An id outside the classes gives zeros, and a RangeError at the next `await` that reads.
 *
 * @throws {TypeError} if ids are not i32 or u32
 * @throws {RangeError} if numClasses is not a whole number above 0
 */
export function oneHot(
  ids: Tensor,
  numClasses: number,
  options: { dtype?: DType } = {},
): Tensor {
  checkOptions("oneHot", options, 'oneHot(ids, 10, { dtype: "f32" })');
  return apply(oneHotOp, [ids], { classes: numClasses, dtype: options.dtype ?? "i32" })[0]!;
}

/**
 * The numbers 0 to n - 1 (i32) in random order: the order of n random 32-bit keys. Keys that are equal
 * (about n² / 2^33 pairs) keep the order of their numbers.
 *
 * @throws {RangeError} if n is not a whole number of at least 0
 *
 * @example
 * ```ts
 * import { init, randperm } from "../mod.ts";
 * await init();
 * console.log((await randperm(5).data()).length); // 5
 * ```
 */
export function randperm(n: number): Tensor {
  if (!Number.isInteger(n) || n < 0) {
    throw new RangeError(`Cannot permute ${n} numbers: it must be a whole number of at least 0`);
  }
  return new Tensor(inArena(() => {
    const keys = random(
      { shape: [n], dtype: "u32" },
      { distribution: "integer", low: 0, range: 0xffffffff },
    );
    return sortedOrder(keys, { descending: false }).order;
  }));
}
