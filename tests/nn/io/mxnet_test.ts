import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { decodeMxnetParams, loadMxnetParams } from "../../../nn/io/mxnet.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { le } from "../../helpers/zip_file.ts";

await init();

const CONTEXT = le([4, 1], [4, 0]);

function bytesOf(data: ArrayBufferView): number[] {
  return [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

/** An array in the layout of a version; version 3 has NumPy's shapes. */
function array(
  version: 0 | 1 | 2 | 3,
  shape: number[],
  data: ArrayBufferView,
  type = 0,
): number[] {
  const wide = shape.flatMap((size) => le([8, size]));
  const rest = [...CONTEXT, ...le([4, type]), ...bytesOf(data)];
  const rank = le([4, shape.length]);
  if (version === 0) return [...rank, ...shape.flatMap((size) => le([4, size])), ...rest];
  if (version === 1) return [...le([4, 0xf993fac8]), ...rank, ...wide, ...rest];
  const magic = version === 2 ? 0xf993fac9 : 0xf993faca;
  return [...le([4, magic], [4, 0]), ...rank, ...wide, ...rest];
}

/** A file of arrays and names. */
function params(arrays: number[][], names: string[] = []): Uint8Array {
  return Uint8Array.from([
    ...le([8, 0x112], [8, 0], [8, arrays.length]),
    ...arrays.flat(),
    ...le([8, names.length]),
    ...names.flatMap((name) => {
      const text = new TextEncoder().encode(name);
      return [...le([8, text.length]), ...text];
    }),
  ]);
}

function refuses(bytes: Uint8Array, message: string, stripPrefix?: string[]): void {
  assertThrows(
    () => decodeMxnetParams(bytes, { file: "a.params", stripPrefix }),
    FormatError,
    `Cannot read a.params: ${message}`,
  );
}

const SIX = Float32Array.of(1, 2, 3, 4, 5, 6);

Deno.test("loadMxnetParams() reads every layout, also mixed", async () => {
  const bytes = params([
    array(0, [2, 3], SIX),
    array(1, [3, 2], SIX),
    array(2, [6], SIX),
    array(3, [], Float32Array.of(7)),
    array(3, [0, 2], new Float32Array(0)),
  ], ["arg:a", "aux:b", "é", "s", "e"]);
  const loaded = await loadMxnetParams(bytes, { stripPrefix: ["arg:", "aux:"] });
  assertEquals(Object.entries(loaded).map(([name, { shape }]) => [name, [...shape]]), [
    ["a", [2, 3]],
    ["b", [3, 2]],
    ["é", [6]],
    ["s", []],
    ["e", [0, 2]],
  ]);
  for (const name of ["a", "b", "é"]) assertEquals(await loaded[name]!.data(), SIX);
  assertEquals(await loaded["s"]!.data(), Float32Array.of(7));
  for (const tensor of Object.values(loaded)) tensor.dispose();
});

Deno.test("decodeMxnetParams() keeps names without stripPrefix and counts where there are none", () => {
  const one = array(2, [6], SIX);
  assertEquals(Object.keys(decodeMxnetParams(params([one], ["arg:a"]))), ["arg:a"]);
  assertEquals(Object.keys(decodeMxnetParams(params([one, one]))), ["0", "1"]);
  assertEquals(decodeMxnetParams(params([])), {});
});

Deno.test("decodeMxnetParams() reads every element type", () => {
  const cases: [number, string, ArrayBufferView][] = [
    [0, "F32", Float32Array.of(1.5, -2)],
    [1, "F64", Float64Array.of(0.1, -2)],
    [2, "F16", Float16Array.of(1.5, -2)],
    [3, "U8", Uint8Array.of(1, 255)],
    [4, "I32", Int32Array.of(-1, 5)],
    [5, "I8", Int8Array.of(-1, 5)],
    [6, "I64", BigInt64Array.of(-1n, 5n)],
    [7, "BOOL", Uint8Array.of(0, 1)],
    [8, "I16", Int16Array.of(-1, 5)],
    [9, "U16", Uint16Array.of(1, 65535)],
    [10, "U32", Uint32Array.of(1, 2 ** 32 - 1)],
    [11, "U64", BigUint64Array.of(1n, 2n ** 64n - 1n)],
    [12, "BF16", Uint16Array.of(0x3fc0, 0xc000)],
  ];
  for (const [type, dtype, data] of cases) {
    const { x } = decodeMxnetParams(params([array(2, [2], data, type)], ["x"]));
    assertEquals([x!.dtype, x!.shape, bytesOf(x!.data)], [dtype, [2], bytesOf(data)] as unknown[]);
  }
});

Deno.test("decodeMxnetParams() leaves out arrays that hold nothing", () => {
  const none = [
    le([4, 0]),
    le([4, 0xf993fac8], [4, 0]),
    le([4, 0xf993fac9], [4, 0], [4, 0]),
    le([4, 0xf993faca], [4, 0], [4, -1]),
  ];
  for (const array of none) assertEquals(decodeMxnetParams(params([array], ["x"])), {});
});

Deno.test("decodeMxnetParams() refuses what is no such file", () => {
  const one = array(2, [6], SIX);
  refuses(new Uint8Array(24), "magic 0x0 at byte 0, expected 0x112, then 0 (MXNet .params)");
  refuses(params([one], ["a", "b"]), "2 names at byte 80, expected 0 or 1, as many as arrays");
  refuses(params([one, one], ["a", "a"]), 'second array "a"');
  refuses(params([one, one], ["arg:a", "aux:a"]), 'second array "a"', ["arg:", "aux:"]);
  refuses(Uint8Array.of(...params([one]), 0), "1 trailing bytes at byte 88");
  refuses(params([one]).subarray(0, 70), "array of F32 [6] at byte 56, expected at most the 14");
  refuses(params([array(2, [6], SIX, 13)]), "element type 13 at byte 52, expected 0 to 12");
  refuses(params([array(2, [6], SIX, -1)]), "element type -1");
  refuses(params([le([4, 0xf993fac9], [4, 1])]), "array of storage type 1 (row sparse) at byte 28");
  refuses(params([le([4, 0xf993fac9], [4, 2])]), "array of storage type 2 (csr)");
  refuses(params([le([4, 33])]), "rank 33 at byte 24, expected 0 to 32");
  refuses(params([le([4, 0xf993fac9], [4, 0], [4, -1])]), "rank -1");
  refuses(params([array(2, [2 ** 40, 2 ** 40], SIX)]), "array of F32 [1099511627776, 10995116");
  refuses(params([le([4, 0xf993fac9], [4, 0], [4, 1], [8, -1])]), "size of 18446744073709551615");
  const endless = params([]).slice();
  endless.fill(255, 16, 22);
  refuses(endless, "end of file");
});

Deno.test("loadMxnetParams() refuses values that no tensor holds", async () => {
  const bytes = params([array(2, [1], BigInt64Array.of(2n ** 40n), 6)], ["n"]);
  await assertRejects(() => loadMxnetParams(bytes), FormatError, 'tensor "n" with value');
});

Deno.test("decodeMxnetParams() reads or refuses damaged files", async () => {
  for (const version of [0, 1, 2, 3] as const) {
    const bytes = params([array(version, [2, 3], SIX), array(version, [1], SIX.slice(1, 2))], [
      "a",
      "b",
    ]);
    assertEquals((await readAll(truncations(bytes), decodeMxnetParams)).accepted, []);
    const flips = await readAll(bitFlips(bytes), decodeMxnetParams);
    const random = await readAll(edits(bytes, { seed: 7, count: 1500 }), decodeMxnetParams);
    for (const { bytes, result, how } of [...flips.accepted, ...random.accepted]) {
      for (const { shape, data } of Object.values(result)) {
        const size = shape.reduce((product, size) => product * size, 1);
        assert(data.length === size && data.byteLength <= bytes.length, how);
      }
    }
    assert(random.refused > 1000, `${random.refused}`);
  }
});
