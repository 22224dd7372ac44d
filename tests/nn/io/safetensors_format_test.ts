import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostRandom } from "../../../nn/data/rng.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { HOST_DTYPES, type HostArray, type HostDtype } from "../../../nn/io/host_array.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../nn/io/safetensors_format.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

const utf8 = new TextEncoder();

/** A file of this header text and data. */
function file(header: string | Uint8Array, data: number[] | Uint8Array = []): Uint8Array {
  const text = typeof header === "string" ? utf8.encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function headerOf(bytes: Uint8Array): string {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return new TextDecoder().decode(bytes.subarray(8, 8 + length));
}

function entry(dtype: string, shape: unknown, begin: unknown, end: unknown): string {
  return `{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`;
}

function refuse(bytes: Uint8Array, message: string): FormatError {
  return assertThrows(() => decodeSafetensors(bytes, { file: "w" }), FormatError, message);
}

const SIX: HostArray = { dtype: "F32", shape: [1, 2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) };

// The expected bytes are those of the reference's own tests (safetensors/src/tensor.rs).
const SIX_BYTES = [0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0].flatMap((
  half,
) => [0, 0, half & 255, half >> 8]);

Deno.test("encodeSafetensors() writes the reference's bytes", () => {
  assertEquals(
    encodeSafetensors({ "attn.0": SIX }),
    file('{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}', SIX_BYTES),
  );
  const padded = encodeSafetensors({ attn0: { ...SIX, shape: [1, 1, 2, 3] } });
  assertEquals(padded[0], 72);
  assertEquals(
    padded,
    file('{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ', SIX_BYTES),
  );
});

Deno.test("encodeSafetensors() writes files without tensors as the reference does", () => {
  assertEquals(encodeSafetensors({}), file("{}      "));
  assertEquals(
    encodeSafetensors({}, { framework: "pt" }),
    file('{"__metadata__":{"framework":"pt"}}     '),
  );
});

Deno.test("encodeSafetensors() orders by falling alignment of the dtype, then by name", () => {
  const tensors: Record<string, HostArray> = {};
  for (const dtype of HOST_DTYPES) {
    for (const name of ["b", "a"]) {
      tensors[`${name}${dtype}`] = { dtype, shape: [0], data: new Uint8Array(0) };
    }
  }
  const order = Object.keys(JSON.parse(headerOf(encodeSafetensors(tensors))));
  // The order of enum Dtype in safetensors 0.8, backwards.
  const dtypes = "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 " +
    "F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL";
  assertEquals(order, dtypes.split(" ").flatMap((dtype) => [`a${dtype}`, `b${dtype}`]));
});

Deno.test("encodeSafetensors() orders names by their bytes, not by UTF-16", () => {
  const array: HostArray = { dtype: "U8", shape: [], data: Uint8Array.of(0) };
  const names = ["\u{1f600}", "\uff5e", "10", "9", "a.10", "a.9", "a", "Z", "é"];
  const text = headerOf(encodeSafetensors(Object.fromEntries(names.map((name) => [name, array]))));
  const order = [...text.matchAll(/"([^"]+)":\{/g)].map((match) => match[1]);
  assertEquals(order, ["10", "9", "Z", "a", "a.10", "a.9", "é", "\uff5e", "\u{1f600}"]);
});

Deno.test("encodeSafetensors() takes part of a buffer, and bytes for any dtype", () => {
  const whole = Int32Array.of(1, 2, 3);
  const part: HostArray = { dtype: "I32", shape: [1], data: whole.subarray(1, 2) };
  const raw: HostArray = { dtype: "I32", shape: [1], data: Uint8Array.of(2, 0, 0, 0) };
  assertEquals(encodeSafetensors({ a: part }), encodeSafetensors({ a: raw }));
});

Deno.test("encodeSafetensors() throws for arrays that do not fit their dtype and shape", () => {
  const cases: [HostArray, string][] = [
    [{ ...SIX, shape: [7] }, "it takes 28 bytes of Float32Array, got 24 of Float32Array"],
    [{ ...SIX, dtype: "I32" }, "it takes 24 bytes of Int32Array, got 24 of Float32Array"],
    [{ ...SIX, shape: [-2, -3] }, "F32 [-2, -3]"],
    [{ ...SIX, shape: [1.5, 4] }, "F32 [1.5, 4]"],
    [{ dtype: "F4", shape: [3], data: new Uint8Array(2) }, "F4 [3]"],
    [{ ...SIX, dtype: "F7" as HostDtype }, "dtype F7 is none of BOOL, F4"],
  ];
  for (const [array, message] of cases) {
    assertThrows(() => encodeSafetensors({ x: array }), TypeError, message);
  }
});

Deno.test("encodeSafetensors() throws for names and metadata that no reader takes", () => {
  assertThrows(() => encodeSafetensors({ __metadata__: SIX }), TypeError, "name is not allowed");
  assertThrows(() => encodeSafetensors({ "\ud800": SIX }), TypeError, "name is not allowed");
  const bad = { n: 1 } as unknown as Record<string, string>;
  assertThrows(() => encodeSafetensors({}, bad), TypeError, 'metadata "n"');
  assertThrows(() => encodeSafetensors({}, { a: "\udc00" }), TypeError, "well-formed");
});

Deno.test("encodeSafetensors() throws for a header over 100 MB", () => {
  const metadata = { text: "x".repeat(100_000_000) };
  assertThrows(() => encodeSafetensors({}, metadata), RangeError, "at most 100000000");
});

Deno.test("decodeSafetensors() gives back every dtype, bit for bit", () => {
  const random = new HostRandom(1);
  const tensors: Record<string, HostArray> = {};
  for (const dtype of HOST_DTYPES) {
    const bits = { F4: 4, F6_E2M3: 6, F6_E3M2: 6 }[dtype as string] ??
      Number(/\d+/.exec(dtype === "BOOL" ? "8" : dtype)![0]);
    const data = Uint8Array.from({ length: 8 * bits / 8 }, () => random.integer(0, 256));
    tensors[`x.${dtype}`] = { dtype, shape: [2, 1, 4], data };
  }
  const bytes = encodeSafetensors(tensors, { a: "1", "é\n": "" });
  for (const shift of [0, 1, 4]) {
    const buffer = new Uint8Array(bytes.length + shift);
    buffer.set(bytes, shift);
    const read = decodeSafetensors(buffer.subarray(shift));
    assertEquals(read.metadata, { a: "1", "é\n": "" });
    assertEquals(Object.keys(read.tensors).sort(), Object.keys(tensors).sort());
    for (const [name, { dtype, shape, data }] of Object.entries(read.tensors)) {
      assertEquals({ dtype, shape }, { dtype: tensors[name]!.dtype, shape: [2, 1, 4] });
      const { buffer, byteOffset, byteLength } = data;
      assertEquals(new Uint8Array(buffer, byteOffset, byteLength), tensors[name]!.data, name);
    }
    assertEquals(encodeSafetensors(read.tensors, read.metadata), bytes);
  }
});

Deno.test("decodeSafetensors() gives typed arrays of the dtype", () => {
  const { tensors } = decodeSafetensors(
    file(
      `{"a":${entry("F16", [2], 0, 4)},"b":${entry("BF16", [], 4, 6)},"c":${
        entry("I64", [1], 6, 14)
      }}`,
      [0, 0x3c, 0, 0xc0, 0x80, 0x3f, 0xfe, 255, 255, 255, 255, 255, 255, 255],
    ),
  );
  assertEquals(tensors, {
    a: { dtype: "F16", shape: [2], data: Float16Array.of(1, -2) },
    b: { dtype: "BF16", shape: [], data: Uint16Array.of(0x3f80) },
    c: { dtype: "I64", shape: [1], data: BigInt64Array.of(-2n) },
  });
});

Deno.test("decodeSafetensors() takes what the reference takes", () => {
  const u8 = entry("U8", [1], 0, 1);
  const accepted = [
    file(` \n\t{"a":${u8}}\r\n  `, [5]),
    file(`{"__metadata__":null,"a":${u8}}`, [5]),
    file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":[{"x":1}]}}`, [5]),
    file(`{"b":${entry("U8", [3, 0], 1, 1)},"a":${u8}}`, [5]),
    file(`{"\\u0061":${u8}}`, [5]),
  ];
  for (const bytes of accepted) {
    assertEquals(decodeSafetensors(bytes).tensors["a"], {
      dtype: "U8",
      shape: [1],
      data: Uint8Array.of(5),
    });
  }
});

Deno.test("decodeSafetensors() keeps names that objects treat as special", () => {
  const array: HostArray = { dtype: "U8", shape: [], data: Uint8Array.of(1) };
  const names = ["__proto__", "constructor", "toString", "0", ""];
  const bytes = encodeSafetensors(Object.fromEntries(names.map((name) => [name, array])), {
    ["__proto__"]: "x",
  });
  const { tensors, metadata } = decodeSafetensors(bytes);
  assertEquals(Object.keys(tensors).sort(), names.sort());
  assertEquals(Object.keys(metadata), ["__proto__"]);
});

Deno.test("decodeSafetensors() checks the header's length", () => {
  assertEquals(refuse(new Uint8Array(7), "end of file at byte 7").offset, 7);
  refuse(
    file("{}").fill(0xff, 0, 8),
    "header length 18446744073709551615 at byte 0, expected at most 2,",
  );
  refuse(
    file("{}").fill(3, 0, 1),
    "Cannot read w: header length 3 at byte 0, expected at most 2, the rest",
  );
  const large = new Uint8Array(100_000_020);
  new DataView(large.buffer).setBigUint64(0, 100_000_001n, true);
  refuse(large, "expected at most 100000000, the format's limit");
});

Deno.test("decodeSafetensors() refuses headers that are no JSON object in UTF-8", () => {
  assertEquals(refuse(file(Uint8Array.of(0x7b, 0xff, 0x7d)), "header not in UTF-8").offset, 8);
  refuse(file("\ufeff{}"), "invalid JSON");
  for (const text of ["", "[]", "null", "1", '"a"']) refuse(file(text), "expected a JSON object");
  refuse(file('{"a":,}'), "invalid JSON");
  refuse(file("[".repeat(100_000)), "nested beyond 127 levels at byte 135");
});

Deno.test("decodeSafetensors() refuses repeated keys", () => {
  const u8 = entry("U8", [0], 0, 0);
  assertEquals(refuse(file(`{"é":${u8},"é":${u8}}`), 'repeated key "é"').offset, 8 + 7 + u8.length);
  refuse(file(`{"a":${u8},"\\u0061":${u8}}`), 'repeated key "a"');
  refuse(file('{"__metadata__":{"a":"","a":""}}'), 'repeated key "a"');
  refuse(file('{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), '"dtype"');
});

Deno.test("decodeSafetensors() refuses entries of the wrong form", () => {
  const cases: [string, string][] = [
    ["1", 'tensor "a" with no object at byte 9, expected {dtype, shape, data_offsets}'],
    ["[]", "no object"],
    ["null", "no object"],
    ["{}", "dtype missing"],
    [entry("F12", [1], 0, 1), 'dtype "F12" at byte 9, expected one of BOOL, F4,'],
    [entry("toString", [1], 0, 1), 'dtype "toString"'],
    [entry("U8", 1, 0, 1), "shape 1"],
    [entry("U8", [-1], 0, 1), "shape [-1]"],
    [entry("U8", [0.5], 0, 1), "shape [0.5]"],
    [entry("U8", ["1"], 0, 1), 'shape ["1"]'],
    [entry("U8", [1], 0, "1,1"), "data_offsets [0,1,1]"],
    [entry("U8", [1], 0, "null"), "data_offsets [0,null]"],
    [entry("U8", [1], -1, 0), "data_offsets [-1,0]"],
    [entry("U8", [2], 0, 1), "1 bytes of data for U8 [2] at byte 9, expected 2"],
    [entry("U8", [], 1, 0), "-1 bytes of data for U8 []"],
    [entry("F4", [1], 0, 1), "expected a size of whole bytes"],
    [entry("U8", [2 ** 53], 0, 1), "shape"],
    [entry("F64", [2 ** 40, 2 ** 40], 0, 1), "expected a size of whole bytes below 2^53"],
    [entry("F64", [2 ** 40, 2 ** 40, 0], 0, 0), "expected a size of whole bytes below 2^53"],
  ];
  for (const [info, message] of cases) refuse(file(`{"a":${info}}`, [0]), message);
  refuse(file(`{"\\ud800":${entry("U8", [1], 0, 1)}}`, [0]), "half a surrogate");
});

Deno.test("decodeSafetensors() refuses holes, overlaps and bytes beyond the tensors", () => {
  const two = (a: string, b: string) => `{"a":${a},"b":${b}}`;
  const u8 = (begin: number, end: number) => entry("U8", [end - begin], begin, end);
  refuse(file(two(u8(0, 1), u8(2, 3)), [0, 0, 0]), 'tensor "b" with data_offsets [2, 3]');
  refuse(file(two(u8(0, 2), u8(1, 3)), [0, 0, 0]), "expected a begin of 2, without hole");
  refuse(file(two(u8(1, 2), u8(2, 3)), [0, 0, 0]), "expected a begin of 0");
  refuse(file(two(u8(0, 1), u8(0, 1)), [0]), "expected a begin of 1");
  refuse(file(two(u8(0, 1), u8(1, 3)), [0, 0]), "expected an end of at most 2");
  const header = two(u8(0, 1), u8(1, 2));
  const error = refuse(file(header, [0, 0, 0]), "1 trailing bytes");
  assertEquals(error.offset, 8 + header.length + 2);
  refuse(file("{}", [0]), "1 trailing bytes");
});

Deno.test("decodeSafetensors() refuses metadata that is no map of strings", () => {
  for (const metadata of ["1", "[]", '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":"\\ud800"}']) {
    refuse(file(`{"__metadata__":${metadata}}`), "expected a map of strings");
  }
});

Deno.test("decodeSafetensors() names the file and keeps messages short", () => {
  const name = "n".repeat(5000) + "\n";
  const info = entry("U8", Array(5000).fill(1.5), 0, 1);
  const { message } = refuse(
    file(`{${JSON.stringify(name)}:${info}}`, [0]),
    "Cannot read w: tensor",
  );
  assert(message.length < 300 && !message.includes("\n"));
});

Deno.test("decodeSafetensors() reads or refuses damaged files", async () => {
  const tensors: Record<string, HostArray> = {
    "a.weight": { dtype: "F32", shape: [2, 2], data: Float32Array.of(1, -2, NaN, 4) },
    "b": { dtype: "I64", shape: [1], data: BigInt64Array.of(-1n) },
    "c": { dtype: "BOOL", shape: [3], data: Uint8Array.of(1, 0, 1) },
    "d": { dtype: "F16", shape: [0, 4], data: new Float16Array(0) },
  };
  const bytes = encodeSafetensors(tensors, { note: "x" });
  const decode = (mutant: Uint8Array) => decodeSafetensors(mutant);
  assertEquals((await readAll(truncations(bytes), decode)).accepted, []);
  const flips = await readAll(bitFlips(bytes), decode);
  const random = await readAll(edits(bytes, { seed: 1, count: 10_000 }), decode);
  for (const { bytes, result, how } of [...flips.accepted, ...random.accepted]) {
    const total = Object.values(result.tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
    assert(total < bytes.length, how);
  }
  // Bits of the 27 data bytes are data; of the header only names, metadata and padding may change.
  const inData = flips.accepted.filter(({ bytes: mutant }) =>
    mutant.slice(0, -27).every((byte, i) => byte === bytes[i])
  );
  assertEquals(inData.length, 27 * 8);
  assert(flips.refused > 1500 && random.refused > 5000, `${flips.refused}, ${random.refused}`);
});
