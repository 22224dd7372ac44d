/** @file Sound as WAV files. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Sound } from "./wav.ts";

const PCM = 1, FLOAT = 3, HEADER = 44;

/**
 * The bytes of a WAV file. Values of PCM are scaled by 2^(bits - 1), rounded and clamped, so that
 * {@linkcode readWav} gives back what it read.
 *
 * @param sound `samples` `[channels, frames]` from -1 to 1, with `sampleRate` and `channels`.
 * @param options `bits`: 16 for PCM, 32 for floats as they are. Default 16.
 * @throws {RangeError} If the samples are no whole number of frames, a number is out of range, or the file
 * would exceed the 4 GiB that the format allows.
 *
 * @example
 * ```ts
 * import { writeWav } from "./wav_write.ts";
 *
 * const sampleRate = 16000;
 * const samples = Float32Array.from({ length: sampleRate }, (_, i) => Math.sin(0.2 * i));
 * await Deno.writeFile("tone.wav", writeWav({ samples, sampleRate, channels: 1 }));
 * ```
 */
export function writeWav(
  sound: Omit<Sound, "frames">,
  options: { bits?: 16 | 32 } = {},
): Uint8Array<ArrayBuffer> {
  checkOptions("writeWav", options, "writeWav(sound, { bits: 16 })");
  const { samples, sampleRate, channels } = sound, { bits = 16 } = options;
  const frames = samples.length / channels, width = bits / 8, size = samples.length * width;
  const valid = Number.isInteger(frames) && isWithin(channels, 0xffff / width) &&
    isWithin(sampleRate, 0xffffffff / (channels * width)) && HEADER + size < 2 ** 32;
  if (!valid) {
    throw new RangeError(
      `Cannot write ${samples.length} samples of ${channels} channels at ${sampleRate} Hz as WAV: ` +
        "each channel must have as many, and the file stay below 4 GiB",
    );
  }
  const bytes = new Uint8Array(HEADER + size), view = new DataView(bytes.buffer);
  const text = (at: number, value: string) => bytes.set(new TextEncoder().encode(value), at);
  text(0, "RIFF");
  view.setUint32(4, HEADER - 8 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, bits === 16 ? PCM : FLOAT, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * channels * width, true);
  view.setUint16(32, channels * width, true);
  view.setUint16(34, bits, true);
  text(36, "data");
  view.setUint32(40, size, true);
  for (let frame = 0, at = HEADER; frame < frames; frame++) {
    for (let channel = 0; channel < channels; channel++, at += width) {
      const value = samples[channel * frames + frame]!;
      if (bits === 32) view.setFloat32(at, value, true);
      else view.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(value * 32768))), true);
    }
  }
  return bytes;
}

function isWithin(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= most;
}
