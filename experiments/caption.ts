/**
 * @file `deno task caption IMAGE … --weights RUN`: says what is in pictures, with the best weights of a
 * run of the captioning experiment.
 *
 *   deno task caption holiday.jpg --weights runs/captioning-TIME
 */

import { init, nn, noGrad, scope } from "../mod.ts";
import { HelpRequest, runMain, UsageError, userPath } from "./_args.ts";
import { Pictures, readSquares } from "./_captioning_data.ts";
import { generate } from "./_captioning_decode.ts";
import type { CaptioningOptions } from "./_captioning_flags.ts";
import { Vocabulary } from "./_captioning_vocab.ts";
import { BEST, makeModel, WORDS } from "./captioning.ts";

const HELP = `Usage: deno task caption IMAGE … --weights RUN [--beams N]

Prints a caption for each picture (PNG or JPEG).

  --weights RUN  Run folder of deno task train captioning
  --beams N      Captions followed at a time by beam search, 1 to 16 (default: the run's)
`;

/** Prints a line a picture. */
export async function main(args: readonly string[]): Promise<void> {
  const { images, run, beams } = readArgs(args);
  const { experiment, options } = nn.run.readConfig(run);
  if (experiment !== "captioning") {
    throw new UsageError(
      `Cannot caption with ${run}: it is a run of ${experiment}, not of captioning`,
    );
  }
  const settings = options as unknown as CaptioningOptions;
  const vocabulary = new Vocabulary(JSON.parse(await Deno.readTextFile(`${run}/${WORDS}`)));
  await init();
  const model = makeModel(settings, vocabulary);
  await nn.io.loadWeights(model, `${run}/${BEST}`);
  model.eval();
  for (const image of images) {
    const pictures = new Pictures(await readSquares([image], settings.size), settings.size);
    using ids = scope(() => {
      const vectors = noGrad(() => model.encoder.forward(pictures.upload([0])));
      const search = { beams: beams ?? settings.beams, maxWords: settings.maxWords };
      return generate(model.decoder, vectors, search);
    });
    const caption = vocabulary.decode(await ids.data() as Int32Array);
    console.log(images.length > 1 ? `${image}: ${caption}` : caption);
  }
}

function readArgs(args: readonly string[]): { images: string[]; run: string; beams?: number } {
  if (args.includes("--help") || args.includes("-h")) throw new HelpRequest(HELP);
  const images: string[] = [];
  const flags: Record<string, string> = {};
  for (let i = 0; i < args.length; i++) {
    const [, name, joined] = /^--([a-z]+)(?:=(.*))?$/s.exec(args[i]!) ?? [];
    if (name === undefined) {
      images.push(userPath(args[i]!));
      continue;
    }
    if (name !== "weights" && name !== "beams") {
      throw new UsageError(`Unknown flag --${name}: --help lists all`);
    }
    const value = joined ?? args[++i];
    if (!value) throw new UsageError(`Flag --${name} needs a value`);
    flags[name] = value;
  }
  if (images.length === 0) {
    throw new UsageError("Cannot caption nothing: name a picture, PNG or JPEG");
  }
  if (flags.weights === undefined) {
    throw new UsageError("Cannot caption without weights: --weights is a run folder of captioning");
  }
  const beams = flags.beams === undefined ? undefined : Number(flags.beams);
  if (beams !== undefined && !(Number.isInteger(beams) && beams >= 1 && beams <= 16)) {
    throw new UsageError(
      `Flag --beams cannot be "${flags.beams}": it must be a whole number 1 to 16`,
    );
  }
  return { images, run: userPath(flags.weights), beams };
}

if (import.meta.main) await runMain(() => main(Deno.args));
