/** @file Readers of archives for the fuzzer: as streams, and unpacked into a folder. */

import { gzipSync } from "npm:fflate@0.8.3";
import { extractArchive } from "../../nn/data/archive.ts";
import { readTar } from "../../nn/data/tar.ts";
import { paxRecords, tarFile } from "../helpers/tar_file.ts";
import { zipFile } from "../helpers/zip_file.ts";
import type { Reader, Seed } from "./readers.ts";

const BLOCK = 512;

/** Readers of archives. */
export function archiveReaders(): Reader[] {
  return [
    { name: "tar", seeds: tarSeeds, read: readWholeTar, expansion: 8 },
    { name: "tar-gz", seeds: tarGzipSeeds, read: readWholeTar, expansion: 4 * 1032 },
    { name: "extract", seeds: extractSeeds, read: extract, expansion: 8 * 1032 },
  ];
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

async function readWholeTar(bytes: Uint8Array): Promise<void> {
  let total = 0;
  for await (const entry of readTar(bytes)) {
    const { length } = await entry.bytes();
    if (length !== entry.size) throw new Error(`${length} bytes of ${entry.size}`);
    total += length;
  }
  if (total > 1032 * bytes.length) throw new Error(`${total} bytes from ${bytes.length}`);
}

/** Unpacks into a folder and looks whether anything is beside it. */
async function extract(bytes: Uint8Array): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "fuzz" });
  let error: unknown, names: string[];
  try {
    await extractArchive(bytes, `${dir}/in`, { maxBytes: 2 ** 24 }).catch((e) => error = e);
    names = [...Deno.readDirSync(dir)].map(({ name }) => name);
    checkTree(`${dir}/in`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  if (names.join() !== "in") throw new Error(`Files beside the folder: ${names.join()}`);
  // The one error beside FormatError that is promised.
  if (error !== undefined && !(error instanceof Deno.errors.AlreadyExists)) throw error;
}

/** Fails if there is a link in a folder. */
function checkTree(dir: string): void {
  for (const { name, isSymlink, isDirectory } of Deno.readDirSync(dir)) {
    if (isSymlink) throw new Error(`A link ${name}`);
    if (isDirectory) checkTree(`${dir}/${name}`);
  }
}

/** Puts right checksums on what may be headers. */
function repairTar(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  for (let at = 0; at + BLOCK <= copy.length; at += BLOCK) {
    const header = copy.subarray(at, at + BLOCK);
    if (header[257] !== 0x75) continue; // "ustar"
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.set(encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
  }
  return copy;
}

const LONG = `${"long/".repeat(40)}name`;

function goodTars(): Uint8Array[] {
  const data = encode("some words");
  return [
    tarFile([{ name: "a/", type: "5" }, { name: "a/b", data }, { name: "c", data, prefix: "d/e" }]),
    tarFile([
      { name: "././@LongLink", type: "L", data: encode(`${LONG}\0`) },
      { name: "cut", data, wideSize: true },
    ]),
    tarFile([{ name: "x", type: "x", data: paxRecords({ path: LONG, size: "10" }) }, {
      name: "y",
      data,
    }]),
  ];
}

function tarSeeds(): Seed[] {
  return [
    ...goodTars().map((content) => ({ content })),
    ...goodTars().map((content) => ({ content, wrap: repairTar })),
    { content: tarFile([{ name: "a", size: 2 ** 32 }]), hostile: true },
    { content: tarFile([{ name: "a", lie: 1 }]), hostile: true },
  ];
}

function tarGzipSeeds(): Seed[] {
  /** A gzip member around an archive. */
  const wrap = (content: Uint8Array) => gzipSync(repairTar(content), { mtime: 0 });
  const zeros = tarFile([{ name: "zeros", data: new Uint8Array(300_000) }]);
  return [
    ...goodTars().map((content) => ({ content, wrap })),
    { content: wrap(zeros) },
    { content: wrap(tarFile([{ name: "a", size: 2 ** 32 }])), hostile: true },
  ];
}

function extractSeeds(): Seed[] {
  const data = encode("some words");
  const sly = ["../a", "/tmp/a", "a/../../b", "..\\a", "c:a", "a\0b", ".."];
  const zip = (names: readonly string[]) => zipFile(names.map((name) => ({ name, data })));
  return [
    ...goodTars().map((content) => ({ content, wrap: repairTar })),
    { content: zip(["a/b", "c"]) },
    {
      content: zipFile([{ name: "a/", data: new Uint8Array(0) }, {
        name: "a/b",
        data,
        deflate: true,
      }]),
    },
    ...sly.map((name) => ({ content: zip([name]), hostile: true })),
    ...sly.filter((name) => !name.includes("\0")).map((name) => ({
      content: tarFile([{ name, data }]),
      hostile: true,
    })),
    { content: tarFile([{ name: "a", type: "2" }, { name: "a/b", data }]), hostile: true },
    { content: tarFile([{ name: "a", type: "1" }]), hostile: true },
  ];
}
