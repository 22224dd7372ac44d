import { readCsv } from "../data/csv.ts";
import { ioError, writeAllSync, writeFileAtomicSync } from "./_files.ts";
import { RunError } from "./run_error.ts";

/** A value of a row. An absent one leaves its field empty. */
export type MetricValue = number | string | undefined;

type Stringify = (rows: unknown[][], options: { headers: boolean }) => string;
type Parse = (text: string) => string[][];

/**
 * The table of a run: one row an epoch, appended as the run goes. Columns are fixed when the file is
 * made; the first one counts the epochs. Fields are quoted as RFC 4180 says, lines end in `\n`.
 *
 * @example
 * ```ts
 * const metrics = await MetricsCsv.create("metrics.csv", ["Epoch", "LR", "Validation Loss"]);
 * metrics.append({ "Epoch": 1, "LR": 0.01, "Validation Loss": 3.2 });
 * ```
 */
export class MetricsCsv {
  readonly path: string;
  readonly columns: readonly string[];
  readonly #stringify: Stringify;
  readonly #parse: Parse;

  private constructor(path: string, columns: readonly string[], csv: [Stringify, Parse]) {
    this.path = path;
    this.columns = columns;
    [this.#stringify, this.#parse] = csv;
  }

  /**
   * Makes a new file that holds only the header.
   *
   * @throws {TypeError} There is no column, or two have one name.
   * @throws {RunError} The file cannot be written.
   */
  static async create(path: string, columns: readonly string[]): Promise<MetricsCsv> {
    if (columns.length === 0 || new Set(columns).size !== columns.length) {
      throw new TypeError(`Cannot make ${path}: columns must be one or more different names`);
    }
    const metrics = new MetricsCsv(path, [...columns], await loadCsv());
    writeFileAtomicSync(path, metrics.#line(metrics.columns));
    return metrics;
  }

  /**
   * Opens a file that {@linkcode MetricsCsv.create} made. A last line that a killed process left
   * unfinished is removed.
   *
   * @throws {RunError} The file cannot be read, or its columns are others than `columns`.
   * @throws {FormatError} The file is damaged.
   */
  static async open(path: string, columns: readonly string[]): Promise<MetricsCsv> {
    const metrics = new MetricsCsv(path, [...columns], await loadCsv());
    const text = metrics.#read();
    const { columns: header } = await decodeMetrics(new TextEncoder().encode(text), { file: path });
    if (header.join("\n") !== columns.join("\n")) {
      throw new RunError(
        `Cannot continue ${path}: its columns are [${header.join(", ")}], ` +
          `this program writes [${columns.join(", ")}]`,
      );
    }
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    if (whole.length < text.length) writeFileAtomicSync(path, whole);
    return metrics;
  }

  /**
   * Appends one row.
   *
   * @throws {TypeError} A key of `row` is not a column.
   * @throws {RunError} The file cannot be written.
   */
  append(row: Readonly<Record<string, MetricValue>>): void {
    for (const key of Object.keys(row)) {
      if (this.columns.includes(key)) continue;
      throw new TypeError(`Cannot append "${key}": the columns are [${this.columns.join(", ")}]`);
    }
    const line = this.#line(this.columns.map((column) => row[column]));
    try {
      using file = Deno.openSync(this.path, { append: true });
      writeAllSync(file, new TextEncoder().encode(line));
    } catch (error) {
      throw ioError(`write ${this.path}`, error);
    }
  }

  /** The rows so far, as text, oldest first. */
  rows(): Record<string, string>[] {
    return this.#records(this.#read()).slice(1).map((record) =>
      Object.fromEntries(this.columns.map((column, i) => [column, record[i] ?? ""]))
    );
  }

  /**
   * Drops the rows after `epoch` (by the first column), as a run that resumes from the end of `epoch`
   * writes them again.
   */
  rewind(epoch: number): void {
    const [header, ...records] = this.#records(this.#read());
    const kept = records.filter((record) => Number(record[0]) <= epoch);
    if (kept.length === records.length) return;
    const lines = [header ?? this.columns, ...kept].map((record) => this.#line(record));
    writeFileAtomicSync(this.path, lines.join(""));
  }

  #line(values: readonly MetricValue[]): string {
    // The library ends lines with CRLF, which line tools take for a part of the last field.
    return `${this.#stringify([[...values]], { headers: false }).slice(0, -2)}\n`;
  }

  #read(): string {
    try {
      return Deno.readTextFileSync(this.path);
    } catch (error) {
      throw ioError(`read ${this.path}`, error);
    }
  }

  /** Header and rows; a last line without its end is left out. */
  #records(text: string): string[][] {
    try {
      return this.#parse(text.slice(0, text.lastIndexOf("\n") + 1));
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new RunError(`Cannot read ${this.path} as CSV: ${message}`, { cause });
    }
  }
}

/** The rows of a `metrics.csv`. */
export interface MetricsTable {
  /** Names of the columns; the first one counts epochs. */
  columns: string[];
  /** Number of rows. */
  count: number;
  /** Values by column, as text. */
  values: Record<string, string[]>;
}

/**
 * The content of a `metrics.csv`, also of one that is being written: a last line without its end is left
 * out.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors.
 * @throws {FormatError} It is not UTF-8, not CSV or has rows of another length than the header.
 */
export async function decodeMetrics(
  bytes: Uint8Array,
  options: { file: string },
): Promise<MetricsTable> {
  const whole = bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
  const { names, count, columns } = await readCsv(whole, options);
  return { columns: names, count, values: columns };
}

async function loadCsv(): Promise<[Stringify, Parse]> {
  const [{ stringify }, { parse }] = await Promise.all([
    import("npm:deno-std@1.4.0/csv/stringify.js"),
    import("npm:deno-std@1.4.0/csv/parse.js"),
  ]);
  return [stringify, parse];
}
