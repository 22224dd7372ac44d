/** Gradients of gradients: every op that has them, and what people do with them. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  autocast,
  bceWithLogitsLoss,
  biTemperedLogisticLoss,
  capture,
  cat,
  checkpoint,
  conv2d,
  crossEntropy,
  customGrad,
  full,
  grad,
  init,
  logaddexp,
  manualSeed,
  memory,
  nn,
  noGrad,
  randn,
  scope,
  synchronize,
  type Tensor,
  tensor,
  xlogy,
  zeros,
} from "../../mod.ts";
import { doubleOf } from "../../engine/double/walk.ts";
import { allOps, backwardOf, type Op } from "../../engine/op.ts";
import { STEP } from "../../engine/ops/pointwise_row.ts";
import { checkDouble } from "../helpers/check_double.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

const { BatchNorm2d, Conv2d, Flatten, LeakyReLU, Linear, Sequential, SiLU, optim: { Adam } } = nn;

const half = (await init()).features.has("shader-f16");

/** Whether the gradient is 0 wherever it exists. */
function isStep(op: Op<unknown>): boolean {
  return op.formulas?.([true, true], op.samples[0]!.attrs).gradients.every((f) => f === STEP) ??
    false;
}

for (const op of allOps().values()) {
  if (!backwardOf(op) || !op.reference || isStep(op) || typeof doubleOf(op) === "object") continue;
  Deno.test(`gradients of ${op.name}'s gradients are what differences give`, async () => {
    await synchronize();
    const before = memory().liveBytes;
    const { problems, tried } = await checkDouble(op);
    assert(tried > 0, "no sample was tried");
    assert(problems.length === 0, problems.slice(0, 6).map((p) => `\n  ${p}`).join(""));
    assertNothingLeft(before, "bytes left behind");
  });
}

Deno.test("every op with a gradient has one of that, or says why not", () => {
  const without = [...allOps().values()].filter((op) => backwardOf(op) && doubleOf(op) === null);
  assertEquals(without.map((op) => op.name), []);
  const refused = [...allOps().values()].filter((op) =>
    typeof doubleOf(op) === "object" && doubleOf(op)
  );
  assertEquals(refused.map((op) => op.name).sort(), ["biTempered"]);
});

Deno.test("third derivatives are what calculus says", async () => {
  const points = [0.3, -0.7, 1.2];
  const cases: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
    ["x⁴", (x) => x.square().square(), (x) => 24 * x],
    ["sin x", (x) => x.sin(), (x) => -Math.cos(x)],
    ["exp 2x", (x) => x.mul(2).exp(), (x) => 8 * Math.exp(2 * x)],
    ["1 / (x + 3)", (x) => x.add(3).reciprocal(), (x) => -6 / (x + 3) ** 4],
    ["tanh x", (x) => x.tanh(), (x) => {
      const s = 1 - Math.tanh(x) ** 2;
      return s * (6 * Math.tanh(x) ** 2 - 2);
    }],
    ["log σ(x)", (x) => x.logSigmoid(), (x) => {
      const s = 1 / (1 + Math.exp(-x));
      return s * (1 - s) * (2 * s - 1);
    }],
    // A zero among the factors: of x·y·z the derivative by all three is 1.
    [
      "a product with a zero",
      (x) => cat([x.unsqueeze(1), x.sub(0.3).unsqueeze(1)], 1).prod(1),
      () => 0,
    ],
  ];
  for (const [name, f, want] of cases) {
    const x = tensor(points, { requiresGrad: true });
    let y = f(x).sum();
    for (let order = 1; order < 3; order++) y = grad(y, x, { createGraph: true })[0]!.sum();
    const got = await grad(y, x)[0]!.data();
    points.forEach((p, i) => {
      const off = Math.abs(got[i]! - want(p));
      // Three rules, each of a few roundings, of terms up to 30 times as large as what is left.
      assert(
        off <= 64 * 30 * 2 ** -24 * Math.max(1, Math.abs(want(p))),
        `${name} at ${p}: ${got[i]}, not ${want(p)}`,
      );
    });
  }
});

const halves = (x: Tensor) => full(x.shape, 0.5);
/** Functions with an exponential inside. */
const EXPONENTIALS: Record<string, (x: Tensor) => Tensor> = {
  logSigmoid: (x) => x.logSigmoid(),
  silu: (x) => x.silu(),
  softplus: (x) => x.softplus({ beta: 2, threshold: 5 }),
  geluTanh: (x) => x.gelu({ approximate: "tanh" }),
  logaddexp: (x) => logaddexp(x, halves(x)),
  "logaddexp, right": (x) => logaddexp(halves(x), x),
  bceWithLogits: (x) => bceWithLogitsLoss(x, halves(x), { reduction: "none" }),
  bceWithLogitsWeighted: (x) =>
    bceWithLogitsLoss(x, halves(x), { reduction: "none", posWeight: tensor([3]) }),
};

/** Derivatives of orders 1, 2 and 3 of f at each point. What goes back is one scalar, or a factor for each. */
async function derivatives(
  f: (x: Tensor) => Tensor,
  points: readonly number[],
  factors?: readonly number[],
): Promise<readonly Float32Array[]> {
  const x = tensor(points, { requiresGrad: true });
  const weights = factors && tensor([...factors]);
  const found: Float32Array[] = [];
  let y = f(x);
  for (let order = 1; order <= 3; order++) {
    const [g] = grad((weights ? y.mul(weights) : y).sum(), x, { createGraph: true });
    const values = await g!.data() as Float32Array;
    found.push(values.map((v, i) => v / (factors?.[i] ?? 1) ** order));
    y = g!;
  }
  return found;
}

Deno.test("where exponentials overflow higher derivatives are 0, not NaN", async () => {
  for (const [name, f] of Object.entries(EXPONENTIALS)) {
    const [, second, third] = await derivatives(f, [-1000, -100, 100, 1000]);
    for (const v of [...second!, ...third!]) assert(Math.abs(v) < 1e-30, `${name}: ${v}`);
  }
});

Deno.test("derivatives are slopes of those of the order before", async () => {
  const cases: Record<string, (x: Tensor) => Tensor> = {
    ...EXPONENTIALS,
    sin: (x) => x.sin(),
    "square of sin": (x) => x.sin().square(),
    sigmoid: (x) => x.sigmoid(),
    tanh: (x) => x.tanh(),
  };
  // By differences of fourth order: h⁴/30 of a fifth derivative, at most 100 here, and 3/2 of a rounding of each
  // value, some 16 u, over h.
  const h = 1 / 32, limit = 100 * h ** 4 / 30 + 1.5 * 16 * 2 ** -24 / h;
  // Whole fours and not, for which there are kernels of their own.
  for (const middles of [[-0.9, 0.35, 0.6, 1.1], [-0.9, 0.35, 0.6, 1.1, -0.2]]) {
    const places = middles.flatMap((p) => [-2, -1, 1, 2, 0].map((k) => p + k * h));
    const factors = places.map((_, i) => 1 + Math.floor(i / 5) / 4);
    for (const given of [undefined, factors]) {
      for (const [name, f] of Object.entries(cases)) {
        const orders = await derivatives(f, places, given);
        for (const [order, values] of orders.slice(0, -1).entries()) {
          for (let at = 0; at < places.length; at += 5) {
            const [a, b, c, d] = values.slice(at);
            const want = (a! - 8 * b! + 8 * c! - d!) / (12 * h);
            const got = orders[order + 1]![at + 4]!;
            const where = `${name}, order ${order + 2}, at ${places[at + 4]}`;
            assert(Math.abs(got - want) <= limit, `${where}: ${got}, not ${want}`);
          }
        }
      }
    }
  }
});

Deno.test("gradients that go in steps are recorded in every lane of a kernel", async () => {
  // By the second operand, of values at which none of them is 0.
  const cases: [string, (a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => number][] = [
    ["fmod", (a, b) => a.fmod(b), (a, b) => -Math.trunc(a / b)],
    ["remainder", (a, b) => a.remainder(b), (a, b) => -Math.floor(a / b)],
    ["maximum", (a, b) => a.neg().maximum(b), () => 1],
    ["minimum", (a, b) => a.minimum(b), () => 1],
  ];
  // Whole fours and not, for which there are kernels of their own.
  for (const size of [8, 9]) {
    const places = Array.from({ length: size }, (_, i) => i);
    const [as, bs, ws] = [
      (i: number) => 10 + 1.7 * i,
      (i: number) => 3 + i / 8,
      (i: number) => 1 + i,
    ]
      .map((at) => places.map(at)) as [number[], number[], number[]];
    for (const [name, f, slope] of cases) {
      const b = tensor(bs, { requiresGrad: true }), w = tensor(ws, { requiresGrad: true });
      const [first] = grad(f(tensor(as), b).mul(w).sum(), b, { createGraph: true });
      const [second] = grad(first!.sum(), w);
      const slopes = places.map((i) => slope(as[i]!, bs[i]!));
      assertEquals(await first!.array(), slopes.map((s, i) => s * ws[i]!), name);
      assertEquals(await second!.array(), slopes, name);
    }
  }
});

Deno.test("second derivatives where a formula has a case of its own", async () => {
  // log(eᵃ + eᵇ) at a = b: σ(0) and σ'(0).
  const [first, second] = await derivatives((x) => logaddexp(x, tensor([2])), [2]);
  assertEquals([...first!, ...second!], [0.5, 0.25]);
  // a · log b at a = 0: by both it is 1 / b.
  const mixed = async (f: (a: Tensor, b: Tensor) => Tensor, at: readonly [number, number]) => {
    const [a, b] = at.map((v) => tensor([v], { requiresGrad: true })) as [Tensor, Tensor];
    const [db] = grad(f(a, b).sum(), b, { createGraph: true });
    return (await grad(db!, a)[0]!.data())[0]!;
  };
  assertEquals(await mixed((a, b) => xlogy(a, b), [0, 4]), 0.25);
  // (1 - t) x + (1 + (w - 1) t) log(1 + e⁻ˣ) with w = 3 at x = 0: by x and t it is -1 - 2 / 2.
  const weighted = (x: Tensor, t: Tensor) =>
    bceWithLogitsLoss(x, t, { posWeight: tensor([3]), reduction: "none" });
  assertEquals(await mixed(weighted, [0, 0.5]), -2);
});

Deno.test("gradients of a long product's gradients need no square of its length, and none of an empty one", async () => {
  const n = 20_000;
  const x = tensor(Array.from({ length: n }, (_, i) => i === 5 ? 0 : 1), { requiresGrad: true });
  const [first] = grad(x.prod(), x, { createGraph: true });
  const [second] = grad(first!.sum(), x);
  const want = (at: number, others: number) =>
    Array.from({ length: n }, (_, i) => i === 5 ? at : others);
  assertEquals(await first!.array(), want(1, 0));
  assertEquals(await second!.array(), want(n - 1, 1));
  const none = zeros([2, 0], { requiresGrad: true });
  assertEquals(grad(none.prod(1).sum(), none, { createGraph: true })[0]!.shape, [2, 0]);
});

Deno.test("third derivatives of a convolution do not depend on where its activation is", async () => {
  manualSeed(8);
  const x = randn([2, 2, 5, 5], { requiresGrad: true });
  const w = randn([4, 1, 2, 3], { requiresGrad: true });
  const [alongX, alongW] = [randn(x.shape), randn(w.shape)];
  const options = { stride: 2, groups: 2, padding: { top: 1, bottom: 0, left: 0, right: 2 } };
  for (const activation of ["relu", "sigmoid", "tanh"] as const) {
    const third = [
      conv2d(x, w, { ...options, activation }),
      conv2d(x, w, options)[activation](),
    ].map((y) => {
      let sum = y.square().sum();
      for (let order = 1; order < 3; order++) {
        const [dx, dw] = grad(sum, [x, w], { createGraph: true });
        sum = dx!.mul(alongX).sum().add(dw!.mul(alongW).sum());
      }
      return grad(sum, [x, w]);
    });
    for (const i of [0, 1]) {
      const [fused, apart] = await Promise.all(third.map((g) => g[i]!.data()));
      const largest = Math.max(...Array.from(apart!, Math.abs));
      // Chains of up to 48 terms in three rules.
      apart!.forEach((v, j) =>
        assert(
          Math.abs(v - fused![j]!) < 64 * 2 ** -24 * largest,
          `${activation}: ${fused![j]}, not ${v}`,
        )
      );
    }
  }
});

Deno.test("a Hessian times a vector is the difference of gradients", async () => {
  manualSeed(5);
  const x = randn([4, 3]);
  const y = tensor([0, 2, 1, 2], { dtype: "i32" });
  const w = randn([5, 3], { requiresGrad: true });
  const v = randn([3, 5], { requiresGrad: true });
  const loss = (w: Tensor, v: Tensor) =>
    crossEntropy(x.matmul(w.transpose(0, 1)).tanh().matmul(v.transpose(0, 1)), y);
  const along = [randn([5, 3]), randn([3, 5])];
  const first = grad(loss(w, v), [w, v], { createGraph: true });
  const dot = first.map((g, i) => g!.mul(along[i]!).sum()).reduce((a, b) => a.add(b));
  const product = grad(dot, [w, v]);
  // The same in float64, along one direction: differences of 1e-4 are 1e-7 off, float32 a few 2^-24 of 12 terms.
  const host = await Promise.all(
    [x, w, v, ...along].map(async (t) => Float64Array.from(await t.data())),
  );
  const ids = [0, 2, 1, 2];
  const hostLoss = (wAt: Float64Array, vAt: Float64Array) => {
    let total = 0;
    for (let n = 0; n < 4; n++) {
      const hidden = Array.from(
        { length: 5 },
        (_, h) =>
          Math.tanh([0, 1, 2].reduce((s, k) => s + host[0]![n * 3 + k]! * wAt[h * 3 + k]!, 0)),
      );
      const logits = [0, 1, 2].map((c) => hidden.reduce((s, u, h) => s + u * vAt[c * 5 + h]!, 0));
      const top = Math.max(...logits);
      total += top + Math.log(logits.reduce((s, l) => s + Math.exp(l - top), 0)) - logits[ids[n]!]!;
    }
    return total / 4;
  };
  const moved = (a: Float64Array, b: Float64Array, t: number) => a.map((e, i) => e + t * b[i]!);
  const slope = (t: number, which: number, i: number) => {
    const at = (e: number) => {
      const [a, b] = [moved(host[1]!, host[3]!, t), moved(host[2]!, host[4]!, t)];
      (which === 0 ? a : b)[i]! += e;
      return hostLoss(a, b);
    };
    return (at(1e-4) - at(-1e-4)) / 2e-4;
  };
  for (const which of [0, 1]) {
    const got = await product[which]!.data();
    const want = Array.from(got, (_, i) => (slope(1e-4, which, i) - slope(-1e-4, which, i)) / 2e-4);
    const largest = Math.max(...want.map(Math.abs));
    want.forEach((e, i) =>
      assert(Math.abs(got[i]! - e) < 1e-5 * largest, `${which} ${i}: ${got[i]}, not ${e}`)
    );
  }
});

Deno.test("an update of weights is trained through", async () => {
  // loss(w) = (w - a)²; w' = w - r · 2 (w - a); d loss(w') / d r = 2 (w' - a) · -2 (w - a)
  const w = tensor([2], { requiresGrad: true });
  const rate = tensor([0.125], { requiresGrad: true });
  const loss = (w: Tensor) => w.sub(0.5).square().sum();
  const [g] = grad(loss(w), w, { createGraph: true });
  loss(w.sub(g!.mul(rate))).backward();
  assertEquals(await rate.grad!.array(), [2 * (2 - 0.375 - 0.5) * -3]);
  assertEquals(await w.grad!.array(), [2 * (2 - 0.375 - 0.5) * (1 - 0.25)]);
});

/** A critic with a penalty on the slope by its input, and its input. */
function critic() {
  manualSeed(11);
  const model = new Sequential(
    new Conv2d(2, 4, { kernelSize: 3, padding: 1, stride: 2 }),
    new BatchNorm2d(4),
    new LeakyReLU(0.2),
    new Conv2d(4, 4, { kernelSize: 3, groups: 2 }),
    new SiLU(),
    new Flatten(),
    new Linear(4 * 2 * 2, 1),
  );
  const penalty = (x: Tensor): Tensor => {
    const at = x.detach().requiresGrad_();
    const score = model.forward(at).sum();
    const [slope] = grad(score, at, { createGraph: true });
    return slope!.square().sum([1, 2, 3]).add(1e-6).sqrt().sub(1).square().mean().add(
      score.mul(0.1),
    );
  };
  return { model, penalty };
}

Deno.test("a penalty on a gradient trains the same in a captured step", async () => {
  const runs: Float32Array[][] = [];
  for (const captured of [false, true]) {
    const { model, penalty } = critic();
    const optimizer = new Adam(model.parameters(), { lr: 0.01 });
    const step = (x: Tensor): Tensor => {
      optimizer.zeroGrad();
      const loss = penalty(x);
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
    const run = captured ? capture(step) : step;
    const losses: Float32Array[] = [];
    for (let i = 0; i < 5; i++) {
      using x = randn([3, 2, 8, 8]);
      using loss = scope(() => run(x));
      losses.push(await loss.data() as Float32Array);
    }
    for (const p of model.parameters()) losses.push(await p.data() as Float32Array);
    runs.push(losses);
  }
  assertEquals(runs[1], runs[0]);
  assert(runs[0]![0]![0] !== runs[0]![4]![0], "nothing was trained");
});

Deno.test("gradients of gradients leave nothing behind", async () => {
  const { model, penalty } = critic();
  const x = randn([3, 2, 8, 8]);
  const once = () =>
    scope(() => {
      penalty(x).backward();
      for (const p of model.parameters()) p.grad = null;
    });
  once();
  await synchronize();
  const before = memory().liveBytes;
  for (let i = 0; i < 3; i++) once();
  await synchronize();
  assertNothingLeft(before, "bytes left behind");
});

Deno.test("under autocast a penalty on a gradient is within f16 of what f32 gives", {
  ignore: !half,
}, async () => {
  const model = new Linear(6, 4);
  const x = randn([5, 6], { requiresGrad: true });
  const penalty = () => {
    const [g] = grad(model.forward(x).tanh().square().sum(), x, { createGraph: true });
    return g!.square().sum();
  };
  const exact = grad(penalty(), model.weight)[0]!;
  const half = grad(autocast({ dtype: "f16" }, penalty), model.weight)[0]!;
  assertEquals(half.dtype, "f32");
  const [a, b] = [await exact.data(), await half.data()];
  const largest = Math.max(...Array.from(a, Math.abs));
  // Three products in a row with operands of 11 bits.
  a.forEach((v, i) =>
    assert(Math.abs(v - b[i]!) < 3 * 4 * 2 ** -11 * largest, `${b[i]}, not ${v}`)
  );
});

Deno.test("checkpoint and rules of one's own are gone through as well", async () => {
  const values = [0.5, -1.5, 2];
  const plain = (x: Tensor) => x.exp().mul(x.sin());
  const slow = (x: Tensor) => checkpoint((t) => plain(t!), x);
  const own = (x: Tensor) =>
    customGrad((t) => ({
      value: plain(t!),
      gradient: (dy) => dy.mul(t!.exp().mul(t!.sin().add(t!.cos()))),
    }))(x);
  const results: number[][] = [];
  for (const f of [plain, slow, own]) {
    const x = tensor(values, { requiresGrad: true });
    const [g] = grad(f(x).sum(), x, { createGraph: true });
    g!.square().sum().backward();
    results.push(Array.from(await x.grad!.data()));
  }
  for (const result of results.slice(1)) {
    result.forEach((v, i) =>
      assert(Math.abs(v - results[0]![i]!) < 16 * 2 ** -24 * 60, `${result} ${results[0]}`)
    );
  }
});

Deno.test("a tensor that checkpoint's input is made of may be used inside as well", async () => {
  const plain = (x: Tensor, w: Tensor) => x.mul(w).mul(w).mul(x.mul(w));
  const once = (x: Tensor, w: Tensor) => checkpoint((h) => h!.mul(w).mul(h!), x.mul(w));
  const nested = (x: Tensor, w: Tensor) =>
    checkpoint((h) => checkpoint((t) => t!.mul(h!), h!.mul(w)), x.mul(w));
  const between = (x: Tensor, w: Tensor) => {
    const h = x.mul(w);
    return checkpoint((t) => t!.mul(h), h.mul(w));
  };
  for (const f of [plain, once, nested, between]) {
    const [x, w] = [tensor([2], { requiresGrad: true }), tensor([3], { requiresGrad: true })];
    const first = grad(f(x, w).sum(), [x, w], { createGraph: true }); // of x² w³
    assertEquals(await Promise.all(first.map((t) => t!.item())), [108, 108]);
    const second = grad(first[0]!.mul(first[1]!).sum(), [x, w]); // of 6 x³ w⁵
    assertEquals(await Promise.all(second.map((t) => t!.item())), [17496, 19440]);
  }
});

Deno.test("checkpoint notices that its function does something else the second time", () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const others = [tensor([3, 4], { requiresGrad: true }), tensor([5, 6], { requiresGrad: true })];
  let calls = 0;
  const first = checkpoint((t) => t!.mul(others[calls++]!), x).sum();
  assertThrows(
    () => grad(first, x, { createGraph: true }),
    Error,
    "used a tensor that it did not use at first",
  );
  calls = 0;
  const second = checkpoint((t) => calls++ === 0 ? t!.exp() : t!.exp().sum(), x).sum();
  assertThrows(() => grad(second, x, { createGraph: true }), Error, "other shapes than at first");
});

Deno.test("what a gradient starts from has one as well, also inside noGrad", async () => {
  for (const dtype of half ? ["f32", "f16"] as const : ["f32"] as const) {
    const x = tensor([2, 3], { requiresGrad: true });
    const seed = tensor([5, 7], { dtype, requiresGrad: true });
    const y = x.square();
    const [g] = noGrad(() => grad(y, x, { gradOutputs: [seed], createGraph: true }));
    const second = grad(g!.sum(), [x, seed]);
    assertEquals(await Promise.all(second.map((t) => t!.array())), [[10, 14], [4, 6]]);
  }
});

Deno.test("gradients keep their history only where that is asked for", async () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const [plain] = grad(x.square().sum(), x);
  assertEquals(plain!.requiresGrad, false);
  const y = x.square().sum();
  const [recorded] = grad(y, x, { createGraph: true });
  assert(recorded!.requiresGrad);
  // The graph is kept, so that another walk is possible.
  y.backward();
  assertEquals(await x.grad!.array(), [2, 4]);
  // Of a line the gradient is constant: nothing is left to differentiate.
  const [constant] = grad(x.mul(3).sum(), x, { createGraph: true });
  assertThrows(() => grad(constant!.sum(), x), TypeError, "requires no gradient");
});

Deno.test("what cannot be done is said", () => {
  const x = randn([2, 4], { requiresGrad: true });
  const y = biTemperedLogisticLoss(x, tensor([1, 3], { dtype: "i32" }), { t1: 0.8, t2: 1.2 });
  assertThrows(
    () => grad(y, x, { createGraph: true }),
    Error,
    "Cannot take gradients of the gradients of biTempered: there is no rule for it",
  );
  assertThrows(
    () => y.backward(null, { createGraph: true } as never),
    TypeError,
    "write grad(y, x, { createGraph: true })",
  );
});
