/**
 * Shapes for which the planner picks every variant of the tiled kernels, with all rows and columns of a
 * tile in use and every turn of the walk over K: ends of rows, of planes and of images. The records' own
 * samples, smaller and fewer, are for what the ops mean.
 */

import type { Tile } from "../../engine/kernels/gemm.ts";
import type { Op, Sample } from "../../engine/op.ts";
import { onTile } from "../../engine/ops/gemm_tiles.ts";
import { readAll } from "../../engine/read.ts";
import { scope } from "../../engine/scope.ts";
import { apply } from "../../engine/tensor.ts";
import { checkOp } from "./check_op.ts";
import { place } from "./draw.ts";
import { poisoned } from "./poison.ts";

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

/** A plane, the side of the kernel, the padding and the images. */
type Window = readonly [H: number, W: number, side: number, pad: number, images: number];

/** Outputs of 30, 36, 56, 35, 6, 8, 6, 30 and 36 places. */
const WINDOWS: readonly Window[] = [
  [7, 8, 3, 0, 2],
  [8, 8, 3, 0, 2],
  [7, 8, 3, 1, 2],
  [5, 7, 3, 1, 2],
  [4, 5, 3, 0, 1],
  [2, 4, 3, 1, 1],
  [2, 3, 3, 1, 1],
  [5, 6, 1, 0, 2],
  [6, 6, 1, 0, 2],
];

function convolutions(): Sample<unknown>[] {
  const samples: Sample<unknown>[] = [];
  const add = (C: number, O: number, [H, W, side, pad, images]: Window, bias: boolean) => {
    const places = (H + 2 * pad - side + 1) * (W + 2 * pad - side + 1);
    const inputs = [{ shape: [images, C, H, W] }, { shape: [O, C, side, side] }, { shape: [O] }];
    samples.push({
      inputs: bias ? inputs : inputs.slice(0, 2),
      attrs: { stride: [1, 1], padding: [pad, pad], dilation: [1, 1], groups: 1 },
      terms: Math.max(C, O) * side * side + images * places,
    });
  };
  for (const O of ROWS) {
    for (const window of WINDOWS) {
      for (const C of [3, 4]) for (const bias of [true, false]) add(C, O, window, bias);
      for (const C of ROWS) add(C, O, window, false);
    }
    // Few columns of dW, and many of a 1 x 1 one.
    for (const C of [1, 2]) {
      for (const size of [4, 5]) add(C, O, [size, size, 2, 0, 2], true);
      add(C, O, [3, 3, 2, 1, 3], true);
    }
    for (const size of [3, 4]) add(31, O, [size, size, 1, 0, 2], false);
  }
  return samples;
}

function transposed(): Sample<unknown>[] {
  const samples: Sample<unknown>[] = [];
  const windows: readonly Window[] = [
    [3, 5, 3, 0, 2],
    [4, 4, 3, 0, 2],
    [5, 7, 3, 1, 2],
    [1, 2, 2, 0, 1],
    [2, 4, 3, 1, 1],
  ];
  for (const O of ROWS) {
    for (const C of [3, 4]) {
      for (const [H, W, side, pad, images] of windows) {
        const inputs = [{ shape: [images, C, H, W] }, { shape: [C, O, side, side] }, {
          shape: [O],
        }];
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
            terms: O * side * side + images * (H + side) * (W + side),
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

/** Whole numbers from -2 to 2, the same for the same place. */
function smallNumbers(shape: readonly number[], salt: number): Float64Array {
  const count = shape.reduce((n, s) => n * s, 1);
  return Float64Array.from({ length: count }, (_, i) => (37 * i + 11 * salt) % 23 % 5 - 2);
}

/** A dtype, which of the first two inputs lie transposed in memory, and the tile of all products. */
export interface Way {
  readonly dtype: "f32" | "f16";
  readonly turned: readonly boolean[];
  readonly tile?: Tile;
}

/** Values of an op and of its gradients at small whole numbers. */
export async function wholeResults(
  op: Op<unknown>,
  { inputs, attrs }: Sample<unknown>,
  way: Way,
): Promise<number[][]> {
  const whole = (shape: readonly number[], salt: number) =>
    place(
      { shape, dtype: way.dtype, data: smallNumbers(shape, salt) },
      way.turned[salt] ? "transposed" : "contiguous",
    );
  using _fresh = poisoned();
  const run = () => {
    const leaves = inputs.map(({ shape }, j) => whole(shape, j).requiresGrad_());
    const [y] = apply(op, leaves, attrs);
    y!.backward(whole(y!.shape, 9));
    return [y!.detach(), ...leaves.map((leaf) => leaf.grad!.clone())];
  };
  const results = scope(() => way.tile ? onTile(way.tile, run) : run());
  const data = await readAll(results);
  for (const t of results) t.dispose();
  return data.map((values) => [...values]);
}

/**
 * Problems of an op on one of its shapes in f16 (if `half`), and for products with either factor
 * transposed. The sums of small whole numbers are exact in any order and in f16 as in f32, so all must
 * agree to the bit with f32, in the result and in every gradient.
 */
export async function checkWholeEdge(op: Op<unknown>, i: number, half: boolean): Promise<string[]> {
  const layouts = /conv/.test(op.name)
    ? [[false, false]]
    : [[false, false], [true, false], [false, true], [true, true]];
  const ways = (half ? ["f32", "f16"] as const : ["f32"] as const)
    .flatMap((dtype) => layouts.map((turned): Way => ({ dtype, turned })));
  const [plain, ...others] = ways;
  const sample = GEMM_EDGES[op.name]![i]!;
  const right = await wholeResults(op, sample, plain!);
  const problems: string[] = [];
  for (const way of others) {
    (await wholeResults(op, sample, way)).forEach((values, which) => {
      const at = values.findIndex((v, k) => v !== right[which]![k]);
      if (at < 0) return;
      problems.push(
        `edge ${i} ${JSON.stringify(way)}, array ${which} [${at}]: ${values[at]}, ` +
          `${right[which]![at]} in f32`,
      );
    });
  }
  return problems;
}
