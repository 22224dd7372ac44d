/** Windows of images as columns, and columns added up to images. */

import { checkOptions, checkWhole } from "./arguments.ts";
import { asBatch } from "./batch.ts";
import { type Pair, pair } from "./functions.ts";
import { fold as foldOp, unfold as unfoldOp } from "./ops/windows.ts";
import { show } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Options of {@linkcode unfold} and {@linkcode fold}. */
export interface WindowOptions {
  /** Step of the window; default 1. */
  stride?: Pair;
  /** Zeros around the image; default 0. */
  padding?: Pair;
  /** Distance between window elements; default 1. */
  dilation?: Pair;
}

/** Options as pairs, and how many windows there are of an image along both dimensions. */
function windowsOf(
  name: string,
  image: readonly [number, number],
  kernel: Pair,
  options: WindowOptions,
) {
  checkOptions(name, options, `${name}(x, …, { stride: 2 })`);
  const size = pair(kernel), stride = pair(options.stride ?? 1);
  const padding = pair(options.padding ?? 0), dilation = pair(options.dilation ?? 1);
  checkWhole(name, { kernel: size, stride, dilation }, 1);
  checkWhole(name, { padding }, 0);
  const counts = image.map((s, i) => {
    const reach = dilation[i]! * (size[i]! - 1) + 1;
    return Math.floor((s + 2 * padding[i]! - reach) / stride[i]!) + 1;
  });
  if (counts.some((n) => n < 1)) {
    throw new RangeError(
      `Cannot ${name} images ${show(image)} in windows ${show(size)} with padding ` +
        `${show(padding)} and dilation ${show(dilation)}: they must hold a window`,
    );
  }
  return { size, stride, padding, dilation, counts };
}

/**
 * Windows of x [N, C, H, W], or one image [C, H, W], as columns [N, C · KH · KW, windows]: the product of a
 * weight [O, C · KH · KW] with them is a convolution. PyTorch's `torch.nn.functional.unfold`, also known as im2col; the
 * windows along one dimension of any tensor are `x.unfold(dim, size, step)`.
 *
 * @throws {TypeError} if x is neither
 * @throws {RangeError} if an option is out of range or there is no window
 *
 * @example
 * ```ts
 * import { init, randn, unfold } from "../mod.ts";
 * await init();
 * console.log(unfold(randn([2, 3, 8, 8]), 3, { padding: 1, stride: 2 }).shape); // [2, 27, 16]
 * ```
 */
export function unfold(x: Tensor, kernel: Pair, options: WindowOptions = {}): Tensor {
  if (![3, 4].includes(x.ndim)) {
    throw new TypeError(`Cannot unfold ${show(x.shape)}: it must be [N, C, H, W] or [C, H, W]`);
  }
  return asBatch(x, 4, (x) => {
    const [N, C, H, W] = x.shape as [number, number, number, number];
    const { size, stride, padding, dilation, counts } = windowsOf(
      "unfold",
      [H, W],
      kernel,
      options,
    );
    const [high, wide] = padding;
    let windows = high || wide ? x.pad([wide, wide, high, high]) : x;
    for (const i of [0, 1]) {
      const attrs = { dim: 2 + i, size: size[i]!, step: stride[i]!, dilation: dilation[i]! };
      windows = apply(unfoldOp, [windows], attrs)[0]!;
    }
    return windows.permute(0, 1, 4, 5, 2, 3)
      .reshape(N, C * size[0] * size[1], counts[0]! * counts[1]!);
  });
}

/**
 * Columns x [N, C · KH · KW, windows], or those of one image, added up to images [N, C, H, W] of the given
 * size: what {@linkcode unfold} made, with every element as many times as it is in a window. PyTorch's
 * `torch.nn.functional.fold`, also known as col2im.
 *
 * @param x The columns.
 * @param size [H, W]
 * @param kernel [KH, KW]
 * @throws {TypeError} if x does not have the columns of such windows
 * @throws {RangeError} if an option is out of range or there is no window
 */
export function fold(
  x: Tensor,
  size: Pair,
  kernel: Pair,
  options: WindowOptions = {},
): Tensor {
  const image = pair(size);
  const { size: [KH, KW], stride, padding, dilation, counts } = windowsOf(
    "fold",
    image,
    kernel,
    options,
  );
  const [rows, columns] = counts as [number, number];
  const [K, L] = x.shape.slice(-2);
  if (![2, 3].includes(x.ndim) || K! % (KH * KW) !== 0 || L !== rows * columns) {
    throw new TypeError(
      `Cannot fold ${show(x.shape)} to ${show(image)}: it must be [N, C · ${KH * KW}, ` +
        `${rows * columns}], or without N`,
    );
  }
  return asBatch(x, 3, (x) => {
    const [N, K] = x.shape as [number, number];
    let images = x.reshape(N, K / (KH * KW), KH, KW, rows, columns).permute(0, 1, 4, 5, 2, 3);
    for (const i of [1, 0]) {
      const length = image[i]! + 2 * padding[i]!;
      const attrs = { dim: 2 + i, step: stride[i]!, dilation: dilation[i]!, length };
      images = apply(foldOp, [images], attrs)[0]!;
    }
    const [high, wide] = padding;
    return high || wide ? images.pad([-wide, -wide, -high, -high]) : images;
  });
}
