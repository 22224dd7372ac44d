/** @file From sound to the pictures that the birdclef experiment learns: mel spectrograms in grey. */

import { melSpectrogram, powerToDb } from "../nn/data/mel.ts";
import type { Picture } from "../nn/data/picture.ts";
import { readWav } from "../nn/data/wav.ts";
import { RunError } from "../nn/run/run_error.ts";

/** How a recording is cut into pictures, and what a picture shows. */
export interface SoundView {
  /** Seconds of a window. */
  readonly seconds: number;
  /** Seconds from one window to the next. */
  readonly step: number;
  /** Milliseconds that a column of the picture looks at. */
  readonly look: number;
  /** Milliseconds from one column to the next. */
  readonly hop: number;
  /** Bands, and rows of the picture. */
  readonly mels: number;
}

/** Windows of 0.6 s every 0.3 s, as 128 bands of 76 columns. */
export const WINDOWS: SoundView = { seconds: 0.6, step: 0.3, look: 64, hop: 8, mels: 128 };

/** Frequencies in Hz below carry wind and traffic; those above few microphones hear well. */
const LOWEST = 150, HIGHEST = 8000;

/** A grey picture of sound: time to the right, frequency upwards, 80 dB from black to white. */
export function spectrogramOf(
  samples: Float32Array,
  { sampleRate, look, hop, mels }: SoundView & { readonly sampleRate: number },
): Picture {
  const mel = melSpectrogram(samples, {
    sampleRate,
    // The power of two that is nearest by ratio.
    nFft: 2 ** Math.round(Math.log2(sampleRate * look / 1000)),
    // Rounded down, so that no sample rate gives fewer columns.
    hop: Math.max(1, Math.floor(sampleRate * hop / 1000)),
    mels,
    fMin: LOWEST,
    fMax: Math.min(HIGHEST, sampleRate / 2),
    scale: "htk",
  });
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

/** A sound of one channel. */
export interface Recording {
  readonly samples: Float32Array<ArrayBuffer>;
  readonly sampleRate: number;
}

/**
 * Reads a WAV file; several channels are averaged.
 *
 * @throws {RunError} It holds no sound.
 */
export async function readRecording(path: string): Promise<Recording> {
  const { samples, frames, channels, sampleRate } = await readWav(path);
  if (frames === 0) throw new RunError(`Cannot use ${path}: it holds no sound`);
  const mono = new Float32Array(frames);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < frames; i++) mono[i]! += samples[c * frames + i]! / channels;
  }
  return { samples: mono, sampleRate };
}

/** A window of a recording. */
export interface SoundWindow {
  /** Seconds from the start of the recording. */
  readonly start: number;
  readonly picture: Picture;
}

/**
 * The windows of a recording as pictures; the last one ends where the recording does. A recording that is
 * shorter than a window is repeated to fill it.
 */
export function recordingWindows(
  { samples, sampleRate }: Recording,
  view: SoundView = WINDOWS,
): SoundWindow[] {
  const frames = samples.length, length = Math.round(view.seconds * sampleRate);
  const windows: SoundWindow[] = [];
  const last = Math.max(0, frames - length);
  for (let n = 0;; n++) {
    const first = Math.min(Math.round(n * view.step * sampleRate), last);
    const part = Float32Array.from({ length }, (_, i) => samples[(first + i) % frames]!);
    windows.push({
      start: first / sampleRate,
      picture: spectrogramOf(part, { ...view, sampleRate }),
    });
    if (first === last) return windows;
  }
}
