/** Reading images at positions, and pooling to a size. */

import { checkOptions } from "./arguments.ts";
import { autocast, isAutocasting } from "./autocast.ts";
import { asBatch } from "./batch.ts";
import { tensor } from "./creation.ts";
import { type Pair, pair } from "./functions.ts";
import { adaptiveMaxPool2d as adaptiveMaxPoolOp } from "./ops/adaptive_max_pool.ts";
import { gridSample as gridSampleOp } from "./ops/grid_sample.ts";
import { show } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/**
 * Largest element over windows [⌊i·H/OH⌋, ⌈(i+1)·H/OH⌉) so that the output is [N, C, OH, OW], or [C, OH, OW];
 * ties give their gradient to the first.
 */
export function adaptiveMaxPool2d(x: Tensor, size: Pair): Tensor {
  const attrs = { size: pair(size) };
  return asBatch(x, 4, (batch) => apply(adaptiveMaxPoolOp, [batch], attrs)[0]!);
}

/** Options of {@linkcode gridSample}. */
export interface GridSampleOptions {
  /** How a position between pixels is read; `nearest` rounds halves to even. Default `bilinear`. */
  mode?: "nearest" | "bilinear";
  /** What lies outside: zeros, or the nearest pixel of the border. Default `zeros`. */
  padding?: "zeros" | "border";
  /** Whether -1 and 1 are the centres of the outermost pixels, not the image's edges. Default false. */
  alignCorners?: boolean;
}

/**
 * y[n, c, oh, ow] = x[n, c] at position grid[n, oh, ow] = (across, down), where -1 and 1 are the edges.
 *
 * x [N, C, H, W] and grid [N, OH, OW, 2] are both f32 or both f16 (computed in f32) and both get
 * gradients; `nearest` gives the grid zeros.
 * The gradient of x costs H·W·OH·OW comparisons an image.
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html
 *
 * @returns [N, C, OH, OW]
 * @throws {TypeError} if shapes or dtypes do not fit
 *
 * @example
 * ```ts
 * import { affineGrid, gridSample, init, tensor } from "../mod.ts";
 * await init();
 * const x = tensor([[[[1, 2], [3, 4]]]]);
 * const mirror = tensor([[[-1, 0, 0], [0, 1, 0]]]);
 * const y = gridSample(x, affineGrid(mirror, [1, 1, 2, 2]));
 * console.log(await y.array()); // [[[[2, 1], [4, 3]]]]
 * ```
 */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  checkOptions("gridSample", options, 'gridSample(x, grid, { mode: "nearest" })');
  const { mode = "bilinear", padding = "zeros", alignCorners = false } = options;
  return apply(gridSampleOp, [x, grid], { mode, padding, alignCorners })[0]!;
}

/** `count` positions from edge to edge, or from centre to centre of the outermost pixels. */
function positions(count: number, alignCorners: boolean): number[] {
  return Array.from({ length: count }, (_, i) => {
    if (!alignCorners) return (2 * i + 1) / count - 1;
    return count === 1 ? 0 : 2 * i / (count - 1) - 1;
  });
}

/**
 * Positions for {@linkcode gridSample}: grid[n, h, w] = theta[n] · (across, down, 1) for the pixels of
 * an image of `size` [N, C, H, W]. theta is [N, 2, 3] f32 or f16 and gets a gradient; positions in f16
 * are a pixel apart or more from 2,048 pixels on, so `autocast` makes them in f32.
 *
 * @returns [N, H, W, 2]
 * @throws {TypeError} if theta does not fit
 */
export function affineGrid(
  theta: Tensor,
  size: readonly number[],
  options: { alignCorners?: boolean } = {},
): Tensor {
  checkOptions("affineGrid", options, "affineGrid(theta, size, { alignCorners: true })");
  const [N, , H, W] = size;
  const [rows, columns] = theta.shape.slice(1);
  if (
    size.length !== 4 || theta.ndim !== 3 || theta.shape[0] !== N || rows !== 2 || columns !== 3
  ) {
    throw new TypeError(
      `Cannot make a grid for ${show(size)} from ${show(theta.shape)}: they must be [N, C, H, W] ` +
        "and [N, 2, 3]",
    );
  }
  const { alignCorners = false } = options;
  const across = positions(W!, alignCorners);
  const points = positions(H!, alignCorners).flatMap((h) => across.flatMap((w) => [w, h, 1]));
  const maps = isAutocasting() ? theta.to("f32") : theta;
  const base = tensor(points, { shape: [H! * W!, 3], dtype: maps.dtype });
  return autocast({ enabled: false }, () => base.matmul(maps.transpose(1, 2)))
    .reshape(N!, H!, W!, 2);
}
