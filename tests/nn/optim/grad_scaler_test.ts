import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { autocast, crossEntropy, GradScaler, init, manualSeed, memory, nn } from "../../../mod.ts";
import { randint, randn, scope, tensor } from "../../../mod.ts";

const info = await init();

/** A parameter with a given gradient. */
function parameter(values: number[], grad: number[]): nn.Parameter {
  const p = new nn.Parameter(tensor(values));
  p.grad = tensor(grad);
  return p;
}

const OPTIMIZERS: Record<string, (p: nn.Parameter[]) => nn.optim.ScaledOptimizer> = {
  SGD: (p) => new nn.optim.SGD(p, { lr: 0.1, momentum: 0.9 }),
  Adam: (p) => new nn.optim.Adam(p, { lr: 0.1 }),
  RMSprop: (p) => new nn.optim.RMSprop(p, { lr: 0.1 }),
  Adagrad: (p) => new nn.optim.Adagrad(p, { lr: 0.1 }),
};

for (const [name, make] of Object.entries(OPTIMIZERS)) {
  Deno.test(`GradScaler with ${name}: an overflow changes nothing, and the next step is as the first`, async () => {
    const values = [1, -2, 3];
    const grad = [0.5, 0.25, -1];
    // The same optimizer without a scaler says what a step gives.
    const plain = parameter(values, grad);
    const reference = make([plain]);
    reference.step();
    const want = await plain.data();

    const p = parameter(values, grad.map((g) => g * 8));
    const optimizer = make([p]);
    using scaler = new GradScaler({ initScale: 16, growthInterval: 2 });
    const before = await p.data();
    p.grad = tensor([Infinity, 0, 0]);
    scaler.step(optimizer);
    scaler.update();
    assertEquals(await p.data(), before);
    assertEquals(await scaler.getScale(), 8);

    p.grad = tensor(grad.map((g) => g * 8));
    scaler.step(optimizer);
    scaler.update();
    const got = await p.data();
    want.forEach((v, i) => assertAlmostEquals(got[i]!, v, 1e-6));
    assertEquals(await scaler.getScale(), 8);
    p.grad = tensor([0, 0, 0]);
    scaler.step(optimizer);
    scaler.update();
    assertEquals(await scaler.getScale(), 16);
  });
}

Deno.test("GradScaler unscales once, saves its state and checks its options", async () => {
  const p = parameter([1], [4]);
  const optimizer = new nn.optim.SGD([p], { lr: 1 });
  using scaler = new GradScaler({ initScale: 4, growthInterval: 1 });
  scaler.unscale_(optimizer);
  assertEquals([...await p.grad!.data()], [1]);
  assertThrows(() => scaler.unscale_(optimizer), Error, "unscale_ the same optimizer twice");
  scaler.step(optimizer);
  assertEquals([...await p.data()], [0]);
  scaler.update();
  using other = new GradScaler();
  other.loadStateDict(scaler.stateDict());
  assertEquals(await other.getScale(), 8);
  using off = new GradScaler({ enabled: false });
  p.grad = tensor([2]);
  off.step(optimizer);
  off.update();
  assertEquals([...await p.data()], [-2]);
  assertEquals(await off.getScale(), 1);
  assertThrows(() => new GradScaler({ backoffFactor: 1 }), RangeError, "between 0 and 1");
});

Deno.test({
  name: "AMP: a small net learns under autocast and GradScaler, from a scale that overflows",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    manualSeed(5);
    using model = new nn.Sequential(
      new nn.Conv2d(1, 8, { kernelSize: 3, padding: 1 }),
      new nn.ReLU(),
      new nn.Flatten(),
      new nn.Linear(8 * 36, 4),
    );
    const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.05, momentum: 0.9 });
    using scaler = new GradScaler({ initScale: 2 ** 24, growthInterval: 8 });
    const [x, y] = [randn([16, 1, 6, 6]), randint(0, 4, { shape: [16] })];
    const scales: number[] = [];
    const losses: number[] = [];
    let live = 0;
    for (let step = 0; step < 40; step++) {
      if (step === 20) live = memory().liveBytes;
      using loss = scope(() => {
        optimizer.zeroGrad();
        const loss = autocast({}, () => crossEntropy(model.forward(x), y));
        scaler.scale(loss).backward();
        scaler.step(optimizer);
        scaler.update();
        return loss.detach();
      });
      losses.push(await loss.item());
      scales.push(await scaler.getScale());
    }
    assert(scales[0]! < 2 ** 24, "the first step overflows and backs off");
    assert(scales.some((s, i) => i > 0 && s > scales[i - 1]!), "the scale grows again");
    assertEquals(losses[0], losses[1], "a skipped step changes nothing");
    assert(losses.every(Number.isFinite), `losses ${losses}`);
    assert(losses.at(-1)! < 0.2 * losses[0]!, `from ${losses[0]} to ${losses.at(-1)}`);
    // Less, where what earlier tests left behind is collected meanwhile.
    assert(memory().liveBytes <= live, `${memory().liveBytes} bytes, ${live} before`);
  },
});
