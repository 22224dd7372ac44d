/** Images read at given positions, with gradients of both. */

import { checkOneOf } from "../arguments.ts";
import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import {
  GRID_CHANNELS,
  gridSampleGridGradKernel,
  gridSampleInputGradKernel,
  gridSampleKernel,
  type GridSampleSpec,
} from "../kernels/grid_sample.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import { defineOp, type Op } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { show } from "../shape.ts";
import { fill } from "./fill.ts";
import { floatOf, plain } from "./launch_pointwise.ts";

/** Attributes of {@linkcode gridSample}. */
export interface GridSampleAttrs extends Omit<GridSampleSpec, "dtype"> {
  /** Whether -1 and 1 are centres of the outermost pixels instead of the image's edges. */
  readonly alignCorners: boolean;
}

/** Pixel position = grid · scale + shift, along a dimension of `size`. */
export function mapping(size: number, alignCorners: boolean): { scale: number; shift: number } {
  return { scale: (alignCorners ? size - 1 : size) / 2, shift: (size - 1) / 2 };
}

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  { x, y, count, alignCorners, flops }: {
    x: Spec;
    y: Spec;
    count: number;
    alignCorners: boolean;
    flops: number;
  },
): void {
  const [, C, H, W] = x.shape as [number, number, number, number];
  const [h, w] = [mapping(H, alignCorners), mapping(W, alignCorners)];
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: {
      count,
      C,
      H,
      W,
      OH: y.shape[2]!,
      OW: y.shape[3]!,
      blocks: Math.ceil(C / GRID_CHANNELS),
      scale_h: h.scale,
      scale_w: w.scale,
      shift_h: h.shift,
      shift_w: w.shift,
    },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

/** y[n, c, oh, ow] = x[n, c] at position grid[n, oh, ow] = (across, down). */
export const gridSample: Op<GridSampleAttrs> = defineOp<GridSampleAttrs>({
  name: "gridSample",
  discontinuous: ({ mode }) => mode === "nearest",
  check([x, grid], { mode, padding }) {
    checkOneOf("gridSample", { mode }, ["nearest", "bilinear"]);
    checkOneOf("gridSample", { padding }, ["zeros", "border"]);
    const fits = x!.shape.length === 4 && grid!.shape.length === 4 &&
      x!.shape[0] === grid!.shape[0] && grid!.shape[3] === 2;
    if (!isFloat(x!.dtype) || grid!.dtype !== x!.dtype || !fits) {
      throw new TypeError(
        `Cannot gridSample ${show(x!.shape)} ${x!.dtype} at ${show(grid!.shape)} ` +
          `${grid!.dtype}: they must be [N, C, H, W] and [N, OH, OW, 2], both f32 or ` +
          "both f16",
      );
    }
    const [N, C, H, W] = x!.shape as [number, number, number, number];
    if (H === 0 || W === 0) {
      throw new RangeError(`Cannot gridSample ${show(x!.shape)}: it has no pixels`);
    }
    return [{ shape: [N, C, grid!.shape[1]!, grid!.shape[2]!], dtype: x!.dtype }];
  },
  forward(ctx, [x, grid], attrs, [out]) {
    const [image, at] = [plain(x!), plain(grid!)];
    const y = DeviceArray.empty(out!, "gridSample");
    launch(gridSampleKernel(specOf(attrs, image)), [image, at, y], {
      x: image,
      y,
      count: y.size,
      alignCorners: attrs.alignCorners,
      flops: 12 * y.size,
    });
    ctx.save(at, ...(ctx.needs[1] ? [image] : []));
    return [y];
  },
  backward(ctx, [grad], attrs) {
    const [grid, x] = ctx.saved as [DeviceArray, DeviceArray?];
    const [image, at] = ctx.inputs as [Spec, Spec];
    const dy = plain(grad!);
    const { alignCorners } = attrs;
    const positions = dy.shape[2]! * dy.shape[3]!;
    const [N, C, H, W] = image.shape as [number, number, number, number];
    const dx = () => {
      const dx = DeviceArray.empty(image, "gridSample dx");
      const count = N * Math.ceil(C / GRID_CHANNELS) * H * W;
      launch(gridSampleInputGradKernel(specOf(attrs, image)), [grid, dy, dx], {
        x: image,
        y: dy,
        count,
        alignCorners,
        flops: 6 * count * positions,
      });
      return dx;
    };
    const dGrid = () => {
      if (attrs.mode === "nearest") return fill(at, 0);
      const dGrid = DeviceArray.empty(at, "gridSample dgrid");
      launch(gridSampleGridGradKernel(specOf(attrs, image)), [x!, grid, dy, dGrid], {
        x: image,
        y: dy,
        count: N * positions,
        alignCorners,
        flops: 12 * C * N * positions,
      });
      return dGrid;
    };
    return [ctx.needs[0] ? dx() : null, ctx.needs[1] ? dGrid() : null];
  },
  reference([x, grid], { mode, padding, alignCorners }) {
    const [N, C, H, W] = x!.shape as [number, number, number, number];
    const position = (g: number, size: number) => {
      const at = alignCorners ? (g + 1) / 2 * (size - 1) : ((g + 1) * size - 1) / 2;
      return padding === "border" ? Math.min(Math.max(at, 0), size - 1) : at;
    };
    return [
      hostFrom([N, C, grid!.shape[1]!, grid!.shape[2]!], ([n, c, oh, ow]) => {
        const across = position(hostAt(grid!, [n!, oh!, ow!, 0]), W);
        const down = position(hostAt(grid!, [n!, oh!, ow!, 1]), H);
        const pixel = (w: number, h: number) =>
          w < 0 || h < 0 || w >= W || h >= H ? 0 : hostAt(x!, [n!, c!, h, w]);
        if (mode === "nearest") return pixel(Math.round(across), Math.round(down));
        const [w, h] = [Math.floor(across), Math.floor(down)];
        const [a, b] = [across - w, down - h];
        return (1 - b) * ((1 - a) * pixel(w, h) + a * pixel(w + 1, h)) +
          b * ((1 - a) * pixel(w, h + 1) + a * pixel(w + 1, h + 1));
      }),
    ];
  },
  samples: ([
    ["bilinear", "zeros", false, [2, 5, 5, 4], [2, 3, 6, 2]],
    ["bilinear", "zeros", true, [1, 2, 4, 7], [1, 5, 3, 2]],
    ["bilinear", "border", false, [1, 4, 5, 5], [1, 4, 4, 2]],
    ["bilinear", "border", true, [2, 5, 3, 6], [2, 3, 5, 2]],
    ["nearest", "zeros", false, [1, 4, 5, 4], [1, 4, 5, 2]],
    ["nearest", "zeros", true, [2, 5, 3, 4], [2, 4, 5, 2]],
    ["nearest", "border", true, [2, 9, 3, 3], [2, 3, 4, 2]],
    ["bilinear", "zeros", false, [1, 1, 1, 1], [1, 2, 2, 2]],
    ["bilinear", "zeros", false, [1, 2, 3, 3], [1, 0, 2, 2]],
  ] as const).map(([mode, padding, alignCorners, x, grid]) => ({
    inputs: [{ shape: x }, { shape: grid, low: -1.3, high: 1.3 }],
    attrs: { mode, padding, alignCorners },
    terms: Math.max(4, grid[1] * grid[2]),
  })),
});

function specOf({ mode, padding }: GridSampleAttrs, x: Spec): GridSampleSpec {
  return { mode, padding, ...floatOf(x) };
}
