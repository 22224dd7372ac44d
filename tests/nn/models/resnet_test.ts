import { assert, assertEquals } from "@std/assert";
import {
  batchNorm,
  conv2d,
  crossEntropy,
  init,
  manualSeed,
  maxPool2d,
  nn,
  randn,
  readAll,
  scope,
  type Tensor,
  tensor,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

await init();

const { resnet18, resnet34, resnet50 } = nn.models;

/** Number of learned numbers. */
function count(model: nn.Module): number {
  return model.parameters().reduce((n, p) => n + p.size, 0);
}

Deno.test("resnets have torchvision's numbers of parameters", () => {
  for (
    const [make, total] of [
      [resnet18, 11_689_512],
      [resnet34, 21_797_672],
      [resnet50, 25_557_032],
    ] as const
  ) {
    using model = make();
    assertEquals(count(model), total, make.name);
  }
  using small = resnet18({ numClasses: 10 });
  assertEquals(count(small), 11_181_642);
});

Deno.test("resnets have torchvision's names", () => {
  using model = resnet18({ numClasses: 2 });
  const shapes = Object.entries(model.stateDict()).map(([name, t]) => `${name} ${t.shape}`);
  const norm = (name: string, channels: number) => [
    ...["weight", "bias", "running_mean", "running_var"].map((v) => `${name}.${v} ${channels}`),
    `${name}.num_batches_tracked `,
  ];
  assertEquals(shapes.slice(0, 6), ["conv1.weight 64,3,7,7", ...norm("bn1", 64)]);
  assertEquals(shapes.filter((s) => s.startsWith("layer2.0.")), [
    "layer2.0.conv1.weight 128,64,3,3",
    ...norm("layer2.0.bn1", 128),
    "layer2.0.conv2.weight 128,128,3,3",
    ...norm("layer2.0.bn2", 128),
    "layer2.0.downsample.0.weight 128,64,1,1",
    ...norm("layer2.0.downsample.1", 128),
  ]);
  assertEquals(shapes.slice(-2), ["fc.weight 2,512", "fc.bias 2"]);
  assertEquals(shapes.filter((s) => s.includes("downsample.0")).length, 3);
  using deep = resnet50({ numClasses: 2 });
  const names = Object.entries(deep.stateDict()).map(([name, t]) => `${name} ${t.shape}`);
  assertEquals(
    names.filter((s) => s.startsWith("layer2.0.") && !s.includes("bn") && !s.includes(".1.")),
    [
      "layer2.0.conv1.weight 128,256,1,1",
      "layer2.0.conv2.weight 128,128,3,3",
      "layer2.0.conv3.weight 512,128,1,1",
      "layer2.0.downsample.0.weight 512,256,1,1",
    ],
  );
  // layer1 of bottlenecks widens the channels, so it has a projection, too.
  assertEquals(names.filter((s) => s.includes("downsample.0")).length, 4);
});

/** torchvision's resnet from its state alone, in evaluation. */
function functional(s: Record<string, Tensor>, x: Tensor): Tensor {
  const norm = (name: string, y: Tensor) =>
    batchNorm(y, {
      weight: s[`${name}.weight`],
      bias: s[`${name}.bias`],
      runningMean: s[`${name}.running_mean`],
      runningVar: s[`${name}.running_var`],
    });
  const conv = (name: string, y: Tensor, stride = 1) => {
    const w = s[`${name}.weight`]!;
    return conv2d(y, w, { stride, padding: (w.shape[2]! - 1) / 2 });
  };
  let y = maxPool2d(norm("bn1", conv("conv1", x, 2)).relu(), 3, { stride: 2, padding: 1 });
  for (const layer of [1, 2, 3, 4]) {
    for (let i = 0; s[`layer${layer}.${i}.conv1.weight`]; i++) {
      const at = `layer${layer}.${i}`;
      const stride = layer > 1 && i === 0 ? 2 : 1;
      const deep = s[`${at}.conv3.weight`] !== undefined;
      let z = norm(`${at}.bn1`, conv(`${at}.conv1`, y, deep ? 1 : stride)).relu();
      z = norm(`${at}.bn2`, conv(`${at}.conv2`, z, deep ? stride : 1));
      if (deep) z = norm(`${at}.bn3`, conv(`${at}.conv3`, z.relu()));
      const projected = s[`${at}.downsample.0.weight`]
        ? norm(`${at}.downsample.1`, conv(`${at}.downsample.0`, y, stride))
        : y;
      y = z.add(projected).relu();
    }
  }
  return y.mean([2, 3]).linear(s["fc.weight"]!, s["fc.bias"]);
}

Deno.test("resnets compute what their state says", async () => {
  manualSeed(4);
  for (const make of [resnet18, resnet50]) {
    using model = make({ numClasses: 4 }).eval();
    using x = randn([1, 3, 40, 33]);
    const [y, want] = scope(() => [model.forward(x), functional(model.stateDict(), x)] as const);
    const [a, b] = await readAll([y, want]);
    // The same kernels in the same order; only the mean over positions is another one.
    assertClose(a!, b!, { rtol: 2 ** -20, atol: 2 ** -20 * Math.max(...[...b!].map(Math.abs)) });
  }
});

Deno.test("resnet18 gives every parameter a gradient and can start as its shortcuts", async () => {
  manualSeed(1);
  using model = resnet18({ numClasses: 3, inChannels: 1, zeroInitResidual: true });
  using loss = scope(() => {
    const target = tensor([0, 2], { dtype: "i32" });
    const loss = crossEntropy(model.forward(randn([2, 1, 33, 32])), target);
    loss.backward();
    return loss;
  });
  assert(Number.isFinite(await loss.item()));
  const named = model.namedParameters();
  const grads = await readAll(named.map(([, p]) => p.grad!));
  const still = named.filter((_, i) => grads[i]!.every((v) => v === 0)).map(([name]) => name);
  // A block whose last factor is 0 passes nothing to what lies before it.
  const before = /layer\d\.\d\.(conv[12]|bn1)\./;
  assertEquals(still.filter((name) => !before.test(name)), []);
  assert(still.length > 0);
});

Deno.test("resnet18 takes another normalisation", () => {
  using model = resnet18({
    numClasses: 2,
    norm: (channels) => new nn.SplitBatchNorm2d(channels, { numSplits: 2 }),
  });
  assert(model.bn1 instanceof nn.SplitBatchNorm2d);
  const layers = model.modules().filter((m) => m instanceof nn.BatchNorm2d);
  assertEquals(layers.length, 20);
  assert(layers.every((m) => m instanceof nn.SplitBatchNorm2d));
});
