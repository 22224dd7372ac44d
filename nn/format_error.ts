/** @file The one error that every reader of files and bytes throws for bad content. */

/** Where and how a file departs from its format. */
export interface FormatErrorOptions {
  /** The file as the caller named it, or what stands for it when the reader got bytes. */
  file: string;
  /** Byte position of the fault. In a gzip file it counts decompressed bytes, unless the gzip stream itself is at fault. */
  offset: number;
  /** What a good file has there. */
  expected: string;
  /** The error underneath, if any. */
  cause?: unknown;
}

/** Longest part of a message. */
const MAX_PART = 300;

/**
 * A text from a file as a terminal may show it: on one line, control characters as `\\u001b`, at most 300
 * characters.
 */
export function printable(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return line.length <= MAX_PART ? line : `${line.slice(0, MAX_PART - 3)}...`;
}

/**
 * A file does not hold what its format says. The message is one line, whatever the file holds:
 * `Cannot read FILE: FOUND at byte OFFSET, expected EXPECTED`, each part of at most 300 characters.
 *
 * @example
 * ```ts
 * import { FormatError } from "./format_error.ts";
 *
 * const error = new FormatError("bad magic 0x00000000", {
 *   file: "train-images-idx3-ubyte",
 *   offset: 0,
 *   expected: "0x00000803 (idx3 of u8)",
 * });
 * ```
 */
export class FormatError extends Error {
  override name = "FormatError";
  /** The file as the caller named it. */
  readonly file: string;
  /** Byte position of the fault. */
  readonly offset: number;
  /** What a good file has there. */
  readonly expected: string;

  /**
   * @param found What the reader met, without the position.
   * @param options File, position and what was expected.
   */
  constructor(found: string, options: FormatErrorOptions) {
    const { file, offset, expected, cause } = options;
    super(
      `Cannot read ${printable(file)}: ${printable(found)} at byte ${offset}, expected ${
        printable(expected)
      }`,
      { cause },
    );
    this.file = file;
    this.offset = offset;
    this.expected = expected;
  }
}
