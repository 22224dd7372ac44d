import { assertEquals, assertThrows } from "@std/assert";
import { type DType, DTYPES, encode, hostView, isFloat, promote } from "../../engine/dtype.ts";
import { gpu, init } from "../../engine/gpu/device.ts";
import { arange, full, ones, tensor, zeros } from "../../engine/creation.ts";
import { readAll } from "../../engine/read.ts";

const ALL: DType[] = ["bool", "u32", "i32", "f16", "f32"];

Deno.test("promote() gives the higher of both dtypes", () => {
  ALL.forEach((a, i) =>
    ALL.forEach((b, j) => assertEquals(promote(a, b), ALL[Math.max(i, j)], `${a} with ${b}`))
  );
  assertEquals(ALL.filter(isFloat), ["f16", "f32"]);
});

Deno.test("encode() and hostView() keep the values of each dtype", () => {
  const samples: Record<DType, number[]> = {
    bool: [0, 1, 1],
    u32: [0, 1, 4294967295],
    i32: [-2147483648, -1, 2147483647],
    f16: [0.5, -65504, Infinity],
    f32: [Math.fround(0.1), -0, NaN],
  };
  for (const dtype of ALL) {
    const bytes = encode(dtype, samples[dtype]);
    assertEquals(bytes.byteLength, 3 * DTYPES[dtype].bytes, dtype);
    const back = hostView(dtype, bytes.slice().buffer, 3);
    assertEquals([...back], samples[dtype], dtype);
  }
  assertEquals([...hostView("bool", encode("bool", [3, -1, NaN]).buffer, 3)], [1, 1, 1]);
});

Deno.test("binary ops promote as PyTorch does", async () => {
  await init();
  const of = (dtype: DType) => ones([2], { dtype });
  assertEquals(of("bool").add(of("bool")).dtype, "bool");
  assertEquals(of("bool").add(of("u32")).dtype, "u32");
  assertEquals(of("u32").add(of("i32")).dtype, "i32");
  assertEquals(of("i32").mul(of("f32")).dtype, "f32");
  assertEquals(of("f16").mul(of("f32")).dtype, "f32");
  assertEquals(of("f16").mul(of("i32")).dtype, "f16");
  assertEquals(of("i32").div(of("i32")).dtype, "f32");
  assertEquals(of("i32").lt(of("f32")).dtype, "bool");
  // Numbers: a whole one takes the tensor's dtype, a fraction makes integers float.
  assertEquals(of("i32").add(1).dtype, "i32");
  assertEquals(of("i32").add(0.5).dtype, "f32");
  assertEquals(of("f16").add(0.5).dtype, "f16");
  assertEquals(of("bool").add(1).dtype, "i32");
  assertEquals(of("i32").exp().dtype, "f32");
  assertEquals(of("f16").exp().dtype, "f16");
  assertEquals(of("i32").neg().dtype, "i32");
});

Deno.test("mixed dtypes compute what they promise", async () => {
  await init();
  const i = tensor([-3, 2], { dtype: "i32" });
  const u = tensor([3, 2], { dtype: "u32" });
  const b = tensor([true, false]);
  const f = tensor([0.5, -0.5]);
  assertEquals(await i.add(u).array(), [0, 4]);
  assertEquals(await i.mul(f).array(), [-1.5, -1]);
  assertEquals(await b.add(b).array(), [true, false]);
  assertEquals(await b.mul(f).array(), [0.5, -0]);
  assertEquals(await i.div(u).array(), [-1, 1]);
  assertEquals(await i.eq(f).array(), [false, false]);
  assertEquals(await b.sum().array(), 1);
  assertEquals(await i.neg().array(), [3, -2]);
  assertEquals(await tensor([5, 0], { dtype: "u32" }).sign().array(), [1, 0]);
});

Deno.test("tensor() takes its dtype from the data", async () => {
  await init();
  const cases = [
    [tensor([1, 2]), "f32"],
    [tensor([true, false]), "bool"],
    [tensor(new Int32Array(2)), "i32"],
    [tensor(new Uint32Array(2)), "u32"],
    [tensor(new Float16Array(2)), "f16"],
    [tensor(new Float64Array(2)), "f32"],
    [tensor(new Uint8Array(2)), "f32"],
    [arange(3), "i32"],
    [arange(0, 1, { step: 0.25 }), "f32"],
    [zeros([2], { dtype: "u32" }), "u32"],
  ] as const;
  for (const [t, dtype] of cases) assertEquals(t.dtype, dtype);
  assertEquals((await tensor([true, false]).data()).constructor, Uint8Array);
  assertEquals((await tensor(new Float16Array([1.5, 2, 3])).data()).constructor, Float16Array);
  assertEquals(await tensor([[[1], [2]]]).array(), [[[1], [2]]]);
  assertEquals(tensor([[], []]).shape, [2, 0]);
  assertEquals(tensor(7).shape, []);
  assertThrows(() => tensor([[1], [2, 3]]), TypeError);
});

Deno.test("conversions are right beside a workgroup's end, and of what lies with gaps", async () => {
  const values = Array.from({ length: 7 }, (_, i) => i - 3);
  const whole = tensor(values, { dtype: "i32" }).to("u32");
  assertEquals([...await whole.data()], values.map((v) => v >>> 0));
  if (!gpu().info.features.has("shader-f16")) return;
  const x = tensor(Array.from({ length: 15 }, (_, i) => i + 0.5), { shape: [3, 5] });
  const turned = x.transpose(0, 1).to("f16");
  const want = [0, 1, 2, 3, 4].map((c) => [0, 1, 2].map((r) => 5 * r + c + 0.5));
  assertEquals(await turned.array(), want);
});

Deno.test("every dtype converts to every other, whole, by fours and in rows with gaps", async () => {
  const half = gpu().info.features.has("shader-f16");
  const dtypes = (["f32", "f16", "i32", "u32", "bool"] as const).filter((d) => half || d !== "f16");
  const converted = (v: number, to: DType) =>
    to === "bool" ? Number(v !== 0) : to === "i32" || to === "u32" ? Math.trunc(v) : v;
  for (const from of dtypes) {
    for (const to of dtypes) {
      const least = from === "u32" || to === "u32" ? 0 : -5;
      const step = from === "f32" || from === "f16" ? 0.5 : 1;
      const value = (i: number) => from === "bool" ? i % 3 % 2 : least + step * i;
      const made = (...shape: number[]) => {
        const values = Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => value(i));
        return tensor(values, { shape, dtype: from });
      };
      // A rest after the fours, fours, rows of fours that lie apart, and columns.
      for (
        const x of [
          made(7),
          made(1032),
          made(3, 16).narrow(1, 4, 8),
          made(3, 5).transpose(0, 1),
        ]
      ) {
        const want = Array.from(await x.data(), (v) => converted(Number(v), to));
        const got = Array.from(await x.to(to).data(), Number);
        assertEquals(got, want, `${from} to ${to}, [${x.shape}]`);
      }
    }
  }
});

Deno.test("integers that have no room are errors, not other numbers", async () => {
  const i32 = { dtype: "i32" } as const;
  const u32 = { dtype: "u32" } as const;
  const ends = "it holds -2147483648 to 2147483647";
  const cases: [() => unknown, string][] = [
    [() => full([1], 3e9, i32), `Cannot fill with 3000000000 in i32: ${ends}`],
    [() => full([1], -1, u32), "Cannot fill with -1 in u32: it holds 0 to 4294967295"],
    [() => full([1], NaN, i32), `Cannot fill with NaN in i32: ${ends}`],
    [() => tensor([1, 2 ** 31], i32), `Cannot keep 2147483648 in i32: ${ends}`],
    [() => tensor(Float32Array.of(Infinity), i32), `Cannot keep Infinity in i32: ${ends}`],
    [() => tensor(Uint32Array.of(2 ** 32 - 1), i32), `Cannot keep 4294967295 in i32: ${ends}`],
    [() => tensor([1], i32).add(2 ** 33), `Cannot add the number 8589934592 in i32: ${ends}`],
    [() => tensor([1], u32).maximum(-1), "Cannot maximum the number -1 in u32: it holds 0 to"],
    [
      () => tensor([1], i32).maskedFill(tensor([true]), -Infinity),
      `Cannot fill with -Infinity in i32: ${ends}`,
    ],
  ];
  for (const [run, message] of cases) assertThrows(run, RangeError, message);
  // What fits does, at the ends, too; fractions are cut off, and u32 wraps around and back.
  const fits = [
    full([1], -2147483648.5, i32),
    full([1], 2 ** 32 - 1, u32),
    tensor([2 ** 31 - 1], i32),
    tensor([7], u32).add(-2),
    tensor([7], u32).sub(-2),
  ];
  const got = await readAll(fits);
  assertEquals(got.map((d) => d[0]), [-(2 ** 31), 2 ** 32 - 1, 2 ** 31 - 1, 5, 9]);
});
