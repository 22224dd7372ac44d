/** Convolutions of 3 x 3 windows by Winograd's minimal filtering. */

import { DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import {
  WINOGRAD_POINTS,
  winogradInputKernel,
  winogradOutputKernel,
  winogradWeightKernel,
} from "../kernels/winograd.ts";
import type { Sizes, Window } from "./conv_sizes.ts";
import { gemmInto } from "./matmul.ts";

/** Bytes of transformed tiles at a time: images beyond that are another turn. 4 to 16 MiB take the same time. */
const SCRATCH = 8 << 20;
/** Most bytes of one image's, and of the weights': larger ones stay with the core. */
const MOST_SCRATCH = 64 << 20;

/**
 * Fewer products a point are not worth four more kernels to compile, 0.35 s of a first step: a ConvNet of 32 to
 * 128 channels at batch 64 would save 4 % of its steps.
 */
const LEAST_PRODUCTS = 10e6;

/** The bytes at a time that a test forces, which then takes every convolution that the kernels can do. */
let forced: number | null = null;

/** Makes every 3 x 3 convolution of stride 1 inside `fn` go by Winograd's filtering, for tests. */
export function onWinograd<T>(fn: () => T, scratch: number = SCRATCH): T {
  const before = forced;
  forced = scratch;
  try {
    return fn();
  } finally {
    forced = before;
  }
}

/**
 * Whether a convolution of `channels` channels to `rows` goes by Winograd's filtering, forward or, `turned`, as
 * dX. On software Vulkan it takes 0.5 to 0.8 times the core's time forward where there are 128 channels, or 64
 * and many tiles, and dX, which the core does worse, from 32 rows of 64 channels on; the transforms' traffic is
 * what fewer do not earn back (lavapipe, Mesa 25.0.7, Deno 2.9.6, 2026-11). On a discrete GPU it is not measured.
 */
export function isByWinograd(
  s: Sizes,
  { stride, dilation, groups }: Window,
  { turned, dtype }: { readonly turned: boolean; readonly dtype: "f32" | "f16" },
): boolean {
  const fits = dtype === "f32" && groups === 1 && s.KH === 3 && s.KW === 3 && stride[0] === 1 &&
    stride[1] === 1 && dilation[0] === 1 && dilation[1] === 1;
  if (!fits || forced !== null) return fits;
  const [rows, channels] = turned ? [s.C, s.O] : [s.O, s.C];
  const [h, w] = turned ? [s.H, s.W] : [s.OH, s.OW];
  const tiles = Math.ceil(h / 2) * Math.ceil(w / 2);
  const { info, limits } = gpu();
  const largest = Math.max(
    tiles * scratchOf(rows, channels),
    4 * WINOGRAD_POINTS * rows * channels,
  );
  if (!info.software || largest > Math.min(MOST_SCRATCH, limits.maxStorageBufferBindingSize)) {
    return false;
  }
  const all = s.B * tiles;
  if (rows * channels * all < LEAST_PRODUCTS) return false;
  if (turned) return channels >= 64 && rows >= 32;
  return rows >= 64 && channels >= 64 && all >= 192 && (channels >= 128 || all >= 1024);
}

/** Bytes of a tile before and after the products. */
function scratchOf(rows: number, channels: number): number {
  return 4 * WINOGRAD_POINTS * (rows + channels);
}

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  { count, params, flops, bytes }: {
    count: number;
    params: Record<string, number>;
    flops: number;
    bytes: number;
  },
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: { count, ...params },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops, bytes },
  });
}

/** y = f(w * x + bias) for x [B, C, H, W]; with `turned` w is [C, O, 3, 3], as for dX. */
export function winograd(
  { x, w, bias, y }: { x: DeviceArray; w: DeviceArray; bias?: DeviceArray; y: DeviceArray },
  { padding, turned, epilogue }: {
    padding: readonly [number, number];
    turned: boolean;
    epilogue?: Epilogue;
  },
): void {
  const [B, C, H, W] = x.shape as [number, number, number, number];
  const [, O, OH, OW] = y.shape as [number, number, number, number];
  const [TH, TW] = [Math.ceil(OH / 2), Math.ceil(OW / 2)];
  const empty = (shape: readonly number[], label: string) =>
    DeviceArray.empty({ shape: [WINOGRAD_POINTS, ...shape], dtype: "f32" }, label);
  const u = empty([O, C], "winograd weights");
  launch(winogradWeightKernel({ turned }), [w, u], {
    count: O * C,
    params: { channels: C, rows: O },
    flops: 32 * O * C,
    bytes: w.bytes + u.bytes,
  });
  const most = Math.max(1, Math.floor((forced ?? SCRATCH) / (scratchOf(O, C) * TH * TW)));
  const each = Math.min(B, most);
  const padded = (images: number) => Math.ceil(images * TH * TW / 4) * 4;
  const v = empty([C, padded(each)], "winograd tiles");
  const m = empty([O, padded(each)], "winograd products");
  for (let first = 0; first < B; first += each) {
    const images = Math.min(each, B - first);
    const [tiles, P] = [images * TH * TW, padded(images)];
    const part = (a: DeviceArray, rows: number) =>
      a.view([WINOGRAD_POINTS, rows, P], [rows * P, P, 1]);
    launch(winogradInputKernel(), [x, v], {
      count: C * P,
      params: {
        channels: C,
        H,
        W,
        pad_h: padding[0],
        pad_w: padding[1],
        TH,
        TW,
        tiles,
        P,
        x_off: first * C * H * W,
      },
      flops: 32 * C * P,
      bytes: 4 * C * (images * H * W + WINOGRAD_POINTS * P),
    });
    gemmInto(u, part(v, C), part(m, O), {});
    launch(winogradOutputKernel({ bias: bias !== undefined, epilogue }), [
      m,
      ...(bias ? [bias] : []),
      y,
    ], {
      count: images * O * TH * TW,
      params: { rows: O, OH, OW, TH, TW, P, points: O * P, y_off: first * O * OH * OW },
      flops: 24 * O * P,
      bytes: 4 * O * (images * OH * OW + WINOGRAD_POINTS * P),
    });
  }
}
