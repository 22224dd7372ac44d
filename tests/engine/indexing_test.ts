/** Indexing and sorting beyond the generated tests: errors, order of writers, sizes, nonzero, randperm. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  embedding,
  full,
  init,
  manualSeed,
  memory,
  oneHot,
  randn,
  randperm,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../engine/mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { assertSame } from "../helpers/close.ts";
import { assertNothingLeft } from "../helpers/memory.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

function ids(values: number[], shape = [values.length]) {
  return tensor(values, { dtype: "i32", shape });
}

Deno.test("gather(), scatter(), scatterAdd() work along any dimension", async () => {
  const x = tensor([[1, 2, 3], [4, 5, 6]]);
  const index = ids([0, 1, 1], [1, 3]);
  assertEquals(await x.gather(0, index).array(), [[1, 5, 6]]);
  const src = tensor([[10, 20, 30]]);
  assertEquals(await x.scatter(0, index, src).array(), [[10, 2, 3], [4, 20, 30]]);
  assertEquals(await x.scatterAdd(0, index, src).array(), [[11, 2, 3], [4, 25, 36]]);
  assertEquals(await x.gather(-1, ids([2, 0], [2, 1])).array(), [[3], [4]]);
  const twice = ids([0, 0, 0], [1, 3]);
  assertEquals(await zeros([1, 2]).scatter(1, twice, src).array(), [[30, 0]], "the last one wins");
});

Deno.test("indexCopy_() overwrites slices of any dimension, in any dtype and layout", async () => {
  const source = [[10, 20], [30, 40], [50, 60]];
  for (const dtype of ["f32", "i32", "u32", "f16"] as const) {
    if (dtype === "f16" && !gpu().info.features.has("shader-f16")) continue;
    using _ = poisoned();
    const x = full([2, 3, 2], 7).to(dtype);
    const rows = tensor(source.slice(0, 2), { dtype, shape: [2, 1, 2] });
    assertEquals(x.indexCopy_(1, ids([2]), rows), x);
    assertEquals(await x.array(), [[[7, 7], [7, 7], [10, 20]], [[7, 7], [7, 7], [30, 40]]]);
    const columns = tensor([1, 2, 3, 4, 5, 6], { dtype, shape: [2, 3, 1] });
    x.indexCopy_(-1, ids([0]).to("u32"), columns);
    assertEquals(await x.array(), [[[1, 7], [2, 7], [3, 20]], [[4, 7], [5, 7], [6, 40]]]);
  }
  const flags = tensor([true, false, true]).indexCopy_(0, ids([2, 1]), tensor([false, true]));
  assertEquals(await flags.array(), [true, true, false]);
  // A view with gaps, a source that lies transposed, and more than a workgroup.
  const wide = zeros([4, 200]);
  const turned = randn([130, 4]);
  const places = randperm(199).slice(0, 0, 130).add(1).to("i32");
  wide.slice(1, 1).indexCopy_(1, places.sub(1).to("i32"), turned.transpose(0, 1));
  const [got, from, at] = [await wide.array(), await turned.array(), await places.array()];
  const want = [0, 1, 2, 3].map(() => new Array(200).fill(0));
  (at as number[]).forEach((c, k) =>
    want.forEach((row, r) => row[c] = (from as number[][])[k]![r])
  );
  // All numbers in a message, where they differ, would take a minute.
  const differs = want.findIndex((row, r) =>
    row.some((v: number, c: number) => v !== (got as number[][])[r]![c])
  );
  assertEquals(differs, -1);
  assertEquals(await zeros([2, 3]).indexCopy_(1, ids([]), zeros([2, 0])).array(), [[0, 0, 0], [
    0,
    0,
    0,
  ]]);
});

Deno.test("indexCopy_() says what does not fit, and an index out of range at the next read", async () => {
  const x = zeros([2, 3]);
  const copy = (index: Tensor, source: Tensor) => () => x.indexCopy_(1, index, source);
  assertThrows(copy(ids([0, 1]), zeros([2, 3])), TypeError, "the source then be [2, 2]");
  assertThrows(copy(ids([0, 1], [1, 2]), zeros([2, 2])), TypeError, "must have one dimension");
  assertThrows(copy(ids([0]), zeros([2, 1]).to("i32")), TypeError, "i32 into f32");
  assertThrows(copy(tensor([0.5]), zeros([2, 1])), TypeError, "f32");
  const w = zeros([2], { requiresGrad: true });
  assertThrows(() => w.indexCopy_(0, ids([0]), zeros([1])), TypeError, "inside noGrad()");
  const source = zeros([1], { requiresGrad: true });
  assertThrows(() => zeros([2]).indexCopy_(0, ids([0]), source), TypeError, "would be lost");
  const changed = tensor([1, 2]);
  const y = w.mul(changed);
  changed.indexCopy_(0, ids([0]), zeros([1]));
  assertThrows(() => y.sum().backward(), Error, "was changed in place");
  // Nothing has changed by a call that threw.
  const kept = tensor([1, 2]);
  const z = w.mul(kept);
  assertThrows(() => kept.indexCopy_(0, ids([0]), zeros([2])), TypeError);
  z.sum().backward();
  assertThrows(() => tensor(3).indexCopy_(0, ids([0]), tensor(4)), TypeError, "a scalar");
  // Source and index may lie in the memory that is written.
  const own = tensor([[1, 2], [3, 4]]);
  assertEquals(await own.indexCopy_(0, ids([1, 0]), own).array(), [[3, 4], [1, 2]]);
  assertEquals(await own.indexCopy_(0, ids([1]), own.slice(0, 0, 1)).array(), [[3, 4], [3, 4]]);
  const places = ids([1, 0]);
  assertEquals(await places.indexCopy_(0, places, ids([5, 6])).array(), [6, 5]);
  for (
    const dtype of gpu().info.features.has("shader-f16")
      ? ["f32", "f16"] as const
      : ["f32"] as const
  ) {
    for (const bad of [3, -1]) {
      const y = x.to(dtype);
      y.indexCopy_(1, ids([bad, 1]), tensor([[5, 6], [7, 8]], { dtype }));
      await assertRejects(() => y.data(), RangeError, `Cannot indexCopy_ with index ${bad}`);
      assertEquals(await y.array(), [[0, 6, 0], [0, 8, 0]]);
    }
  }
});

Deno.test("the gradient of scatter() reaches what was not overwritten", async () => {
  const x = tensor([1, 2, 3], { requiresGrad: true });
  const src = tensor([10, 20, 30], { requiresGrad: true });
  const y = x.scatter(0, ids([2, 0, 2]), src);
  assertEquals(await y.array(), [20, 2, 30]);
  y.mul(tensor([1, 2, 4])).sum().backward();
  assertEquals(await x.grad!.array(), [0, 2, 0]);
  assertEquals(await src.grad!.array(), [0, 1, 4]);
});

Deno.test("indexSelect() and indexAdd() take slices of any dimension", async () => {
  const x = tensor([[1, 2, 3], [4, 5, 6]]);
  assertEquals(await x.indexSelect(1, ids([2, 0, 2])).array(), [[3, 1, 3], [6, 4, 6]]);
  assertEquals(await x.indexSelect(0, ids([1])).array(), [[4, 5, 6]]);
  const add = tensor([[1, 10], [2, 20]]);
  assertEquals(await x.indexAdd(1, ids([2, 2]), add).array(), [[1, 2, 14], [4, 5, 28]]);
  assertEquals(await x.indexAdd(1, ids([0, 1]), add, { alpha: -2 }).array(), [[-1, -18, 3], [
    0,
    -35,
    6,
  ]]);
});

Deno.test("embedding() adds gradients of equal ids and gives the padding row none", async () => {
  const weight = tensor([[1, 2], [3, 4], [5, 6]], { requiresGrad: true });
  const y = embedding(ids([2, 0, 2, 1], [2, 2]), weight, { paddingIdx: -3 });
  assertEquals(await y.array(), [[[5, 6], [1, 2]], [[5, 6], [3, 4]]]);
  y.mul(tensor([[[1], [2]], [[3], [4]]])).sum().backward();
  assertEquals(await weight.grad!.array(), [[0, 0], [4, 4], [4, 4]]);
});

Deno.test("embedding() of 3000 ids in 5000 rows has the gradient of a loop", async () => {
  manualSeed(3);
  const [V, D, K] = [5000, 5, 3000];
  const values = Int32Array.from({ length: K }, (_, k) => (k * k * 7919) % 977);
  const weight = randn([V, D], { requiresGrad: true });
  const dy = randn([K, D]);
  embedding(tensor(values), weight).mul(dy).sum().backward();
  const [got, seed] = await readAll([weight.grad!, dy]);
  const want = new Float32Array(V * D);
  // The same order of additions in f32: equal to the bit.
  values.forEach((v, k) => {
    for (let d = 0; d < D; d++) {
      want[v * D + d] = Math.fround(want[v * D + d]! + seed![k * D + d]!);
    }
  });
  assertEquals(got, want);
});

Deno.test("a bad index gives NaN and is thrown at the next read, once", async () => {
  const x = tensor([1, 2, 3]);
  const y = x.gather(0, ids([1, 3]));
  await assertRejects(
    () => x.data(),
    RangeError,
    "Cannot gather with index 3: indices must be 0 to 2",
  );
  assertEquals(await y.array(), [2, NaN]);
  x.indexSelect(0, ids([-1]));
  await assertRejects(
    () => synchronize(),
    RangeError,
    "Cannot indexSelect with index -1: indices must be 0 to 2",
  );
  await synchronize();
  const z = zeros([2]).scatterAdd(0, ids([0, 5, 1, -7]), full([4], 1));
  await assertRejects(() => z.data(), RangeError, "Cannot scatterAdd with index");
  assertEquals(await z.array(), [1, 1]);
  zeros([2]).scatterAdd(0, ids([1, -7]), full([2], 1));
  await assertRejects(() => synchronize(), RangeError, "Cannot scatterAdd with index -7");
  zeros([2]).scatter(0, ids([2]), full([1], 1));
  await assertRejects(() => synchronize(), RangeError, "Cannot scatter with index 2");
  const w = zeros([4, 2], { requiresGrad: true });
  embedding(ids([4]), w);
  await assertRejects(() => synchronize(), RangeError, "Cannot indexSelect with index 4");
  const hot = oneHot(ids([1, 2, -1]), 2);
  await assertRejects(() => hot.data(), RangeError, "Cannot oneHot with index");
  assertEquals(await hot.array(), [[0, 1], [0, 0], [0, 0]]);
  const whole = tensor([5, 6], { dtype: "i32" }).gather(0, ids([2, 1]));
  await assertRejects(() => synchronize(), RangeError, "Cannot gather with index 2");
  assertEquals(await whole.array(), [0, 6]);
});

Deno.test("a bad index is thrown whatever the dtype", async () => {
  const bad = ids([0, 2]);
  const f16 = gpu().info.features.has("shader-f16") ? ["f16"] as const : [];
  for (const dtype of ["f32", "i32", "u32", "bool", ...f16] as const) {
    const x = zeros([2, 3], { dtype });
    const index = bad.reshape(2, 1);
    for (
      const [name, run] of Object.entries({
        gather: () => x.gather(0, index),
        indexSelect: () => x.indexSelect(0, bad),
        scatter: () => x.scatter(0, index, x.narrow(1, 0, 1)),
        oneHot: () => oneHot(bad, 2, { dtype }),
      })
    ) {
      await assertRejects(() => run().data(), RangeError, `Cannot ${name} with index 2`, dtype);
      await synchronize();
    }
    if (dtype !== "f32" && dtype !== "f16") continue;
    await assertRejects(
      () => x.scatterAdd(0, index, x.narrow(1, 0, 1)).data(),
      RangeError,
      "Cannot scatterAdd with index 2",
      dtype,
    );
    await assertRejects(() => embedding(bad, x).data(), RangeError, "index 2", dtype);
  }
});

Deno.test("oneHot() gives ones of every dtype", async () => {
  const f16 = gpu().info.features.has("shader-f16") ? ["f16"] as const : [];
  for (const dtype of ["f32", "i32", "u32", "bool", ...f16] as const) {
    const y = oneHot(ids([0, 1, 2]), 3, { dtype });
    assertEquals([y.dtype, [...await y.to("f32").data()]], [dtype, [1, 0, 0, 0, 1, 0, 0, 0, 1]]);
  }
});

Deno.test("indexing throws for shapes and dtypes before it computes", () => {
  const x = zeros([2, 3]);
  assertThrows(
    () => x.gather(1, zeros([2, 3])),
    TypeError,
    'Cannot gather with an index of dtype f32: it must be i32 or u32; convert it with to("i32")',
  );
  assertThrows(
    () => x.gather(1, ids([0, 0, 0], [3, 1])),
    TypeError,
    "Cannot gather [2, 3] by [3, 1]: the index must have as many dimensions, and be no larger",
  );
  assertThrows(() => x.gather(1, ids([0])), TypeError, "Cannot gather [2, 3] by [1]");
  assertThrows(() => x.gather(2, ids([0])), RangeError);
  assertThrows(
    () => x.scatterAdd(1, ids([0, 0], [2, 1]), zeros([1, 1])),
    TypeError,
    "Cannot scatterAdd [1, 1] into [2, 3] by [2, 1]",
  );
  assertThrows(
    () => x.scatter(1, ids([0, 0], [2, 1]), ids([0, 0], [2, 1])),
    TypeError,
    "Cannot scatter i32 into f32: the dtypes must be equal",
  );
  assertThrows(() => x.indexSelect(0, ids([0], [1, 1])), TypeError, "Cannot indexSelect [2, 3]");
  assertThrows(
    () => x.indexAdd(0, ids([0]), zeros([2, 3])),
    TypeError,
    "Cannot indexAdd [2, 3] into [2, 3]: the source must be [1, 3]",
  );
  assertThrows(() => zeros([0]).gather(0, ids([0])), RangeError, "along a dimension of size 0");
  assertThrows(() => embedding(ids([0]), zeros([3])), TypeError, "it must be [V, D]");
  assertThrows(
    () => embedding(ids([0]), x, { paddingIdx: 2 }),
    RangeError,
    "Cannot embed with paddingIdx 2: it must be -2 to 1",
  );
  assertThrows(() => oneHot(ids([0]), 0), RangeError, "Cannot oneHot 0 classes");
  assertThrows(() => randperm(-1), RangeError, "Cannot permute -1 numbers");
  assertThrows(() => x.maskedFill(x, 1), TypeError, "it must be bool");
});

Deno.test("oneHot() and maskedFill()", async () => {
  assertEquals(await oneHot(ids([1, 0, 2, 1], [2, 2]), 3).array(), [[[0, 1, 0], [1, 0, 0]], [[
    0,
    0,
    1,
  ], [0, 1, 0]]]);
  const x = tensor([[1, 2], [3, 4]], { requiresGrad: true });
  const y = x.maskedFill(tensor([true, false]), -Infinity);
  assertEquals(await y.array(), [[-Infinity, 2], [-Infinity, 4]]);
  y.softmax(1).mul(3).sum().backward();
  assertEquals(await x.grad!.array(), [[0, 0], [0, 0]]);
  const whole = ids([1, 2]).maskedFill(tensor([false, true]), 7);
  assertEquals([whole.dtype, await whole.array()], ["i32", [1, 7]]);
});

Deno.test("sort() of many rows and of long rows equals the host's stable sort", async () => {
  manualSeed(5);
  for (const shape of [[3, 1000], [1, 4097], [70, 33], [20000]]) {
    const x = randn(shape).mul(3).round();
    const { values, indices } = x.sort({ descending: true });
    const [data, v, i] = await readAll([x, values, indices]);
    const C = shape.at(-1)!;
    const want = new Int32Array(x.size);
    for (let first = 0; first < x.size; first += C) {
      const order = Array.from({ length: C }, (_, c) => c);
      order.sort((a, b) => data![first + b]! - data![first + a]! || a - b);
      want.set(order, first);
    }
    assertSame(i!, want, `${shape}`);
    assertSame(
      v!,
      Float32Array.from(want, (c, j) => data![j - j % C + c]!),
      `${shape}`,
    );
  }
});

Deno.test("sort() works along any dimension, and its gradient goes back", async () => {
  const x = tensor([[3, 1], [1, 5], [2, 4]], { requiresGrad: true });
  const { values, indices } = x.sort({ dim: 0 });
  assertEquals(await values.array(), [[1, 1], [2, 4], [3, 5]]);
  assertEquals(await indices.array(), [[1, 0], [2, 2], [0, 1]]);
  values.mul(tensor([[1], [10], [100]])).sum().backward();
  assertEquals(await x.grad!.array(), [[100, 1], [1, 100], [10, 10]]);
  assertEquals(await tensor([2, NaN, 1]).argsort().array(), [2, 0, 1]);
  assertEquals(await tensor([2, NaN, 1]).argsort({ descending: true }).array(), [1, 0, 2]);
  assertEquals(await tensor(4).sort().values.array(), 4);
});

Deno.test("nonzero() gives coordinates in row-major order", async () => {
  const x = tensor([[0, 1, 0], [2, 0, NaN]]);
  const found = await x.nonzero();
  assertEquals([found.dtype, await found.array()], ["i32", [[0, 1], [1, 0], [1, 2]]]);
  assertEquals((await zeros([3, 2]).nonzero()).shape, [0, 2]);
  assertEquals((await tensor(5).nonzero()).shape, [1, 0]);
  assertEquals((await zeros([0]).nonzero()).shape, [0, 1]);
  assertEquals(await tensor([true, false, true]).nonzero().then((t) => t.array()), [[0], [2]]);
  // Three levels of prefix sums, on a strided view.
  const n = 300001;
  const values = Int32Array.from({ length: 2 * n }, (_, i) => i % 2 === 1 ? 1 : Number(i % 14 < 4));
  const view = tensor(values).slice(0, 0, 2 * n, 2);
  const want: number[] = [];
  for (let i = 0; i < n; i++) if (values[2 * i]) want.push(i);
  assertSame(await (await view.nonzero()).data(), Int32Array.from(want));
});

Deno.test("nonzero() of several chunks gives every place, whatever dtype and rank", async () => {
  const count = 3000;
  const on = (i: number) => i % 7 === 0 || (i > 1100 && i < 1300) || i === count - 1;
  const want: number[] = [];
  for (let i = 0; i < count; i++) if (on(i)) want.push(i);
  const flat = tensor(Float32Array.from({ length: count }, (_, i) => Number(on(i))));
  for (const dtype of ["f32", "i32", "bool"] as const) {
    const x = flat.to(dtype);
    assertSame(await (await x.nonzero()).data(), Int32Array.from(want), dtype);
    const places = want.flatMap((i) => [Math.floor(i / 50), i % 50]);
    const found = await x.reshape([60, 50]).nonzero();
    assertSame(await found.data(), Int32Array.from(places), dtype);
  }
});

Deno.test("nonzero() finds what was there when it was called, and leaves nothing behind", async () => {
  const x = tensor([0, 1, 1]);
  await x.data();
  const before = memory().liveBytes;
  const pending = x.nonzero();
  x.fill_(1);
  const found = await pending;
  assertEquals(await found.array(), [[1], [2]]);
  found.dispose();
  assertNothingLeft(before);
});

Deno.test("randperm() is a permutation, every order about equally often, by seed", async () => {
  manualSeed(11);
  const [a, b] = await readAll([randperm(1000), randperm(1000)]);
  assertEquals(Int32Array.from(a!).sort(), Int32Array.from({ length: 1000 }, (_, i) => i));
  assert(a!.some((v, i) => v !== b![i]));
  manualSeed(11);
  assertEquals(await randperm(1000).data(), a);
  assertEquals((await randperm(0).data()).length, 0);
  // 6 orders of 3, 1200 draws: a count has mean 200, deviation 12.9; 5 deviations.
  const counts = new Map<string, number>();
  const all = await readAll(scope(() => Array.from({ length: 1200 }, () => randperm(3))));
  for (const order of all) counts.set(order.join(), (counts.get(order.join()) ?? 0) + 1);
  assertEquals(counts.size, 6);
  for (const [order, count] of counts) assert(Math.abs(count - 200) < 65, `${order}: ${count}`);
});

Deno.test("topk() gives the same by scanning and by sorting, NaN as the largest", async () => {
  manualSeed(8);
  const x = randn([3, 100]).mul(4).round().maskedFill(randn([100]).gt(1.8), NaN);
  const run = (k: number, largest: boolean) => {
    const before = gpu().queue.stats.dispatches;
    const { values, indices } = x.topk(k, { largest });
    return { values, indices, dispatches: gpu().queue.stats.dispatches - before };
  };
  for (const largest of [true, false]) {
    const [few, many] = [run(64, largest), run(65, largest)];
    assert(few.dispatches === 1 && many.dispatches > 2, "the limit is where it was");
    assertEquals(await many.indices.narrow(1, 0, 64).array(), await few.indices.array());
    assertEquals(await many.values.narrow(1, 0, 64).array(), await few.values.array());
    const nan = (await few.values.array() as number[][])[0]!.findIndex(Number.isNaN);
    assertEquals(nan, largest ? 0 : -1);
  }
});

Deno.test("tensors without dimensions index, and are indexed, as if they had one of size 1", async () => {
  const [one, none] = [tensor(5, { requiresGrad: true }), ids([0], [])];
  const [row, two] = [tensor([7, 8, 9], { requiresGrad: true }), ids([2], [])];
  const all = [
    one.gather(0, none),
    one.gather(-1, ids([0, 0])),
    row.gather(0, two),
    one.scatter(0, none, tensor(3)),
    row.scatter(0, two, tensor(3)),
    one.scatterAdd(-1, none, tensor(3)),
    row.scatterAdd(0, two, tensor(3)),
    one.indexSelect(0, none),
    one.indexSelect(0, ids([0])),
    row.indexSelect(0, two),
    tensor([[1, 2], [3, 4]]).indexSelect(1, ids([1], [])),
  ];
  const want = [5, [5, 5], 9, 3, [7, 8, 3], 8, [7, 8, 12], 5, 5, [9], [[2], [4]]];
  for (const [i, y] of all.entries()) assertEquals(await y.array(), want[i], `${i}`);
  for (const y of all.slice(0, 10)) y.sum().backward();
  assertEquals([await one.grad!.array(), await row.grad!.array()], [6, [2, 2, 3]]);
  assertThrows(() => row.gather(1, two), RangeError, "dimension 1");
  assertThrows(() => one.indexSelect(0, ids([0, 0])), TypeError, "so give one index");
  assertThrows(() => zeros([2, 2]).gather(0, two), TypeError, "as many dimensions");
});

Deno.test("nonzero() finds NaN, infinities and the smallest numbers, but no -0, in both floats", async () => {
  for (const [dtype, least] of [["f32", 2 ** -149], ["f16", 2 ** -24]] as const) {
    if (dtype === "f16" && !gpu().info.features.has("shader-f16")) continue;
    const x = tensor([NaN, 0, -0, Infinity, -Infinity, least, -least, 1, -NaN], { dtype });
    assertEquals(await (await x.nonzero()).array(), [[0], [3], [4], [5], [6], [7], [8]], dtype);
  }
});

Deno.test("scatter() into nothing has a gradient of nothing", async () => {
  const [x, src] = [zeros([0], { requiresGrad: true }), zeros([1], { requiresGrad: true })];
  x.scatter(0, ids([]), src).backward(zeros([0]));
  assertEquals([x.grad!.shape, await src.grad!.array()], [[0], [0]]);
});
