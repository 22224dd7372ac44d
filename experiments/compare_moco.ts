/**
 * @file `deno task compare-moco`: the moco experiment with several dictionary sizes, and one table of
 * what linear classifiers make of the features of each.
 *
 *   deno task compare-moco --sizes 1024,4096 --data DIR --epochs 20
 *
 * Every other flag is one of `deno task train moco`. Each size has a run folder of its own below `--out`.
 * A comparison that was stopped goes on where it was when it is started again with the same `--out`.
 */

import { nn } from "../mod.ts";
import { HelpRequest, runMain, UsageError, userPath } from "./_args.ts";
import { baseOptions, checkOptions, FLAGS } from "./_moco_flags.ts";
import { percent, type ProbeResult, taskName } from "./_moco_report.ts";
import { main as trainMoco } from "./moco.ts";

const HELP =
  `Usage: deno task compare-moco [--sizes K1,K2,…] [--out DIR] [flags of deno task train moco]

Pre-trains an encoder for each dictionary size and compares linear classifiers on their features.

  --sizes K1,K2,…  Keys in the dictionaries (default: a quarter of the preset's queue, and all of it)
  --out DIR        Folder of the runs (default: runs/moco-sizes-TIME)
`;

/** What the command line says: the two flags of this command, and those passed on. */
interface Request {
  readonly sizes: readonly number[];
  readonly out: string;
  readonly rest: readonly string[];
}

/** Trains what is missing, and prints the table. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { sizes, out, rest } = readRequest(args);
  for (const size of sizes) {
    const dir = `${out}/queue-${size}`;
    if (await exists(`${dir}/summary.json`)) continue;
    const resumed = await exists(`${dir}/config.json`);
    const code = await trainMoco(
      resumed ? ["--resume", dir] : [...rest, "--queue", String(size), "--out", dir],
    );
    if (code !== 0) {
      console.log(
        `The comparison goes on with: deno task compare-moco ${again({ sizes, out, rest })}`,
      );
      return code;
    }
  }
  const tables = await Promise.all(sizes.map((size) => readResults(`${out}/queue-${size}`)));
  const lines = table(sizes, tables);
  for (const line of lines) console.log(line);
  await Deno.writeTextFile(`${out}/comparison.txt`, lines.join("\n") + "\n");
  console.log(`Table: ${out}/comparison.txt`);
  return 0;
}

function again({ sizes, out, rest }: Request): string {
  return [`--sizes ${sizes.join(",")}`, `--out ${out}`, ...rest].join(" ");
}

function readRequest(args: readonly string[]): Request {
  if (args.includes("--help") || args.includes("-h")) throw new HelpRequest(HELP);
  const rest = [...args];
  const take = (flag: string) => {
    const at = rest.findIndex((arg) => arg === flag || arg.startsWith(`${flag}=`));
    if (at < 0) return undefined;
    const joined = rest[at]!.includes("=");
    const value = joined ? rest[at]!.slice(flag.length + 1) : rest[at + 1];
    if (!value) throw new UsageError(`Flag ${flag} needs a value`);
    rest.splice(at, joined ? 1 : 2);
    return value;
  };
  const text = take("--sizes");
  const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
  const out = take("--out");
  const { options } = FLAGS.parse(rest, { base: baseOptions(FLAGS.parse(rest)) });
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
  return { sizes, out: out === undefined ? `runs/moco-sizes-${stamp}` : userPath(out), rest };
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
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
