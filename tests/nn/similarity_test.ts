/** The cosine of the angle between rows, and their distance, against the formulas in float64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  cosineSimilarity,
  gradcheck,
  init,
  nn,
  pairwiseDistance,
  readAll,
  scope,
  tensor,
  zeros,
} from "../../mod.ts";
import { assertClose, assertSame } from "../helpers/close.ts";
import { drawn, each, U } from "../helpers/numbers.ts";

await init();

type Row = readonly number[];

const [N, D] = [6, 5];

const sum = (x: Row) => x.reduce((a, b) => a + b, 0);
const dot = (a: Row, b: Row) => sum(a.map((v, i) => v * b[i]!));
const cosine = (a: Row, b: Row) => dot(a, b) / Math.hypot(...a) / Math.hypot(...b);
const distance = (a: Row, b: Row, p = 2, eps = 1e-6) => {
  const apart = a.map((v, i) => Math.abs(v - b[i]! + eps));
  return p === Infinity ? Math.max(...apart) : sum(apart.map((v) => v ** p)) ** (1 / p);
};

const [a, b] = ["a", "b"].map((name) => drawn(name, [N, D], -2, 2).requiresGrad_());

Deno.test("cosineSimilarity is the cosine of the angle, along any dimension of the common shape", async () => {
  for (
    const [left, right, dim] of [
      [[4, 5], [4, 5], 1],
      [[4, 5], [4, 5], 0],
      [[4, 5, 3], [4, 5, 1], -2],
      // Repeated along the dimension itself.
      [[4, 5], [4, 1], 1],
      [[5], [4, 5], -1],
      // Dimension 1 of the common shape is dimension 0 of the second.
      [[4, 5, 3], [5, 3], 1],
      [[2, 1, 3], [5, 1], 1],
    ] as const
  ) {
    const what = `[${left}] and [${right}] along ${dim}`;
    const rank = Math.max(left.length, right.length);
    const size = (shape: Row, d: number) => shape[shape.length - rank + d] ?? 1;
    const common = Array.from(
      { length: rank },
      (_, d) => Math.max(size(left, d), size(right, d)),
    );
    const at = dim < 0 ? dim + rank : dim;
    // A repeated number has no gradient: only its sign counts.
    const learns = (shape: Row) => size(shape, at) === common[at];
    using x = drawn(`left ${what}`, left, -2, 2).requiresGrad_(learns(left));
    using y = drawn(`right ${what}`, right, -2, 2).requiresGrad_(learns(right));
    using z = scope(() => cosineSimilarity(x, y, { dim }).detach());
    const [l, r] = await readAll([x, y]);
    /** An operand's number at a place of the common shape. */
    const read = (data: ArrayLike<number>, shape: Row, place: Row) =>
      data[shape.reduce((n, s, d) => n * s + place[rank - shape.length + d]! % s, 0)]!;
    const want = each(common.toSpliced(at, 1), (...rest) => {
      const along = (data: ArrayLike<number>, shape: Row) =>
        Array.from({ length: common[at]! }, (_, i) => read(data, shape, rest.toSpliced(at, 0, i)));
      return cosine(along(l!, left), along(r!, right));
    });
    assertEquals(z.shape, common.toSpliced(at, 1), what);
    // Each unit row is off by 5 sums, a root of 9 U and a division of 5 U; then 5 products are summed.
    assertClose(await z.data(), want, { atol: (2 * 19 + 10) * U, what });
    await gradcheck((x, y) => cosineSimilarity(x!, y!, { dim }), [x, y]);
  }
});

Deno.test("cosineSimilarity counts lengths below eps as eps", async () => {
  using x = tensor([[1, 0], [0, 0]], { requiresGrad: true });
  using y = tensor([[1, 0], [3, 4]]);
  using short = scope(() => cosineSimilarity(x, y, { eps: 2 }).detach());
  assertEquals(await short.array(), [0.25, 0]);
  scope(() => cosineSimilarity(x, y).sum().backward());
  assert([...await x.grad!.data()].every(Number.isFinite));
});

Deno.test("pairwiseDistance is the norm of the difference, of any exponent", async () => {
  const [rowsA, rowsB] = await Promise.all(
    [a!, b!].map(async (t) => await t.array() as number[][]),
  );
  for (const p of [1, 2, 3, Infinity]) {
    using y = scope(() => pairwiseDistance(a!, b!, { p }).detach());
    using kept = scope(() => pairwiseDistance(a!, b!, { p, eps: 0.25, keepdim: true }).detach());
    assertEquals([y.shape, kept.shape], [[N], [N, 1]]);
    const want = rowsA!.map((row, n) => distance(row, rowsB![n]!, p));
    const shifted = rowsA!.map((row, n) => distance(row, rowsB![n]!, p, 0.25));
    // The third power and its root are exp2 of log2, off by 2^-21 · 3 and 3 + 2 · 6 ulp each.
    const rtol = (p === 3 ? 64 : 24) * U;
    assertClose(await y.data(), want, { rtol, what: `p = ${p}` });
    assertClose(await kept.data(), shifted, { rtol, what: `p = ${p}, eps 0.25` });
    await gradcheck((a, b) => pairwiseDistance(a!, b!, { p }), [a!, b!]);
  }
  using one = tensor([1, 2], { requiresGrad: true });
  scope(() => pairwiseDistance(one, one.detach()).backward());
  // Equal rows are eps apart in each place, so there is a slope.
  assertClose(await one.grad!.data(), [Math.SQRT1_2, Math.SQRT1_2], { rtol: 24 * U });
});

Deno.test("cosineSimilarity and pairwiseDistance refuse shapes that do not broadcast", () => {
  scope(() => {
    assertThrows(
      () => cosineSimilarity(zeros([2, 3]), zeros([2, 4])),
      TypeError,
      "Cannot cosineSimilarity",
    );
    assertThrows(() => pairwiseDistance(zeros([2, 3]), zeros([2, 4])), TypeError, "Cannot sub");
  });
});

Deno.test("CosineSimilarity and PairwiseDistance are their functions with their options", async () => {
  const options = { dim: 0, eps: 2 };
  const far = { p: 1, eps: 0.5, keepdim: true };
  const pairs = [
    [new nn.CosineSimilarity(), cosineSimilarity(a!, b!)],
    [new nn.CosineSimilarity(options), cosineSimilarity(a!, b!, options)],
    [new nn.PairwiseDistance(), pairwiseDistance(a!, b!)],
    [new nn.PairwiseDistance(far), pairwiseDistance(a!, b!, far)],
  ] as const;
  for (const [layer, want] of pairs) {
    using got = layer.forward(a!, b!);
    const [mine, its] = await readAll([got, want]);
    assertSame(mine!, its!, `${layer}`);
    assertEquals(got.shape, want.shape);
    assertEquals([layer.parameters(), `${layer}`], [[], `${layer.constructor.name}()`]);
    want.dispose();
  }
});
