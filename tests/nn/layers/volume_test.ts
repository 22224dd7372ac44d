/** Convolutions and pools of volumes, against sums and extremes over windows in float64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adaptiveAvgPool3d,
  adaptiveMaxPool3d,
  autocast,
  avgPool3d,
  capture,
  conv3d,
  convTranspose3d,
  crossEntropy,
  grad,
  gradcheck,
  gradgradcheck,
  init,
  manualSeed,
  maxPool3d,
  nn,
  ones,
  randn,
  readAll,
  scope,
  type Tensor,
  tensor,
  type Triple,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { drawn, each, numbers, U } from "../../helpers/numbers.ts";

const { features } = await init();

type Three = [number, number, number];

interface Options {
  stride?: Three;
  padding?: Three;
  dilation?: Three;
  groups?: number;
}

const CASES: [Three, Options][] = [
  [[3, 2, 1], {}],
  [[1, 3, 2], { stride: [2, 1, 2] }],
  [[3, 3, 2], { padding: [1, 0, 2], groups: 2 }],
  [[2, 3, 3], { padding: [2, 1, 1], stride: [3, 2, 1], dilation: [2, 1, 2] }],
  [[2, 1, 2], { dilation: [3, 1, 2], groups: 2, stride: [1, 2, 3] }],
];

const [N, C, O] = [2, 4, 6];
const SIZES: Three = [5, 4, 6];

const at = (values: number[], shape: readonly number[], place: readonly number[]) =>
  place.some((p, d) => p < 0 || p >= shape[d]!)
    ? 0
    : values[shape.reduce((i, s, d) => i * s + place[d]!, 0)]!;

/** A layer that takes a tensor. */
type Layer = nn.Module & { forward(x: Tensor): Tensor };

/** Places of a window. */
const places = (size: Three) => Array.from(each(size, (...p) => p as never)) as unknown as Three[];

/** Every output is a weighted window of the input. */
function reference(
  { x, w, b }: Record<"x" | "w" | "b", number[]>,
  window: Three,
  options: Options,
): { y: number[]; shape: number[] } {
  const { stride = [1, 1, 1], padding = [0, 0, 0], dilation = [1, 1, 1], groups = 1 } = options;
  const outer = SIZES.map((s, d) =>
    Math.floor((s + 2 * padding[d]! - dilation[d]! * (window[d]! - 1) - 1) / stride[d]!) + 1
  );
  const CG = C / groups, OG = O / groups, shape = [N, O, ...outer];
  const taps = places(window);
  const y = each(shape, (n, o, ...to) => {
    let sum = b[o]!;
    for (let c = 0; c < CG; c++) {
      for (const tap of taps) {
        const from = to.map((t, d) => t * stride[d]! - padding[d]! + tap[d]! * dilation[d]!);
        const value = at(x, [N, C, ...SIZES], [n, Math.floor(o / OG) * CG + c, ...from]);
        sum += value * at(w, [O, CG, ...window], [o, c, ...tap]);
      }
    }
    return sum;
  });
  return { y, shape };
}

Deno.test("conv3d and Conv3d give the float64 sums", async () => {
  for (const [kernelSize, options] of CASES) {
    const what = JSON.stringify({ kernelSize, ...options });
    const shape = [O, C / (options.groups ?? 1), ...kernelSize];
    const terms = shape.slice(1).reduce((n, s) => n * s, 1);
    const values = {
      x: numbers("x", N * C * 120),
      w: numbers("w", O * terms),
      b: numbers("b", O),
    };
    const { y: want, shape: out } = reference(values, kernelSize, options);
    using x = tensor(values.x, { shape: [N, C, ...SIZES] });
    using weight = tensor(values.w, { shape });
    using bias = tensor(values.b);
    using layer = new nn.Conv3d(C, O, { kernelSize, ...options });
    assertEquals(layer.weight.shape, weight.shape);
    layer.loadStateDict({ weight, bias });
    using y = layer.forward(x);
    using same = conv3d(x, weight, { bias, ...options });
    assertEquals([y.shape, same.shape], [out, out], what);
    const [got, again] = await readAll([y, same]);
    // Products and a bias, of size 1 each: a rounding of each product, and of each sum.
    assertClose(got!, want, { atol: (terms + terms * (terms + 1)) * U, what });
    assertEquals(again, got, what);
  }
});

Deno.test("padding same keeps the size, the odd zero behind, and valid is none", async () => {
  const [x, w] = [drawn("x", [1, 2, 5, 4, 6]), drawn("w", [3, 2, 2, 3, 4])];
  const same = conv3d(x, w, { padding: "same", dilation: [2, 1, 1] });
  const padded = x.pad([1, 2, 1, 1, 1, 1]);
  const [got, want] = await readAll([same, conv3d(padded, w, { dilation: [2, 1, 1] })]);
  assertEquals(same.shape, [1, 3, 5, 4, 6]);
  // The same products in an order of their own.
  assertClose(got!, want!, { atol: 2 * 48 * 49 * U });
  assertEquals(conv3d(x, w, { padding: "valid" }).shape, [1, 3, 4, 2, 3]);
  const layer = new nn.Conv3d(2, 3, { kernelSize: [2, 3, 4], padding: "same" });
  assertEquals(layer.forward(x).shape, [1, 3, 5, 4, 6]);
});

Deno.test("convTranspose3d is the gradient of conv3d by its input", async () => {
  for (const [kernelSize, options] of CASES) {
    const { stride = [1, 1, 1], padding = [0, 0, 0], dilation = [1, 1, 1], groups = 1 } = options;
    const w = drawn("w", [O, C / groups, ...kernelSize]);
    const x = drawn("x", [N, C, ...SIZES]).requiresGrad_();
    const y = conv3d(x, w, options), u = drawn("u", y.shape);
    const [want] = grad(y.mul(u).sum(), x);
    // What the steps left over at the end.
    const outputPadding = SIZES.map((s, d) =>
      (s + 2 * padding[d]! - dilation[d]! * (kernelSize[d]! - 1) - 1) % stride[d]!
    ) as Three;
    const layer = new nn.ConvTranspose3d(O, C, { kernelSize, ...options, outputPadding });
    const bias = drawn("b", [C]);
    layer.loadStateDict({ weight: w, bias });
    const got = layer.forward(u);
    assertEquals(got.shape, x.shape);
    const plain = convTranspose3d(u, w, { ...options, outputPadding });
    const [a, b, c] = await readAll([got, want!, plain]);
    const terms = O * kernelSize.reduce((n, s) => n * s, 1);
    const what = JSON.stringify({ kernelSize, ...options });
    // Both are sums of the same products, of size 1.
    assertClose(c!, b!, { atol: 2 * terms * (terms + 1) * U, what });
    const shifted = await want!.add(bias.reshape(C, 1, 1, 1)).data();
    assertClose(a!, shifted, { atol: 2 * (terms + 1) * (terms + 2) * U, what });
  }
});

Deno.test("convolutions of volumes have the gradients of central differences, and those have theirs", async () => {
  const leaf = (name: string, shape: number[]) => drawn(name, shape).requiresGrad_();
  const options = { stride: [2, 1, 2], dilation: [1, 2, 1], groups: 2 } as const;
  const forward = (x: Tensor, w: Tensor, bias: Tensor) =>
    conv3d(x, w, { ...options, bias, padding: [1, 0, 1] });
  const transposed = (x: Tensor, w: Tensor, bias: Tensor) =>
    convTranspose3d(x, w, { ...options, bias, padding: [1, 0, 1], outputPadding: [0, 1, 1] });
  for (const check of [gradcheck, gradgradcheck]) {
    await check(
      (x, w, b) => forward(x!, w!, b!),
      [leaf("x", [1, 2, 3, 3, 2]), leaf("w", [2, 1, 2, 2, 2]), leaf("b", [2])],
    );
    await check(
      (x, w, b) => transposed(x!, w!, b!),
      [leaf("x", [1, 2, 2, 2, 2]), leaf("w", [2, 1, 2, 2, 2]), leaf("b", [2])],
    );
  }
});

Deno.test({
  name: "convolutions of volumes run in f16 under autocast",
  ignore: !features.has("shader-f16"),
  async fn() {
    const [x, w, b] = [drawn("x", [1, 2, 3, 4, 4]), drawn("w", [4, 2, 2, 2, 2]), drawn("b", [4])];
    const t = drawn("t", [2, 4, 2, 2, 2]);
    for (const f of [() => conv3d(x, w, { bias: b }), () => convTranspose3d(x, t, { bias: b })]) {
      const [half, full] = [autocast({ dtype: "f16" }, f), f()];
      assertEquals(half.dtype, "f16");
      // Up to 16 products of size 1 and a bias: each input, the sum and the result rounded to f16.
      assertClose(await half.to("f32").data(), await full.data(), { atol: 17 * 4 * 2 ** -11 });
    }
  },
});

interface PoolCase {
  kernel: Three;
  stride?: Three;
  padding?: Three;
  dilation?: Three;
  ceilMode?: boolean;
}

const POOLS: PoolCase[] = [
  { kernel: [2, 2, 2] },
  { kernel: [1, 3, 2], stride: [2, 1, 1] },
  { kernel: [3, 2, 3], stride: [2, 2, 3], padding: [1, 1, 1] },
  { kernel: [2, 3, 2], stride: [2, 2, 4], padding: [1, 0, 1], ceilMode: true },
  { kernel: [2, 2, 3], dilation: [3, 1, 2], stride: [1, 1, 1] },
];

/** For each output the values of its window and how many of it, with padding, there are. */
function windowsOf(
  x: number[],
  { kernel, stride = kernel, padding = [0, 0, 0], dilation = [1, 1, 1], ceilMode }: PoolCase,
  of: (values: number[], padded: number) => number,
): number[] {
  const outer = SIZES.map((s, d) => {
    const room = s + 2 * padding[d]! - dilation[d]! * (kernel[d]! - 1) - 1;
    const count = (ceilMode ? Math.ceil : Math.floor)(room / stride[d]!) + 1;
    // A window must begin in the volume or the padding before it.
    return (count - 1) * stride[d]! >= s + padding[d]! ? count - 1 : count;
  });
  return each([3, ...outer], (n, ...to) => {
    const inside: number[] = [];
    let padded = 0;
    for (const tap of places(kernel)) {
      const from = to.map((t, d) => t * stride[d]! - padding[d]! + tap[d]! * dilation[d]!);
      if (from.every((p, d) => p < SIZES[d]! + padding[d]!)) padded++;
      if (from.every((p, d) => p >= 0 && p < SIZES[d]!)) {
        inside.push(at(x, [3, ...SIZES], [n, ...from]));
      }
    }
    return of(inside, padded);
  });
}

const sum = (values: number[]) => values.reduce((total, v) => total + v, 0);

Deno.test("pools of volumes give the largest and the mean of each window", async () => {
  const values = numbers("x", 3 * 120);
  const x = tensor(values, { shape: [1, 3, ...SIZES] });
  for (const pool of POOLS) {
    const { kernel, dilation, ...rest } = pool;
    const what = JSON.stringify(pool);
    const largest = windowsOf(values, pool, (v) => Math.max(...v));
    assertEquals(Array.from(await maxPool3d(x, kernel, { dilation, ...rest }).data()), largest);
    const layer = new nn.MaxPool3d(kernel, { dilation, ...rest });
    assertEquals(Array.from(await layer.forward(x).data()), largest, what);
    if (dilation) continue;
    for (const countIncludePad of [true, false]) {
      const mean = windowsOf(values, pool, (v, all) => sum(v) / (countIncludePad ? all : v.length));
      const options = { ...rest, countIncludePad };
      const got = await readAll([
        avgPool3d(x, kernel, options),
        new nn.AvgPool3d(kernel, options).forward(x),
      ]);
      // Two means, of up to 9 and 3 numbers of size 1.
      for (const y of got) assertClose(y, mean, { atol: 14 * U, what });
    }
  }
});

Deno.test("adaptive pools of volumes share them out", async () => {
  const values = numbers("x", 3 * 120), x = tensor(values, { shape: [1, 3, ...SIZES] });
  for (const size of [[2, 3, 4], [1, 1, 1], [5, 4, 6]] as const) {
    const parts = (of: (values: number[]) => number) =>
      each([3, ...size], (n, ...to) => {
        const spans = to.map((t, d) => {
          const [low, high] = [t * SIZES[d]! / size[d]!, (t + 1) * SIZES[d]! / size[d]!];
          return [Math.floor(low), Math.ceil(high) - Math.floor(low)] as const;
        });
        const taps = places(spans.map(([, count]) => count) as Three);
        return of(
          taps.map((tap) => at(values, [3, ...SIZES], [n, ...tap.map((p, d) => p + spans[d]![0])])),
        );
      });
    const mean = parts((v) => sum(v) / v.length), largest = parts((v) => Math.max(...v));
    const got = await readAll([
      adaptiveAvgPool3d(x, size),
      new nn.AdaptiveAvgPool3d(size).forward(x),
      adaptiveMaxPool3d(x, size),
      new nn.AdaptiveMaxPool3d(size).forward(x),
    ]);
    // Means of up to 24 and of up to 5 numbers of size 1.
    for (const y of got.slice(0, 2)) assertClose(y, mean, { atol: 31 * U });
    for (const y of got.slice(2)) assertEquals(Array.from(y), largest);
  }
});

Deno.test("of equal numbers in a window the first has the gradient, by depth, height and width", async () => {
  const x = ones([1, 1, 4, 2, 2], { requiresGrad: true });
  maxPool3d(x, 2).sum().backward();
  const want = Array(16).fill(0);
  want[0] = want[8] = 1;
  assertEquals(Array.from(await x.grad!.data()), want);
});

Deno.test("pools of volumes have the gradients of central differences", async () => {
  const x = () => tensor(numbers("y", 2 * 60), { shape: [2, 3, 4, 5], requiresGrad: true });
  const pools: ((x: Tensor) => Tensor)[] = [
    (x) => maxPool3d(x, [2, 2, 3], { stride: [1, 2, 1], padding: [1, 1, 0] }),
    (x) => avgPool3d(x, 2, { padding: 1, countIncludePad: false, ceilMode: true }),
    (x) => adaptiveAvgPool3d(x, [2, 3, 2]),
    (x) => adaptiveMaxPool3d(x, [2, 3, 2]),
  ];
  for (const pool of pools) await gradcheck((x) => pool(x!), [x()]);
});

Deno.test("norms, drops and pads of volumes do as those of images", async () => {
  const x = drawn("x", [2, 4, 2, 3, 4]), image = x.reshape(2, 4, 6, 4);
  const pairs: [Layer, Layer][] = [
    [new nn.BatchNorm3d(4), new nn.BatchNorm2d(4)],
    [new nn.InstanceNorm3d(4), new nn.InstanceNorm2d(4)],
  ];
  for (const [of3, of2] of pairs) {
    const [got, want] = [of3.forward(x), of2.forward(image)];
    assertEquals(got.shape, x.shape);
    assertEquals(await got.data(), await want.data());
  }
  const drop = new nn.Dropout3d(0.5);
  for (const shape of [[8, 4, 2, 3, 2], [32, 2, 3, 2]]) {
    const sums = await drop.forward(ones(shape)).sum([-3, -2, -1]).data();
    assert(sums.every((s) => s === 0 || s === 24) && new Set(sums).size === 2);
  }
  const row = tensor([[[1, 2, 3]]]), deep = row.reshape(1, 1, 3, 1, 1);
  const rows: [Layer, Layer, number[]][] = [
    [new nn.ZeroPad1d([1, -1]), new nn.ZeroPad3d([0, 0, 0, 0, 1, -1]), [0, 1, 2]],
    [new nn.ConstantPad1d(1, 5), new nn.ConstantPad3d([0, 0, 0, 0, 1, 1], 5), [5, 1, 2, 3, 5]],
    [new nn.ReflectionPad1d(2), new nn.ReflectionPad3d([0, 0, 0, 0, 2, 2]), [3, 2, 1, 2, 3, 2, 1]],
    [new nn.ReplicationPad1d([2, 0]), new nn.ReplicationPad3d([0, 0, 0, 0, 2, 0]), [1, 1, 1, 2, 3]],
    [new nn.CircularPad1d([0, 2]), new nn.CircularPad3d([0, 0, 0, 0, 0, 2]), [1, 2, 3, 1, 2]],
  ];
  for (const [of1, of3, want] of rows) {
    assertEquals(Array.from(await of1.forward(row).data()), want);
    const y = of3.forward(deep);
    assertEquals([y.shape, Array.from(await y.data())], [[1, 1, want.length, 1, 1], want]);
  }
});

Deno.test("a net of volumes learns, and a captured step gives the same bits", async () => {
  const runs: Float32Array[] = [];
  for (const captured of [false, true]) {
    manualSeed(5);
    const net = new nn.Sequential(
      new nn.Conv3d(1, 4, { kernelSize: 3, padding: 1 }),
      new nn.BatchNorm3d(4),
      new nn.ReLU(),
      new nn.MaxPool3d(2),
      new nn.ConvTranspose3d(4, 3, { kernelSize: [1, 2, 2], stride: [1, 2, 2] }),
      new nn.AdaptiveAvgPool3d(1),
      new nn.Flatten(),
    );
    const optimizer = new nn.optim.Adam(net.parameters(), { lr: 0.05 });
    const [x, ids] = [randn([6, 1, 4, 4, 4]), tensor([0, 1, 2, 2, 1, 0], { dtype: "i32" })];
    const train = () => {
      optimizer.zeroGrad();
      const loss = crossEntropy(net.forward(x), ids);
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
    const step = captured ? capture(train) : () => scope(train);
    const losses: number[] = [];
    for (let i = 0; i < 30; i++) losses.push(await step().item());
    assert(losses.at(-1)! < 0.5 * losses[0]!, `${losses}`);
    runs.push(Float32Array.from(losses));
  }
  assertEquals(runs[1], runs[0]);
});

Deno.test("layers of volumes print as PyTorch's", () => {
  const printed: [nn.Module, string][] = [
    [
      new nn.Conv3d(2, 4, { kernelSize: 3, padding: [1, 0, 1], groups: 2, bias: false }),
      "Conv3d(2, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 0, 1), groups=2, bias=False)",
    ],
    [
      new nn.Conv3d(2, 4, { kernelSize: [1, 2, 3], padding: "same", dilation: 2 }),
      "Conv3d(2, 4, kernel_size=(1, 2, 3), stride=(1, 1, 1), padding=same, dilation=(2, 2, 2))",
    ],
    [
      new nn.ConvTranspose3d(2, 4, { kernelSize: 2, stride: 2, outputPadding: 1 }),
      "ConvTranspose3d(2, 4, kernel_size=(2, 2, 2), stride=(2, 2, 2), output_padding=(1, 1, 1))",
    ],
    [
      new nn.MaxPool3d(2, { padding: [1, 0, 1] }),
      "MaxPool3d(kernel_size=2, stride=2, padding=(1, 0, 1), dilation=1, ceil_mode=False)",
    ],
    [new nn.AvgPool3d([1, 2, 2]), "AvgPool3d(kernel_size=(1, 2, 2), stride=(1, 2, 2), padding=0)"],
    [new nn.AdaptiveAvgPool3d([1, 2, 3]), "AdaptiveAvgPool3d(output_size=(1, 2, 3))"],
    [new nn.AdaptiveMaxPool3d(2), "AdaptiveMaxPool3d(output_size=2)"],
    [
      new nn.BatchNorm3d(3),
      "BatchNorm3d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)",
    ],
    [new nn.ZeroPad1d(1), "ZeroPad1d((1, 1))"],
    [new nn.ConstantPad3d(1, 2), "ConstantPad3d(padding=(1, 1, 1, 1, 1, 1), value=2)"],
  ];
  for (const [module, text] of printed) assertEquals(String(module), text);
});

Deno.test("wrong calls of volumes' functions and layers say what would be right", () => {
  const x = zeros([1, 4, 3, 3, 3]), w = zeros([2, 4, 2, 2, 2]);
  const two = [1, 2] as unknown as Triple;
  const calls: [() => unknown, new (...args: never[]) => Error, string][] = [
    [() => conv3d(zeros([4, 3, 3]), w), TypeError, "they must be [N, C, D, H, W] or [C, D, H, W]"],
    [() => conv3d(x, zeros([2, 3, 2, 2, 2])), TypeError, "[O, C / groups, KD, KH, KW]"],
    [() => conv3d(x, w, { groups: 2 }), TypeError, "in 2 groups"],
    [() => conv3d(x, w, { groups: 0 }), RangeError, "groups 0: it must be a whole number"],
    [() => conv3d(x, zeros([2, 4, 4, 1, 1])), RangeError, "the window does not fit"],
    [() => conv3d(x, w, { stride: two }), TypeError, "a number or [depth, height, width]"],
    [() => conv3d(x, w, { stride: 0 }), RangeError, "stride [0, 0, 0]"],
    [() => conv3d(x, w, { padding: -1 }), RangeError, "padding"],
    [
      () => conv3d(x, w, { padding: "same", stride: 2 }),
      RangeError,
      "the size stays with stride 1",
    ],
    [() => convTranspose3d(x, w), TypeError, "[C, O / groups, KD, KH, KW]"],
    [
      () => convTranspose3d(x, zeros([4, 2, 2, 2, 2]), { outputPadding: 1 }),
      RangeError,
      "it must be below the stride",
    ],
    [
      () => convTranspose3d(x, zeros([4, 2, 2, 2, 2]), { padding: [2, 0, 0] }),
      RangeError,
      "the output would be empty",
    ],
    [() => maxPool3d(zeros([3, 3, 3]), 2), TypeError, "[N, C, D, H, W] or [C, D, H, W]"],
    [() => avgPool3d(x, 2, { dilation: 2 }), TypeError, "only maxPool3d has it"],
    [() => adaptiveAvgPool3d(x, two), TypeError, "adaptiveAvgPool3d with size"],
    [
      () => new nn.Conv3d(3, 4, { kernelSize: 2, groups: 2 }),
      RangeError,
      "groups must divide both",
    ],
    [() => new nn.Conv3d(3, 4, { kernelSize: 0 }), RangeError, "make Conv3d with kernelSize 0"],
    [() => new nn.Conv3d(3, 4, 3 as never), TypeError, "new nn.Conv3d(3, 8, { kernelSize: 3 })"],
    [() => new nn.MaxPool3d(two), TypeError, "make MaxPool3d with kernelSize"],
    [
      () => new nn.ZeroPad3d([1, 2] as never),
      RangeError,
      "[left, right, top, bottom, front, back]",
    ],
    [() => new nn.BatchNorm3d(4).forward(zeros([1, 4, 3, 3])), TypeError, "[N, C, D, H, W]"],
    [() => new nn.InstanceNorm3d(4).forward(zeros([2, 3, 3])), TypeError, "[C, D, H, W]"],
  ];
  for (const [call, kind, message] of calls) {
    const error = assertThrows(call, Error);
    assert(error instanceof kind && error.message.includes(message), `${error}`);
  }
});
