/**
 * y[b, r, c] = x[b, c, r]: a contiguous copy of an array whose innermost dimension is not its last one.
 * R runs along x's memory, C along y's; C steps by `ld` in x.
 *
 * Two forms. `lines`: a thread owns {@linkcode TRANSPOSE_LINE} neighbours of y, a cache line of f32, and
 * the lanes beside it read x's neighbours. Measured on software Vulkan (two cores), f32, as part of the rate
 * of a contiguous copy: 0.71 to 0.78; blocks of 4 x 4 in registers 0.58, an element a thread 0.40.
 * `tiles`: a workgroup turns a tile of 32 x 32 in its memory, so that both sides are read and written in
 * full sectors (Ruetsch and Micikevicius, Optimizing Matrix Transpose in CUDA, 2009): for a GPU.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type Kernel, kernel, memoized } from "./kernel.ts";

/** Elements of a thread of the form `lines`. */
export const TRANSPOSE_LINE = 16;
/** Rows and columns of a tile. */
export const TRANSPOSE_TILE = 32;
/** Elements of y's rows and columns that a workgroup of each form covers. */
export const TRANSPOSE_COVERS = {
  lines: { rows: 8, columns: 8 * TRANSPOSE_LINE },
  tiles: { rows: TRANSPOSE_TILE, columns: TRANSPOSE_TILE },
} as const;

/** Builds the kernel. Grid: rows, columns, batch. */
export const transposeKernel: (spec: { dtype: DType; form: "lines" | "tiles" }) => Kernel =
  memoized(({ dtype, form }: { dtype: DType; form: "lines" | "tiles" }) => {
    const type = DTYPES[dtype].storage;
    return kernel({
      name: `transpose_${form}_${type}`,
      buffers: [
        { name: "b_x", access: "read", type },
        { name: "b_y", access: "write", type },
      ],
      params: {
        R: "u32",
        C: "u32",
        ld: "u32",
        x_batch: "u32",
        y_batch: "u32",
        y_row: "u32",
        x_off: "u32",
      },
      workgroup: form === "lines" ? [8, 8, 1] : [TRANSPOSE_TILE, 8, 1],
      module: form === "lines"
        ? ""
        : `var<workgroup> tile: array<${type}, ${TRANSPOSE_TILE * (TRANSPOSE_TILE + 1)}>;`,
      body: form === "lines" ? lines() : tiles(),
    });
  });

function lines(): string {
  const all = Array.from({ length: TRANSPOSE_LINE }, (_, i) => i);
  return `  let r = wid.x * 8u + lid.x;
  let c = (wid.y * 8u + lid.y) * ${TRANSPOSE_LINE}u;
  if (r >= p.R || c >= p.C) { return; }
  let start = p.x_off + wid.z * p.x_batch + r + c * p.ld;
  let to = wid.z * p.y_batch + r * p.y_row + c;
  if (c + ${TRANSPOSE_LINE}u <= p.C) {
${all.map((i) => `    let v${i} = b_x[start + ${i}u * p.ld];`).join("\n")}
${all.map((i) => `    b_y[to + ${i}u] = v${i};`).join("\n")}
    return;
  }
  for (var i = 0u; i < p.C - c; i++) { b_y[to + i] = b_x[start + i * p.ld]; }`;
}

function tiles(): string {
  const turns = [0, 8, 16, 24];
  return `  let r0 = wid.x * 32u;
  let c0 = wid.y * 32u;
  let start = p.x_off + wid.z * p.x_batch + r0 + lid.x;
  let to = wid.z * p.y_batch + c0 + lid.x;
${
    turns.map((k) =>
      `  if (r0 + lid.x < p.R && c0 + lid.y + ${k}u < p.C) {
    tile[(lid.y + ${k}u) * 33u + lid.x] = b_x[start + (c0 + lid.y + ${k}u) * p.ld];
  }`
    ).join("\n")
  }
  workgroupBarrier();
${
    turns.map((k) =>
      `  if (r0 + lid.y + ${k}u < p.R && c0 + lid.x < p.C) {
    b_y[to + (r0 + lid.y + ${k}u) * p.y_row] = tile[lid.x * 33u + lid.y + ${k}u];
  }`
    ).join("\n")
  }`;
}
