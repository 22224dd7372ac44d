/** @file Tables in CSV (RFC 4180) with columns of a type each. The Deno standard library parses. */

import { FormatError } from "../format_error.ts";
import { quote } from "../io/json_scan.ts";
import { type ByteSource, readSource } from "../io/source.ts";

/** What the values of a column are. */
export type CsvType = "string" | "number" | "integer" | "boolean";

/** How each type is kept in memory. */
export interface CsvColumns {
  /** Text as it is. */
  string: string[];
  /** Decimal numbers; also `NaN`, `inf` and `-inf`, and NaN for an empty field. */
  number: Float64Array<ArrayBuffer>;
  /** Whole numbers of 32 bits. */
  integer: Int32Array<ArrayBuffer>;
  /** `true`, `false`, `1`, `0` in any case, as 1 and 0. */
  boolean: Uint8Array<ArrayBuffer>;
}

/** A column of any type. */
export type CsvColumn = CsvColumns[CsvType];

/** Options of {@linkcode readCsv}. */
export interface ReadCsvOptions<T extends Record<string, CsvType>> {
  /** The columns to read, with their types; the file must have them. Default all, as text. */
  columns?: T;
  /** What stands between fields. Default a comma. */
  separator?: string;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/** The content of a table. */
export interface CsvTable<T extends Record<string, CsvType>> {
  /** Every column of the file, in its order. */
  names: string[];
  /** Number of rows without the header. */
  count: number;
  /** The columns that were asked for, by name. */
  columns: string extends keyof T ? Record<string, string[]> : { [N in keyof T]: CsvColumns[T[N]] };
}

/**
 * Reads a CSV file whose first row names the columns. Lines end in LF, CRLF or CR. Empty lines are skipped;
 * a byte order mark too. What stands in quotes is kept as it is.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The columns and their types.
 * @throws {FormatError} If the file is not UTF-8 or not CSV, a row has another number of fields than the
 * header, names repeat, a column is missing, or a value is not of its column's type.
 *
 * @example
 * ```ts
 * import { readCsv } from "./csv.ts";
 *
 * const { columns } = await readCsv("train.csv", {
 *   columns: { image_path: "string", label: "integer" },
 * });
 * const [path, label] = [columns.image_path[0], columns.label[0]];
 * ```
 */
export async function readCsv<const T extends Record<string, CsvType> = Record<string, "string">>(
  source: ByteSource,
  options: ReadCsvOptions<T> = {},
): Promise<CsvTable<T>> {
  const { bytes, file } = await readSource(source, options.file);
  const { separator = "," } = options;
  // A lone CR ends a line, too, as in files of old Macs.
  const text = decodeText(bytes, file).replace(/("[^"]*"?)|\r(?!\n)/g, (_, kept) => kept ?? "\n");
  const records = await parseRecords(text, { separator, file });
  const fault = (record: number, found: string, expected: string) =>
    new FormatError(found, { file, offset: offsetOf(text, record), expected });
  const [names, ...rows] = records;
  if (names === undefined) throw fault(0, "no header", "a row with the names of the columns (CSV)");
  const seen = new Set<string>();
  const repeated = names.find((name) => seen.has(name) || !seen.add(name));
  if (repeated !== undefined) throw fault(0, `second column ${quote(repeated)}`, "each name once");
  for (const [i, row] of rows.entries()) {
    if (row.length === names.length) continue;
    throw fault(i + 1, `row of ${row.length} fields`, `${names.length} as in the header (CSV)`);
  }
  const indices = new Map(names.map((name, index) => [name, index]));
  const wanted = options.columns ?? Object.fromEntries(names.map((name) => [name, "string"]));
  const columns = Object.entries(wanted).map(([name, type]): [string, CsvColumn] => {
    const index = indices.get(name);
    if (index === undefined) {
      const held = names.slice(0, 8).map(quote).join(", ") + (names.length > 8 ? ", ..." : "");
      throw fault(0, `no column ${quote(name)}`, `it among ${held}`);
    }
    const values = rows.map((row) => row[index]!);
    return [
      name,
      convert(values, type, (row, expected) => {
        const found = `value ${quote(values[row]!)} in column ${quote(name)}`;
        return fault(row + 1, found, expected);
      }),
    ];
  });
  const table = { names, count: rows.length, columns: Object.fromEntries(columns) };
  return table as CsvTable<T>;
}

function decodeText(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError("text not in UTF-8", { file, offset: 0, expected: "UTF-8 (CSV)", cause });
  }
}

async function parseRecords(
  text: string,
  options: { separator: string; file: string },
): Promise<string[][]> {
  const { separator, file } = options;
  const { parse } = await import("npm:deno-std@1.4.0/csv/parse.js");
  try {
    // The parser makes CRLF to LF, also in quotes, but takes one CR away and no more.
    const kept = text.replace(/"[^"]*"?/g, (part) => part.replaceAll("\r\n", "\r\r\n"));
    return parse(kept, { separator }) as string[][];
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause; // a separator that is none
    const line = Number(/line (\d+)/.exec(cause.message)?.[1] ?? 1);
    const before = text.split("\n", line - 1).join("\n");
    throw new FormatError(`bad quotes (${cause.message.replaceAll("\n", " ")})`, {
      file,
      offset: new TextEncoder().encode(before).length + (line > 1 ? 1 : 0),
      expected: "fields with quotes around them or none inside (CSV)",
      cause,
    });
  }
}

/** Byte position of a record, the header being 0; empty lines are none. */
function offsetOf(text: string, record: number): number {
  let quoted = false, start = 0, count = 0;
  for (let i = 0; i <= text.length; i++) {
    if (text[i] === '"') quoted = !quoted;
    if (i < text.length && (quoted || text[i] !== "\n")) continue;
    const empty = text.slice(start, i).replace(/\r$/, "") === "";
    if (!empty && count++ === record) break;
    start = i + 1;
  }
  return new TextEncoder().encode(text.slice(0, start)).length;
}

/** Makes an error about the value in a row. */
type ValueFault = (row: number, expected: string) => FormatError;

function convert(values: string[], type: CsvType, fault: ValueFault): CsvColumn {
  switch (type) {
    case "string":
      return values;
    case "number":
      return Float64Array.from(values, (value, row) => toNumber(value) ?? fail(row, "a number"));
    case "integer":
      return Int32Array.from(values, (value, row) => {
        const number = /^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : NaN;
        return number === (number | 0) ? number : fail(row, "a whole number of 32 bits");
      });
    case "boolean":
      return Uint8Array.from(values, (value, row) => {
        const word = value.trim().toLowerCase();
        if (word === "true" || word === "1") return 1;
        return word === "false" || word === "0" ? 0 : fail(row, "true or false");
      });
  }

  function fail(row: number, expected: string): never {
    throw fault(row, expected);
  }
}

/** A decimal number; NaN for an empty field, undefined for other text. */
function toNumber(text: string): number | undefined {
  const word = text.trim().toLowerCase();
  if (word === "" || word === "nan") return NaN;
  const infinite = /^([+-]?)inf(inity)?$/.exec(word);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(word) ? Number(word) : undefined;
}
