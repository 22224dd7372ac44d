import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  batchNorm,
  debug,
  init,
  instanceNorm,
  layerNorm,
  memory,
  nn,
  normalize,
  randn,
  readAll,
  scope,
  setDebug,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { Draw } from "../../helpers/draw.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

/** Numbers in [-1, 1) that f32 holds exactly. */
function numbers(name: string, count: number): number[] {
  const draw = new Draw(name);
  return Array.from({ length: count }, () => Math.fround(2 * draw.uniform() - 1));
}

/** Mean and biased variance in float64. */
function moments(values: readonly number[]): { mean: number; variance: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, variance: values.reduce((n, v) => n + (v - mean) ** 2, 0) / values.length };
}

/** Values of channel c of [N, C, S]. */
function channel(x: readonly number[], c: number, { C, S }: { C: number; S: number }): number[] {
  return x.filter((_, i) => Math.floor(i / S) % C === c);
}

// Values are of size 1, variances of 1/3: a normalised value of at most 2 passes through a sum of
// `count` terms, a root, and four more operations.
const tolerance = (count: number) => ({ atol: 2 * (Math.sqrt(count) + 8) * 8 * U });

Deno.test("BatchNorm2d normalises by the batch and moves its running statistics as PyTorch", async () => {
  const [N, C, H, W] = [4, 3, 5, 2];
  const shape = { C, S: H * W };
  using layer = new nn.BatchNorm2d(C);
  const w = numbers("bn w", C);
  const b = numbers("bn b", C);
  layer.loadStateDict({ weight: tensor(w), bias: tensor(b) }, { strict: false });
  const running = { mean: [0, 0, 0], variance: [1, 1, 1] };
  for (const step of [1, 2, 3]) {
    const x = numbers(`bn x ${step}`, N * C * H * W);
    using input = tensor(x, { shape: [N, C, H, W] });
    using y = layer.forward(input);
    const stats = [0, 1, 2].map((c) => moments(channel(x, c, shape)));
    const want = x.map((v, i) => {
      const c = Math.floor(i / shape.S) % C;
      return (v - stats[c]!.mean) / Math.sqrt(stats[c]!.variance + 1e-5) * w[c]! + b[c]!;
    });
    assertClose(await y.data(), want, { ...tolerance(40), what: `step ${step}` });
    const count = N * shape.S;
    stats.forEach((s, c) => {
      running.mean[c] = 0.9 * running.mean[c]! + 0.1 * s.mean;
      running.variance[c] = 0.9 * running.variance[c]! + 0.1 * s.variance * count / (count - 1);
    });
    const { running_mean, running_var, num_batches_tracked } = layer.stateDict();
    const [mean, variance, batches] = await readAll([
      running_mean!,
      running_var!,
      num_batches_tracked!,
    ]);
    assertClose(mean!, running.mean, tolerance(40));
    assertClose(variance!, running.variance, tolerance(40));
    assertEquals(batches, Int32Array.of(step));
  }
  layer.eval();
  const x = numbers("bn x eval", C * 2);
  using input = tensor(x, { shape: [1, C, 1, 2] });
  using y = layer.forward(input);
  const want = x.map((v, i) => {
    const c = Math.floor(i / 2);
    return (v - running.mean[c]!) / Math.sqrt(running.variance[c]! + 1e-5) * w[c]! + b[c]!;
  });
  assertClose(await y.data(), want, tolerance(40));
  assertEquals(await layer.stateDict()["num_batches_tracked"]!.item(), 3);
});

Deno.test("BatchNorm1d with momentum null keeps the mean over all batches", async () => {
  using layer = new nn.BatchNorm1d(2, { momentum: null, affine: false });
  const batches = [1, 2, 3].map((i) => numbers(`cumulative ${i}`, 8));
  for (const x of batches) {
    using input = tensor(x, { shape: [4, 2] });
    layer.forward(input).dispose();
  }
  const stats = [0, 1].map((c) => batches.map((x) => moments(channel(x, c, { C: 2, S: 1 }))));
  const mean = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length;
  assertEquals(Object.keys(layer.stateDict()), [
    "running_mean",
    "running_var",
    "num_batches_tracked",
  ]);
  assertClose(
    await layer.running_mean!.data(),
    stats.map((s) => mean(s.map((m) => m.mean))),
    tolerance(8),
  );
  assertClose(
    await layer.running_var!.data(),
    stats.map((s) => mean(s.map((m) => m.variance * 4 / 3))),
    tolerance(8),
  );
});

Deno.test("BatchNorm2d without running statistics uses the batch in evaluation, too", async () => {
  using layer = new nn.BatchNorm2d(1, { trackRunningStats: false, affine: false }).eval();
  assertEquals(Object.keys(layer.stateDict()), []);
  using x = tensor([1, 3], { shape: [2, 1, 1, 1] });
  using y = layer.forward(x);
  const one = 1 / Math.sqrt(1 + 1e-5);
  assertClose(await y.data(), [-one, one], { atol: 4 * U });
});

Deno.test("SplitBatchNorm2d normalises every numSplits-th sample together", async () => {
  const [N, C, S] = [6, 2, 4];
  using layer = new nn.SplitBatchNorm2d(C, { numSplits: 2 });
  const w = numbers("split w", C);
  const b = numbers("split b", C);
  layer.loadStateDict({ weight: tensor(w), bias: tensor(b) }, { strict: false });
  const x = numbers("split x", N * C * S);
  using input = tensor(x, { shape: [N, C, 2, 2] });
  const y = layer.forward(input);
  const part = (i: number) => Math.floor(i / (C * S)) % 2;
  const stats = [0, 1].map((p) =>
    [0, 1].map((c) => moments(x.filter((_, i) => part(i) === p && Math.floor(i / S) % C === c)))
  );
  const want = x.map((v, i) => {
    const c = Math.floor(i / S) % C;
    const { mean, variance } = stats[part(i)]![c]!;
    return (v - mean) / Math.sqrt(variance + 1e-5) * w[c]! + b[c]!;
  });
  y.sum().backward();
  const [got, mean, variance, batches] = await readAll([
    y,
    layer.running_mean!,
    layer.running_var!,
    layer.num_batches_tracked!,
  ]);
  assertClose(got!, want, tolerance(12));
  const each = [0, 1].map((c) => [stats[0]![c]!, stats[1]![c]!]);
  assertClose(mean!, each.map(([p, q]) => 0.1 * (p!.mean + q!.mean) / 2), tolerance(12));
  assertClose(
    variance!,
    each.map(([p, q]) => 0.9 + 0.1 * (p!.variance + q!.variance) / 2 * 12 / 11),
    tolerance(12),
  );
  assertEquals(batches, Int32Array.of(1));
  // The sum over a part does not depend on x, so only the bias has a gradient: N·S.
  assertClose(await layer.bias!.grad!.data(), [N * S, N * S], { atol: 0 });
  assertEquals(
    `${layer}`,
    "SplitBatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)",
  );
  using odd = zeros([3, 2, 2, 2]);
  assertThrows(() => layer.forward(odd), TypeError, "a batch of 3 in 2 parts");
  layer.eval();
  layer.forward(odd).dispose();
  y.dispose();
});

Deno.test("LayerNorm, GroupNorm, InstanceNorm1d, InstanceNorm2d and RMSNorm give the float64 values", async () => {
  const x = numbers("rows x", 2 * 4 * 3 * 2);
  using input = tensor(x, { shape: [2, 4, 3, 2] });
  /** Each run of `length` numbers through `f`, times w and plus b of index (i / inner) mod count. */
  const rows = (
    length: number,
    f: (row: number[]) => number[],
    affine: { w: number[]; b: number[]; inner: number },
  ) =>
    Array.from({ length: x.length / length }, (_, r) => f(x.slice(r * length, (r + 1) * length)))
      .flat().map((v, i) => {
        const c = Math.floor(i / affine.inner) % affine.w.length;
        return v * affine.w[c]! + (affine.b[c] ?? 0);
      });
  const standard = (row: number[]) => {
    const { mean, variance } = moments(row);
    return row.map((v) => (v - mean) / Math.sqrt(variance + 1e-5));
  };
  const rms = (row: number[]) => {
    const square = row.reduce((n, v) => n + v * v, 0) / row.length;
    return row.map((v) => v / Math.sqrt(square + 2 ** -23));
  };
  const cases: [nn.Layer, number, (row: number[]) => number[], number, string][] = [
    [new nn.LayerNorm([3, 2]), 6, standard, 1, "(3, 2), eps=1e-05, elementwise_affine=True"],
    [new nn.LayerNorm(2), 2, standard, 1, "(2,), eps=1e-05, elementwise_affine=True"],
    [new nn.GroupNorm(2, 4), 12, standard, 6, "2, 4, eps=1e-05, affine=True"],
    [
      new nn.InstanceNorm2d(4, { affine: true }),
      6,
      standard,
      6,
      "4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=False",
    ],
    [
      new nn.InstanceNorm1d(4, { affine: true }),
      6,
      standard,
      6,
      "4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=False",
    ],
    [new nn.RMSNorm([3, 2]), 6, rms, 1, "(3, 2), eps=None, elementwise_affine=True"],
  ];
  for (const [layer, length, f, inner, repr] of cases) {
    const parameters = layer.namedParameters().map(([name, p]) => {
      const values = numbers(`${layer.constructor.name} ${name}`, p.size);
      layer.loadStateDict({ [name]: tensor(values, { shape: p.shape }) }, { strict: false });
      return values;
    });
    const [w, b = []] = parameters as [number[], number[]?];
    using runs = input.reshape(2, 4, 6);
    using y = layer.forward(layer instanceof nn.InstanceNorm1d ? runs : input);
    const want = rows(length, f, { w, b, inner });
    // A row of two numbers close to each other loses digits in their difference: 1 / √1e-5 at most.
    const scale = length === 2 ? 20 : 1;
    const { atol } = tolerance(length);
    assertClose(await y.data(), want, { atol: scale * atol, what: layer.constructor.name });
    assertEquals(`${layer}`, `${layer.constructor.name}(${repr})`);
    layer.dispose();
  }
});

Deno.test("InstanceNorm1d and InstanceNorm2d say which shapes they take", () => {
  using x = zeros([2, 3, 5]);
  assertThrows(
    () => new nn.InstanceNorm1d(4).forward(x),
    TypeError,
    "Cannot InstanceNorm1d [2, 3, 5]: it must be [N, C, L] or [C, L] with C = 4",
  );
  assertThrows(
    () => new nn.InstanceNorm2d(3).forward(x),
    TypeError,
    "Cannot InstanceNorm2d [2, 3, 5]: it must be [N, C, H, W] or [C, H, W] with C = 3",
  );
});

Deno.test("norms of numbers far from 0 are off by the rounding of their mean, and no more", async () => {
  /** Groups [A, G, S] of values whose deviations are well below their mean. */
  const cases: [string, readonly [number, number, number], (x: Tensor) => Tensor][] = [
    ["layerNorm", [1, 8, 129], (x) => layerNorm(x.reshape(8, 129))],
    ["layerNorm in fours", [1, 8, 256], (x) => layerNorm(x.reshape(8, 256))],
    ["batchNorm", [6, 3, 400], (x) => batchNorm(x.reshape(6, 3, 20, 20), { training: true })],
    ["batchNorm, odd", [5, 3, 399], (x) => batchNorm(x.reshape(5, 3, 21, 19), { training: true })],
  ];
  const draw = new Draw("far from 0");
  for (const [name, [A, G, S], norm] of cases) {
    for (const offset of [10, 1000]) {
      const x = Float32Array.from({ length: A * G * S }, () => offset + draw.uniform());
      const y = await norm(tensor(x, { shape: [A, G, S] })).data();
      for (let g = 0; g < G; g++) {
        const at = Array.from({ length: A * S }, (_, e) => (Math.floor(e / S) * G + g) * S + e % S);
        const mean = at.reduce((sum, i) => sum + x[i]!, 0) / at.length;
        const variance = at.reduce((sum, i) => sum + (x[i]! - mean) ** 2, 0) / at.length;
        const scale = 1 / Math.sqrt(variance + 1e-5);
        // The mean rounds twice at most, x less the mean once; root, product and their rounding of y.
        const allowed = 2 * U * offset * scale + 32 * U;
        for (const i of at) {
          const off = Math.abs(Number(y[i]) - (x[i]! - mean) * scale);
          assert(off <= allowed, `${name} at ${offset}: ${off} apart, allowed ${allowed}`);
        }
      }
    }
  }
});

Deno.test("normalize divides by the norm, and zeros have a finite gradient", async () => {
  const rows = [[3, -4], [0, 0]];
  const x = tensor(rows, { requiresGrad: true });
  const two = normalize(x);
  const one = normalize(x, { p: 1 });
  const most = normalize(x, { p: Infinity });
  const three = normalize(x, { p: 3 });
  const column = normalize(x, { dim: 0 });
  two.sum().backward();
  const [a, b, c, d, e, grad] = await readAll([two, one, most, three, column, x.grad!]);
  assertClose(a!, [0.6, -0.8, 0, 0], { atol: 4 * U });
  assertClose(b!, [3 / 7, -4 / 7, 0, 0], { atol: 4 * U });
  assertClose(c!, [0.75, -1, 0, 0], { atol: 4 * U });
  const cube = 91 ** (1 / 3);
  // pow goes through log and exp: a few rounding steps of a logarithm of about 5.
  assertClose(d!, [3 / cube, -4 / cube, 0, 0], { atol: 40 * U });
  assertClose(e!, [1, -1, 0, 0], { atol: 4 * U });
  // d(x/‖x‖)/dx of the sum: (1 - x·Σx/‖x‖²)/‖x‖ for Σx = -1.
  assertClose(grad!.slice(0, 2), [(1 + 3 / 25) / 5, (1 - 4 / 25) / 5], { atol: 8 * U });
  assert(grad!.every(Number.isFinite), `${grad}`);
});

Deno.test("normalisation names what does not fit", () => {
  using x = zeros([2, 3, 4, 4]);
  using two = zeros([2]);
  using flat = zeros([2, 3]);
  const layer = new nn.BatchNorm2d(3);
  const thrown: [() => unknown, typeof TypeError | typeof RangeError, string][] = [
    [() => layer.forward(flat), TypeError, "Cannot BatchNorm2d [2, 3]: it must be [N, C, H, W]"],
    [() => new nn.BatchNorm2d(0), RangeError, "Cannot make BatchNorm2d with numFeatures 0"],
    [() => new nn.BatchNorm1d(2, { momentum: 2 }), RangeError, "momentum 2: it must be 0 to 1"],
    [() => new nn.GroupNorm(2, 3), RangeError, "3 channels in 2 groups: groups must divide"],
    [() => new nn.LayerNorm([2, 0]), RangeError, "normalizedShape[1] 0"],
    [() => new nn.LayerNorm(3, { eps: -1 }), RangeError, "eps -1: it must be at least 0"],
    [() => batchNorm(x, { weight: two }), TypeError, "with weight [2]: it must be [3]"],
    [() => batchNorm(x, { runningMean: two, runningVar: two }), TypeError, "mean [2]: it must be"],
    [() => batchNorm(x, { runningMean: two }), TypeError, "give both"],
    [() => instanceNorm(flat), TypeError, "with positions"],
    [
      () => batchNorm(zeros([1, 3]), { training: true }),
      TypeError,
      "Cannot batchNorm [1, 3] in training: a channel has 1 value, and its variance needs at least 2",
    ],
  ];
  for (const [fn, kind, text] of thrown) assertThrows(fn, kind, text);
});

Deno.test("a training step with normalisation leaves memory where it found it", async () => {
  using net = new nn.Sequential(
    new nn.Conv2d(2, 4, { kernelSize: 3, padding: 1, groups: 2 }),
    new nn.BatchNorm2d(4),
    new nn.SplitBatchNorm2d(4, { numSplits: 2 }),
    new nn.GroupNorm(2, 4),
    new nn.LayerNorm(5),
  );
  const sizes: number[] = [];
  for (let step = 0; step < 4; step++) {
    scope(() => {
      net.forward(randn([4, 2, 5, 5])).square().sum().backward();
      net.zeroGrad();
    });
    await synchronize();
    sizes.push(memory().liveBytes);
  }
  // Less if garbage of other tests was collected meanwhile.
  for (const size of sizes.slice(2)) assert(size <= sizes[1]!, `${sizes}`);
});

Deno.test("LATHE_CHECK=1 finds nothing in the normalisations and convolutions", async () => {
  const before = debug().check;
  setDebug({ check: "reference" });
  try {
    using net = new nn.Sequential(
      new nn.Conv2d(2, 4, { kernelSize: 3, padding: "same", groups: 2 }),
      new nn.BatchNorm2d(4),
      new nn.GroupNorm(2, 4),
      new nn.ConvTranspose2d(4, 2, { kernelSize: 2, stride: 2 }),
      new nn.LayerNorm([2, 10, 10]),
    );
    scope(() => net.forward(randn([2, 2, 5, 5])).square().sum().backward());
    net.eval();
    scope(() => void net.forward(randn([2, 2, 5, 5])));
    await synchronize();
  } finally {
    setDebug({ check: before });
  }
});
