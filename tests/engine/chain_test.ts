/** Gradients that pointwise kernels make, put off until they are read, and made in one kernel. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceArray, inArena } from "../../engine/array.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { apart, chained, putOff } from "../../engine/ops/chain.ts";
import { pointwise } from "../../engine/ops/launch_pointwise.ts";
import { wrapTensor } from "../../engine/tensor_base.ts";
import {
  grad,
  init,
  manualSeed,
  memory,
  nn,
  ones,
  profile,
  randn,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { assertNothingLeft } from "../helpers/memory.ts";
import { poisoned } from "../helpers/poison.ts";

const info = await init();
const half = info.features.has("shader-f16");

/** Names of the kernels that `fn` launches. */
function launched(fn: () => void): string[] {
  const { queue } = gpu();
  const { launch } = queue;
  const names: string[] = [];
  queue.launch = (run) => {
    if (run.kernel.name !== "poison") names.push(run.kernel.name);
    launch.call(queue, run);
  };
  try {
    fn();
  } finally {
    queue.launch = launch;
  }
  return names;
}

/**
 * Functions whose gradients are chains, and the kernels that the whole gradient takes. For |x| and |w| up to 2
 * no term of a gradient is above 8.
 */
const LARGEST = 8;
const CHAINS: Readonly<
  Record<string, { f: (x: Tensor, w: Tensor, c: Tensor) => Tensor; kernels: number }>
> = {
  "one after the other": { f: (x, w) => x.mul(w).sigmoid().mul(3).tanh().square(), kernels: 1 },
  "two that meet": { f: (x, w) => x.mul(w).add(x.square()).sub(x.exp()), kernels: 3 },
  "a column repeated": { f: (x, w, c) => x.mul(c).gelu().mul(w).sin(), kernels: 1 },
  "a choice": { f: (x, w) => x.maximum(w).where(x.gt(0), w.mul(x)).tanh().abs(), kernels: 2 },
};

const putOffAsEver = (fn: () => void) => fn();

/** Gradients of x in both ways: put off, and made one by one. */
async function bothWays(
  f: (x: Tensor) => Tensor,
  start: Tensor,
): Promise<{ chained: Float64Array; apart: Float64Array; names: string[]; single: string[] }> {
  const made: Tensor[] = [];
  const sets: string[][] = [];
  using _ = poisoned();
  for (const way of [putOffAsEver, apart]) {
    const x = start.detach().clone().requiresGrad_();
    const y = f(x);
    const seed = ones(y.shape).to(y.dtype);
    sets.push(launched(() => way(() => y.backward(seed))));
    made.push(x.grad!);
  }
  const [whole, single] = (await readAll(made)).map((d) => Float64Array.from(d));
  return { chained: whole!, apart: single!, names: sets[0]!, single: sets[1]! };
}

for (const [name, { f, kernels }] of Object.entries(CHAINS)) {
  Deno.test(`gradients of ${name} are those of kernel by kernel, in fewer of them`, async () => {
    manualSeed(5);
    // Whole fours, rows with tails, and more than a workgroup.
    for (const shape of [[4, 8], [17, 23], [40, 36]]) {
      const draw = (...size: number[]) => randn(size).clamp({ min: -2, max: 2 });
      const [w, c] = [draw(...shape), draw(shape[0]!, 1)];
      const run = (x: Tensor) => f(x, w.to(x.dtype), c.to(x.dtype));
      const result = await bothWays(run, draw(...shape));
      // A compiler may leave roundings out between two links, of which there are 8 at most.
      const worst = (a: Float64Array, b: Float64Array) =>
        a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0);
      const error = worst(result.apart, result.chained);
      assert(error <= 8 * 2 ** -24 * LARGEST, `${name} ${shape}: ${error}`);
      assert(result.names.length < result.single.length, `${result.names} ${result.single}`);
      assertEquals(result.names.length, kernels, result.names.join(" "));
      if (!half) continue;
      // What is rounded to f16 is made: a chain would not round it.
      const narrow = await bothWays(run, draw(...shape).to("f16"));
      assertEquals(worst(narrow.apart, narrow.chained), 0, `${name} ${shape} in f16`);
      assertEquals(narrow.names, narrow.single);
    }
  });
}

/** y = x · factor, put off. */
function later(x: Tensor, factor: number): DeviceArray {
  return putOff(() =>
    pointwise({
      name: "times",
      inputs: { x: x.device, factor: { value: factor, type: "f32" } },
      expression: "x * factor",
      compute: "f32",
      result: "f32",
    }, { shape: x.shape, dtype: x.dtype })
  );
}

Deno.test("what was put off reads its inputs as they were", async () => {
  const x = tensor([1, 2, 3]);
  const made = scope(() => {
    const overwritten = later(x, 10);
    assert(overwritten.deferred);
    assertEquals(launched(() => x.fill_(7)).length, 2);
    const written = later(x, 10);
    x.device.storage.write(new Uint8Array(Float32Array.of(4, 5, 6).buffer));
    return [overwritten, written].map((a) => wrapTensor(a));
  });
  assertEquals(await made[0]!.array(), [10, 20, 30]);
  assertEquals(await made[1]!.array(), [70, 70, 70]);
  assertEquals(await x.array(), [4, 5, 6]);
});

Deno.test("what nothing reads is not made, and leaves nothing behind", async () => {
  const x = tensor([1, 2, 3]);
  const names = launched(() => {
    later(x, 2).release();
    inArena(() => (later(x, 3), []));
  });
  assertEquals(names, []);
  assertEquals(x.device.storage.references, 1);
  assertEquals(x.device.storage.readers, null);
  x.dispose();
  await synchronize();
});

Deno.test("grad() has chains, too, and gradients of f16 overflow as they do one by one", async () => {
  const values = [0.5, 1, -1, 0.25, -0.75];
  const x = tensor(values, { requiresGrad: true });
  const y = x.mul(2).sigmoid().square();
  const seed = ones([5]);
  let slopes: Tensor | undefined;
  const names = launched(() => slopes = grad(y, x, { gradOutputs: [seed] })[0]!);
  assertEquals(names, ["square_backward_sigmoid_backward_mul_backward_a_contiguous"]);
  const got = await slopes!.data();
  values.forEach((v, i) => {
    const s = 1 / (1 + Math.exp(-2 * v));
    const want = 4 * s * s * (1 - s);
    // exp alone is allowed 3 + 2|x| units of 2^-23.
    assert(Math.abs(got[i]! as number - want) <= 16 * 2 ** -23 * want, `${v}: ${got[i]}, ${want}`);
  });
  if (!half) return;
  const g = tensor([1], { dtype: "f16", requiresGrad: true });
  g.mul(0.001).mul(300).mul(300).backward(ones([1]).to("f16"));
  const large = await g.grad!.item();
  g.grad = null;
  apart(() => g.mul(0.001).mul(300).mul(300).backward(ones([1]).to("f16")));
  assertEquals(large, await g.grad!.item());
});

Deno.test("where there is no room, what was put off keeps nothing", () => {
  const { limits } = gpu();
  const x = tensor([1, 2]);
  const many = Math.ceil(limits.maxBufferSize / 8) + 1;
  const wide = putOff(() =>
    pointwise({
      name: "times",
      inputs: { x: x.expand(many, 2).device },
      expression: "x * 2.0",
      compute: "f32",
      result: "f32",
    }, { shape: [many, 2], dtype: "f32" })
  );
  assertThrows(() => wide.storage, RangeError);
  wide.release();
  assertEquals(x.device.storage.readers, null);
  x.fill_(3);
});

Deno.test("a backward that throws keeps no memory", async () => {
  const before = memory().liveBytes;
  scope(() => {
    const w = tensor([1, 2, 3], { requiresGrad: true });
    const c = tensor([3, 2, 1]);
    const y = w.mul(c).mul(2).sigmoid().tanh().square();
    c.fill_(0);
    assertThrows(() => y.backward(ones([3])), Error, "was changed in place");
  });
  await synchronize();
  assertNothingLeft(before);
});

Deno.test("a chain counts as the work of the module whose gradient it is", async () => {
  class Scale extends nn.Module {
    w = new nn.Parameter(randn([4]));
    override forward(x: Tensor): Tensor {
      return x.mul(this.w).sin();
    }
  }
  const net = new nn.Sequential(new Scale(), new Scale());
  const x = randn([3, 4]).requiresGrad_();
  const step = () => scope(() => net.forward(x).backward(ones([3, 4])));
  const { modules } = await profile(step, { roofline: { gflops: 1, gbs: 1 } });
  const leaves = [x, ...net.parameters()];
  const inChains = await readAll(leaves.map((t) => t.grad!));
  for (const t of leaves) t.grad = null;
  apart(step);
  const alone = await readAll(leaves.map((t) => t.grad!));
  alone.forEach((g, k) =>
    g.forEach((v, i) => {
      // |w| and the cosines make terms of at most 16, of which at most 3 are added.
      const error = Math.abs(Number(v) - Number(inChains[k]![i]));
      assert(error <= 8 * 2 ** -24 * 16, `leaf ${k} [${i}]: ${error}`);
    })
  );
  for (const name of ["Sequential.0", "Sequential.1"]) {
    const found = modules.find((m) => m.path === name);
    assert(found && found.backwardMs > 0, JSON.stringify(modules));
  }
});

Deno.test("a third reader has the array made, and so does an op that is not pointwise", async () => {
  const x = tensor([1, 2, 3, 4, 5]);
  const twice = later(x, 2);
  const outer = () =>
    inArena(() =>
      pointwise({
        name: "plus",
        inputs: { a: twice, b: twice },
        expression: "a + b",
        compute: "f32",
        result: "f32",
      }, twice)
    );
  const results: DeviceArray[] = [];
  const names = launched(() => {
    for (let i = 0; i < 3; i++) results.push(outer());
  });
  assertEquals(names, [
    "times_plus_contiguous",
    "times_plus_contiguous",
    "times_contiguous",
    "plus_contiguous",
  ]);
  for (const y of results) assertEquals(await wrapTensor(y).array(), [4, 8, 12, 16, 20]);
  const alone = wrapTensor(later(x, 4));
  assertEquals(await alone.sum().item(), 60);
  twice.release();
});

Deno.test("a kernel takes in no more than fits, and nothing of another shape", async () => {
  const arrays = Array.from({ length: 9 }, (_, i) => tensor([i + 1, 1, 2, 3, 2 * i]));
  let sum: DeviceArray = arrays[0]!.device;
  const names = launched(() => {
    putOff(() => {
      for (const { device } of arrays.slice(1)) {
        sum = pointwise({
          name: "plus",
          inputs: { a: sum, b: device },
          expression: "a + b",
          compute: "f32",
          result: "f32",
        }, sum);
      }
    });
    void sum.storage;
  });
  assertEquals(names.map((n) => n.split("_").length - 1), [5, 3]);
  assertEquals(await wrapTensor(sum).array(), [45, 9, 18, 27, 72]);
  // Of seven dimensions, none of which is like another: strides are uniforms, too.
  const many = [2, 3, 2, 3, 2, 3, 2];
  const strided = Array.from({ length: 6 }, (_, i) => {
    const like = many.map((s, d) => (d + i) % 2 ? 1 : s);
    return tensor(Array.from({ length: like.reduce((a, b) => a * b) }, (_, k) => k + i), {
      shape: like,
    });
  });
  const make = () =>
    strided.reduce((total, { device }) =>
      pointwise({
        name: "plus",
        inputs: { a: total, b: device },
        expression: "a + b",
        compute: "f32",
        result: "f32",
      }, { shape: many, dtype: "f32" }), ones(many).device);
  const [put, plain] = [putOff(make), make()].map((a) => wrapTensor(a));
  const [one, other] = [await put!.data(), await plain!.data()];
  assertEquals(one.findIndex((v, i) => v !== other[i]), -1);
  const small = later(tensor([1, 2]), 2);
  const wide = {
    name: "id",
    inputs: { a: small },
    expression: "a",
    compute: "f32",
    result: "f32",
  } as const;
  assertEquals(chained(wide, { shape: [3, 2] }), wide);
  small.release();
});
