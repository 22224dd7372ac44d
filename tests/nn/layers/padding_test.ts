/** Layers that pad images, against the place each output comes from. */

import { assertEquals, assertThrows } from "@std/assert";
import { gradcheck, init, nn, scope, tensor, zeros } from "../../../mod.ts";
import { drawn, each, numbers } from "../../helpers/numbers.ts";

await init();

const [N, C, H, W] = [2, 2, 3, 4];
const image = numbers("image", N * C * H * W);
type Sides = readonly [number, number, number, number];

/** The layer, its rule from a place (which may lie outside) to one inside or none, what fills none, and sides. */
const LAYERS: [
  string,
  (sides: Sides | number) => nn.Layer,
  (at: number, size: number) => number | null,
  number,
  Sides[],
][] = [
  ["ZeroPad2d", (s) => new nn.ZeroPad2d(s), () => null, 0, [[1, 2, 3, -1], [-1, -2, 0, -1]]],
  [
    "ConstantPad2d",
    (s) => new nn.ConstantPad2d(s, 2.5),
    () => null,
    2.5,
    [[1, 2, 3, -1], [-2, -1, 1, 1]],
  ],
  [
    "ReflectionPad2d",
    (s) => new nn.ReflectionPad2d(s),
    (at, size) => at < 0 ? -at : 2 * (size - 1) - at,
    0,
    [[1, 2, 2, 0], [3, 3, 2, 2]],
  ],
  [
    "ReplicationPad2d",
    (s) => new nn.ReplicationPad2d(s),
    (at, size) => at < 0 ? 0 : size - 1,
    0,
    [[1, 2, 3, 0], [5, 0, 0, 6]],
  ],
  [
    "CircularPad2d",
    (s) => new nn.CircularPad2d(s),
    (at, size) => at < 0 ? at + size : at - size,
    0,
    [[1, 2, 3, 0], [4, 4, 3, 3]],
  ],
];

for (const [name, make, outside, value, sides] of LAYERS) {
  Deno.test(`${name} fills each place outside by its rule`, async () => {
    for (const given of [...sides, 1, [0, 0, 0, 0]] as const) {
      const [left, right, top, bottom] = typeof given === "number"
        ? [given, given, given, given]
        : given;
      const shape = [N, C, top + H + bottom, left + W + right];
      const from = (at: number, size: number) => at >= 0 && at < size ? at : outside(at, size);
      const want = each(shape, (n, c, y, x) => {
        const [h, w] = [from(y! - top, H), from(x! - left, W)];
        return h === null || w === null ? value : image[((n! * C + c!) * H + h) * W + w]!;
      });
      using y = scope(() => make(given).forward(tensor(image, { shape: [N, C, H, W] })));
      assertEquals(y.shape, shape);
      assertEquals([...await y.data()], want, `${given}`);
    }
  });

  Deno.test(`${name} has the gradients of central differences`, async () => {
    const layer = make(sides[0]!);
    await gradcheck((x) => layer.forward(x!), [drawn("x", [1, 1, H, W]).requiresGrad_()]);
  });
}

Deno.test("padding layers print as PyTorch's", () => {
  const texts: [nn.Module, string][] = [
    [new nn.ZeroPad2d(1), "ZeroPad2d((1, 1, 1, 1))"],
    [new nn.ZeroPad2d([1, 2, 3, -1]), "ZeroPad2d((1, 2, 3, -1))"],
    [new nn.ConstantPad2d([1, 2, 3, 4], 2), "ConstantPad2d(padding=(1, 2, 3, 4), value=2)"],
    [new nn.ReflectionPad2d(2), "ReflectionPad2d((2, 2, 2, 2))"],
    [new nn.ReplicationPad2d([0, 1, 2, 3]), "ReplicationPad2d((0, 1, 2, 3))"],
    [new nn.CircularPad2d([1, 0, 0, 1]), "CircularPad2d((1, 0, 0, 1))"],
  ];
  for (const [layer, text] of texts) assertEquals(`${layer}`, text);
});

Deno.test("padding layers say what they cannot do", () => {
  for (const [name, make] of LAYERS) {
    assertThrows(
      () => make([1, 2, 3] as never),
      RangeError,
      `Cannot make ${name} with padding [1, 2, 3]: it must be a number or [left, right, top, bottom]`,
    );
    assertThrows(
      () => make([1, 2, 3, 0.5]),
      RangeError,
      `Cannot make ${name} with padding [1, 2, 3, 0.5]: it must be whole numbers`,
    );
    scope(() =>
      assertThrows(() => make(1).forward(zeros([3])), TypeError, "Cannot pad [3] by [1, 1, 1, 1]")
    );
  }
  using x = zeros([1, 1, 3, 4]);
  assertThrows(
    () => new nn.ReflectionPad2d(3).forward(x),
    RangeError,
    "in mode reflect: a dimension of size 3 takes 0 to 2",
  );
  assertThrows(
    () => new nn.CircularPad2d(4).forward(x),
    RangeError,
    "in mode circular: a dimension of size 3 takes 0 to 3",
  );
  assertThrows(() => new nn.ReplicationPad2d(-1).forward(x), RangeError, "in mode replicate");
  assertThrows(
    () => new nn.ZeroPad2d(-2).forward(x),
    RangeError,
    "dimension 2 has 3 elements to take away",
  );
});
