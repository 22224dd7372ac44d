/**
 * Winograd's F(2 x 2, 3 x 3): a 3 x 3 convolution of stride 1 by 16 products for 4 outputs where the plain
 * sum takes 36.
 *
 *   U[z] = G g Gᵀ of every filter, V[z] = Bᵀ d B of every 4 x 4 tile of X, z = 0..15
 *   M[z] = U[z] · V[z], [rows, channels] by [channels, tiles], by the matrix core
 *   Y    = Aᵀ M A of every tile, + bias, through the activation
 *
 * Tiles overlap by two and start 2 apart. Tensors are NCHW and contiguous; U, V and M are f32.
 * Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
 */

import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** Elements of a transformed tile. */
export const WINOGRAD_POINTS = 16;

const FOUR = [0, 1, 2, 3] as const;

/** Rows of Gᵀ-like transforms as WGSL of three values. */
const weightRows = (a: string, b: string, c: string) => [
  a,
  `0.5 * (${a} + ${b} + ${c})`,
  `0.5 * (${a} - ${b} + ${c})`,
  c,
];

const inputRows = (a: string, b: string, c: string, d: string) => [
  `${a} - ${c}`,
  `${b} + ${c}`,
  `${c} - ${b}`,
  `${b} - ${d}`,
];

const outputRows = (a: string, b: string, c: string, d: string) => [
  `${a} + ${b} + ${c}`,
  `${b} - ${c} - ${d}`,
];

/**
 * U [16, rows, channels]; with `turned` rows are the filters' channels and the filters are turned by half a
 * turn, as dX takes them.
 */
export const winogradWeightKernel: (spec: { readonly turned: boolean }) => Kernel = memoized(
  ({ turned }: { readonly turned: boolean }) => {
    const g = (i: number) => `w[from_w + ${turned ? 8 - i : i}u]`;
    return kernel({
      name: `winograd_weight${turned ? "_turned" : ""}`,
      buffers: [
        { name: "w", access: "read", type: "f32" },
        { name: "u", access: "write", type: "f32" },
      ],
      params: { count: "u32", channels: "u32", rows: "u32" },
      body: `${linearThread("t", "p.count")}
  let row = t / p.channels;
  let channel = t % p.channels;
  let from_w = (${turned ? "channel * p.rows + row" : "t"}) * 9u;
${Array.from({ length: 9 }, (_, i) => `  let g${i} = ${g(i)};`).join("\n")}
${
        [0, 1, 2].flatMap((j) =>
          weightRows(`g${j}`, `g${3 + j}`, `g${6 + j}`).map((v, i) =>
            `  let h${i}_${j} = ${v};`
          )
        ).join("\n")
      }
${
        FOUR.flatMap((i) =>
          weightRows(`h${i}_0`, `h${i}_1`, `h${i}_2`).map((v, j) =>
            `  u[${4 * i + j}u * p.count + t] = ${v};`
          )
        ).join("\n")
      }`,
    });
  },
);

/** V [16, channels, P] of the tiles of some images, P at least their number; 0 past the last. */
export const winogradInputKernel: () => Kernel = memoized(() =>
  kernel({
    name: "winograd_input",
    buffers: [
      { name: "x", access: "read", type: "f32" },
      { name: "v", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      channels: "u32",
      H: "u32",
      W: "u32",
      pad_h: "i32",
      pad_w: "i32",
      TH: "u32",
      TW: "u32",
      tiles: "u32",
      P: "u32",
      x_off: "u32",
    },
    module: `
fn read_x(base: u32, h: i32, w: i32) -> f32 {
  let inside = (u32(h) < p.H) & (u32(w) < p.W);
  let at = base + select(0u, u32(h) * p.W + u32(w), inside);
  return select(0.0, x[at], inside);
}`,
    body: `${linearThread("t", "p.count")}
  let channel = t / p.P;
  let tile = t % p.P;
  if (tile >= p.tiles) {
${Array.from({ length: 16 }, (_, z) => `    v[${z}u * p.count + t] = 0.0;`).join("\n")}
    return;
  }
  let image = tile / (p.TH * p.TW);
  let base = p.x_off + (image * p.channels + channel) * p.H * p.W;
  let h = i32(tile / p.TW % p.TH) * 2 - p.pad_h;
  let w = i32(tile % p.TW) * 2 - p.pad_w;
${
      FOUR.flatMap((i) => FOUR.map((j) => `  let d${i}_${j} = read_x(base, h + ${i}, w + ${j});`))
        .join("\n")
    }
${
      FOUR.flatMap((j) =>
        inputRows(`d0_${j}`, `d1_${j}`, `d2_${j}`, `d3_${j}`).map((v, i) =>
          `  let b${i}_${j} = ${v};`
        )
      ).join("\n")
    }
${
      FOUR.flatMap((i) =>
        inputRows(`b${i}_0`, `b${i}_1`, `b${i}_2`, `b${i}_3`).map((v, j) =>
          `  v[${4 * i + j}u * p.count + t] = ${v};`
        )
      ).join("\n")
    }`,
  })
);

/** What varies between the text of the last transform. */
export interface WinogradOutputSpec {
  /** Adds bias[row]. */
  readonly bias: boolean;
  readonly epilogue?: Epilogue;
}

/** Y of the tiles of some images. */
export const winogradOutputKernel: (spec: WinogradOutputSpec) => Kernel = memoized(buildOutput);

function buildOutput({ bias, epilogue }: WinogradOutputSpec): Kernel {
  return kernel({
    name: `winograd_output${bias ? "_bias" : ""}${epilogue ? `_${epilogue.name}` : ""}`,
    buffers: [
      { name: "m", access: "read", type: "f32" },
      ...(bias ? [{ name: "bias", access: "read", type: "f32" } as const] : []),
      { name: "y", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      rows: "u32",
      OH: "u32",
      OW: "u32",
      TH: "u32",
      TW: "u32",
      P: "u32",
      points: "u32",
      y_off: "u32",
    },
    module: epilogueModule(epilogue),
    body: `${linearThread("t", "p.count")}
  let tiles = p.TH * p.TW;
  let plane = t / tiles;
  let tile = t % tiles;
  let row = plane % p.rows;
  let at = row * p.P + plane / p.rows * tiles + tile;
${
      FOUR.flatMap((i) => FOUR.map((j) => `  let m${i}_${j} = m[${4 * i + j}u * p.points + at];`))
        .join("\n")
    }
${
      FOUR.flatMap((j) =>
        outputRows(`m0_${j}`, `m1_${j}`, `m2_${j}`, `m3_${j}`).map((v, i) =>
          `  let a${i}_${j} = ${v};`
        )
      ).join("\n")
    }
  let start = ${bias ? "bias[row]" : "0.0"};
${
      [0, 1].flatMap((i) =>
        outputRows(`a${i}_0`, `a${i}_1`, `a${i}_2`, `a${i}_3`).map((v, j) =>
          `  let y${i}_${j} = ${activated(`start + (${v})`, { epilogue })};`
        )
      ).join("\n")
    }
  let h = tile / p.TW * 2u;
  let w = tile % p.TW * 2u;
  let to = p.y_off + (plane * p.OH + h) * p.OW + w;
  y[to] = y0_0;
  if (w + 1u < p.OW) { y[to + 1u] = y0_1; }
  if (h + 1u < p.OH) {
    y[to + p.OW] = y1_0;
    if (w + 1u < p.OW) { y[to + p.OW + 1u] = y1_1; }
  }`,
  });
}
