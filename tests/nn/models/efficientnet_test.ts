import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  batchNorm,
  conv2d,
  crossEntropy,
  init,
  manualSeed,
  nn,
  randn,
  readAll,
  samePadding,
  scope,
  type Tensor,
  tensor,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

await init();

const { efficientnetB0 } = nn.models;

/** Number of learned numbers. */
function count(model: nn.Module): number {
  return model.parameters().reduce((n, p) => n + p.size, 0);
}

Deno.test("efficientnetB0() has 5,288,548 parameters, and 4,345,732 for 264 classes", () => {
  using model = efficientnetB0();
  assertEquals(count(model), 5_288_548);
  using birds = efficientnetB0({ numClasses: 264 });
  assertEquals(count(birds), 4_345_732);
});

Deno.test("efficientnetB0() has timm's names", () => {
  using model = efficientnetB0({ numClasses: 2 });
  const shapes = model.namedParameters().map(([name, p]) => `${name} ${p.shape}`);
  const norm = (name: string, channels: number) => [
    `${name}.weight ${channels}`,
    `${name}.bias ${channels}`,
  ];
  assertEquals(shapes.filter((s) => /^(conv_stem|bn1|blocks\.0\.)/.test(s)), [
    "conv_stem.weight 32,3,3,3",
    ...norm("bn1", 32),
    "blocks.0.0.conv_dw.weight 32,1,3,3",
    ...norm("blocks.0.0.bn1", 32),
    "blocks.0.0.se.conv_reduce.weight 8,32,1,1",
    "blocks.0.0.se.conv_reduce.bias 8",
    "blocks.0.0.se.conv_expand.weight 32,8,1,1",
    "blocks.0.0.se.conv_expand.bias 32",
    "blocks.0.0.conv_pw.weight 16,32,1,1",
    ...norm("blocks.0.0.bn2", 16),
  ]);
  assertEquals(shapes.filter((s) => s.startsWith("blocks.5.0.")), [
    "blocks.5.0.conv_pw.weight 672,112,1,1",
    ...norm("blocks.5.0.bn1", 672),
    "blocks.5.0.conv_dw.weight 672,1,5,5",
    ...norm("blocks.5.0.bn2", 672),
    "blocks.5.0.se.conv_reduce.weight 28,672,1,1",
    "blocks.5.0.se.conv_reduce.bias 28",
    "blocks.5.0.se.conv_expand.weight 672,28,1,1",
    "blocks.5.0.se.conv_expand.bias 672",
    "blocks.5.0.conv_pwl.weight 192,672,1,1",
    ...norm("blocks.5.0.bn3", 192),
  ]);
  assertEquals(shapes.slice(-5), [
    "conv_head.weight 1280,320,1,1",
    ...norm("bn2", 1280),
    "classifier.weight 2,1280",
    "classifier.bias 2",
  ]);
  const { blocks } = model;
  assertEquals([...blocks].map((stage) => stage.children().length), [1, 2, 2, 3, 3, 4, 1]);
  assertEquals(
    `${(blocks[1]![0 as never] as nn.models.InvertedResidual).conv_dw}`,
    "Conv2dSame(96, 96, kernel_size=(3, 3), stride=(2, 2), groups=96, bias=False)",
  );
});

/** timm's network from its state alone, in evaluation; strides from the published table. */
function functional(s: Record<string, Tensor>, x: Tensor): Tensor {
  const norm = (name: string, y: Tensor) =>
    batchNorm(y, {
      weight: s[`${name}.weight`],
      bias: s[`${name}.bias`],
      runningMean: s[`${name}.running_mean`],
      runningVar: s[`${name}.running_var`],
      eps: 1e-3,
    });
  const conv = (name: string, y: Tensor, stride = 1) => {
    const w = s[`${name}.weight`]!;
    const [top, bottom] = samePadding(y.shape[2]!, { kernel: w.shape[2]!, stride });
    const [left, right] = samePadding(y.shape[3]!, { kernel: w.shape[3]!, stride });
    const groups = y.shape[1]! / w.shape[1]!;
    const padding = { top, bottom, left, right };
    return conv2d(y, w, { stride, padding, groups, bias: s[`${name}.bias`] });
  };
  const silu = (y: Tensor) => y.mul(y.sigmoid());
  const squeeze = (name: string, y: Tensor) => {
    const means = y.mean(3, { keepdim: true }).mean(2, { keepdim: true });
    const small = silu(conv(`${name}.conv_reduce`, means));
    return y.mul(conv(`${name}.conv_expand`, small).sigmoid());
  };
  let y = silu(norm("bn1", conv("conv_stem", x, 2)));
  [1, 2, 2, 2, 1, 2, 1].forEach((first, stage) => {
    for (let i = 0; s[`blocks.${stage}.${i}.conv_dw.weight`]; i++) {
      const at = `blocks.${stage}.${i}`;
      const stride = i === 0 ? first : 1;
      const into = y;
      if (stage === 0) {
        y = squeeze(`${at}.se`, silu(norm(`${at}.bn1`, conv(`${at}.conv_dw`, y, stride))));
        y = norm(`${at}.bn2`, conv(`${at}.conv_pw`, y));
      } else {
        y = silu(norm(`${at}.bn1`, conv(`${at}.conv_pw`, y)));
        y = squeeze(`${at}.se`, silu(norm(`${at}.bn2`, conv(`${at}.conv_dw`, y, stride))));
        y = norm(`${at}.bn3`, conv(`${at}.conv_pwl`, y));
      }
      if (i > 0) y = y.add(into);
    }
  });
  y = silu(norm("bn2", conv("conv_head", y)));
  return y.mean([2, 3]).linear(s["classifier.weight"]!, s["classifier.bias"]);
}

Deno.test("efficientnetB0() computes what its state says", async () => {
  manualSeed(4);
  using model = efficientnetB0({ numClasses: 4 }).eval();
  using x = randn([1, 3, 50, 33]);
  const [y, want] = scope(() => [model.forward(x), functional(model.stateDict(), x)] as const);
  const [a, b] = await readAll([y, want]);
  assert(a!.some((v) => v !== 0));
  // Means and silu in another order, through 49 layers that keep the size of numbers.
  assertClose(a!, b!, { atol: 2 ** -17 * Math.max(...[...b!].map(Math.abs)) });
});

Deno.test("efficientnetB0() gives every parameter a gradient and drops in training only", async () => {
  manualSeed(1);
  using model = efficientnetB0({ numClasses: 3, inChannels: 1, dropPathRate: 0.2 });
  const rates = model.modules().filter((m) => m instanceof nn.DropPath).map((m) => m.p);
  // Blocks 2, 4, 6, 7, 9, 10, 12, 13 and 14 of 16 have a shortcut.
  assertClose(rates, [2, 4, 6, 7, 9, 10, 12, 13, 14].map((i) => 0.2 * i / 16), { atol: 1e-15 });
  using loss = scope(() => {
    const target = tensor([0, 2, 1, 1], { dtype: "i32" });
    const loss = crossEntropy(model.forward(randn([4, 1, 33, 32])), target);
    loss.backward();
    return loss;
  });
  assert(Number.isFinite(await loss.item()));
  const named = model.namedParameters();
  const grads = await readAll(named.map(([, p]) => p.grad!));
  assertEquals(named.filter((_, i) => grads[i]!.every((v) => v === 0)).map(([name]) => name), []);
  model.eval();
  using x = randn([1, 1, 32, 32]);
  const [a, b] = await readAll(scope(() => [model.forward(x), model.forward(x)]));
  assertEquals(a, b);
  assertThrows(() => efficientnetB0({ dropPathRate: 2 }), RangeError, "DropPath with p");
});
