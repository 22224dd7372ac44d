/** Whole rows picked and added by index: embedding, indexSelect, indexAdd; and one-hot rows. */

import { checkDtype } from "../arguments.ts";
import { DeviceArray, type Spec } from "../array.ts";
import type { DType } from "../dtype.ts";
import { isFloat } from "../dtype.ts";
import { indexFlag } from "../index_flags.ts";
import {
  gatherKernel,
  indexCopyKernel,
  oneHotKernel,
  segmentSumKernel,
} from "../kernels/indexing.ts";
import { defineOp, notDifferentiable, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show, sizeOf } from "../shape.ts";
import { fill } from "./fill.ts";
import {
  badBits,
  plainIndex,
  requireIndex,
  requireSum,
  requireTargets,
  segments,
} from "./indexing.ts";
import { launchLinear } from "./launch_linear.ts";
import { copyOf, plain } from "./launch_pointwise.ts";
import { copyInto } from "./movement.ts";

/** Attributes of {@linkcode indexSelect}. */
export interface IndexSelectAttrs {
  /** Row that gets no gradient; -1 for none. */
  readonly paddingIdx: number;
}

function requireRows(op: string, x: Spec, index: Spec): void {
  requireIndex(op, index);
  if (x.shape.length === 0 || index.shape.length !== 1) {
    throw new TypeError(
      `Cannot ${op} ${show(x.shape)} by ${show(index.shape)}: the tensor must have a dimension, ` +
        "the index exactly one",
    );
  }
  requireTargets(op, index, x.shape[0]!);
}

function rowSize(x: Spec): number {
  return sizeOf(x.shape.slice(1));
}

function rowsAt(x: DeviceArray, index: DeviceArray): DeviceArray {
  const y = DeviceArray.empty(
    { shape: [index.shape[0]!, ...x.shape.slice(1)], dtype: x.dtype },
    "indexSelect",
  );
  const R = x.shape[0]!;
  const { flags, word } = indexFlag("indexSelect", R);
  launchLinear(
    gatherKernel({ dtype: x.dtype, rows: true, checked: true }),
    [plain(x), plainIndex(index), y, flags],
    { params: { count: y.size, R, D: rowSize(x), bad: badBits(x), word }, threads: y.size },
  );
  return y;
}

/** base (or 0) plus the rows of src summed at their destinations. */
function rowsSummed(
  src: DeviceArray,
  index: DeviceArray,
  to: { op: string; out: Spec; skip: number; base?: DeviceArray },
): DeviceArray {
  const { op, out, skip, base } = to;
  if (index.size === 0) return base ? copyOf(base) : fill(out, 0);
  const R = out.shape[0]!;
  const { order, starts } = segments(index, { op, R });
  const y = DeviceArray.empty(out, op);
  launchLinear(
    segmentSumKernel({ dtype: out.dtype, rows: true, base: base !== undefined }),
    [plain(src), order, starts, ...(base ? [plain(base)] : []), y],
    { params: { count: y.size, R, D: rowSize(out), skip }, threads: y.size, flops: src.size },
  );
  return y;
}

/**
 * Overwrites slice index[k] of dimension `dim` of `y` with slice k of `src`, in place.
 *
 * @throws {TypeError} if shapes or dtypes do not fit
 */
export function indexCopyInto(
  y: DeviceArray,
  { dim, index, src }: { dim: number; index: DeviceArray; src: DeviceArray },
): void {
  requireIndex("indexCopy_", index);
  if (y.shape.length === 0) {
    throw new TypeError("Cannot indexCopy_ into a scalar: it has no dimension; use copy_");
  }
  const want = y.shape.map((s, d) => d === dim ? index.size : s);
  if (index.shape.length !== 1 || show(src.shape) !== show(want)) {
    throw new TypeError(
      `Cannot indexCopy_ ${show(src.shape)} into ${show(y.shape)} by ${show(index.shape)}: the ` +
        `index must have one dimension, and the source then be ${show(want)}`,
    );
  }
  if (y.dtype !== src.dtype) {
    throw new TypeError(`Cannot indexCopy_ ${src.dtype} into ${y.dtype}: the dtypes must be equal`);
  }
  const R = y.shape[dim]!;
  requireTargets("indexCopy_", index, R);
  const target = plain(y);
  const { flags, word } = indexFlag("indexCopy_", R);
  // A kernel cannot read the memory that it writes.
  const apart = (a: DeviceArray) => a.storage === target.storage ? copyOf(a) : a;
  launchLinear(indexCopyKernel({ dtype: y.dtype }), [
    plain(apart(src)),
    plainIndex(apart(index)),
    target,
    flags,
  ], {
    params: { count: src.size, R, K: index.size, D: sizeOf(y.shape.slice(dim + 1)), word },
    threads: src.size,
    bytes: 2 * src.bytes + index.bytes,
  });
  if (target !== y) copyInto(target, y);
}

function rowSamples(): [number[], number, number][] {
  return [[[5, 3], 4, 5], [[2, 3, 4], 33, 2], [[7], 65, 7], [[60, 2], 45, 60], [[4, 0], 3, 4], [
    [
      3,
      2,
    ],
    0,
    3,
  ]];
}

/** y[k] = x[index[k]] for rows of x [R, ...] and index [K]. */
export const indexSelect: Op<IndexSelectAttrs> = defineOp<IndexSelectAttrs>({
  name: "indexSelect",
  check([x, index], { paddingIdx }) {
    requireRows("indexSelect", x!, index!);
    if (!Number.isInteger(paddingIdx) || paddingIdx < -1 || paddingIdx >= x!.shape[0]!) {
      throw new RangeError(
        `Cannot pad with row ${paddingIdx} of ${show(x!.shape)}: it must be below ${x!.shape[0]}`,
      );
    }
    return [{ shape: [index!.shape[0]!, ...x!.shape.slice(1)], dtype: x!.dtype }];
  },
  forward(ctx, [x, index]) {
    ctx.save(index!);
    return [rowsAt(x!, index!)];
  },
  // dx[r] = the sum of dy[k] over k with index[k] = r; 0 for the padding row
  backward(ctx, [dy], { paddingIdx }) {
    const [index] = ctx.saved as [DeviceArray];
    const to = { op: "indexSelect", out: ctx.inputs[0]!, skip: paddingIdx };
    return [rowsSummed(dy!, index, to), null];
  },
  reference([x, index]) {
    const D = rowSize(x!);
    const y = hostZeros([index!.shape[0]!, ...x!.shape.slice(1)], x!.dtype);
    index!.data.forEach((r, k) => {
      for (let d = 0; d < D; d++) {
        const inside = r >= 0 && r < x!.shape[0]!;
        y.data[k * D + d] = inside ? x!.data[r * D + d]! : isFloat(x!.dtype) ? NaN : 0;
      }
    });
    return [y];
  },
  samples: [
    ...rowSamples().map(([shape, K, R]) => ({
      inputs: [{ shape }, { shape: [K], dtype: "i32" as const, low: 0, high: R }],
      attrs: { paddingIdx: -1 },
      terms: Math.max(K, 1),
    })),
    // A padding row that is not used: its gradient is 0 like its difference.
    {
      inputs: [{ shape: [4, 3] }, { shape: [5], dtype: "u32", values: [3, 0, 0, 3, 1] }],
      attrs: { paddingIdx: 2 },
      terms: 5,
    },
  ],
});

/** y = x with the rows src[k] added at index[k], in the order of k. */
export const indexAdd: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "indexAdd",
  linear: { given: [1] },
  check([x, index, src]) {
    requireRows("indexAdd", x!, index!);
    requireSum("indexAdd", x!);
    const want = [index!.shape[0]!, ...x!.shape.slice(1)];
    if (src!.shape.length !== want.length || src!.shape.some((s, d) => s !== want[d])) {
      throw new TypeError(
        `Cannot indexAdd ${show(src!.shape)} into ${show(x!.shape)}: the source must be ` +
          `${show(want)}`,
      );
    }
    if (x!.dtype !== src!.dtype) {
      throw new TypeError(
        `Cannot indexAdd ${src!.dtype} into ${x!.dtype}: the dtypes must be equal`,
      );
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(ctx, [x, index, src]) {
    ctx.save(index!);
    return [rowsSummed(src!, index!, { op: "indexAdd", out: x!, skip: -1, base: x! })];
  },
  // dx = dy, dsrc[k] = dy[index[k]]
  backward(ctx, [dy]) {
    const [index] = ctx.saved as [DeviceArray];
    return [dy!, null, ctx.needs[2] ? rowsAt(dy!, index) : null];
  },
  reference([x, index, src]) {
    const D = rowSize(x!);
    const y = { ...x!, data: x!.data.slice() };
    index!.data.forEach((r, k) => {
      if (r < 0 || r >= x!.shape[0]!) return;
      for (let d = 0; d < D; d++) y.data[r * D + d]! += src!.data[k * D + d]!;
    });
    return [y];
  },
  samples: rowSamples().map(([shape, K, R]) => ({
    inputs: [
      { shape },
      { shape: [K], dtype: "i32" as const, low: 0, high: R },
      { shape: [K, ...shape.slice(1)] },
    ],
    attrs: {},
    terms: K + 1,
  })),
});

/** Attributes of {@linkcode oneHot}. */
export interface OneHotAttrs {
  readonly classes: number;
  readonly dtype: DType;
}

/** y[..., c] = 1 where c is the index, else 0. */
export const oneHot: Op<OneHotAttrs> = defineOp<OneHotAttrs>({
  name: "oneHot",
  check([index], { classes, dtype }) {
    requireIndex("oneHot", index!);
    checkDtype("oneHot", dtype);
    if (!Number.isInteger(classes) || classes < 1) {
      throw new RangeError(`Cannot oneHot ${classes} classes: it must be a whole number above 0`);
    }
    return [{ shape: [...index!.shape, classes], dtype }];
  },
  forward(_ctx, [index], { classes }, [out]) {
    const y = DeviceArray.empty(out!, "oneHot");
    const { flags, word } = indexFlag("oneHot", classes);
    launchLinear(oneHotKernel({ dtype: y.dtype }), [plainIndex(index!), y, flags], {
      params: { count: y.size, R: classes, word },
      threads: y.size,
    });
    return [y];
  },
  backward: notDifferentiable("class ids are whole numbers"),
  reference([index], { classes, dtype }) {
    const y = hostZeros([...index!.shape, classes], dtype);
    index!.data.forEach((c, n) => {
      if (c >= 0 && c < classes) y.data[n * classes + c] = 1;
    });
    return [y];
  },
  samples: [
    ...([[[7], 5, "i32"], [[2, 33], 3, "f32"], [[], 2, "bool"], [[0], 4, "u32"]] as const).map(
      ([shape, classes, dtype]) => ({
        inputs: [{ shape, dtype: "i32" as const, low: 0, high: classes }],
        attrs: { classes, dtype },
      }),
    ),
    // The last class last, so that the last element of the output is a 1.
    ...(["i32", "f32", "bool"] as const).map((dtype) => ({
      inputs: [{ shape: [6], dtype: "i32" as const, values: [1, 0, 2, 2, 0, 2] }],
      attrs: { classes: 3, dtype },
    })),
  ],
});
