import { assert, assertEquals, assertRejects } from "@std/assert";
import { gzipSync } from "npm:fflate@0.8.3";
import { extractArchive } from "../../../nn/data/archive.ts";
import { readTar } from "../../../nn/data/tar.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { paxRecords, tarFile, type TestTarEntry } from "../../helpers/tar_file.ts";
import { zipFile } from "../../helpers/zip_file.ts";

const encode = (text: string) => new TextEncoder().encode(text);

/** Names, types and data of an archive. */
async function list(source: Parameters<typeof readTar>[0]): Promise<[string, string, string][]> {
  const found: [string, string, string][] = [];
  for await (const { name, type, bytes } of readTar(source, { file: "a.tar" })) {
    found.push([name, type, new TextDecoder().decode(await bytes())]);
  }
  return found;
}

async function inFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Paths and contents under a folder. */
function tree(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name, isDirectory } of Deno.readDirSync(dir)) {
    if (!isDirectory) found[name] = Deno.readTextFileSync(`${dir}/${name}`);
    else {for (const [path, text] of Object.entries(tree(`${dir}/${name}`))) {
        found[`${name}/${path}`] = text;
      }}
  }
  return found;
}

const LONG = `${"d".repeat(90)}/${"ü".repeat(60)}.txt`;
const ENTRIES: TestTarEntry[] = [
  { name: "a/", type: "5" },
  { name: "a/empty" },
  { name: "a/b.txt", data: encode("one") },
  { name: "c", data: encode("x".repeat(512)), wideSize: true },
  { name: "name", prefix: "folder/of", data: encode("two") },
  { name: "././@LongLink", type: "L", data: encode(`${LONG}\0`) },
  { name: "cut", data: encode("three") },
  { name: "pax", type: "x", data: paxRecords({ mtime: "1.5", path: LONG, size: "4" }) },
  { name: "cut", data: encode("four"), size: 0 },
  { name: "global", type: "g", data: paxRecords({ comment: "a=b" }) },
  { name: "last", type: "7", data: encode("five") },
];
const FOUND: [string, string, string][] = [
  ["a/", "directory", ""],
  ["a/empty", "file", ""],
  ["a/b.txt", "file", "one"],
  ["c", "file", "x".repeat(512)],
  ["folder/of/name", "file", "two"],
  [LONG, "file", "three"],
  [LONG, "file", "four"],
  ["last", "file", "five"],
];

Deno.test("readTar() reads ustar, pax and GNU names, plain and gzip, from every source", async () => {
  const plain = tarFile(ENTRIES), packed = gzipSync(plain);
  await inFolder(async (dir) => {
    for (const bytes of [plain, packed]) {
      const path = `${dir}/a`;
      await Deno.writeFile(path, bytes);
      for (const source of [bytes, path, new URL(`file://${path}`)]) {
        assertEquals(await list(source), FOUND);
      }
      for (const size of [1, 100, 513]) {
        let at = 0;
        const stream = new ReadableStream<Uint8Array>({
          pull(controller) {
            if (at >= bytes.length) controller.close();
            else controller.enqueue(bytes.slice(at, at += size));
          },
        });
        assertEquals(await list(stream), FOUND, `pieces of ${size}`);
      }
    }
  });
  assertEquals(await list(tarFile([])), []);
  assertEquals(await list(tarFile(ENTRIES, 1)), FOUND, "one empty block");
});

Deno.test("readTar() skips data that nobody reads, and closes the file when it is left", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.tar`, tarFile(ENTRIES));
    const names: string[] = [];
    for await (const { name, pieces } of readTar(`${dir}/a.tar`)) {
      names.push(name);
      if (name === "c") { for await (const _ of pieces()) break; }
      if (name === "last") break;
    }
    assertEquals(names, FOUND.map(([name]) => name));
    let first: (() => Promise<Uint8Array>) | undefined;
    for await (const { name, bytes } of readTar(`${dir}/a.tar`)) {
      if (name === "a/b.txt") first = bytes;
    }
    await assertRejects(() => first!(), TypeError, "the archive has gone on");
    await assertRejects(() => list(`${dir}/none.tar`), Deno.errors.NotFound, "no such file");
  });
});

Deno.test("readTar() names links and devices", async () => {
  const types = ["1", "2", "3", "4", "6"].map((type) => ({ name: type, type }));
  assertEquals((await list(tarFile(types))).map(([, type]) => type), [
    ...["link", "link", "device", "device", "device"],
  ]);
});

Deno.test("readTar() says what is wrong with an archive", async () => {
  const refused = (entries: TestTarEntry[], message: string) =>
    assertRejects(() => list(tarFile(entries)), FormatError, `Cannot read a.tar: ${message}`);
  await refused([{ name: "a", lie: 1 }], "header with checksum");
  await refused([{ name: "a", type: "S" }], 'entry "a" of type "S" at byte 0');
  await refused([{ name: "a", size: 10_000 }], "end of file at byte 1536, expected 8976 bytes");
  await refused([{ name: "a", type: "L", size: 2 ** 21 }], 'header "L" of 2097152 bytes at byte 0');
  await refused([{ name: "p", type: "x", data: encode("99 path=a\n") }], "pax record at byte 512");
  await refused(
    [{ name: "p", type: "x", data: paxRecords({ size: "1e3" }) }, { name: "a" }],
    "size that is no number",
  );
  const bytes = tarFile([{ name: "a" }]);
  bytes[0] = 0xff;
  await assertRejects(() => list(bytes), FormatError, "checksum");
  await assertRejects(() => list(encode("no archive")), FormatError, "end of file at byte 10");
  const packed = gzipSync(tarFile(ENTRIES));
  for (const part of [packed.subarray(0, -4), packed.subarray(0, 100)]) {
    await assertRejects(() => list(part), FormatError, "cut or damaged gzip data");
  }
});

Deno.test("readTar() reads or refuses damaged archives", async () => {
  const small = tarFile(ENTRIES.slice(0, 3).concat(ENTRIES.slice(7, 9)));
  const cut = await readAll(truncations(small), list);
  // Only the empty blocks may be missing, all but one.
  assert(cut.accepted.every(({ bytes }) => bytes.length >= small.length - 512), "a cut was missed");
  await readAll(edits(small, { seed: 1, count: 150 }), list);
  const header = tarFile([{ name: "pax", type: "x", data: paxRecords({ path: "b" }) }, {
    name: "a",
  }]);
  await readAll(bitFlips(header.subarray(0, 560)), list);
  await readAll(edits(gzipSync(small), { seed: 2, count: 150 }), list);
});

Deno.test("extractArchive() unpacks tar, tar.gz and zip", async () => {
  const entries = FOUND.filter(([name], i) => FOUND.findIndex(([n]) => n === name) === i);
  const files = Object.fromEntries(
    entries.filter(([, type]) => type === "file").map(([name, , text]) => [name, text]),
  );
  const tar = tarFile(ENTRIES.filter((_, i) => i !== 7 && i !== 8));
  const zip = zipFile(entries.map(([name, , text], i) => ({
    name,
    data: encode(text),
    deflate: i % 2 === 0,
  })));
  await inFolder(async (dir) => {
    for (const [i, bytes] of [tar, gzipSync(tar), zip].entries()) {
      const path = `${dir}/archive${i}`;
      await Deno.writeFile(path, bytes);
      for (const [j, source] of [bytes, path, new URL(`file://${path}`)].entries()) {
        const out = `${dir}/out${i}${j}/deep`;
        assertEquals(await extractArchive(source, out), Object.keys(files));
        assertEquals(tree(out), files);
        await assertRejects(
          () => extractArchive(source, new URL(`file://${out}`)),
          Deno.errors.AlreadyExists,
          "it exists",
        );
      }
    }
  });
});

Deno.test("extractArchive() writes nothing outside of the folder", async () => {
  const names = ["../a", "/a", "b/../../a", "..", "a\\..\\..\\b", "C:/a", "c:a", ""];
  for (const name of names) {
    const good = { name: "good", data: encode("1") }, bad = { name, data: encode("2") };
    const archives = [tarFile([good, bad]), gzipSync(tarFile([good, bad])), zipFile([good, bad])];
    for (const archive of archives) {
      await inFolder(async (dir) => {
        await assertRejects(
          () => extractArchive(archive, `${dir}/in/out`, { file: "a.tar" }),
          FormatError,
          "expected a path that stays in the folder",
        );
        assertEquals(tree(dir), { "in/out/good": "1" });
      });
    }
  }
  await inFolder(async (dir) => {
    const link = tarFile([{ name: "a", type: "2" }, { name: "a/b", data: encode("1") }]);
    await assertRejects(
      () => extractArchive(link, `${dir}/out`),
      FormatError,
      'link "a" at byte 0',
    );
    const twice = tarFile([{ name: "a" }, { name: "./a" }]);
    await assertRejects(() => extractArchive(twice, `${dir}/out`), Deno.errors.AlreadyExists);
  });
});

Deno.test("extractArchive() stops a bomb before it is written", async () => {
  const zeros = { name: "zeros", data: new Uint8Array(100_000), deflate: true };
  const small = { name: "small", data: encode("12345") };
  const archives = [gzipSync(tarFile([small, zeros])), zipFile([small, zeros])];
  for (const archive of archives) {
    assert(archive.length < 2000);
    await inFolder(async (dir) => {
      await assertRejects(
        () => extractArchive(archive, dir, { maxBytes: 100_004, file: "bomb" }),
        FormatError,
        'Cannot read bomb: 100000 bytes of "zeros" at byte',
      );
      assertEquals(tree(dir), { small: "12345" });
    });
  }
});
