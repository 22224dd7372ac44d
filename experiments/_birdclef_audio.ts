/** @file From sound to the pictures that the birdclef experiment learns: mel spectrograms in grey. */

import { melSpectrogram, powerToDb } from "../nn/data/mel.ts";
import type { Picture } from "../nn/data/picture.ts";
import { readWav } from "../nn/data/wav.ts";

/** How a spectrogram is made. */
export interface SpectrogramOptions {
  /** Frames a second of the sound. */
  readonly sampleRate: number;
  /** Samples of a Fourier window. */
  readonly nFft: number;
  /** Samples from one window to the next. */
  readonly hop: number;
  /** Bands, and rows of the picture. */
  readonly mels: number;
}

/** Frequencies below carry wind and traffic. */
const LOWEST = 150;

/** A grey picture of sound: time to the right, frequency upwards, 80 dB from black to white. */
export function spectrogramOf(samples: Float32Array, options: SpectrogramOptions): Picture {
  const mel = melSpectrogram(samples, { ...options, fMin: LOWEST, scale: "htk" });
  const db = powerToDb(mel.data, { ref: "max", topDb: 80 });
  const { mels: height, frames: width } = mel;
  const data = new Uint8Array(height * width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const value = 1 + db[(height - 1 - row) * width + column]! / 80;
      data[row * width + column] = Math.round(255 * Math.min(1, Math.max(0, value)));
    }
  }
  return { data, width, height, channels: 1 };
}

/** How a recording is cut into pictures. */
export interface WindowOptions {
  /** Seconds of a window. */
  readonly seconds: number;
  /** Seconds from one window to the next. */
  readonly step: number;
}

/** Windows of 0.6 s every 0.3 s, as 128 bands of 76 frames at 16 kHz. */
export const WINDOWS: WindowOptions = { seconds: 0.6, step: 0.3 };

/** A window of a recording. */
export interface SoundWindow {
  /** Seconds from the start of the recording. */
  readonly start: number;
  readonly picture: Picture;
}

/**
 * The windows of a WAV file as pictures. Several channels are averaged. A recording that is shorter than
 * a window is repeated to fill it.
 */
export async function recordingWindows(
  path: string,
  { seconds, step }: WindowOptions = WINDOWS,
): Promise<{ windows: SoundWindow[]; sampleRate: number; seconds: number }> {
  const { samples, frames, channels, sampleRate } = await readWav(path);
  const mono = new Float32Array(frames);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < frames; i++) mono[i]! += samples[c * frames + i]! / channels;
  }
  const length = Math.round(seconds * sampleRate);
  const options = { sampleRate, nFft: 1024, hop: Math.round(sampleRate / 125), mels: 128 };
  const windows: SoundWindow[] = [];
  const last = Math.max(0, frames - length);
  for (let n = 0;; n++) {
    const first = Math.min(Math.round(n * step * sampleRate), last);
    const part = Float32Array.from({ length }, (_, i) => mono[(first + i) % frames]!);
    windows.push({ start: first / sampleRate, picture: spectrogramOf(part, options) });
    if (first === last) break;
  }
  return { windows, sampleRate, seconds: frames / sampleRate };
}
