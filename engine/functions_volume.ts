/**
 * Convolutions and pools of volumes [N, C, D, H, W], by those of images: a convolution has the windows along the depth
 * as channels, and a pool pools along height and width first, then along the depth.
 */

import { checkOptions, checkWhole, given, noneIfValid } from "./arguments.ts";
import { asBatch } from "./batch.ts";
import { adaptiveAvgPool2d, avgPool2d, conv2d, maxPool2d, type PoolOptions } from "./functions.ts";
import { convTranspose2d } from "./functions_conv.ts";
import { adaptiveMaxPool2d } from "./functions_sample.ts";
import { fold, unfold } from "./ops/windows.ts";
import { show, sizeOf } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/** A size for all three dimensions, or [depth, height, width]. */
export type Triple = number | readonly [number, number, number];

/** [depth, height, width] of a size. */
export function triple(what: string, name: string, value: Triple): [number, number, number] {
  if (typeof value === "number") return [value, value, value];
  if (Array.isArray(value) && value.length === 3) return [...value as [number, number, number]];
  throw new TypeError(
    `Cannot ${what} with ${name} ${given(value)}: it must be a number or [depth, height, width]`,
  );
}

/** Options of {@linkcode conv3d}. */
export interface Conv3dOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window; default 1. */
  stride?: Triple;
  /** Zeros on both sides, or `same` (stride 1 only), or `valid` for none; default 0. */
  padding?: Triple | "same" | "valid";
  /** Distance between kernel elements; default 1. */
  dilation?: Triple;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
}

/** Sizes that all volumes' convolutions have. */
interface VolumeSizes {
  readonly stride: [number, number, number];
  readonly dilation: [number, number, number];
  readonly groups: number;
}

/** @throws {TypeError} if shapes do not fit; `weight` says what the weight must be */
function checkVolume(
  name: string,
  { x, w }: { x: Tensor; w: Tensor },
  { weight, groups, channels }: { weight: string; groups: number; channels: number },
): void {
  checkWhole(name, { groups }, 1);
  const fits = [4, 5].includes(x.ndim) && w.ndim === 5 && x.shape.at(-4) === channels &&
    w.shape[0]! % groups === 0;
  if (fits) return;
  throw new TypeError(
    `Cannot ${name} ${show(x.shape)} with weight ${show(w.shape)} in ${groups} groups: they must ` +
      `be [N, C, D, H, W] or [C, D, H, W], and ${weight}`,
  );
}

function volumeSizes(
  name: string,
  options: { stride?: Triple; dilation?: Triple; groups?: number },
): VolumeSizes {
  const stride = triple(name, "stride", options.stride ?? 1);
  const dilation = triple(name, "dilation", options.dilation ?? 1);
  checkWhole(name, { stride, dilation }, 1);
  return { stride, dilation, groups: options.groups ?? 1 };
}

/**
 * Cross-correlation of x [N, C, D, H, W], or one volume [C, D, H, W], with w [O, C / groups, KD, KH, KW]:
 * y[n, o, z, i, j] = bias[o] + Σ x[n, c, z·stride + a·dilation - padding, …] · w[o, c, a, …], outside of x 0.
 *
 * It is one `conv2d` of the images of all depths, whose channels are the windows along the depth: these take KD times the
 * memory of x while it runs.
 *
 * @returns [N, O, OD, OH, OW] with OD = ⌊(D + 2·padding - dilation·(KD - 1) - 1) / stride⌋ + 1
 * @throws {TypeError} if shapes or dtypes (floats) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 *
 * @example
 * ```ts
 * import { conv3d, init, randn } from "../mod.ts";
 * await init();
 * const y = conv3d(randn([1, 2, 8, 8, 8]), randn([4, 2, 3, 3, 3]), { padding: 1 });
 * console.log(y.shape); // [1, 4, 8, 8, 8]
 * ```
 */
export function conv3d(x: Tensor, w: Tensor, options: Conv3dOptions = {}): Tensor {
  checkOptions("conv3d", options, "conv3d(x, w, { bias, stride: 2 })");
  const { bias } = options, { stride, dilation, groups } = volumeSizes("conv3d", options);
  const channels = (w.shape[1] ?? 0) * groups;
  checkVolume("conv3d", { x, w }, { weight: "[O, C / groups, KD, KH, KW]", groups, channels });
  const window = w.shape.slice(2), reach = window.map((k, d) => dilation[d]! * (k - 1));
  const [before, after] = paddings(options.padding ?? 0, { reach, stride });
  checkWhole("conv3d", { padding: before }, 0);
  const sizes = x.shape.slice(-3).map((s, d) => s + before[d]! + after[d]! - reach[d]!);
  if (sizes.some((s) => s < 1)) {
    throw new RangeError(
      `Cannot conv3d ${show(x.shape)} with weight ${show(w.shape)}: the window does not fit into ` +
        "the padded volume",
    );
  }
  return asBatch(x, 5, (x) => {
    const [N, C, , H, W] = x.shape as [number, number, number, number, number];
    const [O, , KD, KH, KW] = w.shape as [number, number, number, number, number];
    const padded = before[0] || after[0] ? x.pad([0, 0, 0, 0, before[0]!, after[0]!]) : x;
    const attrs = { dim: 2, size: KD, step: stride[0], dilation: dilation[0] };
    const windows = apply(unfold, [padded], attrs)[0]!; // [N, C, OD, H, W, KD]
    const OD = windows.shape[2]!;
    const y = conv2d(
      windows.permute(0, 2, 1, 5, 3, 4).reshape(N * OD, C * KD, H, W),
      w.reshape(O, -1, KH, KW),
      {
        bias,
        stride: [stride[1], stride[2]],
        padding: { top: before[1]!, bottom: after[1]!, left: before[2]!, right: after[2]! },
        dilation: [dilation[1], dilation[2]],
        groups,
      },
    );
    const [, , OH, OW] = y.shape;
    return y.reshape(N, OD, O, OH!, OW!).permute(0, 2, 1, 3, 4).contiguous();
  });
}

/** Zeros before and after each dimension. */
function paddings(
  given: Triple | "same" | "valid",
  { reach, stride }: { reach: readonly number[]; stride: readonly number[] },
): [before: number[], after: number[]] {
  const padding = noneIfValid("conv3d", given);
  if (padding !== "same") {
    const both = triple("conv3d", "padding", padding);
    return [both, both];
  }
  if (stride.some((s) => s !== 1)) {
    throw new RangeError(
      `Cannot conv3d with padding same and stride ${show(stride)}: the size stays with stride 1`,
    );
  }
  const before = reach.map((total) => Math.floor(total / 2));
  return [before, reach.map((total, d) => total - before[d]!)];
}

/** Options of {@linkcode convTranspose3d}. */
export interface ConvTranspose3dOptions {
  /** Added to each output channel: [O]. */
  bias?: Tensor;
  /** Step of the window in the output; default 1. */
  stride?: Triple;
  /** Places cut off on both sides of the output; default 0. */
  padding?: Triple;
  /** Places added at the end of the output; default 0. */
  outputPadding?: Triple;
  /** Distance between kernel elements; default 1. */
  dilation?: Triple;
  /** Channels are cut into this many independent convolutions; default 1. */
  groups?: number;
}

/**
 * Transposed convolution of x [N, C, D, H, W], or one volume [C, D, H, W], with w [C, O / groups, KD, KH, KW]: the gradient
 * that {@linkcode conv3d} with weight w has for its input where its output has x.
 *
 * @returns [N, O, OD, OH, OW] with
 *   OD = (D - 1)·stride - 2·padding + dilation·(KD - 1) + outputPadding + 1
 * @throws {TypeError} if shapes or dtypes (floats) do not fit
 * @throws {RangeError} if an option is out of range or the output would be empty
 */
export function convTranspose3d(
  x: Tensor,
  w: Tensor,
  options: ConvTranspose3dOptions = {},
): Tensor {
  const name = "convTranspose3d";
  checkOptions(name, options, `${name}(x, w, { bias, stride: 2 })`);
  const { bias } = options, { stride, dilation, groups } = volumeSizes(name, options);
  const padding = triple(name, "padding", options.padding ?? 0);
  const outputPadding = triple(name, "outputPadding", options.outputPadding ?? 0);
  checkWhole(name, { padding, outputPadding }, 0);
  const channels = w.shape[0] ?? 0;
  checkVolume(name, { x, w }, { weight: "[C, O / groups, KD, KH, KW]", groups, channels });
  if (outputPadding.some((p, d) => p >= Math.max(stride[d]!, dilation[d]!))) {
    throw new RangeError(
      `Cannot ${name} with outputPadding ${show(outputPadding)}: it must be below the stride ` +
        `${show(stride)} or the dilation ${show(dilation)}`,
    );
  }
  const depth = (x.shape.at(-3)! - 1) * stride[0] + dilation[0] * (w.shape[2]! - 1) + 1;
  if (depth - 2 * padding[0] + outputPadding[0] < 1) {
    throw new RangeError(
      `Cannot ${name} ${show(x.shape)} with weight ${show(w.shape)} and padding ` +
        `${show(padding)}: the output would be empty`,
    );
  }
  return asBatch(x, 5, (x) => {
    const [N, C, D, H, W] = x.shape as [number, number, number, number, number];
    const [, , KD, KH, KW] = w.shape as [number, number, number, number, number];
    const y = convTranspose2d(
      x.permute(0, 2, 1, 3, 4).reshape(N * D, C, H, W),
      w.reshape(C, -1, KH, KW),
      {
        stride: [stride[1], stride[2]],
        padding: [padding[1], padding[2]],
        outputPadding: [outputPadding[1], outputPadding[2]],
        dilation: [dilation[1], dilation[2]],
        groups,
      },
    );
    const [, K, OH, OW] = y.shape as [number, number, number, number];
    // [N, O, D, OH, OW, KD]
    const windows = y.reshape(N, D, K / KD, KD, OH, OW).permute(0, 2, 1, 4, 5, 3);
    const attrs = { dim: 2, step: stride[0], dilation: dilation[0], length: depth };
    const whole = apply(fold, [windows], attrs)[0]!;
    const ends = [-padding[0], outputPadding[0] - padding[0]];
    const cut = ends.some((n) => n !== 0) ? whole.pad([0, 0, 0, 0, ...ends]) : whole;
    return bias ? cut.add(bias.to(cut.dtype).reshape(-1, 1, 1, 1)) : cut;
  });
}

/** Options of pooling volumes. */
export interface Pool3dOptions {
  /** Step of the window; default: the kernel size. */
  stride?: Triple;
  /** Padding on both sides, at most half the kernel; default 0. */
  padding?: Triple;
  /** Distance between window elements (max pooling); default 1. */
  dilation?: Triple;
  /** Rounds the output size up; default false. */
  ceilMode?: boolean;
  /** Whether average pooling divides by the padded window; default true. */
  countIncludePad?: boolean;
}

/** Pools x [..., D, H, W] as images along height and width, then along the depth as columns of a second image. */
function poolVolume(
  name: string,
  x: Tensor,
  pools: { planes: (x: Tensor) => Tensor; depth: (x: Tensor) => Tensor },
): Tensor {
  if (![4, 5].includes(x.ndim)) {
    throw new TypeError(
      `Cannot ${name} ${show(x.shape)}: it must be [N, C, D, H, W] or [C, D, H, W]`,
    );
  }
  const lead = x.shape.slice(0, -3), [D, H, W] = x.shape.slice(-3) as [number, number, number];
  const planes = pools.planes(x.reshape(sizeOf(lead), D, H, W));
  const [, , OH, OW] = planes.shape as [number, number, number, number];
  const y = pools.depth(planes.reshape(sizeOf(lead), 1, D, OH * OW));
  return y.reshape(...lead, y.shape[2]!, OH, OW);
}

/** A pool of images with the options of one of volumes. */
function windowPool(
  name: string,
  x: Tensor,
  { kernel, options, pool }: {
    kernel: Triple;
    options: Pool3dOptions;
    pool: (x: Tensor, kernel: [number, number], options: PoolOptions) => Tensor;
  },
): Tensor {
  const size = triple(name, "kernel", kernel);
  const stride = triple(name, "stride", options.stride ?? size);
  const padding = triple(name, "padding", options.padding ?? 0);
  const { ceilMode, countIncludePad } = options;
  const dilation = options.dilation === undefined
    ? undefined
    : triple(name, "dilation", options.dilation);
  return poolVolume(name, x, {
    planes: (images) =>
      pool(images, [size[1], size[2]], {
        stride: [stride[1], stride[2]],
        padding: [padding[1], padding[2]],
        dilation: dilation && [dilation[1], dilation[2]],
        ceilMode,
        countIncludePad,
      }),
    depth: (columns) =>
      pool(columns, [size[0], 1], {
        stride: [stride[0], 1],
        padding: [padding[0], 0],
        dilation: dilation && [dilation[0], 1],
        ceilMode,
        countIncludePad,
      }),
  });
}

/** Largest element of each window of x [N, C, D, H, W] or [C, D, H, W]; ties give their gradient to the first. */
export function maxPool3d(x: Tensor, kernel: Triple, options: Pool3dOptions = {}): Tensor {
  checkOptions("maxPool3d", options, "maxPool3d(x, 3, { stride: 2 })");
  return windowPool("maxPool3d", x, { kernel, options, pool: maxPool2d });
}

/** Mean of each window of x [N, C, D, H, W] or [C, D, H, W]. */
export function avgPool3d(x: Tensor, kernel: Triple, options: Pool3dOptions = {}): Tensor {
  checkOptions("avgPool3d", options, "avgPool3d(x, 3, { stride: 2 })");
  if (options.dilation !== undefined) {
    throw new TypeError("Cannot avgPool3d with dilation: only maxPool3d has it");
  }
  return windowPool("avgPool3d", x, { kernel, options, pool: avgPool2d });
}

/** Mean over windows as of `adaptiveAvgPool2d`, so that the output is [N, C, OD, OH, OW], or [C, OD, OH, OW]. */
export function adaptiveAvgPool3d(x: Tensor, size: Triple): Tensor {
  const [depth, height, width] = triple("adaptiveAvgPool3d", "size", size);
  return poolVolume("adaptiveAvgPool3d", x, {
    planes: (images) => adaptiveAvgPool2d(images, [height, width]),
    depth: (columns) => adaptiveAvgPool2d(columns, [depth, columns.shape[3]!]),
  });
}

/** Largest element of windows as of `adaptiveMaxPool2d`: the output is [N, C, OD, OH, OW], or [C, OD, OH, OW]. */
export function adaptiveMaxPool3d(x: Tensor, size: Triple): Tensor {
  const [depth, height, width] = triple("adaptiveMaxPool3d", "size", size);
  return poolVolume("adaptiveMaxPool3d", x, {
    planes: (images) => adaptiveMaxPool2d(images, [height, width]),
    depth: (columns) => adaptiveMaxPool2d(columns, [depth, columns.shape[3]!]),
  });
}
