import { assert, assertEquals, assertRejects } from "@std/assert";
import { type IdxArray, type IdxData, readIdx, writeIdx } from "../../../nn/data/idx.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { gzip } from "../../../nn/io/gzip.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

/** The idx header: zero, zero, type, rank, sizes. */
function header(type: number, ...shape: number[]): number[] {
  const sizes = shape.flatMap((
    size,
  ) => [size >>> 24, size >>> 16 & 255, size >>> 8 & 255, size & 255]);
  return [0, 0, type, shape.length, ...sizes];
}

/** Asserts that reading fails with a `FormatError` of this message and offset. */
async function assertRefused(
  bytes: Uint8Array,
  options: { message: string; offset: number; rank?: number; type?: "u8" },
): Promise<void> {
  const { message, offset, ...rest } = options;
  const error = await assertRejects(
    () => readIdx(bytes, { file: "a.idx", ...rest }),
    FormatError,
  );
  assertEquals(error.message, message);
  assertEquals(error.file, "a.idx");
  assertEquals(error.offset, offset);
}

// Bytes by hand, big-endian.
const KNOWN: [string, number[], IdxArray][] = [
  ["u8", [...header(0x08, 2, 2), 0, 1, 128, 255], {
    shape: [2, 2],
    data: Uint8Array.of(0, 1, 128, 255),
  }],
  ["i8", [...header(0x09, 3), 0x7f, 0x80, 0xff], { shape: [3], data: Int8Array.of(127, -128, -1) }],
  ["i16", [...header(0x0b, 2), 0x01, 0x02, 0xff, 0xfe], {
    shape: [2],
    data: Int16Array.of(258, -2),
  }],
  ["i32", [...header(0x0c, 1, 2), 1, 2, 3, 4, 0x80, 0, 0, 0], {
    shape: [1, 2],
    data: Int32Array.of(0x01020304, -(2 ** 31)),
  }],
  ["f32", [...header(0x0d, 2), 0x3f, 0xc0, 0, 0, 0xff, 0x80, 0, 0], {
    shape: [2],
    data: Float32Array.of(1.5, -Infinity),
  }],
  ["f64", [...header(0x0e, 1, 1, 1), 0xc0, 0x04, 0, 0, 0, 0, 0, 0], {
    shape: [1, 1, 1],
    data: Float64Array.of(-2.5),
  }],
];

for (const [type, bytes, array] of KNOWN) {
  Deno.test(`readIdx() and writeIdx() know ${type}, plain and gzip`, async () => {
    const file = Uint8Array.from(bytes);
    assertEquals(await readIdx(file), array);
    assertEquals(await readIdx(await gzip(file)), array);
    assertEquals(await writeIdx(array), file);
    assertEquals(await writeIdx(array, { gzip: true }), await gzip(file));
  });
}

Deno.test("readIdx() reads a file by path and by URL, whatever its name", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const array = { shape: [2, 1], data: Uint8Array.of(7, 9) };
    const plain = `${dir}/a b.gz`, packed = `${dir}/c`;
    await Deno.writeFile(plain, await writeIdx(array));
    await Deno.writeFile(packed, await writeIdx(array, { gzip: true }));
    assertEquals(await readIdx(plain), array);
    assertEquals(await readIdx(packed), array);
    assertEquals(await readIdx(new URL(`file://${dir}/a%20b.gz`)), array);
    await assertRejects(
      () => readIdx(`${dir}/none`),
      Deno.errors.NotFound,
      `Cannot read ${dir}/none: no such file`,
    );
    await Deno.truncate(plain, 13);
    await assertRejects(() => readIdx(plain), FormatError, `Cannot read ${plain}: end of file`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("readIdx() takes arrays with a size of 0, however large the others are", async () => {
  const huge = 0xffffffff;
  const bytes = Uint8Array.from(header(0x0c, huge, 0, huge));
  assertEquals(await readIdx(bytes), { shape: [huge, 0, huge], data: new Int32Array(0) });
  await assertRefused(Uint8Array.of(...bytes, 1), {
    message: "Cannot read a.idx: trailing bytes at byte 16, " +
      `expected the end of 16 bytes for shape [${huge}, 0, ${huge}] of i32`,
    offset: 16,
  });
});

Deno.test("readIdx() does not share memory with the bytes it was given", async () => {
  const bytes = Uint8Array.from([...header(0x0b, 1), 1, 2]);
  const before = bytes.slice();
  const { data } = await readIdx(bytes);
  data[0] = 0;
  assertEquals(bytes, before);
});

Deno.test("readIdx() refuses a wrong magic and names the right one", async () => {
  const zeros = new Uint8Array(16);
  await assertRefused(zeros, {
    rank: 3,
    type: "u8",
    message: "Cannot read a.idx: bad magic 0x00000000 at byte 0, expected 0x00000803 (idx3 of u8)",
    offset: 0,
  });
  await assertRefused(Uint8Array.from([...header(0x08, 1), 5]), {
    rank: 3,
    type: "u8",
    message: "Cannot read a.idx: bad magic 0x00000801 at byte 0, expected 0x00000803 (idx3 of u8)",
    offset: 0,
  });
  await assertRefused(Uint8Array.from([...header(0x0d, 1), 0, 0, 0, 0]), {
    type: "u8",
    message: "Cannot read a.idx: bad magic 0x00000d01 at byte 0, " +
      "expected 0x0000TTRR (idx) with type TT of 0x08 and rank RR of at least 1",
    offset: 0,
  });
  await assertRefused(zeros, {
    message: "Cannot read a.idx: bad magic 0x00000000 at byte 0, expected 0x0000TTRR (idx) " +
      "with type TT of 0x08 0x09 0x0b 0x0c 0x0d 0x0e and rank RR of at least 1",
    offset: 0,
  });
});

Deno.test("readIdx() refuses truncated data and trailing bytes", async () => {
  const bytes = Uint8Array.from([...header(0x08, 2, 3), 1, 2, 3, 4, 5, 6]);
  await assertRefused(bytes.slice(0, 3), {
    message: "Cannot read a.idx: end of file at byte 3, expected 4 bytes of header",
    offset: 3,
  });
  await assertRefused(bytes.slice(0, 11), {
    message: "Cannot read a.idx: end of file at byte 11, expected 12 bytes of header",
    offset: 11,
  });
  await assertRefused(bytes.slice(0, 17), {
    message: "Cannot read a.idx: end of file at byte 17, expected 18 bytes for shape [2, 3] of u8",
    offset: 17,
  });
  await assertRefused(Uint8Array.of(...bytes, 0), {
    message: "Cannot read a.idx: trailing bytes at byte 18, " +
      "expected the end of 18 bytes for shape [2, 3] of u8",
    offset: 18,
  });
});

Deno.test("readIdx() refuses the same inside gzip, with offsets of the decompressed file", async () => {
  const bytes = Uint8Array.from([...header(0x08, 2, 3), 1, 2, 3, 4, 5, 6]);
  await assertRefused(await gzip(bytes.slice(0, 17)), {
    message: "Cannot read a.idx: end of file at byte 17, expected 18 bytes for shape [2, 3] of u8",
    offset: 17,
  });
  await assertRefused(await gzip(Uint8Array.of(...bytes, 0)), {
    message: "Cannot read a.idx: trailing bytes at byte 18, " +
      "expected the end of 18 bytes for shape [2, 3] of u8",
    offset: 18,
  });
});

Deno.test("readIdx() refuses a truncated gzip file", async () => {
  const random = Uint8Array.from({ length: 2000 }, (_, i) => (i * i * 31) >> 3);
  const packed = await writeIdx({ shape: [2000], data: random }, { gzip: true });
  await assertRefused(packed.slice(0, packed.length >> 1), {
    message: `Cannot read a.idx: gzip data ends early at byte ${packed.length >> 1}, ` +
      "expected a whole gzip file",
    offset: packed.length >> 1,
  });
});

Deno.test("readIdx() refuses absurd sizes before it takes memory", async () => {
  // 2^32 * 2^31 elements of 8 bytes: an allocation would throw another error.
  const head = Uint8Array.from(header(0x0e, 0xffffffff, 0x80000000));
  await assertRefused(head, {
    message: "Cannot read a.idx: end of file at byte 12, " +
      "expected 73786976277658340000 bytes for shape [4294967295, 2147483648] of f64",
    offset: 12,
  });
  const packed = await gzip(head);
  await assertRefused(packed, {
    message: "Cannot read a.idx: shape [4294967295, 2147483648] of f64 at byte 4, " +
      `expected at most the ${
        1032 * packed.length
      } bytes that ${packed.length} bytes of gzip can hold`,
    offset: 4,
  });
  await assertRejects(
    () => readIdx(Uint8Array.from(header(0x0e, ...new Array<number>(255).fill(0xffffffff)))),
    FormatError,
    "end of file",
  );
});

Deno.test("readIdx() stops a gzip bomb where the header says the data ends", async () => {
  const bomb = new Uint8Array(40_000_000);
  bomb.set(header(0x08, 10));
  const packed = await gzip(bomb);
  assert(packed.length < 50_000);
  packed[packed.length - 5]! ^= 1; // who reads on to the end meets a wrong checksum
  await assertRefused(packed, {
    message: "Cannot read a.idx: trailing bytes at byte 18, " +
      "expected the end of 18 bytes for shape [10] of u8",
    offset: 18,
  });
});

Deno.test("readIdx() reads or refuses damaged plain files", async () => {
  const file = await writeIdx({ shape: [2, 3], data: Int16Array.of(1, -2, 3, -4, 5, -6) });
  assertEquals((await readAll(truncations(file), readIdx)).accepted, []);
  const flips = await readAll(bitFlips(file), readIdx);
  // Flips of the 12 data bytes are other values; a flip of the header is always noticed here.
  assertEquals(flips.accepted.length, 8 * 12);
  const random = await readAll(edits(file, { seed: 1, count: 3000 }), readIdx);
  for (const { result: { shape, data }, how } of random.accepted) {
    assertEquals(shape.reduce((product, size) => product * size, 1), data.length, how);
  }
  assert(random.refused > 2000);
});

Deno.test("readIdx() reads the right values or refuses damaged gzip files", async () => {
  const data = Uint8Array.from({ length: 600 }, (_, i) => i % 3 ? (i * 7919) >> 5 : 0);
  const array = { shape: [6, 10, 10], data };
  const file = await writeIdx(array, { gzip: true });
  assertEquals((await readAll(truncations(file), readIdx)).accepted, []);
  const flips = await readAll(bitFlips(file), readIdx);
  const random = await readAll(edits(file, { seed: 2, count: 1500 }), readIdx);
  // Fields of the gzip header carry no data: time, flags, system.
  for (const { result, how } of [...flips.accepted, ...random.accepted]) {
    assertEquals(result, array, how);
  }
  assert(flips.accepted.length < 8 * 10, `${flips.accepted.length} flips went unnoticed`);
});

Deno.test("writeIdx() compressed has no time in it", async () => {
  const array = { shape: [3], data: Uint8Array.of(1, 2, 3) };
  const bytes = await writeIdx(array, { gzip: true });
  assertEquals([...bytes.subarray(0, 8)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
  assertEquals(await writeIdx(array, { gzip: true }), bytes);
});

Deno.test("writeIdx() writes a part of a larger buffer and leaves it as it was", async () => {
  const whole = Int16Array.of(1, 2, 3, 4);
  const bytes = await writeIdx({ shape: [2], data: whole.subarray(1, 3) });
  assertEquals([...bytes], [...header(0x0b, 2), 0, 2, 0, 3]);
  assertEquals(whole, Int16Array.of(1, 2, 3, 4));
});

Deno.test("writeIdx() throws for a shape that is not the data's", async () => {
  const data: IdxData = new Uint8Array(6);
  for (const shape of [[7], [2, 2], [], [-2, -3], [1.5, 4], [2 ** 32, 0], new Array(256).fill(1)]) {
    await assertRejects(() => writeIdx({ shape, data }), RangeError, "multiply to 6");
  }
});
