/** Inputs of an op's samples: drawn from the op's name and the sample's number, and laid out in memory. */

import { tensor } from "../../engine/creation.ts";
import { type DType, isFloat } from "../../engine/dtype.ts";
import type { HostArray, SampleInput } from "../../engine/op.ts";
import { philox4x32 } from "../../engine/philox.ts";
import { contiguousStrides, sizeOf } from "../../engine/shape.ts";
import type { Tensor } from "../../engine/tensor.ts";

/** Uniform numbers that depend on a name alone. */
export class Draw {
  readonly #key: number;
  #next = 0;

  constructor(name: string) {
    let hash = 0x811c9dc5; // FNV-1a
    for (const char of name) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
    this.#key = hash >>> 0;
  }

  /** In [0, 1). */
  uniform(): number {
    return philox4x32([this.#next++, 0, 0, 0], [this.#key, 0])[0] / 2 ** 32;
  }

  /** 0.5 to 1.5 with a random sign, exact in f16. */
  weight(): number {
    const u = this.uniform();
    const size = 0.5 + Math.floor(u * 512) / 512;
    return (u * 512) % 1 < 0.5 ? size : -size;
  }

  /** The numbers 0 to count - 1 in random order. */
  shuffled(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor(this.uniform() * (i + 1));
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }
}

/** `value` as the nearest number that `dtype` can hold. */
export function rounded(value: number, dtype: DType): number {
  if (dtype === "f32") return Math.fround(value);
  if (dtype === "f16") return Math.f16round(value);
  if (dtype === "bool") return Number(value !== 0);
  return Math.floor(value);
}

/** Values for a sample's inputs. `as` replaces f32, for the other dtypes that an op may take. */
export function drawInputs(
  inputs: readonly SampleInput[],
  draw: Draw,
  as: DType = "f32",
): HostArray[] {
  // Inputs that must differ from each other share one set of values.
  const separate = inputs.filter((s) => s.distinct && !s.values);
  const count = separate.reduce((n, s) => n + sizeOf(s.shape), 0);
  const order = draw.shuffled(count);
  let taken = 0;
  return inputs.map((s) => {
    const dtype = s.dtype ?? as;
    const { low = -2, high = 2 } = s;
    const size = sizeOf(s.shape);
    if (s.values && s.values.length !== size) {
      throw new Error(`A sample has ${s.values.length} values for [${s.shape}]`);
    }
    const data = Float64Array.from({ length: size }, (_, i) => {
      if (s.values) return s.values[i]!;
      if (!isFloat(dtype)) {
        const least = Math.ceil(low);
        return least + Math.floor(draw.uniform() * Math.max(1, high - least));
      }
      if (!s.distinct) return low + draw.uniform() * (high - low);
      // At least 0.05 apart, and never on a multiple of 0.05: kinks are at round numbers.
      const step = Math.max(0.05, (high - low) / Math.max(count, 1));
      const start = s.low ?? -step * count / 2;
      return start + (order[taken++]! + 0.37) * step;
    });
    return { shape: s.shape, dtype, data: data.map((v) => rounded(v, dtype)) };
  });
}

/**
 * How values lie in memory: row-major from the start, row-major from the second element on, dimensions
 * reversed, every other one of a larger block, or whole rows with four elements between them.
 */
export type Layout = "contiguous" | "offset" | "transposed" | "sliced" | "rows";

/** Every layout that differs for one of these shapes. */
export function layoutsOf(shapes: readonly (readonly number[])[]): readonly Layout[] {
  const apart = shapes.some(inFours);
  return ["contiguous", "offset", "transposed", "sliced", ...(apart ? ["rows" as const] : [])];
}

/** Whether the shape has rows of whole fours, which kernels read as such, also where they lie apart. */
function inFours(shape: readonly number[]): boolean {
  const last = shape.at(-1) ?? 0;
  return last > 0 && last % 4 === 0 && sizeOf(shape) > last;
}

/** A leaf with the given values in the given layout. What lies between them is NaN, or a large number. */
export function place(host: HostArray, layout: Layout): Tensor {
  const { shape, dtype } = host;
  if (layout === "contiguous" || (layout === "rows" && !inFours(shape))) {
    return tensor(host.data, { shape, dtype });
  }
  const garbage = isFloat(dtype) ? NaN : dtype === "bool" ? 1 : 123456;
  if (layout === "offset") {
    using base = tensor(Float64Array.of(garbage, ...host.data, garbage), { dtype });
    using run = base.narrow(0, 1, host.data.length);
    using view = run.reshape(shape);
    return view.detach();
  }
  if (layout === "rows") {
    const last = shape.at(-1)!;
    const long = shape.with(-1, last + 4);
    const data = moved(host, long, (at) => at.at(-1)! < last ? at : null, garbage);
    using base = tensor(data, { shape: long, dtype });
    using view = base.narrow(shape.length - 1, 0, last);
    return view.detach();
  }
  if (layout === "transposed") {
    if (shape.length < 2) return place(host, "sliced");
    const reversed = [...shape].reverse();
    const order = shape.map((_, d) => shape.length - 1 - d);
    using base = tensor(moved(host, reversed, (at) => order.map((d) => at[d]!)), {
      shape: reversed,
      dtype,
    });
    using view = base.permute(order);
    return view.detach();
  }
  // One element before and two after in each dimension; the last dimension in steps of 2.
  const last = shape.length - 1;
  const padded = shape.length === 0 ? [4] : shape.map((s, d) => 3 + (d === last ? 2 * s : s));
  const data = moved(host, padded, (at) => {
    if (shape.length === 0) return at[0] === 1 ? [] : null;
    const inner = at.map((c, d) => d === last ? (c - 1) / 2 : c - 1);
    return inner.every((c, d) => Number.isInteger(c) && c >= 0 && c < shape[d]!) ? inner : null;
  }, garbage);
  using base = tensor(data, { shape: padded, dtype });
  if (shape.length === 0) {
    using single = base.narrow(0, 1, 1);
    using view = single.reshape([]);
    return view.detach();
  }
  let view = base.detach();
  shape.forEach((s, d) => {
    using before = view;
    view = before.slice(d, 1, 1 + (d === last ? 2 * s : s), d === last ? 2 : 1);
  });
  using result = view;
  return result.detach();
}

/** A block whose element at `at` is the host's at `from(at)`, or `garbage` where that is null. */
function moved(
  host: HostArray,
  shape: readonly number[],
  from: (at: readonly number[]) => readonly number[] | null,
  garbage = 0,
): Float64Array {
  const strides = contiguousStrides(host.shape);
  const at = new Array<number>(shape.length).fill(0);
  return Float64Array.from({ length: sizeOf(shape) }, () => {
    const source = from(at);
    const value = source ? host.data[source.reduce((n, c, d) => n + c * strides[d]!, 0)]! : garbage;
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++at[d]! < shape[d]!) break;
      at[d] = 0;
    }
    return value;
  });
}

/** The values with the first dimension longer than 1 made constant, and the tensor that repeats it. */
export function placeExpanded(host: HostArray): { host: HostArray; tensor: Tensor } {
  const { shape, dtype } = host;
  const dim = shape.findIndex((s) => s > 1);
  if (dim < 0) return { host, tensor: place(host, "contiguous") };
  const single = shape.map((s, d) => d === dim ? 1 : s);
  const first = moved(host, single, (at) => at);
  using base = tensor(first, { shape: single, dtype });
  using view = base.expand(shape);
  const data = moved(
    { shape: single, dtype, data: first },
    shape,
    (at) => at.map((c, d) => d === dim ? 0 : c),
  );
  return { host: { shape, dtype, data }, tensor: view.detach() };
}
