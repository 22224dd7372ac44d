/** Images as columns of windows, and back. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  fold,
  gradcheck,
  gradgradcheck,
  init,
  nn,
  ones,
  tensor,
  unfold,
  type WindowOptions,
  zeros,
} from "../../../mod.ts";
import { drawn, each, numbers } from "../../helpers/numbers.ts";

await init();

const CASES: [[number, number], { stride: number[]; padding: number[]; dilation: number[] }][] = [
  [[3, 2], { stride: [1, 1], padding: [0, 0], dilation: [1, 1] }],
  [[2, 3], { stride: [2, 3], padding: [1, 0], dilation: [1, 2] }],
  [[1, 2], { stride: [3, 1], padding: [0, 2], dilation: [1, 3] }],
];
const [N, C, H, W] = [2, 3, 7, 6];

Deno.test("unfold gives windows as columns, and fold adds them up", async () => {
  const values = numbers("x", N * C * H * W), x = tensor(values, { shape: [N, C, H, W] });
  for (const [kernel, { stride, padding, dilation }] of CASES) {
    const options = { stride, padding, dilation } as unknown as WindowOptions;
    const [rows, columns] = [H, W].map((s, d) =>
      Math.floor((s + 2 * padding[d]! - dilation[d]! * (kernel[d]! - 1) - 1) / stride[d]!) + 1
    ) as [number, number];
    /** Where place (a, b) of window l lies in an image, or -1 in the padding. */
    const source = (a: number, b: number, l: number) => {
      const i = Math.floor(l / columns) * stride[0]! - padding[0]! + a * dilation[0]!;
      const j = l % columns * stride[1]! - padding[1]! + b * dilation[1]!;
      return i >= 0 && i < H && j >= 0 && j < W ? i * W + j : -1;
    };
    const shape = [N, C, ...kernel, rows * columns];
    const want = each(shape, (n, c, a, b, l) => {
      const from = source(a!, b!, l!);
      return from < 0 ? 0 : values[(n! * C + c!) * H * W + from]!;
    });
    const folded = [N, C * kernel[0] * kernel[1], rows * columns];
    for (const y of [unfold(x, kernel, options), new nn.Unfold(kernel, options).forward(x)]) {
      assertEquals([y.shape, Array.from(await y.data())], [folded, want]);
    }
    // Small whole numbers, whose sums are exact.
    const sums = Array<number>(N * C * H * W).fill(0);
    const ints = each(shape, (n, c, a, b, l) => {
      const value = (n! + 2 * c! + 3 * a! + 5 * b! + 7 * l!) % 11 - 5, to = source(a!, b!, l!);
      if (to >= 0) sums[(n! * C + c!) * H * W + to]! += value;
      return value;
    });
    const cols = tensor(ints, { shape: folded });
    const layer = new nn.Fold([H, W], kernel, options);
    for (const y of [fold(cols, [H, W], kernel, options), layer.forward(cols)]) {
      assertEquals([y.shape, Array.from(await y.data())], [[N, C, H, W], sums]);
    }
  }
});

Deno.test("unfold(dim, size, step) is a view of windows along a dimension", async () => {
  const x = tensor([1, 2, 3, 4, 5, 6, 7]);
  assertEquals(await x.unfold(0, 3, 2).array(), [[1, 2, 3], [3, 4, 5], [5, 6, 7]]);
  const rows = tensor([[1, 2], [3, 4], [5, 6]]).unfold(-2, 2, 1);
  assertEquals(await rows.array(), [[[1, 3], [2, 4]], [[3, 5], [4, 6]]]);
  // Of a transposed view, and used by what takes strided operands and what does not.
  const t = tensor([[1, 2, 3], [4, 5, 6]]).transpose(0, 1).unfold(0, 2, 1);
  assertEquals(await t.mul(2).array(), [[[2, 4], [8, 10]], [[4, 6], [10, 12]]]);
  assertEquals(await t.sum(0).array(), [[3, 5], [9, 11]]);
  assertEquals(await t.reshape(-1).array(), [1, 2, 4, 5, 2, 3, 5, 6]);
  assertEquals(await x.unfold(0, 2, 5).add(x.unfold(0, 2, 5)).array(), [[2, 4], [12, 14]]);
  const leaf = ones([5], { requiresGrad: true });
  leaf.unfold(0, 3, 1).sum().backward();
  assertEquals(await leaf.grad!.array(), [1, 2, 3, 2, 1]);
});

Deno.test("windows have the gradients of central differences, and those have theirs", async () => {
  const options = { stride: [2, 1], padding: [1, 0], dilation: [1, 2] } as const;
  for (const check of [gradcheck, gradgradcheck]) {
    const x = drawn("x", [1, 2, 4, 4]).requiresGrad_();
    await check((x) => unfold(x!, 2, options).square(), [x]);
    const columns = drawn("c", [1, 8, 6]).requiresGrad_();
    await check((c) => fold(c!, [4, 4], 2, options).square(), [columns]);
  }
});

Deno.test("layers of windows print as PyTorch's, and wrong calls say what would be right", () => {
  assertEquals(
    String(new nn.Unfold([2, 3], { stride: 2 })),
    "Unfold(kernel_size=(2, 3), dilation=1, padding=0, stride=2)",
  );
  assertEquals(
    String(new nn.Fold([4, 5], 2)),
    "Fold(output_size=(4, 5), kernel_size=2, dilation=1, padding=0, stride=1)",
  );
  const image = zeros([1, 2, 4, 4]);
  const calls: [() => unknown, string][] = [
    [() => unfold(zeros([4, 4]), 2), "it must be [N, C, H, W] or [C, H, W]"],
    [() => unfold(image, 5), "they must hold a window"],
    [() => unfold(image, 0), "kernel whole numbers of at least 1"],
    [() => unfold(image, 2, { padding: -1 }), "padding"],
    [() => fold(zeros([1, 8, 8]), 4, 2), "it must be [N, C · 4, 9]"],
    [() => fold(zeros([1, 6, 9]), 4, 2), "it must be [N, C · 4, 9]"],
    [() => image.unfold(2, 5, 1), "Cannot unfold dimension 2 of [1, 2, 4, 4] into windows of 5"],
    [() => image.unfold(4, 1, 1), "along dimension 4"],
    [() => image.unfold(2, 2, 0), "step 0: it must be a whole number of at least 1"],
    [() => zeros([]).unfold(0, 1, 1), "which has no dimension"],
    [() => new nn.Unfold(0), "make Unfold with kernelSize 0"],
    [() => new nn.Fold(0, 2), "make Fold with outputSize 0"],
  ];
  for (const [call, message] of calls) {
    const error = assertThrows(call, Error);
    const said = error.message.replace(/\[0, 0\]: it must be /, "");
    assert(said.includes(message), `${error.message}, not ${message}`);
  }
});
