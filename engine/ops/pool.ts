/** Pooling of NCHW tensors: largest, mean, and mean to a given output size. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import {
  adaptiveAvgPoolBackwardKernel,
  adaptiveAvgPoolKernel,
  avgPoolBackwardKernel,
  avgPoolKernel,
  maxPool2x2BackwardKernel,
  maxPoolBackwardKernel,
  maxPoolKernel,
} from "../kernels/pool.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { show } from "../shape.ts";
import { floatOf, plain } from "./launch_pointwise.ts";

/** Places of a window whose loops are unrolled in the text of a kernel: 3 x 3 and less. */
const MOST_UNROLLED = 9;

/** Attributes of pooling, normalised to pairs [height, width]. */
export interface PoolAttrs {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  /** Rounds the output size up, so that a last partial window counts. */
  readonly ceilMode: boolean;
  /** Average pooling: whether padding counts in the divisor. */
  readonly countIncludePad: boolean;
}

/** Output size along one dimension; a last window must start inside the input or left padding. */
function pooledSize(size: number, attrs: PoolAttrs, d: 0 | 1): number {
  const { kernel, stride, padding, dilation, ceilMode } = attrs;
  const span = size + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1;
  const steps = ceilMode ? Math.ceil(span / stride[d]) : Math.floor(span / stride[d]);
  const out = steps + 1;
  return ceilMode && (out - 1) * stride[d] >= size + padding[d] ? out - 1 : out;
}

function checkPool(name: string, x: Spec, attrs: PoolAttrs): Spec {
  if (!isFloat(x.dtype)) throw new TypeError(`Cannot ${name} dtype ${x.dtype}: it must be a float`);
  if (x.shape.length !== 4) {
    throw new TypeError(`Cannot ${name} ${show(x.shape)}: it must be [N, C, H, W] or [C, H, W]`);
  }
  const { kernel, stride, padding, dilation } = attrs;
  checkWhole(name, { kernel, stride, dilation }, 1);
  checkWhole(name, { padding }, 0);
  for (const d of [0, 1] as const) {
    if (attrs.padding[d] > attrs.kernel[d] / 2) {
      throw new RangeError(
        `Cannot ${name} with padding ${show(attrs.padding)}: it may be at most half the kernel ` +
          show(attrs.kernel),
      );
    }
  }
  const [B, C, H, W] = x.shape as [number, number, number, number];
  const [OH, OW] = [pooledSize(H, attrs, 0), pooledSize(W, attrs, 1)];
  if (OH < 1 || OW < 1) {
    throw new RangeError(
      `Cannot ${name} ${show(x.shape)} with kernel ${
        show(attrs.kernel)
      }: the output would be empty`,
    );
  }
  return { shape: [B, C, OH, OW], dtype: x.dtype };
}

function windowParams(x: Spec, y: Spec, attrs: PoolAttrs): Record<string, number> {
  return {
    H: x.shape[2]!,
    W: x.shape[3]!,
    OH: y.shape[2]!,
    OW: y.shape[3]!,
    KH: attrs.kernel[0],
    KW: attrs.kernel[1],
    stride_h: attrs.stride[0],
    stride_w: attrs.stride[1],
    pad_h: attrs.padding[0],
    pad_w: attrs.padding[1],
    dil_h: attrs.dilation[0],
    dil_w: attrs.dilation[1],
  };
}

/** Whether the windows are 2 x 2, side by side and all inside: most pools are. */
function halves({ shape }: Spec, attrs: PoolAttrs): boolean {
  const { kernel, stride, padding, dilation, ceilMode } = attrs;
  const all = (pair: readonly number[], value: number) => pair.every((v) => v === value);
  const even = shape[2]! % 2 === 0 && shape[3]! % 2 === 0;
  return all(kernel, 2) && all(stride, 2) && all(padding, 0) && all(dilation, 1) &&
    (even || !ceilMode);
}

/** A window that is small enough for loops over it to be unrolled, else null. */
function unrolled(window: readonly [number, number]): readonly [number, number] | null {
  return window[0] * window[1] <= MOST_UNROLLED ? window : null;
}

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  count: number,
  params: Record<string, number>,
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: { count, ...params },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: {
      flops: count * (params.KH ?? 1) * (params.KW ?? 1),
      bytes: arrays.reduce((n, a) => n + a.bytes, 0),
    },
  });
}

/** Elements of each window (in bounds), as references see it. */
function hostWindows(x: HostArray, attrs: PoolAttrs, f: (values: number[], at: Window) => number) {
  const out = checkPool("pool", x, attrs).shape;
  return hostFrom(out, ([b, c, oh, ow]) => {
    const values: number[] = [];
    const h0 = oh! * attrs.stride[0] - attrs.padding[0];
    const w0 = ow! * attrs.stride[1] - attrs.padding[1];
    for (let kh = 0; kh < attrs.kernel[0]; kh++) {
      for (let kw = 0; kw < attrs.kernel[1]; kw++) {
        const [ih, iw] = [h0 + kh * attrs.dilation[0], w0 + kw * attrs.dilation[1]];
        if (ih < 0 || iw < 0 || ih >= x.shape[2]! || iw >= x.shape[3]!) continue;
        values.push(hostAt(x, [b!, c!, ih, iw]));
      }
    }
    return f(values, { h0, w0 });
  });
}

interface Window {
  readonly h0: number;
  readonly w0: number;
}

function poolSamples(dilated: boolean): Sample<PoolAttrs>[] {
  const base = {
    stride: [2, 2],
    padding: [0, 0],
    dilation: [1, 1],
    ceilMode: false,
    countIncludePad: true,
  } as const;
  const x = (shape: readonly number[]) => [{ shape, distinct: true }];
  const samples: Sample<PoolAttrs>[] = [
    { inputs: x([2, 3, 6, 6]), attrs: { ...base, kernel: [2, 2] } },
    { inputs: x([2, 3, 7, 5]), attrs: { ...base, kernel: [2, 2] } },
    { inputs: x([1, 2, 6, 9]), attrs: { ...base, kernel: [2, 2] } },
    { inputs: x([1, 2, 9, 4]), attrs: { ...base, kernel: [2, 2], ceilMode: true } },
    {
      inputs: x([1, 1, 5, 6]),
      attrs: { ...base, kernel: [3, 2], stride: [1, 1], countIncludePad: false, padding: [1, 1] },
    },
    { inputs: x([1, 2, 7, 9]), attrs: { ...base, kernel: [3, 3] } },
    { inputs: x([1, 2, 7, 6]), attrs: { ...base, kernel: [3, 3], padding: [1, 1] } },
    {
      inputs: x([1, 1, 8, 8]),
      attrs: { ...base, kernel: [3, 3], ceilMode: true, padding: [1, 0] },
    },
    { inputs: x([0, 2, 4, 4]), attrs: { ...base, kernel: [2, 2] } },
  ];
  if (dilated) {
    samples.push({
      inputs: x([1, 2, 9, 8]),
      attrs: { ...base, kernel: [3, 2], stride: [1, 2], dilation: [2, 3], padding: [1, 1] },
    });
  }
  return samples.map((s) => ({ ...s, terms: 16 }));
}

/** Largest element of each window. */
export const maxPool2d: Op<PoolAttrs> = defineOp<PoolAttrs>({
  name: "maxPool2d",
  check: ([x], attrs) => [checkPool("maxPool2d", x!, attrs)],
  forward(ctx, [x], attrs, [out]) {
    const y = DeviceArray.empty(out!, "maxPool2d");
    const arg = DeviceArray.empty({ shape: out!.shape, dtype: "u32" }, "maxPool2d positions");
    const arrays = [plain(x!), y, arg];
    const params = { ...windowParams(x!, y, attrs), lowest: -Infinity };
    const unroll = unrolled(attrs.kernel);
    launch(maxPoolKernel({ ...floatOf(x!), unroll }), arrays, y.size, params);
    ctx.save(arg);
    return [y];
  },
  backward(ctx, [dy], attrs) {
    const dx = DeviceArray.empty(ctx.inputs[0]!, "maxPool2d dx");
    const arrays = [plain(dy!), ctx.saved[0]!, dx];
    if (halves(dx, attrs)) {
      const [B, C, H, W] = dx.shape as [number, number, number, number];
      const windows = B * C * Math.ceil(H / 2) * Math.ceil(W / 2);
      launch(maxPool2x2BackwardKernel(floatOf(dx)), arrays, windows, {
        H,
        W,
        OH: dy!.shape[2]!,
        OW: dy!.shape[3]!,
      });
    } else {
      const { kernel, stride, dilation } = attrs;
      const covers = (d: 0 | 1) => Math.ceil((dilation[d] * (kernel[d] - 1) + 1) / stride[d]);
      const unroll = unrolled([covers(0), covers(1)]);
      const made = maxPoolBackwardKernel({ ...floatOf(dx), unroll, stride });
      launch(made, arrays, dx.size, windowParams(dx, dy!, attrs));
    }
    return [dx];
  },
  reference: ([x], attrs) => [hostWindows(x!, attrs, (values) => Math.max(...values))],
  samples: poolSamples(true),
});

/** Mean of each window. */
export const avgPool2d: Op<PoolAttrs> = defineOp<PoolAttrs>({
  name: "avgPool2d",
  linear: {},
  check: ([x], attrs) => [checkPool("avgPool2d", x!, attrs)],
  forward(_ctx, [x], attrs, [out]) {
    const y = DeviceArray.empty(out!, "avgPool2d");
    const params = { ...windowParams(x!, y, attrs), include_pad: Number(attrs.countIncludePad) };
    launch(avgPoolKernel(floatOf(x!)), [plain(x!), y], y.size, params);
    return [y];
  },
  backward(ctx, [dy], attrs) {
    const dx = DeviceArray.empty(ctx.inputs[0]!, "avgPool2d dx");
    const params = { ...windowParams(dx, dy!, attrs), include_pad: Number(attrs.countIncludePad) };
    launch(avgPoolBackwardKernel(floatOf(dx)), [plain(dy!), dx], dx.size, params);
    return [dx];
  },
  reference: ([x], attrs) => [
    hostWindows(x!, attrs, (values, { h0, w0 }) => {
      const extent = (start: number, d: 0 | 1) => {
        const size = x!.shape[2 + d]!;
        return attrs.countIncludePad
          ? Math.min(start + attrs.kernel[d], size + attrs.padding[d]) - start
          : Math.min(start + attrs.kernel[d], size) - Math.max(start, 0);
      };
      return values.reduce((a, b) => a + b, 0) / (extent(h0, 0) * extent(w0, 1));
    }),
  ],
  samples: poolSamples(false),
});

/** Attributes of {@linkcode adaptiveAvgPool2d}. */
export interface AdaptiveAttrs {
  /** Output height and width. */
  readonly size: readonly [number, number];
}

/** Mean over windows chosen so that the output has the given size. */
export const adaptiveAvgPool2d: Op<AdaptiveAttrs> = defineOp<AdaptiveAttrs>({
  name: "adaptiveAvgPool2d",
  linear: {},
  check([x], { size }) {
    if (!isFloat(x!.dtype) || x!.shape.length !== 4) {
      throw new TypeError(
        `Cannot adaptiveAvgPool2d ${show(x!.shape)} ${
          x!.dtype
        }: it must be [N, C, H, W] or [C, H, W] floats`,
      );
    }
    checkWhole("adaptiveAvgPool2d", { size }, 1);
    if (x!.shape[2] === 0 || x!.shape[3] === 0) {
      throw new RangeError(
        `Cannot adaptiveAvgPool2d ${show(x!.shape)} to ${show(size)}: it has no elements there`,
      );
    }
    return [{ shape: [x!.shape[0]!, x!.shape[1]!, ...size], dtype: x!.dtype }];
  },
  forward(_ctx, [x], _attrs, [out]) {
    const y = DeviceArray.empty(out!, "adaptiveAvgPool2d");
    launch(adaptiveAvgPoolKernel(floatOf(x!)), [plain(x!), y], y.size, planeParams(x!, y));
    return [y];
  },
  backward(ctx, [dy]) {
    const dx = DeviceArray.empty(ctx.inputs[0]!, "adaptiveAvgPool2d dx");
    launch(
      adaptiveAvgPoolBackwardKernel(floatOf(dx)),
      [plain(dy!), dx],
      dx.size,
      planeParams(dx, dy!),
    );
    return [dx];
  },
  reference: ([x], { size }) => {
    const [B, C, H, W] = x!.shape as [number, number, number, number];
    return [
      hostFrom([B, C, ...size], ([b, c, oh, ow]) => {
        let total = 0;
        let count = 0;
        for (let h = Math.floor(oh! * H / size[0]); h < Math.ceil((oh! + 1) * H / size[0]); h++) {
          for (let w = Math.floor(ow! * W / size[1]); w < Math.ceil((ow! + 1) * W / size[1]); w++) {
            total += hostAt(x!, [b!, c!, h, w]);
            count++;
          }
        }
        return total / count;
      }),
    ];
  },
  samples: [
    { inputs: [{ shape: [2, 3, 6, 6] }], attrs: { size: [1, 1] }, terms: 36 },
    { inputs: [{ shape: [1, 2, 7, 5] }], attrs: { size: [3, 2] }, terms: 16 },
    { inputs: [{ shape: [1, 2, 3, 2] }], attrs: { size: [6, 6] }, terms: 36 },
  ],
});

function planeParams(x: Spec, y: Spec): Record<string, number> {
  return { H: x.shape[2]!, W: x.shape[3]!, OH: y.shape[2]!, OW: y.shape[3]! };
}
