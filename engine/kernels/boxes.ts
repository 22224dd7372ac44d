/**
 * Boxes of object detection: anchors, their targets, suppression. Boxes are [xmin, ymin, xmax, ymax].
 *
 * Source: apache/mxnet@b84609d, src/operator/contrib/multibox_{prior,target,detection}, bounding_box.
 * Greedy steps run in one workgroup an image; all else has a thread an element.
 */

import { type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** Threads of a workgroup that owns an image. */
export const BOX_THREADS = 64;

/** Larger than every key of a box that counts. */
export const NO_KEY = 3e38;

/** WGSL `iou(a, b)`; 0 where the union is empty. */
export const IOU = `
fn iou(a: vec4<f32>, b: vec4<f32>) -> f32 {
  let w = max(0.0, min(a.z, b.z) - max(a.x, b.x));
  let h = max(0.0, min(a.w, b.w) - max(a.y, b.y));
  let inter = w * h;
  let area = (a.z - a.x) * (a.w - a.y) + (b.z - b.x) * (b.w - b.y) - inter;
  if (area <= 0.0) { return 0.0; }
  return inter / area;
}`;

function boxAt(name: string): string {
  return `
fn ${name}_box(at: u32) -> vec4<f32> {
  return vec4<f32>(${name}[at], ${name}[at + 1u], ${name}[at + 2u], ${name}[at + 3u]);
}`;
}

/** First lines of a kernel with a workgroup an image. */
const IMAGE = `  let b = wid.y * nwg.x + wid.x;
  if (b >= p.B) { return; }`;

/** Anchors [H·W·A, 4] of a map: centre of the cell ± half[a]. */
export const priorKernel: () => Kernel = memoized(buildPrior);

function buildPrior(): Kernel {
  return kernel({
    name: "multibox_prior",
    buffers: [
      { name: "half_size", access: "read", type: "f32" },
      { name: "y", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      W: "u32",
      A: "u32",
      step_x: "f32",
      step_y: "f32",
      offset_x: "f32",
      offset_y: "f32",
      low: "f32",
      high: "f32",
    },
    body: `${linearThread("t", "p.count")}
  let a = t % p.A;
  let cell = t / p.A;
  let cx = (f32(cell % p.W) + p.offset_x) * p.step_x;
  let cy = (f32(cell / p.W) + p.offset_y) * p.step_y;
  let w = half_size[2u * a];
  let h = half_size[2u * a + 1u];
  y[4u * t] = clamp(cx - w, p.low, p.high);
  y[4u * t + 1u] = clamp(cy - h, p.low, p.high);
  y[4u * t + 2u] = clamp(cx + w, p.low, p.high);
  y[4u * t + 3u] = clamp(cy + h, p.low, p.high);`,
  });
}

/** counts[b] = rows of labels [B, L, columns] before the first of class -1. */
export const countLabelsKernel: () => Kernel = memoized(buildCountLabels);

function buildCountLabels(): Kernel {
  return kernel({
    name: "multibox_count_labels",
    buffers: [
      { name: "labels", access: "read", type: "f32" },
      { name: "counts", access: "write", type: "u32" },
    ],
    params: { B: "u32", L: "u32", columns: "u32" },
    body: `${linearThread("b", "p.B")}
  var n = 0u;
  while (n < p.L) {
    if (labels[(b * p.L + n) * p.columns] == -1.0) { break; }
    n++;
  }
  counts[b] = n;`,
  });
}

/** overlaps[b, a, l] = IoU of anchor a and object l; 0 past the objects of the image. */
export const overlapsKernel: () => Kernel = memoized(buildOverlaps);

function buildOverlaps(): Kernel {
  return kernel({
    name: "multibox_overlaps",
    buffers: [
      { name: "anchors", access: "read", type: "f32" },
      { name: "labels", access: "read", type: "f32" },
      { name: "counts", access: "read", type: "u32" },
      { name: "overlaps", access: "write", type: "f32" },
    ],
    params: { count: "u32", A: "u32", L: "u32", columns: "u32" },
    module: IOU + boxAt("anchors") + boxAt("labels"),
    body: `${linearThread("t", "p.count")}
  let l = t % p.L;
  let a = (t / p.L) % p.A;
  let b = t / p.L / p.A;
  var value = 0.0;
  if (l < counts[b]) {
    value = iou(anchors_box(4u * a), labels_box((b * p.L + l) * p.columns + 1u));
  }
  overlaps[t] = value;`,
  });
}

/**
 * Greedy bipartite matching, a workgroup an image: the pair of the largest overlap above 1e-6 among
 * unmatched anchors and objects is matched, until none is left. Of equal ones the first anchor, then
 * the first object. An anchor's best object is kept and looked for again only when it was taken.
 */
export const matchKernel: () => Kernel = memoized(buildMatch);

function buildMatch(): Kernel {
  const steps = [];
  for (let half = BOX_THREADS / 2; half >= 1; half /= 2) {
    steps.push(`    if (lid.x < ${half}u) {
      let v = tops[lid.x + ${half}u];
      let a = anchors_of[lid.x + ${half}u];
      if (v > tops[lid.x] || (v == tops[lid.x] && a < anchors_of[lid.x])) {
        tops[lid.x] = v;
        anchors_of[lid.x] = a;
      }
    }
    workgroupBarrier();`);
  }
  return kernel({
    name: "multibox_match",
    buffers: [
      { name: "overlaps", access: "read", type: "f32" },
      { name: "counts", access: "read", type: "u32" },
      { name: "matches", access: "write", type: "i32" },
      { name: "best", access: "write", type: "f32" },
      { name: "best_object", access: "write", type: "i32" },
      { name: "taken", access: "write", type: "u32" },
    ],
    params: { B: "u32", A: "u32", L: "u32" },
    workgroup: [BOX_THREADS, 1, 1],
    module: `
var<workgroup> tops: array<f32, ${BOX_THREADS}>;
var<workgroup> anchors_of: array<u32, ${BOX_THREADS}>;
var<workgroup> winner: u32;`,
    body: `${IMAGE}
  let n = counts[b];
  for (var a = lid.x; a < p.A; a += ${BOX_THREADS}u) {
    matches[b * p.A + a] = -1;
    best_object[b * p.A + a] = -2;
  }
  for (var l = lid.x; l < p.L; l += ${BOX_THREADS}u) { taken[b * p.L + l] = 0u; }
  storageBarrier();
  for (var round = 0u; round < n; round++) {
    var top = 1.0e-6;
    var top_anchor = p.A;
    for (var a = lid.x; a < p.A; a += ${BOX_THREADS}u) {
      let at = b * p.A + a;
      if (matches[at] >= 0) { continue; }
      var object = best_object[at];
      var stale = object == -2;
      if (object >= 0) { stale = taken[b * p.L + u32(object)] == 1u; }
      if (stale) {
        var value = 1.0e-6;
        object = -1;
        for (var l = 0u; l < n; l++) {
          let v = overlaps[at * p.L + l];
          if (v > value && taken[b * p.L + l] == 0u) { value = v; object = i32(l); }
        }
        best[at] = value;
        best_object[at] = object;
      }
      if (object >= 0 && best[at] > top) { top = best[at]; top_anchor = a; }
    }
    tops[lid.x] = top;
    anchors_of[lid.x] = top_anchor;
    workgroupBarrier();
${steps.join("\n")}
    if (lid.x == 0u) { winner = anchors_of[0]; }
    let chosen = workgroupUniformLoad(&winner);
    if (chosen == p.A) { break; }
    // All have read what is marked now.
    storageBarrier();
    if (chosen % ${BOX_THREADS}u == lid.x) {
      let object = best_object[b * p.A + chosen];
      matches[b * p.A + chosen] = object;
      taken[b * p.L + u32(object)] = 1u;
    }
    storageBarrier();
    workgroupBarrier();
  }`,
  });
}

/**
 * Anchors left over take their best object if it overlaps by more than the threshold. keys[b, a] is
 * then the background probability of a candidate for a negative, else {@linkcode NO_KEY}.
 */
export const thresholdKernel: (spec: { mining: boolean }) => Kernel = memoized(buildThreshold);

function buildThreshold(spec: { mining: boolean }): Kernel {
  const key = `
  var key = ${NO_KEY.toExponential()};
  if (found < 0 && value < p.mining_threshold) {
    let first = b * p.C * p.A + a;
    var top = cls_pred[first];
    for (var c = 1u; c < p.C; c++) { top = max(top, cls_pred[first + c * p.A]); }
    var total = 0.0;
    for (var c = 0u; c < p.C; c++) { total += exp(cls_pred[first + c * p.A] - top); }
    key = exp(cls_pred[first] - top) / total;
  }
  keys[t] = key;`;
  return kernel({
    name: `multibox_threshold${spec.mining ? "_mining" : ""}`,
    buffers: [
      { name: "overlaps", access: "read", type: "f32" },
      { name: "counts", access: "read", type: "u32" },
      ...(spec.mining ? [{ name: "cls_pred", access: "read", type: "f32" } as const] : []),
      { name: "matches", access: "write", type: "i32" },
      ...(spec.mining ? [{ name: "keys", access: "write", type: "f32" } as const] : []),
    ],
    params: {
      count: "u32",
      A: "u32",
      L: "u32",
      C: "u32",
      threshold: "f32",
      mining_threshold: "f32",
    },
    body: `${linearThread("t", "p.count")}
  let b = t / p.A;
  let a = t % p.A;
  var found = matches[t];
  var value = -1.0;
  var object = -1;
  for (var l = 0u; l < counts[b]; l++) {
    let v = overlaps[t * p.L + l];
    if (v > value) { value = v; object = i32(l); }
  }
  if (found < 0 && p.threshold > 0.0 && value > p.threshold) {
    found = object;
    matches[t] = object;
  }${spec.mining ? key : ""}`,
  });
}

/** counts[b] = elements of x [B, A] for which WGSL `test` over `v` holds; a workgroup a row. */
export const countKernel: (spec: { name: string; type: "i32" | "f32"; test: string }) => Kernel =
  memoized(buildCount);

function buildCount(spec: { name: string; type: "i32" | "f32"; test: string }): Kernel {
  const steps = [];
  for (let half = BOX_THREADS / 2; half >= 1; half /= 2) {
    steps.push(`  if (lid.x < ${half}u) { totals[lid.x] += totals[lid.x + ${half}u]; }
  workgroupBarrier();`);
  }
  return kernel({
    name: `count_${spec.name}`,
    buffers: [
      { name: "x", access: "read", type: spec.type },
      { name: "counts", access: "write", type: "u32" },
    ],
    params: { B: "u32", A: "u32" },
    workgroup: [BOX_THREADS, 1, 1],
    module: `\nvar<workgroup> totals: array<u32, ${BOX_THREADS}>;`,
    body: `${IMAGE}
  var total = 0u;
  for (var a = lid.x; a < p.A; a += ${BOX_THREADS}u) {
    let v = x[b * p.A + a];
    total += select(0u, 1u, ${spec.test});
  }
  totals[lid.x] = total;
  workgroupBarrier();
${steps.join("\n")}
  if (lid.x == 0u) { counts[b] = totals[0]; }`,
  });
}

/** cls[b, order[b, j]] = 0 for the first candidates in the order of their keys, else `ignore`. */
export const mineKernel: () => Kernel = memoized(buildMine);

function buildMine(): Kernel {
  return kernel({
    name: "multibox_mine",
    buffers: [
      { name: "keys", access: "read", type: "f32" },
      { name: "order", access: "read", type: "i32" },
      { name: "positives", access: "read", type: "u32" },
      { name: "cls", access: "write", type: "f32" },
    ],
    params: { count: "u32", A: "u32", ratio: "f32", minimum: "u32", ignore: "f32" },
    body: `${linearThread("t", "p.count")}
  let b = t / p.A;
  let a = u32(order[t]);
  let wanted = max(u32(f32(positives[b]) * p.ratio), p.minimum);
  let negative = t % p.A < min(wanted, p.A - positives[b]) && keys[b * p.A + a] < 2.0;
  cls[b * p.A + a] = select(p.ignore, 0.0, negative);`,
  });
}

/** Offsets, masks and classes of the anchors. */
export const targetKernel: (spec: { mining: boolean }) => Kernel = memoized(buildTarget);

function buildTarget(spec: { mining: boolean }): Kernel {
  return kernel({
    name: `multibox_target${spec.mining ? "_mined" : ""}`,
    buffers: [
      { name: "anchors", access: "read", type: "f32" },
      { name: "labels", access: "read", type: "f32" },
      { name: "counts", access: "read", type: "u32" },
      { name: "matches", access: "read", type: "i32" },
      { name: "loc", access: "write", type: "f32" },
      { name: "mask", access: "write", type: "f32" },
      { name: "cls", access: "write", type: "f32" },
    ],
    params: {
      count: "u32",
      A: "u32",
      L: "u32",
      columns: "u32",
      ignore: "f32",
      v0: "f32",
      v1: "f32",
      v2: "f32",
      v3: "f32",
    },
    module: boxAt("anchors") + boxAt("labels"),
    body: `${linearThread("t", "p.count")}
  let b = t / p.A;
  let object = matches[t];
  var offsets = vec4<f32>(0.0);
  var on = 0.0;
  if (object >= 0) {
    let row = (b * p.L + u32(object)) * p.columns;
    let a = anchors_box(4u * (t % p.A));
    let g = labels_box(row + 1u);
    let a_size = a.zw - a.xy;
    let g_size = g.zw - g.xy;
    let shift = ((g.xy + g.zw) * 0.5 - (a.xy + a.zw) * 0.5) / a_size;
    offsets = vec4<f32>(shift, log(g_size / a_size)) / vec4<f32>(p.v0, p.v1, p.v2, p.v3);
    on = 1.0;
    cls[t] = labels[row] + 1.0;
  } else${spec.mining ? " if (counts[b] == 0u)" : ""} {
    cls[t] = ${spec.mining ? "p.ignore" : "select(0.0, p.ignore, counts[b] == 0u)"};
  }
  for (var k = 0u; k < 4u; k++) { mask[4u * t + k] = on; }
  loc[4u * t] = offsets.x;
  loc[4u * t + 1u] = offsets.y;
  loc[4u * t + 2u] = offsets.z;
  loc[4u * t + 3u] = offsets.w;`,
  });
}
