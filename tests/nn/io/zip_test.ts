import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FormatError } from "../../../nn/format_error.ts";
import { isZip, readZip, readZipEntry } from "../../../nn/io/zip.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { type TestZipEntry, zipFile, type ZipFileOptions } from "../../helpers/zip_file.ts";

const text = new TextEncoder().encode("abcabcabcabcabcabcabcabcabcabcabcabc".repeat(4));
const ENTRIES: TestZipEntry[] = [
  { name: "a/é.txt", data: Uint8Array.of(1, 2, 3) },
  { name: "b", data: text, deflate: true },
  { name: "empty", data: new Uint8Array(0) },
];

/** The data of every entry by name. */
async function readEntries(bytes: Uint8Array): Promise<Record<string, Uint8Array>> {
  const data: [string, Uint8Array][] = [];
  for (const [name, entry] of readZip(bytes, { file: "a.zip" })) {
    data.push([name, (await readZipEntry(bytes, entry, { file: "a.zip" })).slice()]);
  }
  return Object.fromEntries(data);
}

const EXPECTED = Object.fromEntries(ENTRIES.map(({ name, data }) => [name, data]));

function refuses(entries: TestZipEntry[], message: string, options?: ZipFileOptions): void {
  const bytes = zipFile(entries, options);
  assertThrows(() => readZip(bytes, { file: "a.zip" }), FormatError, message);
}

Deno.test("readZip() reads stored and deflated entries, with zip64 records and without", async () => {
  for (const zip64 of [false, true, "wide"] as const) {
    for (const comment of ["", "PK\x05\x06 a comment"]) {
      const bytes = zipFile(ENTRIES, { zip64, comment });
      assert(isZip(bytes));
      assertEquals(await readEntries(bytes), EXPECTED);
    }
  }
  assertEquals(await readEntries(zipFile([])), {});
  assert(!isZip(Uint8Array.of(0x50, 0x4b, 1)) && !isZip(Uint8Array.of(0x50, 0x4b, 1, 2)));
});

Deno.test("readZip() refuses archives that readers disagree about or that grow", () => {
  const data = Uint8Array.of(1, 2, 3);
  const twice = { name: "a", data };
  refuses([twice, twice], 'second entry named "a"');
  refuses([{ name: "a", data, localName: "b" }], 'another name than "a"');
  refuses([{ name: "a", data, lies: { flags: 1 } }], 'encrypted entry "a"');
  refuses([{ name: "a", data, lies: { method: 12 } }], "packed by method 12");
  refuses([{ name: "a", data, lies: { size: 4 } }], "of 4 bytes from 3");
  refuses([{ name: "a", data, lies: { offset: 2 } }], "at byte 2 at byte");
  refuses([{ name: "a", data, lies: { offset: 2 ** 31 } }], "a local header there");
  refuses([{ name: "a", data, deflate: true, lies: { size: 4e9 } }], "at most 5160 (deflated)");
  refuses([{ name: "a", data }, { name: "a", data, lies: { offset: 0 } }], "second entry");
});

Deno.test("readZip() refuses entries that share bytes", () => {
  // The second entry of the directory points to the first one's local header.
  const data = Uint8Array.of(1, 2, 3);
  refuses(
    [{ name: "a", data }, { name: "b", data, localName: "b", lies: { offset: 0 } }],
    'entry "a" that shares bytes with what follows',
  );
  // An entry that spans the local header and the data of the next.
  const inner = zipFile([{ name: "b", data }]).subarray(0, 38);
  const outer: TestZipEntry = { name: "a", data: inner };
  refuses([outer, { name: "b", data, lies: { offset: 35 } }], 'entry "a" that shares bytes');
});

Deno.test("readZipEntry() refuses wrong checksums and sizes", async () => {
  for (const deflate of [false, true]) {
    const crc = zipFile([{ name: "a", data: text, deflate, lies: { crc: 5 } }]);
    await assertRejects(() => readEntries(crc), FormatError, "0x00000005: the file is damaged");
    const entry = readZip(crc, { file: "a.zip" }).get("a")!;
    assertEquals(await readZipEntry(crc, entry, { file: "a.zip", checkCrc: false }), text);
  }
  for (const [size, found] of [[143, "more bytes"], [145, "144 bytes"]] as const) {
    const bytes = zipFile([{ name: "a", data: text, deflate: true, lies: { size } }]);
    await assertRejects(() => readEntries(bytes), FormatError, `${found}`);
  }
});

Deno.test("readZip() reads the right values or refuses damaged archives", async () => {
  for (const zip64 of [false, "wide"] as const) {
    const bytes = zipFile(ENTRIES, { zip64 });
    assertEquals((await readAll(truncations(bytes), readEntries)).accepted, []);
    const flips = await readAll(bitFlips(bytes), readEntries);
    const random = await readAll(edits(bytes, { seed: 3, count: 1500 }), readEntries);
    for (const { result, how } of [...flips.accepted, ...random.accepted]) {
      // Names of entries have no checksum; their data has.
      const values = Object.values(result);
      for (const value of values) {
        assert(Object.values(EXPECTED).some((data) => data.join() === value.join()), how);
      }
    }
    assert(flips.refused > flips.accepted.length && random.refused > 1000);
  }
});
