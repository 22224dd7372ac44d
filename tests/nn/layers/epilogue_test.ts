/** Activations and shortcuts that a layer applies while it stores its output: the same as one by one. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { gpu } from "../../../engine/gpu/device.ts";
import { batchNorm as batchNormOp } from "../../../engine/ops/batch_norm.ts";
import { apply } from "../../../engine/tensor.ts";
import {
  autocast,
  batchNorm,
  conv2d,
  gradcheck,
  init,
  manualSeed,
  nn,
  noGrad,
  ones,
  randn,
  readAll,
  scope,
  synchronize,
  type Tensor,
  zeros,
} from "../../../mod.ts";
import { watchForward } from "../../../nn/forward.ts";
import { assertClose } from "../../helpers/close.ts";

const info = await init();

/** Names of the kernels that `fn` launches. */
async function launched(fn: () => void): Promise<string[]> {
  const { queue } = gpu();
  const { launch } = queue;
  const names: string[] = [];
  queue.launch = (run) => {
    launch.call(queue, run);
    names.push(run.kernel.name);
  };
  try {
    fn();
    await synchronize();
  } finally {
    queue.launch = launch;
  }
  return names;
}

type Layer = nn.Module & { forward(x: Tensor): Tensor };

/** y and the gradients of x and all parameters, of a layer that is run by `run`. */
async function results(
  layers: readonly Layer[],
  x: Tensor,
  run: (x: Tensor) => Tensor,
): Promise<Float32Array[]> {
  const parameters = layers.flatMap((l) => l.parameters());
  for (const p of parameters) p.grad = null;
  const read = scope(() => {
    const input = x.detach().requiresGrad_();
    const y = run(input);
    y.mul(y).sum().backward();
    return [y, input.grad!, ...parameters.map((p) => p.grad!)].map((t) => t.detach().clone());
  });
  const data = await readAll(read) as Float32Array[];
  for (const t of read) t.dispose();
  return data;
}

const PAIRS: Record<string, () => { layers: [Layer, Layer]; shape: number[] }> = {
  "Conv2d and ReLU": () => ({
    layers: [new nn.Conv2d(3, 9, { kernelSize: 3, padding: 1 }), new nn.ReLU()],
    shape: [2, 3, 6, 6],
  }),
  "depthwise Conv2d and Tanh": () => ({
    layers: [new nn.Conv2d(4, 4, { kernelSize: 3, groups: 4 }), new nn.Tanh()],
    shape: [2, 4, 6, 7],
  }),
  "Conv2dSame and Sigmoid": () => ({
    layers: [new nn.Conv2dSame(3, 4, { kernelSize: 3, stride: 2 }), new nn.Sigmoid()],
    shape: [1, 3, 7, 7],
  }),
  "Linear and ReLU": () => ({ layers: [new nn.Linear(600, 8), new nn.ReLU()], shape: [3, 600] }),
  "BatchNorm2d and SiLU": () => ({
    layers: [new nn.BatchNorm2d(3), new nn.SiLU()],
    shape: [4, 3, 5, 5],
  }),
  "BatchNorm1d and GELU": () => ({
    layers: [new nn.BatchNorm1d(3), new nn.GELU()],
    shape: [8, 3],
  }),
  "SplitBatchNorm2d and ReLU": () => ({
    layers: [new nn.SplitBatchNorm2d(3, { numSplits: 2 }), new nn.ReLU()],
    shape: [4, 3, 5, 5],
  }),
  "BatchNorm2d without affine and Hardswish": () => ({
    layers: [new nn.BatchNorm2d(3, { affine: false }), new nn.Hardswish()],
    shape: [4, 3, 5, 5],
  }),
};

/** Sums of some hundred products of size 1, each rounded in another order: 2⁻²⁴ · √600 · 16. */
const CLOSE = { atol: 16 * 2 ** -24 * Math.sqrt(600), rtol: 1e-5 };

for (const [name, build] of Object.entries(PAIRS)) {
  for (const mode of ["training", "evaluation"] as const) {
    Deno.test(`Sequential of ${name} is one pass, with the numbers of two, in ${mode}`, async () => {
      manualSeed(3);
      const { layers: [layer, activation], shape } = build();
      using net = new nn.Sequential(layer, activation);
      for (const p of layer.parameters()) noGrad(() => p.add_(0.3));
      net.train(mode === "training");
      using x = randn(shape);
      const apart = await results([layer], x, (x) => activation.forward(layer.forward(x)));
      const names = await launched(() => scope(() => void net.forward(x)));
      const own = activation.constructor.name.toLowerCase();
      // What a depthwise kernel stores is changed in place: a pass, but no other array.
      const separate = names.filter((n) => n.startsWith(`${own}_`) && !n.includes("in_place"));
      assertEquals(separate, [], `${names}`);
      const together = await results([layer], x, (x) => net.forward(x));
      together.forEach((a, i) => assertClose(a, [...apart[i]!], { ...CLOSE, what: `result ${i}` }));
    });
  }
}

Deno.test("a forward of the user's own is neither replaced nor handed an activation", async () => {
  using layer = new nn.Linear(4, 4);
  using relu = new nn.ReLU();
  using net = new nn.Sequential(layer, relu);
  using x = ones([2, 4]);
  const { forward } = layer;
  let given = 0;
  Object.assign(layer, {
    forward: (...inputs: [Tensor]) => {
      given = inputs.length;
      return forward(...inputs).mul(0).sub(1);
    },
  });
  using y = net.forward(x);
  assertEquals([...await y.data()], Array(8).fill(0));
  assertEquals(given, 1);
  class Shifted extends nn.ReLU {
    override forward(x: Tensor): Tensor {
      return super.forward(x).add(1);
    }
  }
  using shifted = new nn.Sequential(new nn.Linear(4, 2), new Shifted());
  using z = shifted.forward(x);
  assert((await z.data() as Float32Array).every((v) => v >= 1));
});

Deno.test("who watches modules is told of activations, too", () => {
  using net = new nn.Sequential(
    new nn.Conv2d(1, 2, { kernelSize: 1 }),
    new nn.BatchNorm2d(2),
    new nn.ReLU(),
  );
  const seen: string[] = [];
  scope(() => {
    watchForward((m) => seen.push(m.constructor.name), () => {
      net.forward(zeros([2, 1, 2, 2]));
    });
  });
  assertEquals(seen, ["Conv2d", "BatchNorm2d", "ReLU", "Sequential"]);
  assert(net.summary([1, 2, 2]).includes("ReLU"));
});

Deno.test("batchNorm() moves running statistics the same in one dispatch and one by one", async () => {
  using x = randn([6, 7, 4, 4]);
  const moved = async (views: boolean) => {
    using both = zeros([2, 7]);
    using apart = zeros([7]);
    using other = zeros([7]);
    using first = both.select(0, 0);
    using second = both.select(0, 1);
    const [runningMean, runningVar] = views ? [first, second] : [apart, other];
    const names = await launched(() => {
      batchNorm(x, { training: true, runningMean, runningVar, momentum: 0.3 }).dispose();
    });
    const data = await readAll([runningMean, runningVar]);
    return { data: data.map((d) => [...d]), names };
  };
  const [one, several] = [await moved(false), await moved(true)];
  assertEquals(one.data, several.data);
  // A count of another type is raised, too.
  using runningMean = zeros([7]);
  using runningVar = zeros([7]);
  using numBatchesTracked = zeros([]);
  batchNorm(x, { training: true, runningMean, runningVar, numBatchesTracked }).dispose();
  assertEquals(await numBatchesTracked.item(), 1);
  assert(one.names.includes("batch_norm_running"), `${one.names}`);
  assert(several.names.some((n) => n.startsWith("batch_norm_running_apart")), `${several.names}`);
});

Deno.test("options that do not fit are refused", () => {
  using x = zeros([2, 3, 4, 4]);
  using r = zeros([2, 3, 4, 5]);
  using w = zeros([3, 3, 1, 1]);
  assertThrows(
    () => batchNorm(x, { training: true, residual: r }),
    TypeError,
    "Cannot batchNorm f32 [2, 3, 4, 4] and add f32 [2, 3, 4, 5]: the residual must have the same " +
      "shape and dtype",
  );
  assertThrows(
    () => conv2d(x, w, { activation: "silu" as "relu" }),
    TypeError,
    'Cannot conv2d with activation "silu": it must be relu, sigmoid or tanh',
  );
  assertThrows(
    () => x.flatten(1).linear(zeros([2, 48]), undefined, { activation: "swish" as "relu" }),
    TypeError,
    'Cannot linear with activation "swish"',
  );
});

Deno.test({
  name: "batchNorm() adds a residual of another dtype in the wider one",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    const x = randn([4, 3, 2, 2], { dtype: "f16", requiresGrad: true });
    const r = randn([4, 3, 2, 2], { requiresGrad: true });
    const y = batchNorm(x, { training: true, residual: r, activation: "relu" });
    assertEquals(y.dtype, "f32");
    y.sum().backward();
    const apart = batchNorm(x.detach(), { training: true }).add(r.detach()).relu();
    assertEquals(await y.data(), await apart.data());
    assertEquals(await r.grad!.data(), await apart.gt(0).to("f32").data());
    assertEquals(x.grad!.dtype, "f16");

    const w = randn([3, 3, 1, 1]);
    const z = autocast(
      { dtype: "f16" },
      () => batchNorm(conv2d(r.detach(), w), { training: true, residual: r.detach() }),
    );
    assertEquals(z.dtype, "f32");
    assertThrows(
      () => batchNorm(x, { training: true, residual: r, activation: "elu" as "relu" }),
      TypeError,
      'Cannot batchNorm with activation "elu"',
    );
  },
});

Deno.test("batch norm's gradient is right where only some of its outputs are used", async () => {
  const shape = [6, 2];
  const loss = {
    y: ([y]: readonly Tensor[]) => y!.square().sum(),
    mean: ([, mean]: readonly Tensor[]) => mean!.square().sum(),
    variance: ([, , variance]: readonly Tensor[]) => variance!.square().sum(),
    both: ([y, , variance]: readonly Tensor[]) => y!.square().sum().add(variance!.sum()),
  };
  const attrs = { eps: 1e-5, weight: false, bias: false, activation: "relu" as const };
  for (const [what, of] of Object.entries(loss)) {
    manualSeed(5);
    using x = randn(shape, { requiresGrad: true });
    await gradcheck((t) => of(apply(batchNormOp, [t!], attrs) as Tensor[]), [x]).catch((e) => {
      throw new Error(`${what}: ${e}`);
    });
  }
});

Deno.test("under autocast batch norm takes and gives f16, and its shortcut is one pass", async () => {
  if (!gpu().info.features.has("shader-f16")) return;
  using block = new nn.models.BasicBlock({
    inChannels: 4,
    channels: 4,
    stride: 1,
    norm: (c) => new nn.BatchNorm2d(c),
  });
  using x = randn([2, 4, 6, 6]);
  using half = x.to("f16");
  const names = await launched(() =>
    scope(() => {
      const y = autocast({ dtype: "f16" }, () => block.forward(half));
      assertEquals(y.dtype, "f16");
    })
  );
  assert(names.some((n) => /^normalise_row_weight_bias_add_relu/.test(n)), `${names}`);
  assert(!names.some((n) => n.startsWith("add_")), `${names}`);
});
