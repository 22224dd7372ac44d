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

import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import { gemmKernel, type GemmProblem, type Tile } from "./gemm.ts";
import { asF32, type Kernel, memoized, type Param } from "./kernel.ts";

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
  /** Type of inputs and outputs; sums are f32. Shares of dW are always f32. */
  readonly dtype: "f32" | "f16";
  /** False when no read can fall into the padding. */
  readonly padded: boolean;
  /** Adds bias[o] (forward), or bias[c] (dX as a transposed convolution). */
  readonly bias?: boolean;
  /** Applied to what is stored (forward). */
  readonly epilogue?: Epilogue;
  /** True for kernels of one element, stride 1 and no padding: positions of X and Y are the same. */
  readonly pointwise?: boolean;
  /** Whether A (the weight, or dY) and B (X, or dY) are read four neighbours at a time. */
  readonly aFours?: boolean;
  readonly bFours?: boolean;
  /** Whether what is stored is a share of K, in f32, which a second pass adds up. */
  readonly shares?: boolean;
  /** Whether four columns are stored at a time. */
  readonly wide?: boolean;
}

/** Three nested counters (outer, mid, inner) over sizes given as WGSL, seeked to `k_begin`. */
function counters(outer: string, mid: string, inner: string, midSize: string, innerSize: string) {
  return {
    start: `  var ${inner} = k_begin % ${innerSize};
  var ${mid} = (k_begin / ${innerSize}) % ${midSize};
  var ${outer} = k_begin / (${innerSize} * ${midSize});`,
    step: `    ${inner} += 1u;
    let row_ends = ${inner} == ${innerSize};
    ${inner} = select(${inner}, 0u, row_ends);
    ${mid} += select(0u, 1u, row_ends);
    let plane_ends = ${mid} == ${midSize};
    ${mid} = select(${mid}, 0u, plane_ends);
    ${outer} += select(0u, 1u, plane_ends);`,
  };
}

/** What is added to a position of the input: rows, columns and elements. */
const STATE = ["k_h", "k_w", "k_off"].map((name) => ({ name, type: "i32" } as const));

/** What a kernel's name tells of its variant. */
function nameOf(name: string, spec: ConvSpec): string {
  return [
    name,
    spec.pointwise && "pointwise",
    spec.padded && "padded",
    spec.bias && "bias",
    spec.epilogue?.name,
    spec.aFours && "a4",
    spec.bFours && "b4",
    spec.shares && "shares",
    spec.wide && "wide",
  ].filter(Boolean).join("_");
}

/** WGSL element type of a buffer that is read or stored by fours, or one by one. */
function typeOf(dtype: "f32" | "f16", fours = false): string {
  return fours ? `vec4<${dtype}>` : dtype;
}

/** WGSL of four neighbours of `buffer` from index `at` on. */
function foursAt(buffer: string, at: string): string {
  return `${buffer}[(${at}) >> 2u]`;
}

/** WGSL that stores `value` at index `at`: a number, or four where the spec is wide. */
function storeAt(buffer: string, at: string, value: string, { dtype, wide }: ConvSpec): string {
  const stored = dtype === "f32" ? value : `${typeOf(dtype, wide)}(${value})`;
  return wide ? `${buffer}[(${at}) >> 2u] = ${stored};` : `${buffer}[${at}] = ${stored};`;
}

/** Type of what is stored. */
function storedAs({ dtype, shares }: ConvSpec): "f32" | "f16" {
  return shares ? "f32" : dtype;
}

/** Params of a kernel that stores shares: the elements of one. */
function shareParams({ shares }: ConvSpec): Readonly<Record<string, Param["type"]>> {
  return shares ? { share: "u32" } : {};
}

/** WGSL that reads X for column j at base row/column plus the walk's offsets. */
function readInput(j: number, spec: ConvSpec): string {
  if (!spec.padded) return `x[u32(x_base${j} + k_off)]`;
  return `read_x(x_h${j} + k_h, x_w${j} + k_w, x_base${j} + k_off)`;
}

function readX(spec: ConvSpec): string {
  if (!spec.padded) return "";
  return `
fn read_x(h: i32, w: i32, at: i32) -> ${spec.dtype} {
  let inside = (u32(h) < p.H) & (u32(w) < p.W);
  return select(${spec.dtype}(0.0), x[u32(select(0, at, inside))], inside);
}`;
}

/** Y = W * X (+ bias). M = O, N = batch·OH·OW, K = C·KH·KW. */
export const convForwardKernel: (spec: ConvSpec, tile: Tile) => Kernel = memoized(buildForward);

function buildForward(spec: ConvSpec, tile: Tile): Kernel {
  const walk = counters("kc", "kh", "kw", "p.KH", "p.KW");
  const offsets = `k_h = i32(kh * p.dil_h); k_w = i32(kw * p.dil_w);
    k_off = i32(kc * p.H * p.W) + k_h * i32(p.W) + k_w;`;
  const problem: GemmProblem = {
    name: nameOf("conv2d", spec),
    buffers: [
      { name: "x", access: "read", type: typeOf(spec.dtype, spec.bFours) },
      { name: "w", access: "read", type: typeOf(spec.dtype, spec.aFours) },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "y", access: "write", type: typeOf(storedAs(spec), spec.wide) },
    ],
    params: { ...PARAMS, ...shareParams(spec) },
    module: readX(spec) + epilogueModule(spec.epilogue),
    walk: spec.pointwise ? POINTWISE : {
      state: STATE,
      start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32;
    ${offsets}`,
      step: `${walk.step}
    ${offsets}`,
    },
    a: {
      type: spec.dtype,
      prepare: (i, m) => `  let w_row${i} = (batch * p.O + ${m}) * p.K;`,
      load: (i) => `w[w_row${i} + k]`,
      fours: spec.aFours ? { along: "k", load: (i) => foursAt("w", `w_row${i} + k`) } : undefined,
    },
    b: {
      type: spec.dtype,
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let b_${j} = n_${j} / (p.OH * p.OW);
  let q_${j} = n_${j} % (p.OH * p.OW);
  let x_h${j} = i32((q_${j} / p.OW) * p.stride_h) - p.pad_h;
  let x_w${j} = i32((q_${j} % p.OW) * p.stride_w) - p.pad_w;
  let x_base${j} = i32((b_${j} * p.groups + batch) * p.C * p.H * p.W) + x_h${j} * i32(p.W) + x_w${j};`,
      load: (j) => readInput(j, spec),
      fours: spec.bFours
        ? { along: "side", load: (j) => foursAt("x", `u32(x_base${j} + k_off)`) }
        : undefined,
    },
    wide: spec.wide,
    prepareStore: (j) =>
      `    let y_base${j} = (b_${j} * p.groups + batch) * p.O * p.OH * p.OW + q_${j};`,
    store: ({ j, m, value }) => {
      const bias = spec.bias ? ` + ${asF32(`bias[batch * p.O + ${m}]`, spec.dtype)}` : "";
      const at = `y_base${j} + ${m} * p.OH * p.OW${spec.shares ? " + split * p.share" : ""}`;
      return storeAt("y", at, activated(value + bias, spec), { ...spec, dtype: storedAs(spec) });
    },
  };
  return gemmKernel(problem, tile);
}

/** The walk over the channels of X where every kernel has one element. */
const POINTWISE = {
  start: "  var k_off = i32(k_begin * p.H * p.W);",
  step: "    k_off += i32(p.H * p.W);",
};

/** Params of the input's gradient; a phase is one residue of the position modulo the stride. */
const PHASE: Readonly<Record<string, Param["type"]>> = {
  C: "u32",
  O: "u32",
  groups: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  KH: "u32",
  KW: "u32",
  // First position of the phase, and the distance of positions.
  h0: "u32",
  w0: "u32",
  stride_h: "u32",
  stride_w: "u32",
  // Positions and kernel taps of the phase.
  PH: "u32",
  PW: "u32",
  TH: "u32",
  TW: "u32",
  // First tap and the distance of taps.
  kh0: "u32",
  kw0: "u32",
  kh_step: "u32",
  kw_step: "u32",
  // Output that the first tap reads at the first position, and the step back from tap to tap.
  oh0: "i32",
  ow0: "i32",
  oh_step: "i32",
  ow_step: "i32",
};

/**
 * dX = Wᵀ * dY at the positions of one phase. M = C, N = batch·PH·PW, K = O·TH·TW.
 *
 * Position ih meets tap kh only where ih + pad - kh·dilation is a multiple of the stride, so positions
 * with one residue meet one arithmetic progression of taps, and outputs follow without a division.
 */
export const convInputGradKernel: (spec: ConvSpec, tile: Tile) => Kernel = memoized(buildInputGrad);

function buildInputGrad(spec: ConvSpec, tile: Tile): Kernel {
  const walk = counters("ko", "th", "tw", "p.TH", "p.TW");
  const offsets = `k_h = i32(th) * p.oh_step; k_w = i32(tw) * p.ow_step;
    k_off = i32(ko * p.OH * p.OW) - k_h * i32(p.OW) - k_w;
    k_row = (ko * p.C * p.KH + p.kh0 + th * p.kh_step) * p.KW + p.kw0 + tw * p.kw_step;`;
  return gemmKernel({
    name: nameOf("conv2d_dx", { ...spec, padded: false }),
    buffers: [
      { name: "dy", access: "read", type: typeOf(spec.dtype, spec.bFours) },
      { name: "w", access: "read", type: spec.dtype },
      ...(spec.bias ? [{ name: "bias", access: "read", type: spec.dtype } as const] : []),
      { name: "dx", access: "write", type: typeOf(storedAs(spec), spec.wide) },
    ],
    params: { ...PHASE, ...shareParams(spec) },
    module: spec.pointwise ? "" : `
fn read_dy(h: i32, w: i32, at: i32) -> ${spec.dtype} {
  let inside = (u32(h) < p.OH) & (u32(w) < p.OW);
  return select(${spec.dtype}(0.0), dy[u32(select(0, at, inside))], inside);
}`,
    walk: spec.pointwise
      ? {
        start: "  var k_off = i32(k_begin * p.OH * p.OW);\n  var k_row = k_begin * p.C;",
        step: "    k_off += i32(p.OH * p.OW);\n    k_row += p.C;",
      }
      : {
        state: [...STATE, { name: "k_row", type: "u32" }],
        start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32; var k_row: u32;
    ${offsets}`,
        step: `${walk.step}
    ${offsets}`,
      },
    a: {
      type: spec.dtype,
      prepare: (i, m) => `  let w_row${i} = (batch * p.O * p.C + ${m}) * p.KH * p.KW;`,
      load: (i) => `w[w_row${i} + k_row]`,
    },
    b: {
      type: spec.dtype,
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let b_${j} = n_${j} / (p.PH * p.PW);
  let q_${j} = n_${j} % (p.PH * p.PW);
  let i_${j} = q_${j} / p.PW;
  let j_${j} = q_${j} % p.PW;
  let y_h${j} = i32(i_${j}) + p.oh0;
  let y_w${j} = i32(j_${j}) + p.ow0;
  let y_base${j} = i32((b_${j} * p.groups + batch) * p.O * p.OH * p.OW)${
          spec.pointwise ? ` + i32(q_${j})` : ` + y_h${j} * i32(p.OW) + y_w${j}`
        };`,
      load: (j) =>
        spec.pointwise
          ? `dy[u32(y_base${j} + k_off)]`
          : `read_dy(y_h${j} - k_h, y_w${j} - k_w, y_base${j} + k_off)`,
      fours: spec.bFours
        ? { along: "side", load: (j) => foursAt("dy", `u32(y_base${j} + k_off)`) }
        : undefined,
    },
    wide: spec.wide,
    prepareStore: (j) =>
      `    let x_base${j} = ((b_${j} * p.groups + batch) * p.C * p.H + p.h0 + i_${j} * p.stride_h) * p.W +
      p.w0 + j_${j} * p.stride_w;`,
    store: ({ j, m, value }) => {
      const bias = spec.bias ? ` + ${asF32(`bias[batch * p.C + ${m}]`, spec.dtype)}` : "";
      const at = `x_base${j} + ${m} * p.H * p.W${spec.shares ? " + split * p.share" : ""}`;
      return storeAt("dx", at, value + bias, { ...spec, dtype: storedAs(spec) });
    },
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
    name: nameOf("conv2d_dw", spec),
    buffers: [
      { name: "dy", access: "read", type: typeOf(spec.dtype, spec.aFours) },
      { name: "x", access: "read", type: typeOf(spec.dtype, spec.bFours) },
      { name: "dw", access: "write", type: typeOf("f32", spec.wide) },
    ],
    params: PARAMS,
    module: readX(spec),
    walk: {
      state: [...STATE, { name: "k_row", type: "u32" }],
      start: `${walk.start}
    var k_h: i32; var k_w: i32; var k_off: i32; var k_row: u32;
    ${offsets}`,
      step: `${walk.step}
    ${offsets}`,
    },
    a: {
      type: spec.dtype,
      prepare: (i, m) => `  let y_row${i} = (batch * p.O + ${m}) * p.OH * p.OW;`,
      load: (i) => `dy[y_row${i} + k_row]`,
      fours: spec.aFours
        ? { along: "k", load: (i) => foursAt("dy", `y_row${i} + k_row`) }
        : undefined,
    },
    b: {
      type: spec.dtype,
      prepare: (j, n) =>
        `  let n_${j} = ${n};
  let q_${j} = n_${j} % (p.KH * p.KW);
  let x_h${j} = i32((q_${j} / p.KW) * p.dil_h) - p.pad_h;
  let x_w${j} = i32((q_${j} % p.KW) * p.dil_w) - p.pad_w;
  let x_base${j} = i32((batch * p.C + n_${j} / (p.KH * p.KW)) * p.H * p.W) + x_h${j} * i32(p.W) + x_w${j};`,
      load: (j) => readInput(j, spec),
      fours: spec.bFours
        ? { along: "k", load: (j) => foursAt("x", `u32(x_base${j} + k_off)`) }
        : undefined,
    },
    bInner: "k",
    wide: spec.wide,
    store: ({ m, n, value }) => {
      const at = `((split * p.groups + batch) * p.O + ${m}) * p.N + ${n}`;
      return storeAt("dw", at, value, { ...spec, dtype: "f32" });
    },
  }, tile);
}
