/**
 * Products and convolutions on matrix units, f16 in and sums in f32. They need an adapter that has them:
 * of software ones lavapipe of Mesa 26.2, through Dawn (`deno task test:dawn`).
 */

import { assert, assertEquals } from "@std/assert";
import { gpu, init } from "../../engine/gpu/device.ts";
import { matricesDetail, tryMatrix } from "../../engine/gpu/matrices.ts";
import { matricesBytes } from "../../engine/kernels/gemm_matrices.ts";
import { shapeName } from "../../engine/kernels/kernel.ts";
import { allOps, type Sample } from "../../engine/op.ts";
import "../../engine/ops/conv.ts";
import "../../engine/ops/conv_transpose.ts";
import "../../engine/ops/matmul.ts";
import {
  defaultTile,
  fits,
  onTile,
  tileFor,
  tileName,
  TILES,
} from "../../engine/ops/gemm_tiles.ts";
import { tensor } from "../../engine/creation.ts";
import { noGrad } from "../../engine/autograd.ts";
import { GEMM_EDGES, type Way, wholeResults } from "../helpers/gemm_edges.ts";
import { Draw } from "../helpers/draw.ts";

const { matrixShapes } = await init();
const UNITS = TILES.filter((t) => t.matrix);

/** Several tiles a side and their tails, more than one turn along K, shares of K, bias and activation. */
const WIDE: Readonly<Record<string, readonly Sample<unknown>[]>> = {
  matmul: [[130, 37, 70], [65, 48, 132], [9, 600, 12], [1, 3, 2], [5, 700, 3]].map(([M, K, N]) => ({
    inputs: [{ shape: [M!, K!] }, { shape: [K!, N!] }],
    attrs: {},
  })),
  linear: [[70, 40, 66], [5, 600, 12]].map(([M, K, N]) => ({
    inputs: [{ shape: [M!, K!] }, { shape: [N!, K!] }, { shape: [N!] }],
    attrs: { activation: "relu" },
  })),
  conv2d: [
    { at: [2, 6, 12, 12], w: [70, 3, 3, 3], stride: 1, padding: 1, groups: 2 },
    { at: [2, 40, 9, 8], w: [36, 40, 1, 1], stride: 1, padding: 0, groups: 1 },
    { at: [3, 5, 11, 13], w: [20, 5, 3, 3], stride: 2, padding: 2, groups: 1 },
  ].map(({ at, w, stride, padding, groups }) => ({
    inputs: [{ shape: at }, { shape: w }, { shape: [w[0]!] }],
    attrs: {
      stride: [stride, stride],
      padding: [padding, padding],
      dilation: [1, 1],
      groups,
      activation: "relu",
    },
  })),
  convTranspose2d: [],
};

/** Names of the kernels that `fn` launches. */
async function launched(fn: () => Promise<void>): Promise<string[]> {
  const { queue } = gpu();
  const { launch } = queue;
  const names = new Set<string>();
  queue.launch = (run) => {
    names.add(run.kernel.name);
    launch.call(queue, run);
  };
  try {
    await fn();
  } finally {
    queue.launch = launch;
  }
  return [...names];
}

for (const tile of UNITS) {
  const name = tileName(tile);
  const ignore = !fits(tile, "f16");
  Deno.test({
    name: `products and convolutions of whole numbers are exact on ${name}`,
    ignore,
    async fn() {
      const seen = await launched(async () => {
        for (const [op, edges] of Object.entries(GEMM_EDGES)) {
          const record = allOps().get(op)!;
          // Few of the edges: they fill tiles of other sizes, and software compiles a kernel for seconds.
          const some = [...WIDE[op]!, ...edges.filter((_, i) => i % 9 === 0)];
          for (const [i, sample] of some.entries()) {
            const turns = /conv/.test(op) ? [[false, false]] : [
              [false, false],
              [true, false],
              [false, true],
            ];
            const right = await wholeResults(record, sample, { dtype: "f32", turned: [] });
            for (const turned of turns) {
              const way: Way = { dtype: "f16", turned, tile };
              const got = await wholeResults(record, sample, way);
              got.forEach((values, which) => {
                const where = `${op} ${i} ${turned}, array ${which}`;
                const most = right[which]!.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
                assert(most <= 2048, `${where}: ${most} is not exact in f16`);
                const at = values.findIndex((v, k) => v !== right[which]![k]);
                assert(at < 0, `${where} [${at}]: ${values[at]}, not ${right[which]![at]}`);
              });
            }
          }
        }
      });
      const tiled = seen.filter((n) => n.endsWith(`_${name}`));
      for (const variant of [/a4k/, /a4side/, /b4k/, /b4side/, /^matmul_\d/, /_a4_b4/, /_dw_/]) {
        assert(tiled.some((n) => variant.test(n)), `${variant} in ${tiled.join(" ")}`);
      }
    },
  });

  Deno.test({
    name: `a product is as exact as f32 sums make it on ${name}`,
    ignore,
    async fn() {
      const [M, K, N] = [33, 300, 41];
      const draw = new Draw("matrices");
      const [a, b] = [[M, K], [K, N]].map(([rows, columns]) => {
        const values = Float32Array.from(
          { length: rows! * columns! },
          () => 2 * draw.uniform() - 1,
        );
        return tensor(values, { shape: [rows!, columns!] }).to("f16");
      });
      const c = onTile(tile, () => noGrad(() => a!.matmul(b!)));
      const [x, y, got] = [await a!.data(), await b!.data(), await c.data()];
      for (let m = 0; m < M; m++) {
        for (let n = 0; n < N; n++) {
          let [sum, terms] = [0, 0];
          for (let k = 0; k < K; k++) {
            const term = Number(x[m * K + k]) * Number(y[k * N + n]);
            sum += term;
            terms += Math.abs(term);
          }
          // Products of f16 are exact in f32; sums round to f32, and the result to f16.
          const tolerance = 2 ** -11 * Math.abs(sum) + 4 * 2 ** -24 * Math.sqrt(K) * terms;
          const error = Math.abs(Number(got[m * N + n]) - sum);
          assert(error <= tolerance, `[${m}, ${n}]: ${error} over ${tolerance}`);
        }
      }
      for (const t of [a!, b!, c]) t.dispose();
    },
  });
}

Deno.test("a product takes matrix units in f16 alone, and where the adapter has their shape", async () => {
  await init();
  const { info } = gpu();
  const before = { ...info };
  const use = { kind: "nn", dtype: "f16" } as const;
  const size = { M: 4096, N: 4096, K: 4096, batch: 1 };
  try {
    const limits = { ...info.limits, maxComputeWorkgroupStorageSize: 32768 };
    Object.assign(info, {
      software: false,
      subgroupSize: 32,
      matrixShapes: [{ m: 16, n: 16, k: 16 }],
      limits,
      adapter: "none",
    });
    const of = (s: typeof size, u: { kind: "nn"; dtype: "f32" | "f16" }) => tileName(tileFor(s, u));
    assertEquals(of(size, use), "128x128_matrix16x16x16");
    assertEquals(of({ ...size, M: 64 }, use), "64x64_matrix16x16x16");
    // Which one depends on the shares of K that a binding holds.
    assert(/_staged\d+$/.test(of({ ...size, M: 8 }, use)));
    assertEquals(of(size, { ...use, dtype: "f32" }), "128x128_staged8");
    const [large] = UNITS;
    onTile(large!, () => {
      assertEquals(of(size, use), "128x128_matrix16x16x16");
      assertEquals(of(size, { ...use, dtype: "f32" }), "128x128_staged8");
    });
    Object.assign(info, { limits: { ...limits, maxComputeWorkgroupStorageSize: 16384 } });
    assertEquals(of(size, use), "64x64_matrix16x16x16");
    Object.assign(info, { limits, subgroupSize: 64 });
    assertEquals(tileName(defaultTile(size, use)), "128x128_staged8");
    Object.assign(info, { subgroupSize: 32, matrixShapes: [{ m: 8, n: 8, k: 8 }] });
    assertEquals(tileName(defaultTile(size, use)), "128x128_staged8");
  } finally {
    Object.assign(info, before);
  }
});

Deno.test("tiles on matrix units are whole matrices, and their memory is what they say", () => {
  for (const tile of UNITS) {
    const { m, n, k, across } = tile.matrix!;
    assertEquals(tile.wy % across, 0);
    assertEquals(tile.tm * across % m, 0, tileName(tile));
    assertEquals(tile.wx * tile.tn / across % n, 0, tileName(tile));
    assertEquals(tile.staged! % k, 0);
  }
  // [128, 16 + 8] of f16 for A, at most the same for B, eight matrices of 256 sums, and the walk at 16 steps.
  assertEquals(matricesBytes(UNITS[0]!), 2 * 2 * 128 * 24 + 8 * 4 * 256 + 16 * 16);
});

Deno.test({
  name: "shapes are what the adapter multiplies rightly",
  ignore: matrixShapes.length === 0,
  async fn() {
    const { device, info: { subgroupSize } } = gpu();
    for (const shape of matrixShapes) {
      assert(await tryMatrix(device, shape, subgroupSize), shapeName(shape));
    }
    // No unit has such a shape.
    assertEquals(await tryMatrix(device, { m: 3, n: 5, k: 7 }, subgroupSize), false);
  },
});

Deno.test("shapes in words", () => {
  assertEquals(matricesDetail([]), "not granted");
  assertEquals(
    matricesDetail([{ m: 16, n: 8, k: 16 }, { m: 8, n: 8, k: 8 }]),
    "16x8x16, 8x8x8, f16 in, sums in f32",
  );
});
