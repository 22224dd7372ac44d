/** Losses of pairs and triplets of rows, against their formulas in float64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  cosineEmbeddingLoss,
  gradcheck,
  init,
  marginRankingLoss,
  nn,
  readAll,
  scope,
  type Tensor,
  tensor,
  tripletMarginLoss,
  zeros,
} from "../../mod.ts";
import { assertClose, assertSame } from "../helpers/close.ts";
import { numbers, U } from "../helpers/numbers.ts";

await init();

type Row = readonly number[];
type Reduction = "none" | "sum" | "mean";

const [N, D] = [6, 5];
const rowsOf = (x: Row) => Array.from({ length: N }, (_, n) => x.slice(n * D, (n + 1) * D));
const sum = (x: Row) => x.reduce((a, b) => a + b, 0);
const dot = (a: Row, b: Row) => sum(a.map((v, i) => v * b[i]!));
const cosine = (a: Row, b: Row) => dot(a, b) / Math.hypot(...a) / Math.hypot(...b);
const distance = (a: Row, b: Row, p = 2, eps = 1e-6) => {
  const apart = a.map((v, i) => Math.abs(v - b[i]! + eps));
  return p === Infinity ? Math.max(...apart) : sum(apart.map((v) => v ** p)) ** (1 / p);
};

/** Compares a loss in all its reductions: sums of a few dozen terms of up to about 10. */
async function expectLoss(loss: (reduction: Reduction) => Tensor, want: Row, what: string) {
  for (const reduction of ["none", "sum", "mean"] as const) {
    const expected = reduction === "none"
      ? want
      : [sum(want) / (reduction === "mean" ? want.length : 1)];
    using y = scope(() => loss(reduction).detach());
    assertEquals(y.size, expected.length);
    const close = { rtol: 64 * U, atol: 256 * U, what: `${what} ${reduction}` };
    assertClose(await y.data(), expected, close);
  }
}

const [A, B, P] = ["a", "b", "positive"].map((name) => numbers(name, N * D, -2, 2));
const [a, b, positive] = [A, B, P].map((x) => tensor(x!, { shape: [N, D], requiresGrad: true }));
const [rowsA, rowsB, rowsP] = [A, B, P].map((x) => rowsOf(x!));
const SIDES = [1, -1, -1, 1, -1, 1];
const sides = tensor(SIDES, { dtype: "i32" });

Deno.test("cosineEmbeddingLoss draws pairs together or apart, by their targets", async () => {
  for (const margin of [undefined, 0.3, -0.5]) {
    const want = rowsA!.map((row, n) => {
      const c = cosine(row, rowsB![n]!);
      return SIDES[n] === 1 ? 1 - c : Math.max(0, c - (margin ?? 0));
    });
    await expectLoss(
      (reduction) => cosineEmbeddingLoss(a!, b!, sides, { margin, reduction }),
      want,
      `margin ${margin}`,
    );
    await gradcheck((a, b) => cosineEmbeddingLoss(a!, b!, sides, { margin }), [a!, b!]);
  }
  using pair = scope(() => cosineEmbeddingLoss(tensor([3, 4]), tensor([4, 3]), tensor(1)));
  assertEquals(pair.shape, []);
  assertClose(await pair.data(), [0.04], { atol: 32 * U });
  // A target that is neither gives no loss.
  using none = scope(() => cosineEmbeddingLoss(tensor([3, 4]), tensor([4, 3]), tensor(0)));
  assertEquals(await none.item(), 0);
});

Deno.test("tripletMarginLoss wants the positive nearer than the negative", async () => {
  for (const options of [{}, { margin: 0.5, swap: true }, { p: 1 }, { p: 3, eps: 1e-3 }]) {
    const { margin = 1, p, eps, swap = false }: Parameters<typeof tripletMarginLoss>[2] & object =
      options;
    const want = rowsA!.map((row, n) => {
      const [near, far] = [distance(row, rowsP![n]!, p, eps), distance(row, rowsB![n]!, p, eps)];
      const other = distance(rowsP![n]!, rowsB![n]!, p, eps);
      return Math.max(0, near - (swap ? Math.min(far, other) : far) + margin);
    });
    assert(want.some((v) => v > 0));
    const rows = { positive: positive!, negative: b! };
    const what = JSON.stringify(options);
    await expectLoss(
      (reduction) => tripletMarginLoss(a!, rows, { ...options, reduction }),
      want,
      what,
    );
    await gradcheck(
      (a, positive, b) => tripletMarginLoss(a!, { positive: positive!, negative: b! }, options),
      [a!, positive!, b!],
    );
  }
});

Deno.test("marginRankingLoss wants the scores in the targets' order", async () => {
  const [x, y] = [A!.slice(0, N), B!.slice(0, N)];
  using left = tensor(x, { requiresGrad: true });
  using right = tensor(y, { requiresGrad: true });
  for (const margin of [undefined, 0.75]) {
    const want = x.map((v, i) => Math.max(0, -SIDES[i]! * (v - y[i]!) + (margin ?? 0)));
    const loss = (reduction: Reduction) =>
      marginRankingLoss(left, right, sides, { margin, reduction });
    await expectLoss(loss, want, `margin ${margin}`);
    await gradcheck((l, r) => marginRankingLoss(l!, r!, sides, { margin }), [left, right]);
  }
});

Deno.test("each layer of pairs is its function with its options, and has no parameters", async () => {
  const rows = { positive: positive!, negative: b! };
  const [triplet, sum] = [{ margin: 0.5, swap: true, p: 1 }, { reduction: "sum" as const }];
  const pairs: [nn.Module, Tensor[], Tensor][] = [
    [
      new nn.CosineEmbeddingLoss({ margin: 0.2, ...sum }),
      [a!, b!, sides],
      cosineEmbeddingLoss(a!, b!, sides, { margin: 0.2, ...sum }),
    ],
    [
      new nn.TripletMarginLoss(triplet),
      [a!, positive!, b!],
      tripletMarginLoss(a!, rows, triplet),
    ],
    [
      new nn.MarginRankingLoss({ margin: 0.5 }),
      [a!, b!, positive!],
      marginRankingLoss(a!, b!, positive!, { margin: 0.5 }),
    ],
  ];
  for (const [layer, inputs, want] of pairs) {
    const got = layer.forward(...inputs as never[]) as Tensor;
    const [mine, its] = await readAll([got, want]);
    assertSame(mine!, its!, `${layer}`);
    assertEquals([layer.parameters(), `${layer}`], [[], `${layer.constructor.name}()`]);
    got.dispose();
    want.dispose();
  }
});

Deno.test("losses of pairs say what they cannot do", () => {
  const cases: [() => unknown, string][] = [
    [
      () => cosineEmbeddingLoss(a!, zeros([N, 1]), sides),
      "Cannot take cosineEmbeddingLoss of [6, 5] and [6, 1]: shapes must be equal",
    ],
    [
      () => cosineEmbeddingLoss(a!, b!, zeros([N, 1])),
      "Cannot take cosineEmbeddingLoss of [6, 5] with targets [6, 1]: they must be [N, D] and [N], " +
      "or [D] and []",
    ],
    [
      () => cosineEmbeddingLoss(zeros([2, 2, 2]), zeros([2, 2, 2]), zeros([2, 2])),
      "Cannot take cosineEmbeddingLoss of [2, 2, 2] with targets [2, 2]",
    ],
    [
      () => tripletMarginLoss(a!, { positive: zeros([N, 1]), negative: b! }),
      "Cannot take tripletMarginLoss of [6, 5] and [6, 1] and [6, 5]: shapes must be equal",
    ],
    [
      () => marginRankingLoss(a!, b!, sides),
      "Cannot take marginRankingLoss of [6, 5] and [6, 5] and [6]: shapes must be equal",
    ],
    [
      () => new nn.TripletMarginLoss({ reduction: "max" as "mean" }).forward(a!, b!, positive!),
      'Cannot reduce a loss with reduction "max": it must be mean, sum or none',
    ],
  ];
  scope(() => cases.forEach(([call, text]) => assertThrows(call, TypeError, text)));
});
