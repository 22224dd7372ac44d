/** Values at NaN, zeros and infinities, against C's and PyTorch's rules. */

import { assertEquals, assertThrows } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import {
  capture,
  dropout,
  init,
  manualSeed,
  nn,
  ones,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

const INF = Infinity;

/** Pairs as two tensors. */
function columns(pairs: readonly (readonly [number, number])[]): [Tensor, Tensor] {
  return [tensor(pairs.map(([a]) => a)), tensor(pairs.map(([, b]) => b))];
}

async function read(t: Tensor): Promise<number[]> {
  return [...await t.data()];
}

Deno.test("NaN differs from everything and is true", async () => {
  const [a, b] = columns([[NaN, 1], [NaN, NaN], [1, NaN], [1, 1], [0, NaN], [NaN, 0]]);
  for (
    const dtype of gpu().info.features.has("shader-f16")
      ? ["f32", "f16"] as const
      : ["f32"] as const
  ) {
    const [x, y] = [a.to(dtype), b.to(dtype)];
    assertEquals(await read(x.ne(y)), [1, 1, 1, 0, 1, 1]);
    assertEquals(await read(x.eq(y)), [0, 0, 0, 1, 0, 0]);
    assertEquals(await read(x.logicalAnd(y)), [1, 1, 1, 1, 0, 0]);
    assertEquals(await read(x.logicalOr(y)), [1, 1, 1, 1, 1, 1]);
    assertEquals(await read(x.to("bool")), [1, 1, 1, 1, 0, 1]);
  }
  assertEquals(await read(tensor([NaN, 0, 2], { dtype: "bool" })), [1, 0, 1]);
  assertEquals(await read(tensor([NaN, 1, 0]).norm(0)), [2]);
});

Deno.test("pow() is C's at zeros, ones, NaN and infinities", async () => {
  const cases: [number, number, number][] = [
    [0, -2, INF],
    [0, -0.5, INF],
    [0, -3, INF],
    [-0, -3, -INF],
    [0, 2, 0],
    [0, 0, 1],
    [0, NaN, NaN],
    [1, NaN, 1],
    [NaN, 0, 1],
    [NaN, 1, NaN],
    [-INF, 0.7, INF],
    [-INF, -2.5, 0],
    [-INF, 3, -INF],
    [-INF, 2, INF],
    [INF, 0.5, INF],
    [INF, -1.5, 0],
    [-1, INF, 1],
    [-1, -INF, 1],
    [2, INF, INF],
    [2, -INF, 0],
    [0.5, INF, 0],
    [0.5, -INF, INF],
    [-2, 3, -8],
    [-2, 2, 4],
    [-2, 1.5, NaN],
  ];
  const [a, b] = columns(cases.map(([a, b]) => [a, b] as const));
  assertEquals(await read(a.pow(b)), cases.map(([, , want]) => want));
});

Deno.test("gradients of powers at 0 are PyTorch's", async () => {
  const cases: [a: number, b: number, da: number, db: number][] = [
    [0, 0.5, INF, 0],
    [0, -2, -INF, -INF],
    [0, 1, 1, 0],
    [0, 2, 0, 0],
    [0, 0, 0, 0],
  ];
  const [a, b] = columns(cases.map(([a, b]) => [a, b] as const));
  a.requiresGrad_();
  b.requiresGrad_();
  a.pow(b).sum().backward();
  assertEquals((await read(a.grad!)).map((v) => v + 0), cases.map(([, , da]) => da));
  assertEquals((await read(b.grad!)).map((v) => v + 0), cases.map(([, , , db]) => db));
});

Deno.test("the exponent's gradient at a base of 0 sees each exponent", async () => {
  // By fours: alone, in rows, and against one base.
  for (const [shapeA, shapeB] of [[[24], [24]], [[6, 8], [8]], [[], [24]]] as const) {
    const size = Math.max(1, ...shapeB);
    const exponents = Array.from({ length: size }, (_, i) => (i * i + (i >> 2)) % 3 - 1);
    const a = zeros(shapeA);
    const b = tensor(exponents).requiresGrad_();
    const y = a.pow(b);
    y.backward(ones(y.shape));
    const want = exponents.map((e) => e < 0 ? -INF : 0);
    assertEquals((await read(b.grad!)).map((v) => v + 0), want, `${shapeA} ${shapeB}`);
  }
});

Deno.test("norms of negative order are 0 beside a 0, and so are their gradients", async () => {
  for (const p of [-1, -2, -2.5]) {
    const x = tensor([1, -2, 0]).requiresGrad_();
    const y = x.norm(p);
    y.backward();
    assertEquals(await read(y), [0]);
    assertEquals((await read(x.grad!)).map((v) => v + 0), [0, 0, 0]);
  }
});

Deno.test("gradients pass through NaN, as PyTorch's do", async () => {
  const gradient = async (values: number[], f: (x: Tensor) => Tensor) => {
    const x = tensor(values).requiresGrad_();
    f(x).sum().backward();
    return await read(x.grad!);
  };
  assertEquals(await gradient([NaN, 1, -1, 0], (x) => x.relu()), [1, 1, 0, 0]);
  assertEquals(await gradient([NaN, 1, -1, 0.5], (x) => x.hardtanh()), [1, 0, 0, 1]);
  assertEquals(await gradient([NaN, 1, 2, 3], (x) => x.maximum(tensor([1, 1, 1, 5]))), [
    1,
    0.5,
    1,
    0,
  ]);
  assertEquals(await gradient([NaN, 1, 2, 3], (x) => x.minimum(tensor([1, 1, 1, 5]))), [
    1,
    0.5,
    0,
    1,
  ]);
  // In the same pass as a product.
  const w = tensor([[2]]);
  const fused = (x: Tensor) => x.reshape(4, 1).linear(w, undefined, { activation: "relu" });
  assertEquals(await gradient([NaN, 1, -1, 0], fused), [2, 2, 0, 0]);
});

Deno.test("linear() of no inputs is its bias, with its activation", async () => {
  const bias = tensor([1, -2, 3]);
  const [x, w] = [zeros([2, 0]), zeros([3, 0])];
  assertEquals(await read(x.linear(w, bias)), [1, -2, 3, 1, -2, 3]);
  assertEquals(await read(x.linear(w, bias, { activation: "relu" })), [1, 0, 3, 1, 0, 3]);
  assertEquals(await read(x.linear(w, undefined, { activation: "sigmoid" })), Array(6).fill(0.5));
});

Deno.test("a scalar has one dimension to go along, as in PyTorch", async () => {
  const x = tensor(3);
  assertEquals(await read(x.softmax(0)), [1]);
  assertEquals(await read(x.logSoftmax(-1)), [0]);
  assertEquals(x.transpose(0, -1).shape, []);
  const { values, indices } = x.topk(1);
  assertEquals([values.shape, indices.shape], [[], []]);
  assertEquals([await read(values), await read(indices)], [[3], [0]]);
});

Deno.test("dropout() of everything is zeros, and its gradient, too", async () => {
  const x = ones([4]).requiresGrad_();
  const y = dropout(x, 1, { residual: tensor([1, 2, 3, 4]) });
  y.sum().backward();
  assertEquals(await read(y), [1, 2, 3, 4]);
  assertEquals(await read(x.grad!), [0, 0, 0, 0]);
});

Deno.test("BatchNorm with momentum null needs no count where it tracks nothing", async () => {
  using norm = new nn.BatchNorm2d(1, { momentum: null, trackRunningStats: false });
  const y = norm.forward(tensor([1, 3], { shape: [2, 1, 1, 1] }));
  assertEquals((await read(y)).map((v) => Math.round(100 * v)), [-100, 100]);
});

Deno.test("a dispatch over no number of workgroups is refused, and the next one runs", async () => {
  const { queue } = gpu();
  const { launch } = queue;
  queue.launch = (run) => launch.call(queue, { ...run, grid: [NaN, 1, 1] });
  try {
    assertThrows(() => ones([2]).add(1), RangeError, "over NaN x 1 x 1 workgroups");
  } finally {
    queue.launch = launch;
  }
  assertEquals(await read(ones([2]).add(1)), [2, 2]);
});

for (const size of [67, 68]) {
  Deno.test(`dropout() of ${size} draws anew at each replay, as without capture`, async () => {
    const x = ones([size]);
    const step = (x: Tensor) => dropout(x, 0.5).add(dropout(x, 0.5, { residual: x }).mul(3));
    const draws = async (run: (x: Tensor) => Tensor) => {
      manualSeed(5);
      const list: number[][] = [];
      for (let i = 0; i < 4; i++) {
        using y = run(x);
        list.push(await read(y));
      }
      return list;
    };
    const plain = await draws((x) => scope(() => step(x)));
    assertEquals(await draws(capture(step)), plain);
    assertEquals(new Set(plain.map((d) => d.join())).size, 4);
  });
}

Deno.test("nonzero() of many integers finds the last one, too", async () => {
  for (const dtype of ["i32", "u32", "bool"] as const) {
    using _fresh = poisoned();
    const values = Array.from({ length: 90 * 41 }, (_, i) => Number(i % 97 === 3 || i === 3689));
    const found = await tensor(values, { shape: [90, 41], dtype }).nonzero();
    const want = values.flatMap((v, i) => v ? [Math.floor(i / 41), i % 41] : []);
    assertEquals([...await found.data()], want);
  }
});

Deno.test("fill_() writes a view and nothing beside it", async () => {
  const x = zeros([10]);
  x.slice(0, 0, 9, 2).fill_(3);
  assertEquals(await read(x), [3, 0, 3, 0, 3, 0, 3, 0, 3, 0]);
  const rows = zeros([3, 8]);
  rows.narrow(1, 0, 4).fill_(5);
  rows.narrow(1, 6, 2).fill_(-2);
  assertEquals(await read(rows), [1, 2, 3].flatMap(() => [5, 5, 5, 5, 0, 0, -2, -2]));
});

Deno.test("casts keep every element, one by one and by fours", async () => {
  for (const size of [7, 8, 24]) {
    const values = Array.from({ length: size }, (_, i) => i + 1);
    assertEquals(await read(tensor(values).to("u32")), values);
    assertEquals(await read(tensor(values).to("i32")), values);
    const bits = values.map((v) => v % 3 === 0 || v === size);
    for (const dtype of ["u32", "i32", "f32"] as const) {
      using _fresh = poisoned();
      assertEquals(await read(tensor(bits).to(dtype)), bits.map(Number), `${size} ${dtype}`);
    }
  }
});

Deno.test("whole numbers stay what they are, beyond what f32 can tell apart", async () => {
  const x = tensor([16777217, -16777219, 4097, 0], { dtype: "i32" });
  for (const y of [x.floor(), x.ceil(), x.round(), x.trunc()]) {
    assertEquals([y.dtype, await read(y)], ["i32", [16777217, -16777219, 4097, 0]]);
  }
  assertEquals(await read(x.relu()), [16777217, 0, 4097, 0]);
  const squares = tensor([4097, -3], { dtype: "i32" }).square();
  assertEquals([squares.dtype, await read(squares)], ["i32", [16785409, 9]]);
  const counts = tensor([4097, 3], { dtype: "u32" });
  assertEquals([counts.square().dtype, await read(counts.relu())], ["u32", [4097, 3]]);
});
