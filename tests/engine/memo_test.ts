/** Kernels are built once a variant: none is taken for another, and none is made again at each dispatch. */

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { isFloat } from "../../engine/dtype.ts";
import { gpu, init } from "../../engine/gpu/device.ts";
import type { Kernel } from "../../engine/kernels/kernel.ts";
import { builtAnew, memoized } from "../../engine/kernels/memo.ts";
import { allOps, type Op, type Sample } from "../../engine/op.ts";
import { scope } from "../../engine/scope.ts";
import { layerNorm, randn, zerosLike } from "../../engine/mod.ts";
import { apply } from "../../engine/tensor.ts";
import { Draw, drawInputs, layoutsOf, place } from "../helpers/draw.ts";
import { loadOps } from "../helpers/ops_table.ts";

await loadOps();
await init();

/** The kernels that `fn` would run; none runs. */
function kernelsOf(fn: () => void): Kernel[] {
  const { queue } = gpu();
  const kernels: Kernel[] = [];
  const launch = ({ kernel }: { kernel: Kernel }) => void kernels.push(kernel);
  Object.defineProperty(queue, "launch", { value: launch, configurable: true });
  try {
    scope(fn);
  } finally {
    Reflect.deleteProperty(queue, "launch");
  }
  return kernels;
}

Deno.test("memoized() tells parameters apart by every field, and takes equal ones for one", () => {
  let built = 0;
  const build = memoized((..._: unknown[]) => ({ name: `${built++}` }) as Kernel);
  const lists: unknown[][] = [
    [],
    [{}],
    [[]],
    [{}, {}],
    [1],
    ["1"],
    [true],
    ["true"],
    [null],
    ["null"],
    [NaN],
    [Infinity],
    [1, 2],
    [[1], 2],
    [[1, 2]],
    [[[1], 2]],
    [{ a: 1 }],
    [{ a: "1" }],
    [{ b: 1 }],
    [{ a: 1, b: 2 }],
    [{ a: 1 }, { b: 2 }],
    [{ a: { b: 2 } }],
    [{ a: {}, b: 2 }],
    [{ a: { b: 2, c: 3 } }],
    [{ a: { b: 2 }, c: 3 }],
    [{ a: "b", c: 3 }],
    [{ a: ["b", "c", 3] }],
    [{ a: [] }],
    [{ a: "" }],
    [{ a: ["x", "y"] }],
    [{ a: ["x,y"] }],
    [{ a: "x", y: "" }],
  ];
  const names = lists.map((list) => build(...list).name);
  assertEquals(new Set(names).size, lists.length, names.join());
  for (const list of [...lists, ...lists.toReversed()]) {
    const again = build(...structuredClone(list)).name;
    assertEquals(again, names[lists.indexOf(list)], Deno.inspect(list));
  }
  // A field that is absent is one that is undefined.
  assertEquals(build({ a: 1, b: undefined }).name, build({ a: 1 }).name);
  assertEquals(built, lists.length);
  // An array has a dtype as a spec does, and sizes, which would be kept.
  const array = new (class Spec {
    dtype = "f32";
  })();
  assertThrows(() => build(array), TypeError, "more than plain data");
  assertThrows(() => build({ a: [() => 1] }), TypeError, "more than plain data");
});

/** A sample forwards and back, in every layout. */
function runSample(op: Op<unknown>, sample: Sample<unknown>): void {
  const hosts = drawInputs(sample.inputs, new Draw(op.name));
  const back = !("notDifferentiable" in op.backward);
  for (const layout of layoutsOf(hosts.map((h) => h.shape))) {
    const inputs = hosts.map((h) => place(h, layout).requiresGrad_(back && isFloat(h.dtype)));
    for (const y of apply(op, inputs, sample.attrs)) {
      if (y.requiresGrad) y.backward(zerosLike(y), { retainGraph: true });
    }
  }
}

Deno.test("every op's kernels are built once, and are what they would be if built anew", () => {
  let count = 0;
  for (const op of allOps().values()) {
    for (const [s, sample] of op.samples.entries()) {
      const step = () => runSample(op, sample);
      const [first, second] = [kernelsOf(step), kernelsOf(step)];
      const anew = builtAnew(() => kernelsOf(step));
      assertEquals(first.map((k) => k.name), anew.map((k) => k.name), `${op.name}, sample ${s}`);
      for (const [i, kernel] of first.entries()) {
        assertStrictEquals(second[i], kernel, `${op.name}, sample ${s}: ${kernel.name} twice`);
        assert(anew[i] !== kernel);
        assertEquals(anew[i], kernel, `${op.name}, sample ${s}: ${kernel.name}`);
        count++;
      }
    }
  }
  assert(count > 1000, `${count} kernels`);
});

Deno.test("sizes make no more kernels", () => {
  const step = (size: number): Kernel[] =>
    kernelsOf(() => {
      const x = randn([size, size + 32], { requiresGrad: true });
      const y = layerNorm(x.matmul(x.transpose(0, 1)).softmax(-1));
      y.add(x.sum()).mul(x.mean(1)).square().sum().backward();
    });
  const first = new Set(step(21));
  for (let size = 25; size < 120; size += 4) {
    for (const kernel of step(size)) assert(first.has(kernel), `${kernel.name} at ${size}`);
  }
});
