/**
 * Pooling of NCHW tensors. Forward: a thread owns an output element. Backward gathers: a thread owns
 * an input element and adds up the windows that cover it, so no atomics are needed.
 *
 * Source: ours; window rules as in PyTorch.
 */

import { IS_NAN } from "./reduce.ts";
import {
  asF32,
  fromF32,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  type Param,
} from "./kernel.ts";

/** What varies between the text of pooling kernels: the stored type; sums are f32. */
export interface PoolSpec {
  readonly dtype: "f32" | "f16";
}

/** A kernel whose loops over a window's [rows, columns] are unrolled in the text, unless null. */
export interface UnrolledPoolSpec extends PoolSpec {
  readonly unroll: readonly [number, number] | null;
}

/** `body(row, column)` for each place of a window, or once in two loops to the given ends. */
function overWindow(
  { unroll }: UnrolledPoolSpec,
  ends: readonly [string, string],
  body: (row: string, column: string) => string,
): string {
  if (!unroll) {
    return `
  for (var a = 0; a < ${ends[0]}; a++) {
    for (var b = 0; b < ${ends[1]}; b++) {${body("a", "b")}
    }
  }`;
  }
  const [rows, columns] = unroll;
  return Array.from(
    { length: rows * columns },
    (_, i) => `\n  {${body(String(Math.floor(i / columns)), String(i % columns))}\n  }`,
  ).join("");
}

const WINDOW: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
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

const OUTPUT = `${linearThread("t", "p.count")}
  let row = t / p.OW;
  let plane = row / p.OH;
  let oh = i32(row - plane * p.OH);
  let ow = i32(t - row * p.OW);`;

const INPUT = `${linearThread("t", "p.count")}
  let row = t / p.W;
  let plane = row / p.H;
  let ih = i32(row - plane * p.H);
  let iw = i32(t - row * p.W);`;

/**
 * Windows [first, last] whose rows (or columns) can cover position `i`, ignoring dilation gaps. The
 * numbers divided are not negative, and u32 division by a constant needs no division.
 */
const COVERING = `
fn first_window(i: i32, pad: i32, reach: i32, stride: u32) -> i32 {
  return i32((u32(max(i + pad - reach, 0)) + stride - 1u) / stride);
}
fn last_window(i: i32, pad: i32, stride: u32, windows: u32) -> i32 {
  return min(i32(u32(i + pad) / stride), i32(windows) - 1);
}`;

/** y = largest element of each window, and its position ih·W + iw; ties: the first; NaN wins. */
export const maxPoolKernel: (spec: UnrolledPoolSpec) => Kernel = memoized(buildMaxPool);

function buildMaxPool(spec: UnrolledPoolSpec): Kernel {
  const { dtype } = spec;
  return kernel({
    name: "max_pool2d",
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "y", access: "write", type: dtype },
      { name: "arg", access: "write", type: "u32" },
    ],
    params: { ...WINDOW, lowest: "f32" },
    module: IS_NAN,
    body: `${OUTPUT}
  let h0 = oh * p.stride_h - p.pad_h;
  let w0 = ow * p.stride_w - p.pad_w;
  let base = plane * p.H * p.W;
  var best = p.lowest;
  var place = 0u;
  var found = false;${
      overWindow(spec, ["i32(p.KH)", "i32(p.KW)"], (row, column) => `
    let ih = u32(h0 + ${row} * p.dil_h);
    let iw = u32(w0 + ${column} * p.dil_w);
    let inside = ih < p.H && iw < p.W;
    let at = select(0u, ih * p.W + iw, inside);
    let v = ${asF32("x[base + at]", dtype)};
    let wins = inside && (!found || v > best || is_nan(v));
    best = select(best, v, wins);
    place = select(place, at, wins);
    found = found || inside;`)
    }
  y[t] = ${fromF32("best", dtype)};
  arg[t] = place;`,
  });
}

/**
 * dx: adds dy of the windows whose largest element this is, the last window first. An unrolled kernel
 * has the strides in its text, since divisions by them are most of its work.
 */
export const maxPoolBackwardKernel: (
  spec: UnrolledPoolSpec & { readonly stride: readonly [number, number] },
) => Kernel = memoized(buildMaxPoolBackward);

function buildMaxPoolBackward(
  spec: UnrolledPoolSpec & { readonly stride: readonly [number, number] },
): Kernel {
  const { dtype } = spec;
  const windows = spec.unroll ? `_${spec.unroll.join("x")}` : "";
  const [stride_h, stride_w] = spec.unroll
    ? spec.stride.map((s) => `${s}u`)
    : ["u32(p.stride_h)", "u32(p.stride_w)"];
  return kernel({
    name: `max_pool2d_backward${windows}`,
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "arg", access: "read", type: "u32" },
      { name: "dx", access: "write", type: dtype },
    ],
    params: WINDOW,
    module: COVERING,
    body: `${INPUT}
  let place = u32(ih) * p.W + u32(iw);
  let h1 = last_window(ih, p.pad_h, ${stride_h}, p.OH);
  let w1 = last_window(iw, p.pad_w, ${stride_w}, p.OW);
  let h0 = first_window(ih, p.pad_h, (i32(p.KH) - 1) * p.dil_h, ${stride_h});
  let w0 = first_window(iw, p.pad_w, (i32(p.KW) - 1) * p.dil_w, ${stride_w});
  let base = plane * p.OH * p.OW;
  var total = 0.0;${
      overWindow(spec, ["(h1 - h0 + 1)", "(w1 - w0 + 1)"], (row, column) => `
    let oh = h1 - ${row};
    let ow = w1 - ${column};
    let covers = oh >= h0 && ow >= w0;
    let o = base + select(0u, u32(oh) * p.OW + u32(ow), covers);
    total ${row === "0" && column === "0" ? "=" : "+="} select(0.0, ${
        asF32("dy[o]", dtype)
      }, covers && arg[o] == place);`)
    }
  dx[t] = ${fromF32("total", dtype)};`,
  });
}

const HALVES: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
};

/**
 * {@linkcode maxPoolBackwardKernel} for windows of 2 x 2 side by side without padding: a thread owns a
 * window, since no other one covers its elements. Rows and columns that no window covers get zeros from
 * windows beyond the last one; `count` has them too, ⌈H/2⌉ · ⌈W/2⌉ a plane.
 */
export const maxPool2x2BackwardKernel: (spec: PoolSpec) => Kernel = memoized(
  buildMaxPool2x2Backward,
);

function buildMaxPool2x2Backward({ dtype }: PoolSpec): Kernel {
  const zero = fromF32("0.0", dtype);
  const corner = (place: string, inside: string) =>
    `if (${inside}) { dx[base + ${place}] = select(${zero}, g, place == ${place}); }`;
  return kernel({
    name: "max_pool2d_2x2_backward",
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "arg", access: "read", type: "u32" },
      { name: "dx", access: "write", type: dtype },
    ],
    params: HALVES,
    body: `${linearThread("t", "p.count")}
  let columns = (p.W + 1u) / 2u;
  let rows = (p.H + 1u) / 2u;
  let row = t / columns;
  let plane = row / rows;
  let oh = row - plane * rows;
  let ow = t - row * columns;
  let base = plane * p.H * p.W;
  let at = 2u * (oh * p.W + ow);
  let whole = oh < p.OH && ow < p.OW;
  let o = select(0u, (plane * p.OH + oh) * p.OW + ow, whole);
  let g = select(${zero}, dy[o], whole);
  let place = arg[o];
  let right = 2u * ow + 1u < p.W;
  let below = 2u * oh + 1u < p.H;
  dx[base + at] = select(${zero}, g, place == at);
  ${corner("at + 1u", "right")}
  ${corner("at + p.W", "below")}
  ${corner("at + p.W + 1u", "right && below")}`,
  });
}

/** Divisor of an average window, as PyTorch counts it: padding counts up to size + pad. */
const DIVISOR = `
fn extent(start: i32, k: i32, size: u32, pad: i32) -> i32 {
  if (p.include_pad == 1u) { return min(start + k, i32(size) + pad) - start; }
  return min(start + k, i32(size)) - max(start, 0);
}`;

/** y = mean of each window. */
export const avgPoolKernel: (spec: PoolSpec) => Kernel = memoized(buildAvgPool);

function buildAvgPool({ dtype }: PoolSpec): Kernel {
  return kernel({
    name: "avg_pool2d",
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "y", access: "write", type: dtype },
    ],
    params: { ...WINDOW, include_pad: "u32" },
    module: DIVISOR,
    body: `${OUTPUT}
  let h0 = oh * p.stride_h - p.pad_h;
  let w0 = ow * p.stride_w - p.pad_w;
  var total = 0.0;
  for (var ih = max(h0, 0); ih < min(h0 + i32(p.KH), i32(p.H)); ih++) {
    for (var iw = max(w0, 0); iw < min(w0 + i32(p.KW), i32(p.W)); iw++) {
      total += ${asF32("x[(plane * p.H + u32(ih)) * p.W + u32(iw)]", dtype)};
    }
  }
  let size = extent(h0, i32(p.KH), p.H, p.pad_h) * extent(w0, i32(p.KW), p.W, p.pad_w);
  y[t] = ${fromF32("total / f32(size)", dtype)};`,
  });
}

/** dx: each window gives every element it holds its share. */
export const avgPoolBackwardKernel: (spec: PoolSpec) => Kernel = memoized(buildAvgPoolBackward);

function buildAvgPoolBackward({ dtype }: PoolSpec): Kernel {
  return kernel({
    name: "avg_pool2d_backward",
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "dx", access: "write", type: dtype },
    ],
    params: { ...WINDOW, include_pad: "u32" },
    module: DIVISOR + COVERING,
    body: `${INPUT}
  var total = 0.0;
  let h1 = last_window(ih, p.pad_h, u32(p.stride_h), p.OH);
  let w1 = last_window(iw, p.pad_w, u32(p.stride_w), p.OW);
  let w_first = first_window(iw, p.pad_w, i32(p.KW) - 1, u32(p.stride_w));
  for (var oh = first_window(ih, p.pad_h, i32(p.KH) - 1, u32(p.stride_h)); oh <= h1; oh++) {
    let rows = extent(oh * p.stride_h - p.pad_h, i32(p.KH), p.H, p.pad_h);
    for (var ow = w_first; ow <= w1; ow++) {
      let columns = extent(ow * p.stride_w - p.pad_w, i32(p.KW), p.W, p.pad_w);
      total += ${
      asF32("dy[(plane * p.OH + u32(oh)) * p.OW + u32(ow)]", dtype)
    } / f32(rows * columns);
    }
  }
  dx[t] = ${fromF32("total", dtype)};`,
  });
}

const ADAPTIVE: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
};

/** Window o of an adaptive pool covers [floor(o·size/windows), ceil((o+1)·size/windows)). */
const ADAPTIVE_WINDOW = `
fn window_start(o: u32, size: u32, windows: u32) -> u32 { return (o * size) / windows; }
fn window_end(o: u32, size: u32, windows: u32) -> u32 {
  return ((o + 1u) * size + windows - 1u) / windows;
}`;

/** y = mean over the adaptive window. */
export const adaptiveAvgPoolKernel: (spec: PoolSpec) => Kernel = memoized(buildAdaptiveAvgPool);

function buildAdaptiveAvgPool({ dtype }: PoolSpec): Kernel {
  return kernel({
    name: "adaptive_avg_pool2d",
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "y", access: "write", type: dtype },
    ],
    params: ADAPTIVE,
    module: ADAPTIVE_WINDOW,
    body: `${OUTPUT}
  let h0 = window_start(u32(oh), p.H, p.OH); let h1 = window_end(u32(oh), p.H, p.OH);
  let w0 = window_start(u32(ow), p.W, p.OW); let w1 = window_end(u32(ow), p.W, p.OW);
  var total = 0.0;
  for (var ih = h0; ih < h1; ih++) {
    for (var iw = w0; iw < w1; iw++) { total += ${
      asF32("x[(plane * p.H + ih) * p.W + iw]", dtype)
    }; }
  }
  y[t] = ${fromF32("total / f32((h1 - h0) * (w1 - w0))", dtype)};`,
  });
}

/** dx: each adaptive window that holds the element gives it its share. */
export const adaptiveAvgPoolBackwardKernel: (spec: PoolSpec) => Kernel = memoized(
  buildAdaptiveAvgPoolBackward,
);

function buildAdaptiveAvgPoolBackward({ dtype }: PoolSpec): Kernel {
  return kernel({
    name: "adaptive_avg_pool2d_backward",
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "dx", access: "write", type: dtype },
    ],
    params: ADAPTIVE,
    module: ADAPTIVE_WINDOW,
    body: `${INPUT}
  // Windows that hold ih: floor(ih·OH/H) to ceil((ih+1)·OH/H) - 1.
  let o_h0 = (u32(ih) * p.OH) / p.H; let o_h1 = ((u32(ih) + 1u) * p.OH + p.H - 1u) / p.H;
  let o_w0 = (u32(iw) * p.OW) / p.W; let o_w1 = ((u32(iw) + 1u) * p.OW + p.W - 1u) / p.W;
  var total = 0.0;
  for (var oh = o_h0; oh < o_h1; oh++) {
    let rows = window_end(oh, p.H, p.OH) - window_start(oh, p.H, p.OH);
    for (var ow = o_w0; ow < o_w1; ow++) {
      let columns = window_end(ow, p.W, p.OW) - window_start(ow, p.W, p.OW);
      total += ${asF32("dy[(plane * p.OH + oh) * p.OW + ow]", dtype)} / f32(rows * columns);
    }
  }
  dx[t] = ${fromF32("total", dtype)};`,
  });
}
