import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openCifar10, readCifar10, writeCifar10 } from "../../../nn/data/cifar.ts";
import type { Dataset } from "../../../nn/data/dataset.ts";
import { openIdx } from "../../../nn/data/idx_file.ts";
import { type IdxData, readIdx, writeIdx } from "../../../nn/data/idx.ts";
import { DataLoader } from "../../../nn/data/loader.ts";
import { writePng } from "../../../nn/data/png_write.ts";
import { openRecordIo, openRecordPictures } from "../../../nn/data/record_file.ts";
import { RecordIoWriter } from "../../../nn/data/record_writer.ts";
import { packImageRecord, readRecordIo, writeRecordIo } from "../../../nn/data/recordio.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

const MAGIC = [0x0a, 0x23, 0xd7, 0xce];
const RECORDS = [
  [],
  [1, 2, 3],
  [1, 2, 3, 4, ...MAGIC, 5, 6, 7, 8, ...MAGIC],
  [9, ...MAGIC],
  Array.from({ length: 301 }, (_, i) => i % 256),
].map((values) => Uint8Array.from(values));

async function inFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function urlOf(path: string): URL {
  return new URL(`file://${path}`);
}

/** Every sample, by a loader with two workers and without. */
async function byLoader<S>(dataset: Dataset<S>, workers: number): Promise<S[]> {
  const samples: S[] = [];
  for await (const batch of new DataLoader<S>(dataset, { batchSize: 2, workers })) {
    samples.push(...batch);
  }
  return samples;
}

Deno.test("openRecordIo() reads single records, with an index and without", async () => {
  const { rec, idx } = writeRecordIo(RECORDS, { keys: [4, 3, 2, 1, 0] });
  await inFolder(async (dir) => {
    const path = `${dir}/a.rec`;
    await Deno.writeFile(path, rec);
    await Deno.writeFile(`${dir}/a.idx`, idx);
    for (const source of [rec, path, new URL(`file://${path}`)]) {
      using all = await openRecordIo(source);
      assertEquals([all.length, all.keys], [5, [0, 1, 2, 3, 4]]);
      for (const index of [4, 0, 2, 3, 1]) assertEquals(all.get(index), RECORDS[index]);
      assertThrows(() => all.get(5), RangeError, "valid are 0 to 4");
      using some = await openRecordIo(source, { index: new TextEncoder().encode("7\t0\n9\t8\n") });
      assertEquals([some.keys, some.get(1)], [[7, 9], RECORDS[1]]);
    }
    using records = await openRecordIo(path, { index: `${dir}/a.idx` });
    assertEquals(records.keys, [4, 3, 2, 1, 0]);
    for (const workers of [0, 2]) assertEquals(await byLoader(records, workers), RECORDS);
    assertEquals((await openRecordIo(rec)).worker, undefined);
  });
});

Deno.test("openRecordIo() reads of a file what is asked for alone", async () => {
  const { rec } = writeRecordIo(RECORDS);
  rec[32] = 0x55; // in the third record, the first byte of its second part
  const index = new TextEncoder().encode("0\t0\n1\t8\n2\t20\n");
  const records = await openRecordIo(rec, { index, file: "a.rec" });
  assertEquals(records.get(1), RECORDS[1]);
  assertThrows(() => records.get(2), FormatError, "Cannot read a.rec: ");
});

Deno.test("openRecordIo() refuses what readRecordIo() refuses, in the same words", async () => {
  const { rec } = writeRecordIo(RECORDS.slice(0, 4));
  const open = async (bytes: Uint8Array) => {
    const records = await openRecordIo(bytes);
    return records.keys.map((_, i) => records.get(i));
  };
  for (const { bytes, how } of [...truncations(rec), ...bitFlips(rec)]) {
    const results = await Promise.allSettled([open(bytes), readRecordIo(bytes)]);
    const [a, b] = results.map((r) => r.status === "rejected" ? String(r.reason.name) : r.value);
    assertEquals(a, typeof b === "object" && "records" in b ? b.records : b, how);
  }
  const { refused } = await readAll(edits(rec, { seed: 1, count: 300 }), open);
  assert(refused > 100);
  for (const [line, found] of [["0\t2\n", "offset 2 of"], ["0\t9999996\n", "offset 9999996"]]) {
    const index = new TextEncoder().encode(line);
    await assertRejects(() => openRecordIo(rec, { index, file: "a.rec" }), FormatError, found);
  }
});

Deno.test("RecordIoWriter writes what writeRecordIo() writes", async () => {
  await inFolder(async (dir) => {
    const paths = [`${dir}/a.rec`, `${dir}/a.idx`] as const;
    const writer = new RecordIoWriter(paths[0], { index: paths[1] });
    RECORDS.forEach((record, i) => writer.write(record, 10 - i));
    assertThrows(() => writer.write(RECORDS[0]!, 10), RangeError, "key 10");
    assertThrows(() => writer.write(RECORDS[0]!, -1), RangeError, "key -1");
    writer.close();
    writer.close();
    const { rec, idx } = writeRecordIo(RECORDS, { keys: [10, 9, 8, 7, 6] });
    assertEquals(await Deno.readFile(paths[0]), rec);
    assertEquals(await Deno.readFile(paths[1]), idx);
    using plain = new RecordIoWriter(paths[0]);
    plain.write(RECORDS[1]!);
  });
});

Deno.test("openRecordPictures() decodes image records, also in workers", async () => {
  const picture = (value: number) => ({
    data: Uint8Array.from({ length: 12 }, (_, i) => value + i),
    width: 2,
    height: 2,
    channels: 3,
  });
  await inFolder(async (dir) => {
    const path = `${dir}/a.rec`, index = `${dir}/a.idx`;
    using writer = new RecordIoWriter(path, { index });
    for (let i = 0; i < 3; i++) {
      const image = await writePng(picture(10 * i));
      writer.write(packImageRecord({ label: [4, 5, i], id: i, image }), i);
    }
    writer.close();
    using pictures = await openRecordPictures(path, { index });
    const expected = [0, 1, 2].map((i) => ({
      ...picture(10 * i),
      labels: Float32Array.of(4, 5, i),
      id: BigInt(i),
    }));
    for (const workers of [0, 2]) assertEquals(await byLoader(pictures, workers), expected);
    using byUrl = await openRecordPictures(urlOf(path), { index: urlOf(index) });
    assertEquals(await byLoader(byUrl, 1), expected);
    using grey = await openRecordPictures(path, { channels: 1 });
    assertEquals((await grey.get(0)).data.length, 4);
  });
  const { rec } = writeRecordIo([packImageRecord({ label: [1], image: Uint8Array.of(1, 2) })]);
  const broken = await openRecordPictures(rec);
  await assertRejects(
    () => broken.get(0),
    FormatError,
    "Cannot read image of record 0: first bytes 0x0102",
  );
});

Deno.test("openIdx() reads single records of every type, plain and gzip", async () => {
  const arrays: IdxData[] = [
    Uint8Array.of(1, 2, 3, 4, 5, 6),
    Int8Array.of(-1, 2, -3, 4, -5, 6),
    Int16Array.of(-1, 2, 300, 4, 5, 6),
    Int32Array.of(-1, 2, 70000, 4, 5, 6),
    Float32Array.of(0.5, -2, 3, 4, 5, 6),
    Float64Array.of(0.1, -2, 3, 4, 5, 6),
  ];
  for (const data of arrays) {
    for (const gzip of [false, true]) {
      const bytes = await writeIdx({ shape: [3, 2], data }, { gzip });
      using file = await openIdx(bytes);
      assertEquals([file.length, file.shape], [3, [3, 2]]);
      for (const i of [2, 0, 1]) assertEquals(file.get(i), data.slice(2 * i, 2 * i + 2));
      assertThrows(() => file.get(3), RangeError, "valid are 0 to 2");
    }
  }
  await inFolder(async (dir) => {
    for (const name of ["a", "a b.gz"]) {
      const path = `${dir}/${name}`;
      const labels = { shape: [5], data: Uint8Array.of(5, 4, 3, 2, 1) };
      await Deno.writeFile(path, await writeIdx(labels, { gzip: name.endsWith("gz") }));
      using file = await openIdx(path, { rank: 1, type: "u8" });
      for (const workers of [0, 2]) {
        assertEquals((await byLoader(file, workers)).map((label) => label[0]), [5, 4, 3, 2, 1]);
      }
      using byUrl = await openIdx(urlOf(path));
      assertEquals((await byLoader(byUrl, 1)).map((label) => label[0]), [5, 4, 3, 2, 1]);
      await assertRejects(() => openIdx(path, { rank: 3 }), FormatError, "bad magic 0x00000801");
    }
  });
});

Deno.test("openIdx() refuses what readIdx() refuses, in the same words", async () => {
  const file = await writeIdx({ shape: [2, 3], data: Int16Array.of(1, 2, 3, 4, 5, 6) });
  const mutants = [
    ...truncations(file),
    ...bitFlips(file),
    ...edits(file, { seed: 2, count: 500 }),
  ];
  for (const { bytes, how } of mutants) {
    const [a, b] = (await Promise.allSettled([openIdx(bytes), readIdx(bytes)])).map((result) =>
      result.status === "rejected" ? result.reason.message : [...result.value.shape]
    );
    assertEquals(a, b, how);
  }
});

Deno.test("openCifar10() reads single records of several files", async () => {
  const images = Uint8Array.from({ length: 5 * 3072 }, (_, i) => i % 251);
  const labels = Uint8Array.of(0, 9, 4, 5, 1);
  const file = writeCifar10({ images, labels });
  const read = await readCifar10(file);
  assertEquals([read.images, read.labels], [images, labels]);
  await inFolder(async (dir) => {
    const paths = [`${dir}/1.bin`, `${dir}/0.bin`, `${dir}/2.bin`];
    await Deno.writeFile(paths[0]!, file.subarray(0, 2 * 3073));
    await Deno.writeFile(paths[1]!, new Uint8Array());
    await Deno.writeFile(paths[2]!, file.subarray(2 * 3073));
    using set = openCifar10(paths);
    assertEquals(set.length, 5);
    const expected = [0, 1, 2, 3, 4].map((i) => ({
      image: images.slice(3072 * i, 3072 * (i + 1)),
      label: labels[i]!,
    }));
    for (const workers of [0, 2]) assertEquals(await byLoader(set, workers), expected);
    using byUrl = openCifar10(paths.map(urlOf));
    assertEquals(await byLoader(byUrl, 1), expected);
    for (const index of [-1, 5, 0.5]) {
      assertThrows(() => set.get(index), RangeError, "valid are 0 to 4");
    }
    await Deno.writeFile(paths[1]!, file.subarray(0, 3072));
    assertThrows(() => openCifar10(paths), FormatError, `${paths[1]}: 3072 bytes after 0 records`);
  });
  const bad = file.slice();
  bad[3073] = 10;
  assertThrows(() => openCifar10([bad]).get(1), FormatError, "label 10 of record 1 at byte 3073");
});

Deno.test("writeCifar10() throws for what the format does not hold", () => {
  const images = new Uint8Array(3072);
  for (const labels of [[10], [-1], [0.5], [0, 1]]) {
    assertThrows(() => writeCifar10({ images, labels }), RangeError, "as CIFAR-10");
  }
  assertEquals(writeCifar10({ images: new Uint8Array(), labels: [] }).length, 0);
});
