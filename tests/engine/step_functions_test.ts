/** Step functions, whose gradient is 0: PyTorch's zeros, at hardly any cost. */

import { assert, assertEquals } from "@std/assert";
import { grad, init, randn, type Tensor, tensor } from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";

const info = await init();
/** Whether the adapter has no numbers of that kind. */
const lacks = (dtype: string) => dtype === "f16" && !info.features.has("shader-f16");

const ONE: Record<string, (x: Tensor) => Tensor> = {
  floor: (x) => x.floor(),
  ceil: (x) => x.ceil(),
  round: (x) => x.round(),
  trunc: (x) => x.trunc(),
  sign: (x) => x.sign(),
  "floorDivide by a number": (x) => x.floorDivide(2),
  "div by a number": (x) => x.div(2, { roundingMode: "trunc" }),
};

const TWO: Record<string, (a: Tensor, b: Tensor) => Tensor> = {
  floorDivide: (a, b) => a.floorDivide(b),
  "div, floor": (a, b) => a.div(b, { roundingMode: "floor" }),
  "div, trunc": (a, b) => a.div(b, { roundingMode: "trunc" }),
};

/** Names of the kernels that `fn` launches. */
function launched(fn: () => void): string[] {
  const { queue } = gpu();
  const { launch } = queue;
  const names: string[] = [];
  queue.launch = (run) => {
    names.push(run.kernel.name);
    launch.call(queue, run);
  };
  try {
    fn();
  } finally {
    queue.launch = launch;
  }
  return names;
}

for (const dtype of ["f32", "f16"] as const) {
  const ignore = lacks(dtype);
  for (const [name, f] of Object.entries(ONE)) {
    Deno.test(`${name} of ${dtype} requires a gradient, which is 0`, { ignore }, async () => {
      const x = tensor([[1.5, -2.5, 0.25], [0, 3, -0.5]], { dtype, requiresGrad: true });
      const y = f(x);
      assert(y.requiresGrad && !y.isLeaf);
      y.sum().backward();
      assertEquals([x.grad!.dtype, await x.grad!.array()], [dtype, [[0, 0, 0], [0, 0, 0]]]);
    });
  }
  for (const [name, f] of Object.entries(TWO)) {
    const zeros = "requires gradients, which are 0 in the shapes of what was broadcast";
    Deno.test(`${name} of ${dtype} ${zeros}`, { ignore }, async () => {
      const a = tensor([[1.5], [-2.5]], { dtype, requiresGrad: true });
      const b = tensor([1, 2, -4], { dtype, requiresGrad: true });
      const y = f(a, b);
      assert(y.requiresGrad);
      y.sum().backward();
      assertEquals(await a.grad!.array(), [[0], [0]]);
      assertEquals(await b.grad!.array(), [0, 0, 0]);
    });
  }
}

Deno.test("a gradient of 0 flows on through what was before, as in PyTorch", async () => {
  const x = tensor([1.5, -2.5], { requiresGrad: true });
  const w = tensor([[1, 2], [3, 4]], { requiresGrad: true });
  // d = floor(x w) · sin(x): the second factor's gradient, and zeros for w.
  const [dx, dw] = grad(x.matmul(w).floor().mul(x.sin()).sum(), [x, w]);
  const [a, b] = [Math.floor(1.5 - 7.5), Math.floor(3 - 10)];
  const got = await dx!.array() as number[];
  [a * Math.cos(1.5), b * Math.cos(-2.5)].forEach((v, i) =>
    assert(Math.abs(got[i]! - v) < 1e-5, `${got}`)
  );
  assertEquals(await dw!.array(), [[0, 0], [0, 0]]);
});

Deno.test("integers through step functions are constants still", () => {
  const x = tensor([1, 2], { dtype: "i32" });
  for (const f of Object.values(ONE)) assert(!f(x).requiresGrad);
});

Deno.test("a gradient of 0 is neither written nor added where others meet it", async () => {
  const x = randn([8, 12]).requiresGrad_();
  // With y = tanh(x), so that the sum is not the leaf's.
  const cases: [(x: Tensor) => Tensor, number, (v: number) => number][] = [
    [(x) => x.sub(x.floor()), 1, () => 1],
    [(x) => x.floor().sub(x), 1, () => -1],
    [(x) => x.mul(3).round().mul(2), 1, () => 0],
    [(x) => x.mul(x.sign()), 1, Math.sign],
    [
      (x) => (x = x.tanh(), x.square().add(x.round())),
      1,
      (v) => 2 * Math.tanh(v) / Math.cosh(v) ** 2,
    ],
    [(x) => (x = x.tanh(), x.mul(x.trunc()).sub(x.ceil())), 1, () => 0],
  ];
  for (const [f, kernels, slope] of cases) {
    x.grad = null;
    const total = f(x).sum();
    const names = launched(() => total.backward());
    // Besides the seed.
    assertEquals(names.length, kernels + 1, names.join(" "));
    const want = [...await x.data()].map(slope);
    const got = [...await x.grad!.data()];
    got.forEach((v, i) => assert(Math.abs(v - want[i]!) < 1e-5, `${f}: ${v} ${want[i]}`));
  }
});
