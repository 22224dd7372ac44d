import { assert, assertEquals, assertRejects } from "@std/assert";
import { readWav } from "../../../nn/data/wav.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { le } from "../../helpers/zip_file.ts";

function chunk(type: string, data: number[]): number[] {
  const padding = data.length % 2 ? [0] : [];
  return [...new TextEncoder().encode(type), ...le([4, data.length]), ...data, ...padding];
}

/** A WAV file of chunks. */
function riff(...chunks: number[][]): Uint8Array {
  const body = [...new TextEncoder().encode("WAVE"), ...chunks.flat()];
  return Uint8Array.from(chunk("RIFF", body));
}

function format(
  code: number,
  channels: number,
  bits: number,
  block = Math.ceil(channels * bits / 8),
) {
  const rate = 16000;
  return chunk(
    "fmt ",
    le([2, code], [2, channels], [4, rate], [4, rate * block], [2, block], [2, bits]),
  );
}

function bytesOf(data: ArrayBufferView): number[] {
  return [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

Deno.test("readWav() reads every kind of sample", async () => {
  const cases: [number, number, number[], number[]][] = [
    [1, 8, [0, 128, 255], [-1, 0, 127 / 128]],
    [1, 16, bytesOf(Int16Array.of(-32768, 0, 16384)), [-1, 0, 0.5]],
    [1, 24, [0, 0, 0x80, 1, 0, 0, 0, 0, 0x40], [-1, 2 ** -23, 0.5]],
    [1, 32, bytesOf(Int32Array.of(-(2 ** 31), 2 ** 30)), [-1, 0.5]],
    [3, 32, bytesOf(Float32Array.of(0.25, -2)), [0.25, -2]],
    [3, 64, bytesOf(Float64Array.of(0.25, -2)), [0.25, -2]],
  ];
  for (const [code, bits, data, samples] of cases) {
    assertEquals(await readWav(riff(format(code, 1, bits), chunk("data", data))), {
      samples: Float32Array.from(samples),
      sampleRate: 16000,
      channels: 1,
      frames: samples.length,
    });
  }
});

Deno.test("readWav() takes channels apart and skips other chunks", async () => {
  const data = bytesOf(Int16Array.of(1, 10, 2, 20, 3, 30).map((value) => value * 256));
  const note = chunk("LIST", [1, 2, 3]);
  const expected = Float32Array.of(1, 2, 3, 10, 20, 30).map((value) => value / 128);
  const file = riff(note, format(1, 2, 16), note, chunk("data", data), note);
  const { samples, channels, frames } = await readWav(file);
  assertEquals([samples, channels, frames], [expected, 2, 3]);
  const guid = [1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
  const long = [...format(0xfffe, 2, 16).slice(8), ...le([2, 22], [2, 16], [4, 3]), ...guid];
  assertEquals((await readWav(riff(chunk("fmt ", long), chunk("data", data)))).samples, expected);
  assertEquals((await readWav(riff(format(1, 2, 16), chunk("data", [])))).frames, 0);
});

Deno.test("readWav() refuses what it cannot read", async () => {
  const refuses = (bytes: Uint8Array, message: string) =>
    assertRejects(
      () => readWav(bytes, { file: "a.wav" }),
      FormatError,
      `Cannot read a.wav: ${message}`,
    );
  const data = chunk("data", [1, 2, 3, 4]);
  await refuses(new Uint8Array(20), "another header at byte 0, expected RIFF, WAVE");
  await refuses(riff(format(1, 1, 16)), "no sound at byte 36");
  await refuses(riff(data), "sound before its format at byte 12");
  await refuses(riff(format(1, 1, 16), format(1, 1, 16)), "second format");
  await refuses(riff(format(6, 1, 8), data), "format 6 of 8 bits at byte 20, expected PCM (1)");
  await refuses(riff(format(1, 1, 12), data), "format 1 of 12 bits");
  await refuses(riff(format(3, 1, 16), data), "format 3 of 16 bits");
  await refuses(riff(format(1, 0, 16), data), "0 channels at 16000 Hz");
  await refuses(riff(format(1, 1, 16, 4), data), "1 channels at 16000 Hz in blocks of 4 bytes");
  await refuses(
    riff(format(1, 3, 16), data),
    "4 bytes of sound at byte 44, expected a multiple of 6",
  );
  const huge = riff(format(1, 1, 16), data);
  huge.fill(255, 40, 44);
  await refuses(huge, "end of file at byte 48, expected 4294967295 bytes of chunk");
  huge.fill(255, 4, 8);
  await refuses(huge, "RIFF size 4294967295 at byte 4");
});

Deno.test("readWav() reads or refuses damaged files", async () => {
  const bytes = riff(format(1, 2, 16), chunk("LIST", [1]), chunk("data", [1, 2, 3, 4, 5, 6, 7, 8]));
  assertEquals((await readAll(truncations(bytes), readWav)).accepted, []);
  const flips = await readAll(bitFlips(bytes), readWav);
  const random = await readAll(edits(bytes, { seed: 13, count: 2000 }), readWav);
  for (const { bytes, result, how } of [...flips.accepted, ...random.accepted]) {
    const { samples, channels, frames } = result;
    assert(samples.length === channels * frames && samples.length <= bytes.length, how);
  }
  assert(random.refused > 1000, `${random.refused}`);
});
