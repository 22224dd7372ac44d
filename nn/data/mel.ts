/** @file Mel spectrograms on the host, in float64: what sound is trained on as a picture. */

import { checkOptions } from "../../engine/arguments.ts";

/** Which curve turns Hz into mel. */
export type MelScale = "htk" | "slaney";

/** Options of {@linkcode melSpectrogram}. */
export interface MelOptions {
  /** Frames in a second of the sound. */
  sampleRate: number;
  /** Samples of a window, a power of two. Default 2048. */
  nFft?: number;
  /** Samples from one window to the next. Default `nFft / 4`. */
  hop?: number;
  /** Number of bands. Default 128. */
  mels?: number;
  /** Lowest frequency in Hz. Default 0. */
  fMin?: number;
  /** Highest frequency in Hz. Default half of the sample rate. */
  fMax?: number;
  /** `"slaney"` (linear to 1 kHz, as librosa) or `"htk"` (2595 log10(1 + f / 700)). Default `"slaney"`. */
  scale?: MelScale;
  /** `"slaney"` gives every band the same area, `"none"` the same height. Default `"slaney"`. */
  norm?: "slaney" | "none";
  /** 2 for power, 1 for magnitude. Default 2. */
  power?: 1 | 2;
  /** Whether windows are centred on their frame, the ends padded. Default true. */
  center?: boolean;
  /** What the ends are padded with: zeros, or the sound mirrored as torchaudio does. Default `"zero"`. */
  pad?: "zero" | "reflect";
}

/** A spectrogram. */
export interface MelSpectrogram {
  /** Values `[mels, frames]` in row-major order, the lowest band first. */
  data: Float64Array<ArrayBuffer>;
  /** Number of bands. */
  mels: number;
  /** Number of windows. */
  frames: number;
}

/**
 * The mel spectrogram of one channel: windows with a periodic Hann curve, their Fourier transform,
 * `|X|^power`, summed up in overlapping triangular bands. With the default options as
 * `librosa.feature.melspectrogram` of librosa 0.10.
 *
 * @param samples The sound, one channel.
 * @param options Window, bands and scale.
 * @throws {RangeError} If `nFft` is no power of two, the frequencies are not in order or an option is no
 * whole number above 0; if the sound is shorter than a window without `center`, or half of one mirrored.
 *
 * @example
 * ```ts
 * import { melSpectrogram, powerToDb } from "./mel.ts";
 * import { readWav } from "./wav.ts";
 *
 * const { samples, frames, sampleRate } = await readWav("a.wav");
 * const left = samples.subarray(0, frames);
 * const mel = melSpectrogram(left, { sampleRate, nFft: 1024, hop: 128 });
 * const picture = powerToDb(mel.data, { topDb: 80 });
 * ```
 */
export function melSpectrogram(
  samples: Float32Array | Float64Array,
  options: MelOptions,
): MelSpectrogram {
  checkOptions("melSpectrogram", options, "melSpectrogram(samples, { sampleRate: 16000 })");
  const { nFft = 2048, power = 2, center = true, mels = 128 } = options;
  const { hop = Math.max(1, nFft >> 2) } = options;
  checkCounts({ nFft, hop, mels });
  const bands = melBands({ ...options, nFft, mels });
  const padded = center ? padEnds(samples, nFft >> 1, options.pad ?? "zero") : samples;
  const frames = 1 + Math.floor((padded.length - nFft) / hop);
  if (frames < 1) {
    throw new RangeError(
      `Cannot take windows of ${nFft} samples: there are ${padded.length}, pass center or less nFft`,
    );
  }
  const window = Float64Array.from({ length: nFft }, (_, i) => {
    return 0.5 - 0.5 * Math.cos(2 * Math.PI * i / nFft);
  });
  const data = new Float64Array(mels * frames), bins = (nFft >> 1) + 1;
  const re = new Float64Array(nFft), im = new Float64Array(nFft);
  const spectrum = new Float64Array(bins), fft = makeFft(nFft);
  for (let frame = 0; frame < frames; frame++) {
    for (let i = 0; i < nFft; i++) re[i] = window[i]! * padded[frame * hop + i]!;
    im.fill(0);
    fft(re, im);
    for (let bin = 0; bin < bins; bin++) {
      const square = re[bin]! ** 2 + im[bin]! ** 2;
      spectrum[bin] = power === 2 ? square : Math.sqrt(square);
    }
    for (const [band, { first, weights }] of bands.entries()) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i]! * spectrum[first + i]!;
      data[band * frames + frame] = sum;
    }
  }
  return { data, mels, frames };
}

/**
 * Power in decibel against a reference: `10 log10(max(amin, x) / ref)`, not more than `topDb` below the
 * highest. As `librosa.power_to_db`.
 *
 * @param power Values, not negative.
 * @param options `ref` is the power of 0 dB, `"max"` the highest value; default 1. `amin` is the least
 * power told apart, default 1e-10. `topDb` is the range to keep; default 80, `Infinity` for all.
 */
export function powerToDb(
  power: Float64Array,
  options: { ref?: number | "max"; amin?: number; topDb?: number } = {},
): Float64Array<ArrayBuffer> {
  checkOptions("powerToDb", options, "powerToDb(power, { topDb: 80 })");
  const { ref = 1, amin = 1e-10, topDb = 80 } = options;
  const highest = power.reduce((most, value) => Math.max(most, value), 0);
  const zero = 10 * Math.log10(Math.max(amin, ref === "max" ? highest : ref));
  const least = 10 * Math.log10(Math.max(amin, highest)) - zero - topDb;
  return Float64Array.from(power, (value) => {
    return Math.max(10 * Math.log10(Math.max(amin, value)) - zero, least);
  });
}

/**
 * Hz in mel.
 *
 * @param hz Frequency.
 * @param scale Which curve. Default `"slaney"`.
 */
export function hzToMel(hz: number, scale: MelScale = "slaney"): number {
  if (scale === "htk") return 2595 * Math.log10(1 + hz / 700);
  return hz < 1000 ? 3 * hz / 200 : 15 + 27 * Math.log(hz / 1000) / Math.log(6.4);
}

/**
 * Mel in Hz.
 *
 * @param mel Position on the scale.
 * @param scale Which curve. Default `"slaney"`.
 */
export function melToHz(mel: number, scale: MelScale = "slaney"): number {
  if (scale === "htk") return 700 * (10 ** (mel / 2595) - 1);
  return mel < 15 ? 200 * mel / 3 : 1000 * Math.exp(Math.log(6.4) * (mel - 15) / 27);
}

function checkCounts({ nFft, hop, mels }: { nFft: number; hop: number; mels: number }): void {
  for (const [name, value] of Object.entries({ nFft, hop, mels })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(
        `Cannot make a mel spectrogram with ${name} ${value}: it must be above 0`,
      );
    }
  }
  if (nFft < 2 || nFft > 2 ** 24 || (nFft & (nFft - 1)) !== 0) {
    throw new RangeError(`Cannot transform windows of ${nFft} samples: it must be a power of two`);
  }
}

/** The sound with `count` more samples at either end. */
function padEnds(
  samples: Float32Array | Float64Array,
  count: number,
  pad: "zero" | "reflect",
): Float64Array {
  const { length } = samples, padded = new Float64Array(length + 2 * count);
  padded.set(samples, count);
  if (pad === "zero") return padded;
  if (length <= count) {
    throw new RangeError(`Cannot mirror ${count} of ${length} samples: there must be more`);
  }
  for (let i = 1; i <= count; i++) {
    padded[count - i] = samples[i]!;
    padded[count + length - 1 + i] = samples[length - 1 - i]!;
  }
  return padded;
}

/** A band: weights of the bins from `first` on. */
interface Band {
  first: number;
  weights: Float64Array;
}

/** Triangles whose corners are evenly spaced in mel. */
function melBands(options: MelOptions & { nFft: number; mels: number }): Band[] {
  const { sampleRate, nFft, mels, scale = "slaney", norm = "slaney" } = options;
  const { fMin = 0, fMax = sampleRate / 2 } = options;
  if (!(fMin >= 0 && fMin < fMax && fMax <= sampleRate / 2)) {
    throw new RangeError(
      `Cannot make bands from ${fMin} to ${fMax} Hz: they must rise within 0 to ${sampleRate / 2}`,
    );
  }
  const low = hzToMel(fMin, scale), high = hzToMel(fMax, scale);
  const corners = Array.from({ length: mels + 2 }, (_, i) => {
    return melToHz(low + (high - low) * i / (mels + 1), scale);
  });
  return Array.from({ length: mels }, (_, band) => {
    const [left = 0, middle = 0, right = 0] = corners.slice(band, band + 3);
    const height = norm === "slaney" ? 2 / (right - left) : 1;
    const first = Math.max(0, Math.ceil(left * nFft / sampleRate));
    const last = Math.min(nFft >> 1, Math.floor(right * nFft / sampleRate));
    const weights = Float64Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => {
      const hz = (first + i) * sampleRate / nFft;
      return height *
        Math.max(0, Math.min((hz - left) / (middle - left), (right - hz) / (right - middle)));
    });
    return { first, weights };
  });
}

/** A transform of `n` complex numbers in place (Cooley and Tukey, radix 2). */
function makeFft(n: number): (re: Float64Array, im: Float64Array) => void {
  const bits = Math.log2(n), half = n >> 1;
  const cos = Float64Array.from({ length: half }, (_, i) => Math.cos(2 * Math.PI * i / n));
  const sin = Float64Array.from({ length: half }, (_, i) => -Math.sin(2 * Math.PI * i / n));
  const order = Uint32Array.from({ length: n }, (_, i) => {
    let reversed = 0;
    for (let bit = 0; bit < bits; bit++) reversed |= (i >> bit & 1) << (bits - 1 - bit);
    return reversed;
  });
  return function fft(re, im) {
    for (let i = 0; i < n; i++) {
      const j = order[i]!;
      if (j <= i) continue;
      [re[i], re[j]] = [re[j]!, re[i]!];
      [im[i], im[j]] = [im[j]!, im[i]!];
    }
    for (let size = 2; size <= n; size *= 2) {
      const step = n / size, span = size >> 1;
      for (let start = 0; start < n; start += size) {
        for (let k = 0; k < span; k++) {
          const a = start + k, b = a + span, c = cos[k * step]!, s = sin[k * step]!;
          const x = re[b]! * c - im[b]! * s, y = re[b]! * s + im[b]! * c;
          re[b] = re[a]! - x;
          im[b] = im[a]! - y;
          re[a]! += x;
          im[a]! += y;
        }
      }
    }
  };
}
