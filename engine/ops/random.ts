/** Random fills and dropout. The numbers are a function of (seed, call, element) alone. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import {
  advanceKernel,
  type Distribution,
  dropoutKernel,
  randomKernel,
} from "../kernels/philox.ts";
import { defineOp, type Op } from "../op.ts";
import { baseRaised, callParams, nextCall, rngArray } from "../rng.ts";
import { sameShape, show } from "../shape.ts";
import { copyOf, floatOf, plain } from "./launch_pointwise.ts";

/** Parameters of a random fill; see {@linkcode randomKernel}. */
export interface RandomParams {
  readonly distribution: Distribution;
  readonly a?: number;
  readonly b?: number;
  readonly low?: number;
  readonly range?: number;
}

/** A new contiguous array of random numbers. bool and f16 are drawn as f32 and converted. */
export function random(spec: Spec, params: RandomParams): DeviceArray {
  const dtype = spec.dtype === "i32" || spec.dtype === "u32" ? spec.dtype : "f32";
  const y = DeviceArray.empty({ shape: spec.shape, dtype }, params.distribution);
  randomInto(y, params);
  return dtype === spec.dtype ? y : copyOf(y, spec.dtype);
}

/** Raises the generator's base in GPU memory: how a recorded step draws anew when it runs again. */
export function raiseBase(calls: number): void {
  gpu().queue.launch({
    kernel: advanceKernel(),
    buffers: [operand(rngArray()).binding],
    params: { calls },
    grid: [1, 1, 1],
    cost: { flops: 0, bytes: 16 },
  });
  baseRaised(calls);
}

/** Fills a contiguous array of f32, i32 or u32. Arrays over the binding limit go piece by piece. */
export function randomInto(y: DeviceArray, params: RandomParams): void {
  const call = callParams(nextCall());
  const { maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = gpu().limits;
  const step = Math.floor(maxStorageBufferBindingSize / 4 / 256) * 256;
  const rng = rngArray();
  for (let start = 0; start < y.size; start += step) {
    const count = Math.min(step, y.size - start);
    const threads = Math.ceil(count / 4);
    const piece = y.view([count], [1], y.offset + start);
    gpu().queue.launch({
      kernel: randomKernel({
        distribution: params.distribution,
        dtype: y.dtype as "f32" | "i32" | "u32",
      }),
      buffers: [operand(rng).binding, operand(piece).binding],
      params: {
        count,
        threads,
        first: start / 4,
        a: params.a ?? 0,
        b: params.b ?? 1,
        low: params.low ?? 0,
        range: params.range ?? 1,
        ...call,
      },
      grid: linearGrid(threads, maxComputeWorkgroupsPerDimension),
      cost: { flops: count * 20, bytes: count * 4 },
    });
    piece.release();
  }
  rng.release();
}

/** Attributes of {@linkcode dropout}. */
export interface DropoutAttrs {
  /** Probability of a zero, 0 <= p < 1. */
  readonly p: number;
  /** Call number of the draw; taken when the op is built, so that backward can repeat it. */
  readonly call: number;
}

/** y = x / (1 - p) with probability 1 - p, else 0; plus a second input where there is one. */
export const dropout: Op<DropoutAttrs> = defineOp<DropoutAttrs>({
  name: "dropout",
  linear: {},
  check([x, residual], { p }) {
    if (!(p >= 0 && p < 1)) {
      throw new RangeError(`Cannot drop out with p = ${p}: it must be at least 0 and below 1`);
    }
    if (!isFloat(x!.dtype)) {
      throw new TypeError(`Cannot drop out elements of dtype ${x!.dtype}: it must be a float`);
    }
    if (residual && (!sameShape(residual.shape, x!.shape) || residual.dtype !== x!.dtype)) {
      throw new TypeError(
        `Cannot drop out ${x!.dtype} ${show(x!.shape)} and add ${residual.dtype} ` +
          `${show(residual.shape)}: the residual must have the same shape and dtype`,
      );
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward: (_ctx, [x, residual], attrs) => [runDropout(x!, attrs, residual)],
  backward: (ctx, [dy], attrs) => [
    ctx.needs[0] ? runDropout(dy!, attrs) : null,
    ...(ctx.inputs.length > 1 ? [dy!] : []),
  ],
  reference: null,
  samples: [{ inputs: [{ shape: [5] }], attrs: { p: 0.5, call: 0 } }],
});

function runDropout(
  x: DeviceArray,
  { p, call }: DropoutAttrs,
  residual?: DeviceArray,
): DeviceArray {
  const arrays = [x, ...(residual ? [residual] : [])].map(plain);
  const y = DeviceArray.empty(x, "dropout");
  const threads = Math.ceil(x.size / 4);
  gpu().queue.launch({
    kernel: dropoutKernel({
      ...floatOf(x),
      residual: residual !== undefined,
      fours: x.size % 4 === 0,
    }),
    buffers: [rngArray(), ...arrays, y].map((a) => operand(a).binding),
    params: { count: x.size, threads, rate: p, scale: 1 / (1 - p), ...callParams(call) },
    grid: linearGrid(threads, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: x.size * 20, bytes: x.bytes * (arrays.length + 1) },
  });
  return y;
}
