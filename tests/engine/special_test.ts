/**
 * Functions with error bounds of their own (`engine/kernels/special.ts`), and what pointwise ops give
 * at infinities, NaN, zeros and kinks.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { erf, erfc, erfInverse, normalCdf } from "../../engine/host_math.ts";
import { add, eq, ge, init, lt, readAll, type Tensor, tensor } from "../../mod.ts";
import { Draw } from "../helpers/draw.ts";

await init();

/** Distance between neighbouring f32 numbers at `y`. */
function ulp(y: number): number {
  return 2 ** (Math.floor(Math.log2(Math.max(Math.abs(y), 2 ** -126))) - 23);
}

interface Bound {
  readonly f: (x: Tensor) => Tensor;
  readonly ref: (x: number) => number;
  readonly from: number;
  readonly to: number;
  /** Stated in `special.ts`, in ulp. */
  readonly ulps: number;
  /** How much of the error of WGSL's exp, 3 + 2|x| ulp, arrives in the result. */
  readonly exp?: number;
}

const BOUNDS: Record<string, Bound> = {
  "expm1 in its series": { f: (x) => x.expm1(), ref: Math.expm1, from: -0.5, to: 0.5, ulps: 6 },
  "expm1 near 0": { f: (x) => x.expm1(), ref: Math.expm1, from: -1e-4, to: 1e-4, ulps: 6 },
  // exp(-½) / (1 - exp(-½)) = 1.54 and exp(½) / (exp(½) - 1) = 2.54.
  "expm1 beyond": { f: (x) => x.expm1(), ref: Math.expm1, from: -20, to: 20, ulps: 6, exp: 2.54 },
  "log1p in its series": { f: (x) => x.log1p(), ref: Math.log1p, from: -0.29, to: 0.41, ulps: 6 },
  "log1p near 0": { f: (x) => x.log1p(), ref: Math.log1p, from: -1e-4, to: 1e-4, ulps: 6 },
  "sinh below ½": { f: (x) => x.sinh(), ref: Math.sinh, from: -0.49, to: 0.49, ulps: 10 },
  "sinh": { f: (x) => x.sinh(), ref: Math.sinh, from: -20, to: 20, ulps: 10, exp: 2.54 },
  "cosh": { f: (x) => x.cosh(), ref: Math.cosh, from: -20, to: 20, ulps: 6, exp: 1 },
  "tanh below ¼": { f: (x) => x.tanh(), ref: Math.tanh, from: -0.24, to: 0.24, ulps: 8 },
  "tanh": { f: (x) => x.tanh(), ref: Math.tanh, from: -12, to: 12, ulps: 8, exp: 1.6 },
  "atan": { f: (x) => x.atan(), ref: Math.atan, from: -40, to: 40, ulps: 4 },
  "atan near 0": { f: (x) => x.atan(), ref: Math.atan, from: -1e-3, to: 1e-3, ulps: 4 },
  "asin": { f: (x) => x.asin(), ref: Math.asin, from: -1, to: 1, ulps: 4 },
  "acos": { f: (x) => x.acos(), ref: Math.acos, from: -1, to: 1, ulps: 6 },
  "erf": { f: (x) => x.erf(), ref: erf, from: -5, to: 5, ulps: 6 },
  "erf near 0": { f: (x) => x.erf(), ref: erf, from: -1e-3, to: 1e-3, ulps: 6 },
  // exp of x², with the rounding of x², an ulp of it.
  "erfc": { f: (x) => x.erfc(), ref: erfc, from: -5, to: 5, ulps: 6, exp: 5 },
  "erfinv": { f: (x) => x.erfinv(), ref: erfInverse, from: -0.999, to: 0.999, ulps: 10 },
  "erfinv near 0": { f: (x) => x.erfinv(), ref: erfInverse, from: -1e-3, to: 1e-3, ulps: 10 },
  "erfinv near 1": { f: (x) => x.erfinv(), ref: erfInverse, from: 0.999, to: 0.9999999, ulps: 10 },
  "asinh": { f: (x) => x.asinh(), ref: Math.asinh, from: -5, to: 5, ulps: 10 },
  "asinh near 0": { f: (x) => x.asinh(), ref: Math.asinh, from: -1e-3, to: 1e-3, ulps: 10 },
  "asinh far out": { f: (x) => x.asinh(), ref: Math.asinh, from: 5, to: 2e9, ulps: 10 },
  "acosh near 1": { f: (x) => x.acosh(), ref: Math.acosh, from: 1, to: 1.001, ulps: 10 },
  "acosh": { f: (x) => x.acosh(), ref: Math.acosh, from: 1, to: 10, ulps: 10 },
  "acosh far out": { f: (x) => x.acosh(), ref: Math.acosh, from: 10, to: 2e9, ulps: 10 },
  "atanh": { f: (x) => x.atanh(), ref: Math.atanh, from: -0.9999, to: 0.9999, ulps: 10 },
  "atanh near 0": { f: (x) => x.atanh(), ref: Math.atanh, from: -1e-3, to: 1e-3, ulps: 10 },
  "log10": { f: (x) => x.log10(), ref: Math.log10, from: 0.001, to: 10, ulps: 6 },
  "log10 near 1": { f: (x) => x.log10(), ref: Math.log10, from: 0.999, to: 1.001, ulps: 6 },
  "log10 far out": { f: (x) => x.log10(), ref: Math.log10, from: 10, to: 1e6, ulps: 6 },
  "exp2": { f: (x) => x.exp2(), ref: (x) => 2 ** x, from: -20, to: 20, ulps: 0, exp: 1 },
  "logit": { f: (x) => x.logit(), ref: logit, from: 1e-4, to: 0.9999, ulps: 10 },
  "logit near ½": { f: (x) => x.logit(), ref: logit, from: 0.4, to: 0.6, ulps: 10 },
  "hypot": { f: (x) => x.hypot(3), ref: (x) => Math.hypot(x, 3), from: -20, to: 20, ulps: 6 },
  // ½ x² is the argument of exp and its rounding 2^-24 · x²: as much again as exp's own 2|x| ulp.
  "gelu": { f: (x) => x.gelu(), ref: (x) => x * normalCdf(x), from: -5, to: 5, ulps: 6, exp: 3 },
};

Deno.test("special functions keep their bounds", async (t) => {
  const COUNT = 4001;
  for (const [name, { f, ref, from, to, ulps, exp = 0 }] of Object.entries(BOUNDS)) {
    await t.step(name, async () => {
      const xs = Float32Array.from({ length: COUNT }, (_, i) => from + (to - from) * i / COUNT);
      const ys = await f(tensor(xs)).data();
      let worst = { excess: 0, text: "" };
      xs.forEach((x, i) => {
        const want = ref(x);
        const error = Math.abs(ys[i]! - want) / ulp(want);
        const excess = error / (ulps + exp * (3 + 2 * Math.abs(x)));
        if (excess > worst.excess || Number.isNaN(excess)) {
          worst = { excess, text: `${ys[i]} at ${x}, want ${want}: ${error.toFixed(1)} ulp` };
        }
      });
      assert(worst.excess <= 1, worst.text);
    });
  }
});

Deno.test("the float64 error function agrees with published digits", () => {
  // Abramowitz and Stegun, table 7.1 and 7.3.
  const near = (a: number, b: number) => assert(Math.abs(a - b) <= 1e-15 * Math.abs(b), `${a}`);
  near(erf(0.5), 0.5204998778130465);
  near(erf(1), 0.8427007929497149);
  near(erf(2), 0.9953222650189527);
  near(erf(-3.5), -0.9999992569016276);
  assertEquals(erf(0), 0);
  near(normalCdf(-1), 0.15865525393145705);
});

function logit(x: number): number {
  return Math.abs(x - 0.5) < 0.1 ? 2 * Math.atanh(2 * x - 1) : Math.log(x / (1 - x));
}

Deno.test("the float64 inverse of the error function undoes it", () => {
  for (const y of [1e-9, 0.1, -0.4999, 0.5, 0.7, -0.99, 1 - 2 ** -24]) {
    const x = erfInverse(y);
    assert(Math.abs(erf(x) - y) <= 2e-16, `${y}`);
    const rest = erfc(Math.abs(x)) / (1 - Math.abs(y));
    assert(Math.abs(rest - 1) <= 4e-15, `${y}: ${rest}`);
  }
  assertEquals([erfInverse(1), erfInverse(-1), erfInverse(1.5)], [Infinity, -Infinity, NaN]);
});

Deno.test("log10() of powers of 10 is exact", async () => {
  const powers = Array.from({ length: 76 }, (_, i) => i - 37);
  const y = await tensor(powers.map((k) => Number(`1e${k}`))).log10().data();
  assertEquals([...y], powers);
});

const NAN_KEEPERS: Record<string, (x: Tensor) => Tensor> = {
  exp: (x) => x.exp(),
  log: (x) => x.log(),
  log2: (x) => x.log2(),
  sqrt: (x) => x.sqrt(),
  sin: (x) => x.sin(),
  pow: (x) => x.pow(2.5),
  logsumexp: (x) => x.logsumexp(0, { keepdim: true }),
  softmax: (x) => x.softmax(0),
  max: (x) => x.max(0, { keepdim: true }),
  exp2: (x) => x.exp2(),
  log10: (x) => x.log10(),
  asinh: (x) => x.asinh(),
  acosh: (x) => x.acosh(),
  atanh: (x) => x.atanh(),
  erfc: (x) => x.erfc(),
  erfinv: (x) => x.erfinv(),
  logit: (x) => x.logit(),
  "logit within bounds": (x) => x.logit(1e-3),
  frac: (x) => x.frac(),
  softshrink: (x) => x.softshrink(),
  hardshrink: (x) => x.hardshrink(),
  hypot: (x) => x.hypot(0),
  xlogy: (x) => x.xlogy(2),
  "xlogy of 0": (x) => x.mul(0).xlogy(x),
  logaddexp: (x) => x.logaddexp(1),
  "logaddexp on the right": (x) => tensor([1]).logaddexp(x),
  floorDivide: (x) => x.floorDivide(2),
  "div to trunc": (x) => x.div(2, { roundingMode: "trunc" }),
  copysign: (x) => x.copysign(-1),
  expm1: (x) => x.expm1(),
  log1p: (x) => x.log1p(),
  tan: (x) => x.tan(),
  asin: (x) => x.asin(),
  acos: (x) => x.acos(),
  atan: (x) => x.atan(),
  atan2: (x) => x.atan2(1),
  sinh: (x) => x.sinh(),
  cosh: (x) => x.cosh(),
  tanh: (x) => x.tanh(),
  erf: (x) => x.erf(),
  relu: (x) => x.relu(),
  leakyRelu: (x) => x.leakyRelu(),
  elu: (x) => x.elu(),
  selu: (x) => x.selu(),
  celu: (x) => x.celu(),
  gelu: (x) => x.gelu(),
  geluTanh: (x) => x.gelu({ approximate: "tanh" }),
  silu: (x) => x.silu(),
  mish: (x) => x.mish(),
  softplus: (x) => x.softplus(),
  softsign: (x) => x.softsign(),
  sigmoid: (x) => x.sigmoid(),
  logSigmoid: (x) => x.logSigmoid(),
  hardsigmoid: (x) => x.hardsigmoid(),
  hardswish: (x) => x.hardswish(),
  hardtanh: (x) => x.hardtanh(),
  clamp: (x) => x.clamp({ min: -1, max: 1 }),
  fmod: (x) => x.fmod(2),
  remainder: (x) => x.remainder(2),
  maximum: (x) => x.maximum(0),
  minimum: (x) => x.minimum(0),
};

Deno.test("pointwise ops keep NaN", async () => {
  const names = Object.keys(NAN_KEEPERS);
  const x = tensor([NaN, NaN]);
  const results = await readAll(names.map((name) => NAN_KEEPERS[name]!(x)));
  const lost = names.filter((_, i) => !results[i]!.every((v) => Number.isNaN(Number(v))));
  assertEquals(lost, []);
});

Deno.test("fmod and remainder are exact, whatever the quotient", async () => {
  const pairs = [
    [7, 3],
    [-7, 3],
    [7, -3],
    [-7, -3],
    [1e30, 3],
    [-1e30, 7],
    [3e38, 1.1754944e-38],
    [5.5, 0.1],
    [0.1, 5.5],
    [6, 3],
    [-6, 3],
    [2, Infinity],
    [-2, Infinity],
    [Infinity, 2],
    [2, 0],
    [0, 2],
  ].map(([a, b]) => [Math.fround(a!), Math.fround(b!)] as const);
  const a = tensor(pairs.map((p) => p[0]));
  const b = tensor(pairs.map((p) => p[1]));
  const [mod, rest] = await readAll([a.fmod(b), a.remainder(b)]);
  assertEquals([...mod!], pairs.map(([a, b]) => a % b));
  // -2 modulo ∞: the sum with ∞ is ∞, as in Python.
  assertEquals(
    [...rest!].map((v) => v + 0),
    pairs.map(([a, b]) => {
      const r = a % b;
      return Math.fround(r !== 0 && r < 0 !== b < 0 ? r + b : r) + 0;
    }),
  );
  const ints = tensor([7, -7, 7, -7], { dtype: "i32" });
  const by = tensor([3, 3, -3, -3], { dtype: "i32" });
  const [m, r] = await readAll([ints.fmod(by), ints.remainder(by)]);
  assertEquals([...m!], [1, -1, 1, -1]);
  assertEquals([...r!], [1, 2, -2, -1]);
});

Deno.test("atan2 gives the angle in all quadrants and at their borders", async () => {
  const values = [0, -0, 1, -1, 2.5, -2.5, Infinity, -Infinity, 1e-30, -1e30];
  const pairs = values.flatMap((a) => values.map((b) => [a, b] as const));
  const y = await tensor(pairs.map((p) => p[0])).atan2(tensor(pairs.map((p) => p[1]))).data();
  pairs.forEach(([a, b], i) => {
    const want = Math.atan2(a, b);
    // Below 2^-126 a result may be flushed to 0, on the right side of the circle.
    const close = Math.abs(y[i]! - want) <= 8 * ulp(want) + 2 ** -126;
    assert(close, `atan2(${a}, ${b}) is ${y[i]}, want ${want}`);
  });
});

Deno.test("isinf, isnan and isfinite tell infinities, NaN and numbers apart", async () => {
  const x = tensor([Infinity, -Infinity, NaN, 0, 3e38]);
  const [inf, nan, finite] = await readAll([x.isinf(), x.isnan(), x.isfinite()]);
  assertEquals([...finite!], [0, 0, 0, 1, 1]);
  assertEquals([...inf!], [1, 1, 0, 0, 0]);
  assertEquals([...nan!], [0, 0, 1, 0, 0]);
});

Deno.test("gradients at kinks are PyTorch's", async () => {
  const cases: [string, (x: Tensor) => Tensor, number[], number[]][] = [
    ["relu", (x) => x.relu(), [0, -0], [0, 0]],
    ["leakyRelu", (x) => x.leakyRelu(0.25), [0], [0.25]],
    ["elu", (x) => x.elu(0.5), [0], [0.5]],
    ["celu", (x) => x.celu(0.5), [0], [1]],
    ["abs", (x) => x.abs(), [0], [0]],
    ["clamp", (x) => x.clamp({ min: -1, max: 2 }), [-1, 2, 3], [1, 1, 0]],
    ["hardtanh", (x) => x.hardtanh(), [-1, 1, 0], [0, 0, 1]],
    ["hardsigmoid", (x) => x.hardsigmoid(), [-3, 3], [0, 0]],
    ["hardswish", (x) => x.hardswish(), [-3, 3], [0, 1]],
    ["maximum", (x) => x.maximum(1), [1, 2, 0], [0.5, 1, 0]],
    ["softsign", (x) => x.softsign(), [0], [1]],
    ["std", (x) => x.std(), [3, 3], [0, 0]],
    ["norm", (x) => x.norm(), [0, 0], [0, 0]],
    ["norm 3", (x) => x.norm(3), [0, 0], [0, 0]],
    ["norm ½", (x) => x.norm(0.5), [0, 4], [0, 1]],
    ["atan2", (x) => x.atan2(0), [0], [0]],
    ["softshrink", (x) => x.softshrink(), [-0.5, 0.5, 0.75], [0, 0, 1]],
    ["hardshrink", (x) => x.hardshrink(), [-0.5, 0.5, 0.75], [0, 0, 1]],
    ["nanToNum", (x) => x.nanToNum(), [NaN, 2, Infinity], [0, 1, 0]],
    ["copysign", (x) => x.copysign(-2), [3, -3, 0], [-1, 1, 0]],
    ["copysign of signs", (x) => tensor([3, 3, 3]).copysign(x), [1, -1, 0], [0, 0, 0]],
    // Zeros beside numbers, at logarithms that the one has and the other would not bear.
    ["xlogy", (x) => x.xlogy(tensor([-1, 1, 0, 1, -1])), [0, 5, 0, 7, 0], [0, 0, 0, 0, 0]],
    [
      "xlogy in fours",
      (x) => x.xlogy(tensor([-1, -1, 0, 0, 1, 1, 1, 1])),
      [0, 0, 0, 0, 5, 5, 5, 5],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    [
      "xlogy of rows",
      (x) => x.reshape(2, 1).xlogy(tensor([[-1, -1, 0], [1, 1, 1]])),
      [0, 5],
      [0, 0],
    ],
    [
      "xlogy of rows in fours",
      (x) => x.reshape(2, 1).xlogy(tensor([[-1, -1, 0, 0], [1, 1, 1, 1]])),
      [0, 5],
      [0, 0],
    ],
    ["xlogy of logs", (x) => tensor([0, 0, 2]).xlogy(x), [0, -1, 4], [0, 0, 0.5]],
  ];
  const leaves = cases.map(([, f, at]) => {
    const x = tensor(at, { requiresGrad: true });
    f(x).sum().backward();
    return x.grad!;
  });
  const got = await readAll(leaves);
  cases.forEach(([name, , , want], i) => assertEquals([...got[i]!].map((v) => v + 0), want, name));
});

Deno.test("pairs of numbers give what C and PyTorch give at zeros, infinities and NaN", async () => {
  const inf = Infinity;
  const cases: [string, (a: Tensor, b: Tensor) => Tensor, [number, number, number][]][] = [
    ["hypot", (a, b) => a.hypot(b), [
      [3, -4, 5],
      [0, 0, 0],
      [NaN, 0, NaN],
      [0, NaN, NaN],
      [-inf, NaN, inf],
      [NaN, -inf, inf],
      [2e38, 0, Math.fround(2e38)],
    ]],
    ["copysign", (a, b) => a.copysign(b), [
      [3, -0, -3],
      [-3, 0, 3],
      [0, -1, -0],
      [-0, 2, 0],
      [-inf, 5, inf],
    ]],
    ["xlogy", (a, b) => a.xlogy(b), [
      [0, 0, 0],
      [0, inf, 0],
      [0, -1, 0],
      [0, NaN, NaN],
      [2, 0, -inf],
      [1, -1, NaN],
      [2, 1, 0],
    ]],
    ["logaddexp", (a, b) => a.logaddexp(b), [
      [-inf, -inf, -inf],
      [inf, inf, inf],
      [-inf, 2, 2],
      [inf, -inf, inf],
      [1000, -1000, 1000],
    ]],
    ["floorDivide", (a, b) => a.floorDivide(b), [
      [7, 2, 3],
      [-7, 2, -4],
      [7, -2, -4],
      [-7, -2, 3],
      // 1 / 0.1 rounds to 10, but 0.1 in f32 is larger than a tenth.
      [1, 0.1, 9],
      [6, 3, 2],
      // Where every f32 is whole and a half has no room.
      [8388609, 1, 8388609],
      [-16777215, 1, -16777215],
      [1, 0, inf],
      [-1, 0, -inf],
      [0, 0, NaN],
      [inf, 2, NaN],
    ]],
    ["div to floor", (a, b) => a.div(b, { roundingMode: "floor" }), [
      [-7, 2, -4],
      [1, 0.1, 9],
    ]],
    ["div to trunc", (a, b) => a.div(b, { roundingMode: "trunc" }), [
      [7, 2, 3],
      [-7, 2, -3],
      [7, -2, -3],
      [-7, -2, 3],
      [1, 0.1, 10],
      [-1, 0.1, -10],
      [49, 49, 1],
      [8388609, 1, 8388609],
      [-16777215, 1, -16777215],
      [1, 0, inf],
      [-1, 0, -inf],
      [0, 0, NaN],
      [inf, 2, inf],
      [inf, -2, -inf],
      [inf, inf, NaN],
      [0.5, inf, 0],
      [NaN, 1, NaN],
      [1, NaN, NaN],
    ]],
  ];
  for (const [name, f, rows] of cases) {
    const y = await f(tensor(rows.map((r) => r[0])), tensor(rows.map((r) => r[1]))).data();
    assertEquals([...y], rows.map((r) => r[2]), name);
  }
  const ints = tensor([-7, 7, -6, 6, 0, 5], { dtype: "i32" });
  const quotients = ints.floorDivide(tensor([2, -2, 3, -3, 5, -5], { dtype: "i32" }));
  assertEquals(quotients.dtype, "i32");
  assertEquals([...await quotients.data()], [-4, -4, -2, -2, 0, -1]);
});

Deno.test("div() to trunc is the whole part of the quotient as f32 rounds it", async () => {
  const draw = new Draw("trunc");
  const a: number[] = [], b: number[] = [];
  for (let i = 0; i < 4000; i++) {
    // The floats around a whole multiple; every other one of a power of two.
    const divisor = Math.fround((draw.uniform() + 0.01) * 2 ** (i % 20 - 10));
    const n = i % 2 ? 2 ** (i % 23) : 1 + Math.floor(draw.uniform() * 2 ** (i % 23));
    const near = Math.fround(n * divisor);
    for (const off of [-2, -1, 0, 1]) {
      a.push(Math.fround(near * (1 + off * 2 ** -24)) * (i % 3 ? 1 : -1));
      b.push(divisor);
    }
  }
  const y = await tensor(a).div(tensor(b), { roundingMode: "trunc" }).data();
  const want = a.map((v, i) => Math.trunc(Math.fround(v / b[i]!)) + 0);
  assertEquals(y.map((v) => v + 0), Float32Array.from(want));
  // The whole part of the exact quotient is another one here and there.
  const exact = await tensor(a).abs().floorDivide(tensor(b)).data();
  assert(exact.some((v, i) => v !== Math.abs(want[i]!)));
});

Deno.test("nanToNum() puts numbers in the place of NaN and infinities", async () => {
  const x = tensor([NaN, Infinity, -Infinity, 1.5]);
  const [plain, given] = await readAll([
    x.nanToNum(),
    x.nanToNum({ nan: 7, posinf: 8, neginf: -9 }),
  ]);
  const largest = 2 ** 128 - 2 ** 104;
  assertEquals([...plain!], [0, largest, -largest, 1.5]);
  assertEquals([...given!], [7, 8, -9, 1.5]);
  const ints = tensor([1, -2], { dtype: "i32" }).nanToNum();
  assertEquals([ints.dtype, ...await ints.data()], ["i32", 1, -2]);
});

Deno.test("logit() within bounds limits its argument", async () => {
  const y = await tensor([-1, 0, 0.5, 1]).logit(0.25).data();
  const want = Math.log(3);
  [-want, -want, 0, want].forEach((w, i) => assert(Math.abs(y[i]! - w) <= 10 * ulp(want), `${i}`));
});

Deno.test("add() adds up a list by reduce()", async () => {
  const losses = [tensor([1, 2]), tensor([10, 20]), tensor([100, 200])];
  assertEquals([...await losses.reduce(add).data()], [111, 222]);
});

Deno.test("clamp to a bound that is NaN gives NaN, as PyTorch's", async () => {
  for (const bounds of [{ min: NaN }, { max: NaN }, { min: NaN, max: 1 }, { min: 0, max: NaN }]) {
    const x = tensor([-1, 2, Infinity], { requiresGrad: true });
    const y = x.clamp(bounds);
    assertEquals([...await y.data()], [NaN, NaN, NaN]);
    y.sum().backward();
    assertEquals([...await x.grad!.data()], [0, 0, 0]);
    assertEquals([...await tensor([1, 2], { dtype: "i32" }).clamp(bounds).data()], [NaN, NaN]);
  }
});

Deno.test("clamp keeps integers, and the upper bound wins", async () => {
  const x = tensor([-5, 0, 16777217], { dtype: "i32" });
  const y = x.clamp({ min: -1, max: 16777217 });
  assertEquals(y.dtype, "i32");
  assertEquals([...await y.data()], [-1, 0, 16777217]);
  assertEquals([...await tensor([0, 5]).clamp({ min: 3, max: 1 }).data()], [1, 1]);
});

Deno.test("activations refuse settings that mean nothing", () => {
  const x = tensor([1]);
  assertThrows(
    () => x.softshrink(-0.1),
    RangeError,
    "Cannot softshrink with lambda -0.1: it must be 0 or more",
  );
  assertThrows(() => x.celu(0), RangeError, "Cannot celu with alpha 0: it divides by alpha");
  assertThrows(
    () => x.gelu({ approximate: "erf" as "none" }),
    RangeError,
    'Cannot approximate gelu by "erf": it must be none or tanh',
  );
});

Deno.test("whole numbers beyond a type compare as numbers, and bound nothing", async () => {
  const [i, u] = [tensor([-5, 2 ** 31 - 1], { dtype: "i32" }), tensor([0, 7], { dtype: "u32" })];
  const cases: [Tensor, number[]][] = [
    [i.lt(2 ** 31), [1, 1]],
    [i.eq(2 ** 31), [0, 0]],
    [i.ge(-(2 ** 40)), [1, 1]],
    [i.gt(2 ** 40), [0, 0]],
    [i.ne(2 ** 40), [1, 1]],
    [u.ge(-1), [1, 1]],
    [u.le(-1), [0, 0]],
    [lt(-1, u), [1, 1]],
    [ge(2 ** 33, i), [1, 1]],
    [eq(2 ** 33, i), [0, 0]],
    [u.clamp({ min: -1, max: 5 }), [0, 5]],
    [i.clamp({ min: 0, max: 1e10 }), [0, 2 ** 31 - 1]],
  ];
  const apart = u.clamp({ min: 0 });
  apart.add_(1);
  assertEquals([...await u.data()], [0, 7], "what is not limited is a copy");
  const got = await readAll(cases.map(([t]) => t));
  cases.forEach(([, want], k) => assertEquals([...got[k]!].map(Number), want, `case ${k}`));
});
