import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { enableGrad, noGrad } from "../../engine/autograd.ts";
import { cat, ones, tensor, zeros } from "../../engine/creation.ts";
import { init } from "../../engine/gpu/device.ts";
import { readAll } from "../../engine/read.ts";
import type { Tensor } from "../../engine/tensor.ts";

await init();

/** Elements of several gradients, in one wait. */
async function gradsOf(...leaves: Tensor[]): Promise<number[][]> {
  return (await readAll(leaves.map((t) => t.grad!))).map((d) => [...d].map(Number));
}

function leaf(values: number | number[] | number[][]): Tensor {
  return tensor(values, { requiresGrad: true });
}

Deno.test("backward() adds the gradients of every use of a tensor", async () => {
  const x = leaf([2, 3]);
  x.mul(x).add(x).sum().backward(); // d(x² + x) = 2x + 1
  assertEquals(await gradsOf(x), [[5, 7]]);
});

Deno.test("backward() adds to the gradient that is there, until it is set to null", async () => {
  const x = leaf([1, 2]);
  x.mul(3).sum().backward();
  x.mul(4).sum().backward();
  assertEquals(await gradsOf(x), [[7, 7]]);
  x.grad = null;
  x.mul(5).sum().backward();
  assertEquals(await gradsOf(x), [[5, 5]]);
});

Deno.test("backward() runs each node once, after all that used it", async () => {
  // A ladder of diamonds: 2^12 paths, each rung doubles the gradient.
  const x = leaf([1]);
  let y: Tensor = x.mul(1);
  for (let i = 0; i < 12; i++) y = y.add(y);
  y.sum().backward();
  assertEquals(await gradsOf(x), [[4096]]);

  // Branches of different length that meet again: d(e^x sin(e^x)) by the product rule.
  const z = leaf([0.5]);
  const e = z.exp();
  e.mul(e.neg().neg().sin()).sum().backward();
  const v = Math.exp(0.5);
  const [[got]] = await gradsOf(z) as [[number]];
  assertAlmostEquals(got, v * (Math.sin(v) + v * Math.cos(v)), 1e-5);
});

Deno.test("backward() reaches every leaf, and only leaves that require a gradient", async () => {
  const [a, b, c] = [leaf([1, 2]), leaf([3, 4]), tensor([5, 6])];
  const unused = leaf([7]);
  a.mul(b).add(c.mul(a)).sum().backward();
  assertEquals(await gradsOf(a, b), [[8, 10], [1, 2]]);
  assertEquals([c.grad, unused.grad], [null, null]);
});

Deno.test("backward() sums what broadcasting repeated", async () => {
  const [column, row, scalar] = [leaf([[1], [2]]), leaf([10, 20, 30]), leaf(5)];
  column.mul(row).add(scalar).sum().backward();
  assertEquals(await gradsOf(column, row, scalar), [[60, 60], [3, 3, 3], [6]]);
  assertEquals([column, row, scalar].map((t) => t.grad!.shape), [[2, 1], [3], []]);
});

Deno.test("backward() goes through views", async () => {
  const x = leaf([[1, 2, 3], [4, 5, 6]]);
  const y = x.transpose(0, 1).slice(0, 1).reshape(4).mul(tensor([1, 2, 3, 4]));
  y.add(x.select(1, 0).expand(2, 2).reshape(4)).sum().backward();
  assertEquals(await gradsOf(x), [[2, 1, 3, 2, 2, 4]]);
  assert(x.grad!.device.contiguous);

  const [a, b] = [leaf([1, 2]), leaf([3])];
  cat([a, b, a]).mul(tensor([1, 2, 3, 4, 5])).sum().backward();
  assertEquals(await gradsOf(a, b), [[5, 7], [3]]);
});

Deno.test("backward() takes a seed of the tensor's shape", async () => {
  const x = leaf([1, 2, 3]);
  x.square().backward(tensor([1, 10, 100]));
  assertEquals(await gradsOf(x), [[2, 40, 600]]);

  const y = leaf(3);
  y.square().backward(tensor(10));
  assertEquals(await gradsOf(y), [[60]]);
  const again = leaf([4]);
  again.backward(tensor([2]));
  assertEquals(await gradsOf(again), [[2]]);
});

Deno.test("backward() follows each output of an op with several", async () => {
  const x = leaf([3, 1, 2]);
  const { values, indices } = x.topk(2);
  assert(values.requiresGrad && !indices.requiresGrad);
  values.mul(tensor([10, 20])).sum().backward();
  assertEquals(await gradsOf(x), [[10, 0, 20]]);
});

Deno.test("backward() runs again only with retainGraph", async () => {
  const x = leaf([1, 2]);
  const y = x.square().sum();
  y.backward(null, { retainGraph: true });
  y.backward();
  assertEquals(await gradsOf(x), [[4, 8]]);
  assertThrows(() => y.backward(), Error, "a second time");

  // Two losses over one graph: the first frees what the second needs.
  const h = leaf([1]).exp();
  h.mul(2).sum().backward();
  assertThrows(() => h.mul(3).sum().backward(), Error, "through exp a second time");
});

Deno.test("backward() runs again through what saved nothing, as in PyTorch", async () => {
  const x = leaf([[1, 2], [3, 4]]);
  const shared = x.transpose(0, 1).reshape(-1).add(1).to("f32");
  shared.square().sum().backward();
  shared.exp().mul(0).sum().backward();
  shared.sum().backward();
  assertEquals(await gradsOf(x), [[5, 7, 9, 11]]);
});

Deno.test("backward() notices what was changed in place since it was saved", async () => {
  const [x, w] = [leaf([1, 2]), leaf([3, 4])];
  const y = x.mul(w).sum();
  noGrad(() => w.detach().slice(0, 0, 1).fill_(9)); // through a view of a view
  assertThrows(() => y.backward(), Error, "was changed in place");

  // mul saved w for x's gradient alone, so x itself may change.
  const z = x.mul(tensor([3, 4])).sum();
  noGrad(() => x.add_(1));
  z.backward();
  assertEquals(await gradsOf(x), [[3, 4]]);
});

Deno.test("noGrad() records nothing inside and restores the mode outside", async () => {
  const x = leaf([1]);
  assert(!noGrad(() => x.mul(2)).requiresGrad);
  assert(x.mul(2).requiresGrad);
  assertThrows(
    () =>
      noGrad(() => {
        throw new Error("stop");
      }),
    Error,
    "stop",
  );
  assert(x.mul(2).requiresGrad);
  noGrad(() => noGrad(() => {}));
  assert(x.mul(2).requiresGrad);
  const later = noGrad(async () => {
    await Promise.resolve();
    return x.mul(2);
  });
  assert(!(await later).requiresGrad);
  assert(x.mul(2).requiresGrad);
});

Deno.test("noGrad() of async functions that overlap leaves recording on, however they end", async () => {
  const x = leaf([3]);
  const after = (ms: number) => new Promise((done) => setTimeout(done, ms));
  for (const [first, second] of [[2, 12], [12, 2]] as const) {
    const ends = [noGrad(() => after(first)), noGrad(() => after(second))];
    await ends[first < second ? 0 : 1];
    assert(!x.mul(2).requiresGrad, "the other one still runs");
    assert(enableGrad(() => x.mul(2)).requiresGrad);
    await Promise.all(ends);
    assert(x.mul(2).requiresGrad);
  }
});

Deno.test("detach() cuts the tape and keeps the memory", async () => {
  const x = leaf([3]);
  const y = x.square();
  const d = y.detach();
  assert(!d.requiresGrad && d.isLeaf && !y.isLeaf);
  y.mul(d).sum().backward(); // d counts as 9
  assertEquals(await gradsOf(x), [[54]]);
  noGrad(() => x.fill_(8));
  assertEquals(await x.detach().array(), [8]);
});

Deno.test("requiresGrad_() is for float leaves", () => {
  const x = tensor([1, 2]);
  assert(x.requiresGrad_().requiresGrad);
  assert(!x.requiresGrad_(false).mul(2).requiresGrad);
  x.requiresGrad_();
  assertThrows(() => x.mul(2).requiresGrad_(false), TypeError, "detach() it first");
  assertThrows(() => tensor([1], { dtype: "i32" }).requiresGrad_(), TypeError, "must be a float");
  assertThrows(() => tensor([1], { dtype: "i32", requiresGrad: true }), TypeError);
  assert(!x.eq(1).requiresGrad && !x.argmax().requiresGrad && !x.isnan().requiresGrad);
});

Deno.test("in-place changes keep off the tape", async () => {
  const x = leaf([1, 2]);
  assertThrows(() => x.add_(1), TypeError, "inside noGrad()");
  assertThrows(() => x.mul(2).zero_(), TypeError, "inside noGrad()");
  // It would lose x's gradient without a word.
  assertThrows(() => tensor([1, 2]).add_(x), TypeError, "the gradient would be lost");
  assertThrows(() => tensor([1, 2]).copy_(x), TypeError, "the gradient would be lost");
  assertThrows(() => tensor([1]).add_(tensor([1, 2])), TypeError, "does not broadcast");
  assertThrows(() => tensor([1], { dtype: "i32" }).mul_(0.5), TypeError, "the result is f32");
  const y = tensor([[1, 2], [3, 4]]);
  const before = y.device.storage.version;
  noGrad(() => y.add_(x, { alpha: 10 }).mul_(2).transpose(0, 1).select(0, 0).zero_());
  assertEquals(await y.array(), [[0, 44], [0, 48]]);
  assert(y.device.storage.version > before);
  assertEquals(await tensor([true, true]).copy_(tensor([0.5, 0])).array(), [true, false]);
});

Deno.test("a gradient belongs to its leaf alone", async () => {
  const [a, b] = [leaf([1, 2]), leaf([3, 4])];
  a.add(b).sum().backward(); // one array reaches both
  a.grad!.mul_(10);
  assertEquals(await gradsOf(a, b), [[10, 10], [1, 1]]);
  a.grad = tensor([5, 6]);
  assertEquals(await gradsOf(a), [[5, 6]]);
  assertThrows(() => a.grad = ones([3]), TypeError, "both must be equal");
});

Deno.test("the dtype of a gradient is its leaf's", async () => {
  const x = tensor([1, 2], { dtype: "f16", requiresGrad: true });
  x.mul(tensor([0.5, 0.25])).sum().backward();
  assertEquals(x.grad!.dtype, "f16");
  assertEquals(await gradsOf(x), [[0.5, 0.25]]);
});

Deno.test("writing into an expanded tensor is refused, as its elements share places", async () => {
  const wide = () => zeros([1, 3]).expand([4, 3]);
  const index = tensor([0], { dtype: "i32" });
  const cases: [string, (t: Tensor) => unknown][] = [
    ["add_", (t) => t.add_(ones([4, 3]))],
    ["mul_", (t) => t.mul_(2)],
    ["copy_", (t) => t.copy_(ones([4, 3]))],
    ["fill_", (t) => t.fill_(1)],
    ["indexCopy_", (t) => t.indexCopy_(0, index, ones([1, 3]))],
  ];
  for (const [name, run] of cases) {
    assertThrows(() => run(wide()), TypeError, `Cannot ${name} [4, 3], which is expanded`);
  }
  assertEquals(await wide().clone().add_(1).sum().item(), 12);
  assertEquals(await zeros([1, 3]).expand([1, 3]).add_(1).sum().item(), 3);
});
