import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  capture,
  init,
  manualSeed,
  nn,
  noGrad,
  randn,
  scope,
  type Tensor,
  zeros,
} from "../../../mod.ts";

await init();
const { models } = nn;

Deno.test("convNet() has the notebook's layers and parameters", () => {
  using model = models.convNet();
  assertEquals(model.parameters().map((p) => p.size).filter((n) => n > 200), [
    864,
    18432,
    73728,
    262144,
    512,
  ]);
  const table = model.summary([3, 32, 32]);
  for (
    const line of ["[-1, 32, 30, 30]", "[-1, 64, 13, 13]", "[-1, 128, 4, 4]", "262,656", "73,728"]
  ) {
    assert(table.includes(line), `${line} in\n${table}`);
  }
  assertThrows(() => models.convNet({ imageSize: 8 }), RangeError, "leave nothing");
});

Deno.test("MoCo: keys follow the queries' encoder without gradients, and the queue turns", async () => {
  manualSeed(1);
  const encoder = () => models.convNet({ channels: [8, 8, 8], outFeatures: 16, dropout: 0 });
  using moco = new models.MoCo({ encoder, dim: 16, queueSize: 24, momentum: 0.9 });
  const [qs, ks] = [moco.encoder_q, moco.encoder_k].map((e) => e.parameters());
  assertEquals(await ks![0]!.data(), await qs![0]!.data());
  assert(ks!.every((p) => !p.requiresGrad));
  const norms = await noGrad(() => moco.queue.square().sum(0)).data();
  norms.forEach((n) => assertAlmostEquals(n, 1, 1e-5));

  const first = await moco.queue.data();
  const x = randn([6, 3, 32, 32]);
  const loss = moco.forward(x, x.add(0.1));
  // 25 logits of at most 1 / 0.07 in magnitude, twice: the loss is below 2 (ln 25 + 2 / 0.07).
  const value = await loss.item();
  assert(value > 0 && value < 2 * (Math.log(25) + 2 / 0.07), `loss ${value}`);
  loss.backward();
  assert(qs!.every((p) => p.grad !== null) && ks!.every((p) => p.grad === null));
  assertEquals([...await moco.queue_ptr.data()], [12]);
  const second = await moco.queue.data();
  for (let c = 0; c < 24; c++) {
    const changed = first[c] !== second[c];
    assertEquals(changed, c < 12, `column ${c}`);
  }
  moco.forward(x, x);
  assertEquals([...await moco.queue_ptr.data()], [0]);
  assertThrows(
    () => moco.forward(zeros([5, 3, 32, 32]), zeros([5, 3, 32, 32])),
    RangeError,
    "10 keys",
  );
});

Deno.test("MoCo: captured steps are the plain ones bit for bit, queue and pointer included", async () => {
  const run = async (captured: boolean) => {
    manualSeed(2);
    const encoder = () => models.convNet({ channels: [6, 6, 6], outFeatures: 8, dropout: 0.3 });
    const moco = new models.MoCo({ encoder, dim: 8, queueSize: 24 });
    const optimizer = new nn.optim.SGD(moco.encoder_q.parameters(), { lr: 0.06, momentum: 0.9 });
    const plain = (a: Tensor, b: Tensor) => {
      optimizer.zeroGrad();
      const loss = moco.forward(a, b);
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
    const step = captured ? capture(plain) : (a: Tensor, b: Tensor) => scope(() => plain(a, b));
    const losses: number[] = [];
    for (let i = 0; i < 6; i++) {
      const x = randn([4, 3, 32, 32]);
      losses.push(await step(x, x.mul(0.9)).item());
    }
    return { losses, queue: await moco.queue.data(), pointer: await moco.queue_ptr.data() };
  };
  assertEquals(await run(true), await run(false));
});

Deno.test("toySsd() gives the notebook's anchors and shapes", async () => {
  using model = models.toySsd({ numClasses: 2, body: [2, 2, 2], channels: 4 });
  model.eval();
  const out = noGrad(() => model.forward(zeros([1, 3, 256, 256])));
  assertEquals(out.anchors.shape, [1, 5444, 4]);
  assertEquals(out.classes.shape, [1, 5444, 3]);
  assertEquals(out.boxes.shape, [1, 21776]);
  // The first cell of 32 x 32 is centred at 1/64; its first anchor is a square of 0.2.
  const corners = await out.anchors.narrow(1, 0, 1).data();
  [-0.084375, -0.084375, 0.115625, 0.115625].forEach((want, i) =>
    assertAlmostEquals(corners[i]!, want, 1e-6)
  );
});
