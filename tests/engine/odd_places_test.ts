/** Products one of whose operands begins where no four neighbours are one load; the other's fours stay. */

import { assertEquals } from "@std/assert";
import { randint } from "../../engine/creation.ts";
import { init } from "../../engine/gpu/device.ts";
import { scope } from "../../engine/scope.ts";
import { manualSeed } from "../../engine/rng.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

/** Small whole numbers, whose sums of products are exact, as a view that begins at `place`. */
function whole(shape: readonly number[], place: number): Tensor {
  const size = shape.reduce((n, s) => n * s, 1);
  const all = randint(-3, 4, { shape: [size + place] }).to("f32");
  return all.narrow(0, place, size).reshape(shape);
}

Deno.test("products are exact wherever each operand begins", async () => {
  // Or a buffer of the product before would hold what a kernel did not write.
  using _fresh = poisoned();
  for (
    const [M, K, N] of [[9, 12, 8], [3, 7, 12], [17, 8, 5], [40, 16, 33], [5, 12, 12]] as const
  ) {
    for (const [px, pw, pb] of [[0, 1, 0], [1, 0, 1], [0, 0, 1], [3, 2, 0]] as const) {
      manualSeed(M * K + px);
      const [x, w, bias] = scope(() => [whole([M, K], px), whole([N, K], pw), whole([N], pb)]);
      const [a, b, c] = await Promise.all([x!, w!, bias!].map((t) => t.data())) as Float32Array[];
      const want = Array.from({ length: M * N }, (_, i) => {
        const [m, n] = [Math.floor(i / N), i % N];
        let sum = 0;
        for (let k = 0; k < K; k++) sum += a![m * K + k]! * b![n * K + k]!;
        return sum;
      });
      const what = `[${M}, ${K}] by [${N}, ${K}] from ${px}, ${pw}, ${pb} on`;
      using product = scope(() => x!.matmul(w!.transpose(0, 1)));
      assertEquals([...await product.data()], want.map((v) => v + 0), what);
      using linear = x!.linear(w!, bias!);
      assertEquals([...await linear.data()], want.map((v, i) => v + c![i % N]!), what);
      using relu = x!.linear(w!, bias!, { activation: "relu" });
      assertEquals(
        [...await relu.data()],
        want.map((v, i) => Math.max(v + c![i % N]!, 0)),
        what,
      );
      for (const t of [x, w, bias]) t!.dispose();
    }
  }
});
