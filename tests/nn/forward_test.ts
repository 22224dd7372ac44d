import { assert, assertAlmostEquals, assertEquals, assertStrictEquals } from "@std/assert";
import { init, memory, nn, noGrad, randn, readAll, scope, Tensor, tensor } from "../../mod.ts";
import { peakOf } from "../helpers/memory.ts";

await init();

/** Stores what it sees, as a user's module may. */
class Tap extends nn.Module {
  seen: Tensor[] = [];
  override forward(x: Tensor): Tensor {
    const half = x.mul(0.5);
    const y = half.mul(2);
    this.seen.push(x, half, y);
    return y;
  }
}

const SIDE = 128;
const ARRAY = 4 * SIDE * SIDE;

Deno.test("layers in a row free what came before, with gradients only what these do not need", () => {
  const net = new nn.Sequential(...Array.from({ length: 12 }, () => new nn.Tanh()));
  const x = randn([SIDE, SIDE]);
  const plain = peakOf(() => scope(() => void noGrad(() => net.forward(x))));
  assert(plain <= 2 * ARRAY, `${plain / ARRAY} arrays, 2 would do`);
  const outside = peakOf(() => noGrad(() => net.forward(x).dispose()));
  assert(outside <= 2 * ARRAY, `${outside / ARRAY} arrays without a scope`);
  x.requiresGrad_();
  // Each output is kept for its gradient; going back, gradients take their place.
  const training = peakOf(() => scope(() => net.forward(x).sum().backward()));
  assert(training <= 14 * ARRAY + 1024, `${training / ARRAY} arrays, 12 outputs and 2 gradients`);
  x.grad = null;
});

Deno.test("a user's module in a library's keeps what it stores, and a subclass does", async () => {
  const tap = new Tap();
  const net = new nn.Sequential(
    new nn.Sequential(new nn.ReLU(), new nn.Tanh()),
    new nn.ReLU(),
    tap,
    new nn.ReLU(),
  );
  class Storing extends nn.Linear {
    seen?: Tensor;
    override forward(x: Tensor): Tensor {
      return super.forward(this.seen = x.mul(2));
    }
  }
  const storing = new Storing(2, 2);
  const whole = new nn.Sequential(net, storing);
  const x = tensor([[1, -2]]);
  noGrad(() => whole.forward(x));
  const relu = [Math.tanh(1), 0];
  const want = [relu, relu.map((v) => v / 2), relu, relu.map((v) => 2 * v)];
  const got = await readAll([...tap.seen, storing.seen!]);
  got.forEach((values, i) => {
    values.forEach((v, k) => assertAlmostEquals(v as number, want[i]![k]!, 1e-6, `${i}`));
  });
});

Deno.test("a module with a replaced method frees nothing, nor does one that holds an array or itself", async () => {
  const net = nn.models.resnet18({ numClasses: 5 }).eval();
  let features: Tensor | undefined;
  const original = net.features.bind(net);
  net.features = (x) => features = original(x);
  noGrad(() => net.forward(randn([1, 3, 32, 32])));
  assertEquals((await features!.data()).length, 512);
  const [inner, x] = [new nn.Linear(2, 2), randn([1, 2])];
  const owned = new nn.Sequential(inner, new nn.ReLU());
  Object.assign(inner, { owner: owned });
  assertEquals(owned.forward(x).shape, [1, 2]);
  const listed = Object.assign(new nn.Linear(2, 2), { taps: [new nn.ReLU()] });
  assertEquals(listed.forward(x).shape, [1, 2]);
});

Deno.test("every model frees what it makes on the way", () => {
  const { alexnet, convNet, efficientnetB0, resnet18, resnet50, toySsd } = nn.models;
  const models: [string, nn.Module & { forward(x: Tensor): unknown }, number][] = [
    ["alexnet", alexnet({ numClasses: 3 }), 64],
    ["convNet", convNet(), 32],
    ["efficientnetB0", efficientnetB0({ numClasses: 3 }), 32],
    ["resnet18", resnet18({ numClasses: 3 }), 32],
    ["resnet50", resnet50({ numClasses: 3 }), 32],
    ["toySsd", toySsd(), 64],
  ];
  for (const [name, model, side] of models) {
    const x = randn([2, 3, side, side]);
    scope(() => {
      const { buffers } = memory();
      const made: Tensor[] = [];
      JSON.stringify(noGrad(() => model.forward(x)), (_, value) => {
        if (value instanceof Tensor) made.push(value);
        return value instanceof Tensor ? null : value;
      });
      assert(made.length > 0 && memory().buffers - buffers <= made.length, name);
    });
    model.dispose();
    x.dispose();
  }
});

Deno.test("what a module of the library returns stays, and its input is the caller's", async () => {
  const x = tensor([[1, -2], [3, -4]]);
  const same = new nn.Sequential(new nn.Dropout(0.5), new nn.Identity()).eval();
  assertStrictEquals(noGrad(() => same.forward(x)), x);
  const shaped = noGrad(() =>
    new nn.Sequential(new nn.ReLU(), new nn.Flatten({ startDim: 0 })).forward(x)
  );
  assertEquals(await shaped.array(), [1, 0, 3, 0]);
  const lstm = new nn.LSTM(2, 3, { batchFirst: true });
  const { output, hn, cn } = noGrad(() => lstm.forward(x.reshape(1, 2, 2)));
  for (const t of [output, hn, cn]) assert((await t.data()).every(Number.isFinite));
});
