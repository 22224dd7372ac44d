/** Batches of matrices by one matrix. */

import { assert, assertEquals } from "@std/assert";
import { gradcheck, init, profile, type Tensor, tensor } from "../../engine/mod.ts";
import { Draw } from "../helpers/draw.ts";

await init();

function drawn(name: string, shape: readonly number[]): Tensor {
  const draw = new Draw(name);
  const size = shape.reduce((n, d) => n * d, 1);
  return tensor(Float32Array.from({ length: size }, () => 2 * draw.uniform() - 1), {
    shape,
    requiresGrad: true,
  });
}

/** Views of [2, 3, 9, 5], and whether its rows are those of one matrix in memory. */
const VIEWS: Readonly<Record<string, readonly [(name: string) => Tensor, boolean]>> = {
  "as they are": [(name) => drawn(name, [2, 3, 9, 5]), true],
  "swapped batches": [(name) => drawn(name, [3, 2, 9, 5]).transpose(0, 1), false],
  "every other row": [
    (name) => drawn(name, [2, 3, 18, 5]).reshape(2, 3, 9, 10).narrow(3, 0, 5),
    true,
  ],
};

for (const [name, [make, whole]] of Object.entries(VIEWS)) {
  Deno.test(`matmul of [2, 3, 9, 5] ${name} by [5, 4] is right, with gradients`, async () => {
    const [a, b] = [make(name), drawn("b", [5, 4])];
    const y = a.matmul(b);
    assertEquals(y.shape, [2, 3, 9, 4]);
    const [x, w, got] = [await a.detach().array(), await b.detach().array(), await y.array()] as [
      number[][][][],
      number[][],
      number[][][][],
    ];
    for (const [i, j, m, n] of [[0, 0, 0, 0], [1, 2, 8, 3], [0, 1, 4, 2], [1, 0, 7, 1]] as const) {
      const want = x[i]![j]![m]!.reduce((sum, v, k) => sum + v * w[k]![n]!, 0);
      // Five products of numbers below 1, each rounded, and added.
      assert(Math.abs(got[i]![j]![m]![n]! - want) <= 10 * 2 ** -24, `${i} ${j} ${m} ${n}`);
    }
    const leaf = drawn("leaf", [2, 3, 9, 5]);
    await gradcheck((t, u) => t!.matmul(u!).tanh(), [leaf, b]);
    const { kernels } = await profile(() => {
      a.matmul(b).sum().backward();
    });
    const merges = kernels.filter((k) => k.name.startsWith("sum")).reduce((n, k) => n + k.calls, 0);
    // One sum is the loss; a batch's gradients of b are added up by more.
    assertEquals(merges === 1, whole, kernels.map((k) => k.name).join(" "));
  });
}
