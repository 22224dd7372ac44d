import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  autocast,
  CheckError,
  checkpoint,
  debug,
  detectAnomaly,
  dropout,
  enableGrad,
  grad,
  gradcheck,
  type GradOptions,
  init,
  manualSeed,
  memory,
  nn,
  noGrad,
  ones,
  randn,
  readAll,
  rngState,
  scope,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

await init();

// ---- grad ----

Deno.test("grad() gives what backward() adds, for leaves and computed tensors, and touches no grad", async () => {
  using x = tensor([[1, -2], [3, 0.5]], { requiresGrad: true });
  using w = tensor([2, -1], { requiresGrad: true });
  const make = () => {
    const h = x.mul(w);
    return { h, y: h.exp().sum().add(h.square().sum()) };
  };
  const results = scope(() => {
    const { h, y } = make();
    return grad(y, [h, x, w, x]);
  });
  assertEquals([x.grad, w.grad], [null, null]);
  const byHand = scope(() =>
    noGrad(() => {
      const h = x.mul(w);
      return h.exp().add(h.mul(2));
    })
  );
  scope(() => make().y.backward());
  const [dh, dx, dw, again, wantH, wantX, wantW] = await readAll([
    ...results.map((t) => t!),
    byHand,
    x.grad!,
    w.grad!,
  ]);
  assertEquals([dx, dw, again], [wantX, wantW, wantX]);
  assertEquals(dh, wantH);
  for (const t of [...results, byHand]) t!.dispose();
});

Deno.test("grad() sums over outputs, each from its own start", async () => {
  using x = tensor([1, 2], { requiresGrad: true });
  using seed = tensor([10, 100]);
  const [dx] = scope(() => grad([x.square(), x.sum()], x, { gradOutputs: [seed] }));
  assertEquals(await dx!.array(), [21, 401]);
  dx!.dispose();
});

Deno.test("grad() copies no gradient but for an input that is given twice", async () => {
  using x = tensor([1, 2, 3], { requiresGrad: true });
  const dispatches = (inputs: Tensor[]) => {
    const before = gpu().queue.stats.dispatches;
    const results = scope(() => grad(x.exp().sum(), inputs));
    return { results, count: gpu().queue.stats.dispatches - before };
  };
  const once = dispatches([x]);
  const twice = dispatches([x, x]);
  assertEquals(twice.count, once.count + 1);
  using first = twice.results[0]!;
  twice.results[1]!.dispose();
  assertEquals(await first.array(), await once.results[0]!.array());
  // exp, sum, the gradient that starts, and the rules of sum and exp.
  assert(once.count <= 5, `${once.count} dispatches`);
  once.results[0]!.dispose();
});

Deno.test("grad() keeps the graph only when it is told to", () => {
  using x = tensor([1, 2], { requiresGrad: true });
  scope(() => {
    const y = x.square().sum();
    grad(y, x, { retainGraph: true });
    grad(y, x);
    assertThrows(() => grad(y, x), Error, "Cannot run backward through square a second time");
  });
});

Deno.test("grad() walks only what leads to its inputs, and leaves the rest for later", async () => {
  const { stats } = gpu().queue;
  const dispatches = (fn: () => void) => {
    const before = stats.dispatches;
    fn();
    return stats.dispatches - before;
  };
  using x = tensor([1, 2], { requiresGrad: true });
  using w = tensor([0, -1], { requiresGrad: true });
  const make = (other: Tensor) => {
    const long = other.exp().tanh().square();
    return { long, y: x.mul(2).add(long).sum() };
  };
  const results = scope(() => {
    const [{ y, long }, { y: bare }] = [make(w), make(w.detach())];
    const found: (Tensor | null)[] = [];
    const pruned = dispatches(() => found.push(...grad(y, x)));
    assertEquals(pruned, dispatches(() => grad(bare, x)));
    // What was not walked through still has what it saved.
    const [dw] = grad(long.sum(), w);
    return [found[0]!, dw!];
  });
  const [dx, dw] = await readAll(results);
  assertEquals([...dx!], [2, 2]);
  [0, -1].forEach((w, i) => {
    const [e, t] = [Math.exp(w), Math.tanh(Math.exp(w))];
    assert(Math.abs(dw![i]! - 2 * t * (1 - t * t) * e) < 1e-6, `${dw![i]}`);
  });
  for (const t of results) t.dispose();
});

Deno.test("grad() says what it cannot do", async () => {
  using x = tensor([1, 2], { requiresGrad: true });
  using other = tensor([1], { requiresGrad: true });
  using plain = tensor([1]);
  using seed = tensor([1, 1]);
  await synchronize();
  const before = memory().liveBytes;
  scope(() => {
    assertThrows(
      () => grad(x.sum(), [x, other]),
      TypeError,
      "Cannot take the gradient of input 1 [1]: no output depends on it; allowUnused gives null for it",
    );
    assertThrows(
      () => grad(x.sum(), plain),
      TypeError,
      "Cannot take the gradient of input 0: it requires no gradient",
    );
    assertThrows(() => grad(x.mul(2), x), TypeError, "without a seed");
    assertThrows(
      () => grad(x.sum(), x, { gradOutputs: [seed, seed] }),
      TypeError,
      "Cannot take gradients of 1 outputs with 2 gradOutputs",
    );
    assertEquals(grad(x.sum(), [other], { allowUnused: true }), [null]);
  });
  assertNothingLeft(before);
});

Deno.test("enableGrad() records inside noGrad()", () => {
  using x = tensor([1], { requiresGrad: true });
  scope(() => {
    assertEquals(
      noGrad(() => [x.mul(2), enableGrad(() => x.mul(2)), x.mul(2)])
        .map((t) => t.requiresGrad),
      [false, true, false],
    );
  });
});

// ---- checkpoint ----

class Block extends nn.Module {
  a = new nn.Linear(16, 32);
  drop = new nn.Dropout(0.5);
  b = new nn.Linear(32, 16);
  readonly #wrap: typeof checkpoint | null;
  constructor(wrap: typeof checkpoint | null) {
    super();
    this.#wrap = wrap;
  }
  override forward(x: Tensor): Tensor {
    const body = (t: Tensor) => this.b.forward(this.drop.forward(this.a.forward(t).tanh())).tanh();
    return this.#wrap ? this.#wrap((t) => body(t!), x) : body(x);
  }
}

Deno.test("checkpoint() gives the same gradients bit for bit, dropout included, and holds less memory", async () => {
  const run = (wrap: typeof checkpoint | null) => {
    manualSeed(7);
    const net = new nn.Sequential(new Block(wrap), new Block(wrap), new Block(wrap));
    const x = randn([64, 16]).requiresGrad_();
    let held = 0;
    const loss = scope(() => {
      const before = memory().liveBytes;
      const y = net.forward(x).square().mean();
      held = memory().liveBytes - before;
      y.backward();
      return y.detach();
    });
    return { net, x, loss, held, calls: rngState().calls };
  };
  const [plain, saved] = [run(null), run(checkpoint)];
  const read = ({ net, x, loss }: typeof plain) =>
    readAll([loss, x.grad!, ...net.parameters().map((p) => p.grad!)]);
  const [want, got] = [await read(plain), await read(saved)];
  assertEquals(got, want);
  assertEquals(want.length, 2 + 12);
  assert(want.every((values) => values.some((v) => v !== 0)));
  assertEquals(saved.calls, plain.calls);
  // A block keeps [64, 32] three times and [64, 16] twice; with checkpoint its output and input only.
  assert(saved.held < plain.held / 2, `${saved.held} bytes held, ${plain.held} without checkpoint`);
  for (const { net, x, loss } of [plain, saved]) {
    net.dispose();
    x.dispose();
    loss.dispose();
  }
});

Deno.test("checkpoint() reaches computed tensors it closes over, several outputs, and nests", async () => {
  using x = tensor([0.5, -1, 2], { requiresGrad: true });
  using w = tensor([1.5, 0.25, -1], { requiresGrad: true });
  const body = (wrap: boolean) => {
    const scale = w.exp();
    const inner = (t: Tensor) => t.mul(scale).sin();
    const outer = (t: Tensor): Tensor[] => {
      const h = wrap ? checkpoint((u) => inner(u!), t) : inner(t);
      return [h.square(), h.mul(w), t.gt(0)];
    };
    const [a, b, c] = wrap ? checkpoint((t) => outer(t!), x) : outer(x);
    assertEquals(c!.dtype, "bool");
    return a!.add(b!).mul(c!.to("f32").add(1)).add(scale).sum();
  };
  const gradients = (wrap: boolean) => scope(() => grad(body(wrap), [x, w]).map((t) => t!));
  const [want, got] = [gradients(false), gradients(true)];
  const values = await readAll([...want, ...got]);
  assertEquals(values.slice(2), values.slice(0, 2));
  for (const t of [...want, ...got]) t.dispose();
  await gradcheck((x, w) => checkpoint((t) => t!.mul(w!).tanh(), x!), [x, w]);
});

Deno.test("checkpoint() recomputes in the dtypes of the first run", async () => {
  if (!(await init()).features.has("shader-f16")) return;
  using x = randn([4, 8]).requiresGrad_();
  using w = randn([8, 8]).requiresGrad_();
  const run = (wrap: boolean) =>
    scope(() => {
      const y = autocast({}, () => {
        const f = (t: Tensor) => t.matmul(w).tanh();
        const y = wrap ? checkpoint((t) => f(t!), x) : f(x);
        assertEquals(y.dtype, "f16");
        return y;
      });
      return grad(y.to("f32").sum(), [x, w]).map((t) => t!);
    });
  const results = [...run(false), ...run(true)];
  const values = await readAll(results);
  assertEquals(values.slice(2), values.slice(0, 2));
  for (const t of results) t.dispose();
});

Deno.test("checkpoint() without anything to differentiate is a call", async () => {
  using x = tensor([1, 2]);
  using y = checkpoint((t) => t!.mul(2), x);
  assertEquals(y.requiresGrad, false);
  assertEquals(await y.array(), [2, 4]);
  using p = tensor([3], { requiresGrad: true });
  using z = noGrad(() => checkpoint((t) => t!.mul(p), x));
  assertEquals(z.requiresGrad, false);
});

Deno.test("checkpoint() leaves no bytes behind and draws fresh numbers afterwards", async () => {
  manualSeed(3);
  using x = ones([1000], { requiresGrad: true });
  await synchronize();
  const before = memory().liveBytes;
  const [first, second] = scope(() => {
    const y = checkpoint((t) => dropout(t!), x);
    const next = dropout(ones([1000]));
    y.sum().backward();
    const after = dropout(ones([1000]));
    assertEquals(rngState().calls, 3);
    return [next, after];
  });
  const [a, b, g] = await readAll([first!, second!, x.grad!]);
  assert(a!.some((v, i) => v !== b![i]));
  assert(a!.some((v, i) => v !== g![i]));
  for (const t of [first!, second!]) t.dispose();
  x.grad = null;
  assertNothingLeft(before);
});

Deno.test("checkpoint() says what it cannot do", () => {
  using x = tensor([1, 2], { requiresGrad: true });
  using w = tensor([1, 2], { requiresGrad: true });
  scope(() => {
    assertThrows(
      () => checkpoint(() => 3 as unknown as Tensor, x),
      TypeError,
      "Cannot checkpoint: the function must return a tensor or an array of them",
    );
    let runs = 0;
    const other = checkpoint((t) => runs++ === 0 ? t!.mul(2) : t!.mul(w), x).sum();
    assertThrows(
      () => other.backward(),
      Error,
      "the function used a tensor that it did not use at first",
    );
    const shape = checkpoint((t) => runs++ === 2 ? t!.mul(2) : t!.sum(), x);
    assertThrows(
      () => shape.sum().backward(),
      Error,
      "the function returned other shapes than at first",
    );
    const changed = checkpoint((t) => t!.square(), x).sum();
    noGrad(() => x.mul_(2));
    assertThrows(() => changed.backward(), Error, "was changed in place");
  });
});

// ---- detectAnomaly ----

class Root extends nn.Module {
  override forward(x: Tensor): Tensor {
    return x.sqrt().mul(2);
  }
}

Deno.test("detectAnomaly() names the op and module whose gradient is not finite", async () => {
  const net = new nn.Sequential(new nn.Identity(), new Root());
  using x = tensor([4, 0], { requiresGrad: true });
  await assertRejects(
    () => detectAnomaly(() => scope(() => net.forward(x).sum().backward())),
    CheckError,
    "Gradient of sqrt in Sequential.1: input 0 [2] is Infinity at [1], the first value that is not finite",
  );
  assertEquals(debug().check, "off");
  x.grad = null;
  // The same again outside is not looked at.
  scope(() => net.forward(x).sum().backward());
  assertEquals(await x.grad!.array(), [0.5, Infinity]);
});

Deno.test("detectAnomaly() passes over Inf in the forward pass, and gives the function's result", async () => {
  using x = tensor([4, 1], { requiresGrad: true });
  using mask = tensor([0, -Infinity]);
  const result = await detectAnomaly(async () => {
    scope(() => x.add(mask).softmax(0).sum().backward());
    await synchronize();
    return 42;
  });
  assertEquals(result, 42);
  assertEquals(await x.grad!.array(), [0, 0]);
});

Deno.test("detectAnomaly() throws what the function throws, and restores the switch", async () => {
  await assertRejects(
    () =>
      detectAnomaly(() => {
        using x = zeros([1], { requiresGrad: true });
        scope(() => x.sqrt().sum().backward());
        throw new TypeError("mine");
      }),
    TypeError,
    "mine",
  );
  assertEquals(debug().check, "off");
  await synchronize();
});

Deno.test("checkpoint() lets its function use an input from outside, too, or return it", async () => {
  const gradients: number[][] = [];
  for (const checked of [false, true]) {
    const x = tensor([1, 2, 3], { requiresGrad: true });
    const h = x.mul(2);
    const f = (t: Tensor) => t.exp().mul(x).add(h);
    (checked ? checkpoint(f, h) : f(h)).sum().backward();
    gradients.push([...await x.grad!.data()]);
  }
  // The sums of x's gradient are in another order: three terms, two roundings.
  gradients[0]!.forEach((g, i) =>
    assert(Math.abs(gradients[1]![i]! - g) <= 4 * 2 ** -24 * g, `${i}`)
  );
  const x = tensor([1, 2], { requiresGrad: true });
  checkpoint((t) => t, x).square().sum().backward();
  assertEquals([...await x.grad!.data()], [2, 4]);
  const plain = tensor([1, 2]);
  assert(
    checkpoint((t) => t, plain) === plain,
    "without gradients what it returns is what it was given",
  );
  x.grad = null;
  const [first, second] = checkpoint((t) => [t, t], x);
  first!.add(second!.square()).sum().backward();
  assertEquals([...await x.grad!.data()], [3, 5]);
  const ids = tensor([1], { dtype: "i32" });
  assertEquals([...await checkpoint((t, i) => [t.mul(2), i], x, ids)[1]!.data()], [1]);
});

Deno.test("grad() by inputs alone does not make the gradients of weights", async () => {
  const model = new nn.Sequential(
    new nn.Conv2d(2, 3, { kernelSize: 3, padding: 1 }),
    new nn.Tanh(),
    new nn.Flatten(),
    new nn.Linear(3 * 16, 2),
  );
  const x = randn([2, 2, 4, 4], { requiresGrad: true });
  const dispatches = (by: Tensor[], options?: GradOptions) => {
    const y = model.forward(x).square().sum();
    const before = gpu().queue.stats.dispatches;
    const made = grad(y, by, options);
    return { made, count: gpu().queue.stats.dispatches - before };
  };
  for (const options of [{}, { createGraph: true }]) {
    const all = dispatches([x, ...model.parameters()], options);
    const one = dispatches([x], options);
    // At least two weights and two biases fewer.
    assert(one.count <= all.count - 4, `${one.count} dispatches by x alone, ${all.count} by all`);
    assertEquals(await one.made[0]!.array(), await all.made[0]!.array());
    const [weight] = dispatches([model.parameters()[0]!], options).made;
    assertEquals(await weight!.array(), await all.made[1]!.array());
  }
});
