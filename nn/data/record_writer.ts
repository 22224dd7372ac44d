/** @file RecordIO files written record by record. */

import { checkOptions } from "../../engine/arguments.ts";
import { needFiles } from "../io/source.ts";
import { encodeRecord } from "./recordio.ts";

/** Writes a RecordIO file record by record. The index is written by `close`. */
export class RecordIoWriter implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #index: string | URL | undefined;
  readonly #lines: string[] = [];
  readonly #keys = new Set<number>();
  #size = 0;
  #open = true;

  /**
   * Creates the file, or empties it.
   *
   * @param path The `.rec` file.
   * @param options `index`: the `.idx` file. Default none.
   *
   * @example
   * ```ts
   * import { RecordIoWriter } from "./record_writer.ts";
   * import { packImageRecord } from "./recordio.ts";
   *
   * using writer = new RecordIoWriter("train.rec", { index: "train.idx" });
   * writer.write(packImageRecord({ label: [3], image: await Deno.readFile("a.png") }));
   * writer.close();
   * ```
   */
  constructor(path: string | URL, options: { index?: string | URL } = {}) {
    checkOptions("make RecordIoWriter", options, "new RecordIoWriter(path, { index })");
    needFiles(`write ${path}`);
    this.#index = options.index;
    this.#file = Deno.openSync(path, { write: true, create: true, truncate: true });
  }

  /**
   * Appends a record.
   *
   * @param record Its bytes.
   * @param key Its key in the index. Default the number of records so far.
   * @throws {RangeError} If the record is 2^29 bytes or longer, or the key is no whole number or is taken.
   */
  write(record: Uint8Array, key: number = this.#keys.size): void {
    if (!Number.isSafeInteger(key) || key < 0 || key >= 1e15 || this.#keys.has(key)) {
      throw new RangeError(
        `Cannot write a record with key ${key}: keys must be different whole numbers below 10^15`,
      );
    }
    const bytes = encodeRecord(record);
    for (let rest: Uint8Array = bytes; rest.length > 0;) {
      rest = rest.subarray(this.#file.writeSync(rest));
    }
    this.#keys.add(key);
    this.#lines.push(`${key}\t${this.#size}\n`);
    this.#size += bytes.length;
  }

  /** Writes the index and closes the file. Further calls do nothing. */
  close(): void {
    if (!this.#open) return;
    this[Symbol.dispose]();
    if (this.#index !== undefined) Deno.writeTextFileSync(this.#index, this.#lines.join(""));
  }

  /** Closes the file without an index, as after an error; nothing after `close`. */
  [Symbol.dispose](): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }
}
