/** Sorting along the last dimension. */

import { DeviceArray } from "../array.ts";
import { SORT_BLOCK, sortBlocksKernel, sortMergeKernel, unsortKernel } from "../kernels/sort.ts";
import { gatherKernel } from "../kernels/indexing.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { launchLinear } from "./launch_linear.ts";
import { plain } from "./launch_pointwise.ts";

/** Attributes of {@linkcode sort}. */
export interface SortAttrs {
  readonly descending: boolean;
}

/**
 * The stable order of each row of x [..., C]: positions (i32) and their u32 keys, both [..., C]. NaN
 * is larger than every number.
 */
export function sortedOrder(
  x: DeviceArray,
  { descending }: SortAttrs,
): { keys: DeviceArray; order: DeviceArray } {
  const C = x.shape.at(-1) ?? 1;
  const both = () => ({
    keys: DeviceArray.empty({ shape: x.shape, dtype: "u32" }, "sort keys"),
    order: DeviceArray.empty({ shape: x.shape, dtype: "i32" }, "sort order"),
  });
  let from = both();
  if (x.size === 0) return from;
  const threads = x.size;
  launchLinear(sortBlocksKernel({ dtype: x.dtype, descending }), [
    plain(x),
    from.keys,
    from.order,
  ], { params: { count: threads, C }, threads });
  let to = C > SORT_BLOCK ? both() : from;
  for (let width = SORT_BLOCK; width < C; width *= 2) {
    launchLinear(sortMergeKernel(), [from.keys, from.order, to.keys, to.order], {
      params: { count: threads, C, shift: Math.log2(width) },
      threads,
    });
    [from, to] = [to, from];
  }
  return from;
}

/** Values in order and where they came from (i32), along the last dimension. */
export const sort: Op<SortAttrs> = defineOp<SortAttrs>({
  name: "sort",
  check: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }, { shape: x!.shape, dtype: "i32" }],
  forward(ctx, [x], attrs) {
    const source = plain(x!);
    const { order } = sortedOrder(source, attrs);
    const values = DeviceArray.empty(source, "sorted");
    const C = source.shape.at(-1) ?? 1;
    launchLinear(gatherKernel({ dtype: source.dtype, rows: false, checked: false }), [
      source,
      order,
      values,
    ], { params: { count: values.size, R: C, K: C }, threads: values.size });
    ctx.save(order);
    return [values, order];
  },
  // dx[order[j]] = dy[j]
  backward(ctx, [dy]) {
    const [order] = ctx.saved as [DeviceArray];
    const dx = DeviceArray.empty(ctx.inputs[0]!, "sort dx");
    const params = { count: dx.size, C: dx.shape.at(-1) ?? 1 };
    launchLinear(unsortKernel({ dtype: dx.dtype }), [plain(dy!), order, dx], {
      params,
      threads: dx.size,
    });
    return [dx];
  },
  reference([x], { descending }) {
    const C = x!.shape.at(-1) ?? 1;
    const [values, indices] = [hostZeros(x!.shape, x!.dtype), hostZeros(x!.shape, "i32")];
    for (let first = 0; first < x!.data.length; first += C) {
      hostOrder(x!, first, { C, descending }).forEach((c, j) => {
        values.data[first + j] = x!.data[first + c]!;
        indices.data[first + j] = c;
      });
    }
    return [values, indices];
  },
  samples: sortSamples(),
});

/** Stable order of C elements from `first` on, NaN as the largest. */
export function hostOrder(
  x: HostArray,
  first: number,
  options: { C: number; descending: boolean },
): number[] {
  const { C, descending } = options;
  const compare = (a: number, b: number): number =>
    Number.isNaN(a) || Number.isNaN(b)
      ? Number(Number.isNaN(a)) - Number(Number.isNaN(b))
      : a < b
      ? -1
      : Number(a > b);
  const at = (c: number) => x.data[first + c]!;
  return Array.from({ length: C }, (_, c) => c).sort((a, b) =>
    (descending ? compare(at(b), at(a)) : compare(at(a), at(b))) || a - b
  );
}

function sortSamples(): Sample<SortAttrs>[] {
  const sizes = [[5], [1], [3, 0], [], [2, 31], [1, 32], [3, 33], [65], [2, 2, 127], [1, 257]];
  const drawn = sizes.map((shape, i) => ({
    inputs: [{ shape, distinct: true }],
    attrs: { descending: i % 2 === 1 },
    terms: 1,
  }));
  const odd = [NaN, -0, 0, Infinity, 3, -Infinity, NaN, 3, 1e-40, -1e-40, -7];
  const extremes = [false, true].map((descending) => ({
    inputs: [{ shape: [odd.length], values: odd }],
    attrs: { descending },
    grad: false,
    terms: 1,
  }));
  const integers = (["i32", "u32", "bool"] as const).map((dtype) => ({
    inputs: [{
      shape: [2, 70],
      dtype,
      low: dtype === "i32" ? -9 : 0,
      high: dtype === "bool" ? 2 : 9,
    }],
    attrs: { descending: dtype === "u32" },
    grad: false,
    terms: 1,
  }));
  const wide = {
    inputs: [{
      shape: [70],
      dtype: "u32" as const,
      values: Array.from({ length: 70 }, (_, i) => (i * 2654435761) % 2 ** 32),
    }],
    attrs: { descending: false },
    grad: false,
  };
  return [...drawn, ...extremes, ...integers, wide, { ...wide, attrs: { descending: true } }];
}
