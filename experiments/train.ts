/** @file `deno task train [EXPERIMENT] [FLAGS]`: runs an experiment, `letters` when none is named. */

import { runMain, UsageError } from "./_args.ts";

const EXPERIMENTS: Readonly<Record<string, () => Promise<Experiment>>> = {
  letters: () => import("./letters.ts"),
};

interface Experiment {
  main(args: readonly string[]): Promise<number>;
}

async function main(args: readonly string[]): Promise<number> {
  const named = args[0] !== undefined && !args[0].startsWith("-");
  const name = named ? args[0]! : "letters";
  const load = Object.hasOwn(EXPERIMENTS, name) ? EXPERIMENTS[name] : undefined;
  if (!load) {
    throw new UsageError(
      `Unknown experiment "${name}": there is ${Object.keys(EXPERIMENTS).join(", ")}`,
    );
  }
  return await (await load()).main(named ? args.slice(1) : args);
}

if (import.meta.main) await runMain(() => main(Deno.args));
