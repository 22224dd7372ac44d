/**
 * Depthwise convolution on a discrete GPU, forward and dX of stride 1: a thread owns several outputs one below the other
 * and walks down the rows of X that they read, so that an element is read once a column of the window, and weights
 * once in all. Neighbouring threads have neighbouring columns.
 *
 *   Y[b, c, i, j] = bias[c] + sum over (u, v)  of W[c, u, v] · X[b, c, i·stride + u - pad, j·stride + v - pad]
 *
 * `turned` takes the window's elements from the last to the first, which makes dX of dY. One output channel an input
 * channel, windows of 3 x 3 or 5 x 5, dilation 1. Tensors are NCHW and contiguous.
 *
 * FLOPs: 2·B·C·OH·OW·KH·KW. Source: ours.
 */

import { asF32, fromF32, type Kernel, kernel, linearThread, memoized, range } from "./kernel.ts";

/** What varies between the text of these kernels. */
export interface DepthwiseColumnsSpec {
  /** Type of inputs and outputs; sums are f32. */
  readonly dtype: "f32" | "f16";
  /** Rows and columns of the window. */
  readonly size: number;
  readonly stride: number;
  /** Outputs of a thread. */
  readonly rows: number;
  /** Adds bias[c]. */
  readonly bias: boolean;
  readonly turned: boolean;
}

/** Builds the kernel. */
export const depthwiseColumnsKernel: (spec: DepthwiseColumnsSpec) => Kernel = memoized(
  buildColumns,
);

function buildColumns(spec: DepthwiseColumnsSpec): Kernel {
  const { dtype, size, stride, rows, bias, turned } = spec;
  const taps = range(size), outputs = range(rows);
  const weight = (u: number, v: number) =>
    turned ? (size - 1 - u) * size + size - 1 - v : u * size + v;
  const steps = range((rows - 1) * stride + size).flatMap((step) => {
    // Outputs that read this row of X, and the row of their window that it is.
    const readers = outputs
      .map((r) => ({ r, u: step - r * stride }))
      .filter(({ u }) => u >= 0 && u < size);
    if (readers.length === 0) return [];
    return [
      `  let row${step} = ih + ${step};`,
      ...taps.flatMap((v) => [
        `  let x${step}_${v} = read_x(x_base, row${step}, iw + ${v});`,
        ...readers.map(({ r, u }) => `  y${r} = fma(w${u}_${v}, x${step}_${v}, y${r});`),
      ]),
    ];
  });
  const name = ["depthwise_columns", size, stride, rows, turned && "turned", bias && "bias"];
  return kernel({
    name: name.filter(Boolean).join("_"),
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "w", access: "read", type: dtype },
      ...(bias ? [{ name: "bias", access: "read", type: dtype } as const] : []),
      { name: "y", access: "write", type: dtype },
    ],
    params: {
      count: "u32",
      C: "u32",
      H: "u32",
      W: "u32",
      OH: "u32",
      OW: "u32",
      pad_h: "i32",
      pad_w: "i32",
      down: "u32", // threads in a column of Y
    },
    module: `
fn read_x(base: u32, h: i32, w: i32) -> f32 {
  let inside = (u32(h) < p.H) & (u32(w) < p.W);
  let at = base + select(0u, u32(h) * p.W + u32(w), inside);
  return select(0.0, ${asF32("x[at]", dtype)}, inside);
}`,
    body: `${linearThread("t", "p.count")}
  let plane = t / (p.OW * p.down);
  let rest = t % (p.OW * p.down);
  let oh = rest / p.OW * ${rows}u;
  let ow = rest % p.OW;
  let c = plane % p.C;
  let x_base = plane * p.H * p.W;
  let ih = i32(oh) * ${stride} - p.pad_h;
  let iw = i32(ow) * ${stride} - p.pad_w;
  let w_base = c * ${size * size}u;
${
      taps.flatMap((u) =>
        taps.map((v) => `  let w${u}_${v} = ${asF32(`w[w_base + ${weight(u, v)}u]`, dtype)};`)
      ).join("\n")
    }
  let start = ${bias ? asF32("bias[c]", dtype) : "0.0"};
${outputs.map((r) => `  var y${r} = start;`).join("\n")}
${steps.join("\n")}
${
      outputs.map((r) =>
        `  if (oh + ${r}u < p.OH) { y[(plane * p.OH + oh + ${r}u) * p.OW + ow] = ${
          fromF32(`y${r}`, dtype)
        }; }`
      ).join("\n")
    }`,
  });
}
