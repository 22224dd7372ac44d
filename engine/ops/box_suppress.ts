/** MultiBox detection and non-maximum suppression with MXNet's semantics. */

import { checkOneOf } from "../arguments.ts";
import { DeviceArray } from "../array.ts";
import {
  arrangeKernel,
  type BoxFormat,
  decodeKernel,
  dropIdsKernel,
  scoreKeysKernel,
  suppressKernel,
  survivorsKernel,
} from "../kernels/box_suppress.ts";
import { isFloat } from "../dtype.ts";
import { defineOp, type HostArray, notDifferentiable, type Op } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { show, sizeOf } from "../shape.ts";
import {
  clipRange,
  hostIou,
  launchImages,
  narrowest,
  requireRank,
  rowCounts,
  sampleBoxes,
  wide,
} from "./boxes.ts";
import { launchLinear } from "./launch_linear.ts";
import { inDType } from "./launch_pointwise.ts";
import { sortedOrder } from "./sort.ts";

export type { BoxFormat } from "../kernels/box_suppress.ts";

/** Attributes of {@linkcode multiboxDetection}. */
export interface DetectionAttrs {
  readonly clip: boolean;
  readonly threshold: number;
  readonly nmsThreshold: number;
  readonly forceSuppress: boolean;
  readonly variances: readonly [number, number, number, number];
  /** Rows that suppression looks at, best first; not positive: all. */
  readonly nmsTopk: number;
}

const COUNTED = { name: "found", type: "f32", test: "v < 2.9e38" } as const;

function scratch(shape: readonly number[], dtype: "f32" | "u32"): DeviceArray {
  return DeviceArray.empty({ shape, dtype }, "boxes scratch");
}

function limit(topk: number, rows: number): number {
  return topk > 0 ? Math.min(topk, rows) : rows;
}

function suppresses({ nmsThreshold }: DetectionAttrs): boolean {
  return nmsThreshold > 0 && nmsThreshold <= 1;
}

/** Rows [B, A, 6] of class, score and box, suppressed ones with class -1. */
export const multiboxDetection: Op<DetectionAttrs> = defineOp<DetectionAttrs>({
  name: "multiboxDetection",
  // Rounding can move an overlap over a threshold, or swap two scores.
  discontinuous: () => true,
  check([clsProb, locPred, anchors]) {
    const op = "multiboxDetection";
    requireRank(op, clsProb!, {
      rank: 3,
      what: "class probabilities must be [B, C, A], f32 or f16",
    });
    requireRank(op, locPred!, { rank: 2, what: "offsets must be [B, 4 · A], f32 or f16" });
    requireRank(op, anchors!, { rank: 3, what: "anchors must be [1, A, 4], f32 or f16" });
    const [B, , A] = clsProb!.shape as [number, number, number];
    const fits = anchors!.shape[0] === 1 && anchors!.shape[1] === A && anchors!.shape[2] === 4 &&
      locPred!.shape[0] === B && locPred!.shape[1] === 4 * A;
    if (!fits) {
      throw new TypeError(
        `Cannot multiboxDetection probabilities ${show(clsProb!.shape)}, offsets ` +
          `${show(locPred!.shape)} and anchors ${show(anchors!.shape)}: they must be ` +
          "[B, C, A], [B, 4 · A] and [1, A, 4]",
      );
    }
    return [{ shape: [B, A, 6], dtype: narrowest([clsProb!, locPred!, anchors!]) }];
  },
  forward(_ctx, [clsProb, locPred, anchors], attrs, [out]) {
    const [B, C, A] = clsProb!.shape as [number, number, number];
    const sorted = suppresses(attrs);
    const [rows, keys] = [scratch([B, A, 6], "f32"), scratch([B, A], "f32")];
    const [v0, v1, v2, v3] = attrs.variances;
    launchLinear(
      decodeKernel({ sorted }),
      [wide(clsProb!), wide(locPred!), wide(anchors!), rows, keys],
      {
        params: {
          count: B * A,
          A,
          C,
          threshold: attrs.threshold,
          ...clipRange(attrs.clip),
          v0,
          v1,
          v2,
          v3,
        },
        threads: B * A,
      },
    );
    const { order } = sortedOrder(keys, { descending: false });
    const counts = rowCounts(keys, COUNTED);
    const y = scratch(out!.shape, "f32");
    const keep = sorted ? limit(attrs.nmsTopk, A) : A;
    launchLinear(arrangeKernel(), [rows, order, counts, y], {
      params: { count: y.size, A, columns: 6, keep, id_index: 0 },
      threads: y.size,
    });
    if (!sorted) return [inDType(y, out!.dtype)];
    const alive = scratch([B, A], "u32");
    launchImages(suppressKernel({ strict: false, format: "corner" }), [y, counts, alive], {
      B,
      A,
      columns: 6,
      keep,
      coord: 2,
      id_index: 0,
      force: Number(attrs.forceSuppress),
      threshold: attrs.nmsThreshold,
    });
    launchLinear(dropIdsKernel(), [alive, y], {
      params: { count: B * A, columns: 6 },
      threads: B * A,
    });
    return [inDType(y, out!.dtype)];
  },
  backward: notDifferentiable("a decision about boxes; MXNet gives zeros"),
  reference: hostDetection,
  samples: detectionSamples(),
});

function hostDetection(
  [clsProb, locPred, anchors]: readonly HostArray[],
  attrs: DetectionAttrs,
): HostArray[] {
  const [B, C, A] = clsProb!.shape as [number, number, number];
  const y = hostZeros([B, A, 6]);
  y.data.fill(-1);
  const limited = (v: number) => attrs.clip ? Math.min(Math.max(v, 0), 1) : v;
  for (let b = 0; b < B; b++) {
    let rows: number[][] = [];
    for (let a = 0; a < A; a++) {
      let [score, id] = [-1, 0];
      for (let c = 1; c < C; c++) {
        const v = clsProb!.data[(b * C + c) * A + a]!;
        if (v > score) [score, id] = [v, c];
      }
      if (id === 0 || score < attrs.threshold) continue;
      const box = [0, 1].map((k) => {
        const [low, high] = [anchors!.data[4 * a + k]!, anchors!.data[4 * a + 2 + k]!];
        const at = (i: number) => locPred!.data[(b * A + a) * 4 + i]! * attrs.variances[i]!;
        const centre = at(k) * (high - low) + (low + high) / 2;
        const half = Math.exp(at(k + 2)) * (high - low) / 2;
        return [limited(centre - half), limited(centre + half)];
      });
      rows.push([id - 1, score, box[0]![0]!, box[1]![0]!, box[0]![1]!, box[1]![1]!]);
    }
    if (suppresses(attrs)) {
      rows = rows.map((row, i) => ({ row, i })).sort((p, q) => q.row[1]! - p.row[1]! || p.i - q.i)
        .map(({ row }) => row);
      const keep = limit(attrs.nmsTopk, rows.length);
      rows.forEach((row, i) => {
        if (i >= keep) row[0] = -1;
        if (row[0]! < 0) return;
        for (let j = i + 1; j < keep; j++) {
          const other = rows[j]!;
          const rival = other[0]! >= 0 && (attrs.forceSuppress || other[0] === row[0]);
          if (rival && hostIou(row, 2, { boxes: other, at: 2 }) >= attrs.nmsThreshold) {
            other[0] = -1;
          }
        }
      });
    }
    y.data.set(rows.flat(), b * A * 6);
  }
  return [y];
}

function detectionSamples(): Op<DetectionAttrs>["samples"][number][] {
  const base: DetectionAttrs = {
    clip: true,
    threshold: 0.3,
    nmsThreshold: 0.3,
    forceSuppress: false,
    variances: [0.1, 0.1, 0.2, 0.2],
    nmsTopk: -1,
  };
  const cases: [number, number, Partial<DetectionAttrs>][] = [
    [66, 4, { variances: [0.1, 0.15, 0.2, 0.25] }],
    [40, 3, { forceSuppress: true, nmsTopk: 17, nmsThreshold: 0.1 }],
    [20, 3, { nmsThreshold: 0, threshold: 0.6, clip: false, variances: [0.1, 0.15, 0.2, 0.25] }],
    [7, 3, { threshold: 2 }],
    [1, 2, { threshold: 0 }],
    // Two boxes at one place: the last row of the last image is suppressed.
    [2, 2, { threshold: 0, nmsThreshold: 0.05 }],
  ];
  return cases.map(([A, C, attrs], s) => ({
    inputs: [
      { shape: [2, C, A], low: 0, high: 1 },
      { shape: [2, 4 * A] },
      {
        shape: [1, A, 4],
        values: sampleBoxes(A, s + 3).map((box, _, all) => A === 2 ? all[0]! : box).flat(),
      },
    ],
    attrs: { ...base, ...attrs },
    terms: 2,
  }));
}

/** Attributes of {@linkcode boxNms}. */
export interface NmsAttrs {
  readonly overlapThresh: number;
  readonly validThresh: number;
  /** Rows that suppression looks at, best first; not positive: all. */
  readonly topk: number;
  readonly coordStart: number;
  readonly scoreIndex: number;
  /** Column of the class; -1: all boxes are of one class. */
  readonly idIndex: number;
  readonly backgroundId: number;
  readonly forceSuppress: boolean;
  readonly inFormat: BoxFormat;
  readonly outFormat: BoxFormat;
}

/** The rows of x [..., n, k] that survive, best first; -1 behind them. */
export const boxNms: Op<NmsAttrs> = defineOp<NmsAttrs>({
  name: "nms",
  // Rounding can move an overlap over a threshold, or swap two scores.
  discontinuous: () => true,
  check([x], attrs) {
    const { coordStart, scoreIndex, idIndex, inFormat, outFormat } = attrs;
    checkOneOf("nms", { inFormat, outFormat }, ["corner", "center"]);
    const k = x!.shape.at(-1) ?? 0;
    if (!isFloat(x!.dtype) || x!.shape.length < 2) {
      throw new TypeError(
        `Cannot nms ${show(x!.shape)} ${x!.dtype}: it must be [..., n, k], f32 or f16`,
      );
    }
    const column = (v: number) => Number.isInteger(v) && v >= 0 && v < k;
    if (!column(scoreIndex) || !column(coordStart) || !column(coordStart + 3)) {
      throw new RangeError(
        `Cannot nms ${show(x!.shape)} with score ${scoreIndex} and coordinates from ` +
          `${coordStart}: columns are 0 to ${k - 1}`,
      );
    }
    if (idIndex !== -1 && !column(idIndex)) {
      throw new RangeError(
        `Cannot nms ${show(x!.shape)} with class ${idIndex}: it must be -1 to ${k - 1}`,
      );
    }
    return [{ shape: x!.shape, dtype: x!.dtype }];
  },
  forward(_ctx, [x], attrs, [out]) {
    const [n, columns] = x!.shape.slice(-2) as [number, number];
    const B = sizeOf(x!.shape.slice(0, -2));
    const data = wide(x!);
    const keys = scratch([B, n], "f32");
    launchLinear(scoreKeysKernel(), [data, keys], {
      params: {
        count: B * n,
        columns,
        score_index: attrs.scoreIndex,
        id_index: attrs.idIndex,
        background: attrs.backgroundId,
        threshold: attrs.validThresh,
      },
      threads: B * n,
    });
    const { order } = sortedOrder(keys, { descending: false });
    const counts = rowCounts(keys, COUNTED);
    const rows = scratch([B, n, columns], "f32");
    launchLinear(arrangeKernel(), [data, order, counts, rows], {
      params: { count: rows.size, A: n, columns, keep: n, id_index: -1 },
      threads: rows.size,
    });
    const alive = scratch([B, n], "u32");
    launchImages(
      suppressKernel({ strict: true, format: attrs.inFormat }),
      [rows, counts, alive],
      {
        B,
        A: n,
        columns,
        keep: limit(attrs.topk, n),
        coord: attrs.coordStart,
        id_index: attrs.idIndex,
        force: Number(attrs.forceSuppress),
        threshold: attrs.overlapThresh,
      },
    );
    const front = sortedOrder(alive, { descending: true }).order;
    const y = scratch(out!.shape, "f32");
    launchLinear(
      survivorsKernel({ from: attrs.inFormat, to: attrs.outFormat }),
      [rows, alive, front, y],
      { params: { count: y.size, A: n, columns, coord: attrs.coordStart }, threads: y.size },
    );
    return [inDType(y, out!.dtype)];
  },
  backward: notDifferentiable("a choice of boxes"),
  reference: hostNms,
  samples: nmsSamples(),
});

function corners(row: readonly number[], at: number): number[] {
  const [x, y, w, h] = row.slice(at, at + 4) as [number, number, number, number];
  return [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
}

function centred(row: readonly number[], at: number): number[] {
  const [x0, y0, x1, y1] = row.slice(at, at + 4) as [number, number, number, number];
  return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0];
}

function hostNms([x]: readonly HostArray[], attrs: NmsAttrs): HostArray[] {
  const [n, k] = x!.shape.slice(-2) as [number, number];
  const y = hostZeros(x!.shape);
  y.data.fill(-1);
  const { coordStart: at, scoreIndex, idIndex, inFormat, outFormat } = attrs;
  for (let first = 0; first < x!.data.length; first += n * k) {
    const rows = Array.from(
      { length: n },
      (_, i) => [...x!.data.subarray(first + i * k, first + (i + 1) * k)],
    ).filter((row) =>
      row[scoreIndex]! > attrs.validThresh && (idIndex < 0 || row[idIndex] !== attrs.backgroundId)
    ).map((row, i) => ({ row, i })).sort((p, q) =>
      q.row[scoreIndex]! - p.row[scoreIndex]! || p.i - q.i
    ).map(({ row }) => row);
    const box = (row: readonly number[]) =>
      inFormat === "center" ? corners(row, at) : row.slice(at, at + 4);
    const kept: number[][] = [];
    for (const row of rows.slice(0, limit(attrs.topk, n))) {
      const beaten = kept.some((other) =>
        (attrs.forceSuppress || idIndex < 0 || other[idIndex] === row[idIndex]) &&
        hostIou(box(other), 0, { boxes: box(row), at: 0 }) > attrs.overlapThresh
      );
      if (!beaten) kept.push(row);
    }
    kept.forEach((row, i) => {
      const converted = inFormat === outFormat
        ? row.slice(at, at + 4)
        : outFormat === "corner"
        ? corners(row, at)
        : centred(row, at);
      y.data.set(row, first + i * k);
      y.data.set(converted, first + i * k + at);
    });
  }
  return [y];
}

function nmsSamples(): Op<NmsAttrs>["samples"][number][] {
  const base: NmsAttrs = {
    overlapThresh: 0.2,
    validThresh: 0.1,
    topk: -1,
    coordStart: 2,
    scoreIndex: 1,
    idIndex: 0,
    backgroundId: -1,
    forceSuppress: false,
    inFormat: "corner",
    outFormat: "corner",
  };
  const row = (box: readonly number[], i: number) => [i % 3, ((i * 37) % 97) / 97, ...box];
  const cases: [number, number[], Partial<NmsAttrs>][] = [
    [67, [2, 67, 6], {}],
    [30, [30, 6], { forceSuppress: true, topk: 9 }],
    [12, [2, 2, 12, 6], { idIndex: -1, outFormat: "center" }],
    [12, [12, 6], { backgroundId: 0, inFormat: "center", outFormat: "corner" }],
    // All survive, to the last.
    [5, [5, 6], { inFormat: "center", outFormat: "center", overlapThresh: 1, validThresh: -1 }],
  ];
  return cases.map(([n, shape, attrs], s) => ({
    inputs: [{
      shape,
      values: sampleBoxes(sizeOf(shape) / 6, s + 2).flatMap((box, i) => row(box, i % n)),
    }],
    attrs: { ...base, ...attrs },
    terms: 2,
  }));
}
