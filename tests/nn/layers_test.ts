import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  init,
  manualSeed,
  memory,
  nn,
  ones,
  randn,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { assertClose } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

/** Numbers in [-1, 1) that f32 holds exactly. */
function numbers(name: string, count: number): number[] {
  const draw = new Draw(name);
  return Array.from({ length: count }, () => Math.fround(2 * draw.uniform() - 1));
}

/** Overwrites a module's parameters with drawn numbers and gives them back, parameter by parameter. */
function setParameters(module: nn.Module, name: string): number[][] {
  return module.namedParameters().map(([path, p]) => {
    const values = numbers(`${name} ${path}`, p.size);
    using fresh = tensor(values, { shape: p.shape });
    module.loadStateDict({ [path]: fresh }, { strict: false });
    return values;
  });
}

Deno.test("Linear computes x · Wᵀ + b", async () => {
  using layer = new nn.Linear(3, 2);
  const [w, b] = setParameters(layer, "linear") as [number[], number[]];
  const x = numbers("linear x", 12);
  using input = tensor(x, { shape: [2, 2, 3] });
  using y = layer.forward(input);
  assertEquals(y.shape, [2, 2, 2]);
  const want = Array.from({ length: 8 }, (_, i) => {
    const [row, out] = [Math.floor(i / 2), i % 2];
    return b[out]! + [0, 1, 2].reduce((s, k) => s + x[row * 3 + k]! * w[out * 3 + k]!, 0);
  });
  // Four terms of size at most 1: 3 products and 4 sums, each rounded once.
  assertClose(await y.data(), want, { atol: 7 * 4 * U });
});

Deno.test("Linear without bias has none", async () => {
  using layer = new nn.Linear(1, 1, { bias: false });
  layer.weight.requiresGrad_(false).fill_(3);
  using x = tensor([[2]]);
  using y = layer.forward(x);
  assertEquals(await y.item(), 6);
  assertEquals(Object.keys(layer.stateDict()), ["weight"]);
  assertEquals(`${layer}`, "Linear(in_features=1, out_features=1, bias=False)");
});

/** Cross-correlation in float64. */
function convReference(
  x: { data: number[]; C: number; H: number; W: number },
  w: { data: number[]; O: number; CG: number; KH: number; KW: number },
  options: {
    bias: number[];
    stride: [number, number];
    padding: [number, number];
    dilation: [number, number];
  },
): number[] {
  const { C, H, W } = x;
  const { O, CG, KH, KW } = w;
  const { stride, padding, dilation } = options;
  const OH = Math.floor((H + 2 * padding[0] - dilation[0] * (KH - 1) - 1) / stride[0]) + 1;
  const OW = Math.floor((W + 2 * padding[1] - dilation[1] * (KW - 1) - 1) / stride[1]) + 1;
  const y: number[] = [];
  for (let o = 0; o < O; o++) {
    const group = Math.floor(o / (O / (C / CG)));
    for (let i = 0; i < OH; i++) {
      for (let j = 0; j < OW; j++) {
        let sum = options.bias[o] ?? 0;
        for (let c = 0; c < CG; c++) {
          for (let a = 0; a < KH; a++) {
            for (let b = 0; b < KW; b++) {
              const h = i * stride[0] - padding[0] + a * dilation[0];
              const v = j * stride[1] - padding[1] + b * dilation[1];
              if (h < 0 || h >= H || v < 0 || v >= W) continue;
              sum += x.data[((group * CG + c) * H + h) * W + v]! *
                w.data[((o * CG + c) * KH + a) * KW + b]!;
            }
          }
        }
        y.push(sum);
      }
    }
  }
  return y;
}

Deno.test("Conv2d passes every option on", async () => {
  using layer = new nn.Conv2d(4, 6, {
    kernelSize: [3, 2],
    stride: [2, 1],
    padding: [1, 2],
    dilation: [1, 2],
    groups: 2,
  });
  const [w, b] = setParameters(layer, "conv") as [number[], number[]];
  const x = numbers("conv x", 4 * 7 * 5);
  using input = tensor(x, { shape: [1, 4, 7, 5] });
  using y = layer.forward(input);
  assertEquals(y.shape, [1, 6, 4, 7]);
  const want = convReference(
    { data: x, C: 4, H: 7, W: 5 },
    { data: w, O: 6, CG: 2, KH: 3, KW: 2 },
    { bias: b, stride: [2, 1], padding: [1, 2], dilation: [1, 2] },
  );
  // 13 terms of size at most 1: 12 products and 13 sums of up to 13, each rounded once.
  assertClose(await y.data(), want, { atol: 25 * 13 * U });
  assertEquals(
    `${layer}`,
    "Conv2d(4, 6, kernel_size=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)",
  );
});

Deno.test("pooling layers give the hand-computed windows", async () => {
  const x = tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]);
  const cases: [nn.Layer, number[], number[]][] = [
    [new nn.MaxPool2d(2, { stride: 1 }), [1, 1, 2, 2], [5, 6, 8, 9]],
    [new nn.MaxPool2d(2), [1, 1, 1, 1], [5]],
    [new nn.MaxPool2d(2, { ceilMode: true }), [1, 1, 2, 2], [5, 6, 8, 9]],
    [new nn.MaxPool2d(3, { stride: 2, padding: 1 }), [1, 1, 2, 2], [5, 6, 8, 9]],
    [new nn.MaxPool2d([2, 1], { dilation: [2, 1], stride: 1 }), [1, 1, 1, 3], [7, 8, 9]],
    [new nn.AvgPool2d(2, { stride: 1 }), [1, 1, 2, 2], [3, 4, 6, 7]],
    [new nn.AvgPool2d(2, { stride: 2, padding: 1 }), [1, 1, 2, 2], [0.25, 1.25, 2.75, 7]],
    [
      new nn.AvgPool2d(2, { stride: 2, padding: 1, countIncludePad: false }),
      [1, 1, 2, 2],
      [1, 2.5, 5.5, 7],
    ],
    [new nn.AdaptiveAvgPool2d([1, 3]), [1, 1, 1, 3], [4, 5, 6]],
    [new nn.AdaptiveAvgPool2d(2), [1, 1, 2, 2], [3, 4, 6, 7]],
  ];
  const outputs = cases.map(([layer]) => layer.forward(x));
  const data = await readAll(outputs);
  cases.forEach(([layer, shape, want], i) => {
    assertEquals(outputs[i]!.shape, shape, `${layer}`);
    assertClose(data[i]!, want, { rtol: 4 * U, what: `${layer}` });
    outputs[i]!.dispose();
  });
  x.dispose();
});

Deno.test("activation layers compute what their methods do", async () => {
  const values = [-2, -0.5, 0, 0.5, 3];
  using x = tensor([values]);
  const total = values.reduce((sum, v) => sum + Math.exp(v), 0);
  const cases: [nn.Layer, (v: number) => number][] = [
    [new nn.ReLU(), (v) => Math.max(v, 0)],
    [new nn.Sigmoid(), (v) => 1 / (1 + Math.exp(-v))],
    [new nn.Tanh(), Math.tanh],
    [new nn.LeakyReLU(), (v) => v > 0 ? v : 0.01 * v],
    [new nn.LeakyReLU(0.5), (v) => v > 0 ? v : 0.5 * v],
    [new nn.Softmax(1), (v) => Math.exp(v) / total],
    [new nn.LogSoftmax(-1), (v) => v - Math.log(total)],
    [new nn.Identity(), (v) => v],
  ];
  const outputs = cases.map(([layer]) => layer.forward(x));
  const data = await readAll(outputs);
  // Functions built on exp and log: WGSL allows exp 3 + 2 |x| ulp (an ulp is 2 U), here 9 ulp.
  cases.forEach(([layer, f], i) => {
    assertClose(data[i]!, values.map(f), { rtol: 32 * U, atol: 32 * U, what: `${layer}` });
  });
  assertEquals(cases.map(([layer]) => `${layer}`), [
    "ReLU()",
    "Sigmoid()",
    "Tanh()",
    "LeakyReLU(negative_slope=0.01)",
    "LeakyReLU(negative_slope=0.5)",
    "Softmax(dim=1)",
    "LogSoftmax(dim=-1)",
    "Identity()",
  ]);
  for (const y of outputs) y.dispose();
});

Deno.test("Softmax2d is the softmax over channels, of a batch and of one image", async () => {
  using x = randn([2, 3, 4, 5]);
  using over = x.softmax(1);
  const layer = new nn.Softmax2d();
  using batch = layer.forward(x);
  using one = scope(() => layer.forward(x.select(0, 1)));
  const [want, got, last] = await readAll([over, batch, one]);
  assertEquals(got, want);
  assertEquals([...last!], [...want!].slice(60));
  assertEquals(`${layer}`, "Softmax2d()");
  using row = ones([2, 3]);
  const right = "Cannot Softmax2d [2, 3]: it must be [N, C, H, W] or [C, H, W]";
  assertThrows(() => layer.forward(row), TypeError, right);
});

Deno.test("Flatten joins the dimensions it names", () => {
  using x = ones([2, 3, 4, 5]);
  using all = new nn.Flatten().forward(x);
  using some = new nn.Flatten({ startDim: 0, endDim: 1 }).forward(x);
  assertEquals([all.shape, some.shape], [[2, 60], [6, 4, 5]]);
});

Deno.test("Dropout zeroes a share p while training and nothing in evaluation", async () => {
  manualSeed(11);
  const layer = new nn.Dropout(0.25);
  const n = 20_000;
  using x = ones([n]);
  x.requiresGrad_();
  using y = layer.forward(x);
  using seed = ones([n]);
  y.backward(seed);
  const [out, grad] = await readAll([y, x.grad!]);
  const zeros = out!.filter((v) => v === 0).length;
  // Binomial with n p (1 - p) = 61.2²: five deviations.
  assert(Math.abs(zeros - n * 0.25) < 5 * Math.sqrt(n * 0.25 * 0.75), `${zeros} zeros of ${n}`);
  const kept = out!.find((v) => v !== 0)!;
  assertClose([kept], [1 / 0.75], { rtol: 2 * U });
  assert(out!.every((v) => v === 0 || v === kept));
  assertEquals(grad, out);

  assertStrictEquals(layer.eval().forward(x), x);
  assertStrictEquals(new nn.Dropout(0).forward(x), x);
  using gone = new nn.Dropout(1).forward(x);
  assert((await gone.data()).every((v) => v === 0));
  assertEquals(`${layer}`, "Dropout(p=0.25, inplace=False)");
});

Deno.test("Linear and Conv2d start uniform in ±1 / √fanIn, alike for a seed", async () => {
  const make = () => {
    manualSeed(5);
    return [
      new nn.Linear(100, 200),
      new nn.Conv2d(8, 300, { kernelSize: 5, groups: 2 }),
    ];
  };
  const [first, again] = [make(), make()];
  const bounds = [1 / Math.sqrt(100), 1 / Math.sqrt(4 * 25)];
  for (const [i, layer] of first.entries()) {
    const names = layer.namedParameters().map(([name]) => name);
    assertEquals(names, ["weight", "bias"]);
    const data = await readAll([...layer.parameters(), ...again[i]!.parameters()]);
    assertEquals(data.slice(0, 2), data.slice(2));
    for (const [p, values] of data.slice(0, 2).entries()) {
      const largest = Float64Array.from(values).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      // n draws all below 1 - 20 / n have a chance of e^-20.
      assert(largest <= bounds[i]! * (1 + U), `${names[p]} of ${layer} reaches ${largest}`);
      assert(largest > bounds[i]! * (1 - 20 / values.length), `${names[p]} reaches ${largest}`);
    }
  }
  for (const layer of [...first, ...again]) layer.dispose();
});

Deno.test("layers name the option that is out of range", () => {
  assertThrows(() => new nn.Linear(0, 1), RangeError, "Linear with inFeatures 0");
  assertThrows(() => new nn.Linear(1, 1.5), RangeError, "outFeatures 1.5");
  const conv = (options: Partial<nn.Conv2dOptions>) => () =>
    new nn.Conv2d(4, 6, { kernelSize: 3, ...options });
  assertThrows(conv({ kernelSize: [3, 0] }), RangeError, "Conv2d with kernelSize 0");
  assertThrows(conv({ stride: 0 }), RangeError, "stride 0");
  assertThrows(conv({ padding: -1 }), RangeError, "padding -1");
  assertThrows(conv({ dilation: 0 }), RangeError, "dilation 0");
  assertThrows(conv({ groups: 4 }), RangeError, "4 to 6 channels in 4 groups");
  assertThrows(() => new nn.MaxPool2d(0), RangeError, "MaxPool2d with kernelSize 0");
  assertThrows(() => new nn.AdaptiveAvgPool2d([1, 0.5]), RangeError, "outputSize 0.5");
  assertThrows(() => new nn.Dropout(1.1), RangeError, "Dropout with p 1.1");
});

/** A small network in float64: conv 3x3 (2 channels), tanh, max pool 2, linear; sum of squares. */
function netReference(x: number[], parameters: readonly number[][]): number {
  const [w, b, v, c] = parameters as [number[], number[], number[], number[]];
  let loss = 0;
  for (let n = 0; n < 2; n++) {
    const image = { data: x.slice(n * 36, (n + 1) * 36), C: 1, H: 6, W: 6 };
    const h = convReference(image, { data: w, O: 2, CG: 1, KH: 3, KW: 3 }, {
      bias: b,
      stride: [1, 1],
      padding: [0, 0],
      dilation: [1, 1],
    }).map(Math.tanh);
    const pooled = Array.from({ length: 8 }, (_, i) => {
      const [o, r, s] = [Math.floor(i / 4), Math.floor(i / 2) % 2, i % 2];
      const at = (a: number, b: number) => h[o * 16 + (2 * r + a) * 4 + 2 * s + b]!;
      return Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
    });
    for (let o = 0; o < 3; o++) {
      const y = c[o]! + pooled.reduce((sum, p, i) => sum + p * v[o * 8 + i]!, 0);
      loss += y * y;
    }
  }
  return loss;
}

Deno.test("gradients flow through a Sequential to every parameter", async () => {
  using net = new nn.Sequential(
    new nn.Conv2d(1, 2, { kernelSize: 3 }),
    new nn.Tanh(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(8, 3),
  );
  const parameters = setParameters(net, "net");
  const x = numbers("net x", 72);
  const loss = scope(() => {
    const loss = net.forward(tensor(x, { shape: [2, 1, 6, 6] })).square().sum();
    loss.backward();
    return loss;
  });
  const [value, ...grads] = await readAll([loss, ...net.parameters().map((p) => p.grad!)]);
  const reference = netReference(x, parameters);
  // About 100 rounded operations on each path, in proportion to the largest number they add to.
  const tolerance = 100 * U;
  assertClose(value!, [reference], { rtol: tolerance });
  const step = 1e-5; // its own error is step² · f‴ / 6, about 1e-10
  for (const [p, values] of parameters.entries()) {
    const differences = values.map((at, i) => {
      const moved = (by: number) =>
        netReference(x, parameters.map((q, k) => k === p ? q.with(i, at + by) : q));
      return (moved(step) - moved(-step)) / (2 * step);
    });
    const largest = Math.max(...differences.map(Math.abs));
    assert(largest > 0.1);
    assertClose(grads[p]!, differences, { atol: tolerance * largest, what: `gradient ${p}` });
  }
  loss.dispose();
});

Deno.test("a forward and backward pass in a scope leaves only gradients behind", async () => {
  using net = new nn.Sequential(
    new nn.Conv2d(1, 4, { kernelSize: 3 }),
    new nn.ReLU(),
    new nn.Dropout(),
    new nn.AdaptiveAvgPool2d(1),
    new nn.Flatten(),
    new nn.Linear(4, 2),
  );
  using x = randn([2, 1, 8, 8]);
  const pass = () => scope(() => net.forward(x).square().mean().backward());
  pass();
  const live = memory().liveBytes;
  for (let i = 0; i < 10; i++) {
    net.zeroGrad();
    pass();
  }
  await synchronize();
  assertNothingLeft(live);
  const before = memory().liveBytes;
  scope((): Tensor => net.forward(x)).dispose();
  assertNothingLeft(before);
});
