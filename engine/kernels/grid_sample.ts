/**
 * Images read at positions that another tensor gives, as PyTorch's grid_sample:
 *
 *   y[n, c, oh, ow] = x[n, c] at (grid[n, oh, ow, 0] across, grid[n, oh, ow, 1] down)
 *
 * where -1 and 1 are the image's edges, or with `align_corners` the centres of its outermost pixels.
 * The gradient of x gathers: a thread owns a pixel of four channels and looks at every position of its
 * image, so that the order of additions is fixed and no atomics are needed. That is H·W·OH·OW
 * comparisons for four channels of an image: instant at 64 x 64, 2.5e9 at 224 x 224. Source: ours.
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

/** What varies between the text of the kernels. */
export interface GridSampleSpec {
  /** How a position between pixels is read; nearest rounds halves to even. */
  readonly mode: "nearest" | "bilinear";
  /** What lies outside: zeros, or the nearest pixel of the border. */
  readonly padding: "zeros" | "border";
  /** How images, positions and their gradients are stored; positions and sums are f32. */
  readonly dtype: "f32" | "f16";
}

const PARAMS: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  C: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  // Pixel position = grid · scale + shift.
  scale_h: "f32",
  scale_w: "f32",
  shift_h: "f32",
  shift_w: "f32",
};

/** place(g): pixel position of the grid's element pair that starts at g. */
function place({ padding, dtype }: GridSampleSpec): string {
  const bound = (value: string, size: string) =>
    padding === "zeros" ? value : `clamp(${value}, 0.0, f32(${size} - 1u))`;
  return `
fn place(g: u32) -> vec2<f32> {
  let across = fma(${asF32("grid[g]", dtype)}, p.scale_w, p.shift_w);
  let down = fma(${asF32("grid[g + 1u]", dtype)}, p.scale_h, p.shift_h);
  return vec2<f32>(${bound("across", "p.W")}, ${bound("down", "p.H")});
}`;
}

function pixel({ dtype }: GridSampleSpec): string {
  const value = asF32("x[base + select(0u, u32(h) * p.W + u32(w), inside)]", dtype);
  return `
fn pixel(base: u32, w: i32, h: i32) -> f32 {
  let inside = u32(w) < p.W && u32(h) < p.H;
  return select(0.0, ${value}, inside);
}`;
}

/** Image and position of output `t` without channels. */
const POSITION = `
  let n = t / (p.OH * p.OW);
  let q = t % (p.OH * p.OW);`;

/** y; a thread owns an output element. */
export const gridSampleKernel: (spec: GridSampleSpec) => Kernel = memoized(buildForward);

function buildForward(spec: GridSampleSpec): Kernel {
  const read = spec.mode === "nearest"
    ? "  let value = pixel(base, i32(round(at.x)), i32(round(at.y)));"
    : `
  let low = floor(at);
  let f = at - low;
  let w = i32(low.x);
  let h = i32(low.y);
  let top = mix(pixel(base, w, h), pixel(base, w + 1, h), f.x);
  let bottom = mix(pixel(base, w, h + 1), pixel(base, w + 1, h + 1), f.x);
  let value = mix(top, bottom, f.y);`;
  return kernel({
    name: `grid_sample_${spec.mode}_${spec.padding}`,
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "grid", access: "read", type: spec.dtype },
      { name: "y", access: "write", type: spec.dtype },
    ],
    params: PARAMS,
    module: place(spec) + pixel(spec),
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.OH * p.OW);
  let at = place(2u * ((plane / p.C) * p.OH * p.OW + t % (p.OH * p.OW)));
  let base = plane * p.H * p.W;
${read}
  y[t] = ${fromF32("value", spec.dtype)};`,
  });
}

/** Gradient of the grid, bilinear; a thread owns a position. */
export const gridSampleGridGradKernel: (spec: GridSampleSpec) => Kernel = memoized(buildGridGrad);

function buildGridGrad(spec: GridSampleSpec): Kernel {
  const free = spec.padding === "zeros" ? "" : `
  let across = fma(${asF32("grid[2u * t]", spec.dtype)}, p.scale_w, p.shift_w);
  let down = fma(${asF32("grid[2u * t + 1u]", spec.dtype)}, p.scale_h, p.shift_h);
  d.x = select(0.0, d.x, across > 0.0 && across < f32(p.W - 1u));
  d.y = select(0.0, d.y, down > 0.0 && down < f32(p.H - 1u));`;
  return kernel({
    name: `grid_sample_${spec.padding}_dgrid`,
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "grid", access: "read", type: spec.dtype },
      { name: "dy", access: "read", type: spec.dtype },
      { name: "dgrid", access: "write", type: spec.dtype },
    ],
    params: PARAMS,
    module: place(spec) + pixel(spec),
    body: `${linearThread("t", "p.count")}${POSITION}
  let at = place(2u * t);
  let low = floor(at);
  let f = at - low;
  let w = i32(low.x);
  let h = i32(low.y);
  var d = vec2<f32>(0.0, 0.0);
  for (var c = 0u; c < p.C; c++) {
    let base = (n * p.C + c) * p.H * p.W;
    let nw = pixel(base, w, h);
    let ne = pixel(base, w + 1, h);
    let sw = pixel(base, w, h + 1);
    let se = pixel(base, w + 1, h + 1);
    let g = ${asF32("dy[(n * p.C + c) * p.OH * p.OW + q]", spec.dtype)};
    d.x = fma(g, mix(ne - nw, se - sw, f.y), d.x);
    d.y = fma(g, mix(sw - nw, se - ne, f.x), d.y);
  }${free}
  dgrid[2u * t] = ${fromF32("d.x * p.scale_w", spec.dtype)};
  dgrid[2u * t + 1u] = ${fromF32("d.y * p.scale_h", spec.dtype)};`,
  });
}

/** Channels of a thread of the gradient of x. */
export const GRID_CHANNELS = 4;

/** Gradient of x; a thread owns a pixel of four channels. `blocks` is ⌈C / 4⌉. */
export const gridSampleInputGradKernel: (spec: GridSampleSpec) => Kernel = memoized(buildInputGrad);

function buildInputGrad(spec: GridSampleSpec): Kernel {
  const { dtype } = spec;
  const weight = spec.mode === "nearest"
    ? "let weight = select(0.0, 1.0, all(round(at) == own));"
    : `let near = max(1.0 - abs(at - own), vec2<f32>(0.0));
    let weight = near.x * near.y;`;
  const channels = Array.from({ length: GRID_CHANNELS }, (_, k) => k);
  const lines = (line: (k: number) => string) => channels.map(line).join("\n");
  return kernel({
    name: `grid_sample_${spec.mode}_${spec.padding}_dx`,
    buffers: [
      { name: "grid", access: "read", type: spec.dtype },
      { name: "dy", access: "read", type: spec.dtype },
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: { ...PARAMS, blocks: "u32" },
    module: place(spec),
    body: `${linearThread("t", "p.count")}
  let i = t % (p.H * p.W);
  let block = t / (p.H * p.W);
  let n = block / p.blocks;
  let c0 = (block % p.blocks) * ${GRID_CHANNELS}u;
  let own = vec2<f32>(f32(i % p.W), f32(i / p.W));
  let positions = p.OH * p.OW;
  // Channels past the last read the last one and store nothing.
${lines((k) => `  let from${k} = (n * p.C + min(c0 + ${k}u, p.C - 1u)) * positions;`)}
${lines((k) => `  var total${k} = 0.0;`)}
  for (var q = 0u; q < positions; q++) {
    let at = place(2u * (n * positions + q));
    ${weight}
    if (weight > 0.0) {
${lines((k) => `      total${k} = fma(weight, ${asF32(`dy[from${k} + q]`, dtype)}, total${k});`)}
    }
  }
${
      lines((k) =>
        `  if (c0 + ${k}u < p.C) {
    dx[(n * p.C + c0 + ${k}u) * p.H * p.W + i] = ${fromF32(`total${k}`, dtype)};
  }`
      )
    }`,
  });
}
