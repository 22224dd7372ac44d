/**
 * Expected numbers of MXNet's box operators, as its own tests state them.
 *
 * Source: apache/mxnet@b84609d3fc73d20929c114eab95faaa56e6c5ede,
 * tests/python/unittest/test_contrib_operator.py. The nms cases that only repeat a case in a batch are left
 * out: the test makes the batch.
 */

/** A case of box_nms: rows [class, score, box], attributes, survivors. */
export interface NmsCase {
  readonly name: string;
  /** The rows belong to this many images; default 1. */
  readonly batch?: number;
  readonly data: readonly (readonly number[])[];
  readonly attrs: Readonly<Record<string, number | boolean | string>>;
  readonly expected: readonly (readonly number[])[];
}

/** Cases of box_nms. */
export const NMS_CASES: readonly NmsCase[] = [
  {
    name: "box_nms/case1",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.4, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [2, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.5, "idIndex": 0, "forceSuppress": true },
    expected: [[2, 0.6, 0.5, 0.5, 0.7, 0.8], [0, 0.5, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case3_thresh",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.4, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [2, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.1, "idIndex": 0, "forceSuppress": true },
    expected: [
      [2, 0.6, 0.5, 0.5, 0.7, 0.8],
      [0, 0.5, 0.1, 0.1, 0.2, 0.2],
      [-1, -1, -1, -1, -1, -1],
      [-1, -1, -1, -1, -1, -1],
    ],
  },
  {
    name: "box_nms/case4_nonforce",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.4, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [2, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.1, "idIndex": 0, "forceSuppress": false },
    expected: [[2, 0.6, 0.5, 0.5, 0.7, 0.8], [0, 0.5, 0.1, 0.1, 0.2, 0.2], [
      1,
      0.4,
      0.1,
      0.1,
      0.2,
      0.2,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case5_in_center",
    data: [[0, 0.5, 0.15, 0.15, 0.1, 0.1], [1, 0.4, 0.15, 0.15, 0.1, 0.1], [
      0,
      0.3,
      0.12,
      0.12,
      0.04,
      0.04,
    ], [2, 0.6, 0.6, 0.65, 0.2, 0.3]],
    attrs: { "overlapThresh": 0.1, "idIndex": 0, "forceSuppress": false, "inFormat": "center" },
    expected: [[2, 0.6, 0.5, 0.5, 0.7, 0.8], [0, 0.5, 0.1, 0.1, 0.2, 0.2], [
      1,
      0.4,
      0.1,
      0.1,
      0.2,
      0.2,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case5_out_center",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.4, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [2, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.1, "idIndex": 0, "forceSuppress": false, "outFormat": "center" },
    expected: [[2, 0.6, 0.6, 0.65, 0.2, 0.3], [0, 0.5, 0.15, 0.15, 0.1, 0.1], [
      1,
      0.4,
      0.15,
      0.15,
      0.1,
      0.1,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case5_both_center",
    data: [[0, 0.5, 0.15, 0.15, 0.1, 0.1], [1, 0.4, 0.15, 0.15, 0.1, 0.1], [
      0,
      0.3,
      0.12,
      0.12,
      0.04,
      0.04,
    ], [2, 0.6, 0.6, 0.65, 0.2, 0.3]],
    attrs: {
      "overlapThresh": 0.1,
      "idIndex": 0,
      "forceSuppress": false,
      "inFormat": "center",
      "outFormat": "center",
    },
    expected: [[2, 0.6, 0.6, 0.65, 0.2, 0.3], [0, 0.5, 0.15, 0.15, 0.1, 0.1], [
      1,
      0.4,
      0.15,
      0.15,
      0.1,
      0.1,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case7_no_id",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.4, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [2, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.5, "idIndex": -1, "forceSuppress": false },
    expected: [[2, 0.6, 0.5, 0.5, 0.7, 0.8], [0, 0.5, 0.1, 0.1, 0.2, 0.2], [
      0,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case8_topk_valid",
    batch: 3,
    data: [
      [1, 1, 0, 0, 10, 10],
      [1, 0.4, 0, 0, 10, 10],
      [1, 0.3, 0, 0, 10, 10],
      [2, 1, 0, 0, 10, 10],
      [2, 0.4, 0, 0, 10, 10],
      [2, 0.3, 0, 0, 10, 10],
      [3, 1, 0, 0, 10, 10],
      [3, 0.4, 0, 0, 10, 10],
      [3, 0.3, 0, 0, 10, 10],
    ],
    attrs: {
      "overlapThresh": 0.5,
      "validThresh": 0.5,
      "topk": 2,
      "idIndex": 0,
      "forceSuppress": false,
    },
    expected: [
      [1, 1, 0, 0, 10, 10],
      [-1, -1, -1, -1, -1, -1],
      [-1, -1, -1, -1, -1, -1],
      [2, 1, 0, 0, 10, 10],
      [-1, -1, -1, -1, -1, -1],
      [-1, -1, -1, -1, -1, -1],
      [3, 1, 0, 0, 10, 10],
      [-1, -1, -1, -1, -1, -1],
      [-1, -1, -1, -1, -1, -1],
    ],
  },
  {
    name: "box_nms/case9_default_bg",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [0, 0.4, 0.1, 0.1, 0.2, 0.2], [
      1,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [-1, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.5, "idIndex": 0, "forceSuppress": true },
    expected: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [1, 0.3, 0.1, 0.1, 0.14, 0.14], [
      -1,
      -1,
      -1,
      -1,
      -1,
      -1,
    ], [-1, -1, -1, -1, -1, -1]],
  },
  {
    name: "box_nms/case9_bg0",
    data: [[0, 0.5, 0.1, 0.1, 0.2, 0.2], [0, 0.4, 0.1, 0.1, 0.2, 0.2], [
      1,
      0.3,
      0.1,
      0.1,
      0.14,
      0.14,
    ], [-1, 0.6, 0.5, 0.5, 0.7, 0.8]],
    attrs: { "overlapThresh": 0.5, "idIndex": 0, "backgroundId": 0, "forceSuppress": true },
    expected: [[-1, 0.6, 0.5, 0.5, 0.7, 0.8], [1, 0.3, 0.1, 0.1, 0.14, 0.14], [
      -1,
      -1,
      -1,
      -1,
      -1,
      -1,
    ], [-1, -1, -1, -1, -1, -1]],
  },
];

/** Attributes of test_multibox_prior_op on a map [561, 728], and its anchor 0 of cell [250, 250]. */
export const PRIOR_CASES = [
  { ratios: [1, 2, 0.5], expected: [0.055117, 0.071524, 0.63307, 0.821524] },
  { ratios: [20, 2, 0.5], expected: [-0.948249, 0.362671, 1.636436, 0.530377] },
] as const;

/** test_multibox_target_op. */
export const TARGET_CASE = {
  "anchors": [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]],
  "labels": [[1, 0.1, 0.1, 0.5, 0.6]],
  "clsPred": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]],
  "locTarget": [5, 2.5000005, 3.4657357, 4.581454, 0, 0, 0, 0],
  "locMask": [1, 1, 1, 1, 0, 0, 0, 0],
  "clsTarget": [2, 0],
};
