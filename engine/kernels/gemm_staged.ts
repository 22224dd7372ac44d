/** The tiled core with tiles of A and B in workgroup memory. */

import { type GemmProblem, range, type Tile } from "./gemm_problem.ts";

/** Workgroup memory for what a tile keeps of A and B, if it does. */
export function stagingMemory({ tm, tn, wx, wy, staged: depth }: Tile): string {
  if (!depth) return "";
  return `
var<workgroup> tile_a: array<vec4<f32>, ${wy * tm * depth / 4}>;
var<workgroup> tile_b: array<vec4<f32>, ${wx * tn * depth / 4}>;`;
}

/**
 * The workgroup reads `depth` columns of A and rows of B together, each element once, into workgroup
 * memory [depth, tile], and every thread multiplies from there, four neighbours at a load. Elements past
 * the share of K are zeros. Threads walk K by seeking anew, since their elements lie apart.
 */
export function stagedBody(problem: GemmProblem, tile: Tile): string[] {
  const { tm, tn, wx, wy, staged: depth = 0 } = tile;
  const [bm, bn, threads] = [wy * tm, wx * tn, wx * wy];
  // Loader variables are numbered apart from those of the thread's own columns.
  const first = 100;
  const lines = [
    `  let tile_m = (tile % p.tiles_m) * ${bm}u;`,
    `  let tile_n = (tile / p.tiles_m) * ${bn}u;`,
    `  let thread = lid.y * ${wx}u + lid.x;`,
  ];
  // A is read along k by neighbouring threads, B along n.
  const loads = (count: number, along: (at: string) => { inner: string; k: string }) =>
    range(count / threads).map((q) => ({ id: first + q, ...along(`(thread + ${q * threads}u)`) }));
  const loadsA = loads(
    bm * depth,
    (at) => ({ inner: `${at} / ${depth}u`, k: `${at} % ${depth}u` }),
  );
  const loadsB = loads(bn * depth, (at) => ({ inner: `${at} % ${bn}u`, k: `${at} / ${bn}u` }));
  for (const { id, inner } of loadsA) {
    lines.push(problem.a.prepare(id, `min(tile_m + ${inner}, p.M - 1u)`));
  }
  for (const { id, inner } of loadsB) {
    lines.push(problem.b.prepare(id, `min(tile_n + ${inner}, p.N - 1u)`));
  }
  for (const i of range(tm)) for (const j of range(tn)) lines.push(`  var c${i}_${j} = 0.0;`);
  lines.push(`  for (var k0 = k_begin; k0 < k_end; k0 += ${depth}u) {`);
  const stage = (
    load: { id: number; inner: string; k: string },
    into: { name: string; width: number; value: string },
  ) =>
    lines.push(`    {
    let wanted = k0 + ${load.k};
    let k_begin = min(wanted, k_end - 1u);
    let k = k_begin;
${problem.walk.start}
    let slot = (${load.k}) * ${into.width}u + ${load.inner};
    ${into.name}[slot >> 2u][slot & 3u] = select(0.0, ${into.value}, wanted < k_end);
    }`);
  for (const l of loadsA) stage(l, { name: "tile_a", width: bm, value: problem.a.load(l.id) });
  for (const l of loadsB) stage(l, { name: "tile_b", width: bn, value: problem.b.load(l.id) });
  lines.push("    workgroupBarrier();");
  const part = "xyzw";
  for (const kk of range(depth)) {
    for (const i of range(tm / 4)) {
      lines.push(`    let a${kk}_${i} = tile_a[${kk * bm / 4 + i}u + lid.y * ${tm / 4}u];`);
    }
    for (const j of range(tn / 4)) {
      lines.push(`    let b${kk}_${j} = tile_b[${kk * bn / 4 + j * wx}u + lid.x];`);
    }
    for (const i of range(tm)) {
      for (const j of range(tn)) {
        const a = `a${kk}_${i >> 2}.${part[i & 3]}`;
        const b = `b${kk}_${j >> 2}.${part[j & 3]}`;
        lines.push(`    c${i}_${j} = fma(${a}, ${b}, c${i}_${j});`);
      }
    }
  }
  lines.push("    workgroupBarrier();", "  }");
  for (const j of range(tn)) {
    const n = `(tile_n + ${(j >> 2) * wx * 4 + (j & 3)}u + lid.x * 4u)`;
    lines.push(`  if (${n} < p.N) {`, problem.b.prepare(j, n), problem.prepareStore?.(j, n) ?? "");
    for (const i of range(tm)) {
      const m = `(tile_m + lid.y * ${tm}u + ${i}u)`;
      lines.push(`    if (${m} < p.M) { ${problem.store({ j, m, n, value: `c${i}_${j}` })} }`);
    }
    lines.push("  }");
  }
  return lines;
}
