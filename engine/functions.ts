/** Ops with options, as PyTorch's `torch.nn.functional` names them. */

import { checkOptions, checkPair, noneIfValid } from "./arguments.ts";
import { inArena } from "./array.ts";
import { asBatch } from "./batch.ts";
import { adaptiveAvgPool2d as adaptiveAvgPoolOp, avgPool2d as avgPoolOp } from "./ops/pool.ts";
import { maxPool2d as maxPoolOp, type PoolAttrs } from "./ops/pool.ts";
import { conv2d as convOp, type ConvAttrs } from "./ops/conv.ts";
import type { OutputActivation } from "./ops/epilogue.ts";
import { randomMaps, unpackBytes, warpAffine as warpOp } from "./ops/image.ts";
import { dropout as dropoutOp } from "./ops/random.ts";
import { sgdInto } from "./ops/sgd.ts";
import { nextCall } from "./rng.ts";
import { show, sizeOf } from "./shape.ts";
import { apply, Tensor } from "./tensor.ts";

/** A size for both dimensions, or [height, width]. */
export type Pair = number | readonly [number, number];

/** Zeros on each side, for windows that reach further on one side than on the other. */
export interface Sides {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** Options of {@linkcode conv2d}. */
export interface ConvOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window; default 1. */
  stride?: Pair;
  /**
   * Zeros on both sides, or on each, or `same`: as many as keep the size, the odd one below and to the
   * right (stride 1 only), or `valid` for none. Default 0.
   */
  padding?: Pair | Sides | "same" | "valid";
  /** Distance between kernel elements; default 1. */
  dilation?: Pair;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
  /** Applied to each output in the same pass over memory: relu, sigmoid or tanh. */
  activation?: OutputActivation;
}

/** Options of pooling. */
export interface PoolOptions {
  /** Step of the window; default: the kernel size. */
  stride?: Pair;
  /** Padding on both sides, at most half the kernel; default 0. */
  padding?: Pair;
  /** Distance between window elements (max pooling); default 1. */
  dilation?: Pair;
  /** Rounds the output size up; default false. */
  ceilMode?: boolean;
  /** Average pooling: whether padding counts in the divisor; default true. */
  countIncludePad?: boolean;
}

/**
 * Two-dimensional cross-correlation of x [N, C, H, W], or one image [C, H, W], with w [O, C / groups, KH, KW].
 *
 * y[n, o, i, j] = bias[o] + Σ w[o, c, kh, kw] · x[n, c, i·stride - padding + kh·dilation, …], and the
 * `activation` of that where there is one.
 *
 * @returns [N, O, OH, OW], or [O, OH, OW], with OH = ⌊(H + 2·padding - dilation·(KH - 1) - 1) / stride⌋ + 1
 * @throws {TypeError} if shapes or dtypes (f32) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 *
 * @example
 * ```ts
 * import { conv2d, init, randn } from "../mod.ts";
 * await init();
 * const y = conv2d(randn([1, 3, 8, 8]), randn([4, 3, 3, 3]), { padding: 1 });
 * console.log(y.shape); // [1, 4, 8, 8]
 * ```
 */
export function conv2d(x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor {
  checkOptions("conv2d", options, "conv2d(x, w, { bias, stride: 2 })");
  const { activation } = options;
  const attrs = { ...convAttrs("conv2d", w, options), ...(activation ? { activation } : {}) };
  const { bias } = options;
  return asBatch(x, 4, (batch) => apply(convOp, bias ? [batch, w, bias] : [batch, w], attrs)[0]!);
}

/** The options as the op takes them. */
export function convAttrs(name: string, w: Tensor, options: ConvOptions): ConvAttrs {
  const { groups = 1 } = options;
  const padding = noneIfValid(name, options.padding ?? 0);
  const stride = pair(options.stride ?? 1);
  const dilation = pair(options.dilation ?? 1);
  if (padding === "same") {
    if (stride.some((s) => s !== 1)) {
      throw new RangeError(
        `Cannot ${name} with padding same and stride ${show(stride)}: the size stays with stride 1`,
      );
    }
    const total = [2, 3].map((d, i) => dilation[i]! * ((w.shape[d] ?? 1) - 1)) as [number, number];
    const start: [number, number] = [Math.floor(total[0] / 2), Math.floor(total[1] / 2)];
    const end = [total[0] - start[0], total[1] - start[1]] as const;
    return { stride, padding: start, paddingEnd: end, dilation, groups };
  }
  if (typeof padding === "object" && "top" in padding) {
    const { top, bottom, left, right } = padding;
    return { stride, padding: [top, left], paddingEnd: [bottom, right], dilation, groups };
  }
  return { stride, padding: pair(padding), dilation, groups };
}

/** Largest element of each window of x [N, C, H, W] or [C, H, W]; ties give their gradient to the first. */
export function maxPool2d(x: Tensor, kernel: Pair, options: PoolOptions = {}): Tensor {
  checkOptions("maxPool2d", options, "maxPool2d(x, 3, { stride: 2 })");
  const attrs = poolAttrs(kernel, options);
  return asBatch(x, 4, (batch) => apply(maxPoolOp, [batch], attrs)[0]!);
}

/** Mean of each window of x [N, C, H, W] or [C, H, W]. */
export function avgPool2d(x: Tensor, kernel: Pair, options: PoolOptions = {}): Tensor {
  checkOptions("avgPool2d", options, "avgPool2d(x, 3, { stride: 2 })");
  if (options.dilation !== undefined) {
    throw new TypeError("Cannot avgPool2d with dilation: only maxPool2d has it");
  }
  const attrs = poolAttrs(kernel, options);
  return asBatch(x, 4, (batch) => apply(avgPoolOp, [batch], attrs)[0]!);
}

/** Mean over windows [⌊i·H/OH⌋, ⌈(i+1)·H/OH⌉) so that the output is [N, C, OH, OW], or [C, OH, OW]. */
export function adaptiveAvgPool2d(x: Tensor, size: Pair): Tensor {
  const attrs = { size: pair(size) };
  return asBatch(x, 4, (batch) => apply(adaptiveAvgPoolOp, [batch], attrs)[0]!);
}

/**
 * Zeroes elements with probability p and scales the rest by 1 / (1 - p). The draw is a function of
 * the seed and the number of random calls before it; backward draws it again instead of storing it.
 *
 * @param options `residual`, of the shape and dtype of x, is added in the same pass over memory
 */
export function dropout(x: Tensor, p = 0.5, options: { residual?: Tensor } = {}): Tensor {
  checkOptions("dropout", options, "dropout(x, 0.5), while training only");
  const { residual } = options;
  if (p === 1) {
    const none = x.mul(0);
    return residual ? none.add(residual) : none;
  }
  // Of another dtype, as under autocast: the sum then has the wider one.
  if (residual && residual.dtype !== x.dtype) return dropout(x, p).add(residual);
  return apply(dropoutOp, residual ? [x, residual] : [x], { p, call: nextCall() })[0]!;
}

/**
 * x · wᵀ + bias for x [..., K], w [N, K], bias [N] or [], and the activation of that where there is one. A weight [K]
 * gives one feature without a dimension: [...].
 */
export function linear(
  x: Tensor,
  w: Tensor,
  bias?: Tensor,
  options: { activation?: OutputActivation } = {},
): Tensor {
  return x.linear(w, bias, options);
}

/**
 * x [N, C, H, W] f32 with each image under its own map [2, 3] from output to input positions, in
 * pixels from the image's centre. Positions outside give `fill` (0). Not differentiable.
 */
export function warpAffine(
  x: Tensor,
  maps: Tensor,
  options: { mode?: "nearest" | "bilinear"; fill?: number } = {},
): Tensor {
  checkOptions("warpAffine", options, 'warpAffine(x, maps, { mode: "bilinear" })');
  return apply(warpOp, [x, maps], { mode: options.mode ?? "nearest", fill: options.fill ?? 0 })[0]!;
}

/** Ranges of {@linkcode randomAffineMaps}. */
export interface AffineRanges {
  /** Probability of a mirrored image; default 0. */
  flip?: number;
  /** Rotation within ± degrees; default 0. */
  degrees?: number;
  /** Shift within ± pixels [x, y], rounded to whole ones; default 0. */
  shift?: readonly [number, number];
  /** Scale factor from, to; default 1. */
  scale?: readonly [number, number];
  /** Shear along x within ± degrees; default 0. */
  shear?: number;
}

/** A random map [2, 3] for each of `count` images, for {@linkcode warpAffine}. */
export function randomAffineMaps(count: number, ranges: AffineRanges = {}): Tensor {
  const { flip = 0, degrees = 0, shift = [0, 0], scale = [1, 1], shear = 0 } = ranges;
  return new Tensor(inArena(() => randomMaps(count, { flip, degrees, shift, scale, shear })));
}

/**
 * f32 values byte · scale. The bytes travel as they are, four to a word, and are unpacked on the GPU:
 * a quarter of the traffic of floats.
 *
 * @throws {TypeError} if the shape does not fit the number of bytes
 */
export function fromBytes(
  bytes: Uint8Array,
  options: { shape: readonly number[]; scale?: number },
): Tensor {
  checkOptions("fromBytes", options, "fromBytes(bytes, { shape: [1, 3, 8, 8] })");
  const { shape, scale = 1 / 255 } = options;
  if (sizeOf(shape) !== bytes.length) {
    throw new TypeError(
      `Cannot make ${show(shape)} from ${bytes.length} bytes: it needs ${sizeOf(shape)}`,
    );
  }
  const own = bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : bytes.slice();
  return new Tensor(inArena(() => unpackBytes(own, { shape, scale })));
}

/** A parameter for {@linkcode sgdStep} with its gradient and, with momentum, its buffer, at first all -0. */
export interface SgdTensors {
  readonly param: Tensor;
  readonly grad: Tensor;
  readonly buffer?: Tensor;
}

/**
 * One step of SGD over all entries, in place and in as few dispatches as the adapter's bindings
 * allow. `hyper` is f32 [lr, momentum, dampening, weightDecay, nesterov]: the last is 0 or 1. A momentum
 * buffer starts as the gradient where it is -0.
 *
 * @param options `skip`: u32 [1] on the GPU; nothing changes where it is not 0, as after an overflow
 */
export function sgdStep(
  entries: readonly SgdTensors[],
  hyper: Tensor,
  options: { skip?: Tensor } = {},
): void {
  inArena(() => {
    sgdInto(
      entries.map((e) => ({
        param: e.param.device,
        grad: e.grad.device,
        buffer: e.buffer?.device,
      })),
      hyper.device,
      { skip: options.skip?.device },
    );
    return [];
  });
}

/**
 * [height, width] of a size for both or each.
 *
 * @throws {TypeError} if it is neither a number nor two
 */
export function pair(value: Pair): [number, number] {
  checkPair("use sizes", { size: value });
  return typeof value === "number" ? [value, value] : [value[0], value[1]];
}

function poolAttrs(kernel: Pair, options: PoolOptions): PoolAttrs {
  return {
    kernel: pair(kernel),
    stride: pair(options.stride ?? kernel),
    padding: pair(options.padding ?? 0),
    dilation: pair(options.dilation ?? 1),
    ceilMode: options.ceilMode ?? false,
    countIncludePad: options.countIncludePad ?? true,
  };
}
