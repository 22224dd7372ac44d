import { assertEquals, assertRejects } from "@std/assert";
import { init, memory, synchronize, tensor, zeros } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import type { HostArray, HostDtype } from "../../../nn/io/host_array.ts";
import { loadSafetensors, saveSafetensors } from "../../../nn/io/safetensors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../nn/io/safetensors_format.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";

await init();

async function withDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** One array in a file of its own. */
function one(
  dtype: HostDtype,
  data: HostArray["data"],
  shape: number[] = [data.length],
): Uint8Array {
  return encodeSafetensors({ x: { dtype, shape, data } });
}

/** The tensor `x` of a file: dtype, shape and elements. */
async function load(bytes: Uint8Array) {
  using x = (await loadSafetensors(bytes))["x"]!;
  return { dtype: x.dtype, shape: [...x.shape], data: await x.data() };
}

Deno.test("saveSafetensors() and loadSafetensors() keep every dtype of the engine", async () => {
  await withDir(async (dir) => {
    const path = `${dir}/w.safetensors`;
    const bits = Uint32Array.of(0x7fc00001, 0x80000000, 0x00000001, 0xff800000); // NaN, -0, tiny, -inf
    const floats = new Float32Array(bits.buffer);
    const tensors = {
      "a.weight": tensor(floats, { shape: [2, 2] }),
      half: tensor(Float16Array.of(1.5, -0), { shape: [1, 2] }),
      ids: tensor(Int32Array.of(-1, 2 ** 31 - 1)),
      counts: tensor(Uint32Array.of(2 ** 32 - 1)),
      mask: tensor([[true], [false], [true]]),
      scalar: tensor(3),
      none: zeros([0, 4]),
    };
    await saveSafetensors(path, tensors, { note: "é" });
    const file = decodeSafetensors(await Deno.readFile(path));
    assertEquals(file.metadata, { note: "é" });
    const stored = Object.entries(file.tensors).map(([name, { dtype }]) => [name, dtype]);
    assertEquals(Object.fromEntries(stored), {
      "a.weight": "F32",
      half: "F16",
      ids: "I32",
      counts: "U32",
      mask: "BOOL",
      scalar: "F32",
      none: "F32",
    });
    const loaded = await loadSafetensors(path);
    assertEquals(Object.keys(loaded).sort(), Object.keys(tensors).sort());
    for (const [name, expected] of Object.entries(tensors)) {
      const found = loaded[name]!;
      assertEquals(found.dtype, expected.dtype, name);
      assertEquals(found.shape, expected.shape, name);
      assertEquals(found.requiresGrad, false);
      const [a, b] = [await found.data(), await expected.data()];
      assertEquals(new Uint8Array(a.buffer), new Uint8Array(b.buffer), name);
    }
    const weight = await loaded["a.weight"]!.data();
    assertEquals(new Uint32Array(weight.buffer), bits);
  });
});

Deno.test("saveSafetensors() stores a view in its own order", async () => {
  await withDir(async (dir) => {
    const x = tensor([[1, 2, 3], [4, 5, 6]]);
    await saveSafetensors(`${dir}/w`, { x: x.transpose(0, 1), row: x.select(0, 1) });
    const { tensors } = decodeSafetensors(await Deno.readFile(`${dir}/w`));
    assertEquals(tensors["x"], {
      dtype: "F32",
      shape: [3, 2],
      data: Float32Array.of(1, 4, 2, 5, 3, 6),
    });
    assertEquals(tensors["row"], { dtype: "F32", shape: [3], data: Float32Array.of(4, 5, 6) });
  });
});

Deno.test("saveSafetensors() writes the same bytes for the same tensors, and no tensors", async () => {
  await withDir(async (dir) => {
    const a = tensor([1, 2]), b = tensor(Int32Array.of(3));
    await saveSafetensors(`${dir}/1`, { a, b });
    await saveSafetensors(`${dir}/2`, { b, a });
    assertEquals(Deno.readFileSync(`${dir}/1`), Deno.readFileSync(`${dir}/2`));
    await saveSafetensors(`${dir}/3`, {});
    assertEquals(await loadSafetensors(`${dir}/3`), {});
  });
});

Deno.test("loadSafetensors() converts dtypes that tensors do not have", async () => {
  assertEquals(await load(one("BF16", Uint16Array.of(0x3f80, 0xc049, 0x7f80, 0x8000))), {
    dtype: "f32",
    shape: [4],
    data: Float32Array.of(1, -3.140625, Infinity, -0),
  });
  assertEquals(await load(one("F64", Float64Array.of(0.1, -Infinity, NaN, 1e-60, 3e38))), {
    dtype: "f32",
    shape: [5],
    data: Float32Array.of(0.1, -Infinity, NaN, 0, 3e38),
  });
  const signed = { dtype: "i32" as const, shape: [1, 2], data: Int32Array.of(-128, 127) };
  assertEquals(await load(one("I8", Int8Array.of(-128, 127), [1, 2])), signed);
  assertEquals(await load(one("I16", Int16Array.of(-128, 127), [1, 2])), signed);
  assertEquals(await load(one("I64", BigInt64Array.of(-128n, 127n), [1, 2])), signed);
  const unsigned = { dtype: "u32" as const, shape: [2], data: Uint32Array.of(0, 255) };
  assertEquals(await load(one("U8", Uint8Array.of(0, 255))), unsigned);
  assertEquals(await load(one("U16", Uint16Array.of(0, 255))), unsigned);
  assertEquals(await load(one("U64", BigUint64Array.of(0n, 255n))), unsigned);
});

Deno.test("loadSafetensors() refuses values that do not fit", async () => {
  const cases: [Uint8Array, string][] = [
    [one("I64", BigInt64Array.of(0n, 2n ** 31n)), "value 2147483648 at element 1"],
    [one("I64", BigInt64Array.of(-(2n ** 31n) - 1n)), "expected values of I64 that fit in Int32"],
    [one("I64", BigInt64Array.of(2n ** 32n)), "value 4294967296 at element 0"],
    [one("U64", BigUint64Array.of(2n ** 32n)), "expected values of U64 that fit in Uint32"],
    [one("F64", Float64Array.of(1, 2, -1e300)), "value -1e+300 at element 2"],
    [one("F64", Float64Array.of(3.5e38)), "expected values of F64 that fit in Float32"],
  ];
  for (const [bytes, message] of cases) {
    await assertRejects(() => loadSafetensors(bytes), FormatError, message);
  }
});

Deno.test("loadSafetensors() refuses dtypes without a rule", async () => {
  for (const [dtype, bytes] of [["C64", 16], ["F8_E4M3", 2], ["F8_E8M0", 2], ["F4", 1]] as const) {
    const file = one(dtype, new Uint8Array(bytes), [2]);
    await assertRejects(() => loadSafetensors(file), FormatError, `with dtype ${dtype}`);
  }
});

Deno.test("loadSafetensors() takes any byte of a BOOL but 0 as true", async () => {
  const { data } = await load(one("BOOL", Uint8Array.of(0, 1, 255)));
  assertEquals(data, Uint8Array.of(0, 1, 1));
});

Deno.test("loadSafetensors() makes no tensor from a bad file", async () => {
  await synchronize();
  const { liveBytes } = memory();
  const bytes = encodeSafetensors({
    a: { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
    z: { dtype: "C64", shape: [1], data: new Float32Array(2) },
  });
  await assertRejects(() => loadSafetensors(bytes), FormatError, 'tensor "z"');
  assertNothingLeft(liveBytes);
});

Deno.test("loadSafetensors() names the file", async () => {
  await withDir(async (dir) => {
    await assertRejects(
      () => loadSafetensors(`${dir}/none`),
      Deno.errors.NotFound,
      `Cannot read ${dir}/none: no such file`,
    );
    await Deno.writeFile(`${dir}/bad`, new Uint8Array(20));
    await assertRejects(
      () => loadSafetensors(`${dir}/bad`),
      FormatError,
      `Cannot read ${dir}/bad: `,
    );
  });
});

Deno.test("saveSafetensors() leaves no GPU memory behind", async () => {
  await withDir(async (dir) => {
    using x = tensor([1, 2, 3]);
    await saveSafetensors(`${dir}/w`, { x });
    const { liveBytes } = memory();
    for (let i = 0; i < 3; i++) await saveSafetensors(`${dir}/w`, { x });
    assertNothingLeft(liveBytes);
  });
});
