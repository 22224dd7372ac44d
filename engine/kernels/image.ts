/** Kernels for batches of images: bytes to floats, resizing, affine warps. NCHW, a thread an output. */

import { asF32, fromF32, type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { CALL_PARAMS, PHILOX, RNG_BUFFER } from "./philox.ts";
import { WHOLE } from "./trig.ts";

/** y[i] = byte i of x, little-endian words, times `scale`; a thread owns a word. */
export const unpackBytesKernel: () => Kernel = memoized(buildUnpackBytes);

function buildUnpackBytes(): Kernel {
  const lines = [0, 1, 2, 3].map((v) =>
    `  if (e + ${v}u < p.count) { y[e + ${v}u] = f32((word >> ${8 * v}u) & 255u) * p.scale; }`
  );
  return kernel({
    name: "unpack_bytes",
    buffers: [
      { name: "x", access: "read", type: "u32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: { count: "u32", threads: "u32", scale: "f32" },
    body: `${linearThread("t", "p.threads")}
  let e = t * 4u;
  let word = x[t];
${lines.join("\n")}`,
  });
}

/** How a position between pixels is read. */
export type Sampling = "nearest" | "bilinear";

const RESIZE_PARAMS = {
  count: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  scale_h: "f32",
  scale_w: "f32",
  shift_h: "f32",
  shift_w: "f32",
  support_h: "f32",
  support_w: "f32",
} as const;

/**
 * Triangle filter: output o reads inputs i with weight max(0, 1 - |i + ½ - c| / support), normalised,
 * where c = o·scale + shift. With half-pixel centres the shift is scale / 2, with aligned corners ½. With
 * support 1 that is bilinear interpolation with clamped edges; with support = scale it is PIL's
 * antialiased reduction.
 */
const CENTRE = `
fn centre(o: u32, scale: f32, shift: f32) -> f32 { return fma(f32(o), scale, shift); }`;

const TRIANGLE = `${CENTRE}
fn tap(i: i32, c: f32, support: f32) -> f32 {
  return max(0.0, 1.0 - abs(f32(i) + 0.5 - c) / support);
}
fn first_tap(c: f32, support: f32) -> i32 { return max(i32(ceil(c - support - 0.5)), 0); }
fn last_tap(c: f32, support: f32, size: u32) -> i32 {
  return min(i32(floor(c + support - 0.5)), i32(size) - 1);
}
fn total_taps(c: f32, support: f32, size: u32) -> f32 {
  var total = 0.0;
  for (var i = first_tap(c, support); i <= last_tap(c, support, size); i++) {
    total += tap(i, c, support);
  }
  return total;
}`;

/** How pixels are stored; positions and sums are f32. */
export interface PixelSpec {
  readonly dtype: "f32" | "f16";
}

/** Resizing; `wide` says that the filter's support is more than one input pixel. */
export const resizeKernel: (spec: PixelSpec & { mode: Sampling; wide: boolean }) => Kernel =
  memoized(buildResize);

function buildResize(spec: PixelSpec & { mode: Sampling; wide: boolean }): Kernel {
  const x = (at: string) => asF32(`x[${at}]`, spec.dtype);
  const y = (value: string) => `y[t] = ${fromF32(value, spec.dtype)};`;
  // Two taps a side with clamped edges: the triangle of support 1, normalised.
  const narrow = `
  let sh = clamp(centre(oh, p.scale_h, p.shift_h) - 0.5, 0.0, f32(p.H - 1u));
  let sw = clamp(centre(ow, p.scale_w, p.shift_w) - 0.5, 0.0, f32(p.W - 1u));
  let h0 = u32(sh); let h1 = min(h0 + 1u, p.H - 1u);
  let w0 = u32(sw); let w1 = min(w0 + 1u, p.W - 1u);
  let base = plane * p.H * p.W;
  let fw = sw - f32(w0);
  let top = mix(${x("base + h0 * p.W + w0")}, ${x("base + h0 * p.W + w1")}, fw);
  let bottom = mix(${x("base + h1 * p.W + w0")}, ${x("base + h1 * p.W + w1")}, fw);
  ${y("mix(top, bottom, sh - f32(h0))")}`;
  const nearest = `
  let ih = min(u32(f32(oh) * p.scale_h), p.H - 1u);
  let iw = min(u32(f32(ow) * p.scale_w), p.W - 1u);
  ${y(x("(plane * p.H + ih) * p.W + iw"))}`;
  const wide = `
  let ch = centre(oh, p.scale_h, p.shift_h);
  let cw = centre(ow, p.scale_w, p.shift_w);
  var total = 0.0;
  for (var ih = first_tap(ch, p.support_h); ih <= last_tap(ch, p.support_h, p.H); ih++) {
    var row = 0.0;
    for (var iw = first_tap(cw, p.support_w); iw <= last_tap(cw, p.support_w, p.W); iw++) {
      row += tap(iw, cw, p.support_w) *
        ${x("(plane * p.H + u32(ih)) * p.W + u32(iw)")};
    }
    total += tap(ih, ch, p.support_h) * row;
  }
  let weights = total_taps(ch, p.support_h, p.H) * total_taps(cw, p.support_w, p.W);
  ${y("total / weights")}`;
  return kernel({
    name: `resize_${spec.mode}${spec.mode === "bilinear" && spec.wide ? "_wide" : ""}`,
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: RESIZE_PARAMS,
    module: spec.mode === "nearest" ? "" : spec.wide ? TRIANGLE : CENTRE,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.OH * p.OW);
  let oh = (t / p.OW) % p.OH;
  let ow = t % p.OW;${spec.mode === "nearest" ? nearest : spec.wide ? wide : narrow}`,
  });
}

/** Gradient of resizing: a thread owns an input element and gathers the outputs that read it. */
export const resizeBackwardKernel: (spec: PixelSpec & { mode: Sampling }) => Kernel = memoized(
  buildResizeBackward,
);

function buildResizeBackward(spec: PixelSpec & { mode: Sampling }): Kernel {
  const dy = asF32("dy[(plane * p.OH + oh) * p.OW + ow]", spec.dtype);
  // Output o reads input i if its centre is within `support` of i + 1/2.
  const range = (axis: "h" | "w", size: string, outputs: string) =>
    spec.mode === "nearest"
      ? `  let o${axis}0 = u32(ceil(f32(i${axis}) / p.scale_${axis} - 1.0e-3));
  let o${axis}1 = min(u32(ceil(f32(i${axis} + 1u) / p.scale_${axis} + 1.0e-3)), ${outputs});`
      : `  let o${axis}0 = u32(max(floor((f32(i${axis}) + 0.5 - p.support_${axis} - p.shift_${axis}) / p.scale_${axis}), 0.0));
  let o${axis}1 = u32(min(ceil((f32(i${axis}) + 0.5 + p.support_${axis} - p.shift_${axis}) / p.scale_${axis} + 1.0), f32(${outputs})));
  let last_${axis} = ${size} - 1u;`;
  const nearest = `
      let reads = min(u32(f32(oh) * p.scale_h), p.H - 1u) == ih &&
        min(u32(f32(ow) * p.scale_w), p.W - 1u) == iw;
      total += select(0.0, ${dy}, reads);`;
  const bilinear = `
      let cw = centre(ow, p.scale_w, p.shift_w);
      total += row * tap(i32(iw), cw, p.support_w) / total_taps(cw, p.support_w, p.W) *
        ${dy};`;
  return kernel({
    name: `resize_${spec.mode}_backward`,
    buffers: [
      { name: "dy", access: "read", type: spec.dtype },
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: RESIZE_PARAMS,
    module: spec.mode === "nearest" ? "" : TRIANGLE,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.H * p.W);
  let ih = (t / p.W) % p.H;
  let iw = t % p.W;
${range("h", "p.H", "p.OH")}
${range("w", "p.W", "p.OW")}
  var total = 0.0;
  for (var oh = oh0; oh < oh1; oh++) {
${
      spec.mode === "nearest" ? "" : `    let ch = centre(oh, p.scale_h, p.shift_h);
    let row = tap(i32(ih), ch, p.support_h) / total_taps(ch, p.support_h, p.H);`
    }
    for (var ow = ow0; ow < ow1; ow++) {${spec.mode === "nearest" ? nearest : bilinear}
    }
  }
  dx[t] = ${fromF32("total", spec.dtype)};`,
  });
}

/**
 * y[b, c, oy, ox] = x[b, c] at M[b] · (ox, oy, 1), where positions are pixels from the image's centre
 * and M[b] is row-major 2 x 3. Outside the image: `fill`. Nearest rounds halves to even, as PyTorch's
 * grid_sample does.
 */
export const warpAffineKernel: (spec: PixelSpec & { mode: Sampling }) => Kernel = memoized(
  buildWarpAffine,
);

function buildWarpAffine(spec: PixelSpec & { mode: Sampling }): Kernel {
  const x = asF32("x[base + select(0u, u32(iy) * p.W + u32(ix), inside)]", spec.dtype);
  const sample = spec.mode === "nearest"
    ? "  let value = pixel(base, i32(round(sx)), i32(round(sy)));"
    : `
  let x0 = floor(sx); let y0 = floor(sy);
  let fx = sx - x0; let fy = sy - y0;
  let ix = i32(x0); let iy = i32(y0);
  let top = mix(pixel(base, ix, iy), pixel(base, ix + 1, iy), fx);
  let bottom = mix(pixel(base, ix, iy + 1), pixel(base, ix + 1, iy + 1), fx);
  let value = mix(top, bottom, fy);`;
  return kernel({
    name: `warp_affine_${spec.mode}`,
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "m", access: "read", type: "f32" },
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: { count: "u32", C: "u32", H: "u32", W: "u32", fill: "f32" },
    module: `
fn pixel(base: u32, ix: i32, iy: i32) -> f32 {
  let inside = u32(ix) < p.W && u32(iy) < p.H;
  return select(p.fill, ${x}, inside);
}`,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.H * p.W);
  let base = plane * p.H * p.W;
  let r = (plane / p.C) * 6u;
  let half = vec2<f32>(f32(p.W), f32(p.H)) * 0.5;
  let ox = f32(t % p.W) + 0.5 - half.x;
  let oy = f32((t / p.W) % p.H) + 0.5 - half.y;
  let sx = m[r] * ox + m[r + 1u] * oy + m[r + 2u] + half.x - 0.5;
  let sy = m[r + 3u] * ox + m[r + 4u] * oy + m[r + 5u] + half.y - 0.5;
${sample}
  y[t] = ${fromF32("value", spec.dtype)};`,
  });
}

/**
 * A random map [2, 3] an image for {@linkcode warpAffineKernel}; a thread owns an image.
 *
 * With r the rotation, s the shear along x, k the scale, (tx, ty) the shift in whole pixels:
 * A = [cos r - sin r·tan s, cos r·tan s + sin r; -sin r, cos r] / k, and M = [A | -A·(tx, ty)]; the
 * first column changes its sign where the image is mirrored. Source: torchvision's inverse matrix.
 */
export const randomMapsKernel: () => Kernel = memoized(buildRandomMaps);

function buildRandomMaps(): Kernel {
  return kernel({
    name: "random_affine_maps",
    buffers: [RNG_BUFFER, { name: "m", access: "write", type: "f32" }],
    params: {
      count: "u32",
      flip: "f32",
      radians: "f32",
      shift_x: "f32",
      shift_y: "f32",
      scale_low: "f32",
      scale_high: "f32",
      shear: "f32",
      ...CALL_PARAMS,
    },
    module: `${PHILOX}${WHOLE}
fn within(w: u32, low: f32, high: f32) -> f32 { return low + (high - low) * unit(w); }`,
    body: `${linearThread("i", "p.count")}
  let a = draw(2u * i, p.call_lo, p.call_hi);
  let b = draw(2u * i + 1u, p.call_lo, p.call_hi);
  let r = within(a[0], -p.radians, p.radians);
  let tx = round(within(a[1], -p.shift_x, p.shift_x));
  let ty = round(within(a[2], -p.shift_y, p.shift_y));
  let k = within(a[3], p.scale_low, p.scale_high);
  let s = within(b[0], -p.shear, p.shear);
  let side = select(1.0, -1.0, unit(b[1]) < p.flip);
  let tan_s = tangent(s);
  let turn = reduced_trig(r);
  let m00 = (turn.y - turn.x * tan_s) / k;
  let m01 = (turn.y * tan_s + turn.x) / k;
  let m10 = -turn.x / k;
  let m11 = turn.y / k;
  let o = i * 6u;
  m[o] = side * m00;
  m[o + 1u] = m01;
  m[o + 2u] = -(m00 * tx + m01 * ty);
  m[o + 3u] = side * m10;
  m[o + 4u] = m11;
  m[o + 5u] = -(m10 * tx + m11 * ty);`,
  });
}
