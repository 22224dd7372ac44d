/** Arguments that types rule out but plain JavaScript does not, and numbers that must be whole. */

import { assertEquals, assertThrows } from "@std/assert";
import * as lathe from "../../engine/mod.ts";
import type { DType, Tensor } from "../../engine/mod.ts";

await lathe.init();

const { arange, cat, eye, full, ones, rand, randint, tensor, zeros } = lathe;
const image = zeros([1, 1, 4, 4]);
const x = zeros([2, 3]);
const scalar = zeros([]);
const ids = tensor([0, 1], { dtype: "i32" });

/** What types forbid. */
// deno-lint-ignore no-explicit-any
const any = (value: unknown) => value as any;
const dtype = (name: string) => ({ dtype: name as DType });
const DTYPES = "f32, f16, i32, u32 or bool";

/** Calls, and the messages they must throw. */
function check(kind: typeof Error, cases: [() => unknown, string][]): void {
  for (const [fn, message] of cases) {
    const error = assertThrows(fn) as Error;
    assertEquals(error.message, message);
    assertEquals(error.constructor, kind, message);
  }
}

Deno.test("options that are words must be one of those there are", () => {
  const grid = zeros([1, 2, 2, 2]);
  const weight = zeros([1, 1, 3, 3]);
  const sampling = "it must be nearest or bilinear";
  const reduction = "it must be mean, sum or none";
  check(TypeError, [
    [
      () => lathe.gridSample(image, grid, { mode: any("bicubic") }),
      `Cannot gridSample with mode "bicubic": ${sampling}`,
    ],
    [
      () => lathe.gridSample(image, grid, { padding: any("reflection") }),
      'Cannot gridSample with padding "reflection": it must be zeros or border',
    ],
    [
      () => lathe.interpolate(image, { size: 2, mode: any("bicubic") }),
      `Cannot interpolate with mode "bicubic": ${sampling}`,
    ],
    [
      () => lathe.interpolate(image, { size: 2, mode: "nearest", antialias: true }),
      "Cannot interpolate nearest with antialias: it is for bilinear only",
    ],
    [
      () => lathe.warpAffine(image, zeros([1, 2, 3]), { mode: any("linear") }),
      `Cannot warpAffine with mode "linear": ${sampling}`,
    ],
    [
      () => lathe.crossEntropy(x, ids, { reduction: any("avg") }),
      `Cannot take cross entropy with reduction "avg": ${reduction}`,
    ],
    [
      () => lathe.crossEntropy(x, ids, { reduction: any("avg"), weight: ones([3]) }),
      `Cannot take cross entropy with reduction "avg": ${reduction}`,
    ],
    [
      () => lathe.nllLoss(x, ids, { reduction: any("avg") }),
      `Cannot take nllLoss with reduction "avg": ${reduction}`,
    ],
    [
      () => lathe.mseLoss(x, x, { reduction: any("avg") }),
      `Cannot reduce a loss with reduction "avg": ${reduction}`,
    ],
    [
      () => lathe.klDiv(x, x, { reduction: any("avg") }),
      'Cannot take klDiv with reduction "avg": it must be mean, sum, none or batchmean',
    ],
    [
      () => lathe.batchNorm(image, { training: true, activation: any("elu") }),
      'Cannot batchNorm with activation "elu": it must be relu, silu, gelu, sigmoid, tanh or hardswish',
    ],
    [
      () => lathe.nms(zeros([3, 6]), { inFormat: any("xyxy") }),
      'Cannot nms with inFormat "xyxy": it must be corner or center',
    ],
    [
      () => lathe.nms(zeros([3, 6]), { outFormat: any("xywh") }),
      'Cannot nms with outFormat "xywh": it must be corner or center',
    ],
    [
      () => lathe.conv2d(image, weight, { padding: any("full") }),
      'Cannot conv2d with padding "full": it must be same or valid',
    ],
    [
      () => lathe.conv1d(zeros([1, 1, 4]), zeros([1, 1, 3]), { padding: any("full") }),
      'Cannot conv1d with padding "full": it must be same or valid',
    ],
    [
      () => lathe.convTranspose2d(image, weight, { padding: any("same") }),
      'Cannot use sizes with size "same": it must be a number or [height, width]',
    ],
  ]);
});

Deno.test("dtypes must be those there are", () => {
  const make = (name: string) => `Cannot make a tensor with dtype ${name}: it must be ${DTYPES}`;
  check(TypeError, [
    [() => x.to(any("f64")), `Cannot convert with dtype "f64": it must be ${DTYPES}`],
    [() => x.to(any(undefined)), `Cannot convert with dtype null: it must be ${DTYPES}`],
    [() => zeros([2], dtype("float32")), make('"float32"')],
    [() => full([2], 1, dtype("toString")), make('"toString"')],
    [() => tensor([1], dtype("f64")), make('"f64"')],
    [() => arange(3, undefined, dtype("int64")), make('"int64"')],
    [() => eye(3, dtype("f64")), make('"f64"')],
    [() => rand([2], dtype("f64")), `Cannot draw numbers with dtype "f64": it must be ${DTYPES}`],
    [
      () => randint(0, 2, { shape: [2], ...dtype("int64") }),
      `Cannot draw numbers with dtype "int64": it must be ${DTYPES}`,
    ],
    [
      () => lathe.oneHot(ids, 2, dtype("f64")),
      `Cannot oneHot with dtype "f64": it must be ${DTYPES}`,
    ],
  ]);
});

Deno.test("indices and counts must be whole numbers", () => {
  const whole = "it must be a whole number";
  check(RangeError, [
    [
      () => x.select(1, 0.5),
      "Cannot select index 0.5 of dimension 1 of [2, 3]: it must be a whole number from -3 to 2",
    ],
    [
      () => x.select(1, -4),
      "Cannot select index -4 of dimension 1 of [2, 3]: it must be a whole number from -3 to 2",
    ],
    [
      () => zeros([0]).select(0, 0),
      "Cannot select index 0 of dimension 0 of [0]: it has none",
    ],
    [() => x.narrow(1, 0.5, 1), `Cannot narrow with start 0.5: ${whole}`],
    [() => x.narrow(1, 0, NaN), `Cannot narrow with length NaN: ${whole}`],
    [
      () => x.narrow(1, -4, 2),
      "Cannot slice dimension 1 of [2, 3] from -4 to -2: the range must lie within 0 to 3",
    ],
    [() => x.slice(0, NaN, 4), `Cannot slice with start NaN: ${whole}`],
    [() => x.slice(1, 0.5), `Cannot slice with start 0.5: ${whole}`],
    [() => x.slice(1, 0, 1.5), `Cannot slice with end 1.5: ${whole}`],
    [() => x.slice(1, 0, 3, 1.5), `Cannot slice with step 1.5: ${whole} of at least 1`],
    [() => x.split(1.5), `Cannot split with size 1.5: ${whole} of at least 1`],
    [
      () => x.split([1.5, 1.5], 1),
      "Cannot split with size [1.5, 1.5]: it must be whole numbers of at least 0",
    ],
    [() => x.chunk(NaN), `Cannot chunk with count NaN: ${whole} of at least 1`],
    [() => x.diagonal({ offset: 0.5 }), `Cannot take the diagonal with offset 0.5: ${whole}`],
    [() => x.tril(NaN), `Cannot tril with diagonal NaN: ${whole}`],
    [
      () => x.flatten(0.5),
      "Cannot flatten along dimension 0.5: a tensor of rank 2 has dimensions -2 to 1",
    ],
    [
      () => zeros([1, 1, 1]).flatten(2, 1),
      "Cannot flatten [1, 1, 1] from dimension 2 to 1: the start must not be after the end",
    ],
    [
      () => zeros([2, 3, 4]).flatten(2, 0),
      "Cannot flatten [2, 3, 4] from dimension 2 to 0: the start must not be after the end",
    ],
    [
      () => zeros([100]).topk(65.5),
      "Cannot take the top 65.5 of [100]: k must be a whole number from 1 to 100",
    ],
    [() => arange(NaN), "Cannot count from 0 to NaN by 1: all must be finite"],
    [() => arange(0, Infinity), "Cannot count from 0 to Infinity by 1: all must be finite"],
    [() => arange(0, 1, { step: NaN }), "Cannot count from 0 to 1 by NaN: all must be finite"],
    [() => eye(1.5), `Cannot make an identity matrix with n 1.5: ${whole} of at least 0`],
    [() => randint(0.5, 3, { shape: [1] }), `Cannot draw with low 0.5: ${whole}`],
    [() => randint(0, Infinity, { shape: [1] }), `Cannot draw with high Infinity: ${whole}`],
    [
      () => randint(0, 2 ** 31 + 1, { shape: [1] }),
      "Cannot draw from 0 to 2147483649: they must be -2147483648 to 2147483648, and less than 2^32 " +
      "apart",
    ],
    [
      () => randint(-1, 1, { shape: [1], dtype: "u32" }),
      "Cannot draw from -1 to 1: they must be 0 to 4294967296, and less than 2^32 apart",
    ],
  ]);
});

Deno.test("sizes of windows and images must be whole numbers", () => {
  const weight = zeros([1, 1, 3, 3]);
  const one = (name: string, what: string, least = 1) =>
    `Cannot ${name} with ${what}: it must be whole numbers of at least ${least}`;
  check(RangeError, [
    [() => lathe.maxPool2d(image, 1.5), one("maxPool2d", "kernel [1.5, 1.5]")],
    [() => lathe.maxPool2d(image, NaN), one("maxPool2d", "kernel [NaN, NaN]")],
    [() => lathe.maxPool2d(image, 0), one("maxPool2d", "kernel [0, 0]")],
    [
      () => lathe.avgPool2d(image, 2, { stride: NaN }),
      one("avgPool2d", "stride [NaN, NaN]"),
    ],
    [
      () => lathe.maxPool2d(image, 3, { padding: [0.5, 0] }),
      one("maxPool2d", "padding [0.5, 0]", 0),
    ],
    [
      () => lathe.maxPool2d(image, 2, { dilation: 1.5 }),
      one("maxPool2d", "dilation [1.5, 1.5]"),
    ],
    [() => lathe.conv2d(image, weight, { stride: 1.5 }), one("conv2d", "stride [1.5, 1.5]")],
    [
      () => lathe.conv2d(image, weight, { padding: NaN }),
      one("conv2d", "padding [NaN, NaN]", 0),
    ],
    [
      () => lathe.convTranspose2d(image, weight, { dilation: 0.5 }),
      one("convTranspose2d", "dilation [0.5, 0.5]"),
    ],
    [() => lathe.adaptiveAvgPool2d(image, 1.5), one("adaptiveAvgPool2d", "size [1.5, 1.5]")],
    [() => lathe.adaptiveMaxPool2d(image, [1, NaN]), one("adaptiveMaxPool2d", "size [1, NaN]")],
    [() => lathe.interpolate(image, { size: 2.5 }), one("interpolate", "size [2.5, 2.5]")],
  ]);
  check(TypeError, [
    [
      () => lathe.maxPool2d(image, any({ kernelSize: 2 })),
      "Cannot use sizes with size an object with kernelSize: it must be a number or [height, width]",
    ],
    [
      () => lathe.maxPool2d(image, 3, any(2)),
      "Cannot maxPool2d with options 2: write maxPool2d(x, 3, { stride: 2 })",
    ],
    [
      () => lathe.conv2d(image, weight, any(zeros([1]))),
      "Cannot conv2d with options a tensor [1]: write conv2d(x, w, { bias, stride: 2 })",
    ],
  ]);
});

Deno.test("scalars have no dimension to cut", () => {
  const cut = (name: string) => `Cannot ${name} [], which has no dimension: unsqueeze it first`;
  check(TypeError, [
    [() => scalar.split(1), cut("split")],
    [() => scalar.chunk(1), cut("chunk")],
    [() => scalar.select(0, 0), cut("select")],
    [() => scalar.narrow(0, 0, 1), cut("narrow")],
    [() => scalar.slice(0, 0, 1), cut("slice")],
    [() => scalar.unbind(), cut("unbind")],
    [() => cat([scalar, scalar]), "Cannot cat [], which has no dimension: use stack"],
    [
      () => zeros([2], { dtype: "i32" }).std(),
      'Cannot take the std of dtype i32: it must be a float, so call .to("f32") first',
    ],
  ]);
  check(RangeError, [[
    () => x.std(2),
    "Cannot std along dimension 2: a tensor of rank 2 has dimensions -2 to 1",
  ]]);
});

Deno.test("nothing may begin at the end of a buffer, or behind it", async () => {
  // 256 bytes, as aligned as windows of buffers are.
  const row = arange(64, undefined, { dtype: "f32" }).requiresGrad_();
  const none = row.narrow(0, 64, 0);
  assertEquals(await none.sum().item(), 0);
  assertEquals(await none.prod().item(), 1);
  assertEquals(await none.reshape(3, 0).matmul(zeros([0, 2])).sum().item(), 0);
  none.sum().add(row.sum()).backward();
  assertEquals(await row.grad!.sum().item(), 64);
  assertEquals(await zeros([100, 0, 30]).narrow(0, 100, 0).array(), []);
  assertEquals(await zeros([100, 3, 0]).select(0, 99).array(), [[], [], []]);
});

Deno.test("what is at the limits is still taken", async () => {
  const row = arange(6, undefined, { dtype: "f32" });
  const same = async (a: Tensor, b: unknown) => assertEquals(await a.array(), b as number[]);
  await same(row.narrow(0, -2, 2), [4, 5]);
  await same(row.narrow(0, -6, 1), [0]);
  await same(row.narrow(0, 6, 0), []);
  await same(row.select(0, -1), 5);
  await same(row.slice(0, -2, Infinity), [4, 5]);
  await same(row.slice(0, -Infinity, 2), [0, 1]);
  await same(scalar.flatten(), [0]);
  assertEquals(row.split([0, 6]).map((t) => t.shape), [[0], [6]]);
  assertEquals(x.flatten(1, 1).shape, [2, 3]);
  await same(randint(2 ** 31 - 1, 2 ** 31, { shape: [2] }), [2 ** 31 - 1, 2 ** 31 - 1]);
  await same(randint(-(2 ** 31), -(2 ** 31) + 1, { shape: [1] }), [-(2 ** 31)]);
  await same(randint(2 ** 32 - 1, 2 ** 32, { shape: [1], dtype: "u32" }), [2 ** 32 - 1]);
  const weight = ones([1, 1, 3, 3]);
  assertEquals(lathe.conv2d(image, weight, { padding: "valid" }).shape, [1, 1, 2, 2]);
  const line = lathe.conv1d(zeros([1, 1, 4]), ones([1, 1, 3]), { padding: "valid" });
  assertEquals(line.shape, [1, 1, 2]);
  // Without degrees of freedom: Infinity, or NaN where all elements are equal.
  await same(tensor([1, 2]).variance({ correction: 2 }), Infinity);
  await same(tensor([1]).variance(), NaN);
  await same(tensor([[1, 3]]).std(1, { correction: 0, keepdim: true }), [[1]]);
  await same(tensor([1, 3]).std({ correction: 0 }), 1);
});
