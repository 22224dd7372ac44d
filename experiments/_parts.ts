/** @file Several runs of one experiment below one folder, as `birdclef-folds` and `compare-moco` make them. */

import { nn } from "../mod.ts";
import { UsageError } from "./_args.ts";
import { flagName, UNKEPT } from "./_run.ts";

/** One of the runs. */
export interface Part {
  readonly experiment: string;
  /** Its run folder. */
  readonly dir: string;
  /** Every option that it has, or would be started with. */
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * How far a part is: not there, to be resumed, or finished.
 *
 * @throws {UsageError} It is there with other options: their results would not compare.
 */
export async function partState(part: Part): Promise<"new" | "begun" | "ended"> {
  const { experiment, dir, options } = part;
  if (!await exists(`${dir}/config.json`)) return "new";
  const stored = nn.run.readConfig(dir);
  if (stored.experiment !== experiment) {
    throw new UsageError(
      `Cannot go on with ${dir}: it is a run of ${stored.experiment}, not of ${experiment}; choose ` +
        "another --out",
    );
  }
  const before = stored.options, now = JSON.parse(JSON.stringify(options)) as typeof before;
  const changed = Object.keys({ ...now, ...before }).find((name) =>
    !UNKEPT.includes(name) && JSON.stringify(now[name]) !== JSON.stringify(before[name])
  );
  if (changed !== undefined) {
    throw new UsageError(
      `Cannot go on with ${dir}: it was started ${flagText(changed, before[changed])}, not ` +
        `${flagText(changed, now[changed])}; give the same flags, or choose another --out`,
    );
  }
  return await exists(`${dir}/summary.json`) ? "ended" : "begun";
}

/**
 * How far each part is, before any of them trains.
 *
 * @throws {UsageError} One is there with other options.
 */
export async function partStates(parts: readonly Part[]) {
  const states: ("new" | "begun" | "ended")[] = [];
  for (const part of parts) states.push(await partState(part));
  return states;
}

/** `with --lr 0.1`, `without --weights`. */
function flagText(name: string, value: unknown): string {
  if (value === undefined || value === false) return `without ${flagName(name)}`;
  return `with ${flagName(name)}${value === true ? "" : ` ${value}`}`;
}

/** A command line without its `--out`. */
export function withoutOut(args: readonly string[]): readonly string[] {
  return args.filter((arg, i) =>
    arg !== "--out" && !arg.startsWith("--out=") && args[i - 1] !== "--out"
  );
}

/** The folder of parts that are started without `--out`: `runs/NAME-TIME`. */
export function defaultOut(name: string): string {
  return `runs/${name}-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}`;
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
