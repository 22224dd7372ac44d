/**
 * @file `deno task compare-moco`: the moco experiment with several dictionary sizes, and one table of
 * what linear classifiers make of the features of each.
 *
 *   deno task compare-moco --sizes 1024,4096 --data DIR --epochs 20
 *
 * Every other flag is one of `deno task train moco`. Each size has a run folder of its own below `--out`.
 * A comparison that was stopped goes on where it was when it is started again with the same flags.
 */

import { resolve } from "npm:deno-std@1.4.0/path/resolve.js";
import { nn } from "../mod.ts";
import { HelpRequest, runMain, shellPath, shellWord, UsageError } from "./_args.ts";
import { baseOptions, checkOptions, FLAGS, type MocoOptions } from "./_moco_flags.ts";
import { percent, type ProbeResult, taskName } from "./_moco_report.ts";
import { defaultOut, partStates, withoutOut } from "./_parts.ts";
import { main as trainMoco } from "./moco.ts";

const HELP =
  `Usage: deno task compare-moco [--sizes K1,K2,…] [--out DIR] [flags of deno task train moco]

Pre-trains an encoder for each dictionary size and compares linear classifiers on their features.

  --sizes K1,K2,…  Keys in the dictionaries (default: a quarter of the preset's queue, and all of it)
  --out DIR        Folder of the runs (default: runs/moco-sizes-TIME)
`;

/** What the command line says: the two flags of this command, those passed on, and what they mean. */
interface Request {
  readonly sizes: readonly number[];
  readonly out: string;
  readonly rest: readonly string[];
  readonly options: MocoOptions;
}

/** Trains what is missing, and prints the table. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { sizes, out, rest, options } = readRequest(args);
  const parts = sizes.map((size) => ({
    experiment: "moco",
    dir: `${out}/queue-${size}`,
    options: { ...options, queue: size },
  }));
  const states = await partStates(parts);
  for (const [i, { dir, options: { queue } }] of parts.entries()) {
    if (states[i] === "ended") continue;
    // A whole path: the run takes others to be relative to where the user typed.
    const whole = resolve(dir);
    const code = await trainMoco(
      states[i] === "begun"
        ? ["--resume", whole]
        : [...rest, "--queue", String(queue), "--out", whole],
    );
    if (code !== 0) {
      const words = ["--sizes", sizes.join(","), "--out", shellPath(out), ...rest.map(shellWord)];
      console.log(`The comparison goes on with: deno task compare-moco ${words.join(" ")}`);
      return code;
    }
  }
  const tables = await Promise.all(parts.map(({ dir }) => readResults(dir)));
  const lines = table(sizes, tables);
  for (const line of lines) console.log(line);
  await Deno.writeTextFile(`${out}/comparison.txt`, lines.join("\n") + "\n");
  console.log(`Table: ${out}/comparison.txt`);
  return 0;
}

function readRequest(args: readonly string[]): Request {
  if (args.includes("--help") || args.includes("-h")) throw new HelpRequest(HELP);
  const { text, others } = takeSizes(args);
  const first = FLAGS.parse(others);
  const { options } = FLAGS.parse(others, { base: baseOptions(first) });
  if (first.given.has("queue")) {
    throw new UsageError("Cannot take --queue: --sizes names the dictionaries, as 1024,4096");
  }
  if (first.given.has("resume")) {
    throw new UsageError("Cannot take --resume: --out goes on with a folder");
  }
  const sizes = text === undefined
    ? [options.queue / 4, options.queue]
    : text.split(",").map((size) => Number(size));
  for (const size of sizes) {
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new UsageError(
        `Flag --sizes cannot be "${text}": it must be whole numbers, as 1024,4096`,
      );
    }
    checkOptions({ ...options, queue: size });
  }
  const out = options.out ?? defaultOut("moco-sizes");
  return { sizes: [...new Set(sizes)], out, rest: withoutOut(others), options };
}

/** The value of `--sizes`, and the other arguments. */
function takeSizes(args: readonly string[]): { text?: string; others: readonly string[] } {
  const at = args.findIndex((arg) => arg === "--sizes" || arg.startsWith("--sizes="));
  if (at < 0) return { others: args };
  const joined = args[at]!.includes("=");
  const text = joined ? args[at]!.slice("--sizes=".length) : args[at + 1];
  if (!text) throw new UsageError("Flag --sizes needs a value: whole numbers, as 1024,4096");
  return { text, others: args.toSpliced(at, joined ? 1 : 2) };
}

async function readResults(dir: string): Promise<readonly ProbeResult[]> {
  const path = `${dir}/protocol.json`;
  const { results } = JSON.parse(await Deno.readTextFile(path)) as { results?: ProbeResult[] };
  if (!Array.isArray(results)) {
    throw new nn.run.RunError(
      `Cannot compare ${path}: it has no results; delete ${dir} to run it anew`,
    );
  }
  return results;
}

/** Tasks by row; a column a dictionary, and the untrained encoder last. */
function table(sizes: readonly number[], tables: readonly (readonly ProbeResult[])[]): string[] {
  const heads = [...sizes.map((size) => `${size} keys`), "untrained"];
  const row = (name: string, cells: readonly string[]) =>
    name.padEnd(32) + cells.map((cell) => cell.padStart(12)).join("");
  return [
    row("Linear classifier on", heads),
    ...tables[0]!.map((task, i) =>
      row(taskName(task), [
        ...tables.map((results) => percent(results[i]!.trained)),
        percent(task.untrained),
      ])
    ),
  ];
}

if (import.meta.main) await runMain(() => main(Deno.args));
