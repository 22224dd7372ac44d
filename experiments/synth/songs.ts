/**
 * @file The built-in data of the birdclef experiment: songs of eight made-up species as WAV files, their
 * spectrograms as PNG files, and a `train.csv` with folds.
 */

import { writePng } from "../../nn/data/png_write.ts";
import { HostRandom } from "../../nn/data/rng.ts";
import { writeWav } from "../../nn/data/wav_write.ts";
import { type SoundView, spectrogramOf } from "../_birdclef_audio.ts";
import { drawFolder } from "./_folder.ts";

/** The species, by label. */
export const SPECIES: readonly string[] = [
  "riser",
  "faller",
  "triller",
  "whistler",
  "warbler",
  "stacker",
  "clicker",
  "two-toner",
];

/** Size of the data set that {@linkcode writeSongs} writes. */
export interface WriteSongsOptions {
  /** Number of recordings. */
  readonly clips: number;
  /** Number of folds. */
  readonly folds: number;
  /** Integer >= 0; another seed sings other songs. */
  readonly seed: number;
}

/** Frames a second. */
export const SAMPLE_RATE = 16_000;
const SECONDS = 1;
/** What a spectrogram of the built-in songs is: 64 bands of 64 columns. */
export const SONG_WINDOWS: SoundView = {
  seconds: SECONDS,
  step: SECONDS / 2,
  look: 32,
  hop: 15.75,
  mels: 64,
};
/** To be raised with every change of what is sung, so that old folders are made again. */
const GENERATOR = 6;

/**
 * Writes `audio/SPECIES_0.wav` …, `train_images/SPECIES_0.png` … and `train.csv` with the columns
 * image_path, label, label_name, group and fold. A folder that already holds them for the same options
 * is left as it is.
 *
 * @returns Whether anything was made.
 * @throws {RangeError} The count is not an integer >= 1.
 * @throws {RunError} `dir` holds something else.
 */
export async function writeSongs(dir: string, options: WriteSongsOptions): Promise<boolean> {
  const { clips, folds, seed } = options;
  if (!Number.isSafeInteger(clips) || clips < 1) {
    throw new RangeError(`Cannot sing ${clips} songs: it must be an integer >= 1`);
  }
  return await drawFolder(dir, {
    name: "songs",
    manifest: { generator: GENERATOR, clips, folds, seed },
    files: ["train.csv", `train_images/${clipName(clips - 1)}.png`],
    async draw(into) {
      await Deno.mkdir(`${into}/audio`);
      await Deno.mkdir(`${into}/train_images`);
      const lines = ["image_path,label,label_name,group,fold"];
      for (let i = 0; i < clips; i++) {
        const name = clipName(i);
        const samples = song(i, seed);
        const wav = writeWav({ samples, sampleRate: SAMPLE_RATE, channels: 1 });
        await Deno.writeFile(`${into}/audio/${name}.wav`, wav);
        const picture = spectrogramOf(samples, { ...SONG_WINDOWS, sampleRate: SAMPLE_RATE });
        await Deno.writeFile(`${into}/train_images/${name}.png`, await writePng(picture));
        const label = i % SPECIES.length;
        const fold = Math.floor(i / SPECIES.length) % folds;
        lines.push(`train_images/${name}.png,${label},${SPECIES[label]},${name},${fold}`);
      }
      await Deno.writeTextFile(`${into}/train.csv`, lines.join("\n") + "\n");
    },
  });
}

function clipName(index: number): string {
  return `${SPECIES[index % SPECIES.length]}_${Math.floor(index / SPECIES.length)}`;
}

/** The recording at `index`: the species take turns. A pure function of its arguments. */
export function song(index: number, seed: number): Float32Array<ArrayBuffer> {
  const random = new HostRandom(seed, index);
  const samples = new Float32Array(SAMPLE_RATE * SECONDS);
  const sing = new Singer(samples, random);
  SONGS[index % SONGS.length]!(sing, random);
  addWind(samples, random);
  return samples;
}

/** Gusts of noise, of another loudness and colour in each recording. */
function addWind(samples: Float32Array, random: HostRandom): void {
  const loudness = Math.exp(random.uniform(Math.log(0.003), Math.log(0.03)));
  const colour = random.uniform(0.2, 0.95), gusts = random.uniform(0.5, 2.5);
  let phase = random.uniform(0, 2 * Math.PI), last = 0;
  for (let i = 0; i < samples.length; i++) {
    phase += 2 * Math.PI * gusts / SAMPLE_RATE;
    last = colour * last + random.normal(0, loudness * (1.2 + Math.sin(phase)));
    samples[i] = Math.min(1, Math.max(-1, samples[i]! + last));
  }
}

/** Puts notes into a recording. */
class Singer {
  readonly #samples: Float32Array;
  readonly #random: HostRandom;
  readonly #loudness: number;

  constructor(samples: Float32Array, random: HostRandom) {
    this.#samples = samples;
    this.#random = random;
    this.#loudness = random.uniform(0.15, 0.5);
  }

  /** A note from `start` for `length` seconds whose frequency in Hz is a function of 0..1. */
  note(
    start: number,
    length: number,
    { frequency, harmonics = 1 }: { frequency: (t: number) => number; harmonics?: number },
  ): void {
    const first = Math.round(start * SAMPLE_RATE), count = Math.round(length * SAMPLE_RATE);
    let phase = this.#random.uniform(0, 2 * Math.PI);
    for (let i = 0; i < count; i++) {
      const t = i / count;
      if (first + i < 0 || first + i >= this.#samples.length) continue;
      phase += (2 * Math.PI * frequency(t)) / SAMPLE_RATE;
      // Soft ends of a tenth each.
      const envelope = Math.min(1, 10 * t, 10 * (1 - t));
      let value = 0;
      for (let k = 1; k <= harmonics; k++) value += Math.sin(k * phase) / k;
      this.#samples[first + i]! += this.#loudness * envelope * value;
    }
  }
}

/** What each species sings; no two recordings are the same. */
const SONGS: readonly ((sing: Singer, random: HostRandom) => void)[] = [
  (sing, random) => {
    const low = random.uniform(1000, 1800), high = low + random.uniform(900, 1800);
    repeat(
      random,
      { length: 0.24, gap: 0.12 },
      (at, length) => sing.note(at, length, { frequency: (t) => low + (high - low) * t }),
    );
  },
  (sing, random) => {
    const low = random.uniform(3000, 4200), high = low + random.uniform(1500, 3000);
    repeat(
      random,
      { length: 0.24, gap: 0.12 },
      (at, length) => sing.note(at, length, { frequency: (t) => high - (high - low) * t }),
    );
  },
  (sing, random) => {
    const pitch = random.uniform(3500, 5000);
    repeat(
      random,
      { length: 0.05, gap: 0.06 },
      (at, length) => sing.note(at, length, { frequency: () => pitch }),
    );
  },
  (sing, random) => {
    const pitch = random.uniform(900, 1800);
    repeat(
      random,
      { length: 0.6, gap: 0.15 },
      (at, length) => sing.note(at, length, { frequency: () => pitch, harmonics: 2 }),
    );
  },
  (sing, random) => {
    const pitch = random.uniform(2500, 4000), depth = random.uniform(500, 1000);
    const rate = random.uniform(7, 10);
    repeat(random, { length: 0.8, gap: 0.1 }, (at, length) =>
      sing.note(at, length, {
        frequency: (t) => pitch + depth * Math.sin(2 * Math.PI * rate * t * length),
      }));
  },
  (sing, random) => {
    const pitch = random.uniform(400, 800);
    repeat(
      random,
      { length: 0.2, gap: 0.15 },
      (at, length) => sing.note(at, length, { frequency: () => pitch, harmonics: 6 }),
    );
  },
  (sing, random) => {
    const pitch = random.uniform(1500, 3500);
    repeat(random, { length: 0.015, gap: 0.13 }, (at, length) => {
      sing.note(at, length, { frequency: (t) => pitch * (1 + t), harmonics: 3 });
    });
  },
  (sing, random) => {
    const low = random.uniform(1800, 2600), high = low * random.uniform(1.5, 2);
    let upper = random.uniform() < 0.5;
    repeat(random, { length: 0.18, gap: 0.03 }, (at, length) => {
      upper = !upper;
      const pitch = upper ? high : low;
      sing.note(at, length, { frequency: () => pitch });
    });
  },
];

/**
 * Calls `note` for one note after the other, with lengths and gaps of about those given, in seconds. The
 * recording may begin within a note.
 */
function repeat(
  random: HostRandom,
  { length, gap }: { length: number; gap: number },
  note: (at: number, length: number) => void,
): void {
  const pace = random.uniform(0.8, 1.25);
  for (let at = -random.uniform(0, pace * (length + gap)); at < SECONDS;) {
    const lasts = pace * length * random.uniform(0.95, 1.05);
    note(at, lasts);
    at += lasts + pace * gap;
  }
}
