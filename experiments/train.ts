/** @file `deno task train [EXPERIMENT] [FLAGS]`: runs an experiment, `letters` when none is named. */

import { runMain, UsageError } from "./_args.ts";

const EXPERIMENTS: Readonly<Record<string, () => Promise<Experiment>>> = {
  letters: () => import("./letters.ts"),
  captioning: () => import("./captioning.ts"),
  moco: () => import("./moco.ts"),
  ssd: () => import("./ssd.ts"),
  birdclef: () => import("./birdclef.ts"),
};

interface Experiment {
  main(args: readonly string[]): Promise<number>;
}

async function main(args: readonly string[]): Promise<number> {
  // `--gpu` may stand before the name: `deno task train:dawn` begins with it.
  const before = args[0] === "--gpu" ? 2 : 0;
  const first = args[before];
  const named = first !== undefined && !first.startsWith("-");
  const name = named ? first : "letters";
  const load = Object.hasOwn(EXPERIMENTS, name) ? EXPERIMENTS[name] : undefined;
  if (!load) {
    throw new UsageError(
      `Unknown experiment "${name}": there is ${Object.keys(EXPERIMENTS).join(", ")}`,
    );
  }
  return await (await load()).main(named ? args.toSpliced(before, 1) : args);
}

if (import.meta.main) await runMain(() => main(Deno.args));
