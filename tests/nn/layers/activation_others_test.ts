/** Activations that learn, gate, shrink or cut off, against their formulas in float64. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  glu,
  gradcheck,
  init,
  nn,
  ones,
  prelu,
  readAll,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { drawn, numbers, U } from "../../helpers/numbers.ts";

await init();

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** A weight for each of the channels, or one for all, in the tests of prelu. */
const WEIGHTS = [0.5, -0.3, 2].map(Math.fround);

Deno.test("PReLU multiplies what is not positive by its channel's weight", async () => {
  for (const shape of [[2, 3], [2, 3, 4], [2, 3, 2, 2], [1, 3, 2, 1, 2]]) {
    using layer = new nn.PReLU(3);
    layer.loadStateDict({ weight: tensor(WEIGHTS) });
    const size = shape.reduce((a, b) => a * b);
    const x = numbers(`prelu ${shape}`, size).with(1, 0);
    const places = size / shape[0]! / 3;
    const want = x.map((v, i) => v > 0 ? v : WEIGHTS[Math.floor(i / places) % 3]! * v);
    using y = scope(() => layer.forward(tensor(x, { shape })).detach());
    assertEquals(y.shape, shape);
    // One product, rounded once.
    assertClose(await y.data(), want, { rtol: U, what: `[${shape}]` });
  }
});

Deno.test("PReLU starts with one weight of 0.25 for all, in tensors of any rank", async () => {
  using layer = new nn.PReLU();
  assertEquals(layer.namedParameters().map(([name]) => name), ["weight"]);
  assertEquals(await layer.weight.array(), [0.25]);
  for (const shape of [[], [4], [2, 2], [1, 2, 2], [0, 3]]) {
    using y = scope(() => layer.forward(zeros(shape).sub(4)).detach());
    assertEquals(y.shape, shape);
    assertEquals([...await y.data()], Array(y.size).fill(-1));
  }
  using three = new nn.PReLU(3, { init: -2 });
  assertEquals(await three.weight.array(), [-2, -2, -2]);
  assertEquals([`${layer}`, `${three}`], [
    "PReLU(num_parameters=1)",
    "PReLU(num_parameters=3)",
  ]);
});

Deno.test("prelu has the gradients of central differences, and at 0 those of PyTorch", async () => {
  // At least 0.1 from the kink.
  const x = numbers("prelu gradient", 12, 0.1, 2).map((v, i) => i % 2 ? v : -v);
  for (const weight of [WEIGHTS, [0.5]]) {
    await gradcheck((x, w) => prelu(x!, w!), [
      tensor(x, { shape: [2, 3, 2], requiresGrad: true }),
      tensor(weight, { requiresGrad: true }),
    ]);
  }
  using zero = zeros([1, 2]).requiresGrad_();
  using weight = tensor([0.5, -3], { requiresGrad: true });
  scope(() => prelu(zero, weight).sum().backward());
  assertEquals([await zero.grad!.array(), await weight.grad!.array()], [[[0.5, -3]], [0, 0]]);
});

Deno.test("GLU gates the first half by the second, along any dimension", async () => {
  const x = numbers("glu", 24, -2, 2);
  const at = (a: number, b: number, c: number) => x[(a * 4 + b) * 3 + c]!;
  const middle: number[] = [], first: number[] = [];
  for (let a = 0; a < 2; a++) {
    for (let b = 0; b < 2; b++) {
      for (let c = 0; c < 3; c++) middle.push(at(a, b, c) * sigmoid(at(a, b + 2, c)));
    }
  }
  for (let b = 0; b < 4; b++) {
    for (let c = 0; c < 3; c++) first.push(at(0, b, c) * sigmoid(at(1, b, c)));
  }
  using input = tensor(x, { shape: [2, 4, 3] });
  using gated = new nn.GLU(1).forward(input);
  using outer = glu(input, -3);
  using row = new nn.GLU().forward(tensor(x));
  assertEquals([gated.shape, outer.shape, row.shape], [[2, 2, 3], [1, 4, 3], [12]]);
  // exp is allowed 3 + 2 · 2 ulp of 2 U, the division 5 U, sum and product U each.
  const close = { rtol: 21 * U };
  const [m, f, r] = await readAll([gated, outer, row]);
  assertClose(m!, middle, close);
  assertClose(f!, first, close);
  assertClose(r!, first, close);
  await gradcheck((x) => glu(x!, 1), [input.detach().requiresGrad_()]);
  assertEquals([`${new nn.GLU()}`, `${new nn.GLU(1)}`], ["GLU(dim=-1)", "GLU(dim=1)"]);
});

/** Layer, PyTorch's text and the formula. All settings are exact in f32. */
const LAYERS: [nn.Layer, string, (x: number) => number][] = [
  [new nn.Softshrink(), "Softshrink(0.5)", (x) => Math.sign(x) * Math.max(Math.abs(x) - 0.5, 0)],
  [new nn.Softshrink(0), "Softshrink(0)", (x) => x],
  [new nn.Hardshrink(), "Hardshrink(0.5)", (x) => Math.abs(x) > 0.5 ? x : 0],
  [new nn.Hardshrink(1), "Hardshrink(1)", (x) => Math.abs(x) > 1 ? x : 0],
  [new nn.Tanhshrink(), "Tanhshrink()", (x) => x - Math.tanh(x)],
  [new nn.Threshold(0.25, 2.5), "Threshold(threshold=0.25, value=2.5)", (x) => x > 0.25 ? x : 2.5],
  [new nn.Threshold(-1, 0), "Threshold(threshold=-1, value=0)", (x) => x > -1 ? x : 0],
];

Deno.test("shrinks and thresholds apply their formulas and print as PyTorch's", async () => {
  const points = [-7, -1.5, -1, -0.75, -0.5, -0.25, 0, 0.125, 0.25, 0.5, 0.75, 1, 3];
  using x = tensor(points);
  const results = await readAll(LAYERS.map(([layer]) => layer.forward(x)));
  LAYERS.forEach(([layer, text, f], i) => {
    assertEquals(`${layer}`, text);
    // All but tanh are exact here. That is of size 1, with 9 ulp of 2 U for its exp; the difference is up to 7.
    const atol = layer instanceof nn.Tanhshrink ? (32 + 7) * U : 0;
    assertClose(results[i]!, points.map(f), { atol, what: text });
  });
  assertEquals(`${new nn.Threshold(0.1, 2.5)}`, "Threshold(threshold=0.1, value=2.5)");
});

Deno.test("Threshold lets NaN through, as PyTorch's does", async () => {
  using y = new nn.Threshold(0, 5).forward(tensor([NaN, -1, Infinity, -Infinity]));
  assertEquals(await y.array(), [NaN, 5, Infinity, 5]);
});

Deno.test("Softmin is large where x is small, and sums to 1", async () => {
  const x = numbers("softmin", 10, -2, 2);
  const want = x.map((v, i) => {
    const row = x.slice(i - i % 5, i - i % 5 + 5);
    return Math.exp(-v) / row.reduce((sum, v) => sum + Math.exp(-v), 0);
  });
  const layer = new nn.Softmin(1);
  using y = layer.forward(tensor(x, { shape: [2, 5] }));
  using turned = new nn.Softmin(0).forward(tensor(x, { shape: [2, 5] }).transpose(0, 1));
  // exp of up to 4, of the difference to the largest: 3 + 8 ulp of 2 U, twice, and 5 terms.
  assertClose(await y.data(), want, { rtol: 52 * U });
  assertClose(await turned.transpose(0, 1).data(), want, { rtol: 52 * U });
  assertEquals(`${layer}`, "Softmin(dim=1)");
});

Deno.test("shrinks, thresholds and Softmin have the gradients of central differences", async () => {
  // No point is within 0.05 of a kink.
  const points = [-1.5, -0.6, -0.4, 0.1, 0.35, 0.6, 0.9, 1.2];
  for (const layer of [...LAYERS.map(([layer]) => layer), new nn.Softmin(0)]) {
    await gradcheck((x) => layer.forward(x!), [tensor(points, { requiresGrad: true })]);
  }
});

Deno.test("activations that learn, gate or shrink say what they cannot do", () => {
  const cases: [() => unknown, typeof RangeError | typeof TypeError, string][] = [
    [
      () => new nn.PReLU(0),
      RangeError,
      "Cannot make PReLU with numParameters 0: it must be a whole number of at least 1",
    ],
    [
      () => new nn.Softshrink(-1),
      RangeError,
      "Cannot make Softshrink with lambda -1: it must be 0 or more",
    ],
    [
      () => new nn.Hardshrink(NaN),
      RangeError,
      "Cannot make Hardshrink with lambda NaN: it must be 0 or more",
    ],
    [
      () => prelu(drawn("x", [2, 3]), ones([2])),
      TypeError,
      "Cannot prelu [2, 3] with a weight [2]: it must be [1] or [3]",
    ],
    [
      () => prelu(drawn("x", [2, 3]), ones([1, 3])),
      TypeError,
      "Cannot prelu [2, 3] with a weight [1, 3]: it must be [1] or [3]",
    ],
    ...([[[2, 3], -1], [[2, 4], 2], [[2, 4], -3], [[], 0]] as const).map((
      [shape, dim],
    ): [() => Tensor, typeof RangeError, string] => [
      () => new nn.GLU(dim).forward(zeros(shape)),
      RangeError,
      `Cannot glu [${
        shape.join(", ")
      }] along ${dim}: the dimension must exist and have an even size`,
    ]),
  ];
  scope(() => cases.forEach(([call, kind, text]) => assertThrows(call, kind, text)));
});
