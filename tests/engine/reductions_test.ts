/** Reductions and products made of other ops, and scans longer than one block. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  addmm,
  argmax,
  bmm,
  cumprod,
  cumsum,
  dot,
  eye,
  gradcheck,
  init,
  logsumexp,
  matmul,
  norm,
  outer,
  readAll,
  std,
  sum,
  Tensor,
  tensor,
  variance,
  where,
  zeros,
} from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { assertClose, assertSame } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

function numbers(name: string, count: number): number[] {
  const draw = new Draw(name);
  return Array.from({ length: count }, () => Math.fround(4 * draw.uniform() - 2));
}

function leaf(name: string, shape: readonly number[]): Tensor {
  const count = shape.reduce((n, s) => n * s, 1);
  return tensor(new Float32Array(numbers(name, count)), { shape, requiresGrad: true });
}

Deno.test("variance and std divide by n - correction, in two passes", async () => {
  const x = numbers("variance", 12);
  const rows = [x.slice(0, 4), x.slice(4, 8), x.slice(8)];
  const want = (v: number[], correction: number) => {
    const mean = v.reduce((a, b) => a + b) / v.length;
    return v.reduce((s, e) => s + (e - mean) ** 2, 0) / (v.length - correction);
  };
  const t = tensor(new Float32Array(x), { shape: [3, 4] });
  const [all, biased, each, deviation, kept] = await readAll([
    t.variance(),
    t.variance({ correction: 0 }),
    t.variance(1),
    t.std(-1, { correction: 0 }),
    std(t, [0, 1], { keepdim: true }),
  ]);
  const rtol = 32 * U;
  assertClose(all!, [want(x, 1)], { rtol });
  assertClose(biased!, [want(x, 0)], { rtol });
  assertClose(each!, rows.map((r) => want(r, 1)), { rtol });
  assertClose(deviation!, rows.map((r) => Math.sqrt(want(r, 0))), { rtol });
  assertClose(kept!, [Math.sqrt(want(x, 1))], { rtol });
  assertEquals(t.variance(0, { keepdim: true }).shape, [1, 4]);
  assertEquals(std(t, [0, 1], { keepdim: true }).shape, [1, 1]);
  // Far from 0 one pass would lose everything: the deviation of 10000 ± 0.5.
  const far = await tensor([9999.5, 10000.5, 9999.5, 10000.5]).variance({ correction: 0 }).item();
  assertEquals(far, 0.25);
  assertEquals(await variance(tensor([3])).item(), NaN);
});

Deno.test("logsumexp neither overflows nor loses small terms", async () => {
  const x = tensor([[1000, 1000], [-1000, -1001], [-Infinity, -Infinity], [Infinity, 0], [0, 0]]);
  const y = await logsumexp(x, 1).data();
  const log2 = Math.log(2);
  const want = [1000 + log2, -1000 + Math.log1p(Math.exp(-1)), -Infinity, Infinity, log2];
  assertClose(y, want, { rtol: 16 * U });
  assertEquals(logsumexp(x, [0, 1], { keepdim: true }).shape, [1, 1]);
  assertEquals(logsumexp(x).shape, []);
});

Deno.test("norms of every kind", async () => {
  const x = [3, -4, 0, 1];
  const t = tensor([x, x.map((v) => 2 * v)]);
  const p = (v: number[], p: number) => v.reduce((s, e) => s + Math.abs(e) ** p, 0) ** (1 / p);
  const double = x.map((v) => 2 * v);
  for (const order of [1, 2, 3, 1.5, 0.5]) {
    const y = await t.norm(order, 1).data();
    assertClose(y, [p(x, order), p(double, order)], { rtol: 64 * U, what: `p = ${order}` });
  }
  const [largest, smallest, count, all, kept] = await readAll([
    t.norm(Infinity, 1),
    t.norm(-Infinity, 1),
    t.norm(0, 1),
    norm(t),
    norm(t, 2, { dim: 0, keepdim: true }),
  ]);
  assertEquals([...largest!], [4, 8]);
  assertEquals([...smallest!], [0, 0]);
  assertEquals([...count!], [3, 3]);
  assertClose(all!, [Math.sqrt(26 * 5)], { rtol: 16 * U });
  assertClose(kept!, x.map((v) => Math.abs(v) * Math.sqrt(5)), { rtol: 16 * U });
});

Deno.test("gradients of composite reductions are those of their references", async () => {
  const x = leaf("composite", [3, 4]);
  await gradcheck((x) => x!.variance(), [x]);
  await gradcheck((x) => x!.variance(1, { correction: 0 }), [x]);
  await gradcheck((x) => x!.std(0), [x]);
  await gradcheck((x) => x!.logsumexp(1), [x]);
  await gradcheck((x) => x!.logsumexp(), [x]);
  for (const p of [0.5, 1, 2, 3, Infinity, -Infinity]) await gradcheck((x) => x!.norm(p, 1), [x]);
  await gradcheck((x) => x!.cumsum(0).mul(x!.cumprod(1)), [x]);
});

Deno.test("reductions refuse integers where only floats make sense", () => {
  const x = tensor([1, 2], { dtype: "i32" });
  for (const name of ["variance", "std", "logsumexp", "norm"] as const) {
    assertThrows(
      () => x[name](),
      TypeError,
      `Cannot take the ${name} of dtype i32: it must be a float, so call .to("f32") first`,
    );
  }
});

Deno.test("scans of any length are exact on integers, in every direction of memory", async () => {
  // 70000 elements: three levels of blocks; the largest sum stays below 2^31.
  for (const [shape, dim] of [[[70000], 0], [[2, 30011], 1], [[3001, 3], 0]] as const) {
    const size = shape.reduce((n: number, s) => n * s, 1);
    const values = Int32Array.from({ length: size }, (_, i) => (i * 7919) % 13 - 6);
    const y = await cumsum(tensor(values, { shape: [...shape] }), dim).data();
    const inner = dim === 0 && shape.length === 2 ? shape[1]! : 1;
    const length = shape[dim]!;
    const want = Int32Array.from(values);
    for (let i = 0; i < size; i++) {
      if (Math.floor(i / inner) % length > 0) want[i]! += want[i - inner]!;
    }
    assertSame(y, want, `cumsum of ${shape}`);
  }
  const flips = Int32Array.from({ length: 50021 }, (_, i) => i % 3 === 0 ? -1 : 1);
  const signs = await cumprod(tensor(flips), 0).data();
  let sign = 1;
  assertSame(signs, flips.map((v) => sign *= v));
});

Deno.test("the gradient of a long cumsum is the sum from there on", async () => {
  const n = 5003;
  const x = tensor(new Float32Array(n), { requiresGrad: true });
  x.cumsum(0).sum().backward();
  // Counts below 2^24 are exact.
  assertSame(
    await x.grad!.data(),
    Float32Array.from({ length: n }, (_, i) => n - i),
  );
});

Deno.test("argmax of a huge flattened tensor finds the first of equals", async () => {
  const values = new Float32Array(300_000);
  for (const at of [299_999, 123_457, 123_456, 200_000]) values[at] = 5;
  values[77] = 4.5;
  const x = tensor(values, { shape: [3, 100_000] });
  const [flat, rows] = await readAll([argmax(x), argmax(x, 1)]);
  assertEquals([...flat!], [123_456]);
  assertEquals([...rows!], [77, 23_456, 0]);
});

Deno.test("matrix helpers check their shapes and give PyTorch's results", async () => {
  const a = tensor([[1, 2], [3, 4]]);
  const v = tensor([1, 10]);
  const w = tensor([2, 3, 4]);
  const batch = tensor([[[1, 2]], [[3, 4]]]);
  const [d, o, m, b, plain, scaled, alone] = await readAll([
    dot(v, tensor([3, 4])),
    outer(v, w),
    matmul(a, v),
    bmm(batch, batch.transpose(1, 2)),
    addmm(v, a, a),
    addmm(v, a, a, { beta: 2, alpha: 0.5 }),
    addmm(tensor([NaN, NaN]), a, a, { beta: 0 }),
  ]);
  assertEquals([...d!], [43]);
  assertEquals([...o!], [2, 3, 4, 20, 30, 40]);
  assertEquals([...m!], [21, 43]);
  assertEquals([...b!], [5, 25]);
  assertEquals([...plain!], [8, 20, 16, 32]);
  assertEquals([...scaled!], [5.5, 25, 9.5, 31]);
  assertEquals([...alone!], [7, 10, 15, 22]);
  const whole = tensor([2, 3], { dtype: "i32" });
  assertEquals(await dot(whole, whole).item(), 13);
  assertThrows(
    () => dot(v, w),
    TypeError,
    "Cannot dot [2] with [3]: both must be vectors of one length",
  );
  assertThrows(
    () => outer(a, w),
    TypeError,
    "Cannot take the outer product of [2, 2] and [3]: both must be vectors",
  );
  assertThrows(
    () => bmm(a, a),
    TypeError,
    "Cannot bmm [2, 2] by [2, 2]: both must be batches of matrices of one length",
  );
  assertThrows(
    () => addmm(w, a, a),
    TypeError,
    "Cannot add [2, 2] with [3]",
  );
  assertThrows(
    () => addmm(batch, a, a),
    TypeError,
    "Cannot addmm [2, 2] to [2, 1, 2]: it must broadcast to the product",
  );
});

Deno.test("functions take what methods take", async () => {
  const x = tensor([[1, 2], [3, 4]]);
  const [s, k, y] = await readAll([
    sum(x, 0),
    sum(x, 1, { keepdim: true }),
    where(x.gt(2), x, -1),
  ]);
  assertEquals([...s!], [4, 6]);
  assertEquals([...k!], [3, 7]);
  assertEquals([...y!], [-1, -1, 3, 4]);
  const whole = tensor([1, 2], { dtype: "i32" });
  assertEquals(where(whole.gt(1), whole, 0).dtype, "i32");
  assertEquals(where(whole.gt(1), whole, 0.5).dtype, "f32");
  assertEquals(where(whole.gt(1), 1, 0).dtype, "f32");
  assertEquals(where(whole.gt(1), whole.gt(0), 7).dtype, "i32");
});

Deno.test("any(), all() and prod() see every element of a row alone", async () => {
  for (const n of [7, 8, 9, 17, 300]) {
    const same = (value: number) => new Array<number>(n).fill(value);
    for (const dtype of ["f32", "i32", "u32", "bool"] as const) {
      const one = eye(n).to(dtype), others = one.logicalNot().to(dtype);
      assertEquals([...await one.any(1).to("f32").data()], same(1), `any of ${n} ${dtype}`);
      assertEquals([...await others.all(1).to("f32").data()], same(0), `all of ${n} ${dtype}`);
    }
    // Each row has one zero: the product's slope there is that of the others, which are 1.
    const x = eye(n).neg().add(1).requiresGrad_();
    const y = x.prod(1);
    y.sum().backward();
    const [products, slopes] = await readAll([y.detach(), x.grad!.sub(eye(n)).abs().sum()]);
    assertEquals([...products!], same(0), `product of ${n}`);
    assertEquals([...slopes!], [0], `slopes of ${n}`);
  }
});

Deno.test("max and min share the gradient out among equals, wherever they lie", async () => {
  // Rows of seven are read one by one, rows of eight by fours.
  for (const S of [7, 8]) {
    for (const largest of [true, false]) {
      const [A, B] = [2, 5];
      const size = A * B * S;
      const values = Array.from({ length: size }, (_, i) => i * i % 7 % 3);
      const weights = Array.from({ length: A * S }, (_, i) => 1 + i);
      using x = tensor(values, { shape: [A, B, S] }).requiresGrad_();
      const y = largest ? x.max(1) : x.min(1);
      y.mul(tensor(weights, { shape: [A, S] })).sum().backward();
      const want = values.map((v, i) => {
        const [a, s] = [Math.floor(i / (B * S)), i % S];
        const column = Array.from({ length: B }, (_, b) => values[(a * B + b) * S + s]!);
        const top = largest ? Math.max(...column) : Math.min(...column);
        return v === top ? weights[a * S + s]! / column.filter((c) => c === top).length : 0;
      });
      // A division and a product, each rounded once or to two units.
      assertClose(await x.grad!.data(), want, { rtol: 4 * U });
    }
  }
});

Deno.test("argmax() and argmin() of every dtype compare the best of all shares", async () => {
  for (const dtype of ["f32", "f16", "i32", "u32", "bool"] as const) {
    if (dtype === "f16" && !gpu().info.features.has("shader-f16")) continue;
    // Alike but for the first two: a share whose best were taken one element on would lose to the others.
    const largest = Array.from({ length: 1301 }, (_, i) => i === 1 ? 0 : 1);
    using most = tensor(largest, { dtype });
    using least = tensor(largest.map((v) => 1 - v), { dtype });
    using a = most.argmax();
    using b = least.argmin();
    assertEquals([await a.item(), await b.item()], [0, 0], dtype);
  }
});

Deno.test("logsumexp() and topk() of nothing are what PyTorch's are", async () => {
  const x = zeros([2, 0], { requiresGrad: true });
  const y = x.logsumexp(1);
  assertEquals(await y.array(), [-Infinity, -Infinity]);
  assertEquals(await zeros([0, 3]).logsumexp().array(), -Infinity);
  assertEquals(x.logsumexp(0, { keepdim: true }).shape, [1, 0]);
  y.sum().backward();
  assertEquals(x.grad!.shape, [2, 0]);

  const rows = tensor([[3, 1, 2]], { requiresGrad: true });
  for (const largest of [true, false]) {
    const { values, indices } = rows.topk(0, { largest });
    assertEquals([values.shape, indices.shape, indices.dtype], [[1, 0], [1, 0], "i32"]);
    values.sum().backward();
  }
  assertEquals(await rows.grad!.array(), [[0, 0, 0]]);
  assertEquals(rows.topk(0, { dim: 0 }).values.shape, [0, 3]);
  assertThrows(() => rows.topk(-1), RangeError, "Cannot take the top -1");
  assertThrows(() => tensor(1).topk(0), RangeError, "from 1 to 1");
});
