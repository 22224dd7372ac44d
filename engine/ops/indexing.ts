/** Elements picked and placed by index along the last dimension, with fixed orders of addition. */

import { DeviceArray, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { indexFlag } from "../index_flags.ts";
import {
  gatherKernel,
  scatterBackwardKernel,
  scatterKernel,
  segmentLastKernel,
  segmentStartsKernel,
  segmentSumKernel,
} from "../kernels/indexing.ts";
import { defineOp, type HostArray, type Op } from "../op.ts";
import { eachCoordinate, hostZeros } from "../reference.ts";
import { sameShape, show, sizeOf } from "../shape.ts";
import { fill } from "./fill.ts";
import { launchLinear } from "./launch_linear.ts";
import { copyOf, plain } from "./launch_pointwise.ts";
import { copyInto } from "./movement.ts";
import { sortedOrder } from "./sort.ts";

type None = Record<never, never>;

/** Throws unless `index` holds whole numbers. */
export function requireIndex(op: string, index: Spec): void {
  if (index.dtype !== "i32" && index.dtype !== "u32") {
    throw new TypeError(
      `Cannot ${op} with an index of dtype ${index.dtype}: it must be i32 or u32; convert it with ` +
        'to("i32")',
    );
  }
}

/** Throws if there is nothing to point at. */
export function requireTargets(op: string, index: Spec, R: number): void {
  if (R === 0 && sizeOf(index.shape) > 0) {
    throw new RangeError(
      `Cannot ${op} with an index ${show(index.shape)} along a dimension of size 0`,
    );
  }
}

/** Throws for dtypes that do not add. */
export function requireSum(op: string, x: Spec): void {
  if (x.dtype === "bool") throw new TypeError(`Cannot ${op} dtype bool: it must be a number type`);
}

/** The index as kernels bind it. */
export function plainIndex(index: DeviceArray): DeviceArray {
  return plain(index).bitcast("i32");
}

/** What a bad index gives: NaN, or 0 for integers, as bits. */
export function badBits(x: Spec): number {
  return isFloat(x.dtype) ? 0x7fc00000 : 0;
}

/** Leading sizes of `inner` are at most those of `outer`. */
function fits(inner: readonly number[], outer: readonly number[]): boolean {
  return inner.length === outer.length && inner.length > 0 &&
    inner.slice(0, -1).every((s, d) => s <= outer[d]!);
}

/** The part of x whose leading sizes are `lead`; a view. */
function region(x: DeviceArray, lead: readonly number[], last = x.shape.at(-1)!): DeviceArray {
  const shape = [...lead, last];
  return sameShape(shape, x.shape) ? x : x.view(shape, x.strides);
}

/** `part` laid over the region of its size of `whole`, which is copied; itself if it covers all. */
function overlaid(part: DeviceArray, whole: () => DeviceArray, shape: readonly number[]) {
  if (sameShape(part.shape, shape)) return part;
  const y = whole();
  copyInto(part, region(y, part.shape.slice(0, -1), part.shape.at(-1)!));
  return y;
}

/** x[l, index[l, k]] for x [..., R] and index [..., K] with equal leading sizes. */
function gathered(x: DeviceArray, index: DeviceArray): DeviceArray {
  const y = DeviceArray.empty({ shape: index.shape, dtype: x.dtype }, "gather");
  const [R, K] = [x.shape.at(-1)!, index.shape.at(-1)!];
  const { flags, word } = indexFlag("gather", R);
  launchLinear(
    gatherKernel({ dtype: x.dtype, rows: false, checked: true }),
    [plain(x), plainIndex(index), y, flags],
    { params: { count: y.size, R, K, bad: badBits(x), word }, threads: y.size },
  );
  return y;
}

/** Sorted sources of each destination; see `segmentStartsKernel`. */
export function segments(
  index: DeviceArray,
  { op, R }: { op: string; R: number },
): { order: DeviceArray; starts: DeviceArray } {
  const K = index.shape.at(-1)!;
  const { keys, order } = sortedOrder(index.bitcast("i32"), { descending: false });
  const starts = DeviceArray.empty(
    { shape: [...index.shape.slice(0, -1), R + 1], dtype: "u32" },
    "segment starts",
  );
  const { flags, word } = indexFlag(op, R);
  launchLinear(segmentStartsKernel(), [keys, starts, flags], {
    params: { count: starts.size, R, K, word },
    threads: starts.size,
  });
  return { order, starts };
}

/** base (or 0) plus src summed at its destinations; all with equal leading sizes. */
function summed(
  src: DeviceArray,
  index: DeviceArray,
  to: { op: string; R: number; base?: DeviceArray },
): DeviceArray {
  const { R, base } = to;
  const [K, lead] = [index.shape.at(-1)!, index.shape.slice(0, -1)];
  if (index.size === 0) {
    return base ? copyOf(base) : fill({ shape: [...lead, R], dtype: src.dtype }, 0);
  }
  const { order, starts } = segments(index, to);
  const y = DeviceArray.empty({ shape: [...lead, R], dtype: src.dtype }, to.op);
  launchLinear(
    segmentSumKernel({ dtype: src.dtype, rows: false, base: base !== undefined }),
    [plain(src), order, starts, ...(base ? [plain(base)] : []), y],
    { params: { count: y.size, R, K }, threads: y.size, flops: src.size },
  );
  return y;
}

/** y[..., k] = x[..., index[..., k]]; the index may be smaller than x in other dimensions. */
export const gather: Op<None> = defineOp<None>({
  name: "gather",
  linear: { given: [1] },
  check([x, index]) {
    requireIndex("gather", index!);
    if (!fits(index!.shape, x!.shape)) {
      throw new TypeError(
        `Cannot gather ${show(x!.shape)} by ${show(index!.shape)}: the index must have as many ` +
          "dimensions, and be no larger in those that are not indexed",
      );
    }
    requireTargets("gather", index!, x!.shape.at(-1)!);
    return [{ shape: index!.shape, dtype: x!.dtype }];
  },
  forward(ctx, [x, index]) {
    ctx.save(index!);
    return [gathered(region(x!, index!.shape.slice(0, -1)), index!)];
  },
  // dx[..., r] = the sum of dy[..., k] over k with index[..., k] = r
  backward(ctx, [dy]) {
    const [index] = ctx.saved as [DeviceArray];
    const x = ctx.inputs[0]!;
    const part = summed(dy!, index, { op: "gather", R: x.shape.at(-1)! });
    return [overlaid(part, () => fill(x, 0), x.shape), null];
  },
  reference([x, index]) {
    return [{ ...hostGather(x!, index!), dtype: x!.dtype }];
  },
  samples: [
    { inputs: [{ shape: [3, 5] }, at([3, 4], 5)], attrs: {}, terms: 4 },
    { inputs: [{ shape: [4, 3, 7] }, at([2, 3, 33], 7)], attrs: {}, terms: 33 },
    { inputs: [{ shape: [6] }, at([70], 6)], attrs: {}, terms: 70 },
    { inputs: [{ shape: [2, 3] }, at([2, 0], 3)], attrs: {}, terms: 1 },
    { inputs: [{ shape: [129] }, at([2], 129)], attrs: {}, terms: 1 },
    { inputs: [{ shape: [2, 3], dtype: "i32" }, at([2, 3], 3)], attrs: {} },
  ],
});

function at(shape: readonly number[], below: number) {
  return { shape, dtype: "i32" as const, low: 0, high: below };
}

/** Position of coordinates `at` in an array of `shape`, with another last coordinate. */
function position(shape: readonly number[], at: readonly number[], last: number): number {
  let p = 0;
  for (let d = 0; d < shape.length; d++) {
    p = p * shape[d]! + (d === shape.length - 1 ? last : at[d]!);
  }
  return p;
}

function hostGather(x: HostArray, index: HostArray): HostArray {
  const y = hostZeros(index.shape, x.dtype);
  const R = x.shape.at(-1)!;
  eachCoordinate(index.shape, (at, i) => {
    const r = index.data[i]!;
    y.data[i] = r >= 0 && r < R ? x.data[position(x.shape, at, r)]! : isFloat(x.dtype) ? NaN : 0;
  });
  return y;
}

function checkScatter(op: string, x: Spec, index: Spec, src: Spec): Spec[] {
  requireIndex(op, index);
  const small = index.shape.length === src.shape.length &&
    index.shape.every((s, d) => s <= src.shape[d]!);
  if (!fits(index.shape, x.shape) || !small) {
    throw new TypeError(
      `Cannot ${op} ${show(src.shape)} into ${show(x.shape)} by ${show(index.shape)}: the index ` +
        "must have as many dimensions, be no larger than the source, and no larger than the " +
        "tensor in dimensions that are not indexed",
    );
  }
  if (x.dtype !== src.dtype) {
    throw new TypeError(`Cannot ${op} ${src.dtype} into ${x.dtype}: the dtypes must be equal`);
  }
  requireTargets(op, index, x.shape.at(-1)!);
  return [{ shape: x.shape, dtype: x.dtype }];
}

/** The source cut to the index's shape; a view. */
function cut(src: DeviceArray, index: Spec): DeviceArray {
  return region(src, index.shape.slice(0, -1), index.shape.at(-1)!);
}

/** y = x with src[..., k] added at index[..., k], in the order of k. */
export const scatterAdd: Op<None> = defineOp<None>({
  name: "scatterAdd",
  linear: { given: [1] },
  check([x, index, src]) {
    requireSum("scatterAdd", x!);
    return checkScatter("scatterAdd", x!, index!, src!);
  },
  forward(ctx, [x, index, src]) {
    ctx.save(index!);
    const base = region(x!, index!.shape.slice(0, -1));
    const part = summed(cut(src!, index!), index!, {
      op: "scatterAdd",
      R: x!.shape.at(-1)!,
      base,
    });
    return [overlaid(part, () => copyOf(x!), x!.shape)];
  },
  // dsrc[..., k] = dy[..., index[..., k]]
  backward(ctx, [dy]) {
    const [index] = ctx.saved as [DeviceArray];
    const spec = ctx.inputs[2]!;
    if (!ctx.needs[2]) return [dy!, null, null];
    const part = gathered(region(dy!, index.shape.slice(0, -1)), index);
    return [dy!, null, overlaid(part, () => fill(spec, 0), spec.shape)];
  },
  reference([x, index, src]) {
    const y = { ...x!, data: x!.data.slice() };
    eachCoordinate(index!.shape, (at, i) => {
      const r = index!.data[i]!;
      if (r < 0 || r >= x!.shape.at(-1)!) return;
      y.data[position(x!.shape, at, r)]! += src!.data[position(src!.shape, at, at.at(-1)!)]!;
    });
    return [y];
  },
  samples: [
    { inputs: [{ shape: [3, 5] }, at([3, 4], 5), { shape: [3, 4] }], attrs: {}, terms: 5 },
    { inputs: [{ shape: [4, 7] }, at([2, 33], 7), { shape: [3, 40] }], attrs: {}, terms: 34 },
    { inputs: [{ shape: [3] }, at([100], 3), { shape: [100] }], attrs: {}, terms: 101 },
    { inputs: [{ shape: [2, 3] }, at([2, 0], 3), { shape: [2, 3] }], attrs: {}, terms: 1 },
    {
      inputs: [{ shape: [4], dtype: "i32" }, at([9], 4), { shape: [9], dtype: "i32" }],
      attrs: {},
    },
  ],
});

/** y = x with src[..., k] written at index[..., k]; of several writers the last one wins. */
export const scatter: Op<None> = defineOp<None>({
  name: "scatter",
  linear: { given: [1, null] },
  check: ([x, index, src]) => checkScatter("scatter", x!, index!, src!),
  forward(ctx, [x, index, src]) {
    const lead = index!.shape.slice(0, -1);
    const [R, K] = [x!.shape.at(-1)!, index!.shape.at(-1)!];
    const spec = { shape: [...lead, R], dtype: "i32" } as const;
    if (index!.size === 0) {
      ctx.save(index!, fill(spec, -1));
      return [copyOf(x!)];
    }
    const { order, starts } = segments(index!, { op: "scatter", R });
    const winner = DeviceArray.empty(spec, "scatter winner");
    const params = { count: winner.size, R, K };
    const threads = winner.size;
    launchLinear(segmentLastKernel(), [order, starts, winner], { params, threads });
    ctx.save(index!, winner);
    const part = DeviceArray.empty({ shape: spec.shape, dtype: x!.dtype }, "scatter");
    launchLinear(
      scatterKernel({ dtype: x!.dtype }),
      [plain(cut(src!, index!)), winner, plain(region(x!, lead)), part],
      { params, threads },
    );
    return [overlaid(part, () => copyOf(x!), x!.shape)];
  },
  // dx = dy where nothing was written; dsrc = dy where the source was the last to write
  backward(ctx, [dy]) {
    const [index, winner] = ctx.saved as [DeviceArray, DeviceArray];
    const lead = index.shape.slice(0, -1);
    const [R, K] = [winner.shape.at(-1)!, index.shape.at(-1)!];
    const dyPart = plain(region(dy!, lead));
    const [x, , src] = ctx.inputs;
    let dx: DeviceArray | null = null;
    if (ctx.needs[0]) {
      const part = DeviceArray.empty({ shape: winner.shape, dtype: dy!.dtype }, "scatter dx");
      const zeros = fill({ shape: [index.size], dtype: dy!.dtype }, 0);
      launchLinear(scatterKernel({ dtype: dy!.dtype }), [zeros, winner, dyPart, part], {
        params: { count: part.size, R, K },
        threads: K === 0 ? 0 : part.size,
      });
      dx = K === 0 ? dy! : overlaid(part, () => copyOf(dy!), x!.shape);
    }
    let dsrc: DeviceArray | null = null;
    if (ctx.needs[2]) {
      const part = DeviceArray.empty({ shape: index.shape, dtype: dy!.dtype }, "scatter dsrc");
      launchLinear(scatterBackwardKernel({ dtype: dy!.dtype }), [
        dyPart,
        plainIndex(index),
        winner,
        part,
      ], {
        params: { count: part.size, R, K },
        threads: part.size,
      });
      dsrc = overlaid(part, () => fill(src!, 0), src!.shape);
    }
    return [dx, null, dsrc];
  },
  reference([x, index, src]) {
    const y = { ...x!, data: x!.data.slice() };
    eachCoordinate(index!.shape, (at, i) => {
      const r = index!.data[i]!;
      if (r < 0 || r >= x!.shape.at(-1)!) return;
      y.data[position(x!.shape, at, r)] = src!.data[position(src!.shape, at, at.at(-1)!)]!;
    });
    return [y];
  },
  samples: [
    { inputs: [{ shape: [3, 5] }, at([3, 4], 5), { shape: [3, 4] }], attrs: {}, terms: 1 },
    { inputs: [{ shape: [4, 7] }, at([2, 33], 7), { shape: [3, 40] }], attrs: {}, terms: 1 },
    { inputs: [{ shape: [200] }, at([65], 200), { shape: [65] }], attrs: {}, terms: 1 },
    { inputs: [{ shape: [2, 3] }, at([2, 0], 3), { shape: [2, 3] }], attrs: {}, terms: 1 },
    {
      inputs: [{ shape: [4], dtype: "i32" }, at([9], 4), { shape: [9], dtype: "i32" }],
      attrs: {},
    },
  ],
});
