import { assert, assertEquals, assertThrows } from "@std/assert";
import { readWav } from "../../../nn/data/wav.ts";
import { writeWav } from "../../../nn/data/wav_write.ts";

Deno.test("writeWav() writes the header of a WAV file", () => {
  const bytes = writeWav({ samples: Float32Array.of(0.5, -1), sampleRate: 8000, channels: 1 });
  const text = (value: string) => [...value].map((char) => char.charCodeAt(0));
  assertEquals([...bytes.subarray(0, 44)], [
    ...text("RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"),
    ...text("\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x04\0\0\0"),
  ]);
  assertEquals([...bytes.subarray(44)], [0, 0x40, 0, 0x80]);
});

Deno.test("readWav() reads what writeWav() writes", async () => {
  const samples = Float32Array.from({ length: 600 }, (_, i) => Math.sin(i * i));
  for (const bits of [16, 32] as const) {
    for (const channels of [1, 2, 3]) {
      const sound = { samples, sampleRate: 22050, channels };
      const read = await readWav(writeWav(sound, { bits }));
      assertEquals([read.sampleRate, read.channels, read.frames], [
        22050,
        channels,
        600 / channels,
      ]);
      const step = bits === 16 ? 2 ** -15 : 0;
      assert(read.samples.every((value, i) => Math.abs(value - samples[i]!) <= step));
      assertEquals((await readWav(writeWav(read, { bits }))).samples, read.samples);
    }
  }
  const loud = { samples: Float32Array.of(1.5, -3, NaN), sampleRate: 1, channels: 1 };
  assertEquals((await readWav(writeWav(loud))).samples, Float32Array.of(32767 / 32768, -1, 0));
});

Deno.test("writeWav() throws for what the format does not hold", () => {
  const samples = new Float32Array(3);
  for (const [channels, sampleRate] of [[2, 8000], [0, 8000], [1, 0], [1, 0.5], [3, 2 ** 32 - 1]]) {
    assertThrows(
      () => writeWav({ samples, channels: channels!, sampleRate: sampleRate! }),
      RangeError,
      "Cannot write 3 samples",
    );
  }
});
