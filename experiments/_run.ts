/** @file How an experiment's run starts: its flags are read, its folder is made or opened again. */

import { init, manualSeed, nn } from "../mod.ts";
import {
  type FlagSet,
  type FlagTable,
  GPU_FLAG,
  type OptionsOf,
  type ParsedFlags,
  UsageError,
} from "./_args.ts";

/** Flags that every experiment has, to spread at the end of its table. */
export const RUN_FLAGS = {
  seed: {
    group: "Run",
    type: "integer",
    default: 42,
    min: 0,
    help: "Seed of everything random",
  },
  checkpointEvery: {
    type: "integer",
    unit: "epochs",
    default: 1,
    min: 1,
    help: "Epochs between checkpoints",
  },
  gpu: GPU_FLAG,
  profile: {
    type: "boolean",
    default: false,
    help:
      "Time some steps: the heaviest kernels are printed at the end, trace.json is for Perfetto",
  },
  out: { type: "path", help: "Run folder; runs/EXPERIMENT-TIME by default" },
  resume: { type: "path", help: "Run folder to go on with" },
} as const satisfies FlagTable;

/** A table of flags that has {@linkcode RUN_FLAGS} and the number of epochs. */
export type RunTable = FlagTable & typeof RUN_FLAGS & {
  readonly epochs: { readonly type: "integer"; readonly default: number; readonly help: string };
};

/** What a run is started from. */
export interface RunRequest<T extends RunTable, P extends string> {
  /** The experiment's name, as `deno task train` takes it. */
  readonly experiment: string;
  readonly flags: FlagSet<T, P>;
  /** The command line. */
  readonly args: readonly string[];
  /** Columns of `metrics.csv`; the first one counts epochs. */
  readonly columns: readonly string[];
  /** Flags besides epochs, data and those of checkpoints that may differ when a run goes on. */
  readonly resumable?: readonly string[];
  /** Values between the preset's and the command line's, for a run that starts anew. */
  readonly base?: (first: ParsedFlags<T, P>) => Partial<OptionsOf<T>> | undefined;
  /** Checks relations between flags that no single flag can. @throws {UsageError} */
  readonly check?: (options: OptionsOf<T>) => void;
}

/**
 * A run that has its folder, its adapter and its seed. Disposing it closes the folder, and removes it if
 * training never began: the corrected command may have it then.
 */
export interface StartedRun<O> extends Disposable {
  readonly experiment: string;
  readonly options: O;
  readonly preset: string;
  readonly folder: nn.run.RunFolder;
  /** Name of the adapter. */
  readonly adapter: string;
  /** Whether the folder is that of an earlier run, whose checkpoint is to be loaded. */
  readonly resumed: boolean;
  /** Says that training begins: the folder stays from here on. */
  begin(): void;
}

/** Options that `config.json` does not keep. */
export const UNKEPT: readonly string[] = ["resume", "out", "profile"];

const RESUMABLE = ["resume", "epochs", "checkpointEvery", "data", "gpu", "profile"];

/**
 * Reads the flags (those of the earlier run where it goes on), opens the adapter, seeds the random
 * numbers and makes or opens the run folder.
 *
 * @throws {UsageError} A flag is wrong, or may not change when a run goes on.
 */
export async function startRun<T extends RunTable, P extends string>(
  request: RunRequest<T, P>,
): Promise<StartedRun<OptionsOf<T>>> {
  const { experiment, flags, args, columns } = request;
  const first = flags.parse(args);
  const { resume } = first.options as { resume?: string };
  const stored = resume === undefined ? undefined : nn.run.readConfig(resume);
  if (stored && stored.experiment !== experiment) {
    throw new UsageError(
      `Cannot resume ${resume}: it is a run of ${stored.experiment}, not of ${experiment}`,
    );
  }
  const base = stored ? stored.options as Partial<OptionsOf<T>> : request.base?.(first);
  const { options, preset, given } = flags.parse(args, { base });
  request.check?.(options);
  if (stored) checkResumed(given as ReadonlySet<string>, request.resumable ?? []);

  const { gpu, seed, out } = options as { gpu: "native" | "dawn"; seed: number; out?: string };
  const { adapter } = await init({ provider: gpu });
  manualSeed(seed);
  const kept = Object.fromEntries(
    Object.entries(options).filter(([name]) => !UNKEPT.includes(name)),
  );
  const before = out === undefined ? undefined : namesIn(out);
  const folder = resume !== undefined
    ? await nn.run.RunFolder.open(resume, { columns })
    : await nn.run.RunFolder.create(
      { experiment, preset, seed, adapter, options: kept },
      { columns, out },
    );
  let begun = resume !== undefined;
  return {
    experiment,
    options,
    preset: folder.config.preset ?? preset,
    folder,
    adapter,
    resumed: resume !== undefined,
    begin: () => void (begun = true),
    [Symbol.dispose]() {
      folder[Symbol.dispose]();
      if (!begun) removeNew(folder.dir, before);
    },
  };
}

/** Names of what a folder holds; undefined if there is none. */
function namesIn(dir: string): string[] | undefined {
  try {
    return Array.from(Deno.readDirSync(dir), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** Files that a run has before it trains. */
const BEGINNINGS: readonly string[] = ["config.json", "log.txt", "metrics.csv"];

/**
 * Removes the files that a run began with, unless they were there before, and the folder if nothing else is in it.
 * What cannot be removed stays: the error that ended the run says more.
 */
function removeNew(dir: string, before: readonly string[] | undefined): void {
  const remove = (path: string) => {
    try {
      Deno.removeSync(path);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  };
  for (const name of namesIn(dir) ?? []) {
    if (BEGINNINGS.includes(name) && !before?.includes(name)) remove(`${dir}/${name}`);
  }
  if (before === undefined) remove(dir); // refused where there is something left
}

/** Flags that would make it another run are refused. */
function checkResumed(given: ReadonlySet<string>, more: readonly string[]): void {
  const allowed = [...RESUMABLE, ...more];
  const changed = [...given].find((name) => !allowed.includes(name));
  if (changed === undefined) return;
  const names = allowed.filter((name) => name !== "resume").map(flagName);
  throw new UsageError(
    `Cannot change ${flagName(changed)} of a run that goes on: only ` +
      `${names.slice(0, -1).join(", ")} and ${names.at(-1)} may differ`,
  );
}

/** An option as the command line names it. */
export function flagName(option: string): string {
  return `--${option.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}
