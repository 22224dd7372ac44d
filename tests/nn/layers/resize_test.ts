/** Resizing by a factor, and pixels as channels, against loops over the images in float64. */

import { assertEquals, assertThrows } from "@std/assert";
import { gradcheck, init, interpolate, nn, readAll, scope, tensor, zeros } from "../../../mod.ts";
import { assertClose, assertSame } from "../../helpers/close.ts";
import { drawn, each, numbers, U } from "../../helpers/numbers.ts";

await init();

const [N, C, H, W] = [2, 2, 5, 6];
const image = numbers("image", N * C * H * W);
const at = (n: number, c: number, h: number, w: number) => image[((n * C + c) * H + h) * W + w]!;

/** Two places along a dimension and the second one's share, for a position among pixels' middles. */
function between(position: number, size: number): [number, number, number] {
  const inside = Math.max(position, 0);
  const low = Math.min(Math.floor(inside), size - 1);
  return [low, Math.min(low + 1, size - 1), inside - low];
}

type Position = (output: number, factor: number, sizes: [number, number]) => number;

/** Bilinear in float64, with the position of an output among the inputs. */
function bilinear(factors: readonly [number, number], position: Position): number[] {
  const [OH, OW] = [Math.floor(H * factors[0]), Math.floor(W * factors[1])];
  return each([N, C, OH, OW], (n, c, oh, ow) => {
    const [h, below, dh] = between(position(oh!, factors[0], [H, OH]), H);
    const [w, right, dw] = between(position(ow!, factors[1], [W, OW]), W);
    const row = (r: number) => (1 - dw) * at(n!, c!, r, w) + dw * at(n!, c!, r, right);
    return (1 - dh) * row(h) + dh * row(below);
  });
}

const FACTORS = [[2, 2], [1.5, 2], [1.7, 0.6], [0.4, 3.3]] as const;

Deno.test("interpolate and Upsample by a factor give bilinear means", async () => {
  const ways: [boolean, Position][] = [
    [false, (o, factor) => (o + 0.5) / factor - 0.5],
    [true, (o, _, [size, outputs]) => outputs > 1 ? o * (size - 1) / (outputs - 1) : 0],
  ];
  using x = tensor(image, { shape: [N, C, H, W] });
  for (const scaleFactor of FACTORS) {
    for (const [alignCorners, position] of ways) {
      const want = bilinear(scaleFactor, position);
      using y = interpolate(x, { scaleFactor, alignCorners });
      using same = new nn.Upsample({ scaleFactor, mode: "bilinear", alignCorners }).forward(x);
      assertEquals(y.shape, [N, C, Math.floor(H * scaleFactor[0]), Math.floor(W * scaleFactor[1])]);
      const [got, layer] = await readAll([y, same]);
      // Positions of up to 16 · 2, rounded four times, move two shares of numbers 2 apart; then 8 roundings.
      const what = `${scaleFactor}, aligned ${alignCorners}`;
      assertClose(got!, want, { atol: (2 * 4 * 32 + 8) * U, what });
      assertSame(layer!, got!, what);
    }
  }
});

Deno.test("interpolate and Upsample by a factor take the nearest pixel before", async () => {
  using x = tensor(image, { shape: [N, C, H, W] });
  for (const factors of [...FACTORS, [1, 1]] as const) {
    const [OH, OW] = [Math.floor(H * factors[0]), Math.floor(W * factors[1])];
    const want = each(
      [N, C, OH, OW],
      (n, c, h, w) => at(n!, c!, Math.floor(h! / factors[0]), Math.floor(w! / factors[1])),
    );
    using y = interpolate(x, { scaleFactor: factors, mode: "nearest" });
    using same = new nn.Upsample({ scaleFactor: factors }).forward(x);
    const [got, layer] = await readAll([y, same]);
    assertEquals([...got!], want, `${factors}`);
    assertSame(layer!, got!);
  }
});

Deno.test("a factor that leaves no rest gives what the size gives", async () => {
  using x = drawn("x", [1, 2, 4, 6]);
  for (const mode of ["nearest", "bilinear"] as const) {
    for (const antialias of mode === "bilinear" ? [false, true] : [false]) {
      const common = { mode, antialias };
      const [a, b] = await readAll([
        interpolate(x, { scaleFactor: [0.5, 2], ...common }),
        interpolate(x, { size: [2, 12], ...common }),
      ]);
      assertSame(a!, b!, `${mode}, antialias ${antialias}`);
    }
  }
  using layer = new nn.Upsample({ size: [3, 4], mode: "bilinear" }).forward(x);
  using same = interpolate(x, { size: [3, 4] });
  const [a, b] = await readAll([layer, same]);
  assertSame(a!, b!);
});

Deno.test("PixelShuffle puts r · r channels side by side, and PixelUnshuffle takes them apart", async () => {
  const r = 3;
  const x = numbers("pixels", 2 * 2 * r * r * 2 * 4);
  const wide = each([2, 2, 2 * r, 4 * r], (n, c, h, w) => {
    const channel = c! * r * r + (h! % r) * r + w! % r;
    return x[((n! * 2 * r * r + channel) * 2 + Math.floor(h! / r)) * 4 + Math.floor(w! / r)]!;
  });
  using input = tensor(x, { shape: [2, 2 * r * r, 2, 4] });
  using shuffled = new nn.PixelShuffle(r).forward(input);
  using back = new nn.PixelUnshuffle(r).forward(shuffled);
  assertEquals([shuffled.shape, back.shape], [[2, 2, 2 * r, 4 * r], input.shape]);
  const [got, again] = await readAll([shuffled, back]);
  assertEquals([...got!], wide);
  assertEquals([...again!], x);
});

Deno.test("layers that resize have the gradients of central differences", async () => {
  for (
    const layer of [
      new nn.Upsample({ scaleFactor: [1.7, 0.6], mode: "bilinear" }),
      new nn.Upsample({ scaleFactor: 1.7, mode: "bilinear", alignCorners: true }),
      new nn.Upsample({ scaleFactor: [1.7, 0.6] }),
      new nn.PixelUnshuffle(2),
    ]
  ) {
    await gradcheck((x) => layer.forward(x!), [drawn("x", [1, 1, 4, 6]).requiresGrad_()]);
  }
  const shuffle = new nn.PixelShuffle(2);
  await gradcheck((x) => shuffle.forward(x!), [drawn("x", [1, 4, 2, 3]).requiresGrad_()]);
  await gradcheck(
    (x) => interpolate(x!, { scaleFactor: 0.6, antialias: true }),
    [drawn("x", [1, 1, 4, 6]).requiresGrad_()],
  );
});

Deno.test("layers that resize print as PyTorch's", () => {
  const texts: [nn.Module, string][] = [
    [new nn.Upsample({ scaleFactor: 2 }), "Upsample(scale_factor=2.0, mode='nearest')"],
    [
      new nn.Upsample({ scaleFactor: [1.5, 2], mode: "bilinear" }),
      "Upsample(scale_factor=(1.5, 2.0), mode='bilinear')",
    ],
    [
      new nn.Upsample({ size: [3, 4], mode: "bilinear" }),
      "Upsample(size=(3, 4), mode='bilinear')",
    ],
    [new nn.Upsample({ size: 3 }), "Upsample(size=3, mode='nearest')"],
    [new nn.PixelShuffle(2), "PixelShuffle(upscale_factor=2)"],
    [new nn.PixelUnshuffle(3), "PixelUnshuffle(downscale_factor=3)"],
  ];
  for (const [layer, text] of texts) assertEquals(`${layer}`, text);
});

Deno.test("layers that resize say what they cannot do", () => {
  const cases: [() => unknown, typeof RangeError | typeof TypeError, string][] = [
    [
      () => interpolate(zeros([1, 1, 2, 3]), {}),
      TypeError,
      "Cannot interpolate [1, 1, 2, 3]: give either size or scaleFactor, not neither",
    ],
    [
      () => interpolate(zeros([1, 1, 2, 3]), { size: 2, scaleFactor: 2 }),
      TypeError,
      "Cannot interpolate [1, 1, 2, 3]: give either size or scaleFactor, not both",
    ],
    ...[-1, 0, NaN].map((factor): [() => unknown, typeof RangeError, string] => [
      () => interpolate(zeros([1, 1, 2, 2]), { scaleFactor: [2, factor] }),
      RangeError,
      `Cannot interpolate with scaleFactor [2, ${factor}]: it must be above 0`,
    ]),
    [
      () => interpolate(zeros([1, 1, 2, 2]), { scaleFactor: [1, 2, 3] as never }),
      TypeError,
      "Cannot interpolate with scaleFactor [1, 2, 3]: it must be a number or [height, width]",
    ],
    [
      () => interpolate(zeros([1, 1, 2, 4]), { scaleFactor: 0.3 }),
      RangeError,
      "Cannot interpolate with size [0, 1]: it must be whole numbers of at least 1",
    ],
    [
      () => interpolate(zeros([2, 2]), { scaleFactor: 2 }),
      TypeError,
      "Cannot interpolate [2, 2]: it must be [N, C, H, W], [N, C, L] or [N, C, D, H, W]",
    ],
    [
      () => new nn.Upsample(2 as never),
      TypeError,
      "Cannot make Upsample with options 2: write new nn.Upsample({ scaleFactor: 2 })",
    ],
    ...[{}, { size: 2, scaleFactor: 2 }].map((
      options,
    ): [() => unknown, typeof TypeError, string] => [
      () => new nn.Upsample(options),
      TypeError,
      "Cannot make Upsample: give either size or scaleFactor",
    ]),
    [
      () => new nn.Upsample({ scaleFactor: 2, alignCorners: true }).forward(zeros([1, 1, 2, 2])),
      TypeError,
      "Cannot interpolate nearest with alignCorners: it is for bilinear only",
    ],
    [
      () => new nn.PixelShuffle(0),
      RangeError,
      "Cannot make PixelShuffle with upscaleFactor 0: it must be a whole number of at least 1",
    ],
    [
      () => new nn.PixelUnshuffle(1.5),
      RangeError,
      "Cannot make PixelUnshuffle with downscaleFactor 1.5: it must be a whole number of at least 1",
    ],
    ...[[1, 3, 2, 2], [3, 2, 2], [4, 2]].map((shape): [() => unknown, typeof TypeError, string] => [
      () => new nn.PixelShuffle(2).forward(zeros(shape)),
      TypeError,
      `Cannot shuffle the pixels of [${shape.join(", ")}]: it must be [..., C, H, W] with C a ` +
      "multiple of 4",
    ]),
    ...[[1, 1, 4, 3], [1, 1, 3, 4], [4, 4]].map((
      shape,
    ): [() => unknown, typeof TypeError, string] => [
      () => new nn.PixelUnshuffle(2).forward(zeros(shape)),
      TypeError,
      `Cannot unshuffle the pixels of [${
        shape.join(", ")
      }]: it must be [..., C, H, W] with H and ` +
      "W multiples of 2",
    ]),
  ];
  scope(() => cases.forEach(([call, kind, text]) => assertThrows(call, kind, text)));
});

Deno.test("interpolate() by a factor that leaves a size as it is leaves the pixels", async () => {
  const x = tensor([[1, 2, 3, 4, 5]]).reshape(1, 1, 1, 5);
  for (const mode of ["nearest", "bilinear"] as const) {
    const y = interpolate(x, { scaleFactor: [1, 1.1], mode });
    assertEquals([...await y.data()], [1, 2, 3, 4, 5], mode);
  }
});

Deno.test("interpolate and Upsample resize rows and volumes, one dimension after the other", async () => {
  // Along each dimension weights of its own, whose product weighs a place.
  const sizes = [3, 4, 5] as const, values = numbers("volume", 2 * 60);
  const volume = tensor(values, { shape: [1, 2, ...sizes] });
  const row = tensor(numbers("row", 2 * 6), { shape: [1, 2, 6] });
  const weights = (size: number, outputs: number, o: number, how: Resize) => {
    const position = how.alignCorners
      ? outputs > 1 ? o * (size - 1) / (outputs - 1) : 0
      : (o + 0.5) / (how.factor ?? outputs / size) - 0.5;
    const w = Array<number>(size).fill(0);
    if (how.mode === "nearest") w[Math.floor(o / (how.factor ?? outputs / size))] = 1;
    else {
      const [low, high, share] = between(position, size);
      w[low]! += 1 - share;
      w[high]! += share;
    }
    return w;
  };
  interface Resize {
    mode: "nearest" | "linear";
    factor?: number;
    alignCorners?: boolean;
  }
  const ways: [Resize, number[]][] = [
    [{ mode: "linear" }, [5, 2, 7]],
    [{ mode: "linear", alignCorners: true }, [5, 1, 7]],
    [{ mode: "linear", factor: 1.6 }, [4, 6, 8]],
    [{ mode: "nearest" }, [5, 2, 7]],
    [{ mode: "nearest", factor: 1.6 }, [4, 6, 8]],
  ];
  for (const [how, size] of ways) {
    const { factor, alignCorners } = how, to = factor ? { scaleFactor: factor } : { size };
    const mode = how.mode === "nearest" ? how.mode : "trilinear";
    const want = each([2, ...size], (c, ...o) => {
      const [d, h, w] = o.map((place, k) => weights(sizes[k]!, size[k]!, place, how));
      return each(
        sizes,
        (z, i, j) => d![z!]! * h![i!]! * w![j!]! * values[((c! * 3 + z!) * 4 + i!) * 5 + j!]!,
      )
        .reduce((a, b) => a + b, 0);
    });
    const what = JSON.stringify(how);
    const options = { ...to, mode, alignCorners } as const;
    for (const y of [interpolate(volume, options), new nn.Upsample(options).forward(volume)]) {
      assertEquals(y.shape, [1, 2, ...size], what);
      // Positions of up to 16, rounded four times, move two shares three times; then 12 roundings.
      assertClose(await y.data(), want, { atol: (3 * 2 * 4 * 16 + 12) * U, what });
    }
    const rows = [6, factor ? 9 : 4] as const, of = await row.data();
    const length = each(
      [2, rows[1]],
      (c, o) =>
        weights(6, rows[1], o!, how).reduce((a, share, i) => a + share * of[c! * 6 + i]!, 0),
    );
    const y = interpolate(row, {
      ...(factor ? { scaleFactor: [factor] } : { size: rows[1] }),
      mode: how.mode,
      alignCorners,
    });
    assertEquals(y.shape, [1, 2, rows[1]], what);
    assertClose(await y.data(), length, { atol: (2 * 4 * 16 + 8) * U, what });
  }
  for (const x of [volume, row]) {
    await gradcheck((x) => interpolate(x!, { scaleFactor: 1.6 }), [x.requiresGrad_()]);
  }
});

Deno.test("resizing says which modes and sizes rows, images and volumes take", () => {
  const [row, image, volume] = [zeros([1, 2, 4]), zeros([1, 2, 4, 4]), zeros([1, 2, 3, 4, 4])];
  const calls: [() => unknown, string][] = [
    [() => interpolate(zeros([2, 4]), { size: 3 }), "it must be [N, C, H, W], [N, C, L] or"],
    [() => interpolate(row, { size: 3, mode: "bilinear" }), "it must be nearest or linear"],
    [() => interpolate(volume, { size: 3, mode: "linear" }), "it must be nearest or trilinear"],
    [() => interpolate(row, { size: [2, 2] }), "it must be a number or [length]"],
    [() => interpolate(image, { size: [2, 2, 2] }), "it must be a number or [height, width]"],
    [
      () => interpolate(volume, { scaleFactor: [2, 2] }),
      "it must be a number or [depth, height, width]",
    ],
    [() => interpolate(volume, { size: 2, antialias: true }), "it is for images only"],
    [() => interpolate(volume, { scaleFactor: [1, 0, 1] }), "it must be above 0"],
  ];
  for (const [call, message] of calls) {
    const { message: said } = assertThrows(call, Error);
    assertEquals(said.includes(message), true, said);
  }
});
