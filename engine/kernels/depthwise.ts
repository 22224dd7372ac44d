/**
 * Depthwise convolution: every input channel makes `mult` output channels with windows of its own.
 *
 *   forward  Y[b, o, oh, ow] = bias[o] + sum over (kh, kw) of W[o, kh, kw] · X[b, o / mult, ih, iw]
 *   dX       a thread owns an input element and adds up the outputs that read it
 *   dW       a thread owns a weight and one of `splits` interleaved shares of the positions
 *
 * with ih = oh·stride - pad + kh·dilation. A product of one row on the tiled core would leave seven of
 * eight registers idle. Tensors are NCHW and contiguous. Source: ours.
 */

import { type Kernel, kernel, linearThread, memoized, type Param } from "./kernel.ts";

/** What varies between the text of depthwise kernels. */
export interface DepthwiseSpec {
  /** Type of inputs and outputs; sums are f32. Shares of dW are always f32. */
  readonly dtype: "f32" | "f16";
  /** Adds bias[o] (forward), or bias[c] (dX as a transposed convolution). */
  readonly bias?: boolean;
}

/** WGSL of an element as f32. */
function asF32(value: string, { dtype }: DepthwiseSpec): string {
  return dtype === "f32" ? value : `f32(${value})`;
}

/** WGSL of an f32 value as it is stored. */
function stored(value: string, { dtype }: DepthwiseSpec): string {
  return dtype === "f32" ? value : `f16(${value})`;
}

const PARAMS: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  B: "u32",
  groups: "u32", // input channels
  mult: "u32", // output channels an input channel
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  KH: "u32",
  KW: "u32",
  stride_h: "i32",
  stride_w: "i32",
  pad_h: "i32",
  pad_w: "i32",
  dil_h: "i32",
  dil_w: "i32",
};

/** Y; a thread owns an output element. */
export const depthwiseForwardKernel: (spec: DepthwiseSpec) => Kernel = memoized(buildForward);

function buildForward(spec: DepthwiseSpec): Kernel {
  return kernel({
    name: spec.bias ? "depthwise_conv2d_bias" : "depthwise_conv2d",
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "w", access: "read", type: spec.dtype },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: PARAMS,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.OH * p.OW);
  let h0 = i32((t / p.OW) % p.OH) * p.stride_h - p.pad_h;
  let w0 = i32(t % p.OW) * p.stride_w - p.pad_w;
  let o = plane % (p.groups * p.mult);
  let x_base = (plane / p.mult) * p.H * p.W;
  var tap = o * p.KH * p.KW;
  var total = ${spec.bias ? asF32("bias[o]", spec) : "0.0"};
  var ih = h0;
  for (var kh = 0u; kh < p.KH; kh++) {
    let row = x_base + u32(ih) * p.W;
    var iw = w0;
    for (var kw = 0u; kw < p.KW; kw++) {
      let inside = u32(ih) < p.H && u32(iw) < p.W;
      let v = select(0.0, ${asF32("x[select(x_base, row + u32(iw), inside)]", spec)}, inside);
      total = fma(${asF32("w[tap]", spec)}, v, total);
      tap += 1u;
      iw += p.dil_w;
    }
    ih += p.dil_h;
  }
  y[t] = ${stored("total", spec)};`,
  });
}

/**
 * dX. Tap kh meets position ih where ih + pad - kh·dilation is a multiple of the stride; such taps are
 * `kh_step` apart, and the output moves back by `oh_step` from one to the next.
 */
export const depthwiseInputGradKernel: (spec: DepthwiseSpec) => Kernel = memoized(buildInputGrad);

function buildInputGrad(spec: DepthwiseSpec): Kernel {
  return kernel({
    name: spec.bias ? "depthwise_conv2d_dx_bias" : "depthwise_conv2d_dx",
    buffers: [
      { name: "dy", access: "read", type: spec.dtype },
      { name: "w", access: "read", type: spec.dtype },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: { ...PARAMS, kh_step: "i32", kw_step: "i32", oh_step: "i32", ow_step: "i32" },
    module: `
fn first_tap(at: i32, stride: i32, dil: i32, step: i32) -> i32 {
  for (var k = 0; k < step; k++) {
    if ((at - k * dil) % stride == 0) { return k; }
  }
  return 0x7fffffff;
}`,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.H * p.W);
  let at_h = i32((t / p.W) % p.H) + p.pad_h;
  let at_w = i32(t % p.W) + p.pad_w;
  let first_h = first_tap(at_h, p.stride_h, p.dil_h, p.kh_step);
  let first_w = first_tap(at_w, p.stride_w, p.dil_w, p.kw_step);
  var total = ${spec.bias ? asF32("bias[plane % p.groups]", spec) : "0.0"};
  if (first_h < i32(p.KH) && first_w < i32(p.KW)) {
    let oh0 = (at_h - first_h * p.dil_h) / p.stride_h;
    let ow0 = (at_w - first_w * p.dil_w) / p.stride_w;
    for (var m = 0u; m < p.mult; m++) {
      let y_base = (plane * p.mult + m) * p.OH * p.OW;
      let w_base = ((plane % p.groups) * p.mult + m) * p.KH * p.KW;
      var oh = oh0;
      for (var kh = first_h; kh < i32(p.KH); kh += p.kh_step) {
        let y_row = y_base + u32(oh) * p.OW;
        let w_row = w_base + u32(kh) * p.KW;
        var ow = ow0;
        for (var kw = first_w; kw < i32(p.KW); kw += p.kw_step) {
          let inside = u32(oh) < p.OH && u32(ow) < p.OW;
          let v = select(0.0, ${
      asF32("dy[select(y_base, y_row + u32(ow), inside)]", spec)
    }, inside);
          total = fma(${asF32("w[w_row + u32(kw)]", spec)}, v, total);
          ow -= p.ow_step;
        }
        oh -= p.oh_step;
      }
    }
  }
  dx[t] = ${stored("total", spec)};`,
  });
}

/** dW in shares [O, KH, KW, splits], which a sum adds up. */
export const depthwiseWeightGradKernel: (spec: DepthwiseSpec) => Kernel = memoized(buildWeightGrad);

function buildWeightGrad(spec: DepthwiseSpec): Kernel {
  return kernel({
    name: "depthwise_conv2d_dw",
    buffers: [
      { name: "dy", access: "read", type: spec.dtype },
      { name: "x", access: "read", type: spec.dtype },
      { name: "dw", access: "write", type: "f32" },
    ],
    // A step of `splits` positions: rows, and the rest.
    params: { ...PARAMS, splits: "u32", step_h: "u32", step_w: "u32" },
    body: `${linearThread("t", "p.count")}
  let share = t % p.splits;
  let tap = t / p.splits;
  let o = tap / (p.KH * p.KW);
  let k_h = i32((tap / p.KW) % p.KH) * p.dil_h - p.pad_h;
  let k_w = i32(tap % p.KW) * p.dil_w - p.pad_w;
  let positions = p.OH * p.OW;
  let oh0 = share / p.OW;
  let ow0 = share % p.OW;
  var total = 0.0;
  for (var b = 0u; b < p.B; b++) {
    let y_base = (b * p.groups * p.mult + o) * positions;
    let x_base = (b * p.groups + o / p.mult) * p.H * p.W;
    var oh = oh0;
    var ow = ow0;
    for (var e = share; e < positions; e += p.splits) {
      let ih = i32(oh) * p.stride_h + k_h;
      let iw = i32(ow) * p.stride_w + k_w;
      let inside = u32(ih) < p.H && u32(iw) < p.W;
      let at = x_base + select(0u, u32(ih) * p.W + u32(iw), inside);
      let v = select(0.0, ${asF32("x[at]", spec)}, inside);
      total = fma(${asF32("dy[y_base + e]", spec)}, v, total);
      oh += p.step_h;
      ow += p.step_w;
      if (ow >= p.OW) { ow -= p.OW; oh += 1u; }
    }
  }
  dw[t] = total;`,
  });
}
