/** Decoding of predicted boxes and non-maximum suppression; see kernels/boxes.ts for the conventions. */

import { BOX_THREADS, IOU, NO_KEY } from "./boxes.ts";
import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** Corner form or centre form [x, y, width, height]. */
export type BoxFormat = "corner" | "center";

/**
 * rows[b, a] = [class, score, box] of the best class but background, and keys[b, a]: -score (or 0, if
 * rows stay in order) where score >= threshold, else {@linkcode NO_KEY}.
 */
export const decodeKernel: (spec: { sorted: boolean }) => Kernel = memoized(buildDecode);

function buildDecode(spec: { sorted: boolean }): Kernel {
  return kernel({
    name: `multibox_decode${spec.sorted ? "_sorted" : ""}`,
    buffers: [
      { name: "cls_prob", access: "read", type: "f32" },
      { name: "loc", access: "read", type: "f32" },
      { name: "anchors", access: "read", type: "f32" },
      { name: "rows", access: "write", type: "f32" },
      { name: "keys", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      A: "u32",
      C: "u32",
      threshold: "f32",
      low: "f32",
      high: "f32",
      v0: "f32",
      v1: "f32",
      v2: "f32",
      v3: "f32",
    },
    body: `${linearThread("t", "p.count")}
  let b = t / p.A;
  let a = t % p.A;
  var score = -1.0;
  var id = 0u;
  for (var c = 1u; c < p.C; c++) {
    let v = cls_prob[(b * p.C + c) * p.A + a];
    if (v > score) { score = v; id = c; }
  }
  let left = anchors[4u * a];
  let top = anchors[4u * a + 1u];
  let aw = anchors[4u * a + 2u] - left;
  let ah = anchors[4u * a + 3u] - top;
  let x = loc[4u * t] * p.v0 * aw + (left + anchors[4u * a + 2u]) * 0.5;
  let y = loc[4u * t + 1u] * p.v1 * ah + (top + anchors[4u * a + 3u]) * 0.5;
  let w = exp(loc[4u * t + 2u] * p.v2) * aw * 0.5;
  let h = exp(loc[4u * t + 3u] * p.v3) * ah * 0.5;
  rows[6u * t] = f32(id) - 1.0;
  rows[6u * t + 1u] = score;
  rows[6u * t + 2u] = clamp(x - w, p.low, p.high);
  rows[6u * t + 3u] = clamp(y - h, p.low, p.high);
  rows[6u * t + 4u] = clamp(x + w, p.low, p.high);
  rows[6u * t + 5u] = clamp(y + h, p.low, p.high);
  let found = id > 0u && score >= p.threshold;
  keys[t] = select(${NO_KEY.toExponential()}, ${spec.sorted ? "-score" : "0.0"}, found);`,
  });
}

/** keys[t] = -score of rows [count, columns] that count, else {@linkcode NO_KEY}. */
export const scoreKeysKernel: () => Kernel = memoized(buildScoreKeys);

function buildScoreKeys(): Kernel {
  return kernel({
    name: "box_nms_keys",
    buffers: [
      { name: "rows", access: "read", type: "f32" },
      { name: "keys", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      columns: "u32",
      score_index: "u32",
      id_index: "i32",
      background: "f32",
      threshold: "f32",
    },
    body: `${linearThread("t", "p.count")}
  let score = rows[t * p.columns + p.score_index];
  var found = score > p.threshold;
  if (p.id_index >= 0 && rows[t * p.columns + u32(max(p.id_index, 0))] == p.background) { found = false; }
  keys[t] = select(${NO_KEY.toExponential()}, -score, found);`,
  });
}

/** y[b, j] = rows[b, order[b, j]] for j < counts[b], else -1 everywhere. From row `keep` on the id is -1. */
export const arrangeKernel: () => Kernel = memoized(buildArrange);

function buildArrange(): Kernel {
  return kernel({
    name: "box_arrange",
    buffers: [
      { name: "rows", access: "read", type: "f32" },
      { name: "order", access: "read", type: "i32" },
      { name: "counts", access: "read", type: "u32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: { count: "u32", A: "u32", columns: "u32", keep: "u32", id_index: "i32" },
    body: `${linearThread("t", "p.count")}
  let column = t % p.columns;
  let row = t / p.columns;
  let b = row / p.A;
  let j = row % p.A;
  var value = -1.0;
  if (j < counts[b] && (j < p.keep || i32(column) != p.id_index)) {
    value = rows[(b * p.A + u32(order[row])) * p.columns + column];
  }
  y[t] = value;`,
  });
}

/**
 * alive[b, j] = 1 for the rows [B, A, columns] that no better living row of the same class (or any,
 * with `force`) overlaps by the threshold. Rows are in order; those from min(counts, keep) on are dead.
 * A workgroup an image: row after row, its threads share the rows behind it.
 */
export const suppressKernel: (spec: { strict: boolean; format: BoxFormat }) => Kernel = memoized(
  buildSuppress,
);

function buildSuppress(spec: { strict: boolean; format: BoxFormat }): Kernel {
  const corner = spec.format === "corner"
    ? "vec4<f32>(rows[at], rows[at + 1u], rows[at + 2u], rows[at + 3u])"
    : `vec4<f32>(rows[at] - rows[at + 2u] * 0.5, rows[at + 1u] - rows[at + 3u] * 0.5,
    rows[at] + rows[at + 2u] * 0.5, rows[at + 1u] + rows[at + 3u] * 0.5)`;
  return kernel({
    name: `box_suppress_${spec.format}${spec.strict ? "_strict" : ""}`,
    buffers: [
      { name: "rows", access: "read", type: "f32" },
      { name: "counts", access: "read", type: "u32" },
      { name: "alive", access: "write", type: "u32" },
    ],
    params: {
      B: "u32",
      A: "u32",
      columns: "u32",
      keep: "u32",
      coord: "u32",
      id_index: "i32",
      force: "u32",
      threshold: "f32",
    },
    workgroup: [BOX_THREADS, 1, 1],
    module: `${IOU}
fn box_of(row: u32) -> vec4<f32> {
  let at = row * p.columns + p.coord;
  return ${corner};
}
fn rivals(a: u32, b: u32) -> bool {
  if (p.force == 1u || p.id_index < 0) { return true; }
  return rows[a * p.columns + u32(p.id_index)] == rows[b * p.columns + u32(p.id_index)];
}`,
    body: `  let b = wid.y * nwg.x + wid.x;
  if (b >= p.B) { return; }
  let n = min(counts[b], p.keep);
  let first = b * p.A;
  for (var j = lid.x; j < p.A; j += ${BOX_THREADS}u) { alive[first + j] = select(0u, 1u, j < n); }
  storageBarrier();
  for (var i = 0u; i < n; i++) {
    if (alive[first + i] == 1u) {
      let mine = box_of(first + i);
      for (var j = i + 1u + lid.x; j < n; j += ${BOX_THREADS}u) {
        if (alive[first + j] == 1u && rivals(first + i, first + j)) {
          if (iou(mine, box_of(first + j)) ${
      spec.strict ? ">" : ">="
    } p.threshold) { alive[first + j] = 0u; }
        }
      }
    }
    storageBarrier();
  }`,
  });
}

/** Sets the id (column 0) of dead rows below min(counts, keep) to -1. */
export const dropIdsKernel: () => Kernel = memoized(buildDropIds);

function buildDropIds(): Kernel {
  return kernel({
    name: "box_drop_ids",
    buffers: [
      { name: "alive", access: "read", type: "u32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: { count: "u32", columns: "u32" },
    body: `${linearThread("t", "p.count")}
  if (alive[t] == 0u) { y[t * p.columns] = -1.0; }`,
  });
}

/** The living rows in front, in order, coordinates in another format; -1 everywhere else. */
export const survivorsKernel: (spec: { from: BoxFormat; to: BoxFormat }) => Kernel = memoized(
  buildSurvivors,
);

function buildSurvivors(spec: { from: BoxFormat; to: BoxFormat }): Kernel {
  const convert = spec.from === spec.to ? "" : spec.to === "corner"
    ? `
    let k = column - p.coord;
    if (column >= p.coord && k < 4u) {
      let at = source * p.columns + p.coord;
      let half_size = rows[at + 2u + k % 2u] * 0.5;
      value = rows[at + k % 2u] + select(half_size, -half_size, k < 2u);
    }`
    : `
    let k = column - p.coord;
    if (column >= p.coord && k < 4u) {
      let at = source * p.columns + p.coord;
      let low = rows[at + k % 2u];
      let high = rows[at + 2u + k % 2u];
      value = select(high - low, (low + high) * 0.5, k < 2u);
    }`;
  return kernel({
    name: `box_survivors_${spec.from}_${spec.to}`,
    buffers: [
      { name: "rows", access: "read", type: "f32" },
      { name: "alive", access: "read", type: "u32" },
      { name: "order", access: "read", type: "i32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: { count: "u32", A: "u32", columns: "u32", coord: "u32" },
    body: `${linearThread("t", "p.count")}
  let column = t % p.columns;
  let row = t / p.columns;
  let source = row - row % p.A + u32(order[row]);
  var value = -1.0;
  if (alive[source] == 1u) {
    value = rows[source * p.columns + column];${convert}
  }
  y[t] = value;`,
  });
}
