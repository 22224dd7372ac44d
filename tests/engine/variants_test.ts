/**
 * Every variant of every kernel runs in some test. Variants are read off the kernels' names in the source:
 * a choice between two words in a name is two variants.
 */

import { assert, assertEquals } from "@std/assert";
import { walkBack } from "../../engine/autograd.ts";
import { type DType, DTYPES } from "../../engine/dtype.ts";
import { gpu, reopen } from "../../engine/gpu/device.ts";
import { allOps, type Op, type Sample } from "../../engine/op.ts";
import type { Tile } from "../../engine/kernels/gemm.ts";
import { TILES } from "../../engine/ops/gemm_plan.ts";
import { synchronize } from "../../engine/read.ts";
import { scope } from "../../engine/scope.ts";
import { apply } from "../../engine/tensor.ts";
import { asSoftware } from "../helpers/as_hardware.ts";
import { checkOp } from "../helpers/check_op.ts";
import { Draw, drawInputs, place } from "../helpers/draw.ts";
import { kernelNames, variantsOf } from "../helpers/kernel_names.ts";
import { ROOT } from "../helpers/source.ts";

for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
  if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
}

/** Variants that no record reaches on a plain adapter, and the test that runs them. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^random_/, "tests/engine/rng_test.ts"],
  [/^dropout(_add)?(_fours)?$/, "tests/engine/rng_test.ts"],
  [/^batch_norm_running/, "tests/nn/layers/epilogue_test.ts"],
  [/^advance_rng$/, "tests/engine/capture_test.ts"],
  [/^sgd/, "tests/engine/sgd_test.ts"],
  [/^(adam|rmsprop|adagrad|count_steps)/, "tests/nn/optim/adaptive_test.ts"],
  // Names of adaptive.ts that begin with the rule's.
  [/^\[A-Za-z0-9_\]\+\?.*_x\[A-Z/, "tests/nn/optim/adaptive_test.ts"],
  [/^amp_/, "tests/engine/autocast_test.ts"],
  [/^winograd_/, "tests/engine/winograd_test.ts"],
  [/^depthwise_columns/, "tests/engine/depthwise_columns_test.ts"],
  [/^conv2d_direct_dw/, "tests/engine/conv_direct_test.ts"],
  [/^multibox_prior$/, "tests/nn/vision/boxes_test.ts"],
  [/^transpose_/, "tests/engine/transpose_test.ts"],
  [/^index_copy_/, "tests/engine/indexing_test.ts"],
  [/^moment_merge\[/, "tests/engine/hardware_test.ts"],
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

function unsigned(value: number): number {
  return Number.isFinite(value) ? Math.min(Math.abs(value), 1e9) : 0;
}

/** Runs a sample forward and backward, comparing nothing: other tests do. */
function runSample(op: Op<unknown>, sample: Sample<unknown>, dtype: DType): void {
  const inputs = sample.inputs.map((i) => ({
    ...i,
    low: Math.max(i.low ?? 0, 0),
    ...(DTYPES[dtype].float || i.dtype || !i.values ? {} : { values: i.values.map(unsigned) }),
  }));
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
  const runOp = (op: Op<unknown>) => {
    for (const sample of op.samples) {
      for (const dtype of Object.keys(DTYPES) as DType[]) {
        if (dtype === "f16" && noHalf) continue;
        runSample(op, sample, dtype);
      }
    }
  };
  for (const op of allOps().values()) {
    runOp(op);
    // Some are for software only.
    if (!gpu().info.software) asSoftware(() => runOp(op));
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

/**
 * Products with tails and inner parts of every tile, and one whose K is shared out; the records' samples
 * are smaller. The ops are those that have tiles; recurrent nets run matmul's kernels.
 */
const WIDE: Record<string, Sample<unknown>[]> = {
  matmul: [[9, 13, 64], [7, 5, 300], [11, 6, 5], [17, 3, 128], [3, 700, 9], [130, 21, 267]].map((
    [M, K, N],
  ) => ({
    inputs: [{ shape: [M!, K!] }, { shape: [K!, N!] }],
    attrs: {},
    terms: Math.max(K!, N!),
    grad: M! < 100, // a slope in one direction would cancel
  })),
  linear: [{ inputs: [{ shape: [9, 7] }, { shape: [70, 7] }, { shape: [70] }], attrs: {} }],
  conv2d: [{
    inputs: [{ shape: [1, 2, 18, 18] }, { shape: [3, 2, 3, 3] }, { shape: [3] }],
    attrs: { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 },
    terms: 325,
  }],
  convTranspose2d: [],
};

/** Runs `fn` with every tile that the planner knows replaced by one of them. */
async function withTile(tile: Tile, fn: () => Promise<void>): Promise<void> {
  const before = TILES.map((t) => ({ ...t }));
  const become = (t: Tile, numbers: Tile) => {
    for (const key of Object.keys(t)) delete (t as unknown as Record<string, unknown>)[key];
    Object.assign(t, numbers);
  };
  const forced = { ...tile };
  for (const t of TILES) become(t, forced);
  try {
    await fn();
  } finally {
    TILES.forEach((t, i) => become(t, before[i]!));
  }
}

// Matrix units take f16 alone: see gemm_matrices_test.ts.
TILES.filter((t) => !t.matrix).forEach((tile, turn) => {
  const { tm, tn, wx, wy, ...kind } = tile;
  const name = `${wy * tm}x${wx * tn}`;
  const title = `${name} of ${wx} x ${wy} threads${
    Object.entries(kind).map(([k, v]) => `, ${k} ${v}`).join("")
  }`;
  Deno.test(`every product and convolution is right on tiles of ${title}`, async () => {
    await reopen();
    // Lanes hand A on to one another only where a subgroup is a workgroup's row.
    const crosses = "broadcast" in kind || "lanes" in kind;
    if (crosses && gpu().info.subgroupSize !== wx) return;
    const large = tm * tn * wx * wy > 1024;
    const seen = recorder();
    await withTile(tile, async () => {
      Object.assign(gpu().info, { software: !("staged" in kind) });
      for (const [name, wide] of Object.entries(WIDE)) {
        const op = allOps().get(name)!;
        const samples = [...op.samples, ...wide];
        // A third of the records' samples a tile, and none on the largest, which software is slow at.
        const only = [...samples.keys()].filter((i) =>
          i >= op.samples.length || (!large && i % 3 === turn % 3)
        );
        const { problems } = await checkOp({ ...op, samples }, { only, dtypes: !large });
        assertEquals(problems, [], name);
      }
    });
    const tiled = [...seen].filter((n) => /_\d+x\d+/.test(n));
    assert(tiled.length > (large ? 4 : 8), tiled.join(" "));
    assertEquals(tiled.filter((n) => !n.includes(`_${name}`)), []);
  });
});
