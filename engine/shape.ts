/**
 * Pure arithmetic on shapes and strides. Nothing here knows of a GPU.
 *
 * A shape is a list of sizes, outermost first; strides count elements.
 */

import { given } from "./arguments.ts";

/** Number of elements of `shape`; 1 for a scalar (rank 0). */
export function sizeOf(shape: readonly number[]): number {
  let n = 1;
  for (const s of shape) n *= s;
  return n;
}

/** Row-major strides of `shape`, in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(shape[i]!, 1);
  }
  return strides;
}

/** True if `strides` lay `shape` out row-major without gaps (dimensions of size 1 do not count). */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

/** `[2, 3]` as it stands in messages. */
export function show(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/** Coordinates of the element with row-major number `index`. */
export function coordinatesOf(shape: readonly number[], index: number): number[] {
  const at = new Array<number>(shape.length);
  let rest = index;
  for (let d = shape.length - 1; d >= 0; d--) {
    at[d] = rest % shape[d]!;
    rest = Math.floor(rest / shape[d]!);
  }
  return at;
}

/** True if both shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * The shape two operands broadcast to, by NumPy's rule.
 *
 * @throws {TypeError} if a pair of sizes differs and neither is 1
 */
export function broadcastShapes(
  op: string,
  ...shapes: readonly (readonly number[])[]
): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const at = rank - shape.length + i;
      const s = shape[i]!;
      if (s === 1 || s === out[at]) continue;
      if (out[at] !== 1) {
        throw new TypeError(
          `Cannot ${op} ${shapes.map(show).join(" with ")}: sizes ${out[at]} and ${s} in ` +
            `dimension ${at - rank} must be equal, or one of them 1`,
        );
      }
      out[at] = s;
    }
  }
  return out;
}

/** Strides that read `shape` as if it had been broadcast to `target` (0 where it repeats). */
export function broadcastStrides(
  shape: readonly number[],
  strides: readonly number[],
  target: readonly number[],
): number[] {
  const lead = target.length - shape.length;
  return target.map((_, i) => {
    if (i < lead) return 0;
    return shape[i - lead] === 1 ? 0 : strides[i - lead]!;
  });
}

/**
 * `dim` counted from the front.
 *
 * @throws {RangeError} if it is outside -rank..rank-1
 */
export function normalizeDim(op: string, dim: number, rank: number): number {
  const limit = Math.max(rank, 1);
  if (!Number.isInteger(dim) || dim < -limit || dim >= limit) {
    throw new RangeError(
      `Cannot ${op} along dimension ${given(dim)}: a tensor of rank ${rank} has dimensions ` +
        `${-limit} to ${limit - 1}`,
    );
  }
  return dim < 0 ? dim + limit : dim;
}

/**
 * Sorted dimensions counted from the front; all of them when `dims` is absent.
 *
 * @throws {RangeError} if one is out of range or named twice
 */
export function normalizeDims(
  op: string,
  dims: number | readonly number[] | undefined,
  rank: number,
): number[] {
  if (dims === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = typeof dims === "number" ? [dims] : dims;
  const out = list.map((d) => normalizeDim(op, d, rank)).sort((a, b) => a - b);
  for (let i = 1; i < out.length; i++) {
    if (out[i] === out[i - 1]) {
      throw new RangeError(
        `Cannot ${op} along dimension ${out[i]} twice: name each dimension once`,
      );
    }
  }
  return rank === 0 ? [] : out;
}

/**
 * The shape asked for with one -1 replaced by what remains.
 *
 * @throws {TypeError} if the number of elements does not fit
 */
export function inferReshape(from: readonly number[], to: readonly number[]): number[] {
  const size = sizeOf(from);
  const unknown = to.indexOf(-1);
  const fixed = to.reduce((n, s, i) => (i === unknown ? n : n * s), 1);
  const bad = to.some((s, i) => i !== unknown && (!Number.isInteger(s) || s < 0));
  const shape = [...to];
  if (unknown >= 0 && !bad && fixed > 0 && size % fixed === 0) shape[unknown] = size / fixed;
  if (bad || sizeOf(shape) !== size || shape.includes(-1)) {
    throw new TypeError(
      `Cannot reshape ${show(from)} to ${show(to)}: ${size} elements must stay ${size}` +
        (unknown >= 0 ? `, and -1 stands for one size only` : ``),
    );
  }
  return shape;
}

/**
 * Strides of the same elements under a new shape, or null if only a copy can give it.
 * Follows PyTorch's `computeStride`: each group of old dimensions that is laid out as one run
 * may be cut into new dimensions.
 */
export function reshapeStrides(
  shape: readonly number[],
  strides: readonly number[],
  to: readonly number[],
): number[] | null {
  if (sizeOf(shape) === 0) return contiguousStrides(to);
  const out = new Array<number>(to.length);
  let view = to.length - 1;
  let base = shape.length > 0 ? strides[shape.length - 1]! : 1;
  let chunk = 1;
  let viewChunk = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    chunk *= shape[i]!;
    const ends = i === 0 || (shape[i - 1] !== 1 && strides[i - 1] !== chunk * base);
    if (!ends) continue;
    while (view >= 0 && (viewChunk < chunk || to[view] === 1)) {
      out[view] = viewChunk * base;
      viewChunk *= to[view]!;
      view--;
    }
    if (viewChunk !== chunk) return null;
    if (i > 0) {
      base = strides[i - 1]!;
      chunk = 1;
      viewChunk = 1;
    }
  }
  for (; view >= 0; view--) out[view] = 1;
  return out;
}

/** Operands' strides and the shape they share, with runs of dimensions merged. */
export interface Collapsed {
  readonly shape: number[];
  readonly strides: number[][];
}

/**
 * Merges neighbouring dimensions that every operand walks as one run and drops those of size 1,
 * so that kernels see the smallest rank. Rank is at least 1.
 */
export function collapse(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
): Collapsed {
  const dims: number[] = [];
  const steps: number[][] = strides.map(() => []);
  for (let i = 0; i < shape.length; i++) {
    const size = shape[i]!;
    if (size === 1) continue;
    const last = dims.length - 1;
    const merges = last >= 0 && strides.every((s, k) => steps[k]![last] === s[i]! * size);
    if (merges) {
      dims[last]! *= size;
      strides.forEach((s, k) => steps[k]![last] = s[i]!);
    } else {
      dims.push(size);
      strides.forEach((s, k) => steps[k]!.push(s[i]!));
    }
  }
  if (dims.length === 0) {
    dims.push(1);
    steps.forEach((s) => s.push(1));
  }
  return { shape: dims, strides: steps };
}
