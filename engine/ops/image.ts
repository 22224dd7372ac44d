/** Ops on batches of images: bytes to floats, resizing, affine warps. */

import { checkOneOf, checkWhole } from "../arguments.ts";
import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { Storage } from "../gpu/storage.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import {
  randomMapsKernel,
  resizeBackwardKernel,
  resizeKernel,
  type Sampling,
  unpackBytesKernel,
  warpAffineKernel,
} from "../kernels/image.ts";
import { defineOp, notDifferentiable, type Op } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { callParams, nextCall, rngArray } from "../rng.ts";
import { show } from "../shape.ts";
import { floatOf, plain } from "./launch_pointwise.ts";

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  params: Readonly<Record<string, number>>,
  run: { threads: number; flops: number },
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params,
    grid: linearGrid(run.threads, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: run.flops, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

/** f32 values byte · scale of bytes that travel packed, four to a word. */
export function unpackBytes(
  bytes: Uint8Array<ArrayBuffer>,
  options: { shape: readonly number[]; scale: number },
): DeviceArray {
  const y = DeviceArray.empty({ shape: options.shape, dtype: "f32" }, "bytes");
  if (y.size === 0) return y;
  const threads = Math.ceil(y.size / 4);
  const words = new DeviceArray(Storage.from(bytes, "packed bytes"), "u32", [threads]);
  const params = { count: y.size, threads, scale: options.scale };
  launch(unpackBytesKernel(), [words, y], params, { threads, flops: y.size });
  return y;
}

/** Ranges that {@linkcode randomMaps} draws from. */
export interface RandomMapRanges {
  /** Probability of a mirrored image. */
  readonly flip: number;
  /** Rotation within ± degrees. */
  readonly degrees: number;
  /** Shift within ± pixels [x, y]. */
  readonly shift: readonly [number, number];
  /** Scale factor from, to. */
  readonly scale: readonly [number, number];
  /** Shear along x within ± degrees. */
  readonly shear: number;
}

/** A random map [2, 3] for each of `count` images, as `warpAffine` takes them. */
export function randomMaps(count: number, ranges: RandomMapRanges): DeviceArray {
  const m = DeviceArray.empty({ shape: [count, 2, 3], dtype: "f32" }, "random maps");
  if (count === 0) return m;
  launch(randomMapsKernel(), [rngArray(), m], {
    count,
    flip: ranges.flip,
    radians: ranges.degrees * Math.PI / 180,
    shift_x: ranges.shift[0],
    shift_y: ranges.shift[1],
    scale_low: ranges.scale[0],
    scale_high: ranges.scale[1],
    shear: ranges.shear * Math.PI / 180,
    ...callParams(nextCall()),
  }, { threads: count, flops: count * 60 });
  return m;
}

/** Attributes of {@linkcode interpolate}. */
export interface InterpolateAttrs {
  /** Output height and width. */
  readonly size: readonly [number, number];
  readonly mode: Sampling;
  /** Widens the filter when shrinking. */
  readonly antialias: boolean;
  /** Whether the outermost pixels' centres stay where they are, instead of the image's edges. */
  readonly alignCorners?: boolean;
  /** Input pixels to an output pixel along height and width, where that is not the ratio of the sizes. */
  readonly steps?: readonly [number, number];
}

const SAMPLINGS: readonly Sampling[] = ["nearest", "bilinear"];

function requireImages(name: string, x: Spec): void {
  if (!isFloat(x.dtype) || x.shape.length !== 4) {
    throw new TypeError(
      `Cannot ${name} ${show(x.shape)} ${x.dtype}: it must be [N, C, H, W] f32 or f16`,
    );
  }
}

/** Input position = output · scale + shift, where pixel i is at i + ½. */
function resizeMap(size: number, outputs: number, options: { step?: number; corners?: boolean }) {
  // Of equal sizes each output is its input, whatever factor made them so; as PyTorch.
  const { step = size / outputs, corners = false } = size === outputs
    ? { ...options, step: 1 }
    : options;
  if (!corners) return { scale: step, shift: step / 2 };
  // One output reads the first pixel; a scale of 0 would divide by 0.
  const scale = outputs > 1 ? Math.max((size - 1) / (outputs - 1), 1e-9) : 1;
  return { scale, shift: 0.5 };
}

function resizeParams(x: Spec, attrs: InterpolateAttrs) {
  const { size: [OH, OW], antialias, alignCorners: corners, steps } = attrs;
  const [H, W] = [x.shape[2]!, x.shape[3]!];
  const h = resizeMap(H, OH, { step: steps?.[0], corners });
  const w = resizeMap(W, OW, { step: steps?.[1], corners });
  return {
    H,
    W,
    OH,
    OW,
    scale_h: h.scale,
    scale_w: w.scale,
    shift_h: h.shift,
    shift_w: w.shift,
    support_h: antialias ? Math.max(h.scale, 1) : 1,
    support_w: antialias ? Math.max(w.scale, 1) : 1,
  };
}

/** Images at another size. */
export const interpolate: Op<InterpolateAttrs> = defineOp<InterpolateAttrs>({
  name: "interpolate",
  linear: {},
  discontinuous: ({ mode }) => mode === "nearest",
  check([x], { size, mode, antialias, alignCorners }) {
    checkOneOf("interpolate", { mode }, SAMPLINGS);
    requireImages("interpolate", x!);
    if (antialias && mode === "nearest") {
      throw new TypeError("Cannot interpolate nearest with antialias: it is for bilinear only");
    }
    if (alignCorners && mode === "nearest") {
      throw new TypeError("Cannot interpolate nearest with alignCorners: it is for bilinear only");
    }
    checkWhole("interpolate", { size }, 1);
    if (x!.shape[2] === 0 || x!.shape[3] === 0) {
      throw new RangeError(
        `Cannot interpolate ${show(x!.shape)} to ${show(size)}: it has no pixels`,
      );
    }
    return [{ shape: [x!.shape[0]!, x!.shape[1]!, ...size], dtype: x!.dtype }];
  },
  forward(_ctx, [x], attrs, [out]) {
    const y = DeviceArray.empty(out!, "interpolate");
    const params = { count: y.size, ...resizeParams(x!, attrs) };
    const wide = params.support_h > 1 || params.support_w > 1;
    launch(resizeKernel({ mode: attrs.mode, wide, ...floatOf(y) }), [plain(x!), y], params, {
      threads: y.size,
      flops: 8 * y.size,
    });
    return [y];
  },
  backward(ctx, [dy], attrs) {
    const dx = DeviceArray.empty(ctx.inputs[0]!, "interpolate dx");
    const params = { count: dx.size, ...resizeParams(dx, attrs) };
    launch(resizeBackwardKernel({ mode: attrs.mode, ...floatOf(dx) }), [plain(dy!), dx], params, {
      threads: dx.size,
      flops: 8 * dy!.size,
    });
    return [dx];
  },
  reference([x], attrs) {
    const at = resizeParams(x!, attrs);
    const { H, W, scale_h, scale_w, support_h, support_w } = at;
    const taps = (o: number, [scale, shift, support, size]: [number, number, number, number]) => {
      const c = o * scale + shift;
      const w = Array.from(
        { length: size },
        (_, i) => Math.max(0, 1 - Math.abs(i + 0.5 - c) / support),
      );
      const total = w.reduce((a, b) => a + b, 0);
      return w.map((v) => v / total);
    };
    return [
      hostFrom([x!.shape[0]!, x!.shape[1]!, ...attrs.size], ([b, c, oh, ow]) => {
        if (attrs.mode === "nearest") {
          return hostAt(x!, [b!, c!, Math.floor(oh! * scale_h), Math.floor(ow! * scale_w)]);
        }
        let total = 0;
        taps(oh!, [scale_h, at.shift_h, support_h, H]).forEach((wh, ih) =>
          taps(ow!, [scale_w, at.shift_w, support_w, W]).forEach((ww, iw) => {
            if (wh * ww !== 0) total += wh * ww * hostAt(x!, [b!, c!, ih, iw]);
          })
        );
        return total;
      }),
    ];
  },
  samples: [
    {
      inputs: [{ shape: [2, 1, 4, 4] }],
      attrs: { size: [8, 8], mode: "bilinear", antialias: false },
      terms: 16,
    },
    {
      inputs: [{ shape: [1, 2, 7, 5] }],
      attrs: { size: [3, 9], mode: "bilinear", antialias: true },
      terms: 32,
    },
    {
      inputs: [{ shape: [1, 1, 9, 8] }],
      attrs: { size: [4, 3], mode: "bilinear", antialias: false },
      terms: 16,
    },
    // Factors of 1.5 and 0.7, whose outputs leave a rest of the input.
    ...(["bilinear", "nearest"] as const).map((mode) => ({
      inputs: [{ shape: [1, 2, 5, 6] }],
      attrs: { size: [7, 4], mode, antialias: false, steps: [1 / 1.5, 1 / 0.7] } as const,
      terms: 16,
    })),
    {
      inputs: [{ shape: [1, 2, 4, 6] }],
      attrs: { size: [8, 3], mode: "nearest", antialias: false },
      terms: 4,
    },
    {
      inputs: [{ shape: [1, 1, 5, 5] }],
      attrs: { size: [1, 1], mode: "bilinear", antialias: true },
      terms: 25,
    },
    ...([[[5, 4], [9, 7]], [[7, 6], [3, 1]], [[1, 5], [4, 2]]] as const).map(([from, to]) => ({
      inputs: [{ shape: [1, 2, ...from] }],
      attrs: { size: to, mode: "bilinear" as const, antialias: false, alignCorners: true },
      terms: 32,
    })),
    {
      inputs: [{ shape: [1, 1, 9, 7] }],
      attrs: { size: [4, 3], mode: "bilinear", antialias: true, alignCorners: true },
      terms: 63,
    },
  ],
});

/** Attributes of {@linkcode warpAffine}. */
export interface WarpAttrs {
  readonly mode: Sampling;
  /** Value outside the image. */
  readonly fill: number;
}

/**
 * Each image (f32 or f16) under its own affine map (f32) from output to input positions; see
 * `warpAffineKernel`.
 */
export const warpAffine: Op<WarpAttrs> = defineOp<WarpAttrs>({
  name: "warpAffine",
  discontinuous: ({ mode }) => mode === "nearest",
  check([x, m], { mode }) {
    checkOneOf("warpAffine", { mode }, SAMPLINGS);
    requireImages("warpAffine", x!);
    if (
      m!.dtype !== "f32" || m!.shape.length !== 3 || m!.shape[0] !== x!.shape[0] ||
      m!.shape[1] !== 2 || m!.shape[2] !== 3
    ) {
      throw new TypeError(
        `Cannot warp ${show(x!.shape)} by ${show(m!.shape)} ${m!.dtype}: the maps must be ` +
          `[${x!.shape[0]}, 2, 3] f32`,
      );
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x, m], attrs) {
    const y = DeviceArray.empty(x!, "warpAffine");
    const [, C, H, W] = x!.shape as [number, number, number, number];
    launch(warpAffineKernel({ mode: attrs.mode, ...floatOf(y) }), [plain(x!), plain(m!), y], {
      count: y.size,
      C,
      H,
      W,
      fill: attrs.fill,
    }, { threads: y.size, flops: 8 * y.size });
    return [y];
  },
  backward: notDifferentiable("an augmentation of input images; gradients never pass through it"),
  reference([x, m], { mode, fill }) {
    const [, , H, W] = x!.shape as [number, number, number, number];
    return [
      hostFrom(x!.shape, ([b, c, oy, ox]) => {
        const row = (r: number) =>
          hostAt(m!, [b!, r, 0]) * (ox! + 0.5 - W / 2) +
          hostAt(m!, [b!, r, 1]) * (oy! + 0.5 - H / 2) +
          hostAt(m!, [b!, r, 2]);
        const [sx, sy] = [row(0) + W / 2 - 0.5, row(1) + H / 2 - 0.5];
        const pixel = (ix: number, iy: number) =>
          ix < 0 || iy < 0 || ix >= W || iy >= H ? fill : hostAt(x!, [b!, c!, iy, ix]);
        if (mode === "nearest") return pixel(Math.round(sx), Math.round(sy));
        const [x0, y0] = [Math.floor(sx), Math.floor(sy)];
        const [fx, fy] = [sx - x0, sy - y0];
        const mix = (a: number, z: number, t: number) => a * (1 - t) + z * t;
        return mix(
          mix(pixel(x0, y0), pixel(x0 + 1, y0), fx),
          mix(pixel(x0, y0 + 1), pixel(x0 + 1, y0 + 1), fx),
          fy,
        );
      }),
    ];
  },
  samples: [
    {
      inputs: [{ shape: [2, 1, 5, 6] }, {
        shape: [2, 2, 3],
        dtype: "f32",
        values: [1, 0, 0, 0, 1, 0, -1, 0, 0, 0, 1, 0],
      }],
      attrs: { mode: "nearest", fill: 0 },
    },
    // No position lies half-way between two pixels, where f32 and float64 may choose differently.
    {
      inputs: [{ shape: [1, 2, 7, 7] }, {
        shape: [1, 2, 3],
        dtype: "f32",
        values: [0.9, -0.3, 0.73, 0.3, 1.1, -0.37],
      }],
      attrs: { mode: "nearest", fill: -1 },
    },
    {
      inputs: [{ shape: [1, 2, 7, 7] }, {
        shape: [1, 2, 3],
        dtype: "f32",
        values: [0.9, -0.3, 0.73, 0.3, 1.1, -0.37],
      }],
      attrs: { mode: "bilinear", fill: 0.5 },
    },
  ],
});
