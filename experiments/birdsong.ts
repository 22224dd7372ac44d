/**
 * @file `deno task birdsong RECORDING.wav --weights RUN`: which birds sing when, with the best weights of
 * a run of the birdclef experiment, in words and as a picture.
 *
 *   deno task birdsong forest.wav --weights runs/birdclef-TIME
 */

import { init, nn, noGrad, readAll, scope } from "../mod.ts";
import { defineFlags, runMain, UsageError, userPath } from "./_args.ts";
import { readRecording, recordingWindows, type SoundView, WINDOWS } from "./_birdclef_audio.ts";
import { asRgb, collate, upload } from "./_birdclef_data.ts";
import type { BirdclefOptions } from "./_birdclef_flags.ts";
import { percent } from "./_birdclef_report.ts";
import { drawTimeline, stretches, timelineOf } from "./_birdclef_timeline.ts";
import { splitArguments } from "./_files.ts";
import { readResized } from "./_pictures.ts";
import { BEST, CLASSES, makeModel } from "./birdclef.ts";
import { SONG_WINDOWS } from "./synth/songs.ts";

const FLAGS = defineFlags({
  weights: { type: "path", help: "Run folder of deno task train birdclef" },
  out: { type: "path", help: "PNG to write; RECORDING's name with -birds.png by default" },
  step: {
    type: "number",
    unit: "seconds",
    above: 0,
    help: "From one window to the next; half a window by default",
  },
}, {
  command: "deno task birdsong RECORDING.wav",
  about:
    "Says which birds sing when in a WAV file. Its spectrograms are made as the run's own are; " +
    "for a run on PNG files, 0.6 s as 128 bands of 76 columns.",
});

/** Windows that pass the net at a time. */
const AT_ONCE = 32;

/** Reads a recording and weights, prints and draws what sings. */
export async function main(args: readonly string[]): Promise<void> {
  const { files, flags } = splitArguments(args, {
    names: ["RECORDING.wav"],
    command: "deno task birdsong",
  });
  const { options } = FLAGS.parse(flags);
  const { weights } = options;
  if (weights === undefined) {
    throw new UsageError("Cannot listen without weights: --weights is a run folder of birdclef");
  }
  const { experiment, options: stored } = nn.run.readConfig(weights);
  if (experiment !== "birdclef") {
    throw new UsageError(
      `Cannot listen with ${weights}: it is a run of ${experiment}, not of birdclef`,
    );
  }
  const settings = stored as unknown as BirdclefOptions;
  const own = settings.data === undefined && settings.audio === undefined ? SONG_WINDOWS : WINDOWS;
  const view: SoundView = { ...own, step: options.step ?? own.step };
  if (view.step > view.seconds) {
    throw new UsageError(
      `Flag --step cannot be "${view.step}": windows of ${view.seconds} s would leave gaps`,
    );
  }
  const path = userPath(files[0]!);
  const recording = await readRecording(path);
  const classes = JSON.parse(await Deno.readTextFile(`${weights}/${CLASSES}`)) as string[];
  await init();
  const model = makeModel(settings, classes.length);
  await nn.io.loadWeights(model, `${weights}/${BEST}`);
  const windows = recordingWindows(recording, view);
  const rows = await listen(model, windows.map((w) => w.picture), {
    size: settings.size,
    classes,
  });
  const seconds = recording.samples.length / recording.sampleRate;
  const scores = { starts: windows.map((w) => w.start), rows };
  const timeline = timelineOf(scores, { window: view.seconds, seconds, classes });
  for (const { from, to, label, probability } of stretches(timeline)) {
    const time = `${from.toFixed(1)} - ${to.toFixed(1)} s`;
    console.log(`${time.padStart(16)}  ${classes[label]!.padEnd(20)} ${percent(probability)}`);
  }
  const out = options.out ?? path.replace(/\.[^./\\]*$/, "") + "-birds.png";
  await Deno.writeFile(out, await nn.data.writePng(drawTimeline(recording, timeline)));
  console.log(`Timeline: ${out}`);
}

/** A row of probabilities for each spectrogram. */
async function listen(
  model: nn.models.EfficientNet,
  pictures: readonly nn.data.Picture[],
  { size, classes }: { size: number; classes: readonly string[] },
): Promise<Float32Array[]> {
  const resized = await readResized(pictures, { size, channels: 1 });
  const set = {
    pictures: resized.map((p) => p.data),
    names: [],
    labels: resized.map(() => 0),
    folds: [],
    height: resized[0]!.height,
    width: resized[0]!.width,
    classes,
  };
  model.eval();
  const rows: Float32Array[] = [];
  for (let first = 0; first < resized.length; first += AT_ONCE) {
    const indices = resized.map((_, i) => i).slice(first, first + AT_ONCE);
    const { images, labels } = upload(set, collate(set, indices));
    using probabilities = scope(() =>
      noGrad(() => model.forward(asRgb(images)).softmax(1).contiguous())
    );
    images.dispose();
    labels.dispose();
    const [values] = await readAll([probabilities]);
    const C = classes.length;
    for (const i of indices.keys()) {
      rows.push((values as Float32Array).slice(i * C, (i + 1) * C));
    }
  }
  return rows;
}

if (import.meta.main) await runMain(() => main(Deno.args));
