import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { init, manualSeed, nn, rand, type Tensor, zeros } from "../../mod.ts";

await init();

/** Draws and checks that the numbers are uniform in ±bound, by their range, mean and variance. */
async function assertUniform(t: Tensor, bound: number): Promise<void> {
  const values = Float64Array.from(await t.data());
  const n = values.length;
  const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  assert(largest <= bound * (1 + 2 ** -23), `reaches ${largest}, not ${bound}`);
  // n draws all below 1 - 20 / n have a chance of e^-20.
  assert(largest > bound * (1 - 20 / n), `reaches only ${largest}, not ${bound}`);
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  assert(Math.abs(mean) < 5 * bound / Math.sqrt(3 * n), `mean ${mean}`);
  const square = values.reduce((sum, v) => sum + v * v, 0) / n;
  // v² has mean b² / 3 and variance b⁴ (1 / 5 - 1 / 9).
  const deviation = bound ** 2 * Math.sqrt((1 / 5 - 1 / 9) / n);
  assert(Math.abs(square - bound ** 2 / 3) < 5 * deviation, `mean square ${square}`);
}

/** Checks that the numbers are normal around `mean`, by four moments. */
async function assertNormal(t: Tensor, std: number, mean = 0): Promise<void> {
  const values = Float64Array.from(await t.data(), (v) => (v - mean) / std);
  const n = values.length;
  const moment = (k: number) => values.reduce((sum, v) => sum + v ** k, 0) / n;
  // Moments of the standard normal 0, 1, 0, 3; variances of v^k are 1, 2, 15, 96.
  for (const [k, want, variance] of [[1, 0, 1], [2, 1, 2], [3, 0, 15], [4, 3, 96]] as const) {
    const off = Math.abs(moment(k) - want);
    assert(off < 5 * Math.sqrt(variance / n), `moment ${k} is ${moment(k)}, expected ${want}`);
  }
}

/** A tensor to initialise: fans are 50 · 9 = 450 and 40 · 9 = 360. */
function weight(): Tensor {
  return zeros([40, 50, 3, 3]);
}

Deno.test("fans() counts inputs and outputs of one weight", () => {
  using w = weight();
  using matrix = zeros([2, 7]);
  using vector = zeros([3]);
  assertEquals(nn.init.fans(w), { fanIn: 450, fanOut: 360 });
  assertEquals(nn.init.fans(matrix), { fanIn: 7, fanOut: 2 });
  assertThrows(() => nn.init.fans(vector), TypeError, "weights have at least 2 dimensions");
});

Deno.test("calculateGain() gives PyTorch's gains", () => {
  const { calculateGain } = nn.init;
  assertEquals(
    (["linear", "conv2d", "sigmoid", "tanh", "relu", "selu"] as const).map((n) => calculateGain(n)),
    [1, 1, 1, 5 / 3, Math.sqrt(2), 0.75],
  );
  assertEquals(calculateGain("leakyRelu"), Math.sqrt(2 / (1 + 0.01 ** 2)));
  assertEquals(calculateGain("leakyRelu", 2), Math.sqrt(2 / 5));
});

Deno.test("uniform initialisers fill their range", async () => {
  manualSeed(21);
  const { init } = nn;
  const cases: [(t: Tensor) => Tensor, number][] = [
    [(t) => init.xavierUniform(t), Math.sqrt(6 / 810)],
    [(t) => init.xavierUniform(t, { gain: 2 }), 2 * Math.sqrt(6 / 810)],
    [(t) => init.kaimingUniform(t), Math.sqrt(6 / 450)],
    [(t) => init.kaimingUniform(t, { a: Math.sqrt(5) }), Math.sqrt(1 / 450)],
    [
      (t) => init.kaimingUniform(t, { mode: "fanOut", nonlinearity: "tanh" }),
      5 / Math.sqrt(3 * 360),
    ],
    [(t) => init.mxnetXavier(t), Math.sqrt(3 / 405)],
    [(t) => init.mxnetXavier(t, { magnitude: 2, factor: "in" }), Math.sqrt(2 / 450)],
    [(t) => init.mxnetXavier(t, { magnitude: 2, factor: "out" }), Math.sqrt(2 / 360)],
    [(t) => init.uniform(t, { low: -0.5, high: 0.5 }), 0.5],
  ];
  using w = weight();
  for (const [fill, bound] of cases) {
    assertStrictEquals(fill(w), w);
    await assertUniform(w, bound);
  }
});

Deno.test("normal initialisers have their deviation", async () => {
  manualSeed(22);
  const { init } = nn;
  const cases: [(t: Tensor) => Tensor, number, number?][] = [
    [(t) => init.xavierNormal(t), Math.sqrt(2 / 810)],
    [(t) => init.kaimingNormal(t, { nonlinearity: "relu" }), Math.sqrt(2 / 450)],
    [(t) => init.kaimingNormal(t, { mode: "fanOut" }), Math.sqrt(2 / 360)],
    [(t) => init.mxnetXavier(t, { distribution: "normal" }), Math.sqrt(3 / 405)],
    [(t) => init.normal(t), 1],
    [(t) => init.normal(t, { mean: 3, std: 0.1 }), 0.1, 3],
  ];
  using w = weight();
  for (const [fill, std, mean] of cases) {
    assertStrictEquals(fill(w), w);
    await assertNormal(w, std, mean);
  }
});

Deno.test("initialisers change parameters without recording, alike for a seed", async () => {
  const draw = async () => {
    manualSeed(23);
    using p = new nn.Parameter(zeros([3, 5]));
    nn.init.xavierUniform(p);
    assert(p.isLeaf);
    return [...await p.data()];
  };
  const first = await draw();
  assertEquals(await draw(), first);
  assertEquals(new Set(first).size, 15);
});

Deno.test("initialisers fill f16 tensors and views, and refuse integers", async () => {
  manualSeed(24);
  using half = zeros([4, 4], { dtype: "f16" });
  nn.init.uniform(half, { low: 1, high: 2 });
  assert((await half.data()).every((v) => v >= 1 && v <= 2));
  using whole = zeros([2, 4]);
  using column = whole.narrow(1, 1, 1);
  nn.init.uniform(column, { low: 1, high: 2 });
  assertEquals([...await whole.data()].map((v) => v >= 1), [
    ...[false, true, false, false],
    ...[false, true, false, false],
  ]);
  using integers = zeros([4], { dtype: "i32" });
  assertThrows(() => nn.init.normal(integers), TypeError, "Cannot draw i32");
});

Deno.test("constant() sets every element, of a parameter too", async () => {
  using p = new nn.Parameter(zeros([3]));
  assertStrictEquals(nn.init.constant(p, 0.25), p);
  assertEquals([...await p.data()], [0.25, 0.25, 0.25]);
});

Deno.test("orthogonal makes rows or columns orthonormal, whichever are fewer", async () => {
  for (const shape of [[5, 5], [3, 8], [8, 3], [4, 3, 3, 2], [1, 6], [6, 1]]) {
    manualSeed(11);
    using t = zeros(shape);
    nn.init.orthogonal(t, { gain: 2 });
    const values = await t.data();
    const rows = shape[0]!;
    const columns = values.length / rows;
    const [count, length] = rows < columns ? [rows, columns] : [columns, rows];
    const at = (k: number, i: number) =>
      Number(rows < columns ? values[k * columns + i] : values[i * columns + k]);
    for (let a = 0; a < count; a++) {
      for (let b = 0; b <= a; b++) {
        let dot = 0;
        for (let i = 0; i < length; i++) dot += at(a, i) * at(b, i);
        // Each of up to 12 products of numbers rounded to f32, of size 4 together.
        assertAlmostEquals(dot, a === b ? 4 : 0, 4 * 12 * 2 ** -24, `${shape} ${a} ${b}`);
      }
    }
  }
});

Deno.test("orthogonal draws from the engine's generator, and signs are even", async () => {
  const draw = async (seed: number) => {
    manualSeed(seed);
    using t = nn.init.orthogonal(zeros([16, 16]));
    using next = rand([1]);
    return [[...await t.data()].map(Number), await next.item()] as const;
  };
  const [a, b, c] = [await draw(1), await draw(1), await draw(2)];
  assertEquals(a, b);
  assert(a[0].some((v, i) => v !== c[0][i]));
  // 256 signs: 5 deviations of 8.
  assert(Math.abs(a[0].filter((v) => v > 0).length - 128) < 40);
  using flat = zeros([3]);
  assertThrows(
    () => nn.init.orthogonal(flat),
    TypeError,
    "Cannot make [3] orthogonal: it must have at least 2 dimensions",
  );
});
