/** Losses of normal and Poisson distributions, against their formulas in float64. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  gaussianNllLoss,
  gradcheck,
  init,
  nn,
  poissonNllLoss,
  readAll,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { assertClose, assertSame } from "../helpers/close.ts";
import { drawn, each, numbers, U } from "../helpers/numbers.ts";

await init();

type Row = readonly number[];
type Reduction = "none" | "sum" | "mean";
const NONE = { reduction: "none" } as const;

const [N, D] = [6, 5];
const sum = (x: Row) => x.reduce((a, b) => a + b, 0);

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

const [A, B] = ["a", "b"].map((name) => numbers(name, N * D, -2, 2));
const [a, b] = [A, B].map((x) => tensor(x!, { shape: [N, D], requiresGrad: true }));

Deno.test("gaussianNllLoss takes variances of each number, of each row and of all", async () => {
  const V = numbers("variance", N * D, 0.25, 2);
  for (
    const [shape, of] of [
      [[N, D], (n: number, d: number) => V[n * D + d]!],
      [[N, 1], (n: number) => V[n]!],
      // PyTorch's: the last dimension may be left out.
      [[N], (n: number) => V[n]!],
      [[1, D], (_: number, d: number) => V[d]!],
      [[], () => V[0]!],
    ] as [number[], (n: number, d: number) => number][]
  ) {
    using variance = tensor(V.slice(0, shape.reduce((n, s) => n * s, 1)), { shape })
      .requiresGrad_();
    for (const full of [false, true]) {
      const want = each([N, D], (n, d) => {
        const [v, off] = [of(n!, d!), A![n! * D + d!]! - B![n! * D + d!]!];
        return 0.5 * (Math.log(v) + off * off / v) + (full ? 0.5 * Math.log(2 * Math.PI) : 0);
      });
      const loss = (reduction: Reduction) => gaussianNllLoss(a!, b!, variance, { full, reduction });
      await expectLoss(loss, want, `[${shape}], full ${full}`);
    }
    await gradcheck((x, t, v) => gaussianNllLoss(x!, t!, v!), [a!, b!, variance]);
  }
  // With as many rows as columns a variance without the last dimension is still one of each row.
  using square = scope(() => gaussianNllLoss(zeros([2, 2]), zeros([2, 2]), tensor([1, 4]), NONE));
  const half = Math.log(2);
  assertClose(await square.data(), [0, 0, half, half], { atol: 8 * U });
});

Deno.test("gaussianNllLoss counts variances below eps as eps, with their gradient", async () => {
  using variance = tensor([0.25, 0, 2], { requiresGrad: true });
  scope(() => {
    const loss = gaussianNllLoss(tensor([1, 1, 1]), zeros([3]), variance, { eps: 0.5, ...NONE });
    loss.sum().backward();
  });
  // d/dv ½ (log v + 1 / v) = ½ (1 / v - 1 / v²) at 0.5, 0.5 and 2.
  assertClose(await variance.grad!.data(), [-1, -1, 0.125], { rtol: 16 * U });
  using least = scope(() => gaussianNllLoss(zeros([1]), zeros([1]), zeros([1])));
  assertClose(await least.data(), [0.5 * Math.log(1e-6)], { rtol: 16 * U });
});

Deno.test("poissonNllLoss takes rates or their logarithms, and adds Stirling's terms", async () => {
  const counts = A!.map((_, i) => i % 4);
  const rates = numbers("rates", N * D, 0.25, 4);
  using target = tensor(counts, { shape: [N, D] });
  using rate = tensor(rates, { shape: [N, D], requiresGrad: true });
  const stirling = (t: number) => t > 1 ? t * Math.log(t) - t + 0.5 * Math.log(2 * Math.PI * t) : 0;
  for (const full of [false, true]) {
    const extra = counts.map((t) => full ? stirling(t) : 0);
    await expectLoss(
      (reduction) => poissonNllLoss(a!, target, { full, reduction }),
      A!.map((x, i) => Math.exp(x) - counts[i]! * x + extra[i]!),
      `logarithms, full ${full}`,
    );
    await expectLoss(
      (reduction) => poissonNllLoss(rate, target, { logInput: false, full, eps: 0.5, reduction }),
      rates.map((x, i) => x - counts[i]! * Math.log(x + 0.5) + extra[i]!),
      `rates, full ${full}`,
    );
    await gradcheck((x) => poissonNllLoss(x!, target, { full }), [a!]);
    await gradcheck((x) => poissonNllLoss(x!, target, { logInput: false, full }), [rate]);
  }
});

Deno.test("GaussianNLLLoss and PoissonNLLLoss are their functions with their options", async () => {
  using variance = drawn("variance", [N, 1], 0.25, 2);
  const normal = { full: true, eps: 1, ...NONE };
  const counts = { logInput: false, eps: 4, full: true, reduction: "sum" as const };
  const pairs: [nn.Module, Tensor[], Tensor][] = [
    [new nn.GaussianNLLLoss(), [a!, b!, variance], gaussianNllLoss(a!, b!, variance)],
    [
      new nn.GaussianNLLLoss(normal),
      [a!, b!, variance],
      gaussianNllLoss(a!, b!, variance, normal),
    ],
    [new nn.PoissonNLLLoss(), [a!, variance], poissonNllLoss(a!, variance)],
    [new nn.PoissonNLLLoss(counts), [a!, variance], poissonNllLoss(a!, variance, counts)],
  ];
  for (const [layer, inputs, want] of pairs) {
    using got = layer.forward(...inputs as never[]) as Tensor;
    const [mine, its] = await readAll([got, want]);
    assertSame(mine!, its!, `${layer}`);
    assertEquals([layer.parameters(), `${layer}`], [[], `${layer.constructor.name}()`]);
    want.dispose();
  }
});

Deno.test("losses of distributions say what they cannot do", () => {
  const wrong = { reduction: "max" as "mean" };
  const must = 'with reduction "max": it must be mean, sum or none';
  scope(() => {
    assertThrows(() => poissonNllLoss(a!, b!, wrong), TypeError, `Cannot reduce a loss ${must}`);
    assertThrows(
      () => new nn.PoissonNLLLoss(wrong),
      TypeError,
      `Cannot make PoissonNLLLoss ${must}`,
    );
    assertThrows(
      () => gaussianNllLoss(a!, b!, zeros([]), wrong),
      TypeError,
      `Cannot reduce a loss ${must}`,
    );
    assertThrows(() => gaussianNllLoss(a!, b!, zeros([2, 3])), TypeError, "[2, 3]");
  });
});
