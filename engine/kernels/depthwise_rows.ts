/**
 * Depthwise convolution with every row of X read once for several rows of Y, where a load costs more than
 * arithmetic, as on software adapters.
 *
 *   forward  a thread owns `rows` x 4 outputs side by side and walks down the rows of X that they read;
 *            row t of X meets kernel row t - r·stride in output row r
 *   dX       for stride 1: the same with the kernel turned by half a turn; for stride 2 a thread owns 2 x 4
 *            blocks of 2 x 2 elements, each of which meets its own quarter of the kernel
 *   dW       a thread owns one channel and a share of the images and groups of 4 columns, walks down the
 *            rows of X with as many of them at hand as the kernel has, and adds up every weight
 *
 * One output channel an input channel, dilation 1. Tensors are NCHW and contiguous. Source: ours.
 */

import { asF32, fromF32, type Kernel, kernel, linearThread, memoized, range } from "./kernel.ts";
import type { Param } from "./kernel.ts";

/** What varies between the text of these kernels. */
export interface DepthwiseRowsSpec {
  /** Type of inputs and outputs; sums are f32. Shares of dW are always f32. */
  readonly dtype: "f32" | "f16";
  /** Columns of the kernel, and rows for dW. */
  readonly size: number;
  /** Step of the window in both dimensions. */
  readonly stride: number;
  /** Adds bias[c]. */
  readonly bias?: boolean;
  /** Takes the kernel's elements from the last to the first. */
  readonly turned?: boolean;
}

/** Columns of Y that a thread owns. */
export const ROWS_COLUMNS = 4;

/** Rows of Y that a thread of the forward kernel owns. */
export function rowsOf(stride: number): number {
  return stride === 1 ? 4 : 2;
}

const PARAMS: Readonly<Record<string, Param["type"]>> = {
  count: "u32",
  B: "u32",
  C: "u32",
  H: "u32",
  W: "u32",
  OH: "u32",
  OW: "u32",
  KH: "u32",
  pad_h: "i32",
  pad_w: "i32",
  across: "u32", // groups of columns in a row of Y
};

/** Columns of X that the outputs of a thread read. */
function reach({ size, stride }: DepthwiseRowsSpec): number[] {
  return range((ROWS_COLUMNS - 1) * stride + size);
}

/** Functions that read a buffer at a row and column of a plane; 0 outside. */
function reader(name: string, rows: string, columns: string, dtype: "f32" | "f16"): string {
  return `
fn read_${name}(base: u32, h: i32, w: i32) -> f32 {
  let inside = (u32(h) < ${rows}) & (u32(w) < ${columns});
  let at = base + select(0u, u32(h) * ${columns} + u32(w), inside);
  return select(0.0, ${asF32(`${name}[at]`, dtype)}, inside);
}`;
}

/** Y, or dX of stride 1 with dY in the place of X. */
export const depthwiseRowsKernel: (spec: DepthwiseRowsSpec) => Kernel = memoized(buildRows);

function buildRows(spec: DepthwiseRowsSpec): Kernel {
  const { dtype, size, stride, bias, turned } = spec;
  const rows = range(rowsOf(stride));
  const columns = range(ROWS_COLUMNS);
  const taps = range(size);
  // The kernel rows of the last steps: output row r meets the one of r·stride steps ago.
  const past = range((rows.length - 1) * stride + 1);
  const each = (line: (r: number, j: number) => string) =>
    rows.flatMap((r) => columns.map((j) => line(r, j))).join("\n");
  return kernel({
    name: `depthwise_rows_${size}_${stride}${turned ? "_turned" : ""}${bias ? "_bias" : ""}`,
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "w", access: "read", type: dtype },
      ...(bias ? [{ name: "bias", access: "read", type: dtype } as const] : []),
      { name: "y", access: "write", type: dtype },
    ],
    params: { ...PARAMS, down: "u32" },
    module: reader("x", "p.H", "p.W", dtype),
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.across * p.down);
  let rest = t % (p.across * p.down);
  let oh = rest / p.across * ${rows.length}u;
  let ow = rest % p.across * ${ROWS_COLUMNS}u;
  let c = plane % p.C;
  let x_base = plane * p.H * p.W;
  let ih = i32(oh) * ${stride} - p.pad_h;
  let iw = i32(ow) * ${stride} - p.pad_w;
  let w_base = c * p.KH * ${size}u;
  let start = ${bias ? asF32("bias[c]", dtype) : "0.0"};
${each((r, j) => `  var y${r}_${j} = start;`)}
${past.flatMap((s) => taps.map((q) => `  var w${s}_${q} = 0.0;`)).join("\n")}
  for (var step = 0u; step < p.KH + ${past.length - 1}u; step++) {
${
      past.slice(1).reverse().flatMap((s) => taps.map((q) => `    w${s}_${q} = w${s - 1}_${q};`))
        .join("\n")
    }
    let tap = select(0u, ${turned ? "p.KH - 1u - step" : "step"}, step < p.KH);
    let w_row = w_base + tap * ${size}u;
${
      taps.map((q) => `    w0_${q} = ${asF32(`w[w_row + ${turned ? size - 1 - q : q}u]`, dtype)};`)
        .join("\n")
    }
${reach(spec).map((i) => `    let x${i} = read_x(x_base, ih + i32(step), iw + ${i});`).join("\n")}
${
      rows.map((r) =>
        `    if (step - ${r * stride}u < p.KH) {
${
          columns.flatMap((j) =>
            taps.map((q) =>
              `      y${r}_${j} = fma(w${r * stride}_${q}, x${j * stride + q}, y${r}_${j});`
            )
          ).join("\n")
        }
    }`
      ).join("\n")
    }
  }
${
      each((r, j) =>
        `  if (oh + ${r}u < p.OH && ow + ${j}u < p.OW) { y[(plane * p.OH + oh + ${r}u) * p.OW + ow + ${j}u] = ${
          fromF32(`y${r}_${j}`, dtype)
        }; }`
      )
    }`,
  });
}

/** Rows of blocks that a thread of dX for stride 2 owns. */
export const BLOCK_ROWS = 2;

/**
 * dX of stride 2. Element 2a + e of the padded row, e = 0 or 1, meets tap e + 2m in output a - m; so the four
 * elements of a block read the same (size + 1) / 2 squared outputs. `first_h` and `first_w` are the blocks of
 * the first elements.
 */
export const depthwiseRowsInputGradKernel: (
  spec: Omit<DepthwiseRowsSpec, "stride" | "turned">,
) => Kernel = memoized(buildInputGrad);

function buildInputGrad(
  { dtype, size, bias }: Omit<DepthwiseRowsSpec, "stride" | "turned">,
): Kernel {
  const taps = range(size);
  const back = (size - 1) / 2;
  const [down, across] = [range(BLOCK_ROWS), range(ROWS_COLUMNS)];
  const elements = (line: (h: number, w: number) => string) =>
    range(2 * BLOCK_ROWS).flatMap((h) => range(2 * ROWS_COLUMNS).map((w) => line(h, w))).join("\n");
  /** Pairs of an element of `blocks` blocks and the tap that takes it to output `at` - back. */
  const meeting = (blocks: readonly number[], at: number) =>
    blocks.flatMap((block) =>
      [0, 1].map((e) => ({ element: 2 * block + e, tap: e + 2 * (block + back - at) }))
    ).filter(({ tap }) => tap >= 0 && tap < size);
  const products = (i: number) =>
    range(ROWS_COLUMNS + back).flatMap((j) =>
      meeting(down, i).flatMap((h) =>
        meeting(across, j).map((w) => {
          const sum = `c${h.element}_${w.element}`;
          return `    ${sum} = fma(w${h.tap}_${w.tap}, y${j}, ${sum});`;
        })
      )
    );
  return kernel({
    name: `depthwise_rows_dx_${size}${bias ? "_bias" : ""}`,
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "w", access: "read", type: dtype },
      ...(bias ? [{ name: "bias", access: "read", type: dtype } as const] : []),
      { name: "dx", access: "write", type: dtype },
    ],
    params: { ...PARAMS, down: "u32", first_h: "u32", first_w: "u32" },
    module: reader("dy", "p.OH", "p.OW", dtype),
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.across * p.down);
  let rest = t % (p.across * p.down);
  let a = i32(p.first_h + rest / p.across * ${BLOCK_ROWS}u);
  let b = i32(p.first_w + rest % p.across * ${ROWS_COLUMNS}u);
  let c = plane % p.C;
  let y_base = plane * p.OH * p.OW;
  let w_base = c * ${size * size}u;
${
      taps.flatMap((h) =>
        taps.map((v) => `  let w${h}_${v} = ${asF32(`w[w_base + ${h * size + v}u]`, dtype)};`)
      ).join("\n")
    }
  let start = ${bias ? asF32("bias[c]", dtype) : "0.0"};
${elements((h, w) => `  var c${h}_${w} = start;`)}
${
      range(BLOCK_ROWS + back).map((i) =>
        `  {
${
          range(ROWS_COLUMNS + back).map((j) =>
            `    let y${j} = read_dy(y_base, a + ${i - back}, b + ${j - back});`
          ).join("\n")
        }
${products(i).join("\n")}
  }`
      ).join("\n")
    }
  let ih = a * 2 - p.pad_h;
  let iw = b * 2 - p.pad_w;
${
      elements((h, w) =>
        `  if (u32(ih + ${h}) < p.H && u32(iw + ${w}) < p.W) { dx[(plane * p.H + u32(ih + ${h})) * p.W + u32(iw + ${w})] = ${
          fromF32(`c${h}_${w}`, dtype)
        }; }`
      )
    }`,
  });
}

/** dW in shares [C, size, size, splits], which a sum adds up. */
export const depthwiseRowsWeightGradKernel: (spec: DepthwiseRowsSpec) => Kernel = memoized(
  buildWeightGrad,
);

function buildWeightGrad(spec: DepthwiseRowsSpec): Kernel {
  const { dtype, size, stride } = spec;
  const taps = range(size);
  const columns = range(ROWS_COLUMNS);
  const weights = (line: (kh: number, kw: number) => string) =>
    taps.flatMap((kh) => taps.map((kw) => line(kh, kw))).join("\n");
  // Rows of X at hand; a step drops `stride` and reads as many. Steps before the first row of Y fill them.
  const before = Math.ceil((size - stride) / stride);
  const x = reach(spec);
  const kept = range(Math.max(size - stride, 0));
  return kernel({
    name: `depthwise_rows_dw_${size}_${stride}`,
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "x", access: "read", type: dtype },
      { name: "dw", access: "write", type: "f32" },
    ],
    params: { ...PARAMS, splits: "u32" },
    module: reader("x", "p.H", "p.W", dtype) + reader("dy", "p.OH", "p.OW", dtype),
    body: `${linearThread("t", "p.count")}
  let c = t / p.splits;
  let share = t % p.splits;
${weights((kh, kw) => `  var w${kh}_${kw} = 0.0;`)}
${taps.flatMap((h) => x.map((i) => `  var x${h}_${i} = 0.0;`)).join("\n")}
  for (var item = share; item < p.B * p.across; item += p.splits) {
    let plane = item / p.across * p.C + c;
    let ow = i32(item % p.across * ${ROWS_COLUMNS}u);
    let x_base = plane * p.H * p.W;
    let y_base = plane * p.OH * p.OW;
    let iw = ow * ${stride} - p.pad_w;
    for (var oh = -${before}; oh < i32(p.OH); oh++) {
      let ih = oh * ${stride} - p.pad_h;
${kept.flatMap((h) => x.map((i) => `      x${h}_${i} = x${h + stride}_${i};`)).join("\n")}
${
      taps.slice(kept.length).flatMap((h) =>
        x.map((i) => `      x${h}_${i} = read_x(x_base, ih + ${h}, iw + ${i});`)
      ).join("\n")
    }
      if (oh >= 0) {
${columns.map((j) => `        let y${j} = read_dy(y_base, oh, ow + ${j});`).join("\n")}
${
      weights((kh, kw) =>
        columns.map((j) =>
          `        w${kh}_${kw} = fma(y${j}, x${kh}_${j * stride + kw}, w${kh}_${kw});`
        ).join("\n")
      )
    }
      }
    }
  }
  let dw_base = (c * ${size * size}u) * p.splits + share;
${weights((kh, kw) => `  dw[dw_base + ${kh * size + kw}u * p.splits] = w${kh}_${kw};`)}`,
  });
}
