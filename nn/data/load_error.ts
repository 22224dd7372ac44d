/** @file The error of a loader whose data set fails, and its way out of a worker. */

import { FormatError } from "../format_error.ts";

/**
 * A sample that could not be loaded: `Cannot load sample 17: REASON`. What the data set threw is the
 * `cause`, a `FormatError` if a file is damaged; it is the same with workers and without.
 */
export class LoadError extends Error {
  override name = "LoadError";
  /** The sample, as the data set counts. */
  readonly index: number;

  /**
   * @param index The sample.
   * @param cause What was thrown.
   */
  constructor(index: number, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`Cannot load sample ${index}: ${reason}`, { cause });
    this.index = index;
  }
}

/** An error as a message between threads; a structured clone would lose its class. */
export interface ErrorMessage {
  name: string;
  message: string;
  stack?: string;
  /** What a `FormatError` has more. */
  format?: { file: string; offset: number; expected: string };
}

/** The message of anything thrown. */
export function packError(error: unknown): ErrorMessage {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message, stack } = error;
  if (!(error instanceof FormatError)) return { name, message, stack };
  const { file, offset, expected } = error;
  return { name, message, stack, format: { file, offset, expected } };
}

/** The error of a message: a `FormatError`, or an `Error` with the name of the original. */
export function unpackError({ name, message, stack, format }: ErrorMessage): Error {
  const error = format ? new FormatError("", format) : new Error();
  Object.assign(error, { message, stack });
  if (!format) Object.defineProperty(error, "name", { value: name });
  return error;
}
