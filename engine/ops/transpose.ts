/** Copies of arrays whose memory runs along another dimension than their last. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { TRANSPOSE_COVERS, transposeKernel } from "../kernels/transpose.ts";
import { collapse, contiguousStrides } from "../shape.ts";

/** Fewest rows and columns for which a kernel of its own pays. */
const LEAST = 8;

/** A batch of transposed matrices, in elements. */
interface Transposed {
  readonly R: number;
  readonly C: number;
  readonly ld: number;
  readonly batch: number;
  readonly x_batch: number;
  readonly y_batch: number;
  readonly y_row: number;
}

/** How `x` is transposed, if it is: by one dimension of stride 1 that is not the last. */
function transposition(x: DeviceArray): Transposed | undefined {
  const { shape, strides } = collapse(x.shape, [x.strides, contiguousStrides(x.shape)]);
  const [from, to] = strides as [number[], number[]];
  const last = shape.length - 1, row = from.lastIndexOf(1);
  if (last < 1 || last > 2 || row < 0 || row === last) return undefined;
  const other = 1 - row; // of three dimensions
  return {
    R: shape[row]!,
    C: shape[last]!,
    ld: from[last]!,
    batch: last === 2 ? shape[other]! : 1,
    x_batch: last === 2 ? from[other]! : 0,
    y_batch: last === 2 ? to[other]! : 0,
    y_row: to[row]!,
  };
}

/** A contiguous copy of `x` if it is transposed and of a size for it, else undefined. */
export function transposedCopy(x: DeviceArray): DeviceArray | undefined {
  const found = transposition(x);
  if (!found || found.R < LEAST || found.C < LEAST) return undefined;
  const { limits, info, queue } = gpu();
  const { R, C, batch, ...steps } = found;
  const form = info.software ? "lines" : "tiles";
  const { rows, columns } = TRANSPOSE_COVERS[form];
  const grid = [Math.ceil(R / rows), Math.ceil(C / columns), batch] as const;
  const source = operand(x), most = limits.maxStorageBufferBindingSize;
  const over = grid.some((n) => n > limits.maxComputeWorkgroupsPerDimension) ||
    source.binding.byteEnd - source.binding.byteOffset > most || x.bytes > most;
  if (over) return undefined;
  const y = DeviceArray.empty(x, "copy");
  queue.launch({
    kernel: transposeKernel({ dtype: x.dtype, form }),
    buffers: [source.binding, operand(y).binding],
    params: { R, C, ...steps, x_off: source.offset },
    grid,
    cost: { flops: 0, bytes: 2 * y.bytes },
  });
  return y;
}
