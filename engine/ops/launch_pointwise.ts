/** Runs a pointwise expression over arrays of any layout; shared by the pointwise ops and copies. */

import { bindsPlain, DeviceArray, operand } from "../array.ts";
import { type DType, DTYPES } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import type { Binding } from "../gpu/queue.ts";
import { linearGrid, offsetName, stridedValues } from "../kernels/kernel.ts";
import {
  POINTWISE_VEC,
  type PointwiseInput,
  pointwiseKernel,
  type PointwiseSpec,
} from "../kernels/pointwise.ts";
import { broadcastStrides, collapse, type Collapsed, sameShape } from "../shape.ts";
import { chained, deferred } from "./chain.ts";
import { transposedCopy } from "./transpose.ts";

/** A named operand: an array (broadcast to the output) or a number that goes to the uniform block. */
export type PointwiseArgument = DeviceArray | {
  readonly value: number;
  readonly type: "f32" | "i32" | "u32";
};

/** What to compute. */
export interface PointwiseRun {
  readonly name: string;
  readonly inputs: Readonly<Record<string, PointwiseArgument>>;
  readonly expression: string;
  readonly compute: "f32" | "i32" | "u32";
  readonly result: "f32" | "i32" | "u32" | "bool";
  readonly module?: string;
  /** Helper texts, and functions that make the expression, where it was made of several; see chain.ts. */
  readonly modules?: readonly string[];
  readonly links?: readonly string[];
  /** Flops an element, for the profiler. Default 1. */
  readonly flops?: number;
}

/**
 * Computes into a new contiguous array: at once, or where the tape puts that off, as part of the pointwise
 * kernel that reads it. What was put off in an input becomes part of this kernel.
 */
export function pointwise(
  run: PointwiseRun,
  out: { shape: readonly number[]; dtype: DType },
): DeviceArray {
  const whole = chained(run, out);
  const later = deferred(whole, out, pointwiseInto);
  if (later) return later;
  const y = DeviceArray.empty(out, run.name);
  pointwiseInto(whole, y);
  return y;
}

/** Computes into `y`, which may be strided and may be one of the inputs. */
export function pointwiseInto(run: PointwiseRun, y: DeviceArray): void {
  if (y.size === 0) return;
  const limits = gpu().limits;
  const arrays: [string, DeviceArray][] = [];
  let [bytes, widest] = [y.bytes, y.bytes];
  for (const name in run.inputs) {
    const input = run.inputs[name]!;
    if (!(input instanceof DeviceArray)) continue;
    const array = overlaps(input, y) ? copyOf(input) : input;
    arrays.push([name, array]);
    bytes += array.bytes;
    widest = Math.max(widest, array.bytes);
  }
  const flat = flattened(arrays, y);
  const rank = flat.shape.length === 1 && flat.strides.every((s) => s[0] === 1)
    ? 0
    : flat.shape.length;
  if (rank === 0 && widest > limits.maxStorageBufferBindingSize) {
    return inChunks(run, y, arrays, limits.maxStorageBufferBindingSize);
  }
  if (rank > 0 && inHalves(run, y, arrays, limits.maxStorageBufferBindingSize)) return;
  const target = operand(y);
  const buffers: Binding[] = [];
  const walked: Walked[] = arrays.map(([, a], k) => {
    const alias = a.storage === y.storage;
    const { binding, offset } = alias ? target : operand(a);
    if (!alias) buffers.push(binding);
    return { offset, strides: flat.strides[k]! };
  });
  walked.push({ offset: target.offset, strides: flat.strides[arrays.length]! });
  buffers.push(target.binding);
  const fours = inFours(flat.shape, walked);
  const threads = fours || rank === 0 ? Math.ceil(y.size / POINTWISE_VEC) : y.size;
  const params: Record<string, number> = { count: y.size, threads };
  const inputs: PointwiseInput[] = [];
  let k = 0;
  for (const name in run.inputs) {
    const input = run.inputs[name]!;
    if (!(input instanceof DeviceArray)) {
      params[name] = input.value;
      inputs.push({ name, scalar: input.type });
      continue;
    }
    const { strides } = walked[k]!;
    const alias = arrays[k]![1].storage === y.storage;
    const repeats = fours !== null && strides.at(-1) === 0 || undefined;
    inputs.push({ name, dtype: input.dtype, alias, repeats });
    k++;
  }
  const { shape, operands } = fours ?? { shape: flat.shape, operands: walked };
  if (rank === 0) {
    arrays.forEach(([name], k) => params[offsetName(name)] = walked[k]!.offset);
    params.y_off = target.offset;
  } else {
    const named: Record<string, Walked> = {};
    arrays.forEach(([name], k) => named[name] = operands[k]!);
    named.y = operands[arrays.length]!;
    Object.assign(params, stridedValues(shape, named));
  }
  const spec: PointwiseSpec = {
    name: run.name,
    inputs,
    output: y.dtype,
    compute: run.compute,
    result: run.result,
    expression: run.expression,
    module: run.links ? [...run.modules ?? [], ...run.links].join("\n") : run.module,
    rank,
    fours: fours !== null,
  };
  gpu().queue.launch({
    kernel: pointwiseKernel(spec),
    buffers,
    params,
    grid: linearGrid(threads, limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: y.size * (run.flops ?? 1), bytes },
  });
}

/** The least shape that the arrays, broadcast to `y`, and `y` have in common, with the strides of each. */
function flattened(arrays: readonly [string, DeviceArray][], y: DeviceArray): Collapsed {
  const flat = y.contiguous &&
    arrays.every(([, a]) => a.contiguous && sameShape(a.shape, y.shape));
  if (flat) return { shape: [y.size], strides: [[1], ...arrays.map(() => [1])] };
  const strides = arrays.map(([, a]) => broadcastStrides(a.shape, a.strides, y.shape));
  return collapse(y.shape, [...strides, y.strides]);
}

/** An operand as it is walked through: where it starts, and its steps. */
interface Walked {
  readonly offset: number;
  readonly strides: readonly number[];
}

/**
 * The walk by fours of the last dimension, whose size it counts in them, the output's steps last: null where
 * a row has gaps, or an operand's four do not begin at a multiple of four.
 */
function inFours(
  shape: readonly number[],
  operands: readonly Walked[],
): { shape: readonly number[]; operands: readonly Walked[] } | null {
  const whole = (n: number) => n % POINTWISE_VEC === 0;
  const last = shape.length - 1;
  const size = shape[last]!;
  if (!whole(size) || operands.at(-1)!.strides[last] !== 1) return null;
  const fits = operands.every(({ offset, strides }) =>
    strides[last] === 0 ||
    strides[last] === 1 && whole(offset) && strides.slice(0, last).every(whole)
  );
  if (!fits) return null;
  return {
    shape: [...shape.slice(0, last), size / POINTWISE_VEC],
    operands: operands.map(({ offset, strides }) => ({
      offset,
      strides: [...strides.slice(0, last), strides[last]! * POINTWISE_VEC],
    })),
  };
}

/** A contiguous copy in a storage of its own. */
export function copyOf(array: DeviceArray, dtype: DType = array.dtype): DeviceArray {
  const { compute } = DTYPES[dtype];
  const bool = dtype === "bool";
  const turned = dtype === array.dtype ? transposedCopy(array) : undefined;
  if (turned) return turned;
  return pointwise({
    name: dtype === array.dtype ? "copy" : `cast_${array.dtype}_${dtype}`,
    inputs: { x: array },
    // NaN is true.
    expression: bool ? `!(x == ${DTYPES[array.dtype].compute}(0))` : `${compute}(x)`,
    compute: DTYPES[array.dtype].compute,
    result: bool ? "bool" : compute,
    flops: 0,
  }, { shape: array.shape, dtype });
}

/** `array` itself if it is contiguous, else a copy. */
export function contiguous(array: DeviceArray): DeviceArray {
  return array.contiguous ? array : copyOf(array);
}

/** `array` itself if a kernel without offset params can bind it, else a copy. */
export function plain(array: DeviceArray): DeviceArray {
  return bindsPlain(array) ? array : copyOf(array);
}

/** `array` itself if it has the dtype, else a copy. */
export function inDType(array: DeviceArray, dtype: DType): DeviceArray {
  return array.dtype === dtype ? array : copyOf(array, dtype);
}

/** The dtype of a float array as the kernels take it. */
export function floatOf({ dtype }: { readonly dtype: DType }): { dtype: "f32" | "f16" } {
  return { dtype: dtype === "f16" ? "f16" : "f32" };
}

/** True if `input` shares memory with `y` under another layout, so that writes could race reads. */
function overlaps(input: DeviceArray, y: DeviceArray): boolean {
  if (input.storage !== y.storage) return false;
  return input.offset !== y.offset || input.shape.length !== y.shape.length ||
    input.shape.some((s, d) => s !== y.shape[d] || input.strides[d] !== y.strides[d]);
}

/** Runs a contiguous expression piece by piece, each piece within one binding. */
function inChunks(
  run: PointwiseRun,
  y: DeviceArray,
  arrays: readonly [string, DeviceArray][],
  limit: number,
): void {
  const widest = Math.max(...[y, ...arrays.map(([, a]) => a)].map((a) => DTYPES[a.dtype].bytes));
  const step = Math.floor(limit / 2 / widest / 64) * 64;
  for (let start = 0; start < y.size; start += step) {
    const length = Math.min(step, y.size - start);
    const piece = (a: DeviceArray) => a.view([length], [1], a.offset + start);
    const inputs = { ...run.inputs };
    for (const [name, array] of arrays) inputs[name] = piece(array);
    pointwiseInto({ ...run, inputs }, piece(y));
  }
}

/** Runs a strided expression in two parts if a window on an operand is over the limit. */
function inHalves(
  run: PointwiseRun,
  y: DeviceArray,
  arrays: readonly [string, DeviceArray][],
  limit: number,
): boolean {
  const wide = [y, ...arrays.map(([, a]) => a)].find((a) => {
    const { binding } = operand(a);
    return binding.byteEnd - binding.byteOffset > limit;
  });
  if (!wide) return false;
  const strides = broadcastStrides(wide.shape, wide.strides, y.shape);
  const reach = y.shape.map((s, d) => (s - 1) * strides[d]!);
  const dim = reach.indexOf(Math.max(...reach));
  const half = Math.ceil(y.shape[dim]! / 2);
  if (half === y.shape[dim]) return false;
  for (const [start, size] of [[0, half], [half, y.shape[dim]! - half]] as const) {
    const piece = (a: DeviceArray) => {
      const steps = broadcastStrides(a.shape, a.strides, y.shape);
      const shape = y.shape.map((s, d) => d === dim ? size : s);
      return a.view(shape, steps, a.offset + start * steps[dim]!);
    };
    const inputs = { ...run.inputs };
    for (const [name, array] of arrays) inputs[name] = piece(array);
    pointwiseInto({ ...run, inputs }, piece(y));
  }
  return true;
}
