import { assert, assertEquals, assertRejects } from "@std/assert";
import { zlibSync } from "npm:fflate@0.8.3";
import type { ReadPictureOptions } from "../../../nn/data/picture.ts";
import { readPng } from "../../../nn/data/png.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { crc32 } from "../../../nn/io/gzip.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

function u32(value: number): number[] {
  return [value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255];
}

function chunk(type: string, data: ArrayLike<number>): number[] {
  const body = [...new TextEncoder().encode(type), ...Array.from(data)];
  return [...u32(data.length), ...body, ...u32(crc32(Uint8Array.from(body)))];
}

/** A PNG file of rows as the format stores them, each without filter. */
function png(
  options: {
    size: [number, number];
    type: number;
    depth?: number;
    rows: number[][];
    more?: [string, number[]][];
    interlace?: number;
  },
): Uint8Array {
  const { size: [width, height], type, depth = 8, rows, more = [], interlace = 0 } = options;
  const raw = Uint8Array.from(rows.flatMap((row) => [0, ...row]));
  return Uint8Array.from([
    ...SIGNATURE,
    ...chunk("IHDR", [...u32(width), ...u32(height), depth, type, 0, 0, interlace]),
    ...more.flatMap(([type, data]) => chunk(type, data)),
    ...chunk("IDAT", zlibSync(raw)),
    ...chunk("IEND", []),
  ]);
}

/** Channels and values of a file. */
async function read(bytes: Uint8Array, options?: ReadPictureOptions): Promise<[number, number[]]> {
  const { data, channels, width, height } = await readPng(bytes, options);
  assertEquals(data.length, width * height * channels);
  return [channels, [...data]];
}

const COLOURS = [[10, 20, 30, 40, 50, 60], [70, 80, 90, 100, 110, 120]];

Deno.test("readPng() reads grey, RGB and both with alpha", async () => {
  assertEquals(
    await read(png({ size: [2, 2], type: 0, rows: [[1, 2], [3, 255]] })),
    [1, [1, 2, 3, 255]],
  );
  assertEquals(await read(png({ size: [2, 2], type: 2, rows: COLOURS })), [3, COLOURS.flat()]);
  assertEquals(
    await read(png({ size: [2, 1], type: 4, rows: [[1, 0, 3, 4]] })),
    [2, [1, 0, 3, 4]],
  );
  const rgba = [1, 2, 3, 0, 5, 6, 7, 8];
  assertEquals(await read(png({ size: [2, 1], type: 6, rows: [rgba] })), [4, rgba]);
});

Deno.test("readPng() scales other depths to 8 bits", async () => {
  assertEquals(
    await read(png({ size: [3, 1], type: 0, depth: 16, rows: [[0x12, 0x34, 0, 128, 255, 255]] })),
    [1, [18, 0, 255]], // 0x1234 * 255 / 65535 = 18.13; 128 / 257 = 0.498
  );
  assertEquals(
    await read(png({ size: [9, 1], type: 0, depth: 1, rows: [[0b10110000, 0b10000000]] })),
    [1, [255, 0, 255, 255, 0, 0, 0, 0, 255]],
  );
  assertEquals(
    await read(png({ size: [3, 1], type: 0, depth: 2, rows: [[0b00_01_11_00]] })),
    [1, [0, 85, 255]],
  );
  assertEquals(
    await read(png({ size: [1, 1], type: 2, depth: 16, rows: [[1, 0, 2, 0, 3, 0]] })),
    [3, [1, 2, 3]],
  );
});

Deno.test("readPng() reads palettes, with transparency and without", async () => {
  const palette: [string, number[]] = ["PLTE", [1, 2, 3, 4, 5, 6, 7, 8, 9]];
  const rows = [[0b10_01_00_00]];
  assertEquals(
    await read(png({ size: [3, 1], type: 3, depth: 2, rows, more: [palette] })),
    [3, [7, 8, 9, 4, 5, 6, 1, 2, 3]],
  );
  const alpha: [string, number[]] = ["tRNS", [0, 128]];
  assertEquals(
    await read(png({ size: [3, 1], type: 3, depth: 2, rows, more: [palette, alpha] })),
    [4, [7, 8, 9, 255, 4, 5, 6, 128, 1, 2, 3, 0]],
  );
  await assertRejects(
    () => read(png({ size: [4, 1], type: 3, depth: 2, rows: [[255]], more: [palette] })),
    FormatError,
    "damaged image data (index 3 not in palette)",
  );
  await assertRejects(
    () => read(png({ size: [3, 1], type: 3, depth: 2, rows })),
    FormatError,
    "no palette",
  );
});

Deno.test("readPng() keeps the colour that stands for transparent", async () => {
  const key = (...values: number[]): [string, number[]][] => [["tRNS", values]];
  assertEquals(
    await read(png({ size: [2, 1], type: 0, rows: [[7, 8]], more: key(0, 7) })),
    [2, [7, 0, 8, 255]],
  );
  assertEquals(
    await read(
      png({ size: [2, 1], type: 2, rows: [[1, 2, 3, 1, 2, 4]], more: key(0, 1, 0, 2, 0, 3) }),
    ),
    [4, [1, 2, 3, 0, 1, 2, 4, 255]],
  );
});

Deno.test("readPng() gives the channels asked for", async () => {
  const rgba = png({ size: [2, 1], type: 6, rows: [[255, 0, 0, 9, 0, 255, 100, 9]] });
  assertEquals(await read(rgba, { channels: 3 }), [3, [255, 0, 0, 0, 255, 100]]);
  // Pillow: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L") is 76; of (0, 255, 100) it is 161.
  assertEquals(await read(rgba, { channels: 1 }), [1, [76, 161]]);
  const grey = png({ size: [2, 1], type: 0, rows: [[7, 255]] });
  assertEquals(await read(grey, { channels: 3 }), [3, [7, 7, 7, 255, 255, 255]]);
  assertEquals(await read(grey, { channels: 4 }), [4, [7, 7, 7, 255, 255, 255, 255, 255]]);
});

Deno.test("readPng() reads interlaced pictures", async () => {
  // Adam7 of 2 by 2 pixels: passes 1, 6 and 7 hold (0,0), (1,0) and the second row.
  const bytes = png({ size: [2, 2], type: 0, rows: [[1], [2], [3, 4]], interlace: 1 });
  assertEquals(await read(bytes), [1, [1, 2, 3, 4]]);
});

Deno.test("readPng() refuses pictures that are too large, before it takes memory", async () => {
  const refused = (bytes: Uint8Array, message: string, options?: ReadPictureOptions) =>
    assertRejects(() => readPng(bytes, { file: "a.png", ...options }), FormatError, message);
  const rows = [[1]];
  await refused(png({ size: [2 ** 31, 2 ** 31], type: 6, rows }), "2147483648x2147483648 pixels");
  await refused(png({ size: [8000, 8000], type: 6, rows }), "bytes of data at byte 33, expected");
  await refused(png({ size: [0, 1], type: 6, rows }), "0x1 pixels at byte 16");
  const small = png({ size: [2, 2], type: 0, rows: [[1, 2], [3, 4]] });
  await refused(small, "2x2 pixels at byte 16, expected 1 to 3 in all", { maxPixels: 3 });
});

Deno.test("readPng() refuses what is no PNG or not whole", async () => {
  const good = { size: [2, 1] as [number, number], type: 0, rows: [[1, 2]] };
  const refused = (bytes: Uint8Array, message: string) =>
    assertRejects(() => readPng(bytes, { file: "a.png" }), FormatError, message);
  await refused(Uint8Array.from({ length: 50 }), "Cannot read a.png: another signature at byte 0");
  await refused(png({ ...good, type: 1 }), "colour type 1 of 8 bits");
  await refused(png({ ...good, depth: 3 }), "colour type 0 of 3 bits");
  await refused(png({ ...good, type: 2, depth: 4 }), "colour type 2 of 4 bits");
  await refused(png({ ...good, interlace: 2 }), "colour type 0 of 8 bits");
  await refused(png({ ...good, rows: [[1]] }), "damaged image data (2 bytes)");
  await refused(png({ ...good, rows: [[1, 2, 3]] }), "damaged image data (too long)");
  await refused(Uint8Array.of(...png(good), 0), "1 trailing bytes");
  await refused(Uint8Array.from([...SIGNATURE, ...chunk("IEND", [])]), "chunks out of order");
  await refused(png({ ...good, more: [["IHDR", new Array(13).fill(0)]] }), "chunks out of order");
});

Deno.test("readPng() reads the right values or refuses damaged files", async () => {
  const bytes = png({ size: [2, 2], type: 2, rows: COLOURS });
  assertEquals((await readAll(truncations(bytes), read)).accepted, []);
  const flips = await readAll(bitFlips(bytes), read);
  assertEquals(flips.accepted, []); // every byte is under a checksum
  const random = await readAll(edits(bytes, { seed: 10, count: 1000 }), read);
  for (const { result, how } of random.accepted) assertEquals(result, [3, COLOURS.flat()], how);
  // Past the checksums: damage in the compressed data alone.
  const data = zlibSync(Uint8Array.from([0, ...COLOURS[0]!, 0, ...COLOURS[1]!]));
  const inner = [...edits(data, { seed: 11, count: 500 }), ...truncations(data), ...bitFlips(data)];
  const head = chunk("IHDR", [...u32(2), ...u32(2), 8, 2, 0, 0, 0]);
  const wrapped = inner.map(({ bytes, how }) => ({
    bytes: Uint8Array.from([...SIGNATURE, ...head, ...chunk("IDAT", bytes), ...chunk("IEND", [])]),
    how,
  }));
  const deep = await readAll(wrapped, read);
  for (const { result: [, values], how } of deep.accepted) assertEquals(values.length, 12, how);
  assert(deep.refused > 200, `${deep.refused}`);
});
