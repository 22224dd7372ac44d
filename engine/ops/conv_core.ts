/**
 * The three products of a convolution, Y = W * X, dX and dW, by the tiled core or, where every channel
 * is a group of its own, by kernels for that; 3 x 3 ones by Winograd's filtering, or by a kernel for few channels, where that is faster. Convolution and its
 * transpose are made of them.
 */

import { DeviceArray, operand } from "../array.ts";
import {
  convForwardKernel,
  convInputGradKernel,
  type ConvSpec,
  convWeightGradKernel,
} from "../kernels/conv.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import type { Tile } from "../kernels/gemm.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { gpu } from "../gpu/device.ts";
import { run } from "../op.ts";
import { contiguousStrides } from "../shape.ts";
import { convDirect, convDirectWeightGrad, isDirect, isDirectWeightGrad } from "./conv_direct.ts";
import { depthwiseForward, depthwiseInputGrad, depthwiseWeightGrad } from "./conv_depthwise.ts";
import { type Sizes, sizesOf, tapSteps, type Window, windowParams } from "./conv_sizes.ts";
import { isByWinograd, winograd } from "./conv_winograd.ts";
import { activate, type Activation, epilogueOf } from "./epilogue.ts";
import { fill } from "./fill.ts";
import { copyInto } from "./movement.ts";
import { mergeShares } from "./gemm_shares.ts";
import { floatOf, type GemmUse } from "./gemm_tiles.ts";
import {
  type GemmPlan,
  type GemmSize,
  launchGemm,
  planGemm,
  storesWide,
  whole,
} from "./gemm_plan.ts";
import { sum } from "./reduce.ts";

export type { Window } from "./conv_sizes.ts";

/** Which kernels run; `auto` asks {@linkcode isDepthwise}. Tests force one. */
let forced: "auto" | "core" = "auto";

/** Makes every convolution inside `fn` use the tiled core, for tests and benchmarks. */
export function onTiledCore<T>(fn: () => T): T {
  const before = forced;
  forced = "core";
  try {
    return fn();
  } finally {
    forced = before;
  }
}

/** True if a window can reach outside of x. */
function isPadded(s: Sizes, { stride, padding, dilation }: Window): boolean {
  return padding[0] > 0 || padding[1] > 0 ||
    (s.OH - 1) * stride[0] + (s.KH - 1) * dilation[0] >= s.H ||
    (s.OW - 1) * stride[1] + (s.KW - 1) * dilation[1] >= s.W;
}

/** True if the window is one element that visits every position. */
function isPointwise(s: Sizes, { stride, padding }: Window): boolean {
  return s.KH === 1 && s.KW === 1 && stride[0] === 1 && stride[1] === 1 &&
    padding[0] === 0 && padding[1] === 0 && s.OH === s.H && s.OW === s.W;
}

/**
 * One input channel a group and fewer outputs than the core's tile has rows. With 64 outputs of one channel
 * (AlexNet's first layer on grey images) the core is 5 times faster (lavapipe, 2026-11).
 */
function isDepthwise(s: Sizes): boolean {
  return forced === "auto" && s.C === 1 && s.O < 8;
}

/** Whether neighbours, so many in a row, can be read four at a time along K. */
function readsFours({ tile }: GemmPlan, row: number): boolean {
  return (tile.lanes === true || tile.staged !== undefined) && whole(row);
}

/** Whether columns, so many in a row, can be read four at a time where they are not stored so. */
function readsSide({ tile }: GemmPlan, row: number): boolean {
  return tile.staged !== undefined && whole(row);
}

/** Whether columns, so many in a row, can be stored four at a time. */
function storesFours({ tile }: GemmPlan, row: number): boolean {
  return storesWide(tile) && whole(row);
}

interface Product {
  readonly size: GemmSize;
  readonly plan: GemmPlan;
  readonly spec: ConvSpec;
  readonly arrays: readonly DeviceArray[];
  readonly params: Readonly<Record<string, number>>;
}

/** One product on the tiled core; the last array is the output. */
function onCore(build: (spec: ConvSpec, tile: Tile) => Kernel, product: Product): void {
  const { size, plan, spec, arrays, params } = product;
  launchGemm(build(spec, plan.tile), {
    size,
    plan,
    buffers: arrays.map((a) => operand(a).binding),
    params,
    cost: {
      flops: 2 * size.batch * size.M * size.N * size.K,
      bytes: arrays.reduce((n, a) => n + a.bytes, 0),
    },
  });
}

/** The plan of a product whose output is images. On software two cores are soon busy without shares of K. */
function planImages(size: GemmSize, use: GemmUse): GemmPlan {
  return planGemm(size, gpu().info.software ? { ...use, shares: false } : use);
}

/** One product on the tiled core into images, with a bias a channel; its K may be shared out. */
function onImages(
  build: (spec: ConvSpec, tile: Tile) => Kernel,
  product: Product,
  { bias, out }: { readonly bias: DeviceArray | undefined; readonly out: DeviceArray },
): void {
  const { plan, spec, arrays, params } = product;
  const { splits } = plan;
  if (splits === 1) {
    onCore(build, {
      ...product,
      spec: { ...spec, bias: bias !== undefined },
      arrays: [...arrays, ...(bias ? [bias] : []), out],
    });
    return;
  }
  const shares = DeviceArray.empty(
    { shape: [splits, ...out.shape], dtype: "f32" },
    "conv2d shares",
  );
  onCore(build, {
    ...product,
    spec: { ...spec, epilogue: undefined, shares: true },
    arrays: [...arrays, shares],
    params: { ...params, share: out.size },
  });
  const plane = out.shape.at(-2)! * out.shape.at(-1)!;
  mergeShares(shares, out, { batch: 1, splits }, { bias, plane, epilogue: spec.epilogue });
}

/** Y = f(W * X + bias) in the shape `shape`; inputs are plain. */
export function convForward(
  { x, w, bias, activation }: ConvInputs & { readonly activation?: Activation },
  at: Window,
  shape: readonly number[],
): DeviceArray {
  const s = sizesOf({ x: x.shape, w: w.shape, y: shape }, at);
  const fused = s.C > 0 && !isDepthwise(s);
  const epilogue = fused ? epilogueOf(activation) : undefined;
  const y = convProduct({ x, w, bias }, { at, s, shape, epilogue });
  if (activation && !fused) activate(activation, y);
  return y;
}

/** X, W and bias. */
interface ConvInputs {
  readonly x: DeviceArray;
  readonly w: DeviceArray;
  readonly bias?: DeviceArray;
}

function convProduct(
  { x, w, bias }: ConvInputs,
  { at, s, shape, epilogue }: {
    at: Window;
    s: Sizes;
    shape: readonly number[];
    epilogue: Epilogue | undefined;
  },
): DeviceArray {
  const dtype = floatOf(x);
  if (s.C === 0) {
    const zeros = fill({ shape, dtype }, 0);
    if (bias) copyInto(bias.view(shape, [0, bias.strides[0]!, 0, 0]), zeros);
    return zeros;
  }
  const y = DeviceArray.empty({ shape, dtype }, "conv2d");
  const arrays = [x, w, ...(bias ? [bias] : []), y];
  if (isDepthwise(s)) {
    depthwiseForward(arrays, { s, at, bias: bias !== undefined });
    return y;
  }
  if (forced === "auto" && isByWinograd(s, at, { turned: false, dtype })) {
    winograd({ x, w, bias, y }, { padding: at.padding, turned: false, epilogue });
    return y;
  }
  if (forced === "auto" && isDirect(s, at, false)) {
    const { padding, groups } = at;
    convDirect({ x, w, bias, y }, { padding, groups, turned: false, epilogue });
    return y;
  }
  const size = { M: s.O, N: s.B * s.OH * s.OW, K: s.C * s.KH * s.KW, batch: at.groups };
  const pointwise = isPointwise(s, at);
  const plan = planImages(size, { kind: pointwise ? "nn" : "conv", dtype });
  const wide = storesFours(plan, s.OH * s.OW);
  onImages(convForwardKernel, {
    size,
    plan,
    spec: {
      dtype,
      padded: isPadded(s, at),
      epilogue,
      pointwise,
      aFours: readsFours(plan, size.K),
      bFours: pointwise && (wide || readsSide(plan, s.OH * s.OW)),
      wide,
    },
    arrays: [x, w],
    params: windowParams(s, at),
  }, { bias, out: y });
  return y;
}

/** Positions and taps with one residue modulo the stride, along one dimension. */
interface Phase {
  /** First position and number of positions, `stride` apart. */
  readonly first: number;
  readonly positions: number;
  /** First tap, number of taps and their distance. */
  readonly tap: number;
  readonly taps: number;
  readonly tapStep: number;
  /** Output that the first tap meets at the first position, and the step back from tap to tap. */
  readonly output: number;
  readonly outputStep: number;
}

/** The phases that have positions, for a dimension of `size` and a kernel of `kernel`. */
export function phases({ size, kernel, stride, padding, dilation }: {
  size: number;
  kernel: number;
  stride: number;
  padding: number;
  dilation: number;
}): Phase[] {
  const { tapStep, outputStep } = tapSteps(stride, dilation);
  const list: Phase[] = [];
  for (let residue = 0; residue < stride; residue++) {
    const first = (((residue - padding) % stride) + stride) % stride;
    if (first >= size) continue;
    let tap = 0;
    while (tap < tapStep && (tap * dilation) % stride !== residue) tap++;
    const taps = tap < tapStep && tap < kernel ? Math.ceil((kernel - tap) / tapStep) : 0;
    list.push({
      first,
      positions: Math.ceil((size - first) / stride),
      tap,
      taps,
      tapStep,
      output: taps > 0 ? (first + padding - tap * dilation) / stride : 0,
      outputStep,
    });
  }
  return list;
}

/** dX of the shape `shape`, plus a bias where there is one; inputs are plain. */
export function convInputGrad(
  { dy, w, bias }: { dy: DeviceArray; w: DeviceArray; bias?: DeviceArray },
  at: Window,
  shape: readonly number[],
): DeviceArray {
  const s = sizesOf({ x: shape, w: w.shape, y: dy.shape }, at);
  const dtype = floatOf(dy);
  const dx = DeviceArray.empty({ shape, dtype }, "conv2d dx");
  const arrays = [dy, w, ...(bias ? [bias] : []), dx];
  if (isDepthwise(s)) {
    depthwiseInputGrad(arrays, { s, at, bias: bias !== undefined });
    return dx;
  }
  if (forced === "auto" && isByWinograd(s, at, { turned: true, dtype })) {
    const padding = [2 - at.padding[0], 2 - at.padding[1]] as const;
    winograd({ x: dy, w, bias, y: dx }, { padding, turned: true });
    return dx;
  }
  if (forced === "auto" && isDirect(s, at, true)) {
    const padding = [2 - at.padding[0], 2 - at.padding[1]] as const;
    convDirect({ x: dy, w, bias, y: dx }, { padding, groups: at.groups, turned: true });
    return dx;
  }
  const along = (d: 0 | 1, size: number, kernel: number) =>
    phases({
      size,
      kernel,
      stride: at.stride[d],
      padding: at.padding[d],
      dilation: at.dilation[d],
    });
  for (const h of along(0, s.H, s.KH)) {
    for (const v of along(1, s.W, s.KW)) {
      const size = {
        M: s.C,
        N: s.B * h.positions * v.positions,
        K: s.O * h.taps * v.taps,
        batch: at.groups,
      };
      const pointwise = isPointwise(s, at);
      const use = { kind: pointwise ? "tn" : "dx", dtype } as const;
      const dense = h.positions === s.H && v.positions === s.W;
      // A second pass adds whole images.
      const plan = dense ? planImages(size, use) : planGemm(size, { ...use, shares: false });
      const wide = dense && storesFours(plan, s.H * s.W);
      onImages(convInputGradKernel, {
        size,
        plan,
        spec: {
          dtype,
          padded: true,
          pointwise,
          bFours: pointwise && (wide || readsSide(plan, s.H * s.W)),
          wide,
        },
        arrays: [dy, w],
        params: {
          C: s.C,
          O: s.O,
          groups: at.groups,
          H: s.H,
          W: s.W,
          OH: s.OH,
          OW: s.OW,
          KH: s.KH,
          KW: s.KW,
          h0: h.first,
          w0: v.first,
          stride_h: at.stride[0],
          stride_w: at.stride[1],
          PH: h.positions,
          PW: v.positions,
          TH: Math.max(h.taps, 1),
          TW: Math.max(v.taps, 1),
          kh0: h.tap,
          kw0: v.tap,
          kh_step: h.tapStep,
          kw_step: v.tapStep,
          oh0: h.output,
          ow0: v.output,
          oh_step: h.outputStep,
          ow_step: v.outputStep,
        },
      }, { bias, out: dx });
    }
  }
  return dx;
}

/** dW of the shape `shape`; dy and x are plain. */
export function convWeightGrad(
  { dy, x }: { dy: DeviceArray; x: DeviceArray },
  at: Window,
  shape: readonly number[],
): DeviceArray {
  const s = sizesOf({ x: x.shape, w: shape, y: dy.shape }, at);
  if (isDepthwise(s)) return depthwiseWeightGrad({ dy, x }, { s, at, shape });
  const shares = forced === "auto" && isDirectWeightGrad(s, at)
    ? convDirectWeightGrad({ dy, x }, { s, at, shape })
    : weightGradShares({ dy, x }, { s, at, shape });
  return shares.shape[0] === 1
    ? shares.view(shape, contiguousStrides(shape))
    : run(sum, [shares], { dim: 0 });
}

/** Shares of dW by the tiled core, [shares, ...shape] in f32. */
function weightGradShares(
  { dy, x }: { dy: DeviceArray; x: DeviceArray },
  { s, at, shape }: { s: Sizes; at: Window; shape: readonly number[] },
): DeviceArray {
  const size = { M: s.O, N: s.C * s.KH * s.KW, K: s.B * s.OH * s.OW, batch: at.groups };
  const plan = planGemm(size, { kind: "dw", dtype: floatOf(x) });
  const { splits } = plan;
  const pointwise = isPointwise(s, at);
  const aFours = readsFours(plan, s.OH * s.OW);
  const shares = DeviceArray.empty({ shape: [splits, ...shape], dtype: "f32" }, "conv2d dw");
  onCore(convWeightGradKernel, {
    size,
    plan,
    spec: {
      dtype: floatOf(x),
      padded: isPadded(s, at),
      pointwise,
      aFours,
      bFours: pointwise && aFours,
      wide: storesFours(plan, size.N),
    },
    arrays: [dy, x, shares],
    params: windowParams(s, at),
  });
  return shares;
}
