/**
 * What a discrete GPU shares out among more threads than software does, against the same by few: statistics of
 * long groups, the rows of a loss, gradients of depthwise weights, few columns, long rows that are searched or
 * scanned.
 */

import { assert, assertEquals } from "@std/assert";
import {
  batchNorm,
  conv2d,
  crossEntropy,
  init,
  layerNorm,
  readAll,
  scope,
  type Tensor,
  tensor,
} from "../../engine/mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { asHardware, asSoftware } from "../helpers/as_hardware.ts";
import { Draw } from "../helpers/draw.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

function drawn(name: string, shape: readonly number[]): Tensor {
  const draw = new Draw(name);
  const size = shape.reduce((n, d) => n * d, 1);
  return tensor(Float32Array.from({ length: size }, () => 2 * draw.uniform() - 1), { shape });
}

interface Case {
  /** Leaves: the first one is x. */
  readonly leaves: () => Tensor[];
  readonly run: (leaves: Tensor[]) => Tensor;
  /** Terms of the longest sum. */
  readonly terms: number;
  /** A kernel that only the GPU's way has. */
  readonly kernel: RegExp;
}

/** The mean is not 0, so that it counts. */
const NORM = (shape: readonly number[], channels: number) => (): Tensor[] => [
  drawn("x", shape).add(0.75).detach(),
  drawn("w", [channels]).mul(0.25).add(1).detach(),
  drawn("b", [channels]),
];

const CASES: Readonly<Record<string, Case>> = {
  "batchNorm in fours": {
    leaves: NORM([5, 3, 20, 20], 3),
    run: ([x, weight, bias]) => batchNorm(x!, { weight, bias, training: true }),
    terms: 2000,
    kernel: /^moment_merge_lanes64$/,
  },
  "batchNorm, odd, with an activation": {
    leaves: NORM([5, 3, 21, 19], 3),
    run: ([x, weight, bias]) => batchNorm(x!, { weight, bias, training: true, activation: "silu" }),
    terms: 1995,
    kernel: /^norm_grad_merge.*_lanes64$/,
  },
  "layerNorm of long rows": {
    leaves: NORM([3, 900], 900),
    run: ([x, weight, bias]) => layerNorm(x!, { weight, bias }),
    terms: 900,
    kernel: /^moment_merge_lanes64$/,
  },
  "the mean of crossEntropy": {
    leaves: () => [drawn("x", [3001, 5])],
    run: ([x]) => crossEntropy(x!, ids(3001), { ignoreIndex: 2 }),
    terms: 3001,
    kernel: /^cross_entropy_merged_mean_lanes64$/,
  },
  "the sum of crossEntropy": {
    leaves: () => [drawn("x", [1500, 5])],
    run: ([x]) => crossEntropy(x!, ids(1500), { reduction: "sum" }),
    terms: 1500,
    kernel: /^cross_entropy_merged_sum_lanes64$/,
  },
  "depthwise conv2d": {
    leaves: () => [drawn("x", [3, 2, 40, 37]), drawn("w", [2, 1, 3, 3])],
    run: ([x, w]) => conv2d(x!, w!, { padding: 1, groups: 2 }),
    terms: 4440,
    kernel: /^depthwise_conv2d_dw$/,
  },
};

function ids(count: number): Tensor {
  return tensor(Int32Array.from({ length: count }, (_, i) => (i + 2) % 7 % 5));
}

/** What `fn` gives on buffers that are poisoned, and the threads of each kernel that ran, in order. */
async function launched<T>(
  fn: () => Promise<T>,
): Promise<{ result: T; ran: [kernel: string, threads: number][] }> {
  using _fresh = poisoned();
  const { queue } = gpu();
  const ran: [string, number][] = [];
  const launch = queue.launch;
  queue.launch = (run) => {
    const threads = [...run.grid, ...run.kernel.workgroup].reduce((n, side) => n * side, 1);
    if (run.kernel.name !== "poison") ran.push([run.kernel.name, threads]);
    launch.call(queue, run);
  };
  try {
    return { result: await fn(), ran };
  } finally {
    queue.launch = launch;
  }
}

/** The output and all gradients under a weighting, and the kernels that ran. */
async function results(one: Case): Promise<{ values: Float32Array[]; kernels: Set<string> }> {
  const { result, ran } = await launched(async () => {
    const leaves = one.leaves().map((t) => t.requiresGrad_());
    const y = one.run(leaves);
    // Squares, so that gradients go along with the values.
    scope(() => (y.ndim === 0 ? y : y.mul(y.add(drawn("seed", y.shape))).sum()).backward());
    return await readAll([y, ...leaves.map((t) => t.grad!)]) as Float32Array[];
  });
  return { values: result, kernels: new Set(ran.map(([name]) => name)) };
}

for (const [name, one] of Object.entries(CASES)) {
  Deno.test(`${name} is on a GPU what it is on software`, async () => {
    const few = await asSoftware(() => results(one));
    const many = await asHardware(() => results(one));
    assert([...many.kernels].some((k) => one.kernel.test(k)), [...many.kernels].join(" "));
    if (!/depthwise/.test(name)) {
      assert(![...few.kernels].some((k) => one.kernel.test(k)), "software runs the same kernel");
    }
    assertEquals(many.values.length, few.values.length);
    many.values.forEach((got, i) => {
      const want = few.values[i]!;
      const largest = want.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      // Two sums of that many terms, and what is made of them, of the size of the largest.
      const allowed = 16 * U * Math.sqrt(one.terms) * largest;
      got.forEach((v, at) => {
        assert(Math.abs(v - want[at]!) <= allowed, `${i} at ${at}: ${v}, ${want[at]} by few`);
      });
    });
  });
}

/** Whole numbers with equal ones all over, so that every result is exact; floats with some NaN. */
function whole(shape: readonly number[], dtype: "i32" | "f32" = "i32"): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  const values = Array.from({ length: size }, (_, i) => (i * 7919) % 1013 - 506);
  if (dtype === "f32") { for (const at of [0.41, 0.83]) values[Math.floor(size * at)] = NaN; }
  return tensor(values, { shape: [...shape], dtype });
}

/** Rows of the numbers below C, no multiple of 7919: the best are all over the first, at an end of the second. */
function mixedAndRising(C: number): Tensor {
  const values = Int32Array.from({ length: 2 * C }, (_, i) => i < C ? i * 7919 % C : i - C);
  return tensor(values, { shape: [2, C] });
}

/** The k best with their positions. */
function best(x: Tensor, k: number, largest: boolean): Tensor[] {
  const { values, indices } = x.topk(k, { largest });
  return [values, indices];
}

/** The same by sorting. */
function front(x: Tensor, k: number, largest: boolean): Tensor[] {
  const { values, indices } = x.sort({ descending: largest });
  return [values, indices].map((t) => t.narrow(-1, 0, k));
}

/** Work that is the same to the last bit, and kernels with their least number of threads on a GPU. */
const EXACT: Readonly<
  Record<string, [run: () => Tensor[], wanted: [RegExp, number][], otherwise?: () => Tensor[]]>
> = {
  "sum of three columns": [() => [whole([6007, 3]).sum(0)], [
    [/^sum$/, 2000],
    [/^sum_rows_lanes64_fours$/, 192],
  ]],
  "sum of eight columns": [() => [whole([5003, 8]).sum(0)], [[/^sum_fours_apart$/, 1200]]],
  "sum of two long columns": [() => [whole([270_001, 2]).sum(0)], [
    [/^sum$/, 65_000],
    [/^sum_rows_lanes256_fours$/, 512],
  ]],
  "max of outer columns": [() => [whole([2, 3001, 5]).to("f32").max(1)], [[/^max$/, 3700]]],
  "argmax of a long row": [
    () => [whole([70_001], "f32").argmax(), whole([70_001]).argmax()],
    [[/^argmax_f32_lanes256$/, 8000], [/^argmax_shares_f32_lanes64$/, 64]],
  ],
  "argmin of few columns": [
    () => [whole([9001, 3], "f32").argmin(0), whole([9001, 3]).argmin(0)],
    [[/^argmin_f32_lanes256$/, 3000], [/^argmin_i32_lanes256$/, 3000]],
  ],
  "argmax of columns side by side": [
    () => [whole([3001, 9], "f32").argmax(0), whole([3001, 9]).argmax(0)],
    [[/^argmax_f32$/, 3300], [/^argmax_shares_f32_lanes64$/, 576]],
  ],
  "cumsum of a long row": [() => [whole([50_021]).cumsum(0)], [[/^scan_sum_blocks_i32$/, 1500]]],
  "cumsum of columns": [() => [whole([3001, 3]).cumsum(0)], [[/^scan_sum_totals_i32$/, 250]]],
  "topk of rows in pieces": [
    () => [true, false].flatMap((largest) => best(whole([2, 9001], "f32"), 5, largest)),
    [[/^topk_largest_f32_lanes256$/, 2000], [/^topk_smallest_merge_f32$/, 2]],
    () => [true, false].flatMap((largest) => front(whole([2, 9001], "f32"), 5, largest)),
  ],
  "topk of pieces of pieces": [
    () => best(mixedAndRising(150_001), 64, false),
    [[/^topk_smallest_i32_lanes256$/, 18_000], [/^topk_smallest_merge_i32_lanes64$/, 64]],
    () => front(mixedAndRising(150_001), 64, false),
  ],
};

for (const [name, [run, wanted, otherwise]] of Object.entries(EXACT)) {
  Deno.test(`${name} is the same on a GPU, by more threads`, async () => {
    const few = await launched(() => readAll((otherwise ?? run)()));
    const many = await asHardware(() => launched(() => readAll(run())));
    assertEquals(many.result, few.result);
    for (const [kernel, threads] of wanted) {
      const most = Math.max(...many.ran.filter(([n]) => kernel.test(n)).map(([, t]) => t));
      assert(most >= threads, `${kernel}: ${most} threads; ${many.ran.join("; ")}`);
    }
  });
}

/** Rows of 64 lanes and columns of 375 shares; the element at `at` alone differs, in a first or second turn. */
const LONE = [
  ...[5, 65, 129].map((at) => ({ R: 1, C: 130, dim: 1, at })),
  ...[20, 374].map((at) => ({ R: 3001, C: 9, dim: 0, at })),
];

Deno.test("argmax and argmin find a lone extreme in any turn of a lane, in every dtype", async () => {
  using _fresh = poisoned();
  const half = gpu().info.features.has("shader-f16") ? ["f16" as const] : [];
  for (const dtype of ["f32", "i32", "u32", "bool", ...half] as const) {
    for (const { R, C, dim, at } of LONE) {
      const place = dim === 1 ? at : at * C + C - 1;
      const ones = tensor(Array.from({ length: R * C }, (_, i) => Number(i === place)), {
        shape: [R, C],
      });
      const [most, least] = await asHardware(() =>
        readAll([ones.to(dtype).argmax(dim), ones.eq(0).to(dtype).argmin(dim)])
      );
      const want = dim === 1 ? [at] : Array.from({ length: C }, (_, c) => c === C - 1 ? at : 0);
      assertEquals([...most!], want, `argmax of ${dtype}`);
      assertEquals([...least!], want, `argmin of ${dtype}`);
    }
  }
});
