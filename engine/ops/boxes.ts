/** MultiBox anchors and targets with MXNet's semantics. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import {
  countKernel,
  countLabelsKernel,
  matchKernel,
  mineKernel,
  overlapsKernel,
  priorKernel,
  targetKernel,
  thresholdKernel,
} from "../kernels/boxes.ts";
import { type Kernel, LINEAR, linearGrid } from "../kernels/kernel.ts";
import { defineOp, type HostArray, notDifferentiable, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { launchLinear } from "./launch_linear.ts";
import { inDType, plain } from "./launch_pointwise.ts";
import { sortedOrder } from "./sort.ts";

/** Attributes of {@linkcode priorBoxes}. */
export interface PriorAttrs {
  readonly H: number;
  readonly W: number;
  readonly sizes: readonly number[];
  readonly ratios: readonly number[];
  readonly clip: boolean;
  /** [y, x]; not positive: 1 / H and 1 / W. */
  readonly steps: readonly [number, number];
  /** [y, x]. */
  readonly offsets: readonly [number, number];
}

/** Half width and height of each anchor of a cell. */
export function halfSizes({ H, W, sizes, ratios }: PriorAttrs): number[] {
  const half = (size: number, ratio: number) => {
    const root = Math.sqrt(ratio);
    return [size * H / W * root / 2, size / root / 2];
  };
  return [
    ...sizes.flatMap((size) => half(size, ratios[0]!)),
    ...ratios.slice(1).flatMap((ratio) => half(sizes[0]!, ratio)),
  ];
}

/** Anchors [1, H·W·(S + R - 1), 4] of a feature map; see `multiboxPrior`. */
export function priorBoxes(attrs: PriorAttrs): DeviceArray {
  const { H, W, steps, offsets, clip } = attrs;
  const half = halfSizes(attrs);
  const A = half.length / 2;
  const own = steps[0] <= 0 || steps[1] <= 0;
  const halves = DeviceArray.from(half, { shape: [A, 2], dtype: "f32" }, "anchor sizes");
  const y = DeviceArray.empty({ shape: [1, H * W * A, 4], dtype: "f32" }, "anchors");
  launchLinear(priorKernel(), [halves, y], {
    params: {
      count: H * W * A,
      W,
      A,
      step_x: own ? 1 / W : steps[1],
      step_y: own ? 1 / H : steps[0],
      offset_x: offsets[1],
      offset_y: offsets[0],
      ...clipRange(clip),
    },
    threads: H * W * A,
  });
  return y;
}

/** Bounds that clip to the image, or do nothing. */
export function clipRange(clip: boolean): { low: number; high: number } {
  return clip ? { low: 0, high: 1 } : { low: -3e38, high: 3e38 };
}

/** Throws unless `x` is a float of `rank` dimensions, called `what` in the message. */
export function requireRank(op: string, x: Spec, want: { rank: number; what: string }): void {
  if (isFloat(x.dtype) && x.shape.length === want.rank) return;
  throw new TypeError(`Cannot ${op} ${show(x.shape)} ${x.dtype}: ${want.what}`);
}

/** The dtype of results: f16 where every input is. Everything is computed in f32. */
export function narrowest(inputs: readonly Spec[]): "f32" | "f16" {
  return inputs.every((x) => x.dtype === "f16") ? "f16" : "f32";
}

/** `x` as the kernels take it. */
export function wide(x: DeviceArray): DeviceArray {
  return plain(inDType(x, "f32"));
}

/** Runs a kernel with a workgroup an image. */
export function launchImages(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  params: Readonly<Record<string, number>> & { readonly B: number },
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params,
    grid: linearGrid(params.B * LINEAR, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: 0, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

/** Elements of each row of x [B, A] that pass a WGSL test over `v`, as u32 [B]. */
export function rowCounts(
  x: DeviceArray,
  spec: { name: string; type: "i32" | "f32"; test: string },
): DeviceArray {
  const [B, A] = x.shape as [number, number];
  const counts = DeviceArray.empty({ shape: [B], dtype: "u32" }, `count ${spec.name}`);
  launchImages(countKernel(spec), [x, counts], { B, A });
  return counts;
}

/** Attributes of {@linkcode multiboxTarget}. */
export interface TargetAttrs {
  readonly overlapThreshold: number;
  readonly ignoreLabel: number;
  /** Negatives for each positive; not positive: every anchor without object is negative. */
  readonly negativeMiningRatio: number;
  readonly negativeMiningThresh: number;
  readonly minimumNegativeSamples: number;
  readonly variances: readonly [number, number, number, number];
}

/** Offsets, masks [B, 4·A] and classes [B, A] for anchors, labels and class scores. */
export const multiboxTarget: Op<TargetAttrs> = defineOp<TargetAttrs>({
  name: "multiboxTarget",
  // Rounding can move an overlap over a threshold, or swap two scores.
  discontinuous: () => true,
  check([anchors, labels, clsPred]) {
    const op = "multiboxTarget";
    requireRank(op, anchors!, { rank: 3, what: "anchors must be [1, A, 4], f32 or f16" });
    requireRank(op, labels!, { rank: 3, what: "labels must be [B, L, 5 or more], f32 or f16" });
    requireRank(op, clsPred!, { rank: 3, what: "class predictions must be [B, C, A], f32 or f16" });
    const [one, A, four] = anchors!.shape as [number, number, number];
    const [B, , columns] = labels!.shape as [number, number, number];
    const fits = one === 1 && four === 4 && columns >= 5 && clsPred!.shape[0] === B &&
      clsPred!.shape[1]! >= 1 && clsPred!.shape[2] === A;
    if (!fits) {
      throw new TypeError(
        `Cannot multiboxTarget anchors ${show(anchors!.shape)}, labels ${show(labels!.shape)} ` +
          `and class predictions ${show(clsPred!.shape)}: they must be [1, A, 4], ` +
          "[B, L, 5 or more] and [B, C, A]",
      );
    }
    const dtype = narrowest([anchors!, labels!, clsPred!]);
    const spec = (shape: number[]) => ({ shape, dtype });
    return [spec([B, 4 * A]), spec([B, 4 * A]), spec([B, A])];
  },
  forward(_ctx, [anchors, labels, clsPred], attrs, out) {
    const [loc, mask, cls] = out.map(({ shape }) =>
      DeviceArray.empty({ shape, dtype: "f32" }, "multiboxTarget")
    ) as [DeviceArray, DeviceArray, DeviceArray];
    const [B, C, A] = clsPred!.shape as [number, number, number];
    const [, L, columns] = labels!.shape as [number, number, number];
    const [boxes, rows] = [wide(anchors!), wide(labels!)];
    const of = (shape: number[], dtype: "f32" | "i32" | "u32") =>
      DeviceArray.empty({ shape, dtype }, "multiboxTarget scratch");
    const counts = of([B], "u32");
    launchLinear(countLabelsKernel(), [rows, counts], { params: { B, L, columns }, threads: B });
    const overlaps = of([B, A, L], "f32");
    launchLinear(overlapsKernel(), [boxes, rows, counts, overlaps], {
      params: { count: overlaps.size, A, L, columns },
      threads: overlaps.size,
    });
    const matches = of([B, A], "i32");
    launchImages(matchKernel(), [
      overlaps,
      counts,
      matches,
      of([B, A], "f32"),
      of([B, A], "i32"),
      of([B, L], "u32"),
    ], { B, A, L });
    const mining = attrs.negativeMiningRatio > 0;
    const run = { count: B * A, A, L };
    const keys = of([B, A], "f32");
    launchLinear(
      thresholdKernel({ mining }),
      mining ? [overlaps, counts, wide(clsPred!), matches, keys] : [overlaps, counts, matches],
      {
        params: {
          ...run,
          C,
          threshold: attrs.overlapThreshold,
          mining_threshold: attrs.negativeMiningThresh,
        },
        threads: B * A,
      },
    );
    if (mining) {
      const { order } = sortedOrder(keys, { descending: false });
      const positives = rowCounts(matches, { name: "positives", type: "i32", test: "v >= 0" });
      launchLinear(mineKernel(), [keys, order, positives, cls], {
        params: {
          count: B * A,
          A,
          ratio: attrs.negativeMiningRatio,
          minimum: attrs.minimumNegativeSamples,
          ignore: attrs.ignoreLabel,
        },
        threads: B * A,
      });
    }
    const [v0, v1, v2, v3] = attrs.variances;
    launchLinear(targetKernel({ mining }), [boxes, rows, counts, matches, loc, mask, cls], {
      params: { ...run, columns, ignore: attrs.ignoreLabel, v0, v1, v2, v3 },
      threads: B * A,
    });
    return [loc, mask, cls].map((t) => inDType(t, out[0]!.dtype));
  },
  backward: notDifferentiable("targets are constants of the loss"),
  reference: hostTarget,
  samples: targetSamples(),
});

/** IoU of two boxes in flat arrays. */
export function hostIou(
  a: ArrayLike<number>,
  i: number,
  other: { boxes: ArrayLike<number>; at: number },
): number {
  const { boxes: b, at: j } = other;
  const side = (k: number) =>
    Math.max(0, Math.min(a[i + k + 2]!, b[j + k + 2]!) - Math.max(a[i + k]!, b[j + k]!));
  const area = (v: ArrayLike<number>, at: number) =>
    (v[at + 2]! - v[at]!) * (v[at + 3]! - v[at + 1]!);
  const inter = side(0) * side(1);
  const union = area(a, i) + area(b, j) - inter;
  return union <= 0 ? 0 : inter / union;
}

function hostTarget(
  [anchors, labels, clsPred]: readonly HostArray[],
  attrs: TargetAttrs,
): HostArray[] {
  const [B, C, A] = clsPred!.shape as [number, number, number];
  const [, L, columns] = labels!.shape as [number, number, number];
  const [loc, mask, cls] = [hostZeros([B, 4 * A]), hostZeros([B, 4 * A]), hostZeros([B, A])];
  cls.data.fill(attrs.ignoreLabel);
  for (let b = 0; b < B; b++) {
    const row = (l: number) => (b * L + l) * columns;
    let n = 0;
    while (n < L && labels!.data[row(n)] !== -1) n++;
    if (n === 0) continue;
    const iou = (a: number, l: number) =>
      hostIou(anchors!.data, 4 * a, { boxes: labels!.data, at: row(l) + 1 });
    const match = new Int32Array(A).fill(-1);
    const taken = new Set<number>();
    while (taken.size < n) {
      let [top, at, object] = [1e-6, -1, -1];
      for (let a = 0; a < A; a++) {
        for (let l = 0; l < n && match[a]! < 0; l++) {
          if (!taken.has(l) && iou(a, l) > top) [top, at, object] = [iou(a, l), a, l];
        }
      }
      if (at < 0) break;
      match[at] = object;
      taken.add(object);
    }
    const candidates: { a: number; p: number }[] = [];
    for (let a = 0; a < A; a++) {
      let [best, object] = [-1, -1];
      for (let l = 0; l < n; l++) if (iou(a, l) > best) [best, object] = [iou(a, l), l];
      if (match[a]! < 0 && attrs.overlapThreshold > 0 && best > attrs.overlapThreshold) {
        match[a] = object;
      }
      if (match[a]! >= 0 || best >= attrs.negativeMiningThresh) continue;
      const scores = Array.from({ length: C }, (_, c) => clsPred!.data[(b * C + c) * A + a]!);
      const top = Math.max(...scores);
      const total = scores.reduce((s, v) => s + Math.exp(v - top), 0);
      candidates.push({ a, p: Math.exp(scores[0]! - top) / total });
    }
    const positives = match.filter((m) => m >= 0).length;
    if (attrs.negativeMiningRatio > 0) {
      const wanted = Math.max(
        Math.trunc(positives * attrs.negativeMiningRatio),
        attrs.minimumNegativeSamples,
      );
      candidates.sort((x, y) => x.p - y.p || x.a - y.a);
      for (const { a } of candidates.slice(0, Math.min(wanted, A - positives))) {
        cls.data[b * A + a] = 0;
      }
    }
    for (let a = 0; a < A; a++) {
      const t = b * A + a;
      if (match[a]! < 0) {
        if (attrs.negativeMiningRatio <= 0) cls.data[t] = 0;
        continue;
      }
      cls.data[t] = labels!.data[row(match[a]!)]! + 1;
      for (const k of [0, 1]) {
        const size = (v: Float64Array, at: number) => v[at + 2 + k]! - v[at + k]!;
        const centre = (v: Float64Array, at: number) => (v[at + 2 + k]! + v[at + k]!) / 2;
        const [box, object] = [4 * a, row(match[a]!) + 1];
        const aw = size(anchors!.data, box);
        loc.data[4 * t + k] = (centre(labels!.data, object) - centre(anchors!.data, box)) / aw /
          attrs.variances[k]!;
        loc.data[4 * t + 2 + k] = Math.log(size(labels!.data, object) / aw) /
          attrs.variances[k + 2]!;
        mask.data[4 * t + k] = mask.data[4 * t + 2 + k] = 1;
      }
    }
  }
  return [loc, mask, cls];
}

/** Boxes in [0, 1] that depend on `seed` alone. */
export function sampleBoxes(count: number, seed: number): number[][] {
  const u = (i: number) => ((i * 7919 + seed * 104729 + i * i * 31) % 1009) / 1009;
  return Array.from({ length: count }, (_, i) => {
    const [x, y] = [0.7 * u(4 * i), 0.7 * u(4 * i + 1)];
    return [x, y, x + 0.08 + 0.22 * u(4 * i + 2), y + 0.08 + 0.22 * u(4 * i + 3)];
  });
}

function targetSamples(): { inputs: Sample["inputs"]; attrs: TargetAttrs; terms: number }[] {
  const base: TargetAttrs = {
    overlapThreshold: 0.5,
    ignoreLabel: -1,
    negativeMiningRatio: -1,
    negativeMiningThresh: 0.5,
    minimumNegativeSamples: 0,
    variances: [0.1, 0.1, 0.2, 0.2],
  };
  // A row of class -1 ends the list, whatever stands behind.
  const none = [-1, 0.2, 0.2, 0.4, 0.4];
  const label = (seed: number, count: number, L: number) => [
    ...sampleBoxes(count, seed).flatMap((box, i) => [i % 3, ...box]),
    ...Array.from({ length: L - count }, () => none).flat(),
  ];
  // `near`: the last anchors lie on, or close to, the last object of the last image.
  const cases: [number, number, number[], Partial<TargetAttrs> & { near?: number[] }][] = [
    [70, 6, [0, 3, 6], { near: [0] }],
    [130, 4, [4, 1, 2], { overlapThreshold: 0.2, negativeMiningRatio: 3 }],
    [20, 3, [2, 0, 3], { negativeMiningRatio: 1.5, minimumNegativeSamples: 7, near: [0, 0.01] }],
    [3, 5, [5, 4, 1], { overlapThreshold: 0, negativeMiningRatio: 0.5 }],
    [65, 2, [2, 1, 0], { negativeMiningThresh: 0.1, negativeMiningRatio: 40, ignoreLabel: -5 }],
    [9, 2, [1, 0, 2], { near: [0, 0.01], variances: [0.1, 0.15, 0.2, 0.25] }],
    // The last anchor is the best for an object, but not by the threshold.
    [9, 2, [1, 0, 2], { near: [0.02], overlapThreshold: 0.95 }],
  ];
  // The second anchor overlaps by 0.4975, just below the threshold.
  const below = {
    inputs: [
      { shape: [1, 2, 4], values: [0, 0, 0.5, 1, 0, 0, 0.5, 0.4975] },
      { shape: [1, 1, 5], values: [0, 0, 0, 0.5, 1] },
      { shape: [1, 2, 2], distinct: true },
    ],
    attrs: base,
    terms: 2,
  };
  const drawn = cases.map(([A, L, counts, { near = [], ...attrs }], s) => {
    const labels = counts.flatMap((n, b) => label(10 * s + b + 5, n, L));
    const last = labels.slice(-5, labels.length).slice(1);
    const anchors = [
      ...sampleBoxes(A - near.length, s + 1),
      ...near.map((shift) => last.map((v) => v + shift)),
    ];
    return {
      inputs: [
        { shape: [1, A, 4], values: anchors.flat() },
        { shape: [3, L, 5], values: labels },
        { shape: [3, 4, A], distinct: true },
      ],
      attrs: { ...base, ...attrs },
      // Sizes and centres are differences of coordinates.
      terms: 2,
    };
  });
  return [...drawn, below];
}

type Sample = Op<TargetAttrs>["samples"][number];
