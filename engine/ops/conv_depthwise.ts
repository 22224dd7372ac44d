/** Convolutions whose every channel is a group of its own, by kernels for that. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import {
  DEPTHWISE_COLUMNS,
  depthwiseForwardKernel,
  depthwiseInputGradKernel,
  depthwiseWeightGradKernel,
} from "../kernels/depthwise.ts";
import { depthwiseColumnsKernel } from "../kernels/depthwise_columns.ts";
import {
  BLOCK_ROWS,
  depthwiseRowsInputGradKernel,
  depthwiseRowsKernel,
  type DepthwiseRowsSpec,
  depthwiseRowsWeightGradKernel,
  ROWS_COLUMNS,
  rowsOf,
} from "../kernels/depthwise_rows.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import { run } from "../op.ts";
import { contiguousStrides } from "../shape.ts";
import { type Sizes, tapSteps, type Window, windowParams } from "./conv_sizes.ts";
import { floatOf } from "./gemm_tiles.ts";
import { sum } from "./reduce.ts";

/**
 * Threads that fill an adapter, and positions of a share of a weight's gradient that are worth a thread. For a GPU not
 * measured: none has been at hand.
 */
const SOFTWARE_THREADS = 4096, GPU_THREADS = 1 << 16;
const LEAST_SHARE = 64;

/** A depthwise convolution. */
interface Depthwise {
  readonly s: Sizes;
  readonly at: Window;
}

/** A window that is square, of a size and step that have kernels for it. */
function isUsual(s: Sizes, { stride, dilation }: Window): boolean {
  return s.O === 1 && s.KH === s.KW && (s.KH === 3 || s.KH === 5) &&
    stride[0] === stride[1] && stride[0] <= 2 && dilation[0] === 1 && dilation[1] === 1;
}

/** Whether the kernels of depthwise_rows.ts can do a depthwise convolution, and the adapter wants them. */
function isByRows(s: Sizes, at: Window): boolean {
  return gpu().info.software && isUsual(s, at);
}

/**
 * Outputs below each other of a thread on a GPU: seven where that is all of a column or fills it better than eight.
 * Where threads would be too few to fill a GPU the kernels of depthwise.ts have more; null then.
 */
function columnRows(y: DeviceArray): number | null {
  const [B, C, OH, OW] = y.shape as [number, number, number, number];
  const rows = OH % 8 !== 0 && OH % 7 === 0 ? 7 : 8;
  return B * C * OW * Math.ceil(OH / rows) >= GPU_THREADS ? rows : null;
}

/** Y, or dX of stride 1 with dY in the place of X, on a GPU; false where that is not for these kernels. */
function launchColumns(
  spec: { readonly size: number; readonly stride: number; readonly turned: boolean },
  arrays: readonly DeviceArray[],
  { bias, padding }: { readonly bias: boolean; readonly padding: readonly [number, number] },
): boolean {
  const [x, y] = [arrays[0]!, arrays.at(-1)!];
  const rows = gpu().info.software ? null : columnRows(y);
  if (rows === null) return false;
  const [B, C, H, W] = x.shape as [number, number, number, number];
  const [OH, OW] = y.shape.slice(2) as [number, number];
  const down = Math.ceil(OH / rows);
  launchDepthwise(depthwiseColumnsKernel({ ...spec, dtype: floatOf(y), rows, bias }), arrays, {
    count: B * C * OW * down,
    params: { C, H, W, OH, OW, pad_h: padding[0], pad_w: padding[1], down },
    flops: 2 * Math.min(x.size, y.size) * spec.size ** 2,
  });
  return true;
}

/** Y, or dX of stride 1 with dY in the place of X; the last array is the output. */
function launchRows(
  spec: DepthwiseRowsSpec,
  arrays: readonly DeviceArray[],
  padding: readonly [number, number],
): void {
  const [x, y] = [arrays[0]!, arrays.at(-1)!];
  const [B, C, H, W] = x.shape as [number, number, number, number];
  const [OH, OW] = y.shape.slice(2) as [number, number];
  const across = Math.ceil(OW / ROWS_COLUMNS);
  const down = Math.ceil(OH / rowsOf(spec.stride));
  launchDepthwise(depthwiseRowsKernel(spec), arrays, {
    count: B * C * down * across,
    params: {
      B,
      C,
      H,
      W,
      OH,
      OW,
      KH: spec.size,
      pad_h: padding[0],
      pad_w: padding[1],
      across,
      down,
    },
    flops: 2 * Math.min(x.size, y.size) * spec.size ** 2,
  });
}

function launchDepthwise(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  { count, params, flops }: { count: number; params: Record<string, number>; flops: number },
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: { count, ...params },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

function depthwiseParams(s: Sizes, at: Window): Record<string, number> {
  return { ...windowParams(s, at), B: s.B, mult: s.O };
}

/** Y of x, w and perhaps a bias, into the last of the arrays. */
export function depthwiseForward(
  arrays: readonly DeviceArray[],
  { s, at, bias }: Depthwise & { readonly bias: boolean },
): void {
  const y = arrays.at(-1)!;
  const dtype = floatOf(y);
  if (isByRows(s, at)) {
    launchRows({ dtype, size: s.KH, stride: at.stride[0], bias }, arrays, at.padding);
    return;
  }
  if (isUsual(s, at)) {
    const spec = { size: s.KH, stride: at.stride[0], turned: false };
    if (launchColumns(spec, arrays, { bias, padding: at.padding })) return;
  }
  const across = Math.ceil(s.OW / DEPTHWISE_COLUMNS);
  launchDepthwise(depthwiseForwardKernel({ dtype, bias }), arrays, {
    count: y.size / s.OW * across,
    params: { ...depthwiseParams(s, at), across },
    flops: 2 * y.size * s.KH * s.KW,
  });
}

/** dX of dy, w and perhaps a bias, into the last of the arrays. */
export function depthwiseInputGrad(
  arrays: readonly DeviceArray[],
  { s, at, bias }: Depthwise & { readonly bias: boolean },
): void {
  const [dy, dx] = [arrays[0]!, arrays.at(-1)!];
  const dtype = floatOf(dx);
  if (isUsual(s, at) && at.stride[0] === 1) {
    const spec = { size: s.KH, stride: 1, turned: true };
    const padding = [s.KH - 1 - at.padding[0], s.KW - 1 - at.padding[1]] as const;
    if (launchColumns(spec, arrays, { bias, padding })) return;
    if (isByRows(s, at)) {
      launchRows({ ...spec, dtype, bias }, arrays, padding);
      return;
    }
  }
  if (isByRows(s, at)) return blocksInputGrad(arrays, { s, at, bias });
  const [h, v] = [0, 1].map((d) => tapSteps(at.stride[d]!, at.dilation[d]!));
  const columns = DEPTHWISE_COLUMNS * at.stride[1];
  const across = Math.ceil(s.W / columns) * at.stride[1];
  launchDepthwise(depthwiseInputGradKernel({ dtype, bias }), arrays, {
    count: dx.size / s.W * across,
    params: {
      ...depthwiseParams(s, at),
      across,
      kh_step: h!.tapStep,
      kw_step: v!.tapStep,
      oh_step: h!.outputStep,
      ow_step: v!.outputStep,
    },
    flops: 2 * dy.size * s.KH * s.KW,
  });
}

/** dX of stride 2 by blocks; the last array is the output. */
function blocksInputGrad(
  arrays: readonly DeviceArray[],
  { s, at, bias }: Depthwise & { readonly bias: boolean },
): void {
  const [dy, dx] = [arrays[0]!, arrays.at(-1)!];
  const { B, H, W, OH, OW, KH } = s;
  const [pad_h, pad_w] = at.padding;
  const [first_h, first_w] = [pad_h >> 1, pad_w >> 1];
  const down = Math.ceil((((H - 1 + pad_h) >> 1) - first_h + 1) / BLOCK_ROWS);
  const across = Math.ceil((((W - 1 + pad_w) >> 1) - first_w + 1) / ROWS_COLUMNS);
  launchDepthwise(depthwiseRowsInputGradKernel({ dtype: floatOf(dx), size: KH, bias }), arrays, {
    count: B * at.groups * down * across,
    params: { B, C: at.groups, H, W, OH, OW, KH, pad_h, pad_w, across, down, first_h, first_w },
    flops: 2 * dy.size * KH * KH,
  });
}

/** Threads of a weight gradient by rows. */
const ROWS_THREADS = 512;

/** dW of the shape `shape`. */
export function depthwiseWeightGrad(
  { dy, x }: { dy: DeviceArray; x: DeviceArray },
  { s, at, shape }: Depthwise & { readonly shape: readonly number[] },
): DeviceArray {
  if (isByRows(s, at)) return rowsWeightGrad({ dy, x }, { s, at, shape });
  const weights = s.O * at.groups * s.KH * s.KW;
  const positions = s.OH * s.OW;
  const worth = Math.min(Math.floor(s.B * positions / LEAST_SHARE), positions);
  const threads = gpu().info.software ? SOFTWARE_THREADS : GPU_THREADS;
  const splits = Math.max(1, Math.min(Math.ceil(threads / weights), worth));
  const shares = DeviceArray.empty({ shape: [...shape, splits], dtype: "f32" }, "conv2d dw");
  launchDepthwise(depthwiseWeightGradKernel({ dtype: floatOf(x) }), [dy, x, shares], {
    count: shares.size,
    params: {
      ...depthwiseParams(s, at),
      splits,
      step_h: Math.floor(splits / s.OW),
      step_w: splits % s.OW,
    },
    flops: 2 * dy.size * s.KH * s.KW,
  });
  return added(shares, shape);
}

/** The sum of the shares, which are the last dimension. */
function added(shares: DeviceArray, shape: readonly number[]): DeviceArray {
  return shares.shape.at(-1) === 1
    ? shares.view(shape, contiguousStrides(shape))
    : run(sum, [shares], { dim: shape.length });
}

/** dW by the kernels of depthwise_rows.ts. */
function rowsWeightGrad(
  { dy, x }: { dy: DeviceArray; x: DeviceArray },
  { s, at, shape }: Depthwise & { readonly shape: readonly number[] },
): DeviceArray {
  const across = Math.ceil(s.OW / ROWS_COLUMNS);
  const splits = Math.max(1, Math.min(Math.ceil(ROWS_THREADS / at.groups), s.B * across));
  const shares = DeviceArray.empty({ shape: [...shape, splits], dtype: "f32" }, "conv2d dw");
  const spec = { dtype: floatOf(x), size: s.KH, stride: at.stride[0] };
  const { OH, OW, H, W, B, KH } = s;
  const [pad_h, pad_w] = at.padding;
  launchDepthwise(depthwiseRowsWeightGradKernel(spec), [dy, x, shares], {
    count: at.groups * splits,
    params: { B, C: at.groups, H, W, OH, OW, KH, pad_h, pad_w, across, splits },
    flops: 2 * dy.size * s.KH * s.KW,
  });
  return added(shares, shape);
}
