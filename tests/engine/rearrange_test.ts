/** Shape methods made of other ops: repeat, split, chunk, unbind and the modes of padding. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  arange,
  chunk,
  flip,
  glu,
  gradcheck,
  init,
  pad,
  randn,
  repeat,
  roll,
  split,
  Tensor,
  tensor,
  tril,
  triu,
  unbind,
  zeros,
} from "../../mod.ts";

await init();

/** 0, 1, 2, … of `shape`. */
function counted(...shape: number[]): Tensor {
  return arange(shape.reduce((n, s) => n * s, 1), undefined, { dtype: "f32" }).reshape(shape);
}

Deno.test("repeat tiles, and adds dimensions in front", async () => {
  const x = counted(2, 2);
  assertEquals(await repeat(x, [1, 2]).array(), [[0, 1, 0, 1], [2, 3, 2, 3]]);
  assertEquals(await x.repeat(2, 1).array(), [[0, 1], [2, 3], [0, 1], [2, 3]]);
  assertEquals(x.repeat(3, 2, 2).shape, [3, 4, 4]);
  assertEquals(x.repeat(0, 2).shape, [0, 4]);
  assertEquals(await tensor(7).repeat(3).array(), [7, 7, 7]);
  await gradcheck((x) => x!.repeat(2, 1, 3), [randn([2, 3], { requiresGrad: true })]);
  assertThrows(
    () => x.repeat(2),
    TypeError,
    "Cannot repeat [2, 2] [2] times: give a whole number >= 0 for each of its 2 dimensions",
  );
});

Deno.test("split, chunk and unbind cut as PyTorch does", async () => {
  const x = counted(7, 2);
  const shapes = (parts: Tensor[]) => parts.map((p) => p.shape[0]);
  assertEquals(shapes(split(x, 3)), [3, 3, 1]);
  assertEquals(shapes(split(x, [2, 5])), [2, 5]);
  assertEquals(shapes(chunk(x, 3)), [3, 3, 1]);
  assertEquals(shapes(chunk(x, 4)), [2, 2, 2, 1]);
  assertEquals(shapes(chunk(x, 6)), [2, 2, 2, 1]);
  assertEquals(chunk(x, 2, 1).map((p) => p.shape), [[7, 1], [7, 1]]);
  assertEquals(await split(x, [2, 5])[1]!.select(0, 0).array(), [4, 5]);
  assertEquals(await Promise.all(unbind(counted(2, 3)).map((t) => t.array())), [[0, 1, 2], [
    3,
    4,
    5,
  ]]);
  assertEquals(unbind(counted(2, 3), -1).map((t) => t.shape), [[2], [2], [2]]);
  const leaf = randn([5], { requiresGrad: true });
  await gradcheck((x) => x!.split([2, 3]).map((p, i) => p.mul(i + 1)), [leaf]);
  assertThrows(
    () => split(x, [3, 3]),
    TypeError,
    "Cannot split [7, 2] into [3, 3] along dimension 0: the parts must sum to 7",
  );
  assertThrows(
    () => split(x, 0),
    RangeError,
    "Cannot split with size 0: it must be a whole number of at least 1",
  );
  assertThrows(
    () => chunk(x, 0),
    RangeError,
    "Cannot chunk with count 0: it must be a whole number of at least 1",
  );
});

Deno.test("pad goes from the last dimension on, in four modes", async () => {
  const x = counted(2, 3);
  assertEquals(await pad(x, [1, 2]).array(), [[0, 0, 1, 2, 0, 0], [0, 3, 4, 5, 0, 0]]);
  assertEquals(await pad(x, [0, 0, 1, 0], { value: 9 }).array(), [[9, 9, 9], [0, 1, 2], [3, 4, 5]]);
  assertEquals(await pad(x, [-1, 1]).array(), [[1, 2, 0], [4, 5, 0]]);
  assertEquals(await pad(x, [2, 1], { mode: "reflect" }).array(), [
    [2, 1, 0, 1, 2, 1],
    [5, 4, 3, 4, 5, 4],
  ]);
  assertEquals(await pad(x, [1, 2], { mode: "replicate" }).array(), [
    [0, 0, 1, 2, 2, 2],
    [3, 3, 4, 5, 5, 5],
  ]);
  assertEquals(await pad(x, [2, 1, 1, 0], { mode: "circular" }).array(), [
    [4, 5, 3, 4, 5, 3],
    [1, 2, 0, 1, 2, 0],
    [4, 5, 3, 4, 5, 3],
  ]);
  const whole = tensor([1, 2], { dtype: "i32" });
  assertEquals(pad(whole, [1, 0]).dtype, "i32");
  assertEquals(await pad(whole, [1, 0], { value: -3 }).array(), [-3, 1, 2]);
  for (const mode of ["constant", "reflect", "replicate", "circular"] as const) {
    await gradcheck(
      (x) => x!.pad([2, 1, 1, 1], { mode }),
      [randn([1, 2, 3], { requiresGrad: true })],
    );
  }
  await gradcheck((x) => x!.pad([-1, 2, 0, -1]), [randn([2, 3], { requiresGrad: true })]);
});

Deno.test("pad says what it cannot do", () => {
  const x = counted(2, 3);
  assertThrows(
    () => pad(x, [3, 0], { mode: "reflect" }),
    RangeError,
    "Cannot pad [2, 3] by [3, 0] in mode reflect: a dimension of size 3 takes 0 to 2",
  );
  assertThrows(
    () => pad(x, [0, 4], { mode: "circular" }),
    RangeError,
    "Cannot pad [2, 3] by [0, 4] in mode circular: a dimension of size 3 takes 0 to 3",
  );
  assertThrows(
    () => pad(counted(0), [1, 0], { mode: "replicate" }),
    RangeError,
    "Cannot pad [0] by [1, 0] in mode replicate: a dimension of size 0 has nothing to repeat",
  );
  assertThrows(
    () => pad(x, [1]),
    TypeError,
    "Cannot pad [2, 3] by [1]: give two whole numbers a dimension, last dimension first",
  );
  assertThrows(
    () => pad(x, [0, -4]),
    RangeError,
    "Cannot pad [2, 3] by [0, -4]: dimension 1 has 3 elements to take away",
  );
  assertThrows(
    () => pad(x, [1, 1], { mode: "mirror" as "reflect" }),
    RangeError,
    'Cannot pad in mode "mirror": it must be constant, reflect, replicate or circular',
  );
});

Deno.test("flip, roll and triangles", async () => {
  const x = counted(2, 3);
  assertEquals(await flip(x, [1]).array(), [[2, 1, 0], [5, 4, 3]]);
  assertEquals(await x.flip(0, 1).array(), [[5, 4, 3], [2, 1, 0]]);
  assertEquals(await roll(x, 1).array(), [[5, 0, 1], [2, 3, 4]]);
  assertEquals(await roll(x, -1, 1).array(), [[1, 2, 0], [4, 5, 3]]);
  assertEquals(await roll(x, [1, 1], [0, 1]).array(), [[5, 3, 4], [2, 0, 1]]);
  assertEquals(await tril(x).array(), [[0, 0, 0], [3, 4, 0]]);
  assertEquals(await triu(x, 1).array(), [[0, 1, 2], [0, 0, 5]]);
  assertEquals(await x.diagonal().array(), [0, 4]);
  assertThrows(
    () => roll(x, [1, 2], 0),
    TypeError,
    "Cannot roll [2, 3] by [1, 2] along [0]: give one whole number a dimension",
  );
  assertThrows(
    () => tril(tensor([1])),
    TypeError,
    "Cannot tril [1]: it needs at least two dimensions",
  );
});

Deno.test("a dimension without elements has as many chunks as asked for", async () => {
  const x = zeros([3, 0, 2], { requiresGrad: true });
  assertEquals(chunk(x, 3, 1).map((t) => t.shape), [[3, 0, 2], [3, 0, 2], [3, 0, 2]]);
  assertEquals(x.split(2, 1).map((t) => t.shape), [[3, 0, 2]]);
  const y = glu(x, 1);
  assertEquals(y.shape, [3, 0, 2]);
  y.sum().backward();
  assertEquals((await x.grad!.data()).length, 0);
});

Deno.test("padding makes a copy, also where there is nothing to pad", async () => {
  for (const mode of ["constant", "reflect", "replicate", "circular"] as const) {
    const x = counted(2, 3);
    pad(x, [0, 0], { mode }).fill_(7);
    assertEquals(await x.array(), [[0, 1, 2], [3, 4, 5]], mode);
  }
});

Deno.test("repeat() makes a copy, also where an expanded view would do", async () => {
  const x = counted(1, 3);
  for (const times of [[1, 1], [2, 1], [2, 1, 1]]) {
    const y = x.repeat(times);
    y.slice(-1, 0, 1).slice(0, 0, 1).fill_(7);
    assertEquals((await y.data()).indexOf(7, 1), -1, `${times}`);
  }
  assertEquals(await x.array(), [[0, 1, 2]]);
});
