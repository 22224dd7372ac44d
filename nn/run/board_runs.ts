/** @file What the board knows of runs: read from their folders, damaged ones too. */

import { printable } from "../format_error.ts";
import { JsonFault, parseStrictJson } from "../io/json_scan.ts";
import { decodeMetrics } from "./metrics_csv.ts";
import { decodeRunConfig } from "./run_folder.ts";

/** A run as the board's page gets it. */
export interface BoardRun {
  /** Name of the folder. */
  name: string;
  /** What is wrong with its files, if anything. */
  error?: string;
  experiment: string;
  preset?: string;
  seed?: number;
  adapter?: string;
  /** ISO 8601 in UTC. */
  created?: string;
  /** Options by name, as text. */
  options: Record<string, string>;
  /** Final scores by name, once the run has ended. */
  scores: Record<string, number>;
  /** Training time in seconds, once the run has ended. */
  seconds?: number;
  /** Columns of `metrics.csv` by name; the first counts epochs. Null where a field is no number. */
  metrics: [string, (number | null)[]][];
  /** Whether there is a report to open. */
  report: boolean;
}

/** A folder of runs and what was read of them. */
export interface RunReader {
  /** Folder that holds the runs. */
  readonly root: string;
  /** Content of files by path, with what tells whether they changed. */
  readonly cache: Map<string, { stamp: string; content: unknown }>;
}

/** Runs shown at most, the newest. */
const MAX_RUNS = 500;
/** Largest file that is read, in bytes. */
const MAX_FILE = 2 ** 25;
const REPORT = "report.html";

/** All runs, the newest first. A folder without `config.json` is none. */
export async function readRuns(reader: RunReader): Promise<BoardRun[]> {
  const names = await runNames(reader);
  const runs = await Promise.all(names.map((name) => readRun(reader, name)));
  const found = runs.filter((run) => run !== undefined);
  found.sort((a, b) => compare(b.created ?? "", a.created ?? "") || compare(b.name, a.name));
  return found.slice(0, MAX_RUNS);
}

/** The report of a run; undefined if there is no such run or report. */
export async function reportOf(
  reader: RunReader,
  name: string,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (!(await runNames(reader)).includes(name)) return undefined;
  const path = `${reader.root}/${name}/${REPORT}`;
  return await stamp(path) === undefined ? undefined : await Deno.readFile(path);
}

/** Names of the folders in the runs folder; links are none. */
async function runNames({ root }: RunReader): Promise<string[]> {
  try {
    const entries = await Array.fromAsync(Deno.readDir(root));
    return entries.filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return []; // no run yet
    throw error;
  }
}

async function readRun(reader: RunReader, name: string): Promise<BoardRun | undefined> {
  const run: BoardRun = {
    name,
    experiment: "",
    options: {},
    scores: {},
    metrics: [],
    report: false,
  };
  const faults: string[] = [];
  const part = async <T>(file: string, decode: (bytes: Uint8Array, path: string) => T) => {
    try {
      return await readCached(reader, `${name}/${file}`, decode);
    } catch (error) {
      faults.push(error instanceof Error ? printable(error.message) : String(error));
    }
  };
  const config = await part("config.json", (bytes, file) => decodeRunConfig(bytes, { file }));
  if (config === undefined && faults.length === 0) return undefined;
  if (config) {
    const { experiment, preset, seed, adapter, created } = config;
    const options = Object.entries(config.options).map(([key, value]) => [key, text(value)]);
    Object.assign(run, { experiment, preset, seed, adapter, created });
    run.options = Object.fromEntries(options);
  }
  const table = await part("metrics.csv", (bytes, file) => decodeMetrics(bytes, { file }));
  run.metrics = table?.columns.map((column) => [column, table.values[column]!.map(toNumber)]) ?? [];
  const summary = await part("summary.json", decodeSummary);
  run.scores = summary?.scores ?? {};
  run.seconds = summary?.seconds;
  run.report = await stamp(`${reader.root}/${name}/${REPORT}`) !== undefined;
  if (faults.length > 0) run.error = faults.join("; ");
  return run;
}

/** The decoded content of a file, read again when it has changed; undefined if there is none. */
async function readCached<T>(
  { root, cache }: RunReader,
  name: string,
  decode: (bytes: Uint8Array, path: string) => T,
): Promise<Awaited<T> | undefined> {
  const path = `${root}/${name}`;
  const present = await stamp(path);
  if (present === undefined) {
    cache.delete(path);
    return undefined;
  }
  const known = cache.get(path);
  if (known?.stamp === present) return known.content as Awaited<T>;
  const content = await decode(await Deno.readFile(path), path);
  cache.set(path, { stamp: present, content });
  return content;
}

/** What changes with a file; undefined for what is no file of its own or too large. */
async function stamp(path: string): Promise<string | undefined> {
  try {
    const { isFile, size, mtime, ino } = await Deno.lstat(path);
    return isFile && size <= MAX_FILE ? `${size} ${mtime?.getTime()} ${ino}` : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

function decodeSummary(bytes: Uint8Array): { seconds?: number; scores: Record<string, number> } {
  try {
    const { value } = parseStrictJson(new TextDecoder().decode(bytes), 16);
    const { seconds, metrics } = value as Record<string, unknown>;
    const scores = Object.entries(metrics as Record<string, unknown> ?? {})
      .filter((entry): entry is [string, number] => typeof entry[1] === "number");
    const time = typeof seconds === "number" ? seconds : undefined;
    return { seconds: time, scores: Object.fromEntries(scores) };
  } catch (error) {
    if (error instanceof JsonFault || error instanceof TypeError) return { scores: {} };
    throw error;
  }
}

/** A field of `metrics.csv`; null where JSON has no such number. */
function toNumber(field: string): number | null {
  const value = field.trim() === "" ? NaN : Number(field);
  return Number.isFinite(value) ? value : null;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
