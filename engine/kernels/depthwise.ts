/**
 * Depthwise convolution: every input channel makes `mult` output channels with windows of its own.
 *
 *   forward  Y[b, o, oh, ow] = bias[o] + sum over (kh, kw) of W[o, kh, kw] · X[b, o / mult, ih, iw]
 *   dX       an input element adds up the outputs that read it
 *   dW       a thread owns a weight and one of `splits` interleaved shares of the positions
 *
 * with ih = oh·stride - pad + kh·dilation. A product of one row on the tiled core would leave seven of
 * eight registers idle. Tensors are NCHW and contiguous. Source: ours.
 */

import {
  asF32,
  fromF32,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  type Param,
} from "./kernel.ts";

/** What varies between the text of depthwise kernels. */
export interface DepthwiseSpec {
  /** Type of inputs and outputs; sums are f32. Shares of dW are always f32. */
  readonly dtype: "f32" | "f16";
  /** Adds bias[o] (forward), or bias[c] (dX as a transposed convolution). */
  readonly bias?: boolean;
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

/** Columns of a row that a thread owns, `across` apart: neighbouring threads read neighbours. */
export const DEPTHWISE_COLUMNS = 4;

const COLUMNS = Array.from({ length: DEPTHWISE_COLUMNS }, (_, j) => j);

/** Y; a thread owns columns of an output row. */
export const depthwiseForwardKernel: (spec: DepthwiseSpec) => Kernel = memoized(buildForward);

function buildForward(spec: DepthwiseSpec): Kernel {
  const lines = (line: (j: number) => string) => COLUMNS.map(line).join("\n");
  return kernel({
    name: spec.bias ? "depthwise_conv2d_bias" : "depthwise_conv2d",
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "w", access: "read", type: spec.dtype },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: { ...PARAMS, across: "u32" },
    module: readInside("x", "p.H", "p.W", spec),
    body: `${linearThread("t", "p.count")}
  let row = t / p.across;
  let plane = row / p.OH;
  let o = plane % (p.groups * p.mult);
  let x_base = (plane / p.mult) * p.H * p.W;
  let w0 = i32(t % p.across) * p.stride_w - p.pad_w;
  let step = i32(p.across) * p.stride_w;
  var tap = o * p.KH * p.KW;
  let bias_value = ${spec.bias ? asF32("bias[o]", spec.dtype) : "0.0"};
${lines((j) => `  var c${j} = bias_value;`)}
  var ih = i32(row % p.OH) * p.stride_h - p.pad_h;
  for (var kh = 0u; kh < p.KH; kh++) {
    var iw = w0;
    for (var kw = 0u; kw < p.KW; kw++) {
      let a = ${asF32("w[tap]", spec.dtype)};
${lines((j) => `      c${j} = fma(a, read_inside(x_base, ih, iw + ${j} * step), c${j});`)}
      tap += 1u;
      iw += p.dil_w;
    }
    ih += p.dil_h;
  }
  let ow = t % p.across;
${
      lines((j) =>
        `  if (ow + ${j}u * p.across < p.OW) { y[row * p.OW + ow + ${j}u * p.across] = ${
          fromF32(`c${j}`, spec.dtype)
        }; }`
      )
    }`,
  });
}

/** Reads `name` at a row and column of a plane; 0 outside. */
function readInside(name: string, rows: string, columns: string, spec: DepthwiseSpec): string {
  return `
fn read_inside(base: u32, h: i32, w: i32) -> f32 {
  let inside = u32(h) < ${rows} && u32(w) < ${columns};
  let v = ${asF32(`${name}[base + select(0u, u32(h) * ${columns} + u32(w), inside)]`, spec.dtype)};
  return select(0.0, v, inside);
}`;
}

/**
 * dX. Tap kh meets position ih where ih + pad - kh·dilation is a multiple of the stride; such taps are
 * `kh_step` apart, and the output moves back by `oh_step` from one to the next. A thread owns columns
 * of an input row; `across` is a multiple of the stride, so that they meet the same taps.
 */
export const depthwiseInputGradKernel: (spec: DepthwiseSpec) => Kernel = memoized(buildInputGrad);

function buildInputGrad(spec: DepthwiseSpec): Kernel {
  const lines = (line: (j: number) => string) => COLUMNS.map(line).join("\n");
  return kernel({
    name: spec.bias ? "depthwise_conv2d_dx_bias" : "depthwise_conv2d_dx",
    buffers: [
      { name: "dy", access: "read", type: spec.dtype },
      { name: "w", access: "read", type: spec.dtype },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: {
      ...PARAMS,
      across: "u32",
      kh_step: "i32",
      kw_step: "i32",
      oh_step: "i32",
      ow_step: "i32",
    },
    module: `${readInside("dy", "p.OH", "p.OW", spec)}
fn first_tap(at: i32, stride: i32, dil: i32, step: i32) -> i32 {
  for (var k = 0; k < step; k++) {
    if ((at - k * dil) % stride == 0) { return k; }
  }
  return 0x7fffffff;
}`,
    body: `${linearThread("t", "p.count")}
  let row = t / p.across;
  let iw = t % p.across;
  let plane = row / p.H;
  let at_h = i32(row % p.H) + p.pad_h;
  let at_w = i32(iw) + p.pad_w;
  let first_h = first_tap(at_h, p.stride_h, p.dil_h, p.kh_step);
  let first_w = first_tap(at_w, p.stride_w, p.dil_w, p.kw_step);
  let bias_value = ${spec.bias ? asF32("bias[plane % p.groups]", spec.dtype) : "0.0"};
${lines((j) => `  var c${j} = bias_value;`)}
  if (first_h < i32(p.KH) && first_w < i32(p.KW)) {
    let oh0 = (at_h - first_h * p.dil_h) / p.stride_h;
    let ow0 = (at_w - first_w * p.dil_w) / p.stride_w;
    let step = i32(p.across) / p.stride_w;
    for (var m = 0u; m < p.mult; m++) {
      let y_base = (plane * p.mult + m) * p.OH * p.OW;
      let w_base = ((plane % p.groups) * p.mult + m) * p.KH * p.KW;
      var oh = oh0;
      for (var kh = first_h; kh < i32(p.KH); kh += p.kh_step) {
        var ow = ow0;
        for (var kw = first_w; kw < i32(p.KW); kw += p.kw_step) {
          let a = ${asF32("w[w_base + u32(kh) * p.KW + u32(kw)]", spec.dtype)};
${lines((j) => `          c${j} = fma(a, read_inside(y_base, oh, ow + ${j} * step), c${j});`)}
          ow -= p.ow_step;
        }
        oh -= p.oh_step;
      }
    }
  }
${
      lines((j) =>
        `  if (iw + ${j}u * p.across < p.W) { dx[row * p.W + iw + ${j}u * p.across] = ${
          fromF32(`c${j}`, spec.dtype)
        }; }`
      )
    }`,
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
      let v = select(0.0, ${asF32("x[at]", spec.dtype)}, inside);
      total = fma(${asF32("dy[y_base + e]", spec.dtype)}, v, total);
      oh += p.step_h;
      ow += p.step_w;
      if (ow >= p.OW) { ow -= p.OW; oh += 1u; }
    }
  }
  dw[t] = total;`,
  });
}
