/** Products and convolutions of the shapes that fill tiles; see `helpers/gemm_edges.ts`. */

import { assertEquals } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import "../../engine/ops/conv.ts";
import "../../engine/ops/conv_transpose.ts";
import "../../engine/ops/matmul.ts";
import { checkEdges, checkWholeEdge, GEMM_EDGES } from "../helpers/gemm_edges.ts";

const { features } = await init();

for (const [name, samples] of Object.entries(GEMM_EDGES)) {
  Deno.test(`${name} is right on ${samples.length} shapes that fill its tiles`, async () => {
    assertEquals(await checkEdges(allOps().get(name)!, [...samples.keys()]), []);
  });
}

Deno.test("products and convolutions of small whole numbers are exact, also in f16 and transposed", async () => {
  const half = features.has("shader-f16");
  for (const [name, samples] of Object.entries(GEMM_EDGES)) {
    for (const i of samples.keys()) {
      assertEquals(await checkWholeEdge(allOps().get(name)!, i, half), [], name);
    }
  }
});
