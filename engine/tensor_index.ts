/** Picking, placing and ordering elements, as methods. */

import { checkOptions } from "./arguments.ts";
import { apply } from "./apply.ts";
import { inArena } from "./array.ts";
import { fill } from "./ops/fill.ts";
import { indexAdd, indexSelect } from "./ops/index_rows.ts";
import { gather, scatter, scatterAdd } from "./ops/indexing.ts";
import { copyOf } from "./ops/launch_pointwise.ts";
import { nonzeroCoordinates, nonzeroStarts } from "./ops/nonzero.ts";
import { where } from "./ops/select.ts";
import { sort } from "./ops/sort.ts";
import { readAll } from "./read.ts";
import { normalizeDim, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { wrapTensor } from "./tensor_base.ts";
import { TensorReduce } from "./tensor_reduce.ts";

/** Options of sorting. */
export interface SortOptions {
  /** Dimension to sort along; default the last. */
  dim?: number;
  /** Largest first; default false. */
  descending?: boolean;
}

/**
 * Indexing methods of a tensor. Indices are i32 or u32. One out of range is thrown as a RangeError at
 * the next `await` that reads; until then it gives NaN (0 for integers), or its source is left out.
 */
export abstract class TensorIndex extends TensorReduce {
  /**
   * y[i][k] = this[i][index[i][k]] along dim. The index has as many dimensions and may be smaller in
   * the others; a tensor [] counts as [1] here, as it does for all that follow. Gradient: scatterAdd.
   *
   * @throws {TypeError} if shapes or dtypes do not fit
   */
  gather(dim: number, index: Tensor): Tensor {
    const d = normalizeDim("gather", dim, this.ndim);
    return atLast(
      { dim: d, like: index },
      [this, index],
      ([x, i]) => apply(gather, [x!, i!], {})[0]!,
    );
  }
  /**
   * A copy with src[i][k] written at [i][index[i][k]] along dim. Of several writers of one element the
   * last along dim wins, and gets the gradient.
   *
   * @throws {TypeError} if shapes or dtypes do not fit
   */
  scatter(dim: number, index: Tensor, src: Tensor): Tensor {
    const d = normalizeDim("scatter", dim, this.ndim);
    return atLast({ dim: d, like: this }, [this, index, src], (all) => apply(scatter, all, {})[0]!);
  }
  /**
   * A copy with src[i][k] added at [i][index[i][k]] along dim, in the order of k: the same bits every
   * time.
   *
   * @throws {TypeError} if shapes or dtypes do not fit
   */
  scatterAdd(dim: number, index: Tensor, src: Tensor): Tensor {
    const d = normalizeDim("scatterAdd", dim, this.ndim);
    return atLast(
      { dim: d, like: this },
      [this, index, src],
      (all) => apply(scatterAdd, all, {})[0]!,
    );
  }
  /**
   * The slices of dim that index [K], or [] for one, names, in its order.
   *
   * @throws {TypeError} if the index has more dimensions, or is not i32 or u32
   */
  indexSelect(dim: number, index: Tensor): Tensor {
    const d = normalizeDim("indexSelect", dim, this.ndim);
    if (this.ndim === 0 && index.size !== 1) {
      throw new TypeError(
        `Cannot indexSelect [] by ${show(index.shape)}: it has one element, so give one index`,
      );
    }
    const rows = d === 0 ? asRow(this) : this.transpose(0, d);
    const y = apply(indexSelect, [rows, asRow(index)], { paddingIdx: -1 })[0]!;
    if (this.ndim === 0) return y.reshape([]);
    return d === 0 ? y : y.transpose(0, d);
  }
  /**
   * A copy with alpha · (slice k of source) added to slice index[k] of dim, in the order of k.
   *
   * @throws {TypeError} if shapes or dtypes do not fit
   */
  indexAdd(dim: number, index: Tensor, source: Tensor, options: { alpha?: number } = {}): Tensor {
    checkOptions("indexAdd", options, "x.indexAdd(0, index, source, { alpha: 2 })");
    const { alpha = 1 } = options;
    const d = normalizeDim("indexAdd", dim, this.ndim);
    const scaled = alpha === 1 ? source : source.mul(alpha);
    const [x, rows] = d === 0 ? [this, scaled] : [this.transpose(0, d), scaled.transpose(0, d)];
    const y = apply(indexAdd, [x, index, rows], {})[0]!;
    return d === 0 ? y : y.transpose(0, d);
  }
  /**
   * `value` where mask (bool, broadcast) is true, else this.
   *
   * @throws {TypeError} if the mask is not bool
   */
  maskedFill(mask: Tensor, value: number): Tensor {
    const scalar = wrapTensor(inArena(() => fill({ shape: [], dtype: this.dtype }, value)));
    return apply(where, [mask, scalar, this], {})[0]!;
  }
  /**
   * Coordinates [found, ndim] (i32) of the elements that are not 0, row by row. Their number must be
   * known to make the result, so this waits for the GPU.
   */
  async nonzero(): Promise<Tensor> {
    // A copy: work in place before the count is read must not change what is found.
    const [source, starts, total] = inArena(() => {
      const copy = copyOf(this.device);
      const made = nonzeroStarts(copy);
      return [copy, made.starts, made.total];
    }).map((a) => wrapTensor(a!));
    try {
      const found = (await readAll([total!]))[0]![0]!;
      return wrapTensor(
        inArena(() => nonzeroCoordinates(source!.device, { starts: starts!.device, found })),
      );
    } finally {
      for (const t of [starts, total, source]) t!.dispose();
    }
  }
  /**
   * Values in order along a dimension, and where they came from (i32). Stable; NaN counts as largest,
   * as in PyTorch. Gradient: back to where they came from.
   */
  sort(options: SortOptions = {}): { values: Tensor; indices: Tensor } {
    checkOptions("sort", options, "x.sort({ dim: 0, descending: true })");
    const { dim = -1, descending = false } = options;
    const d = this.ndim === 0 ? 0 : normalizeDim("sort", dim, this.ndim);
    const last = d >= this.ndim - 1;
    const [values, indices] = apply(sort, [last ? this : this.transpose(d, -1)], { descending });
    return last
      ? { values: values!, indices: indices! }
      : { values: values!.transpose(d, -1), indices: indices!.transpose(d, -1) };
  }
  /** Positions (i32) that sort a dimension; see {@linkcode sort}. */
  argsort(options: SortOptions = {}): Tensor {
    return this.sort(options).indices;
  }
}

/** Runs an op of the last dimension along `dim`, with tensors [] as [1]; the result has as many dimensions as `like`. */
function atLast(
  { dim, like }: { dim: number; like: TensorIndex | Tensor },
  inputs: readonly (TensorIndex | Tensor)[],
  op: (inputs: readonly Tensor[]) => Tensor,
): Tensor {
  const all = inputs.map(asRow);
  if (like.ndim === 0) return op(all).reshape([]);
  if (all.every((t) => dim === t.ndim - 1)) return op(all);
  const rank = all[0]!.ndim;
  // Shapes that do not fit go on as they are: the op's check names them.
  if (all.some((t) => t.ndim !== rank)) return op(all);
  return op(all.map((t) => t.transpose(dim, -1))).transpose(dim, -1);
}

function asRow(x: TensorIndex | Tensor): Tensor {
  return x.ndim === 0 ? x.reshape(1) : x as Tensor;
}
