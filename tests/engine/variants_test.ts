/**
 * Every variant of every kernel runs in some test. Variants are read off the kernels' names in the source:
 * a choice between two words in a name is two variants.
 */

import { assert, assertEquals } from "@std/assert";
import { walkBack } from "../../engine/autograd.ts";
import { type DType, DTYPES } from "../../engine/dtype.ts";
import { gpu, reopen } from "../../engine/gpu/device.ts";
import { tensor } from "../../engine/creation.ts";
import { allOps, type Op, type Sample } from "../../engine/op.ts";
import { TILES } from "../../engine/ops/gemm_plan.ts";
import { synchronize } from "../../engine/read.ts";
import { scope } from "../../engine/scope.ts";
import { apply } from "../../engine/tensor.ts";
import { Draw, drawInputs, place } from "../helpers/draw.ts";
import { kernelNames, variantsOf } from "../helpers/kernel_names.ts";
import { ROOT } from "../helpers/source.ts";

for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
  if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
}

/** Variants that no record reaches on a plain adapter, and the test that runs them. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^random_/, "tests/engine/rng_test.ts"],
  [/^dropout$/, "tests/engine/rng_test.ts"],
  [/^sgd/, "tests/engine/sgd_test.ts"],
  [/^(adam|rmsprop|adagrad|count_steps)/, "tests/nn/optim/adaptive_test.ts"],
  // Names of adaptive.ts that begin with the rule's.
  [/^\[A-Za-z0-9_\]\+\?.*_x\[A-Z/, "tests/nn/optim/adaptive_test.ts"],
  [/^amp_/, "tests/engine/autocast_test.ts"],
  [/^multibox_prior$/, "tests/nn/vision/boxes_test.ts"],
  [/^unpack_bytes$/, "tests/engine/bytes_test.ts"],
  [/^(count_nonzero|chunk_|write_nonzero)/, "tests/engine/indexing_test.ts"],
];

/** Records the names of launched kernels. */
function recorder(): Set<string> {
  const seen = new Set<string>();
  const { queue } = gpu();
  const { launch } = queue;
  queue.launch = (run) => {
    launch.call(queue, run);
    if (!run.grid.includes(0)) seen.add(run.kernel.name);
  };
  return seen;
}

/** Runs a sample forward and backward, comparing nothing: other tests do. */
function runSample(op: Op<unknown>, sample: Sample<unknown>, dtype: DType): void {
  const inputs = sample.inputs.map((i) => ({ ...i, low: Math.max(i.low ?? 0, 0) }));
  const hosts = drawInputs(inputs, new Draw(op.name), dtype);
  try {
    op.check(hosts, sample.attrs);
  } catch (error) {
    if (error instanceof TypeError) return;
    throw error;
  }
  scope(() => {
    const leaves = hosts.map((h) => place(h, "contiguous"));
    for (const leaf of leaves) if (DTYPES[leaf.dtype].float) leaf.requiresGrad_();
    const outputs = apply(op, leaves, sample.attrs).filter((y) => y.requiresGrad);
    const roots = outputs.map((y) => {
      const data = new Float64Array(y.size).fill(1);
      const seed = place({ shape: y.shape, dtype: y.dtype, data }, "contiguous");
      return { edge: y.edge(), grad: seed.device.alias() };
    });
    if (roots.length > 0) walkBack(roots, { retainGraph: false });
  });
}

Deno.test("every variant that a kernel's name tells of is run by a test", async () => {
  await reopen();
  const seen = recorder();
  const noHalf = !gpu().info.features.has("shader-f16");
  for (const op of allOps().values()) {
    for (const sample of op.samples) {
      for (const dtype of Object.keys(DTYPES) as DType[]) {
        if (dtype === "f16" && noHalf) continue;
        runSample(op, sample, dtype);
      }
    }
    await synchronize();
  }
  const names = kernelNames();
  assert(names.length > 40, `only ${names.length} names found`);
  const missing: string[] = [];
  for (const variant of names.flatMap(variantsOf)) {
    if (noHalf && variant.includes("f16")) continue;
    const form = new RegExp(`^${variant}$`);
    if ([...seen].some((name) => form.test(name))) continue;
    const elsewhere = ELSEWHERE.find(([names]) => names.test(variant));
    if (!elsewhere) missing.push(variant);
    else assert(Deno.statSync(new URL(elsewhere[1], ROOT)).isFile);
  }
  assertEquals(missing, []);
});

Deno.test("every tile of the product planner gives a right product", async () => {
  const adapters = [
    { software: true, subgroupSize: 0 },
    { software: true, subgroupSize: 8 },
    { software: false, subgroupSize: 0 },
    { software: false, subgroupSize: 0, maxComputeWorkgroupStorageSize: 1024 },
  ];
  await reopen();
  const lanes = gpu().info.subgroupSize;
  const draw = new Draw("tiles");
  const run = new Set<string>();
  for (const facts of adapters) {
    if (facts.subgroupSize > 0 && lanes !== facts.subgroupSize) continue;
    await reopen();
    const { software, subgroupSize, ...limits } = facts;
    Object.assign(gpu().info, { software, subgroupSize });
    Object.assign(gpu().info.limits, limits);
    const seen = recorder();
    // Tails in every dimension of every tile, and of K within what a workgroup keeps.
    const shapes = [
      [9, 5, 7],
      [17, 3, 37],
      [9, 4, 64],
      [70, 21, 75],
      [520, 19, 520],
      [1030, 3, 1025],
      ...(software ? [] : [[2051, 11, 2053]]),
    ] as [number, number, number][];
    for (const [M, K, N] of shapes) {
      const [a, b] = [M * K, K * N].map((n) =>
        Float32Array.from({ length: n }, () => draw.weight())
      ) as [Float32Array, Float32Array];
      using left = tensor(a, { shape: [M, K] });
      using right = tensor(b, { shape: [K, N] });
      using product = left.matmul(right);
      const got = await product.data() as Float32Array;
      for (let i = 0; i < M * N; i++) {
        let want = 0;
        for (let k = 0; k < K; k++) want += a[Math.floor(i / N) * K + k]! * b[k * N + i % N]!;
        // K products of sizes up to 2.25, each rounded.
        if (!(Math.abs(got[i]! - want) <= K * K * 2.25 * 2 ** -24)) {
          throw new Error(`element ${i} of [${M}, ${K}] x [${K}, ${N}] is ${got[i]}, not ${want}`);
        }
      }
    }
    for (const name of seen) run.add(name);
  }
  for (const { tm, tn, wx, wy, broadcast, staged } of TILES) {
    if (broadcast && lanes !== 8) continue;
    const variant = broadcast ? "_broadcast" : staged ? `_staged${staged}` : "";
    const name = `_${wy * tm}x${wx * tn}${variant}`;
    assert([...run].some((r) => r.endsWith(name)), `no product ran on the tile ${name}`);
  }
  await reopen();
});
