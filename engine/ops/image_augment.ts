/** Ops that change each image of a batch by numbers of its own; what augmentations are made of. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import {
  blurKernel,
  colorKernel,
  colorMeansKernel,
  cropResizeKernel,
  eraseKernel,
  warpReflectKernel,
} from "../kernels/image_augment.ts";
import { defineOp, type HostArray, notDifferentiable, type Op } from "../op.ts";
import { hostAt, hostFrom, hostZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import { launchImages } from "./boxes.ts";
import { launchLinear } from "./launch_linear.ts";
import { floatOf, plain } from "./launch_pointwise.ts";

type Size = readonly [number, number];
type Shape4 = [number, number, number, number];

const AUGMENTATION = notDifferentiable(
  "an augmentation of input images; gradients never pass through it",
);

/** Throws unless x is a batch of images and the numbers have the shape that goes with it. */
function requireBatch(op: string, x: Spec, numbers: Spec, want: (N: number) => number[]): void {
  const shape = x.shape.length === 4 ? want(x.shape[0]!) : null;
  const fits = shape && isFloat(x.dtype) && numbers.dtype === "f32" &&
    x.shape.slice(1).every((s) => s > 0) && sameShape(numbers.shape, shape);
  if (fits) return;
  throw new TypeError(
    `Cannot ${op} ${show(x.shape)} ${x.dtype} by ${
      show(numbers.shape)
    } ${numbers.dtype}: they must ` +
      `be images [N, C, H, W] f32 or f16 and numbers ${shape ? show(shape) : "for each"} f32`,
  );
}

function sizes(x: Spec): { C: number; H: number; W: number } {
  const [, C, H, W] = x.shape as Shape4;
  return { C, H, W };
}

/** Parts [top, left, height, width] of the images, resized; the parts lie inside their images. */
export const cropResize: Op<{ size: Size }> = defineOp<{ size: Size }>({
  name: "cropResize",
  check([x, crops], { size }) {
    requireBatch("cropResize", x!, crops!, (N) => [N, 4]);
    checkWhole("cropResize", { size }, 1);
    return [{ shape: [x!.shape[0]!, x!.shape[1]!, ...size], dtype: x!.dtype }];
  },
  forward(_ctx, [x, crops], { size: [OH, OW] }, [out]) {
    const y = DeviceArray.empty(out!, "cropResize");
    launchLinear(cropResizeKernel(floatOf(y)), [plain(x!), plain(crops!), y], {
      params: { count: y.size, ...sizes(x!), OH, OW },
      threads: y.size,
    });
    return [y];
  },
  backward: AUGMENTATION,
  reference([x, crops], { size }) {
    const weights = (o: number, length: number, to: number) => {
      const scale = length / to;
      const taps = Array.from(
        { length },
        (_, i) => Math.max(0, 1 - Math.abs(i + 0.5 - (o + 0.5) * scale) / Math.max(scale, 1)),
      );
      const total = taps.reduce((a, b) => a + b, 0);
      return taps.map((v) => v / total);
    };
    return [
      hostFrom([x!.shape[0]!, x!.shape[1]!, ...size], ([b, c, oh, ow]) => {
        const [top, left, height, width] = [0, 1, 2, 3].map((k) => hostAt(crops!, [b!, k]));
        let total = 0;
        weights(oh!, height!, size[0]).forEach((wi, i) =>
          weights(ow!, width!, size[1]).forEach((wj, j) => {
            if (wi * wj > 0) total += wi * wj * hostAt(x!, [b!, c!, top! + i, left! + j]);
          })
        );
        return total;
      }),
    ];
  },
  samples: [
    {
      inputs: [{ shape: [2, 2, 9, 7] }, {
        shape: [2, 4],
        dtype: "f32",
        values: [0, 0, 9, 7, 2, 3, 5, 4],
      }],
      attrs: { size: [4, 5] },
      terms: 16,
    },
    {
      inputs: [{ shape: [3, 1, 8, 8] }, {
        shape: [3, 4],
        dtype: "f32",
        values: [0, 0, 8, 8, 7, 7, 1, 1, 1, 2, 3, 6],
      }],
      attrs: { size: [11, 3] },
      terms: 16,
    },
  ],
});

/**
 * torchvision's brightness, contrast, saturation and hue on RGB in [0, 1]. A row of factors is the four
 * in that order, then the order in which to run them, as numbers 0 to 3.
 */
export const adjustColors: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "adjustColors",
  check([x, factors]) {
    requireBatch("adjustColors", x!, factors!, (N) => [N, 8]);
    if (x!.shape[1] !== 3) {
      throw new TypeError(`Cannot adjustColors of ${show(x!.shape)}: it must have 3 channels`);
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x, factors]) {
    const [N, , H, W] = x!.shape as Shape4;
    const [images, rows] = [plain(x!), plain(factors!)];
    const means = DeviceArray.empty({ shape: [N], dtype: "f32" }, "color means");
    const y = DeviceArray.empty(x!, "adjustColors");
    if (N > 0) {
      launchImages(colorMeansKernel(floatOf(y)), [images, rows, means], { B: N, HW: H * W });
    }
    launchLinear(colorKernel(floatOf(y)), [images, rows, means, y], {
      params: { count: N * H * W, HW: H * W },
      threads: N * H * W,
    });
    return [y];
  },
  backward: AUGMENTATION,
  reference: hostColors,
  samples: [
    {
      inputs: [{ shape: [4, 3, 5, 13], low: 0, high: 1 }, {
        shape: [4, 8],
        dtype: "f32",
        values: [
          ...[1.3, 0.7, 1.4, 0.08, 0, 1, 2, 3],
          ...[0.6, 1.4, 0.6, -0.1, 3, 2, 1, 0],
          ...[1, 1, 1, 0, 2, 0, 3, 1],
          ...[1.2, 0.9, 0, 0.45, 1, 3, 0, 2],
        ],
      }],
      attrs: {},
      terms: 65,
    },
    {
      inputs: [{ shape: [1, 3, 2, 2], values: [0, 1, 0.5, 0.5, 0, 1, 0.5, 0, 0, 1, 0.5, 0.25] }, {
        shape: [1, 8],
        dtype: "f32",
        values: [1, 1, 1, 0.25, 0, 1, 2, 3],
      }],
      attrs: {},
      terms: 4,
    },
  ],
});

function hostColors([x, factors]: readonly HostArray[]): HostArray[] {
  const [N, , H, W] = x!.shape as Shape4;
  const y = hostZeros(x!.shape);
  const HW = H * W;
  const gray = (v: number[]) => 0.2989 * v[0]! + 0.587 * v[1]! + 0.114 * v[2]!;
  for (let b = 0; b < N; b++) {
    let image = Array.from(
      { length: HW },
      (_, i) => [0, 1, 2].map((c) => x!.data[(b * 3 + c) * HW + i]!),
    );
    for (let k = 0; k < 4; k++) {
      const op = factors!.data[b * 8 + 4 + k]!;
      const f = factors!.data[b * 8 + op]!;
      const mean = image.reduce((n, v) => n + gray(v), 0) / HW;
      image = image.map((v) => {
        if (op === 3) return hostHue(v, f);
        const other = op === 0 ? 0 : op === 1 ? mean : gray(v);
        return v.map((u) => Math.min(Math.max(f * u + (1 - f) * other, 0), 1));
      });
    }
    image.forEach((v, i) => v.forEach((u, c) => y.data[(b * 3 + c) * HW + i] = u));
  }
  return [y];
}

/** RGB with its hue turned by a fraction of the circle. */
function hostHue([r, g, b]: number[], turn: number): number[] {
  const top = Math.max(r!, g!, b!);
  const range = top - Math.min(r!, g!, b!);
  if (range === 0) return [r!, g!, b!];
  const h = top === r
    ? (g! - b!) / range
    : top === g
    ? 2 + (b! - r!) / range
    : 4 + (r! - g!) / range;
  const at = (n: number) => {
    const k = (((n + h + 6 * turn) % 6) + 6) % 6;
    return top - range * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return [at(5), at(3), at(1)];
}

/** Gaussian blur with a deviation an image, over `kernelSize` pixels a side (odd). */
export const gaussianBlur: Op<{ kernelSize: number }> = defineOp<{ kernelSize: number }>({
  name: "gaussianBlur",
  check([x, sigmas], { kernelSize }) {
    requireBatch("gaussianBlur", x!, sigmas!, (N) => [N]);
    const least = Math.min(x!.shape[2]!, x!.shape[3]!);
    if (!(kernelSize % 2 === 1) || kernelSize < 1 || kernelSize >= 2 * least) {
      throw new RangeError(
        `Cannot gaussianBlur ${
          show(x!.shape)
        } over ${kernelSize} pixels: it must be odd and below ` +
          `${2 * least}`,
      );
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x, sigmas], { kernelSize }) {
    const rows = plain(sigmas!);
    let from = plain(x!);
    for (const axis of ["h", "w"] as const) {
      // What the first pass gives is kept in f32.
      const { dtype } = axis === "h" ? { dtype: "f32" as const } : floatOf(x!);
      const y = DeviceArray.empty({ shape: x!.shape, dtype }, `gaussianBlur ${axis}`);
      const kernel = blurKernel({ axis, from: floatOf(from).dtype, to: dtype });
      launchLinear(kernel, [from, rows, y], {
        params: { count: y.size, ...sizes(x!), radius: (kernelSize - 1) / 2 },
        threads: y.size,
      });
      from = y;
    }
    return [from];
  },
  backward: AUGMENTATION,
  reference([x, sigmas], { kernelSize }) {
    const r = (kernelSize - 1) / 2;
    const mirror = (i: number, n: number) => i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
    return [
      hostFrom(x!.shape, ([b, c, h, w]) => {
        let [total, weight] = [0, 0];
        for (let i = -r; i <= r; i++) {
          for (let j = -r; j <= r; j++) {
            const g = Math.exp(-(i * i + j * j) / (2 * hostAt(sigmas!, [b!]) ** 2));
            const [H, W] = [x!.shape[2]!, x!.shape[3]!];
            total += g * hostAt(x!, [b!, c!, mirror(h! + i, H), mirror(w! + j, W)]);
            weight += g;
          }
        }
        return total / weight;
      }),
    ];
  },
  samples: [
    {
      inputs: [{ shape: [2, 2, 5, 6] }, { shape: [2], dtype: "f32", values: [0.5, 2] }],
      attrs: { kernelSize: 3 },
      terms: 9,
    },
    {
      inputs: [{ shape: [2, 1, 9, 4] }, { shape: [2], dtype: "f32", values: [0.01, 1.5] }],
      attrs: { kernelSize: 7 },
      terms: 49,
    },
    {
      inputs: [{ shape: [1, 1, 1, 1] }, { shape: [1], dtype: "f32", values: [1] }],
      attrs: { kernelSize: 1 },
      terms: 1,
    },
  ],
});

/** `fill` inside boxes [top, left, bottom, right] of each image; ends are not included. */
export const eraseBoxes: Op<{ fill: number }> = defineOp<{ fill: number }>({
  name: "eraseBoxes",
  check([x, holes]) {
    requireBatch("eraseBoxes", x!, holes!, (N) => [N, holes!.shape[1] ?? 0, 4]);
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x, holes], { fill }) {
    const y = DeviceArray.empty(x!, "eraseBoxes");
    launchLinear(eraseKernel(floatOf(y)), [plain(x!), plain(holes!), y], {
      params: { count: y.size, ...sizes(x!), K: holes!.shape[1]!, fill },
      threads: y.size,
    });
    return [y];
  },
  backward: AUGMENTATION,
  reference: ([x, holes], { fill }) => [
    hostFrom(x!.shape, ([b, c, h, w]) => {
      for (let k = 0; k < holes!.shape[1]!; k++) {
        const [top, left, bottom, right] = [0, 1, 2, 3].map((i) => hostAt(holes!, [b!, k, i]));
        if (h! >= top! && h! < bottom! && w! >= left! && w! < right!) return fill;
      }
      return hostAt(x!, [b!, c!, h!, w!]);
    }),
  ],
  samples: [
    {
      inputs: [{ shape: [2, 2, 5, 6] }, {
        shape: [2, 2, 4],
        dtype: "f32",
        values: [1, 2, 3, 6, 0, 0, 1, 1, 4, 4, 4, 4, 2, -3, 99, 2],
      }],
      attrs: { fill: 0.25 },
      terms: 1,
    },
    {
      inputs: [{ shape: [1, 1, 3, 3] }, { shape: [1, 0, 4], dtype: "f32" }],
      attrs: { fill: 0 },
      terms: 1,
    },
  ],
});

/** Bilinear warp by a map [2, 3] an image, as `warpAffine`, mirrored beyond the edges. */
export const warpReflect: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "warpReflect",
  check([x, maps]) {
    requireBatch("warpReflect", x!, maps!, (N) => [N, 2, 3]);
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x, maps]) {
    const y = DeviceArray.empty(x!, "warpReflect");
    launchLinear(warpReflectKernel(floatOf(y)), [plain(x!), plain(maps!), y], {
      params: { count: y.size, ...sizes(x!) },
      threads: y.size,
      flops: 8 * y.size,
    });
    return [y];
  },
  backward: AUGMENTATION,
  reference([x, maps]) {
    const { H, W } = sizes(x!);
    const mirror = (i: number, n: number) => {
      if (n === 1) return 0;
      const r = ((i % (2 * n - 2)) + 2 * n - 2) % (2 * n - 2);
      return Math.min(r, 2 * n - 2 - r);
    };
    return [
      hostFrom(x!.shape, ([b, c, oy, ox]) => {
        const row = (r: number) =>
          hostAt(maps!, [b!, r, 0]) * (ox! + 0.5 - W / 2) +
          hostAt(maps!, [b!, r, 1]) * (oy! + 0.5 - H / 2) + hostAt(maps!, [b!, r, 2]);
        const [sx, sy] = [row(0) + W / 2 - 0.5, row(1) + H / 2 - 0.5];
        const [x0, y0] = [Math.floor(sx), Math.floor(sy)];
        let total = 0;
        for (const i of [0, 1]) {
          for (const j of [0, 1]) {
            const weight = (j ? sx - x0 : 1 - sx + x0) * (i ? sy - y0 : 1 - sy + y0);
            total += weight * hostAt(x!, [b!, c!, mirror(y0 + i, H), mirror(x0 + j, W)]);
          }
        }
        return total;
      }),
    ];
  },
  samples: [
    {
      inputs: [{ shape: [2, 2, 5, 7] }, {
        shape: [2, 2, 3],
        dtype: "f32",
        values: [0.9, -0.3, 2.73, 0.3, 1.1, -9.37, 1, 0, 0, 0, 1, 0],
      }],
      attrs: {},
      terms: 64,
    },
    {
      inputs: [{ shape: [1, 1, 1, 4] }, {
        shape: [1, 2, 3],
        dtype: "f32",
        values: [3.3, 0.1, 0.2, 1, 1, 1],
      }],
      attrs: {},
      terms: 64,
    },
  ],
});
