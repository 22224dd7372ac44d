/**
 * Two-dimensional convolution as three products on the tiled core, without an im2col buffer:
 *
 *   forward  Y[o, (b, oh, ow)] = sum over (c, kh, kw)  of W[o, c, kh, kw] · X[b, c, ih, iw]
 *   dX       X[c, (b, ih, iw)] = sum over (o, kh, kw)  of W[o, c, kh, kw] · dY[b, o, oh, ow]
 *   dW       W[o, (c, kh, kw)] = sum over (b, oh, ow)  of dY[b, o, oh, ow] · X[b, c, ih, iw]
 *
 * with ih = oh·stride - pad + kh·dilation, and iw likewise. Tensors are NCHW and contiguous, the
 * weight is O (C/groups) KH KW; the batch of the core counts groups. Positions are decoded once a
 * column; along K three counters advance with carries, since a division costs more than the
 * arithmetic it feeds. Reads that fall into the padding are redirected to element 0 and masked.
 */

import { gemmKernel, type GemmProblem, type Tile } from "./gemm.ts";
import { type Kernel, memoized, type Param } from "./kernel.ts";

/** Params of all three kernels, per group where it says so. */
const PARAMS: Readonly<Record<string, Param["type"]>> = {
  C: "u32", // input channels of a group
  O: "u32", // output channels of a group
  groups: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  KH: "u32",
  KW: "u32",
  stride_h: "u32",
  stride_w: "u32",
  pad_h: "i32",
  pad_w: "i32",
  dil_h: "u32",
  dil_w: "u32",
};

/** What varies between the text of convolution kernels. */
export interface ConvSpec {
  /** False when no read can fall into the padding. */
  readonly padded: boolean;
  /** Adds bias[o] (forward). */
  readonly bias?: boolean;
  /** True when both strides are 1 (dX needs no division then). */
  readonly unitStride?: boolean;
  /** True when K is cut into shares that are stored apart (dW). */
  readonly shares?: boolean;
}

/** Three nested counters (outer, mid, inner) over sizes given as WGSL, seeked to `k_begin`. */
function counters(outer: string, mid: string, inner: string, midSize: string, innerSize: string) {
  return {
    start: `  var ${inner} = k_begin % ${innerSize};
  var ${mid} = (k_begin / ${innerSize}) % ${midSize};
  var ${outer} = k_begin / (${innerSize} * ${midSize});`,
    step: `    ${inner} += 1u;
    if (${inner} == ${innerSize}) {
      ${inner} = 0u; ${mid} += 1u;
      if (${mid} == ${midSize}) { ${mid} = 0u; ${outer} += 1u; }
    }`,
  };
}

/** WGSL that reads X for column j at base row/column plus the walk's offsets. */
function readInput(j: number, padded: boolean): string {
  if (!padded) return `x[u32(x_base${j} + k_off)]`;
  return `read_x(x_h${j} + k_h, x_w${j} + k_w, x_base${j} + k_off)`;
}

const READ_X = `
fn read_x(h: i32, w: i32, at: i32) -> f32 {
  let inside = u32(h) < p.H && u32(w) < p.W;
  return select(0.0, x[u32(select(0, at, inside))], inside);
}`;

/** Y = W * X (+ bias). M = O, N = batch·OH·OW, K = C·KH·KW. */
export const convForwardKernel: (spec: ConvSpec, tile: Tile) => Kernel = memoized(buildForward);

function buildForward(spec: ConvSpec, tile: Tile): Kernel {
  const walk = counters("kc", "kh", "kw", "p.KH", "p.KW");
  const offsets = `k_h = i32(kh * p.dil_h); k_w = i32(kw * p.dil_w);
    k_off = i32(kc * p.H * p.W) + k_h * i32(p.W) + k_w;`;
  const problem: GemmProblem = {
    name: ["conv2d", spec.padded && "padded", spec.bias && "bias"].filter(Boolean).join("_"),
    buffers: [
      { name: "x", access: "read", type: "f32" },
      { name: "w", access: "read", type: "f32" },
      ...(spec.bias ? [{ name: "bias", access: "read", type: "f32" } as const] : []),
      { name: "y", access: "write", type: "f32" },
    ],
    params: PARAMS,
    module: spec.padded ? READ_X : "",
    walk: {
      start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32;
    ${offsets}`,
      step: `${walk.step}
    ${offsets}`,
    },
    a: {
      prepare: (i, m) => `  let w_row${i} = (batch * p.O + ${m}) * p.K;`,
      load: (i) => `w[w_row${i} + k]`,
    },
    b: {
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let b_${j} = n_${j} / (p.OH * p.OW);
  let q_${j} = n_${j} % (p.OH * p.OW);
  let x_h${j} = i32((q_${j} / p.OW) * p.stride_h) - p.pad_h;
  let x_w${j} = i32((q_${j} % p.OW) * p.stride_w) - p.pad_w;
  let x_base${j} = i32((b_${j} * p.groups + batch) * p.C * p.H * p.W) + x_h${j} * i32(p.W) + x_w${j};`,
      load: (j) => readInput(j, spec.padded),
    },
    prepareStore: (j) =>
      `    let y_base${j} = (b_${j} * p.groups + batch) * p.O * p.OH * p.OW + q_${j};`,
    store: ({ j, m, value }) =>
      `y[y_base${j} + ${m} * p.OH * p.OW] = ${value}${
        spec.bias ? ` + bias[batch * p.O + ${m}]` : ""
      };`,
  };
  return gemmKernel(problem, tile);
}

/** dX = Wᵀ * dY. M = C, N = batch·H·W, K = O·KH·KW. */
export const convInputGradKernel: (spec: ConvSpec, tile: Tile) => Kernel = memoized(buildInputGrad);

function buildInputGrad(spec: ConvSpec, tile: Tile): Kernel {
  const walk = counters("ko", "kh", "kw", "p.KH", "p.KW");
  const offsets = `k_h = i32(kh * p.dil_h); k_w = i32(kw * p.dil_w);
    k_off = i32(ko * p.OH * p.OW); k_row = ko * p.C * p.KH * p.KW + kh * p.KW + kw;`;
  const position = spec.unitStride
    ? `  let oh = h; let ow = w;
  let inside = u32(oh) < p.OH && u32(ow) < p.OW;`
    : `  let sh = i32(p.stride_h); let sw = i32(p.stride_w);
  let oh = h / sh; let ow = w / sw;
  let inside = h >= 0 && w >= 0 && oh * sh == h && ow * sw == w && u32(oh) < p.OH && u32(ow) < p.OW;`;
  return gemmKernel({
    name: spec.unitStride ? "conv2d_dx_unit" : "conv2d_dx",
    buffers: [
      { name: "dy", access: "read", type: "f32" },
      { name: "w", access: "read", type: "f32" },
      { name: "dx", access: "write", type: "f32" },
    ],
    params: PARAMS,
    module: `
fn read_dy(h: i32, w: i32, base: i32) -> f32 {
${position}
  return select(0.0, dy[u32(select(0, base + oh * i32(p.OW) + ow, inside))], inside);
}`,
    walk: {
      start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32; var k_row: u32;
    ${offsets}`,
      step: `${walk.step}
    ${offsets}`,
    },
    a: {
      prepare: (i, m) => `  let w_row${i} = (batch * p.O * p.C + ${m}) * p.KH * p.KW;`,
      load: (i) => `w[w_row${i} + k_row]`,
    },
    b: {
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let b_${j} = n_${j} / (p.H * p.W);
  let q_${j} = n_${j} % (p.H * p.W);
  let y_h${j} = i32(q_${j} / p.W) + p.pad_h;
  let y_w${j} = i32(q_${j} % p.W) + p.pad_w;
  let y_base${j} = i32((b_${j} * p.groups + batch) * p.O * p.OH * p.OW);`,
      load: (j) => `read_dy(y_h${j} - k_h, y_w${j} - k_w, y_base${j} + k_off)`,
    },
    prepareStore: (j) =>
      `    let x_base${j} = (b_${j} * p.groups + batch) * p.C * p.H * p.W + q_${j};`,
    store: ({ j, m, value }) => `dx[x_base${j} + ${m} * p.H * p.W] = ${value};`,
  }, tile);
}

/** dW = dY * Xᵀ. M = O, N = C·KH·KW, K = batch·OH·OW, in shares that a sum adds up. */
export const convWeightGradKernel: (spec: ConvSpec, tile: Tile) => Kernel = memoized(
  buildWeightGrad,
);

function buildWeightGrad(spec: ConvSpec, tile: Tile): Kernel {
  const walk = counters("kb", "koh", "kow", "p.OH", "p.OW");
  const offsets = `k_h = i32(koh * p.stride_h); k_w = i32(kow * p.stride_w);
    k_off = i32(kb * p.groups * p.C * p.H * p.W) + k_h * i32(p.W) + k_w;
    k_row = kb * p.groups * p.O * p.OH * p.OW + koh * p.OW + kow;`;
  return gemmKernel({
    name: spec.padded ? "conv2d_dw_padded" : "conv2d_dw",
    buffers: [
      { name: "dy", access: "read", type: "f32" },
      { name: "x", access: "read", type: "f32" },
      { name: "dw", access: "write", type: "f32" },
    ],
    params: PARAMS,
    module: spec.padded ? READ_X : "",
    walk: {
      start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32; var k_row: u32;
    ${offsets}`,
      step: `${walk.step}
    ${offsets}`,
    },
    a: {
      prepare: (i, m) => `  let y_row${i} = (batch * p.O + ${m}) * p.OH * p.OW;`,
      load: (i) => `dy[y_row${i} + k_row]`,
    },
    b: {
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let q_${j} = n_${j} % (p.KH * p.KW);
  let x_h${j} = i32((q_${j} / p.KW) * p.dil_h) - p.pad_h;
  let x_w${j} = i32((q_${j} % p.KW) * p.dil_w) - p.pad_w;
  let x_base${j} = i32((batch * p.C + n_${j} / (p.KH * p.KW)) * p.H * p.W) + x_h${j} * i32(p.W) + x_w${j};`,
      load: (j) => readInput(j, spec.padded),
    },
    store: ({ m, n, value }) =>
      `dw[((split * p.groups + batch) * p.O + ${m}) * p.N + ${n}] = ${value};`,
  }, tile);
}
