/** Unflatten, and dropout of whole channels. */

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { init, manualSeed, nn, ones, readAll, scope, tensor, zeros } from "../../../mod.ts";
import { assertClose, assertSame } from "../../helpers/close.ts";
import { drawn, numbers, U } from "../../helpers/numbers.ts";

await init();

Deno.test("Unflatten cuts a dimension and keeps the order, the reverse of Flatten", async () => {
  const x = numbers("unflatten", 48);
  for (
    const [shape, dim, sizes, want] of [
      [[2, 24], 1, [2, 3, 4], [2, 2, 3, 4]],
      [[2, 24], -1, [2, -1, 4], [2, 2, 3, 4]],
      [[8, 3, 2], 0, [-1, 4], [2, 4, 3, 2]],
      [[8, 3, 2], -2, [3], [8, 3, 2]],
      [[4, 6, 2], 1, [1, 6, 1], [4, 1, 6, 1, 2]],
    ] as const
  ) {
    using y = new nn.Unflatten(dim, sizes).forward(tensor(x, { shape }));
    assertEquals(y.shape, [...want]);
    assertEquals([...await y.data()], x);
  }
  using image = tensor(x, { shape: [2, 24] });
  using cut = new nn.Unflatten(1, [2, 3, 4]).forward(image);
  using joined = new nn.Flatten().forward(cut);
  assertEquals(joined.shape, [2, 24]);
  assertEquals([...await joined.data()], x);
});

Deno.test("Unflatten finds -1 in tensors without elements", () => {
  using none = zeros([0, 6]);
  using rows = zeros([6, 0]);
  using cut = new nn.Unflatten(1, [-1, 2]).forward(none);
  using other = new nn.Unflatten(0, [-1, 2]).forward(rows);
  assertEquals([cut.shape, other.shape], [[0, 3, 2], [3, 2, 0]]);
});

Deno.test("Unflatten prints as PyTorch's and says what it cannot cut", () => {
  assertEquals(`${new nn.Unflatten(1, [2, 3])}`, "Unflatten(dim=1, unflattened_size=(2, 3))");
  assertEquals(`${new nn.Unflatten(1, [6])}`, "Unflatten(dim=1, unflattened_size=(6,))");
  using x = zeros([2, 6]);
  for (const dim of [2, -3, 0.5]) {
    assertThrows(
      () => new nn.Unflatten(dim, [2, 3]).forward(x),
      RangeError,
      `Cannot unflatten dimension ${dim} of [2, 6]: there is none`,
    );
  }
  assertThrows(
    () => new nn.Unflatten(1, [2, 4]).forward(x),
    TypeError,
    "Cannot reshape [2, 6] to [2, 2, 4]: 12 elements must stay 12",
  );
  assertThrows(
    () => new nn.Unflatten(1, [4, -1]).forward(x),
    TypeError,
    "Cannot reshape [2, 6] to [2, 4, -1]",
  );
});

/** Both layers, with the shape of one channel. */
const CHANNELS = [[nn.Dropout1d, [3]], [nn.Dropout2d, [2, 3]]] as const;

for (const [Layer, places] of CHANNELS) {
  const size = places.reduce((a: number, b) => a * b, 1);

  Deno.test(`${Layer.name} drops whole channels in training and scales the rest`, async () => {
    manualSeed(7);
    const [N, C, p] = [40, 50, 0.25];
    using layer = new Layer(p);
    // No input is 0, so a 0 is a dropped one.
    using x = drawn("channels", [N, C, ...places], 0.5, 1).requiresGrad_();
    using y = layer.forward(x);
    y.backward(ones(y.shape));
    const [input, out, grad] = await readAll([x, y, x.grad!]);
    let dropped = 0;
    for (let c = 0; c < N * C; c++) {
      const [i, end] = [c * size, (c + 1) * size];
      const factor = out![i] === 0 ? 0 : 1 / (1 - p);
      if (factor === 0) dropped++;
      // The factor and its product with x are each rounded once.
      const want = [...input!.slice(i, end)].map((v) => factor * v);
      assertClose(out!.slice(i, end), want, { rtol: 2 * U, what: `channel ${c}` });
      assertClose(grad!.slice(i, end), Array(size).fill(factor), { rtol: 2 * U });
    }
    // Binomial: five deviations.
    const far = 5 * Math.sqrt(N * C * p * (1 - p));
    assert(Math.abs(dropped - N * C * p) < far, `${dropped} channels of ${N * C}`);
  });

  Deno.test(`${Layer.name} draws anew each time, alike for a seed`, async () => {
    using layer = new Layer(0.5);
    using x = ones([8, 16, ...places]);
    const twice = () => {
      manualSeed(3);
      return [layer.forward(x), layer.forward(x)];
    };
    const [a, b, again] = await readAll([...twice(), twice()[0]!]);
    assertSame(again!, a!);
    // The chance that 128 channels are drawn alike is 2^-128.
    assert(a!.some((v, i) => v !== b![i]));
  });

  Deno.test(`${Layer.name} is the identity in evaluation and at p = 0, and 0 at p = 1`, async () => {
    using x = drawn("x", [2, 3, ...places]);
    assertStrictEquals(new Layer(0.5).eval().forward(x), x);
    assertStrictEquals(new Layer(0).forward(x), x);
    using gone = new Layer(1).forward(x);
    assertEquals(gone.shape, x.shape);
    assert((await gone.data()).every((v) => v === 0));
  });

  Deno.test(`${Layer.name} prints as PyTorch's and says what it cannot drop`, () => {
    assertEquals(`${new Layer(0.3)}`, `${Layer.name}(p=0.3, inplace=False)`);
    assertEquals(`${new Layer()}`, `${Layer.name}(p=0.5, inplace=False)`);
    for (const p of [-0.1, 1.1, NaN]) {
      assertThrows(
        () => new Layer(p),
        RangeError,
        `Cannot make ${Layer.name} with p ${p}: it must be 0 to 1`,
      );
    }
    scope(() => {
      const rank = 2 + places.length;
      for (const shape of [Array(rank - 2).fill(2), Array(rank + 1).fill(2)]) {
        for (const layer of [new Layer(0.5), new Layer(0.5).eval()]) {
          assertThrows(
            () => layer.forward(zeros(shape)),
            TypeError,
            `Cannot drop channels of [${shape.join(", ")}]: ${Layer.name} takes ` +
              `${rank - 1} or ${rank} dimensions, samples and channels first`,
          );
        }
      }
    });
  });
}
