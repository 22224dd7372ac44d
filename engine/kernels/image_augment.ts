/**
 * Kernels that change each image of a batch by numbers of its own. NCHW; pixels may be f16, all else is
 * f32.
 */

import { BOX_THREADS } from "./boxes.ts";
import type { PixelSpec } from "./image.ts";
import {
  asF32,
  type BufferDecl,
  fromF32,
  type Kernel,
  kernel,
  linearThread,
  memoized,
} from "./kernel.ts";

function f32(name: string, access: "read" | "write"): BufferDecl {
  return { name, access, type: "f32" };
}

function pixels(name: string, access: "read" | "write", { dtype }: PixelSpec): BufferDecl {
  return { name, access, type: dtype };
}

/**
 * y[b] = the part [top, left, height, width] of x[b], resized by a triangle filter at half-pixel centres
 * that is widened where it shrinks (PIL's antialias).
 */
export const cropResizeKernel: (spec: PixelSpec) => Kernel = memoized(buildCropResize);

function buildCropResize(spec: PixelSpec): Kernel {
  return kernel({
    name: "crop_resize",
    buffers: [pixels("x", "read", spec), f32("crops", "read"), pixels("y", "write", spec)],
    params: { count: "u32", C: "u32", H: "u32", W: "u32", OH: "u32", OW: "u32" },
    module: `
fn tap(i: i32, centre: f32, support: f32) -> f32 {
  return max(0.0, 1.0 - abs(f32(i) + 0.5 - centre) / support);
}`,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.OH * p.OW);
  let crop = plane / p.C * 4u;
  let size = vec2<f32>(crops[crop + 2u], crops[crop + 3u]);
  let scale = size / vec2<f32>(f32(p.OH), f32(p.OW));
  let support = max(scale, vec2<f32>(1.0));
  let centre = (vec2<f32>(f32((t / p.OW) % p.OH), f32(t % p.OW)) + 0.5) * scale;
  let low = vec2<i32>(max(ceil(centre - support - 0.5), vec2<f32>(0.0)));
  let high = vec2<i32>(min(floor(centre + support - 0.5), size - 1.0));
  let top = i32(crops[crop]);
  let left = i32(crops[crop + 1u]);
  var total = 0.0;
  var weight = 0.0;
  for (var i = low.x; i <= high.x; i++) {
    let wi = tap(i, centre.x, support.x);
    let row = (plane * p.H + u32(clamp(top + i, 0, i32(p.H) - 1))) * p.W;
    for (var j = low.y; j <= high.y; j++) {
      let w = wi * tap(j, centre.y, support.y);
      total += w * ${asF32("x[row + u32(clamp(left + j, 0, i32(p.W) - 1))]", spec.dtype)};
      weight += w;
    }
  }
  y[t] = ${fromF32("total / weight", spec.dtype)};`,
  });
}

/** WGSL `change(op, v, at, mean)`: one of torchvision's four colour ops on a pixel; factors at `at`. */
function color({ dtype }: PixelSpec): string {
  const channels = ["at", "at + p.HW", "at + 2u * p.HW"].map((at) => asF32(`x[${at}]`, dtype));
  return `
fn gray_of(v: vec3<f32>) -> f32 { return dot(v, vec3<f32>(0.2989, 0.587, 0.114)); }
fn mixed(v: vec3<f32>, other: vec3<f32>, f: f32) -> vec3<f32> {
  return clamp(f * v + (1.0 - f) * other, vec3<f32>(0.0), vec3<f32>(1.0));
}
fn turned_hue(v: vec3<f32>, turn: f32) -> vec3<f32> {
  let top = max(v.r, max(v.g, v.b));
  let low = min(v.r, min(v.g, v.b));
  if (top == low) { return v; }
  let range = top - low;
  let c = (vec3<f32>(top) - v) / range;
  var h = 4.0 + c.g - c.r;
  if (top == v.g) { h = 2.0 + c.r - c.b; }
  if (top == v.r) { h = c.b - c.g; }
  h = h / 6.0 + turn;
  h = (h - floor(h)) * 6.0;
  let s = range / top;
  let sector = floor(h);
  let f = h - sector;
  let low_value = top * (1.0 - s);
  let falling = top * (1.0 - s * f);
  let rising = top * (1.0 - s * (1.0 - f));
  switch (u32(sector) % 6u) {
    case 0u: { return vec3<f32>(top, rising, low_value); }
    case 1u: { return vec3<f32>(falling, top, low_value); }
    case 2u: { return vec3<f32>(low_value, top, rising); }
    case 3u: { return vec3<f32>(low_value, falling, top); }
    case 4u: { return vec3<f32>(rising, low_value, top); }
    default: { return vec3<f32>(top, low_value, falling); }
  }
}
fn change(op: u32, v: vec3<f32>, at: u32, mean: f32) -> vec3<f32> {
  switch (op) {
    case 0u: { return mixed(v, vec3<f32>(0.0), factors[at]); }
    case 1u: { return mixed(v, vec3<f32>(mean), factors[at + 1u]); }
    case 2u: { return mixed(v, vec3<f32>(gray_of(v)), factors[at + 2u]); }
    default: { return turned_hue(v, factors[at + 3u]); }
  }
}
fn pixel(b: u32, i: u32) -> vec3<f32> {
  let at = b * 3u * p.HW + i;
  return vec3<f32>(${channels.join(", ")});
}`;
}

/** means[b] = mean gray of image b after the ops that come before the contrast; a workgroup an image. */
export const colorMeansKernel: (spec: PixelSpec) => Kernel = memoized(buildColorMeans);

function buildColorMeans(spec: PixelSpec): Kernel {
  const steps = [];
  for (let half = BOX_THREADS / 2; half >= 1; half /= 2) {
    steps.push(`  if (lid.x < ${half}u) { totals[lid.x] += totals[lid.x + ${half}u]; }
  workgroupBarrier();`);
  }
  return kernel({
    name: "color_means",
    buffers: [pixels("x", "read", spec), f32("factors", "read"), f32("means", "write")],
    params: { B: "u32", HW: "u32" },
    workgroup: [BOX_THREADS, 1, 1],
    module: `${color(spec)}
var<workgroup> totals: array<f32, ${BOX_THREADS}>;`,
    body: `  let b = wid.y * nwg.x + wid.x;
  if (b >= p.B) { return; }
  var total = 0.0;
  for (var i = lid.x; i < p.HW; i += ${BOX_THREADS}u) {
    var v = pixel(b, i);
    for (var k = 0u; k < 4u; k++) {
      let op = u32(factors[b * 8u + 4u + k]);
      if (op == 1u) { break; }
      v = change(op, v, b * 8u, 0.0);
    }
    total += gray_of(v);
  }
  totals[lid.x] = total;
  workgroupBarrier();
${steps.join("\n")}
  if (lid.x == 0u) { means[b] = totals[0] / f32(p.HW); }`,
  });
}

/** The four colour ops in each image's order; a thread owns a pixel. */
export const colorKernel: (spec: PixelSpec) => Kernel = memoized(buildColor);

function buildColor(spec: PixelSpec): Kernel {
  return kernel({
    name: "color_jitter",
    buffers: [
      pixels("x", "read", spec),
      f32("factors", "read"),
      f32("means", "read"),
      pixels("y", "write", spec),
    ],
    params: { count: "u32", HW: "u32" },
    module: color(spec),
    body: `${linearThread("t", "p.count")}
  let b = t / p.HW;
  let i = t % p.HW;
  var v = pixel(b, i);
  for (var k = 0u; k < 4u; k++) {
    v = change(u32(factors[b * 8u + 4u + k]), v, b * 8u, means[b]);
  }
  let at = b * 3u * p.HW + i;
  y[at] = ${fromF32("v.r", spec.dtype)};
  y[at + p.HW] = ${fromF32("v.g", spec.dtype)};
  y[at + 2u * p.HW] = ${fromF32("v.b", spec.dtype)};`,
  });
}

/** Gaussian blur along one axis with a deviation an image; edges are mirrored without repeating them. */
export const blurKernel: (
  spec: { axis: "h" | "w"; from: PixelSpec["dtype"]; to: PixelSpec["dtype"] },
) => Kernel = memoized(buildBlur);

function buildBlur(
  spec: { axis: "h" | "w"; from: PixelSpec["dtype"]; to: PixelSpec["dtype"] },
): Kernel {
  const [size, step, place] = spec.axis === "h"
    ? ["p.H", "p.W", "(t / p.W) % p.H"]
    : ["p.W", "1u", "t % p.W"];
  return kernel({
    name: `gaussian_blur_${spec.axis}`,
    buffers: [
      pixels("x", "read", { dtype: spec.from }),
      f32("sigmas", "read"),
      pixels("y", "write", { dtype: spec.to }),
    ],
    params: { count: "u32", C: "u32", H: "u32", W: "u32", radius: "u32" },
    body: `${linearThread("t", "p.count")}
  let sigma = sigmas[t / (p.C * p.H * p.W)];
  let size = i32(${size});
  let at = i32(${place});
  let first = t - u32(at) * ${step};
  let radius = i32(p.radius);
  var total = 0.0;
  var weight = 0.0;
  for (var k = -radius; k <= radius; k++) {
    let z = f32(k) / sigma;
    let w = exp(-0.5 * z * z);
    var i = abs(at + k);
    if (i >= size) { i = 2 * size - 2 - i; }
    total += w * ${asF32(`x[first + u32(i) * ${step}]`, spec.from)};
    weight += w;
  }
  y[t] = ${fromF32("total / weight", spec.to)};`,
  });
}

/** y = x with `fill` inside the boxes [top, left, bottom, right] (ends not included) of each image. */
export const eraseKernel: (spec: PixelSpec) => Kernel = memoized(buildErase);

function buildErase(spec: PixelSpec): Kernel {
  return kernel({
    name: "erase_boxes",
    buffers: [pixels("x", "read", spec), f32("holes", "read"), pixels("y", "write", spec)],
    params: { count: "u32", C: "u32", H: "u32", W: "u32", K: "u32", fill: "f32" },
    body: `${linearThread("t", "p.count")}
  let b = t / (p.C * p.H * p.W);
  let row = f32((t / p.W) % p.H);
  let column = f32(t % p.W);
  var value = ${asF32("x[t]", spec.dtype)};
  for (var k = 0u; k < p.K; k++) {
    let at = (b * p.K + k) * 4u;
    if (row >= holes[at] && row < holes[at + 2u] && column >= holes[at + 1u] && column < holes[at + 3u]) {
      value = p.fill;
    }
  }
  y[t] = ${fromF32("value", spec.dtype)};`,
  });
}

/** As the bilinear `warpAffineKernel`, with the image mirrored beyond its edges (OpenCV's REFLECT_101). */
export const warpReflectKernel: (spec: PixelSpec) => Kernel = memoized(buildWarpReflect);

function buildWarpReflect(spec: PixelSpec): Kernel {
  const x = (row: string, column: string) => asF32(`x[${row} + ${column}]`, spec.dtype);
  return kernel({
    name: "warp_affine_reflect",
    buffers: [pixels("x", "read", spec), f32("m", "read"), pixels("y", "write", spec)],
    params: { count: "u32", C: "u32", H: "u32", W: "u32" },
    module: `
// In floats, which hold these whole numbers exactly: integer division is slow. A quotient that is
// rounded to the next whole number changes nothing: the mirror is even.
fn mirrored(i: i32, size: u32) -> u32 {
  let period = f32(max(2u * size - 2u, 1u));
  let a = f32(abs(i));
  let r = abs(a - period * floor(a / period));
  return u32(min(r, period - r));
}`,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.H * p.W);
  let base = plane * p.H * p.W;
  let r = (plane / p.C) * 6u;
  let half_size = vec2<f32>(f32(p.W), f32(p.H)) * 0.5;
  let ox = f32(t % p.W) + 0.5 - half_size.x;
  let oy = f32((t / p.W) % p.H) + 0.5 - half_size.y;
  let sx = m[r] * ox + m[r + 1u] * oy + m[r + 2u] + half_size.x - 0.5;
  let sy = m[r + 3u] * ox + m[r + 4u] * oy + m[r + 5u] + half_size.y - 0.5;
  let x0 = floor(sx);
  let y0 = floor(sy);
  let left = mirrored(i32(x0), p.W);
  let right = mirrored(i32(x0) + 1, p.W);
  let upper = base + mirrored(i32(y0), p.H) * p.W;
  let lower = base + mirrored(i32(y0) + 1, p.H) * p.W;
  let top = mix(${x("upper", "left")}, ${x("upper", "right")}, sx - x0);
  let bottom = mix(${x("lower", "left")}, ${x("lower", "right")}, sx - x0);
  y[t] = ${fromF32("mix(top, bottom, sy - y0)", spec.dtype)};`,
  });
}
