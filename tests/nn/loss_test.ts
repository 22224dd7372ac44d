/**
 * Losses against float64 formulas written here from the papers' and libraries' definitions, and against
 * published numbers. Gradients: `gradcheck` on each composite; the kernels' are checked in ops_test.ts.
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  bceLoss,
  bceWithLogitsLoss,
  biTemperedLogisticLoss,
  crossEntropy,
  focalCosineLoss,
  focalLoss,
  gradcheck,
  huberLoss,
  init,
  klDiv,
  l1Loss,
  mseLoss,
  nllLoss,
  nn,
  readAll,
  scope,
  smoothL1Loss,
  softCrossEntropyLoss,
  synchronize,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { assertClose } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";

await init();

const U = 2 ** -24;
const draw = new Draw("losses");
const numbers = (count: number, low = -2, high = 2) =>
  Array.from({ length: count }, () => Math.fround(low + (high - low) * draw.uniform()));

function logSoftmax(row: readonly number[]): number[] {
  const lse = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
  return row.map((v) => v - lse);
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** Reads a loss and compares it; sums of a few dozen terms of size up to 10. */
async function expectLoss(loss: Tensor, want: number | readonly number[], what: string) {
  const values = typeof want === "number" ? [want] : want;
  assertClose(await loss.data(), values, { rtol: 64 * U, atol: 256 * U, what });
  loss.dispose();
}

const REDUCTIONS = ["none", "sum", "mean"] as const;

Deno.test("crossEntropy and nllLoss weigh classes as PyTorch does, at places [N, d1, d2]", async () => {
  const [N, C, D, E] = [2, 4, 3, 2];
  const x = numbers(N * C * D * E);
  const w = numbers(C, 0.2, 2);
  const ids = Array.from({ length: N * D * E }, (_, i) => i % 5 === 3 ? -7 : (i * 3 + 1) % C);
  using logits = tensor(x, { shape: [N, C, D, E], requiresGrad: true });
  using weight = tensor(w);
  using target = tensor(ids, { shape: [N, D, E], dtype: "i32" });
  const places = ids.map((_, i) => {
    const [n, d] = [Math.floor(i / (D * E)), i % (D * E)];
    return logSoftmax(Array.from({ length: C }, (_, c) => x[(n * C + c) * D * E + d]!));
  });
  for (const weighted of [false, true]) {
    for (const labelSmoothing of [0, 0.2, 1]) {
      const wOf = (c: number) => weighted ? w[c]! : 1;
      const rows = places.map((logp, i) => {
        const t = ids[i]!;
        if (t === -7) return 0;
        const even = -sum(logp.map((v, c) => wOf(c) * v)) / C;
        return -(1 - labelSmoothing) * wOf(t) * logp[t]! + labelSmoothing * even;
      });
      const total = sum(ids.map((t) => t === -7 ? 0 : wOf(t)));
      for (const reduction of REDUCTIONS) {
        const options = {
          reduction,
          labelSmoothing,
          ignoreIndex: -7,
          weight: weighted ? weight : undefined,
        };
        const what = `${reduction}, smoothing ${labelSmoothing}, weighted ${weighted}`;
        const loss = scope(() => crossEntropy(logits, target, options).detach());
        assertEquals(loss.shape, reduction === "none" ? [N, D, E] : []);
        const want = reduction === "none" ? rows : sum(rows) / (reduction === "mean" ? total : 1);
        await expectLoss(loss, want, `crossEntropy ${what}`);
        if (labelSmoothing === 0) {
          const nll = scope(() => nllLoss(logits.logSoftmax(1), target, options).detach());
          assertEquals(nll.shape, reduction === "none" ? [N, D, E] : []);
          await expectLoss(nll, want, `nllLoss ${what}`);
        }
        await gradcheck((l) => crossEntropy(l!, target, options), [logits]);
      }
    }
  }
  await gradcheck((l) => nllLoss(l!.logSoftmax(1), target, { weight, ignoreIndex: -7 }), [logits]);
});

Deno.test("crossEntropy and logSoftmax of large logits keep the small part of the logarithm", async () => {
  for (const top of [100, 10_000]) {
    const logits = [top, top - 2, top - 0.5, top - 3];
    const total = Math.log(logits.reduce((sum, v) => sum + Math.exp(v - top), 0));
    const x = tensor([logits], { requiresGrad: true });
    const ids = tensor([1], { dtype: "i32" });
    const loss = crossEntropy(x, ids);
    loss.backward();
    const [log, value, gradient] = await readAll([x.logSoftmax(1), loss, x.grad!]);
    const soft = logits.map((v) => Math.exp(v - top - total));
    // exp(x) at |x| <= 4 is allowed 3 + 2 · 4 ulp; the sum, logarithm and differences a few more.
    const near = { rtol: 16 * 2 ** -23, atol: 16 * 2 ** -23 };
    assertClose(log!, logits.map((v) => v - top - total), { ...near, what: `log ${top}` });
    assertClose(value!, [total + 2], { ...near, what: `loss ${top}` });
    assertClose(gradient!, soft.map((p, c) => p - (c === 1 ? 1 : 0)), { ...near, what: `${top}` });
  }
});

Deno.test("crossEntropy takes probabilities, weighed by class, and single places", async () => {
  const [N, C] = [3, 4];
  const x = numbers(N * C);
  const q = numbers(N * C, 0, 1);
  const w = numbers(C, 0.2, 2);
  using logits = tensor(x, { shape: [N, C] });
  using target = tensor(q, { shape: [N, C] });
  using weight = tensor(w);
  const rows = Array.from({ length: N }, (_, n) => {
    const logp = logSoftmax(x.slice(n * C, (n + 1) * C));
    return -sum(logp.map((v, c) => w[c]! * (0.9 * q[n * C + c]! + 0.1 / C) * v));
  });
  for (const reduction of REDUCTIONS) {
    const options = { weight, labelSmoothing: 0.1, reduction };
    const want = reduction === "none" ? rows : sum(rows) / (reduction === "mean" ? N : 1);
    await expectLoss(scope(() => crossEntropy(logits, target, options)), want, reduction);
  }
  const turned = scope(() =>
    crossEntropy(
      logits.transpose(0, 1).unsqueeze(0),
      target.transpose(0, 1).unsqueeze(0),
      { weight, labelSmoothing: 0.1, reduction: "none" },
    )
  );
  assertEquals(turned.shape, [1, N]);
  await expectLoss(turned, rows, "[1, C, N]");
  using one = tensor([1, 2, 3]);
  using id = tensor(2, { dtype: "i32" });
  const single = scope(() => crossEntropy(one, id));
  assertEquals(single.shape, []);
  await expectLoss(single, -logSoftmax([1, 2, 3])[2]!, "[C]");
});

Deno.test("a mean over ignored class ids alone is NaN, and their rows have no gradient", async () => {
  using x = tensor([[1, 2], [Infinity, 0]], { requiresGrad: true });
  using all = tensor([-100, -100], { dtype: "i32" });
  using half = tensor([1, -100], { dtype: "i32" });
  using weight = tensor([1, 2]);
  using none = scope(() => crossEntropy(x, all, { weight }).detach());
  assertEquals(await none.item(), NaN);
  using loss = scope(() => {
    const loss = nllLoss(x, half, { weight });
    loss.backward();
    return loss.detach();
  });
  assertEquals(await loss.item(), -2);
  assertEquals(await x.grad!.array(), [[0, -1], [0, 0]]);
});

Deno.test("a class id out of range is thrown at the next read", async () => {
  using x = tensor([[1, 2]]);
  using wrong = tensor([2], { dtype: "i32" });
  using loss = scope(() => nllLoss(x, wrong));
  await assertRejects(() => loss.item(), RangeError);
  await synchronize();
});

Deno.test("losses by element reduce, weigh and check their options", async () => {
  const [x, t, w] = [numbers(6, 0.1, 0.9), numbers(6, 0.1, 0.9), numbers(3, 0.2, 3)];
  using a = tensor(x, { shape: [2, 3] });
  using b = tensor(t, { shape: [2, 3] });
  using weight = tensor(w);
  const bce = (p: number, q: number) => -(q * Math.log(p) + (1 - q) * Math.log(1 - p));
  const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
  const cases: [string, (reduction: "mean" | "sum" | "none") => Tensor, number[]][] = [
    ["mse", (reduction) => mseLoss(a, b, { reduction }), x.map((v, i) => (v - t[i]!) ** 2)],
    ["l1", (reduction) => l1Loss(a, b, { reduction }), x.map((v, i) => Math.abs(v - t[i]!))],
    [
      "smooth l1 at beta 0",
      (reduction) => smoothL1Loss(a, b, { beta: 0, reduction }),
      x.map((v, i) => Math.abs(v - t[i]!)),
    ],
    [
      "huber",
      (reduction) => huberLoss(a, b, { delta: 0.25, reduction }),
      x.map((v, i) => {
        const d = Math.abs(v - t[i]!);
        return d < 0.25 ? d * d / 2 : 0.25 * (d - 0.125);
      }),
    ],
    [
      "bce with weights",
      (reduction) => bceLoss(a, b, { weight, reduction }),
      x.map((v, i) => w[i % 3]! * bce(v, t[i]!)),
    ],
    [
      "bce of logits with posWeight",
      (reduction) => bceWithLogitsLoss(a, b, { posWeight: weight, reduction }),
      x.map((v, i) =>
        -(w[i % 3]! * t[i]! * Math.log(sigmoid(v)) + (1 - t[i]!) * Math.log(sigmoid(-v)))
      ),
    ],
    [
      "kl",
      (reduction) => klDiv(a, b, { reduction }),
      x.map((v, i) => t[i]! * (Math.log(t[i]!) - v)),
    ],
    [
      "kl of logarithms",
      (reduction) => klDiv(a, b, { reduction, logTarget: true }),
      x.map((v, i) => Math.exp(t[i]!) * (t[i]! - v)),
    ],
  ];
  for (const [name, loss, rows] of cases) {
    for (const reduction of REDUCTIONS) {
      const want = reduction === "none" ? rows : sum(rows) / (reduction === "mean" ? 6 : 1);
      await expectLoss(scope(() => loss(reduction)), want, `${name} ${reduction}`);
    }
  }
  const kl = sum(x.map((v, i) => t[i]! * (Math.log(t[i]!) - v)));
  await expectLoss(scope(() => klDiv(a, b, { reduction: "batchmean" })), kl / 2, "batchmean");
});

Deno.test("focalLoss follows its formula with every option", async () => {
  const x = numbers(8, -3, 3);
  const t = [1, 0, 1, 0, 0.3, 1, 0, -1];
  using logits = tensor(x, { requiresGrad: true });
  using target = tensor(t);
  for (
    const options of [
      {},
      { gamma: 1.5, alpha: null },
      { reducedThreshold: 0.5 },
      { normalized: true, alpha: 0.4 },
      { ignoreIndex: -1, normalized: true, reduction: "sum" },
      { ignoreIndex: -1, reduction: "none" },
    ] as const
  ) {
    const o = { gamma: 2, alpha: 0.25 as number | null, reduction: "mean", ...options } as {
      gamma: number;
      alpha: number | null;
      reduction: string;
      reducedThreshold?: number;
      normalized?: boolean;
      ignoreIndex?: number;
    };
    const fades: number[] = [];
    let rows = x.map((v, i) => {
      const p = 1 / (1 + Math.exp(-v));
      const y = t[i]!;
      const ce = Math.max(v, 0) - v * y + Math.log1p(Math.exp(-Math.abs(v)));
      const pt = p * y + (1 - p) * (1 - y);
      const r = o.reducedThreshold;
      const fade = r === undefined
        ? (1 - pt) ** o.gamma
        : pt < r
        ? 1
        : ((1 - pt) / (1 - r)) ** o.gamma;
      const kept = y !== o.ignoreIndex;
      fades.push(kept ? fade : 0);
      const side = o.alpha === null ? 1 : o.alpha * y + (1 - o.alpha) * (1 - y);
      return kept ? fade * ce * side : 0;
    });
    if (o.normalized) rows = rows.map((v) => v / Math.max(sum(fades), 1e-6));
    const want = o.reduction === "none" ? rows : sum(rows) / (o.reduction === "mean" ? 8 : 1);
    const what = `focalLoss ${JSON.stringify(options)}`;
    await expectLoss(scope(() => focalLoss(logits, target, options).detach()), want, what);
    await gradcheck((l) => focalLoss(l!, target, options), [logits]);
  }
});

Deno.test("focalCosineLoss and softCrossEntropyLoss follow their formulas", async () => {
  const [N, C] = [3, 4];
  const x = numbers(N * C);
  const ids = [2, 0, 3];
  using logits = tensor(x, { shape: [N, C], requiresGrad: true });
  using target = tensor(ids, { dtype: "i32" });
  const rows = Array.from({ length: N }, (_, n) => x.slice(n * C, (n + 1) * C));
  const cosines = rows.map((row, n) => 1 - row[ids[n]!]! / Math.hypot(...row));
  const focal = rows.map((row, n) => {
    const length = Math.hypot(...row);
    const ce = -logSoftmax(row.map((v) => v / length))[ids[n]!]!;
    return 2 * (1 - Math.exp(-ce)) ** 3 * ce;
  });
  const options = { alpha: 2, gamma: 3, xent: 0.5 };
  await expectLoss(
    scope(() => focalCosineLoss(logits, target, options).detach()),
    sum(cosines) / N + 0.5 * sum(focal) / N,
    "focalCosineLoss",
  );
  await gradcheck((l) => focalCosineLoss(l!, target, options), [logits]);

  using partly = tensor([2, -100, 3], { dtype: "i32" });
  const soft = rows.map((row, n) => {
    if (n === 1) return 0;
    const logp = logSoftmax(row);
    return -0.7 * logp[ids[n]!]! - 0.3 / C * sum(logp);
  });
  for (const reduction of REDUCTIONS) {
    // The mean is over all rows, the ignored one too.
    const want = reduction === "none" ? soft : sum(soft) / (reduction === "mean" ? N : 1);
    const given = { smoothFactor: 0.3, reduction };
    await expectLoss(
      scope(() => softCrossEntropyLoss(logits, partly, given).detach()),
      want,
      `softCrossEntropyLoss ${reduction}`,
    );
  }
});

Deno.test("biTemperedLogisticLoss gives the numbers of Google's own test", async () => {
  // google/bi-tempered-loss@1c65c777, tensorflow/loss_test.py: test_loss_value, at its tolerance 1e-6.
  using labels = tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.2, 0.8, 0]]);
  using a = tensor([[-0.5, 0.1, 2], [0.1, 1.5, -5], [4, -3, -6]], { requiresGrad: true });
  const none = { reduction: "none" } as const;
  using heavy = scope(() =>
    biTemperedLogisticLoss(a, labels, { t1: 0.5, t2: 1.5, ...none }).detach()
  );
  const close = { rtol: 1e-6, atol: 1e-6 };
  assertClose(await heavy.data(), [0.02301914, 0.18972909, 0.93874922], close);
  const light = { t1: 0.5, t2: 0.8, iterations: 20, ...none };
  using bounded = scope(() => biTemperedLogisticLoss(a, labels, light).detach());
  // 20 halvings of a range below 8 leave 8e-6 of the norm.
  assertClose(await bounded.data(), [0.21646356, 0.41836615, 1.33997854], { atol: 1e-5 });
  await gradcheck(
    (x) => biTemperedLogisticLoss(x!, labels, { t1: 0.5, t2: 1.5, iterations: 100 }),
    [a],
  );
});

Deno.test("biTemperedLogisticLoss smooths, ignores, and is the cross entropy at t1 = t2 = 1", async () => {
  using a = tensor([[-0.5, 0.1, 2], [0.1, 1.5, -5], [4, -3, -6]]);
  using ids = tensor([2, 1, 9], { dtype: "i32" });
  const none = { reduction: "none" } as const;
  const plain = scope(() => [
    biTemperedLogisticLoss(a, ids, { t1: 1, t2: 1, ignoreIndex: 9, ...none }),
    crossEntropy(a, ids, { ignoreIndex: 9, ...none }),
  ]);
  const [got, want] = [await plain[0]!.data(), await plain[1]!.data()];
  assertClose(got, want, { rtol: 16 * U, atol: 16 * U });
  for (const t of plain) t.dispose();
  using smooth = tensor([[0.05, 0.05, 0.9], [0.05, 0.9, 0.05]]);
  using two = a.narrow(0, 0, 2);
  using twoIds = ids.narrow(0, 0, 2);
  const options = { t1: 0.8, t2: 1.3 };
  const pair = scope(() => [
    biTemperedLogisticLoss(two, twoIds, { ...options, labelSmoothing: 0.1 }),
    biTemperedLogisticLoss(two, smooth, options),
  ]);
  assertClose(await pair[0]!.data(), await pair[1]!.data(), { rtol: 64 * U });
  for (const t of pair) t.dispose();
});

Deno.test("losses say what they cannot do", () => {
  using a = tensor([[1, 2], [3, 4]]);
  using row = tensor([1, 2]);
  using ids = tensor([0, 1], { dtype: "i32" });
  using short = tensor([0], { dtype: "i32" });
  scope(() => {
    assertThrows(
      () => mseLoss(a, row),
      TypeError,
      "Cannot take mseLoss of [2, 2] and [2]: the shapes must be equal",
    );
    assertThrows(
      () => l1Loss(row, ids),
      TypeError,
      "Cannot take l1Loss of dtypes f32 and i32: all must be the same float",
    );
    assertThrows(
      () => crossEntropy(a, short),
      TypeError,
      "Cannot take cross entropy of [2, 2] and [1] i32: targets must be class ids [2] in i32 or " +
        "u32, or probabilities [2, 2]",
    );
    assertThrows(
      () => crossEntropy(a, ids, { weight: tensor([1, 2, 3]) }),
      TypeError,
      "Cannot take cross entropy with weights [3]: they must be [2]",
    );
    assertThrows(
      () => crossEntropy(a, a, { labelSmoothing: 1.5 }),
      RangeError,
      "Cannot smooth labels by 1.5: it must be 0 to 1",
    );
    assertThrows(() => nllLoss(a, a), TypeError, "they must be i32 or u32");
    assertThrows(() => smoothL1Loss(a, a, { beta: -1 }), RangeError, "it must be at least 0");
    assertThrows(() => huberLoss(a, a, { delta: 0 }), RangeError, "it must be above 0");
    assertThrows(
      () => bceLoss(a, a, { weight: tensor([1, 2, 3, 4], { shape: [2, 1, 2] }) }),
      TypeError,
      "Cannot take bceLoss of [2, 2] with weights [2, 1, 2]: they must broadcast to it",
    );
    assertThrows(
      () => biTemperedLogisticLoss(a, ids, { t1: 2, t2: 1 }),
      RangeError,
      "Cannot temper by t1 = 2 and t2 = 1: t1 must be below 2 and t2 above 0",
    );
    assertThrows(
      () => new nn.MSELoss({ reduction: "max" as "mean" }),
      TypeError,
      'Cannot make MSELoss with reduction "max": it must be mean, sum or none',
    );
  });
});

Deno.test("each loss layer is its function with its options, and holds its weights", async () => {
  using a = tensor([[0.2, 0.7], [0.6, 0.1]]);
  using b = tensor([[0.1, 0.9], [0.5, 0.5]]);
  using ids = tensor([1, 0], { dtype: "i32" });
  const w = () => tensor([0.5, 2]);
  using weight = w();
  const pairs: [nn.Module & { forward(x: Tensor, t: Tensor): Tensor }, Tensor, () => Tensor][] = [
    [
      new nn.CrossEntropyLoss({ weight: w(), labelSmoothing: 0.1, reduction: "sum" }),
      ids,
      () => crossEntropy(a, ids, { weight, labelSmoothing: 0.1, reduction: "sum" }),
    ],
    [new nn.NLLLoss({ weight: w() }), ids, () => nllLoss(a, ids, { weight })],
    [new nn.MSELoss({ reduction: "sum" }), b, () => mseLoss(a, b, { reduction: "sum" })],
    [new nn.L1Loss(), b, () => l1Loss(a, b)],
    [new nn.SmoothL1Loss({ beta: 0.2 }), b, () => smoothL1Loss(a, b, { beta: 0.2 })],
    [new nn.HuberLoss({ delta: 0.2 }), b, () => huberLoss(a, b, { delta: 0.2 })],
    [new nn.BCELoss({ weight: w() }), b, () => bceLoss(a, b, { weight })],
    [
      new nn.BCEWithLogitsLoss({ posWeight: w() }),
      b,
      () => bceWithLogitsLoss(a, b, { posWeight: weight }),
    ],
    [
      new nn.KLDivLoss({ reduction: "batchmean" }),
      b,
      () => klDiv(a, b, { reduction: "batchmean" }),
    ],
    [new nn.FocalLoss({ gamma: 3 }), b, () => focalLoss(a, b, { gamma: 3 })],
    [new nn.FocalCosineLoss({ xent: 1 }), ids, () => focalCosineLoss(a, ids, { xent: 1 })],
    [
      new nn.SoftCrossEntropyLoss({ smoothFactor: 0.2 }),
      ids,
      () => softCrossEntropyLoss(a, ids, { smoothFactor: 0.2 }),
    ],
    [
      new nn.BiTemperedLogisticLoss({ t1: 0.5, t2: 1.5 }),
      ids,
      () => biTemperedLogisticLoss(a, ids, { t1: 0.5, t2: 1.5 }),
    ],
  ];
  for (const [layer, target, fn] of pairs) {
    const [got, want] = scope(() => [layer.forward(a, target), fn()]);
    assertEquals(await got!.data(), await want!.data(), layer.constructor.name);
    assertEquals(layer.parameters(), []);
    for (const t of [got!, want!, layer]) t.dispose();
  }
});
