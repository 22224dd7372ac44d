/**
 * The tiled core that matrix products and convolutions share:
 *
 *   C[m, n] = sum over k of A(m, k) · B(k, n)
 *
 * A problem says how to read A and B and where C goes; the core owns tiles, registers and the loop.
 * A thread owns `tm` rows by `tn` columns in named registers (naga clamps every index into an
 * array); a workgroup is `wx` threads along n by `wy` along m. Columns of a thread lie `wx` apart, so
 * that neighbouring lanes read neighbouring columns. Tiles are numbered in one dimension and folded
 * over x and y; z counts batches times shares of K. Rows and columns past the end read the last
 * valid one and store nothing.
 *
 * FLOPs: 2·M·N·K. Source: ours.
 */

import { lanesBody } from "./gemm_lanes.ts";
import { matricesBody, matricesMemory } from "./gemm_matrices.ts";
import { GEMM_PARAMS, type GemmProblem, loaded, placeLines, type Tile } from "./gemm_problem.ts";
import { stagedBody, stagingMemory } from "./gemm_staged.ts";
import { type Kernel, kernel, range, shapeName } from "./kernel.ts";

export type { GemmProblem, GemmSide, Tile } from "./gemm_problem.ts";

/** Builds the kernel. */
export function gemmKernel(problem: GemmProblem, tile: Tile): Kernel {
  const { tm, tn, wx, wy, staged, matrix } = tile;
  const kind = matrix ? `matrix${shapeName(matrix)}` : tile.lanes ? "lanes" : `staged${staged}`;
  const variant = matrix || tile.lanes || staged ? `_${kind}` : "";
  const body = matrix ? matricesBody : tile.lanes ? lanesBody : staged ? stagedBody : directBody;
  const memory = matrix ? matricesMemory(problem, tile) : stagingMemory(problem, tile);
  const lines = [...placeLines(problem), ...body(problem, tile)];
  return kernel({
    name: `${problem.name}_${wy * tm}x${wx * tn}${variant}`,
    buffers: problem.buffers,
    params: { ...GEMM_PARAMS, ...problem.params },
    workgroup: [wx, wy, 1],
    module: `${problem.module ?? ""}${memory}`,
    body: lines.filter((l) => l !== "").join("\n"),
  });
}

/** Every thread reads its operands from memory. */
function directBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy } = tile;
  const rows = range(tm);
  const columns = range(tn);
  const lines = [
    `  let m0 = (tile % p.tiles_m) * ${wy * tm}u + lid.y * ${tm}u;`,
    `  let n0 = (tile / p.tiles_m) * ${wx * tn}u + lid.x;`,
  ];
  for (const i of rows) lines.push(problem.a.prepare(i, `min(m0 + ${i}u, p.M - 1u)`));
  for (const j of columns) lines.push(problem.b.prepare(j, `min(n0 + ${j * wx}u, p.N - 1u)`));
  for (const i of rows) for (const j of columns) lines.push(`  var c${i}_${j} = 0.0;`);
  lines.push(problem.walk.start, "  for (var k = k_begin; k < k_end; k++) {");
  for (const j of columns) lines.push(`    let b${j} = ${loaded(problem.b, j)};`);
  for (const i of rows) {
    lines.push(`    let a${i} = ${loaded(problem.a, i)};`);
    for (const j of columns) lines.push(`    c${i}_${j} = fma(a${i}, b${j}, c${i}_${j});`);
  }
  lines.push(problem.walk.step, "  }");
  for (const j of columns) {
    const n = `(n0 + ${j * wx}u)`;
    lines.push(`  if (${n} < p.N) {`, problem.prepareStore?.(j, n) ?? "");
    for (const i of rows) {
      const m = `(m0 + ${i}u)`;
      lines.push(`    if (${m} < p.M) { ${problem.store({ j, m, n, value: `c${i}_${j}` })} }`);
    }
    lines.push("  }");
  }
  return lines;
}
