/** Products and convolutions of the shapes that fill tiles; see `helpers/gemm_edges.ts`. */

import { assertEquals } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import "../../engine/ops/conv.ts";
import "../../engine/ops/conv_transpose.ts";
import "../../engine/ops/matmul.ts";
import { checkEdges, GEMM_EDGES } from "../helpers/gemm_edges.ts";

await init();

for (const [name, samples] of Object.entries(GEMM_EDGES)) {
  Deno.test(`${name} is right on ${samples.length} shapes that fill its tiles`, async () => {
    assertEquals(await checkEdges(allOps().get(name)!, [...samples.keys()]), []);
  });
}
