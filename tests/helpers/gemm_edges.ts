/**
 * Shapes for which the planner picks every variant of the tiled kernels, with all rows and columns of a
 * tile in use and every turn of the walk over K: ends of rows, of planes and of images. The records' own
 * samples, smaller and fewer, are for what the ops mean.
 */

import type { Op, Sample } from "../../engine/op.ts";
import { checkOp } from "./check_op.ts";

/** Rows that fill a tile of 8 and one of 16. */
const ROWS = [8, 16];

function products(): { matmul: Sample<unknown>[]; linear: Sample<unknown>[] } {
  const matmul: Sample<unknown>[] = [], linear: Sample<unknown>[] = [];
  for (const M of ROWS) {
    // Whole fours or not; several turns of the loop.
    for (const K of [9, 12]) {
      for (const N of [6, 8, 31, 36]) {
        const terms = Math.max(M, K, N);
        matmul.push({ inputs: [{ shape: [M, K] }, { shape: [K, N] }], attrs: {}, terms });
        const inputs = [{ shape: [M, K] }, { shape: [N, K] }, { shape: [N] }];
        linear.push({ inputs, attrs: {}, terms });
        linear.push({ inputs: inputs.slice(0, 2), attrs: {}, terms });
      }
    }
  }
  return { matmul, linear };
}

/** A plane, the side of the kernel and the padding. */
type Window = readonly [H: number, W: number, side: number, pad: number];

/** Outputs of 30, 36, 56, 35, 6, 30 and 36 places. */
const WINDOWS: readonly Window[] = [
  [7, 8, 3, 0],
  [8, 8, 3, 0],
  [7, 8, 3, 1],
  [5, 7, 3, 1],
  [4, 5, 3, 0],
  [5, 6, 1, 0],
  [6, 6, 1, 0],
];

function convolutions(): Sample<unknown>[] {
  const samples: Sample<unknown>[] = [];
  const add = (C: number, O: number, [H, W, side, pad]: Window, bias: boolean) => {
    const places = (H + 2 * pad - side + 1) * (W + 2 * pad - side + 1);
    const inputs = [{ shape: [2, C, H, W] }, { shape: [O, C, side, side] }, { shape: [O] }];
    samples.push({
      inputs: bias ? inputs : inputs.slice(0, 2),
      attrs: { stride: [1, 1], padding: [pad, pad], dilation: [1, 1], groups: 1 },
      terms: Math.max(C, O) * side * side + 2 * places,
    });
  };
  for (const O of ROWS) {
    for (const window of WINDOWS) {
      for (const C of [3, 4]) for (const bias of [true, false]) add(C, O, window, bias);
      for (const C of ROWS) add(C, O, window, false);
    }
    for (const C of [1, 2]) for (const size of [4, 5]) add(C, O, [size, size, 2, 0], true);
  }
  return samples;
}

function transposed(): Sample<unknown>[] {
  const samples: Sample<unknown>[] = [];
  const windows: readonly Window[] = [[3, 5, 3, 0], [4, 4, 3, 0], [5, 7, 3, 1], [2, 3, 2, 0]];
  for (const O of ROWS) {
    for (const C of [3, 4]) {
      for (const [H, W, side, pad] of windows) {
        const inputs = [{ shape: [2, C, H, W] }, { shape: [C, O, side, side] }, { shape: [O] }];
        for (const count of [2, 3]) {
          samples.push({
            inputs: inputs.slice(0, count),
            attrs: {
              stride: [1, 1],
              padding: [pad, pad],
              dilation: [1, 1],
              outputPadding: [0, 0],
              groups: 1,
            },
            terms: O * side * side + 2 * (H + side) * (W + side),
          });
        }
      }
    }
  }
  return samples;
}

/** Samples by the name of the op. */
export const GEMM_EDGES: Readonly<Record<string, readonly Sample<unknown>[]>> = {
  ...products(),
  conv2d: convolutions(),
  convTranspose2d: transposed(),
};

/**
 * Problems of an op on some of its shapes. That a slope in one random direction cancels, so that its
 * comparison would accept 1 % more, is none here: elements are moved one by one as well.
 */
export async function checkEdges(op: Op<unknown>, only: readonly number[]): Promise<string[]> {
  const samples = GEMM_EDGES[op.name]!;
  const { problems } = await checkOp({ ...op, samples }, { only, dtypes: false });
  return problems.filter((line) => !/in one direction .*would accept 1 % more$/.test(line));
}
