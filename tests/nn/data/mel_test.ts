import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  hzToMel,
  type MelOptions,
  melSpectrogram,
  melToHz,
  powerToDb,
} from "../../../nn/data/mel.ts";

/** Sound of two tones and a ramp. */
function sound(length: number): Float64Array {
  return Float64Array.from({ length }, (_, i) => {
    return Math.sin(0.3 * i) + 0.5 * Math.cos(1.7 * i) + 0.001 * i;
  });
}

/** The definition: a sum over every sample for every bin, a triangle over every bin for every band. */
function slowMel(samples: Float64Array, options: Required<MelOptions>): Float64Array {
  const { sampleRate, nFft, hop, mels, fMin, fMax, scale, norm, power, center, pad } = options;
  const at = (index: number) => {
    const i = index - (center ? nFft / 2 : 0), end = samples.length - 1;
    if (pad === "zero") return samples[i] ?? 0;
    return samples[end - Math.abs(end - Math.abs(i))]!;
  };
  const length = samples.length + (center ? nFft : 0);
  const frames = 1 + Math.floor((length - nFft) / hop);
  const result = new Float64Array(mels * frames);
  const corner = (i: number) => {
    const [low, high] = [hzToMel(fMin, scale), hzToMel(fMax, scale)];
    return melToHz(low + (high - low) * i / (mels + 1), scale);
  };
  for (let frame = 0; frame < frames; frame++) {
    for (let bin = 0; bin <= nFft / 2; bin++) {
      let re = 0, im = 0;
      for (let i = 0; i < nFft; i++) {
        const value = at(frame * hop + i) * Math.sin(Math.PI * i / nFft) ** 2;
        re += value * Math.cos(2 * Math.PI * bin * i / nFft);
        im -= value * Math.sin(2 * Math.PI * bin * i / nFft);
      }
      const hz = bin * sampleRate / nFft;
      for (let band = 0; band < mels; band++) {
        const [left, middle, right] = [corner(band), corner(band + 1), corner(band + 2)];
        const rise = (hz - left) / (middle - left), fall = (right - hz) / (right - middle);
        const weight = Math.max(0, Math.min(rise, fall)) *
          (norm === "slaney" ? 2 / (right - left) : 1);
        result[band * frames + frame]! += weight * Math.hypot(re, im) ** power;
      }
    }
  }
  return result;
}

Deno.test("hzToMel() and melToHz() are librosa's", () => {
  // From the examples of librosa.hz_to_mel, mel_to_hz and mel_frequencies(40).
  assertEquals([60, 110, 220, 440].map((hz) => +hzToMel(hz).toFixed(6)), [0.9, 1.65, 3.3, 6.6]);
  assertEquals(melToHz(3), 200);
  const top = hzToMel(11025);
  assertAlmostEquals(melToHz(top / 39), 85.317, 5e-4);
  assertAlmostEquals(melToHz(12 * top / 39), 1024.856, 5e-4);
  assertAlmostEquals(hzToMel(1000, "htk"), 999.9855, 5e-5);
  for (const scale of ["htk", "slaney"] as const) {
    for (const hz of [0, 1, 999, 1000, 1001, 22050]) {
      assertAlmostEquals(melToHz(hzToMel(hz, scale), scale), hz, 1e-9 * (1 + hz));
    }
  }
});

Deno.test("melSpectrogram() is its definition, for every option", () => {
  const base: Required<MelOptions> = {
    sampleRate: 1000,
    nFft: 64,
    hop: 16,
    mels: 7,
    fMin: 0,
    fMax: 500,
    scale: "slaney",
    norm: "slaney",
    power: 2,
    center: true,
    pad: "zero",
  };
  const cases: Partial<MelOptions>[] = [
    {},
    { scale: "htk", norm: "none" },
    { power: 1, fMin: 60, fMax: 410 },
    { center: false, hop: 11 },
    { pad: "reflect" },
    { nFft: 4, hop: 1, mels: 1 },
    { sampleRate: 8000, fMax: 4000, mels: 12 },
  ];
  const samples = sound(150);
  for (const part of cases) {
    const options = { ...base, ...part };
    const { data, mels, frames } = melSpectrogram(samples, options);
    const expected = slowMel(samples, options);
    assertEquals([data.length, mels * frames], [expected.length, expected.length]);
    const largest = Math.max(...expected);
    assert(largest > 0);
    // Rounding of sums of 64 terms: 1e-12 of the largest is a thousand times what float64 leaves.
    for (const [i, value] of data.entries()) {
      assertAlmostEquals(value, expected[i]!, 1e-12 * largest);
    }
  }
});

Deno.test("melSpectrogram() has librosa's defaults", () => {
  const { mels, frames } = melSpectrogram(sound(5000), { sampleRate: 22050 });
  assertEquals([mels, frames], [128, 1 + Math.floor(5000 / 512)]);
  assertEquals(melSpectrogram(new Float32Array(0), { sampleRate: 16000 }).frames, 1);
});

Deno.test("melSpectrogram() puts a tone into its band", () => {
  const sampleRate = 16000, hz = 2000;
  const tone = Float32Array.from(
    { length: 4096 },
    (_, i) => Math.sin(2 * Math.PI * hz * i / sampleRate),
  );
  const { data, frames } = melSpectrogram(tone, { sampleRate, nFft: 1024, mels: 40, norm: "none" });
  const column = Array.from({ length: 40 }, (_, band) => data[band * frames + (frames >> 1)]!);
  const band = column.indexOf(Math.max(...column));
  const middle = melToHz(hzToMel(8000) * (band + 1) / 41);
  assert(Math.abs(middle - hz) < 100, `band ${band} around ${middle} Hz`);
});

Deno.test("melSpectrogram() throws for options that make no sense", () => {
  const samples = sound(100), sampleRate = 1000;
  const mel = (options: Partial<MelOptions>) => () =>
    melSpectrogram(samples, { sampleRate, nFft: 64, ...options });
  for (const nFft of [0, 1, 3, 48, 1.5, -2, NaN]) assertThrows(mel({ nFft }), RangeError);
  for (const hop of [0, -1, 0.5]) assertThrows(mel({ hop }), RangeError, "with hop");
  assertThrows(mel({ nFft: 256, pad: "reflect" }), RangeError, "Cannot mirror 128 of 100 samples");
  assertThrows(mel({ mels: 0 }), RangeError, "with mels 0");
  assertThrows(mel({ fMin: 400, fMax: 300 }), RangeError, "from 400 to 300 Hz");
  assertThrows(mel({ fMax: 501 }), RangeError, "within 0 to 500");
  assertThrows(mel({ nFft: 128, center: false }), RangeError, "windows of 128 samples");
});

Deno.test("powerToDb() takes the logarithm and keeps a range", () => {
  const db = (values: number[], options?: Parameters<typeof powerToDb>[1]) =>
    [...powerToDb(Float64Array.from(values), options)].map((value) => +value.toFixed(9));
  assertEquals(db([1, 10, 0.001]), [0, 10, -30]);
  assertEquals(db([1, 0], { topDb: 80 }), [0, -80]);
  assertEquals(db([1, 0], { topDb: Infinity }), [0, -100]);
  assertEquals(db([1, 100], { ref: "max" }), [-20, 0]);
  assertEquals(db([1, 100], { ref: 10, topDb: 15 }), [-5, 10]);
  assertEquals(db([0, 0]), [-100, -100]);
  assertEquals(db([]), []);
});
