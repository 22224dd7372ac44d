/** Products and convolutions whose K is shared out, on tiles that are full. */

import { assert } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { conv2d, profile, randint, readAll, scope, type Tensor } from "../../engine/mod.ts";
import { onTiledCore } from "../../engine/ops/conv_core.ts";
import { onTile, tileName, TILES } from "../../engine/ops/gemm_tiles.ts";
import { asHardware } from "../helpers/as_hardware.ts";
import { assertSame } from "../helpers/close.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

const TILE = TILES.find((tile) => tileName(tile) === "32x32_staged16")!;

/** Whole numbers whose sums stay below 2^24, so that no order makes a difference. */
function draw(...shape: number[]): Tensor {
  return randint(-2, 3, { shape }).to("f32");
}

async function valuesOf(results: readonly Tensor[]) {
  const all = await readAll(results);
  for (const t of results) t.dispose();
  return all;
}

/** What `run` gives, each result on shares of K. */
async function sharedValues(name: string, run: () => Tensor[]) {
  using _ = poisoned();
  let results: Tensor[] = [];
  const { dispatches } = await profile(() => {
    results = asHardware(() => onTile(TILE, () => onTiledCore(() => scope(run))));
  });
  const merges = dispatches.filter(({ kernel }) => kernel.startsWith("gemm_merge")).length;
  assert(merges >= results.length, `${name}: ${merges} of ${results.length} are in shares`);
  return await valuesOf(results);
}

// The last has images of 35 places, not a whole number of fours.
for (const [height, width] of [[8, 8], [8, 7], [5, 7]] as const) {
  const what = `images of ${height} x ${width}`;
  Deno.test(`convolutions of full tiles and ${what} are exact in shares, forward and back`, async () => {
    const [x, w, bias] = [draw(10, 64, height, width), draw(64, 64, 3, 3), draw(64)];
    const run = () => {
      const gx = x.detach().requiresGrad_();
      const y = conv2d(gx, w, { padding: 1 });
      y.mul(y.detach()).sum().backward();
      return [
        y.detach(),
        conv2d(x, w, { padding: 1, bias, activation: "relu" }),
        gx.grad!.detach(),
      ];
    };
    // On software convolutions have no shares.
    const want = await valuesOf(onTiledCore(() => scope(run)));
    const got = await sharedValues(what, run);
    got.forEach((values, i) => assertSame(values, want[i]!, `${what}, ${i}`));
  });
}

Deno.test("products of full tiles are exact in shares", async () => {
  for (const columns of [32, 35]) {
    const [a, b] = [draw(64, 512), draw(512, columns)];
    const [rows, all] = [await a.data(), await b.data()];
    const want = Float32Array.from({ length: 64 * columns }, (_, i) => {
      const [m, n] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let k = 0; k < 512; k++) sum += rows[512 * m + k]! * all[columns * k + n]!;
      return sum;
    });
    const got = await sharedValues(`${columns} columns`, () => [a.matmul(b)]);
    assertSame(got[0]!, want, `${columns} columns`);
  }
});
