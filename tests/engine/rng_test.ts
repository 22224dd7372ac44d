/** The generator on the GPU against the host's Philox, and what is made of its numbers. */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { DeviceArray, operand } from "../../engine/array.ts";
import { capture } from "../../engine/capture.ts";
import {
  bernoulli,
  ones,
  rand,
  randint,
  randLike,
  randn,
  tensor,
  zeros,
} from "../../engine/creation.ts";
import { dropout } from "../../engine/functions.ts";
import { gpu, init } from "../../engine/gpu/device.ts";
import { kernel, linearThread } from "../../engine/kernels/kernel.ts";
import { PHILOX, randomKernel, RNG_BUFFER } from "../../engine/kernels/philox.ts";
import { philox4x32, type U32x2, type U32x4 } from "../../engine/philox.ts";
import { readAll } from "../../engine/read.ts";
import { callParams, manualSeed, rngArray, rngState, setRngState } from "../../engine/rng.ts";
import { Tensor } from "../../engine/tensor.ts";
import { KNOWN_PHILOX } from "../helpers/philox_vectors.ts";

await init();

/** Word `e` of call `call`: what element e of a random fill is made of. */
function word(e: number, { seed, call }: { seed: number; call: number }): number {
  const high = (n: number) => Math.floor(n / 2 ** 32);
  const counter: U32x4 = [e >> 2, 0, call >>> 0, high(call)];
  return philox4x32(counter, [seed >>> 0, high(seed)])[e & 3]!;
}

/** 24 bits of a word in [0, 1). */
function unit(word: number): number {
  return (word >>> 8) / 2 ** 24;
}

Deno.test("philox on the GPU gives the known answers, and what the host gives", async () => {
  const cases: [U32x4, U32x2][] = [
    ...KNOWN_PHILOX.map(([, counter, key]): [U32x4, U32x2] => [counter, key]),
    ...Array.from({ length: 61 }, (_, i): [U32x4, U32x2] => {
      const w = philox4x32([i, 1, 2, 3], [4, 5]);
      return [w, [w[1] ^ w[2], w[3]]];
    }),
  ].map(([c, k]) => [c, [k[0] >>> 0, k[1]]]);
  const count = cases.length;
  const input = DeviceArray.from(cases.flat(2), { shape: [count, 6], dtype: "u32" });
  const output = new Tensor(DeviceArray.empty({ shape: [count, 4], dtype: "u32" }));
  gpu().queue.launch({
    kernel: kernel({
      name: "philox_known_answers",
      buffers: [
        RNG_BUFFER,
        { name: "x", access: "read", type: "u32" },
        { name: "y", access: "write", type: "u32" },
      ],
      params: { count: "u32" },
      module: PHILOX,
      body: `${linearThread("t", "p.count")}
  let i = t * 6u;
  let w = philox(vec4<u32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]), vec2<u32>(x[i + 4u], x[i + 5u]));
  for (var v = 0u; v < 4u; v++) { y[t * 4u + v] = w[v]; }
  if (rng[0] == 1234567u) { y[0] = draw(0u, 0u, 0u).x; }`,
    }),
    buffers: [rngArray(), input, output.device].map((a) => operand(a).binding),
    params: { count },
    grid: [2, 1, 1],
    cost: { flops: 0, bytes: 0 },
  });
  const got = [...await output.data()];
  KNOWN_PHILOX.forEach(([name, , , words], i) =>
    assertEquals(got.slice(4 * i, 4 * i + 4), words, name)
  );
  assertEquals(got, cases.flatMap(([counter, key]) => philox4x32(counter, key)));
});

Deno.test("rand() is 24 bits of the host's Philox words, by seed, call and element", async () => {
  for (
    const state of [
      { seed: 0, calls: 0 },
      { seed: 42, calls: 7 },
      { seed: 2 ** 53 - 1, calls: 2 ** 32 - 1 },
      { seed: 2 ** 32 + 5, calls: 2 ** 40 + 3 },
    ]
  ) {
    setRngState(state);
    const draws = await readAll([rand([3, 7]), rand([2])]);
    draws.forEach((data, n) => {
      const at = { seed: state.seed, call: state.calls + n };
      const want = Array.from(data, (_, e) => unit(word(e, at)));
      assertEquals([...data], want, JSON.stringify(state));
    });
    assertEquals(rngState(), { seed: state.seed, calls: state.calls + 2 });
  }
});

Deno.test("the base in the generator's buffer adds to the call number, with its carry", async () => {
  const [base, call] = [5 * 2 ** 32 + 0xfffffff0, 2 ** 32 + 0x20];
  const words = [42, 0, base >>> 0, Math.floor(base / 2 ** 32)];
  const rng = DeviceArray.from(words, { shape: [4], dtype: "u32" });
  const y = new Tensor(DeviceArray.empty({ shape: [8], dtype: "f32" }));
  gpu().queue.launch({
    kernel: randomKernel({ distribution: "uniform", dtype: "f32" }),
    buffers: [rng, y.device].map((a) => operand(a).binding),
    params: { count: 8, threads: 2, first: 0, a: 0, b: 1, low: 0, range: 1, ...callParams(call) },
    grid: [1, 1, 1],
    cost: { flops: 0, bytes: 0 },
  });
  const want = Array.from({ length: 8 }, (_, e) => unit(word(e, { seed: 42, call: base + call })));
  assertEquals([...await y.data()], want);
});

Deno.test("randn() is Box and Muller's transform of those words", async () => {
  manualSeed(3);
  const data = await randn([8]).data();
  data.forEach((got, e) => {
    const pair = e & ~1;
    const at = { seed: 3, call: 0 };
    const r = Math.sqrt(-2 * Math.log(((word(pair, at) >>> 8) + 1) / 2 ** 24));
    const t = 2 * Math.PI * unit(word(pair + 1, at));
    // Cosine and sine within 2 ulp, the logarithm within 6 and a root, times r up to 5.8.
    assertAlmostEquals(Number(got), r * (e & 1 ? Math.sin(t) : Math.cos(t)), 4e-6, `element ${e}`);
  });
  // Mean and variance of n numbers deviate by 1 / sqrt(n) and sqrt(2 / n): five times that.
  const n = 1 << 14;
  const many = [...await randn([n]).data()].map(Number);
  const mean = many.reduce((s, v) => s + v, 0) / n;
  const variance = many.reduce((s, v) => s + (v - mean) ** 2, 0) / n;
  assert(Math.abs(mean) < 5 / Math.sqrt(n), `mean ${mean}`);
  assert(Math.abs(variance - 1) < 5 * Math.sqrt(2 / n), `variance ${variance}`);
  assert(many.every(Number.isFinite));
});

Deno.test("randint() and bernoulli() use one word an element", async () => {
  manualSeed(5);
  const [ints, coins, certain, never, whole] = await readAll([
    randint(-3, 4, { shape: [50] }),
    bernoulli(0.3, { shape: [50] }),
    bernoulli(1, { shape: [50] }),
    bernoulli(0, { shape: [50], dtype: "bool" }),
    randint(2, 9, { shape: [50], dtype: "u32" }),
  ]);
  assertEquals(
    [...whole!],
    Array.from({ length: 50 }, (_, e) => word(e, { seed: 5, call: 4 }) % 7 + 2),
  );
  assertEquals(
    [...ints!],
    Array.from({ length: 50 }, (_, e) => word(e, { seed: 5, call: 0 }) % 7 - 3),
  );
  assertEquals(
    [...coins!],
    Array.from({ length: 50 }, (_, e) => Number(unit(word(e, { seed: 5, call: 1 })) < 0.3)),
  );
  assertEquals([...new Set(certain)], [1]);
  assertEquals([...new Set(never)], [0]);
  assertThrows(() => randint(3, 3, { shape: [1] }), RangeError, "high must be above low");
  assertThrows(() => bernoulli(1.5, { shape: [1] }), RangeError, "must be 0 to 1");
});

Deno.test("draws of a captured step are those of plain calls, replay after replay", async () => {
  const draws = () => [
    rand([9]),
    randn([9]),
    randint(-5, 9, { shape: [9] }),
    randint(0, 9, { shape: [9], dtype: "u32" }),
    bernoulli(0.5, { shape: [9] }),
  ];
  const numbers = async (run: () => Tensor[]) => {
    manualSeed(11);
    const all: number[][][] = [];
    for (let i = 0; i < 5; i++) all.push((await readAll(run())).map((v) => [...v].map(Number)));
    return all;
  };
  const plain = await numbers(draws);
  const step = capture(draws);
  assertEquals(await numbers(() => [...step()]), plain);
  step.dispose();
});

Deno.test("rand() in f16 stays in [0, 1]", async () => {
  manualSeed(1);
  const x = randLike(zeros([999], { dtype: "f16" }));
  assertEquals(x.dtype, "f16");
  const data = [...await x.data()].map(Number);
  assert(data.every((v) => v >= 0 && v <= 1));
  assert(new Set(data).size > 500);
  assertThrows(() => randLike(zeros([2], { dtype: "i32" })), TypeError, "it must be a float");
});

Deno.test("manualSeed() starts the numbers again; calls and seeds give others", async () => {
  const draws: string[] = [];
  for (const seed of [1, 1, 2]) {
    manualSeed(seed);
    for (const data of await readAll([rand([5]), rand([5]), randn([5])])) {
      draws.push(`${[...data]}`);
    }
  }
  assertEquals(draws.slice(0, 3), draws.slice(3, 6));
  assertEquals(new Set(draws.slice(3)).size, 6);
  // The seed's change must not reach draws recorded before it.
  manualSeed(1);
  const early = rand([5]);
  manualSeed(2);
  const late = rand([5]);
  const [a, b] = await readAll([early, late]);
  assertEquals([`${[...a!]}`, `${[...b!]}`], [draws[0], draws[6]]);
});

Deno.test("setRngState() continues where rngState() was taken", async () => {
  manualSeed(9);
  rand([3]);
  const state = rngState();
  const first = await readAll([rand([4]), dropout(ones([9]))]);
  manualSeed(123);
  rand([3]);
  setRngState(JSON.parse(JSON.stringify(state)));
  const second = await readAll([rand([4]), dropout(ones([9]))]);
  assertEquals(second, first);
  for (const seed of [-1, 0.5, 2 ** 53, NaN]) {
    assertThrows(() => manualSeed(seed), RangeError, "as the generator's seed: it must be");
  }
  assertThrows(() => setRngState({ seed: 1, calls: -1 }), RangeError, "the generator's calls");
  assertEquals(rngState().seed, 9);
});

Deno.test("dropout() keeps the elements whose draw is not below p, and backward the same ones", async () => {
  const p = 0.3;
  for (const size of [1, 4, 61, 64]) {
    manualSeed(11);
    const x = rand([size], { requiresGrad: true });
    const y = dropout(x, p);
    rand([7]); // other draws in between change nothing
    y.backward(ones([size]));
    const [values, kept, grads] = await readAll([x, y, x.grad!]);
    values!.forEach((v, e) => {
      const keeps = unit(word(e, { seed: 11, call: 1 })) >= Math.fround(p);
      const scale = keeps ? Math.fround(1 / (1 - p)) : 0;
      assertEquals(kept![e], Math.fround(Number(v) * scale), `element ${e}`);
      assertEquals(grads![e], scale, `gradient ${e}`);
    });
  }
  for (const size of [5, 8]) {
    manualSeed(11);
    const [x, residual] = [1, 2].map(() => rand([size], { requiresGrad: true })) as [
      Tensor,
      Tensor,
    ];
    const y = dropout(x, p, { residual });
    y.backward(ones([size]));
    const [a, b, sum, da, db] = await readAll([x, residual, y, x.grad!, residual.grad!]);
    sum!.forEach((v, e) => {
      const keeps = unit(word(e, { seed: 11, call: 2 })) >= Math.fround(p);
      const scale = keeps ? Math.fround(1 / (1 - p)) : 0;
      const kept = Math.fround(Number(a![e]) * scale);
      // The product may be rounded or fused into the sum.
      assert(Math.abs(Number(v) - (kept + Number(b![e]))) < 2 ** -22, `sum ${e} of ${size}`);
      assertEquals([da![e], db![e]], [scale, 1], `gradients ${e}`);
    });
  }
  if (gpu().info.features.has("shader-f16")) {
    for (const size of [5, 8]) {
      const half = (first: number) =>
        tensor(Array.from({ length: size }, (_, i) => first + i / 8), { dtype: "f16" });
      manualSeed(11);
      const sum = await dropout(half(1), p, { residual: half(-2) }).data();
      sum.forEach((v, e) => {
        const keeps = unit(word(e, { seed: 11, call: 0 })) >= Math.fround(p);
        const want = (keeps ? (1 + e / 8) / (1 - p) : 0) - 2 + e / 8;
        assert(Math.abs(Number(v) - want) <= 2 ** -10 * 2, `f16 sum ${e} of ${size}`);
      });
    }
  }
  assertThrows(
    () => dropout(ones([4]), 0.5, { residual: ones([5]) }),
    TypeError,
    "Cannot drop out f32 [4] and add f32 [5]: the residual must have the same shape and dtype",
  );
  manualSeed(11);
  const half = [...await dropout(ones([4096]), 0.5).data()];
  assertEquals(half.filter((v) => v !== 0 && v !== 2), []);
  assert(Math.abs(half.filter((v) => v === 0).length - 2048) < 5 * 32, "far from one half");
  assertEquals(await dropout(ones([3]), 0).array(), [1, 1, 1]);
  assertNotEquals(await dropout(ones([64])).array(), await dropout(ones([64])).array());
  assertThrows(() => dropout(ones([3]), 1.5), RangeError, "it must be at least 0 and below 1");
});
