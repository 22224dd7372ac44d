/**
 * @file `deno task birdclef-folds`: the birdclef experiment with each fold for validation in turn, and one
 * table of their scores.
 *
 *   deno task birdclef-folds --data DIR --epochs 20
 *
 * Every other flag is one of `deno task train birdclef`. Each fold has a run folder of its own below
 * `--out`. What was stopped goes on where it was when it is started again with the same flags.
 */

import { resolve } from "npm:deno-std@1.4.0/path/resolve.js";
import { nn } from "../mod.ts";
import { HelpRequest, runMain, shellPath, shellWord, UsageError } from "./_args.ts";
import { foldsOf } from "./_birdclef_data.ts";
import { baseOptions, FLAGS } from "./_birdclef_flags.ts";
import { percent } from "./_birdclef_report.ts";
import { defaultOut, partStates, withoutOut } from "./_parts.ts";
import { main as trainBirdclef } from "./birdclef.ts";

const HELP = `Usage: deno task birdclef-folds [--out DIR] [flags of deno task train birdclef]

Trains once for each fold of the data, which validates that run, and prints the scores of all.

  --out DIR  Folder of the runs (default: runs/birdclef-folds-TIME)
`;

/** Trains what is missing, and prints the table. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { out, rest } = readRequest(args);
  const first = FLAGS.parse(rest);
  const { options } = FLAGS.parse(rest, { base: baseOptions(first) });
  const folds = await foldsOf(options);
  const parts = folds.map((fold) => ({
    experiment: "birdclef",
    dir: folderOf(out, fold),
    options: { ...options, fold },
  }));
  const states = await partStates(parts);
  for (const [i, { dir, options: { fold } }] of parts.entries()) {
    if (states[i] === "ended") continue;
    // A whole path: the run takes others to be relative to where the user typed.
    const whole = resolve(dir);
    const code = await trainBirdclef(
      states[i] === "begun"
        ? ["--resume", whole]
        : [...rest, "--fold", String(fold), "--out", whole],
    );
    if (code !== 0) {
      const again = [...rest.map(shellWord), "--out", shellPath(out)].join(" ");
      console.log(`The folds go on with: deno task birdclef-folds ${again}`);
      return code;
    }
  }
  const lines = table(
    folds,
    await Promise.all(folds.map((fold) => readMetrics(folderOf(out, fold)))),
  );
  for (const line of lines) console.log(line);
  await Deno.writeTextFile(`${out}/folds.txt`, lines.join("\n") + "\n");
  console.log(`Table: ${out}/folds.txt`);
  return 0;
}

function folderOf(out: string, fold: number): string {
  return `${out}/fold-${fold}`;
}

function readRequest(args: readonly string[]): { out: string; rest: readonly string[] } {
  if (args.includes("--help") || args.includes("-h")) throw new HelpRequest(HELP);
  const { options, given } = FLAGS.parse(args);
  for (const name of ["fold", "resume"] as const) {
    if (!given.has(name)) continue;
    throw new UsageError(
      `Cannot take --${name}: every fold is trained; --out goes on with a folder`,
    );
  }
  return { out: options.out ?? defaultOut("birdclef-folds"), rest: withoutOut(args) };
}

type Metrics = Readonly<Record<string, number>>;

async function readMetrics(dir: string): Promise<Metrics> {
  const path = `${dir}/summary.json`;
  const { experiment, metrics } = JSON.parse(await Deno.readTextFile(path)) as {
    experiment?: string;
    metrics?: Metrics;
  };
  if (experiment === "birdclef" && metrics) return metrics;
  throw new nn.run.RunError(
    `Cannot compare ${path}: it is of another experiment; choose another --out`,
  );
}

const SCORES = [
  ["accuracy", "accuracy"],
  ["mean recall", "meanRecall"],
  ["cmAP", "cmap"],
  ["neighbour: accuracy", "nearestAccuracy"],
  ["mean recall", "nearestMeanRecall"],
  ["cmAP", "nearestCmap"],
] as const;

/** A row a fold, their mean and their standard deviation (n - 1); the nearest neighbour beside the net. */
function table(folds: readonly number[], metrics: readonly Metrics[]): string[] {
  const row = (name: string, cells: readonly string[]) =>
    [name.padEnd(10), ...cells.map((c, i) => c.padStart(Math.max(SCORES[i]![0].length, 8) + 3))]
      .join("").trimEnd();
  const shown = (value: number | undefined) => {
    return value === undefined || Number.isNaN(value) ? "" : percent(value);
  };
  const columns = SCORES.map(([, name]) => metrics.map((m) => m[name] ?? NaN));
  const means = columns.map((values) => values.reduce((a, b) => a + b) / values.length);
  const deviations = columns.map((values, i) => {
    const squares = values.reduce((sum, v) => sum + (v - means[i]!) ** 2, 0);
    return values.length < 2 ? NaN : Math.sqrt(squares / (values.length - 1));
  });
  return [
    row("", SCORES.map(([title]) => title)),
    ...folds.map((fold, i) =>
      row(`fold ${fold}`, SCORES.map(([, name]) => shown(metrics[i]![name])))
    ),
    row("mean", means.map(shown)),
    row("deviation", deviations.map(shown)),
  ];
}

if (import.meta.main) await runMain(() => main(Deno.args));
