/** The dtypes of ops on two operands, beside what PyTorch gives. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DType, resultType } from "../../engine/dtype.ts";
import { cat, init, ones, stack, type Tensor, tensor, where, zeros } from "../../mod.ts";

const info = await init();
const half = info.features.has("shader-f16");
const DTYPES = ["f32", "f16", "i32", "u32", "bool"] as const satisfies readonly DType[];

/**
 * What PyTorch 2.14.1 makes of a and b. Four lines an op: both with dimensions, b without, a without, neither.
 * In a line, separated by commas, each dtype of a; in each, those of b: f32 f16 i32 u32 bool. `-` is what PyTorch
 * refuses, or has no kernel for.
 */
const PYTORCH: Readonly<Record<string, readonly string[]>> = {
  add: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 - - -, f32 f16 i32 - bool",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 i32 - -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - bool",
  ],
  mul: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - u32 -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 u32 u32 u32, f32 f16 i32 - bool",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 u32 i32, f32 f16 i32 u32 -, f32 f16 i32 u32 bool",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - u32 -, f32 f16 i32 - bool",
  ],
  maximum: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 - - -, f32 f16 i32 - bool",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 i32 - -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - bool",
  ],
  div: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 - f32, f32 f16 - f32 -, f32 f16 f32 - f32",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 f32 f32 f32, f32 f16 f32 f32 f32, f32 f16 f32 - f32",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 f32 f32, f32 f16 f32 f32 -, f32 f16 f32 f32 f32",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 - f32, f32 f16 - f32 -, f32 f16 f32 - f32",
  ],
  pow: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 i32 - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
  ],
  floorDivide: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 i32 - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
  ],
  remainder: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 - - -, f32 f16 i32 - -",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 i32 - -, f32 f16 i32 - -",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - - -, f32 f16 i32 - -",
  ],
  atan2: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 - f32, f32 f16 - f32 -, f32 f16 f32 - f32",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 f32 f32 f32, f32 f16 f32 f32 f32, f32 f16 f32 - f32",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 f32 f32, f32 f16 f32 f32 -, f32 f16 f32 f32 f32",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 f32 - f32, f32 f16 - f32 -, f32 f16 f32 - f32",
  ],
  where: [
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - u32 -, f32 f16 i32 - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, f32 f16 i32 i32 i32, f32 f16 u32 u32 u32, f32 f16 i32 - bool",
    "f32 f16 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 u32 i32, f32 f16 i32 u32 -, f32 f16 i32 u32 bool",
    "f32 f32 f32 f32 f32, f32 f16 f16 f16 f16, f32 f16 i32 - i32, f32 f16 - u32 -, f32 f16 i32 - bool",
  ],
  eq: [
    "bool bool bool bool bool, bool bool bool bool bool, bool bool bool - bool, bool bool - bool -, bool bool bool - bool",
    "bool bool bool bool bool, bool bool bool bool bool, bool bool bool bool bool, bool bool bool bool bool, bool bool bool - bool",
    "bool bool bool bool bool, bool bool bool bool bool, bool bool bool bool bool, bool bool bool bool -, bool bool bool bool bool",
    "bool bool bool bool bool, bool bool bool bool bool, bool bool bool - bool, bool bool - bool -, bool bool bool - bool",
  ],
  addInPlace: [
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 - i32, - - - - -, - - - - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 i32 i32, - - - - -, - - - - bool",
    "",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 - i32, - - - - -, - - - - bool",
  ],
  mulInPlace: [
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 - i32, - - - u32 -, - - - - bool",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 i32 i32, - - u32 u32 u32, - - - - bool",
    "",
    "f32 f32 f32 f32 f32, f16 f16 f16 f16 f16, - - i32 - i32, - - - u32 -, - - - - bool",
  ],
};

const CHOICE = () => tensor([true, false, true]);
const OPS: Readonly<Record<string, (a: Tensor, b: Tensor) => Tensor>> = {
  add: (a, b) => a.add(b),
  mul: (a, b) => a.mul(b),
  maximum: (a, b) => a.maximum(b),
  div: (a, b) => a.div(b),
  pow: (a, b) => a.pow(b),
  floorDivide: (a, b) => a.floorDivide(b),
  remainder: (a, b) => a.remainder(b),
  atan2: (a, b) => a.atan2(b),
  where: (a, b) => where(CHOICE(), a, b),
  eq: (a, b) => a.eq(b),
  addInPlace: (a, b) => a.add_(b),
  mulInPlace: (a, b) => a.mul_(b),
};

/** Both operands' kinds, and the dtype that PyTorch gives. */
function* pairs(lines: readonly string[]) {
  const kinds = [[[3], [3]], [[3], []], [[], [3]], [[], []]] as const;
  for (const [k, [shapeA, shapeB]] of kinds.entries()) {
    if (lines[k] === "") continue;
    const rows = lines[k]!.split(", ").map((row) => row.split(" "));
    for (const [i, a] of DTYPES.entries()) {
      for (const [j, b] of DTYPES.entries()) {
        if (!half && (a === "f16" || b === "f16")) continue;
        yield {
          a: { dtype: a, shape: [...shapeA] },
          b: { dtype: b, shape: [...shapeB] },
          want: rows[i]![j]! as DType | "-",
        };
      }
    }
  }
}

for (const [name, lines] of Object.entries(PYTORCH)) {
  Deno.test(`${name} of every pair of dtypes, with dimensions and without, is of PyTorch's`, () => {
    let compared = 0;
    for (const { a, b, want } of pairs(lines)) {
      if (want === "-") continue;
      const text = `${a.dtype} [${a.shape}], ${b.dtype} [${b.shape}]`;
      using x = ones(a.shape, { dtype: a.dtype });
      using y = ones(b.shape, { dtype: b.dtype });
      using result = OPS[name]!(x, y);
      assertEquals(result.dtype, want, text);
      compared++;
    }
    assert(compared > 20, `${compared}`);
  });
}

Deno.test("where() is of what resultType() says, and so are ops that keep dtypes", () => {
  for (const { a, b, want } of pairs(PYTORCH.where!)) {
    if (want !== "-") assertEquals(resultType(a, b), want);
  }
  // What PyTorch refuses: the higher one, or that with dimensions.
  const [u, i] = [{ dtype: "u32", shape: [3] }, { dtype: "i32", shape: [3] }] as const;
  assertEquals([resultType(u, i), resultType(u, { ...i, shape: [] })], ["i32", "u32"]);
  assertEquals(resultType(u, { dtype: "bool", shape: [3] }), "u32");
});

Deno.test("numbers leave a tensor what it is, unless they are of a higher category", () => {
  // PyTorch 2.14.1, of f32 f16 i32 bool with 2 and with 2.5, int64 read as i32.
  const PYTORCH_NUMBERS: [(x: Tensor, v: number) => Tensor, string, string][] = [
    [(x, v) => x.add(v), "f32 f16 i32 i32", "f32 f16 f32 f32"],
    [(x, v) => x.mul(v), "f32 f16 i32 i32", "f32 f16 f32 f32"],
    [(x, v) => x.div(v), "f32 f16 f32 f32", "f32 f16 f32 f32"],
    [(x, v) => x.pow(v), "f32 f16 i32 i32", "f32 f16 f32 f32"],
    [(x, v) => x.floorDivide(v), "f32 f16 i32 i32", "f32 f16 f32 f32"],
    [(x, v) => where(x.eq(x), x, v), "f32 f16 i32 i32", "f32 f16 f32 f32"],
    [(x, v) => where(x.eq(x), v, x), "f32 f16 i32 i32", "f32 f16 f32 f32"],
  ];
  for (const [f, whole, fraction] of PYTORCH_NUMBERS) {
    for (const [value, want] of [[2, whole], [2.5, fraction]] as const) {
      for (const shape of [[3], []]) {
        for (const [i, dtype] of (["f32", "f16", "i32", "bool"] as const).entries()) {
          if (!half && dtype === "f16") continue;
          assertEquals(
            f(ones(shape, { dtype }), value).dtype,
            want.split(" ")[i],
            `${f}, ${dtype}`,
          );
        }
      }
    }
  }
});

Deno.test("bools that are added are or, multiplied and; subtracted they are whole numbers", async () => {
  const [a, b] = [tensor([true, true, false, false]), tensor([true, false, true, false])];
  assertEquals(await a.add(b).array(), [true, true, true, false]);
  assertEquals(await a.mul(b).array(), [true, false, false, false]);
  assertEquals(await a.maximum(b).array(), [true, true, true, false]);
  assertEquals(await a.minimum(b).array(), [true, false, false, false]);
  assertEquals(await a.add(b, { alpha: 2 }).array(), [true, true, true, false]);
  assertEquals(await a.add(b, { alpha: 0 }).array(), [true, true, false, false]);
  assertEquals(await a.sub(b).array(), [0, 1, -1, 0]);
  assertEquals(await a.add(1).array(), [2, 2, 1, 1]);
  assertEquals(await a.add_(b).array(), [true, true, true, false]);
});

Deno.test("whole numbers to the power of whole numbers are whole, as PyTorch has them", async () => {
  const i = tensor([2, 3, -2], { dtype: "i32" });
  assertEquals(await i.pow(3).array(), [8, 27, -8]);
  assertEquals(await i.pow(tensor([-1, 0, 2], { dtype: "i32" })).array(), [0, 1, 4]);
  // 3^40 modulo 2^32.
  assertEquals(await i.pow(tensor(40, { dtype: "i32" })).array(), [0, 689956897, 0]);
  const ends = tensor([1, -1, -1, 0, 2, 0, -1], { dtype: "i32" });
  const powers = tensor([-3, -3, -2, -3, -3, 0, 2 ** 31 - 1], { dtype: "i32" });
  assertEquals(await ends.pow(powers).array(), [1, -1, 1, 0, 0, 1, -1]);
  const u = tensor([3, 65536, 65535, 2], { dtype: "u32" });
  assertEquals(await u.pow(2).array(), [9, 0, 4294836225, 4]);
  assertEquals(await u.pow(tensor([0, 1, 1, 31], { dtype: "u32" })).array(), [
    1,
    65536,
    65535,
    2 ** 31,
  ]);
  assertEquals(await i.pow(0.5).isnan().array(), [false, false, true]);
  assertThrows(() => i.pow(-1), RangeError, "Cannot pow whole numbers to -1");
});

Deno.test("in-place ops keep their dtype, and refuse what it cannot hold", async () => {
  const i = tensor([1, 2], { dtype: "i32" });
  assertThrows(() => i.add_(0.5), TypeError, "Cannot add_ into i32: the result is f32");
  assertThrows(() => i.mul_(tensor([1, 2])), TypeError, "the result is f32");
  const b = tensor([true, false]);
  assertThrows(
    () => b.add_(1),
    TypeError,
    'into bool: the result is i32; convert the tensor with to("i32")',
  );
  assertThrows(() => b.mul_(i), TypeError, "the result is i32");
  assertEquals(await i.add_(b).array(), [2, 2]);
});

Deno.test({
  name: "f16 beside f32 without dimensions stays f16, and gives that an f32 gradient",
  ignore: !half,
  async fn() {
    const x = tensor([1, 2, 60000], { dtype: "f16", requiresGrad: true });
    const scale = tensor(0.5, { requiresGrad: true });
    const y = x.mul(scale);
    assertEquals([y.dtype, await y.array()], ["f16", [0.5, 1, 30000]]);
    // The terms of the scale's gradient, up to 120000, are no f16: they are not rounded to it.
    y.backward(tensor([2, 2, 2], { dtype: "f16" }));
    assertEquals([scale.grad!.dtype, await scale.grad!.item()], ["f32", 120006]);
    assertEquals([x.grad!.dtype, await x.grad!.array()], ["f16", [1, 1, 1]]);
    const shifted = x.detach().narrow(0, 0, 2).add(tensor(1, { requiresGrad: true }));
    assertEquals([shifted.dtype, shifted.requiresGrad], ["f16", true]);
    // Neither is rounded before it is used.
    const small = tensor([1e-3, 2e-3], { dtype: "f16" });
    assertEquals(await small.mul(tensor(70000)).array(), await small.mul(70000).array());
    const chosen = where(tensor([true, false, true]), x, tensor(0.5, { requiresGrad: true }));
    assertEquals(chosen.dtype, "f16");
    assertEquals(await x.detach().mul(tensor([0.5])).array(), [0.5, 1, 30000]);
    assertEquals(x.mul(tensor([0.5])).dtype, "f32");
  },
});

Deno.test({
  name: "comparisons of f16 round what is beside it to f16, as PyTorch's do",
  ignore: !half,
  async fn() {
    const h = tensor([0.1, 1, 2], { dtype: "f16" });
    const [F, T] = [false, true];
    assertEquals(await h.eq(tensor(0.1)).array(), [T, F, F]);
    assertEquals(await h.eq(0.1).array(), [T, F, F]);
    assertEquals(await tensor(0.1).eq(h).array(), [T, F, F]);
    assertEquals(await h.lt(tensor(0.1)).array(), [F, F, F]);
    assertEquals(await h.ge(0.1).array(), [T, T, T]);
    assertEquals(await h.gt(tensor(0.09998)).array(), [F, T, T]);
    assertEquals(await h.gt(0.09998).array(), [F, T, T]);
    // Both without dimensions, and both with: f32.
    assertEquals(await h.select(0, 0).eq(tensor(0.1)).array(), F);
    assertEquals(await h.eq(tensor([0.1, 1, 2])).array(), [F, T, T]);
    assertEquals(await h.select(0, 0).eq(0.1).array(), T);
  },
});

Deno.test("cat() and stack() give the highest dtype of their tensors", async () => {
  const [whole, truth] = [tensor([1, 2], { dtype: "i32" }), tensor([true, false])];
  const x = tensor([0.5], { requiresGrad: true });
  const all = cat([whole, truth, x]);
  assertEquals([all.dtype, await all.array()], ["f32", [1, 2, 1, 0, 0.5]]);
  all.mul(3).sum().backward();
  assertEquals(await x.grad!.array(), [3]);
  const stacked = stack([truth, whole], 1);
  assertEquals([stacked.dtype, await stacked.array()], ["i32", [[1, 1], [0, 2]]]);
  // Without dimensions they count like the others, as in PyTorch.
  assertEquals(stack([whole.select(0, 0), tensor(0.5)]).dtype, "f32");
});

Deno.test("cat() leaves out tensors [0], but not their dtype", async () => {
  const [none, x] = [zeros([0]), tensor([[1, 2]], { dtype: "i32" })];
  assertEquals(await cat([zeros([0], { dtype: "i32" }), x, x], 1).array(), [[1, 2, 1, 2]]);
  assertEquals(cat([none, x], -2).dtype, "f32");
  assertEquals(cat([none, none]).shape, [0]);
  // Among others of one dimension they may have a gradient.
  assertEquals(cat([zeros([0], { requiresGrad: true }), tensor([1])]).requiresGrad, true);
  assertThrows(() => cat([none, x], 2), RangeError, "dimension 2");
  assertThrows(
    () => cat([zeros([1, 0]), zeros([2, 3])]),
    TypeError,
    "all other sizes must be equal",
  );
});
