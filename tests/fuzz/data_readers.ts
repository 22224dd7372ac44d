/** @file Readers of data sets and run folders for the fuzzer. */

import { gzipSync, zlibSync } from "npm:fflate@0.8.3";
import { readCifar10 } from "../../nn/data/cifar.ts";
import { readCsv } from "../../nn/data/csv.ts";
import { readIdx } from "../../nn/data/idx.ts";
import { readJpeg } from "../../nn/data/jpeg.ts";
import { readPng } from "../../nn/data/png.ts";
import { readRecordIo, unpackImageRecord } from "../../nn/data/recordio.ts";
import { packImageRecord, writeRecordIo } from "../../nn/data/recordio.ts";
import { readWav } from "../../nn/data/wav.ts";
import { crc32 } from "../../nn/io/gzip.ts";
import { decodeMetrics } from "../../nn/run/metrics_csv.ts";
import { decodeRunConfig } from "../../nn/run/run_folder.ts";
import { encodeJpeg } from "../helpers/jpeg_file.ts";
import { le } from "../helpers/zip_file.ts";
import type { Reader, Seed } from "./readers.ts";

const MAX_PIXELS = 1 << 20;

/** Readers of data sets, tables and what a run folder holds. */
export function dataReaders(): Reader[] {
  return [
    { name: "idx", seeds: idxSeeds, read: readIdxFile, expansion: 8 },
    { name: "idx-gz", seeds: idxGzipSeeds, read: readIdxFile, expansion: 10 * 1032 },
    { name: "cifar", seeds: cifarSeeds, read: readCifarFile, expansion: 4 },
    { name: "csv", seeds: csvSeeds, read: readTable, expansion: 16 },
    { name: "recordio", seeds: recordSeeds, read: readRecords, expansion: 16 },
    { name: "recordio-idx", seeds: indexSeeds, read: readIndex, expansion: 16 },
    { name: "png", seeds: pngSeeds, read: readPicture, expansion: 8 * 1032 },
    { name: "jpeg", seeds: jpegSeeds, read: readPhoto, expansion: 8 * 512 },
    { name: "wav", seeds: wavSeeds, read: readSound, expansion: 16 },
    { name: "metrics", seeds: metricsSeeds, read: readMetrics, expansion: 16 },
    { name: "config", seeds: configSeeds, read: readConfig, expansion: 8 },
  ];
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function expectSize(found: number, wanted: number, what: string): void {
  if (found !== wanted) throw new Error(`${found} ${what}, the header says ${wanted}`);
}

async function readIdxFile(bytes: Uint8Array): Promise<void> {
  const { shape, data } = await readIdx(bytes);
  const count = shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
  expectSize(data.length, count, "elements");
}

async function readCifarFile(bytes: Uint8Array): Promise<void> {
  const { labels, images } = await readCifar10(bytes);
  expectSize(images.length, 3072 * labels.length, "values");
  if (labels.some((label) => label > 9)) throw new Error("A label beyond 9");
}

async function readTable(bytes: Uint8Array): Promise<void> {
  const { columns, count } = await readCsv(bytes, {
    columns: { path: "string", label: "integer", score: "number", flag: "boolean" },
  });
  for (const values of Object.values(columns)) expectSize(values.length, count, "values");
}

async function readRecords(bytes: Uint8Array): Promise<void> {
  for (const record of (await readRecordIo(bytes)).records) unpackImageRecord(record);
}

const FILE = writeRecordIo([encode("one"), encode(""), encode("three")], { keys: [3, 1, 2] });

async function readIndex(bytes: Uint8Array): Promise<void> {
  const { records, keys } = await readRecordIo(FILE.rec, { index: bytes });
  expectSize(records.length, keys.length, "records");
}

async function readPicture(bytes: Uint8Array): Promise<void> {
  const { data, width, height, channels } = await readPng(bytes, { maxPixels: MAX_PIXELS });
  expectSize(data.length, width * height * channels, "values");
}

async function readPhoto(bytes: Uint8Array): Promise<void> {
  const { data, width, height, channels } = await readJpeg(bytes, { maxPixels: MAX_PIXELS });
  expectSize(data.length, width * height * channels, "values");
}

async function readSound(bytes: Uint8Array): Promise<void> {
  const { samples, channels, frames } = await readWav(bytes);
  expectSize(samples.length, channels * frames, "samples");
}

async function readMetrics(bytes: Uint8Array): Promise<void> {
  const { columns, count, values } = await decodeMetrics(bytes, { file: "metrics.csv" });
  for (const name of columns) expectSize(values[name]!.length, count, "values");
}

function readConfig(bytes: Uint8Array): void {
  const { seed, options } = decodeRunConfig(bytes, { file: "config.json" });
  if (typeof seed !== "number" || typeof options !== "object") throw new Error("A lame config");
}

/** A big-endian header of idx, then data. */
function idxFile(type: number, sizes: number[], data: ArrayLike<number>): Uint8Array {
  const head = [0, 0, type, sizes.length];
  const dims = sizes.flatMap((size) => le([4, size]).reverse());
  return Uint8Array.from([...head, ...dims, ...Array.from(data)]);
}

function idxSeeds(): Seed[] {
  return [
    { content: idxFile(8, [2, 3, 2], new Uint8Array(12)) },
    { content: idxFile(0x0d, [3], new Uint8Array(12)) },
    { content: idxFile(0x0e, [1, 2], new Uint8Array(16)) },
    { content: idxFile(0x0b, [0, 7], []) },
    { content: idxFile(0x0e, [0xffffffff, 0xffffffff], []), hostile: true },
    { content: idxFile(8, Array.from({ length: 255 }, () => 0xffffffff), []), hostile: true },
  ];
}

function idxGzipSeeds(): Seed[] {
  /** A gzip member around an idx file. */
  const wrap = (content: Uint8Array) => gzipSync(content, { mtime: 0 });
  const zeros = idxFile(8, [300, 1000], new Uint8Array(300_000));
  const small = idxFile(8, [2, 3, 2], new Uint8Array(12));
  const long = idxFile(8, [2], new Uint8Array(300_000));
  return [
    { content: wrap(small) },
    { content: small, wrap },
    { content: wrap(zeros) },
    { content: wrap(long), hostile: true }, // decompression stops where the header says
    { content: idxFile(8, [0x7fffffff], []), wrap, hostile: true },
  ];
}

function cifarSeeds(): Seed[] {
  const record = (label: number) => [label, ...new Array<number>(3072).fill(label)];
  return [
    { content: Uint8Array.from([...record(3), ...record(9)]) },
    { content: Uint8Array.from(record(0)) },
    { content: Uint8Array.from(record(10)), hostile: true },
  ];
}

function csvSeeds(): Seed[] {
  const head = "path,label,score,flag\n";
  const names = Array.from({ length: 5000 }, (_, i) => `n${i}`).join(",");
  return [
    { content: encode(`${head}a.png,3,0.5,true\n"b, ""c""",-7,,0\n`) },
    { content: encode(`\ufeffflag,score,more,label,path\r\n1,nan,x,2,"two\nlines"\r\n`) },
    { content: encode(`path,label,score,flag,${names}\n`) },
    { content: encode(`${head}${"a,1,1,1\n".repeat(3000)}`) },
    { content: encode(`${head}a,99999999999,1,1\n`), hostile: true },
    { content: encode(`${head}"a,1,1,1\n`.repeat(2000)), hostile: true },
    { content: encode(`${head}a,1,0x10,1\n`), hostile: true },
  ];
}

function recordSeeds(): Seed[] {
  const image = Uint8Array.of(1, 2, 3, 4, 0x0a, 0x23, 0xd7, 0xce, 5);
  const records = [
    packImageRecord({ label: Float32Array.of(4, 5, 1, 0, 0, 1, 1), id: 7, image }),
    packImageRecord({ label: Float32Array.of(2), id: 8, image }),
  ];
  const many = [...le([4, 0xced7230a], [4, 2 ** 29 - 1])];
  return [
    { content: writeRecordIo(records).rec },
    { content: writeRecordIo(records.slice(1)).rec },
    { content: Uint8Array.from(many), hostile: true },
    {
      content: writeRecordIo([Uint8Array.from([...le([4, -1]), ...new Uint8Array(20)])]).rec,
      hostile: true,
    },
  ];
}

function indexSeeds(): Seed[] {
  return [
    { content: FILE.idx },
    { content: encode("1\t0\r\n") },
    { content: encode("1\t9223372036854775808\n"), hostile: true },
    { content: encode("1\t-1\n"), hostile: true },
  ];
}

function u32(value: number): number[] {
  return le([4, value]).reverse();
}

function chunk(type: string, data: ArrayLike<number>): number[] {
  const body = Uint8Array.from([...encode(type), ...Array.from(data)]);
  return [...u32(data.length), ...body, ...u32(crc32(body))];
}

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** A PNG file of a header and rows with their filter bytes. */
function pngFile(
  size: readonly [number, number],
  kind: readonly [depth: number, type: number, interlace?: number],
  rows: Uint8Array,
  more: number[] = [],
): Uint8Array {
  const [depth, type, interlace = 0] = kind;
  return Uint8Array.from([
    ...PNG_SIGNATURE,
    ...chunk("IHDR", [...size.flatMap(u32), depth, type, 0, 0, interlace]),
    ...more,
    ...chunk("IDAT", zlibSync(rows)),
    ...chunk("IEND", []),
  ]);
}

/** Puts right checksums on the chunks of a damaged file, as far as it has any. */
function repairPng(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice(), view = new DataView(copy.buffer);
  for (let at = 8; at + 12 <= copy.length;) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > copy.length) break;
    view.setUint32(end, crc32(copy.subarray(at + 4, end)));
    at = end + 4;
  }
  return copy;
}

function pngSeeds(): Seed[] {
  const rgb = pngFile([2, 2], [8, 2], Uint8Array.from([0, 1, 2, 3, 4, 5, 6, 1, 7, 8, 9, 1, 1, 1]));
  const palette = pngFile([3, 1], [2, 3], Uint8Array.of(0, 0b00011000), [
    ...chunk("PLTE", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ...chunk("tRNS", [0, 128]),
  ]);
  const wide = pngFile([2, 2], [16, 6], new Uint8Array(34));
  const laced = pngFile([3, 3], [8, 0, 1], new Uint8Array(15));
  const zeros = pngFile([1000, 1000], [1, 0], new Uint8Array(126_000));
  return [
    ...[rgb, palette, wide, laced, zeros].map((content) => ({ content })),
    ...[rgb, palette, wide, laced].map((content) => ({ content, wrap: repairPng })),
    {
      content: Uint8Array.from([0, 1, 2, 3, 4, 5, 6, 4, 7, 8, 9, 1, 1, 1]),
      wrap: (rows) => pngFile([2, 2], [8, 2], rows),
    },
    { content: pngFile([2 ** 31 - 1, 2 ** 31 - 1], [8, 6], new Uint8Array(9)), hostile: true },
    { content: pngFile([1024, 1024], [8, 6], new Uint8Array(9)), hostile: true },
    { content: pngFile([2, 2], [8, 2], new Uint8Array(3_000_000)), hostile: true },
  ];
}

async function jpegSeeds(): Promise<Seed[]> {
  const rgb = Uint8Array.from({ length: 3 * 24 * 17 }, (_, i) => 7 * i + (i >> 5));
  const kinds = [{ quality: 90 }, { quality: 40, progressive: true }, { quality: 75 }];
  const files = await Promise.all(
    kinds.map((kind) => encodeJpeg(rgb, { size: [24, 17], ...kind })),
  );
  const [first] = files as [Uint8Array];
  const frame = first.findIndex((byte, i) => byte === 0xff && first[i + 1] === 0xc0);
  const huge = first.slice();
  huge.set([0xff, 0xff, 0xff, 0xff], frame + 5); // rows and columns
  return [
    ...files.map((content) => ({ content })),
    { content: huge, hostile: true },
    { content: first.slice(0, first.length >> 1), hostile: true },
  ];
}

function wavSeeds(): Seed[] {
  const part = (
    type: string,
    data: number[],
  ) => [...encode(type), ...le([4, data.length]), ...data];
  const format = (code: number, channels: number, bits: number) =>
    part(
      "fmt ",
      le(
        [2, code],
        [2, channels],
        [4, 16000],
        [4, 2000 * channels * bits],
        [2, channels * bits / 8],
        [2, bits],
      ),
    );
  const riff = (...parts: number[][]) =>
    Uint8Array.from(part("RIFF", [...encode("WAVE"), ...parts.flat()]));
  return [
    { content: riff(format(1, 1, 16), part("data", [1, 2, 3, 4])) },
    { content: riff(part("LIST", [1, 2]), format(3, 2, 32), part("data", new Array(16).fill(1))) },
    { content: riff(format(1, 1, 8), part("data", [1, 2])) },
    { content: riff(format(85, 1, 16), part("data", [1, 2])), hostile: true },
    { content: riff(format(1, 65535, 32), part("data", [1, 2])), hostile: true },
  ];
}

function metricsSeeds(): Seed[] {
  return [
    { content: encode("Epoch,LR,Validation Loss\n1,0.01,3.2\n2,0.01,NaN\n") },
    { content: encode('Epoch,"A, ""b"""\n1,"x\ny"\n2,0.') },
    { content: encode("Epoch,LR"), hostile: true }, // a header without its end
    { content: encode("Epoch,Epoch\n1,2\n"), hostile: true },
  ];
}

function configSeeds(): Seed[] {
  const config = {
    experiment: "letters",
    preset: "quick",
    seed: 42,
    adapter: "llvmpipe",
    options: { lr: 0.01, data: null, flip: true },
    created: "2026-05-04T03:02:01.987Z",
    versions: { lathe: "0.1.0", deno: "2.9.6" },
  };
  return [
    { content: encode(JSON.stringify(config, null, 2)) },
    { content: encode(JSON.stringify({ ...config, preset: undefined, adapter: undefined })) },
    { content: encode(JSON.stringify(config).replace("0.01", "NaN")), hostile: true },
    { content: encode("[".repeat(50_000)), hostile: true },
    { content: encode(JSON.stringify({ ...config, seed: "1" })), hostile: true },
  ];
}
