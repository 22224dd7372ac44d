/**
 * What a discrete GPU shares out among more threads than software does, against the same by few: statistics of
 * long groups, the rows of a loss, gradients of depthwise weights.
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

/** The output and all gradients under a weighting, and the kernels that ran. */
async function results(one: Case): Promise<{ values: Float32Array[]; kernels: Set<string> }> {
  using _fresh = poisoned();
  const { queue } = gpu();
  const kernels = new Set<string>();
  const launch = queue.launch;
  queue.launch = (run) => {
    kernels.add(run.kernel.name);
    launch.call(queue, run);
  };
  try {
    const leaves = one.leaves().map((t) => t.requiresGrad_());
    const y = one.run(leaves);
    // Squares, so that gradients go along with the values.
    scope(() => (y.ndim === 0 ? y : y.mul(y.add(drawn("seed", y.shape))).sum()).backward());
    const values = await readAll([y, ...leaves.map((t) => t.grad!)]);
    return { values: values as Float32Array[], kernels };
  } finally {
    queue.launch = launch;
  }
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
