import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { encodeJpeg, splitSegments } from "../../helpers/jpeg_file.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { readImage } from "../../../nn/data/image.ts";
import { initJpeg, readJpeg } from "../../../nn/data/jpeg.ts";
import { writePng } from "../../../nn/data/png_write.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";

/** A smooth picture: red grows to the right, green downwards, blue is half. */
function ramp(width: number, height: number): Uint8Array {
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rgb.set([40 + 4 * x, 30 + 3 * y, 128], 3 * (y * width + x));
  }
  return rgb;
}

function worst(a: Uint8Array, b: Uint8Array): number {
  assertEquals(a.length, b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

/** An 8x8 grey picture written by hand: one code for a DC difference of 2 bits, one for "no more". */
function handmade(): Uint8Array {
  const table = (kind: number, code: number) => [
    ...[0xff, 0xc4, 0, 20, kind],
    ...[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    code,
  ];
  return Uint8Array.from([
    ...[0xff, 0xd8],
    ...[0xff, 0xdb, 0, 67, 0, ...new Array(64).fill(16)], // one step of DC: 16 / 8 = 2 grey values
    ...[0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0],
    ...table(0x00, 2), // DC: the code 0 says that 2 bits follow
    ...table(0x10, 0), // AC: the code 0 says that the block ends
    ...[0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0],
    0b0_11_0_1111, // +3, end, filled up
    ...[0xff, 0xd9],
  ]);
}

Deno.test("initJpeg() gives the decoder its WebAssembly", async () => {
  const original = globalThis.fetch;
  const fetched: string[] = [];
  globalThis.fetch = (input, init) => {
    fetched.push(String(input));
    return original(input, init);
  };
  try {
    assertEquals((await readJpeg(handmade())).data[0], 134);
    assertEquals(fetched.length, 1);
    await initJpeg(await Deno.readFile(new URL(fetched[0]!)));
    assertEquals((await readJpeg(handmade())).data[0], 134);
    assertEquals(fetched.length, 1, "nothing is fetched after initJpeg()");
  } finally {
    globalThis.fetch = original;
  }
  await assertRejects(() => initJpeg(new Uint8Array(8)), WebAssembly.CompileError);
  await assertRejects(
    () => initJpeg("mozjpeg_dec.wasm" as unknown as BufferSource),
    TypeError,
    'Cannot decode JPEG with "mozjpeg_dec.wasm": it must be the decoder\'s bytes',
  );
});

Deno.test("readJpeg() decodes a picture written by hand", async () => {
  const { data, ...rest } = await readJpeg(handmade());
  assertEquals(rest, { width: 8, height: 8, channels: 1 });
  assertEquals(data, new Uint8Array(64).fill(128 + 2 * 3));
});

Deno.test("readJpeg() reads baseline, progressive and grey pictures", async () => {
  const rgb = ramp(40, 24);
  for (const progressive of [false, true]) {
    const file = await encodeJpeg(rgb, { size: [40, 24], quality: 100, progressive });
    const { data, ...rest } = await readJpeg(file);
    assertEquals(rest, { width: 40, height: 24, channels: 3 });
    assert(worst(data, rgb) <= 3, `off by ${worst(data, rgb)}`);
    const rgba = await readJpeg(file, { channels: 4 });
    assertEquals(rgba.data.filter((_, i) => i % 4 !== 3), data);
    assert(rgba.data.every((value, i) => i % 4 !== 3 || value === 255));
    const luma = await readJpeg(file, { channels: 1 });
    assertEquals(luma.data.length, 40 * 24);
    assertAlmostEquals(luma.data[0]!, 0.299 * data[0]! + 0.587 * data[1]! + 0.114 * data[2]!, 0.51);
  }
  const grey = await encodeJpeg(rgb, { size: [40, 24], quality: 90, grey: true });
  const { data, channels } = await readJpeg(grey);
  assertEquals([channels, data.length], [1, 40 * 24]);
  const wide = await readJpeg(grey, { channels: 3 });
  assertEquals(wide.data, Uint8Array.from({ length: 3 * data.length }, (_, i) => data[i / 3 | 0]!));
});

Deno.test("readJpeg() gives odd sizes and takes bytes after the end", async () => {
  for (const size of [[1, 1], [17, 3], [3, 33], [5, 5]] as const) {
    const rgb = ramp(size[0], size[1]);
    const file = await encodeJpeg(rgb, { size, quality: 100 });
    const { data, width, height } = await readJpeg(Uint8Array.from([...file, 1, 2, 3]));
    assertEquals([width, height], [...size]);
    assert(worst(data, rgb) <= 3);
  }
});

Deno.test("readJpeg() does not turn a picture by its EXIF", async () => {
  const file = await encodeJpeg(ramp(16, 8), { size: [16, 8], quality: 90 });
  // Orientation (0x112) of type short (3), once: 6, a quarter turn.
  const exif = [..."Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"]
    .map((char) => char.charCodeAt(0));
  const turned = Uint8Array.from([
    ...[0xff, 0xd8, 0xff, 0xe1, 0, exif.length + 2, ...exif],
    ...file.subarray(2),
  ]);
  assertEquals(await readJpeg(turned), await readJpeg(file));
});

Deno.test("readJpeg() says what is wrong with a file, and goes on with the next", async () => {
  const file = await encodeJpeg(ramp(16, 16), { size: [16, 16], quality: 90 });
  const { frame, scan } = splitSegments(file);
  const refused = async (bytes: Uint8Array, message: string, maxPixels?: number) => {
    await assertRejects(
      () => readJpeg(bytes, { file: "a.jpg", maxPixels }),
      FormatError,
      `Cannot read a.jpg: ${message}`,
    );
    assertEquals((await readJpeg(file)).width, 16);
  };
  const edited = (at: number, ...values: number[]) => {
    const copy = file.slice();
    copy.set(values, at);
    return copy;
  };
  await refused(new Uint8Array(0), "another signature at byte 0, expected 0xffd8ff (JPEG)");
  await refused(Uint8Array.of(0xff, 0xd8, 0xff), "end of file at byte 3");
  await refused(file.subarray(0, file.length - 2), `end of file at byte ${file.length - 2}`);
  await refused(file.subarray(0, file.length - 20), `end of file at byte ${file.length - 20}`);
  await refused(file, "16x16 pixels at byte", 255);
  await refused(edited(frame + 5, 255, 255, 255, 255), "65535x65535 pixels at byte", 2 ** 33);
  await refused(edited(frame + 1, 0xc3), "frame of kind SOF3 at byte");
  await refused(edited(frame + 4, 12), "3 components of 12 bits at byte");
  // A scan in the middle of which the image ends.
  const cut = [...file.subarray(0, scan + 20), 0xff, 0xd9];
  await refused(Uint8Array.from(cut), "damaged image data (Corrupt JPEG data: premature end");
  const cmyk = Uint8Array.from([
    ...file.subarray(0, frame),
    ...[0xff, 0xc0, 0, 20, 8, 0, 16, 0, 16, 4, 1, 17, 0, 2, 17, 0, 3, 17, 0, 4, 17, 0],
    ...file.subarray(frame + 19),
  ]);
  await refused(cmyk, "CMYK of 8 bits at byte");
  await refused(
    Uint8Array.from([0xff, 0xd8, 0xff, 0xd9]),
    "no image at byte 4, expected a frame and a scan",
  );
  const scans = file.subarray(scan, file.length - 2), body = file.subarray(0, scan);
  const many = Uint8Array.from([...body, ...new Array(501).fill([...scans]).flat(), 0xff, 0xd9]);
  await refused(many, "501 scans at byte");
});

Deno.test("readJpeg() reads or refuses damaged files", async () => {
  const file = await encodeJpeg(ramp(8, 8), { size: [8, 8], quality: 80, progressive: true });
  const { refused, accepted } = await readAll(truncations(file), (bytes) => readJpeg(bytes));
  assertEquals([refused, accepted.length], [file.length, 0]);
  const flips = await readAll(bitFlips(file), (bytes) => readJpeg(bytes, { maxPixels: 4096 }));
  const edited = edits(file, { seed: 1, count: 500 });
  const rest = await readAll(edited, (bytes) => readJpeg(bytes, { maxPixels: 4096 }));
  for (const { result, how } of [...flips.accepted, ...rest.accepted]) {
    assertEquals(result.data.length, result.width * result.height * result.channels, how);
  }
});

Deno.test("readJpeg() decodes several pictures at a time", async () => {
  const files = await Promise.all(
    [1, 2, 3, 4].map((n) => encodeJpeg(ramp(8 * n, 8), { size: [8 * n, 8], quality: 90 })),
  );
  const bad = files[0]!.slice(0, -2);
  const results = await Promise.allSettled([...files, bad, ...files].map((file) => readJpeg(file)));
  const widths = results.map((r) => r.status === "fulfilled" ? r.value.width : "refused");
  assertEquals(widths, [8, 16, 24, 32, "refused", 8, 16, 24, 32]);
});

Deno.test("readImage() tells PNG from JPEG by the first bytes", async () => {
  const rgb = ramp(8, 8);
  const png = await writePng({ data: rgb.slice(), width: 8, height: 8, channels: 3 });
  const jpeg = await encodeJpeg(rgb, { size: [8, 8], quality: 100 });
  assertEquals((await readImage(png)).data, rgb);
  assertEquals(await readImage(jpeg, { channels: 1 }), await readJpeg(jpeg, { channels: 1 }));
  for (
    const [bytes, found] of [[[0x47, 0x49, 0x46, 0x38], "first bytes 0x47494638"], [[], "end"]]
  ) {
    await assertRejects(
      () => readImage(Uint8Array.from(bytes as number[]), { file: "a.gif" }),
      FormatError,
      `Cannot read a.gif: ${found}`,
    );
  }
  await assertRejects(
    () => readImage(jpeg.subarray(0, 30), { file: "cut.jpg" }),
    FormatError,
    "Cannot read cut.jpg",
  );
});
