import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { JsonFault, parseStrictJson } from "../io/json_scan.ts";
import { needFiles } from "../io/source.ts";
import { ioError, writeAllSync, writeFileAtomicSync } from "./_files.ts";
import { MetricsCsv } from "./metrics_csv.ts";
import { ProgressBar, type ProgressOptions } from "./progress.ts";
import { RunError } from "./run_error.ts";
import { stdoutTerminal, type Terminal } from "./terminal.ts";

/** What `config.json` keeps about how a run was started. */
export interface RunConfig {
  /** Name of the experiment, e.g. `letters`. */
  experiment: string;
  /** Name of the preset the options come from. */
  preset?: string;
  /** Seed of the run. */
  seed: number;
  /** Name of the adapter. */
  adapter?: string;
  /** Every option (flag) of the run by name. */
  options: Record<string, unknown>;
}

/** `config.json` as it is on disk. */
export interface StoredRunConfig extends RunConfig {
  /** When the run began, ISO 8601 in UTC. */
  created: string;
  /** Versions of `lathe`, `deno`, `v8` and `typescript`. */
  versions: Record<string, string>;
}

/** `summary.json`: the result of a run that ended. */
export interface RunSummary {
  experiment: string;
  preset: string | undefined;
  seed: number;
  adapter: string | undefined;
  /** Training time in seconds, over all sittings. */
  seconds: number;
  /** Epochs trained. */
  epochs: number;
  /** Scores by name; fractions in 0..1. */
  metrics: Record<string, number>;
}

/** Options that {@linkcode RunFolder.create} and {@linkcode RunFolder.open} share. */
export interface RunFolderOptions {
  /** Columns of `metrics.csv`; the first one counts epochs. */
  columns: readonly string[];
  /** Where log lines go besides the file. Default: the standard output. */
  terminal?: Terminal;
}

/** Options of {@linkcode RunFolder.create}. */
export interface CreateRunOptions extends RunFolderOptions {
  /** Folder that holds all runs. Default `runs`. */
  root?: string;
  /** The run folder itself, instead of a new one in `root`. */
  out?: string;
  /** Start of the run. Default: now. */
  now?: Date;
}

const CONFIG = "config.json";
const LOG = "log.txt";
const METRICS = "metrics.csv";
const SUMMARY = "summary.json";

/**
 * The folder of one run: `config.json`, `log.txt`, `metrics.csv` and, at the end, `summary.json`.
 * Weights, checkpoints and the report lie beside them: see {@linkcode RunFolder.path}.
 *
 * @example
 * ```ts
 * import { RunFolder } from "./run_folder.ts";
 *
 * const config = { experiment: "letters", seed: 42, options: { lr: 0.01 } };
 * const out = await Deno.makeTempDir();
 * using run = await RunFolder.create(config, { columns: ["Epoch", "LR"], out });
 * run.log("Training started");
 * run.metrics.append({ Epoch: 1, LR: 0.01 });
 * run.writeSummary({ seconds: 71.5, epochs: 1, metrics: { valTop1: 0.97 } });
 * ```
 */
export class RunFolder implements Disposable {
  /** Path of the folder. */
  readonly dir: string;
  /** How the run was started. */
  readonly config: StoredRunConfig;
  /** The table of epochs. */
  readonly metrics: MetricsCsv;
  readonly #terminal: Terminal;
  readonly #log: Deno.FsFile;
  readonly #encoder = new TextEncoder();
  #bar: ProgressBar | undefined;

  private constructor(
    dir: string,
    parts: { config: StoredRunConfig; metrics: MetricsCsv; terminal?: Terminal },
  ) {
    this.dir = dir;
    this.config = parts.config;
    this.metrics = parts.metrics;
    this.#terminal = parts.terminal ?? stdoutTerminal();
    const path = this.path(LOG);
    try {
      this.#log = Deno.openSync(path, { append: true, create: true });
    } catch (error) {
      throw ioError(`open ${path}`, error);
    }
  }

  /**
   * Makes `<root>/<experiment>-<YYYYMMDD-HHMMSS>/` (UTC; `-2`, `-3`, … when it exists) or takes `out`,
   * and writes `config.json` and the header of `metrics.csv`.
   *
   * @throws {RunError} The folder cannot be made or written, or `out` already holds a run.
   */
  static async create(config: RunConfig, options: CreateRunOptions): Promise<RunFolder> {
    checkOptions("create a run", options, 'RunFolder.create(config, { columns, root: "runs" })');
    const now = options.now ?? new Date();
    const dir = options.out ?? newFolder(options.root ?? "runs", config.experiment, now);
    if (options.out !== undefined) takeFolder(dir);
    const { default: manifest } = await import("../../deno.json", { with: { type: "json" } });
    const stored: StoredRunConfig = {
      ...config,
      created: now.toISOString(),
      versions: { lathe: manifest.version, ...Deno.version },
    };
    const metrics = await MetricsCsv.create(`${dir}/${METRICS}`, options.columns);
    // The config is last: a folder that has one has everything.
    writeJson(`${dir}/${CONFIG}`, stored);
    return new RunFolder(dir, { config: stored, metrics, terminal: options.terminal });
  }

  /**
   * Opens the folder of a run that is to go on. Follow it with `metrics.rewind(epoch)`.
   *
   * @throws {RunError} `dir` is not a run folder, or its columns are others than `columns`.
   */
  static async open(dir: string, options: RunFolderOptions): Promise<RunFolder> {
    checkOptions("open a run", options, "RunFolder.open(dir, { columns })");
    const config = readConfig(dir);
    const metrics = await MetricsCsv.open(`${dir}/${METRICS}`, options.columns);
    return new RunFolder(dir, { config, metrics, terminal: options.terminal });
  }

  /** Path of a file in the folder. */
  path(name: string): string {
    return `${this.dir}/${name}`;
  }

  /** Writes a line (or several) to the terminal and to `log.txt`. */
  log(text = ""): void {
    if (this.#bar) this.#bar.log(text);
    else this.#terminal.write(`${text}\n`);
    this.record(text);
  }

  /** Writes a line to `log.txt` only. */
  record(text: string): void {
    try {
      writeAllSync(this.#log, this.#encoder.encode(`${text}\n`));
    } catch (error) {
      throw ioError(`write ${this.path(LOG)}`, error);
    }
  }

  /** A progress bar whose plain lines go to `log.txt`, and which {@linkcode log} does not tear. */
  progress(total: number, options: ProgressOptions = {}): ProgressBar {
    this.#bar?.finish();
    this.#bar = new ProgressBar(total, {
      terminal: this.#terminal,
      record: (line) => this.record(line),
      ...options,
    });
    return this.#bar;
  }

  /** Writes `summary.json` in one step; experiment, preset, seed and adapter come from the config. */
  writeSummary(result: Pick<RunSummary, "seconds" | "epochs" | "metrics">): RunSummary {
    const { experiment, preset, seed, adapter } = this.config;
    const { seconds, epochs, metrics } = result;
    const summary: RunSummary = { experiment, preset, seed, adapter, seconds, epochs, metrics };
    writeJson(this.path(SUMMARY), summary);
    return summary;
  }

  /** Closes the log. */
  [Symbol.dispose](): void {
    this.#log.close();
  }
}

/**
 * Reads `config.json` of a run folder, e.g. to take its options over before it is resumed.
 *
 * @throws {RunError} `dir` is not a run folder.
 * @throws {FormatError} The file is damaged.
 */
export function readConfig(dir: string): StoredRunConfig {
  const path = `${dir}/${CONFIG}`;
  needFiles(`read ${path}`);
  try {
    return decodeRunConfig(Deno.readFileSync(path), { file: path });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new RunError(`Cannot resume ${dir}: it has no ${CONFIG}, so it is not a run folder`);
    }
    if (error instanceof FormatError) throw error;
    throw ioError(`read ${path}`, error);
  }
}

/** Nesting of options in `config.json`. */
const MAX_CONFIG_DEPTH = 32;

/**
 * The content of a `config.json`.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors.
 * @throws {FormatError} It is not JSON, or lacks what every run has.
 */
export function decodeRunConfig(bytes: Uint8Array, options: { file: string }): StoredRunConfig {
  const { file } = options;
  const expected = "a run's configuration: experiment, seed, options, created, versions";
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError("text not in UTF-8", { file, offset: 0, expected, cause });
  }
  try {
    const { value } = parseStrictJson(text, MAX_CONFIG_DEPTH);
    if (isStoredConfig(value)) return value;
    throw new JsonFault("another value", 0);
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    const offset = new TextEncoder().encode(text.slice(0, cause.index)).length;
    throw new FormatError(cause.message, { file, offset, expected, cause });
  }
}

function isStoredConfig(value: unknown): value is StoredRunConfig {
  if (!isObject(value)) return false;
  const { experiment, seed, options, created, versions, preset, adapter } = value;
  return typeof experiment === "string" && typeof seed === "number" && isObject(options) &&
    typeof created === "string" && isObject(versions) &&
    Object.values(versions).every((version) => typeof version === "string") &&
    [preset, adapter].every((text) => text === undefined || typeof text === "string");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function newFolder(root: string, experiment: string, now: Date): string {
  // 2026-05-04T13:37:00.000Z → 20260504-133700
  const time = now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
  const base = `${root}/${experiment}-${time}`;
  needFiles(`create the run folder ${base}`);
  try {
    Deno.mkdirSync(root, { recursive: true });
    for (let n = 1;; n++) {
      const dir = n === 1 ? base : `${base}-${n}`;
      try {
        Deno.mkdirSync(dir);
        return dir;
      } catch (error) {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      }
    }
  } catch (error) {
    throw ioError(`create the run folder ${base}`, error);
  }
}

function takeFolder(dir: string): void {
  needFiles(`create the run folder ${dir}`);
  try {
    Deno.mkdirSync(dir, { recursive: true });
    Deno.statSync(`${dir}/${CONFIG}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw ioError(`create the run folder ${dir}`, error);
  }
  throw new RunError(
    `Cannot start a run in ${dir}: it holds one already; resume it or choose another folder`,
  );
}

function writeJson(path: string, value: unknown): void {
  writeFileAtomicSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
