import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  affineGrid,
  autocast,
  capture,
  cat,
  checkpoint,
  conv2d,
  crossEntropy,
  grad,
  gridSample,
  init,
  interpolate,
  manualSeed,
  nn,
  noGrad,
  ones,
  randn,
  scope,
  type Tensor,
  tensor,
  unscaleGradients,
  updateLossScale,
  zeros,
} from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { autocastLists } from "../../engine/autocast.ts";
import { allOps } from "../../engine/op.ts";

const info = await init();
const ignore = !info.features.has("shader-f16");

/** Names of the kernels that `fn` launches. */
function launchedNames(fn: () => void): string[] {
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

Deno.test({
  name: "autocast() runs products in f16, sums in f32 and leaves pointwise ops as they are",
  ignore,
  fn() {
    const [a, b] = [randn([4, 8]), randn([8, 2])];
    autocast({}, () => {
      const y = a.matmul(b);
      assertEquals(y.dtype, "f16");
      assertEquals(y.relu().dtype, "f16");
      assertEquals(y.add(ones([2])).dtype, "f32");
      assertEquals(y.sum().dtype, "f32");
      assertEquals(y.softmax(1).dtype, "f32");
      assertEquals(cat([y, y.to("f32")]).dtype, "f32");
      assertEquals(autocast({ enabled: false }, () => a.matmul(b)).dtype, "f32");
    });
    assertEquals(a.matmul(b).dtype, "f32");
  },
});

Deno.test({
  name: "autocast() gives f32 parameters f32 gradients, near those of f32",
  ignore,
  async fn() {
    manualSeed(3);
    const x = randn([8, 32]);
    const w = randn([16, 32], { requiresGrad: true });
    const run = async (narrow: boolean) => {
      w.grad = null;
      autocast({ enabled: narrow }, () => x.linear(w).relu().sum()).backward();
      assertEquals(w.grad!.dtype, "f32");
      return await w.grad!.data();
    };
    const [half, full] = [await run(true), await run(false)];
    // dW sums 8 rows of x rounded to f16 (relative 2^-11), and is rounded to f16 once itself. An
    // output within rounding of 0 may take the other side of the kink: those rows are left out.
    const y = await noGrad(() => x.linear(w)).data();
    for (let n = 0; n < 16; n++) {
      const near = Array.from({ length: 8 }, (_, b) => Math.abs(y[b * 16 + n]!)).some((v) =>
        v < 0.05
      );
      if (near) continue;
      for (let k = 0; k < 32; k++) {
        const i = n * 32 + k;
        assert(
          Math.abs(half[i]! - full[i]!) <= 2 ** -11 * (8 * 4 + Math.abs(full[i]!)),
          `${n}, ${k}`,
        );
      }
    }
  },
});

Deno.test({
  name: "autocast() runs recurrent nets and cells in f16; images and losses follow PyTorch's lists",
  ignore,
  fn() {
    const x = randn([5, 3, 4]);
    const ids = tensor([0, 1, 2], { dtype: "i32" });
    const image = randn([1, 1, 4, 4]);
    const theta = tensor([[[1, 0, 0], [0, 1, 0]]]);
    autocast({}, () => {
      const { output, hn, cn } = new nn.LSTM(4, 6).forward(x);
      for (const t of [output, hn, cn]) assertEquals(t.dtype, "f16");
      assertEquals(new nn.GRU(4, 6, { numLayers: 2 }).forward(x).output.dtype, "f16");
      assertEquals(new nn.RNN(4, 6).forward(x).hn.dtype, "f16");
      assertEquals(new nn.LSTMCell(4, 6).forward(x.select(0, 0)).c.dtype, "f16");
      const logits = new nn.Linear(6, 3).forward(output.select(0, 0));
      assertEquals(crossEntropy(logits, ids).dtype, "f32");
      const half = image.to("f16");
      const grid = affineGrid(theta, [1, 1, 4, 4]);
      assertEquals(grid.dtype, "f32");
      assertEquals(affineGrid(theta.to("f16"), [1, 1, 4, 4]).dtype, "f32");
      assertEquals(gridSample(half, grid).dtype, "f32");
      assertEquals(gridSample(half, grid.to("f16")).dtype, "f16");
      assertEquals(interpolate(half, { size: 8 }).dtype, "f32");
      assertEquals(half.atan2(image).dtype, "f32");
    });
  },
});

/** An LSTM that learns to tell the sign of a sequence's sum. */
function sequenceNet(half: boolean) {
  manualSeed(7);
  const [T, N, I, H] = [6, 16, 4, 8];
  const x = randn([T, N, I]);
  const y = noGrad(() => x.sum([0, 2]).gt(0).to("i32"));
  const lstm = new nn.LSTM(I, H);
  const head = new nn.Linear(H, 2);
  const parameters = [...lstm.parameters(), ...head.parameters()];
  const optimizer = new nn.optim.SGD(parameters, { lr: 0.5 });
  const step = (x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const loss = autocast({ enabled: half }, () => {
      const { hn } = lstm.forward(x);
      return crossEntropy(head.forward(hn.select(0, 0)), y);
    });
    loss.backward();
    optimizer.step();
    return loss.detach();
  };
  return { x, y, parameters, step, terms: T * (I + H) };
}

async function trainSequences(half: boolean, record = false) {
  const { x, y, parameters, step, terms } = sequenceNet(half);
  const run = record ? capture(step) : (x: Tensor, y: Tensor) => scope(() => step(x, y));
  const losses: number[] = [];
  for (let i = 0; i < 30; i++) {
    using loss = run(x, y);
    losses.push(await loss.item());
  }
  const weights = await Promise.all(parameters.map((p) => p.data()));
  return { losses, weights, terms };
}

Deno.test({
  name: "autocast() trains an LSTM as f32 does, within the rounding of f16",
  ignore,
  async fn() {
    const gradients = async (half: boolean) => {
      const { x, y, parameters, step } = sequenceNet(half);
      scope(() => step(x, y));
      for (const p of parameters) assertEquals(p.grad!.dtype, "f32");
      return await Promise.all(parameters.map((p) => p.grad!.data()));
    };
    const { losses, terms } = await trainSequences(true);
    const full = await trainSequences(false);
    // A loss depends on T (I + H) products of numbers that were rounded to 2^-11 of their size; such
    // errors add up as their root. K = 4.
    const tolerance = 4 * 2 ** -11 * Math.sqrt(terms);
    const [half, single] = [await gradients(true), await gradients(false)];
    half.forEach((g, p) => {
      const size = Math.max(...Array.from(single[p]!, Math.abs));
      assert(size > 1e-3, `gradient ${p} is ${size}`);
      g.forEach((v, i) => assert(Math.abs(v - single[p]![i]!) <= tolerance * size, `${p} ${i}`));
    });
    assert(losses.every(Number.isFinite), `${losses}`);
    assert(losses.at(-1)! < 0.5 * losses[0]!, `from ${losses[0]} to ${losses.at(-1)}`);
    assert(losses.some((v, i) => v !== full.losses[i]), "f16 was not used");
    losses.forEach((v, i) => {
      const want = full.losses[i]!;
      assert(Math.abs(v - want) <= tolerance * losses[0]!, `step ${i}: ${v}, in f32 ${want}`);
    });
  },
});

Deno.test({
  name: "autocast() inside capture(): an LSTM's replayed steps are the plain ones bit for bit",
  ignore,
  async fn() {
    const [plain, captured] = [await trainSequences(true), await trainSequences(true, true)];
    assertEquals(captured.losses, plain.losses);
    assertEquals(captured.weights, plain.weights);
  },
});

Deno.test({
  name:
    "gradients of parameters under autocast() are never rounded to f16, and so beyond its range, too",
  ignore,
  async fn() {
    // 64 rows of 200 times 10 are 128,000; f16 ends at 65,504.
    const full = (shape: number[], value: number) =>
      noGrad(() => ones(shape).mul(value)).requiresGrad_();
    const x = ones([64, 4]).mul(200);
    const products: Record<string, { w: Tensor; y: () => Tensor }> = {};
    const linear = full([3, 4], 0.125);
    products.linear = { w: linear, y: () => x.linear(linear) };
    const right = full([4, 3], 0.125);
    products.matmul = { w: right, y: () => x.matmul(right) };
    const window = full([3, 4, 1, 1], 0.125);
    products.conv2d = {
      w: window,
      y: () => conv2d(x.reshape(1, 64, 4, 1).permute(0, 2, 1, 3), window),
    };
    for (const [name, { w, y }] of Object.entries(products)) {
      const names = launchedNames(() =>
        autocast({}, () => y().mul(10)).backward(ones(autocast({}, y).shape).to("f16"))
      );
      assertEquals(w.grad!.dtype, "f32", name);
      assertEquals([...new Set(await w.grad!.data())], [128_000], name);
      // The weight once, and the input.
      const casts = names.filter((n) => n.startsWith("cast_"));
      assertEquals(casts.filter((n) => n.startsWith("cast_f16_f32")), [], name);
    }
  },
});

Deno.test({
  name: "gradients of biases, of grad() and through checkpoint() are f32 under autocast(), too",
  ignore,
  async fn() {
    // 4,096 rows of 32 are 131,072.
    const x = ones([4096, 4]).to("f16");
    const layer = new nn.Linear(4, 3);
    const seed = ones([4096, 3]).mul(32).to("f16");
    autocast({}, () => layer.forward(x)).backward(seed);
    assertEquals([...new Set(await layer.bias!.grad!.data())], [131_072]);
    const conv = new nn.Conv2d(1, 3, { kernelSize: 1 });
    const picture = ones([1, 1, 64, 64]).to("f16");
    autocast({}, () => conv.forward(picture)).backward(ones([1, 3, 64, 64]).mul(32).to("f16"));
    assertEquals([...new Set(await conv.bias!.grad!.data())], [131_072]);
    const rnn = new nn.RNN(2, 3);
    const bias = rnn.parameters().find((p) => p.ndim === 1)!;
    const y = autocast({}, () => rnn.forward(zeros([1, 4096, 2])).output);
    y.backward(ones(y.shape).mul(32).to("f16"));
    const sums = Number((await bias.grad!.data())[0]);
    assert(Number.isFinite(sums) && sums > 65_504, `${sums}`);
    const w = noGrad(() => ones([3, 4]).mul(0.125)).requiresGrad_();
    const [g] = autocast({}, () => grad(x.linear(w), w, { gradOutputs: [seed] }));
    assertEquals([...new Set(await g!.data())], [131_072]);
    autocast({}, () => checkpoint((t) => t!.linear(w), x)).backward(seed);
    assertEquals([...new Set(await w.grad!.data())], [131_072]);
  },
});

Deno.test({
  name: "gradients that meet at an f16 tensor's f32 copy are added in f32",
  ignore,
  async fn() {
    const x = tensor([1], { dtype: "f16", requiresGrad: true });
    const y = x.to("f32");
    let sum = y.mul(1e-8);
    for (let i = 1; i < 100; i++) sum = sum.add(y.mul(1e-8));
    sum.backward();
    // 1e-6 in f16, whose least number is 6e-8.
    assertAlmostEquals(await x.grad!.item(), 1e-6, 6e-8);
    // A seed has the dtype of what it starts from.
    const w = ones([4, 4], { requiresGrad: true });
    const product = autocast({}, () => ones([4, 4]).matmul(w));
    product.backward(ones([4, 4]).mul(1000));
    assertEquals([...new Set(await w.grad!.data())], [4000]);
  },
});

Deno.test({
  name: "grad() of an f16 intermediate result is f16, though what it was made from is f32",
  ignore,
  fn() {
    const w = randn([3, 4], { requiresGrad: true });
    const half = w.to("f16");
    const y = ones([2, 4]).to("f16").linear(half);
    const [g] = grad([y], [half], { gradOutputs: [ones([2, 3]).to("f16")] });
    assertEquals(g!.dtype, "f16");
  },
});

Deno.test("autocast() says what is missing where the adapter has no f16", async () => {
  if (ignore) {
    assertThrows(() => autocast({}, () => {}), TypeError, "no shader-f16");
    assertThrows(
      () => autocast({}, () => new nn.LSTM(2, 3).forward(zeros([1, 1, 2]))),
      TypeError,
      "no shader-f16",
    );
    return;
  }
  await init();
  assertThrows(
    () =>
      autocast({}, () => {
        throw new Error("from inside");
      }),
    Error,
    "from inside",
  );
  // The mode was put back although the function threw.
  assertEquals(ones([2, 2]).matmul(ones([2, 2])).dtype, "f32");
});

Deno.test("autocast()'s lists name ops, each once", () => {
  const { half, asGiven, widest } = autocastLists();
  const names = [...half, ...asGiven, ...widest];
  assertEquals(new Set(names).size, names.length);
  const unknown = names.filter((name) => !allOps().has(name));
  // Composite functions are not ops; these are named because they may become ones.
  assertEquals(unknown.filter((name) => !["convTranspose2d", "flip"].includes(name)), []);
});

Deno.test("the loss scale backs off after an overflow and grows after a run without", async () => {
  const state = tensor([8, 0]);
  const found = zeros([1], { dtype: "u32" });
  const rule = { growthFactor: 2, backoffFactor: 0.5, growthInterval: 3 };
  const seen: number[] = [];
  const step = async (grad: number[]) => {
    const g = tensor(grad);
    unscaleGradients([g], state, found);
    const flagged = (await found.data())[0];
    updateLossScale(state, found, rule);
    seen.push((await state.data())[0]!);
    assertEquals((await found.data())[0], 0);
    return { flagged, g: [...await g.data()] };
  };
  assertEquals(await step([8, -4]), { flagged: 0, g: [1, -0.5] });
  assertEquals((await step([1, Infinity])).flagged, 1);
  assertEquals((await step([NaN])).flagged, 1);
  for (let i = 0; i < 4; i++) assertEquals((await step([0])).flagged, 0);
  assertEquals(seen, [8, 4, 2, 2, 2, 4, 4]);
  assertThrows(() => unscaleGradients([], tensor([1]), found), TypeError, "f32 [2] and u32 [1]");
});
