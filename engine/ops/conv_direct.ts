/** Convolutions of 3 x 3 windows and few output channels on a discrete GPU. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { convDirectKernel, directBytes, PATCH } from "../kernels/conv_direct.ts";
import {
  BLOCK,
  convDirectWeightGradKernel,
  DIRECT_DW_BYTES,
  STRIP,
} from "../kernels/conv_direct_dw.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import type { Sizes, Window } from "./conv_sizes.ts";
import { DISCRETE_THREADS, floatOf } from "./gemm_tiles.ts";
import { whole } from "./gemm_plan.ts";

/** Most output channels: the tiled core fetches an input nine times, which 64 products make up for. */
const MOST_ROWS = 32;
/** The share of the patches that has to lie inside of the image. */
const LEAST_USE = 0.75;
/** Output channels of a workgroup where there are enough, and input channels at a time. */
const ROWS = 16;
const CHUNK = 4;

let forced = false;

/** Makes every convolution inside `fn` that the kernel can do go by it, for tests. */
export function onDirect<T>(fn: () => T): T {
  const before = forced;
  forced = true;
  try {
    return fn();
  } finally {
    forced = before;
  }
}

/** Patches of an image, across and in all. */
function patchesOf(h: number, w: number): { across: number; all: number } {
  const across = Math.ceil(w / PATCH.width);
  return { across, all: across * Math.ceil(h / PATCH.height) };
}

/** Output channels of a workgroup. */
function rowsOf(channels: number): number {
  return channels <= ROWS / 2 ? ROWS / 2 : ROWS;
}

function isThreeByThree(
  s: Sizes,
  { stride, dilation }: Pick<Window, "stride" | "dilation">,
): boolean {
  return s.KH === 3 && s.KW === 3 && s.C > 0 && s.O > 0 &&
    [...stride, ...dilation].every((n) => n === 1);
}

/**
 * Whether a convolution, or `turned` its dX, goes by this kernel. Where Mesa's NVK compiles both (26.2, for Ampere)
 * its inner loop has 80 % multiplications, of all that it does 63; the loop of the core's tiles of 32 rows has 38 to
 * 41 %, half of them in vain where there are 16 rows (2026-11). Not timed on a GPU; on software every lane's load costs a bounds check, and the core
 * has fewer of them.
 */
export function isDirect(
  s: Sizes,
  { stride, dilation, groups }: Window,
  turned: boolean,
): boolean {
  const [rows, h, w] = turned ? [s.C, s.H, s.W] : [s.O, s.OH, s.OW];
  const { info, limits } = gpu();
  const most = limits.maxComputeWorkgroupsPerDimension;
  const blocks = groups * Math.ceil(rows / rowsOf(rows));
  const { all } = patchesOf(h, w);
  const able = isThreeByThree(s, { stride, dilation }) &&
    Math.max(all, s.B, blocks) <= most &&
    directBytes({ rows: ROWS, chunk: CHUNK }) <= limits.maxComputeWorkgroupStorageSize;
  if (!able || forced) return able;
  return !info.software && rows <= MOST_ROWS &&
    h * w >= LEAST_USE * all * PATCH.height * PATCH.width;
}

/** y = f(w * x + bias) for x [B, C·groups, H, W]; with `turned` w is [C·groups, O, 3, 3], as for dX. */
export function convDirect(
  { x, w, bias, y }: { x: DeviceArray; w: DeviceArray; bias?: DeviceArray; y: DeviceArray },
  { padding, groups, turned, epilogue }: {
    readonly padding: readonly [number, number];
    readonly groups: number;
    readonly turned: boolean;
    readonly epilogue?: Epilogue;
  },
): void {
  const [B, inputs, H, W] = x.shape as [number, number, number, number];
  const [, outputs, OH, OW] = y.shape as [number, number, number, number];
  const [C, O] = [inputs / groups, outputs / groups];
  const rows = rowsOf(O);
  const patches = patchesOf(OH, OW);
  const blocks = Math.ceil(O / rows);
  const arrays = [x, w, ...(bias ? [bias] : []), y];
  const kernel = convDirectKernel({
    dtype: floatOf(x),
    rows,
    chunk: Math.min(C, CHUNK),
    turned,
    bias: bias !== undefined,
    epilogue,
    wide: whole(OW),
  });
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: {
      C,
      O,
      groups,
      blocks,
      H,
      W,
      OH,
      OW,
      pad_h: padding[0],
      pad_w: padding[1],
      patches: patches.across,
    },
    grid: [patches.all, B, groups * blocks],
    cost: {
      flops: 18 * B * outputs * C * OH * OW,
      bytes: arrays.reduce((n, a) => n + a.bytes, 0),
    },
  });
}

/** Fewest input channels of a weight's gradient: with fewer most threads of a workgroup have none. */
const LEAST_CHANNELS = 8;
/** Strips that are worth a share of their own. */
const LEAST_STRIPS = 4;

/** Blocks of output and input channels of a weight's gradient, and its strips. */
function blocksOf(s: Sizes): { o: number; c: number; across: number; down: number } {
  return {
    o: Math.ceil(s.O / BLOCK),
    c: Math.ceil(s.C / BLOCK),
    across: Math.ceil(s.OW / STRIP.width),
    down: Math.ceil(s.OH / STRIP.height),
  };
}

/**
 * Whether a weight's gradient goes by its kernel. On an emulated GPU of 32 lanes its loads take as many turns of the
 * first cache and workgroup memory as its multiplications, those of the core's tiles for so few channels 2 to 7 times as
 * many (2026-12). Not timed on a GPU.
 */
export function isDirectWeightGrad(s: Sizes, { stride, dilation, groups }: Window): boolean {
  const { info, limits } = gpu();
  const { o, c } = blocksOf(s);
  const able = isThreeByThree(s, { stride, dilation }) && s.B > 0 && whole(s.OW) &&
    groups * o * c <= limits.maxComputeWorkgroupsPerDimension &&
    DIRECT_DW_BYTES <= limits.maxComputeWorkgroupStorageSize;
  if (!able || forced) return able;
  return !info.software && s.O <= MOST_ROWS && s.C >= LEAST_CHANNELS;
}

/** Shares of dW, [shares, ...shape] in f32, to be added up. */
export function convDirectWeightGrad(
  { dy, x }: { dy: DeviceArray; x: DeviceArray },
  { s, at, shape }: { readonly s: Sizes; readonly at: Window; readonly shape: readonly number[] },
): DeviceArray {
  const { o, c, across, down } = blocksOf(s);
  const blocks = at.groups * o * c, strips = s.B * across * down;
  const { maxComputeWorkgroupsPerDimension: most } = gpu().limits;
  const wanted = Math.min(
    Math.ceil(strips / LEAST_STRIPS),
    DISCRETE_THREADS / (BLOCK * BLOCK / 4) / blocks,
  );
  const share = Math.ceil(strips / Math.max(1, Math.min(wanted, most)));
  const splits = Math.max(1, Math.ceil(strips / share));
  const shares = DeviceArray.empty({ shape: [splits, ...shape], dtype: "f32" }, "conv2d dw");
  const { B, C, O, H, W, OH, OW } = s;
  const [pad_h, pad_w] = at.padding;
  const arrays = [dy, x, shares];
  gpu().queue.launch({
    kernel: convDirectWeightGradKernel({ dtype: floatOf(x) }),
    buffers: arrays.map((a) => operand(a).binding),
    params: {
      C,
      O,
      groups: at.groups,
      blocks_o: o,
      blocks_c: c,
      H,
      W,
      OH,
      OW,
      pad_h,
      pad_w,
      across,
      down,
      strips,
      share,
    },
    grid: [splits, blocks, 1],
    cost: {
      flops: 18 * B * O * at.groups * C * OH * OW,
      bytes: arrays.reduce((n, a) => n + a.bytes, 0),
    },
  });
  return shares;
}
