import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init, tensor } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import type { HostArray, HostDtype } from "../../../nn/io/host_array.ts";
import { decodeNpy, decodeNpz, encodeNpy, loadNpy, loadNpz, saveNpz } from "../../../nn/io/npy.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { zipFile } from "../../helpers/zip_file.ts";

await init();

/** A file with this header, version and data. */
function npy(dict: string, data: ArrayBufferView | number[] = [], version = 1): Uint8Array {
  const text = new TextEncoder().encode(dict);
  const length = version === 1
    ? [text.length & 255, text.length >> 8]
    : [text.length & 255, text.length >> 8, 0, 0];
  const bytes = ArrayBuffer.isView(data)
    ? [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]
    : data;
  return Uint8Array.of(
    0x93,
    ...new TextEncoder().encode("NUMPY"),
    version,
    0,
    ...length,
    ...text,
    ...bytes,
  );
}

function header(descr: string, shape: string, fortran = "False"): string {
  return `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;
}

function refuses(bytes: Uint8Array, message: string): void {
  assertThrows(
    () => decodeNpy(bytes, { file: "a.npy" }),
    FormatError,
    `Cannot read a.npy: ${message}`,
  );
}

const SIX = Float32Array.of(0, 1, 2, 3, 4, 5);

Deno.test("encodeNpy() writes the bytes that NumPy writes", () => {
  // numpy.save of numpy.arange(6, dtype="<f4").reshape(2, 3), of a scalar and of a vector.
  const dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  const bytes = encodeNpy({ dtype: "F32", shape: [2, 3], data: SIX });
  assertEquals(bytes, npy(`${dict.padEnd(117)}\n`, SIX));
  const text = (shape: number[], dtype: HostDtype, data: HostArray["data"]) =>
    new TextDecoder("latin1").decode(encodeNpy({ dtype, shape, data }).subarray(10, 128)).trim();
  assertEquals(text([], "F64", Float64Array.of(1)), header("<f8", "()"));
  assertEquals(text([3], "U8", Uint8Array.of(1, 2, 3)), header("|u1", "(3,)"));
  assertEquals(text([1], "BOOL", Uint8Array.of(1)), header("|b1", "(1,)"));
  assertThrows(
    () => encodeNpy({ dtype: "BF16", shape: [1], data: Uint16Array.of(1) }),
    TypeError,
    "NumPy has no BF16",
  );
  assertThrows(
    () => encodeNpy({ dtype: "F32", shape: [7], data: SIX }),
    TypeError,
    "it takes 28 bytes",
  );
});

Deno.test("decodeNpy() reads every dtype that encodeNpy() writes", () => {
  const cases: [HostDtype, HostArray["data"]][] = [
    ["BOOL", Uint8Array.of(0, 1)],
    ["U8", Uint8Array.of(1, 255)],
    ["I8", Int8Array.of(-1, 5)],
    ["U16", Uint16Array.of(1, 65535)],
    ["I16", Int16Array.of(-1, 5)],
    ["F16", Float16Array.of(1.5, -2)],
    ["U32", Uint32Array.of(1, 2 ** 32 - 1)],
    ["I32", Int32Array.of(-1, 5)],
    ["F32", Float32Array.of(1.5, -0)],
    ["U64", BigUint64Array.of(1n, 2n ** 64n - 1n)],
    ["I64", BigInt64Array.of(-1n, 5n)],
    ["F64", Float64Array.of(0.1, -2)],
  ];
  for (const [dtype, data] of cases) {
    for (const shape of [[2], [2, 1], [1, 2, 1]]) {
      assertEquals(decodeNpy(encodeNpy({ dtype, shape, data })), { dtype, shape, data });
    }
  }
  const complex = { dtype: "C64", shape: [1], data: Float32Array.of(1, 2) } as const;
  assertEquals(decodeNpy(encodeNpy(complex)), complex as unknown as HostArray);
});

Deno.test("decodeNpy() reads other versions, byte orders and orders of dims", () => {
  const expected = { dtype: "F32", shape: [2, 3], data: SIX } as unknown as HostArray;
  for (const version of [1, 2, 3]) {
    assertEquals(decodeNpy(npy(header("<f4", "(2, 3)"), SIX, version)), expected);
  }
  assertEquals(
    decodeNpy(npy("{'shape':(2L,3L),'descr':'=f4','fortran_order':False}\n", SIX)),
    expected,
  );
  const fortran = Float32Array.of(0, 3, 1, 4, 2, 5);
  assertEquals(decodeNpy(npy(header("<f4", "(2, 3)", "True"), fortran)), expected);
  assertEquals(
    decodeNpy(npy(header(">i2", "(2,)"), [1, 2, 255, 254])).data,
    Int16Array.of(258, -2),
  );
  const big = new Uint8Array(SIX.buffer.slice(4, 12)).reverse(); // 2, 1
  assertEquals(decodeNpy(npy(header(">c8", "(1,)"), big)).data, Float32Array.of(2, 1));
  assertEquals(decodeNpy(npy(header("<f4", "(0, 9)", "True"))).shape, [0, 9]);
});

Deno.test("decodeNpy() refuses what is no array of numbers", () => {
  refuses(new Uint8Array(20), "another magic number or version at byte 0");
  refuses(npy(header("<f4", "(2, 3)"), SIX, 4), "another magic number or version");
  refuses(npy(header("|O", "(1,)"), [0x80, 2, 0x2e]), "elements of type '|O' at byte 10");
  for (const descr of ["<U3", "|S3", "<M8[ns]", "<c16", "<f16", "|f4", "f4", ""]) {
    refuses(npy(header(descr, "(1,)"), SIX), `elements of type '${descr}'`);
  }
  refuses(
    npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", SIX),
    "records",
  );
  const bad = [
    "",
    "{}",
    "{'descr': '<f4', 'fortran_order': False}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,,)}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}",
    "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} + evil()",
    "{'descr': __import__('os'), 'fortran_order': False, 'shape': (6,)}",
  ];
  for (const dict of bad) refuses(npy(dict, SIX), "no header at byte 10");
});

Deno.test("decodeNpy() refuses sizes that are not the data's, before it takes memory", () => {
  refuses(npy(header("<f4", "(7,)"), SIX), "24 bytes of data for F32 [7] at byte 67, expected 28");
  refuses(npy(header("<f4", "(5,)"), SIX), "24 bytes of data for F32 [5] at byte 67, expected 20");
  const huge = "9007199254740991";
  refuses(npy(header("<f8", `(${huge}, ${huge})`)), "0 bytes of data for F64 [");
  refuses(npy(header("<f8", "(99999999999999999999,)")), "no header");
  const long = npy("", [], 2);
  long.fill(255, 8, 12);
  refuses(long, "header of 4294967295 bytes at byte 8, expected at most 65536");
});

Deno.test("loadNpy(), saveNpz() and loadNpz() keep tensors", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const tensors = {
      "fc.weight": tensor(SIX, { shape: [2, 3] }),
      half: tensor(Float16Array.of(1.5)),
      ids: tensor(Int32Array.of(-1, 2)),
      mask: tensor([true, false]),
      scalar: tensor(3),
      "10": tensor(Uint32Array.of(7)),
    };
    for (const compress of [false, true]) {
      await saveNpz(`${dir}/a.npz`, tensors, { compress });
      const loaded = await loadNpz(`${dir}/a.npz`);
      assertEquals(Object.keys(loaded).sort(), Object.keys(tensors).sort());
      for (const [name, value] of Object.entries(tensors)) {
        const other = loaded[name]!;
        assertEquals([other.dtype, [...other.shape]], [value.dtype, [...value.shape]]);
        assertEquals(await other.data(), await value.data());
        other.dispose();
      }
      const first = await Deno.readFile(`${dir}/a.npz`);
      await saveNpz(`${dir}/a.npz`, tensors, { compress });
      assertEquals(await Deno.readFile(`${dir}/a.npz`), first);
    }
    for (const value of Object.values(tensors)) value.dispose();
    const long = encodeNpy({ dtype: "I64", shape: [2], data: BigInt64Array.of(-3n, 2n ** 40n) });
    await Deno.writeFile(`${dir}/a.npy`, long);
    await assertRejects(
      () => loadNpy(`${dir}/a.npy`),
      FormatError,
      `Cannot read ${dir}/a.npy: tensor`,
    );
    using one = await loadNpy(encodeNpy({ dtype: "F64", shape: [], data: Float64Array.of(0.1) }));
    assertEquals([one.dtype, one.shape.length, await one.item()], ["f32", 0, Math.fround(0.1)]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("decodeNpz() refuses other files and names the entry at fault", async () => {
  const data = npy(header("<f4", "(7,)"), SIX);
  const refused = (bytes: Uint8Array, message: string) =>
    assertRejects(() => decodeNpz(bytes, { file: "a.npz" }), FormatError, message);
  await refused(zipFile([{ name: "x.npy", data }]), "Cannot read x.npy of a.npz: 24 bytes of data");
  await refused(zipFile([{ name: "x\n.npy", data }]), "Cannot read x?.npy of a.npz");
  await refused(zipFile([{ name: "x.txt", data }]), 'Cannot read a.npz: entry "x.txt"');
  await refused(data, "Cannot read a.npz: no end of central directory");
});

Deno.test("decodeNpy() and decodeNpz() read the right values or refuse damaged files", async () => {
  const array = { dtype: "F32", shape: [2, 3], data: SIX } as unknown as HostArray;
  const file = encodeNpy(array);
  assertEquals((await readAll(truncations(file), decodeNpy)).accepted, []);
  const flips = await readAll(bitFlips(file), decodeNpy);
  const random = await readAll(edits(file, { seed: 8, count: 3000 }), decodeNpy);
  for (const { bytes, result: { shape, data }, how } of [...flips.accepted, ...random.accepted]) {
    const elements = shape.reduce((product, size) => product * size, 1);
    assert(elements === data.length && data.byteLength <= bytes.length, how);
  }
  assert(random.refused > 1500, `${random.refused}`);

  const zip = zipFile([{ name: "x.npy", data: file, deflate: true }]);
  assertEquals(await decodeNpz(zip), { x: array });
  assertEquals((await readAll(truncations(zip), decodeNpz)).accepted, []);
  const bits = await readAll(bitFlips(zip), decodeNpz);
  const more = await readAll(edits(zip, { seed: 9, count: 1500 }), decodeNpz);
  for (const { result, how } of [...bits.accepted, ...more.accepted]) {
    assertEquals(Object.values(result), [array], how); // names have no checksum
  }
  assert(more.refused > 1000, `${more.refused}`);
});
