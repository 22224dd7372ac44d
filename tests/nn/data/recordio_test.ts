import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  packImageRecord,
  readRecordIo,
  unpackImageRecord,
  writeRecordIo,
} from "../../../nn/data/recordio.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

const MAGIC = [0x0a, 0x23, 0xd7, 0xce];

function bytes(...values: number[]): Uint8Array {
  return Uint8Array.from(values);
}

const encode = (text: string) => new TextEncoder().encode(text);

Deno.test("writeRecordIo() writes records as MXNet does", () => {
  const { rec, idx } = writeRecordIo([bytes(1, 2, 3), bytes(), bytes(4, 5, 6, 7)]);
  assertEquals([...rec], [
    ...[...MAGIC, 3, 0, 0, 0, 1, 2, 3, 0],
    ...[...MAGIC, 0, 0, 0, 0],
    ...[...MAGIC, 4, 0, 0, 0, 4, 5, 6, 7],
  ]);
  assertEquals(new TextDecoder().decode(idx), "0\t0\n1\t12\n2\t20\n");
});

Deno.test("writeRecordIo() splits records at aligned magic numbers alone", () => {
  const parts = (...values: number[]) => [...writeRecordIo([bytes(...values)]).rec];
  assertEquals(parts(1, 2, 3, 4, ...MAGIC, 5), [
    ...[...MAGIC, 4, 0, 0, 1 << 5, 1, 2, 3, 4],
    ...[...MAGIC, 1, 0, 0, 3 << 5, 5, 0, 0, 0],
  ]);
  assertEquals(parts(...MAGIC, ...MAGIC), [
    ...[...MAGIC, 0, 0, 0, 1 << 5],
    ...[...MAGIC, 0, 0, 0, 2 << 5],
    ...[...MAGIC, 0, 0, 0, 3 << 5],
  ]);
  assertEquals(parts(9, ...MAGIC), [...MAGIC, 5, 0, 0, 0, 9, ...MAGIC, 0, 0, 0]);
});

Deno.test("readRecordIo() joins what writeRecordIo() splits", async () => {
  const records = [
    bytes(),
    bytes(...MAGIC),
    bytes(1, ...MAGIC),
    bytes(...MAGIC, ...MAGIC, ...MAGIC, 7),
    bytes(1, 2, 3, 4, ...MAGIC, 5, 6, 7, 8, ...MAGIC),
    Uint8Array.from({ length: 1001 }, (_, i) => i * 7),
  ];
  const { rec, idx } = writeRecordIo(records, { keys: [5, 4, 3, 2, 1, 100] });
  assertEquals(await readRecordIo(rec), { records, keys: [0, 1, 2, 3, 4, 5] });
  assertEquals((await readRecordIo(rec, { index: idx })).keys, [5, 4, 3, 2, 1, 100]);
  assertEquals(await readRecordIo(bytes()), { records: [], keys: [] });
});

Deno.test("readRecordIo() follows the index in order and subset", async () => {
  const { rec } = writeRecordIo([bytes(1), bytes(2), bytes(3)]);
  const index = encode("7\t24\r\n2\t0");
  assertEquals(await readRecordIo(rec, { index }), { records: [bytes(3), bytes(1)], keys: [7, 2] });
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/a.rec`, rec);
    await Deno.writeFile(`${dir}/a.idx`, index);
    assertEquals((await readRecordIo(`${dir}/a.rec`, { index: `${dir}/a.idx` })).keys, [7, 2]);
    await Deno.writeTextFile(`${dir}/a.idx`, "7\t24\n8\t11\n");
    await assertRejects(
      () => readRecordIo(`${dir}/a.rec`, { index: `${dir}/a.idx` }),
      FormatError,
      `Cannot read ${dir}/a.idx: offset 11 of key 8 at byte 5, expected the start of a record in ` +
        `${dir}/a.rec`,
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  for (const [text, message] of [["1 0", "no pair"], ["1\t0\n1\t12", "key 1 again"]] as const) {
    await assertRejects(() => readRecordIo(rec, { index: encode(text) }), FormatError, message);
  }
});

Deno.test("readRecordIo() refuses cut files and parts out of order", async () => {
  const refuses = (values: number[], message: string) =>
    assertRejects(() => readRecordIo(bytes(...values), { file: "a.rec" }), FormatError, message);
  const part = (kind: number) => [...MAGIC, 0, 0, 0, kind << 5];
  await refuses([1, 2, 3, 4, 0, 0, 0, 0], "Cannot read a.rec: magic 0x4030201 at byte 0");
  await refuses([...MAGIC, 9, 0, 0, 0, 1, 2], "expected 9 bytes of record from byte 8");
  await refuses([...MAGIC, 1, 0, 0, 0, 1], "3 bytes of padding");
  await refuses(part(1), "end of file");
  await refuses([...part(1), ...part(0)], "part of kind 0 at byte 12, expected 2 (middle)");
  await refuses([...part(1), ...part(1)], "part of kind 1");
  await refuses(part(2), "part of kind 2 at byte 4, expected 0 (whole)");
  await refuses(part(3), "part of kind 3");
  await refuses(part(4), "part of kind 4");
});

Deno.test("image records keep one label in the header and several behind it", () => {
  const image = bytes(9, 8, 7);
  const one = packImageRecord({ label: [3], image, id: 5, id2: 2n ** 63n });
  assertEquals([...one], [
    ...[0, 0, 0, 0, 0, 0, 0x40, 0x40, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80],
    ...image,
  ]);
  const expected = { label: Float32Array.of(3), id: 5n, id2: 2n ** 63n, image };
  assertEquals(unpackImageRecord(one), expected);
  const label = [4, 5, 256, 256, 0, 0.25, 0.5, 0.75, 1];
  const several = packImageRecord({ label, image });
  assertEquals([several.length, several[0]], [24 + 36 + 3, 9]);
  assertEquals(unpackImageRecord(several).label, Float32Array.from(label));
  assertEquals(unpackImageRecord(several).image, image);
  assertThrows(() => packImageRecord({ label: [], image }), RangeError, "without a label");
  assertThrows(
    () => unpackImageRecord(several.subarray(0, 40), { file: "record 3" }),
    FormatError,
    "Cannot read record 3: end of file at byte 40, expected 36 bytes of labels from byte 24",
  );
  const huge = several.slice().fill(255, 0, 4);
  assertThrows(() => unpackImageRecord(huge), FormatError, "bytes of labels");
});

Deno.test("writeRecordIo() throws for keys that do not fit the records", () => {
  for (const keys of [[], [1, 2], [-1], [0.5]]) {
    assertThrows(() => writeRecordIo([bytes(1)], { keys }), RangeError, "Cannot write 1 records");
  }
  assertThrows(() => writeRecordIo([bytes(1), bytes(2)], { keys: [1, 1] }), RangeError);
});

Deno.test("readRecordIo() reads or refuses damaged files", async () => {
  const image = packImageRecord({ label: [1, 2], image: bytes(...MAGIC, 1, 2) });
  const { rec, idx } = writeRecordIo([image, packImageRecord({ label: [1], image: bytes(5) })]);
  async function read(file: Uint8Array): Promise<number> {
    const { records } = await readRecordIo(file);
    for (const record of records) unpackImageRecord(record);
    return records.reduce((total, { length }) => total + length, 0);
  }
  const cut = await readAll(truncations(rec), read);
  const second = Number(new TextDecoder().decode(idx).split(/\s/)[3]);
  assertEquals(cut.accepted.map(({ bytes }) => bytes.length), [0, second]);
  const flips = await readAll(bitFlips(rec), read);
  const random = await readAll(edits(rec, { seed: 5, count: 2000 }), read);
  for (const { bytes, result, how } of [...flips.accepted, ...random.accepted]) {
    assert(result < bytes.length || result === 0, how);
  }
  assert(random.refused > 1000, `${random.refused}`);
  const indexed = (index: Uint8Array) => readRecordIo(rec, { index });
  const index = await readAll(edits(idx, { seed: 6, count: 1000 }), indexed);
  assert(index.refused > 500, `${index.refused}`);
});
