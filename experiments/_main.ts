/** @file How an experiment starts and how it fails. */

import { CheckError, GpuError, NoAdapterError } from "../engine/errors.ts";
import { FormatError } from "../nn/format_error.ts";
import { WeightsError } from "../nn/io/mod.ts";
import { RunError } from "../nn/run/mod.ts";
import { HelpRequest, UsageError } from "./_errors.ts";

/**
 * Errors that name something outside the code: the command line, a file, a folder, the GPU. Any other
 * error, a `TypeError` or `RangeError` above all, is a bug of the program.
 */
const EXPECTED = [
  UsageError,
  RunError,
  FormatError,
  WeightsError,
  NoAdapterError,
  GpuError,
  CheckError,
];

/**
 * Runs the main function of a script. It may return an exit code.
 *
 * An expected error (command line, files, GPU) prints one line, `error: …`, on the standard error and
 * ends with code 1. A bug prints its stack, and so does every error when `LATHE_DEBUG` is set.
 * `--help` prints its text and ends with code 0.
 */
export async function runMain(main: () => Promise<number | void> | number | void): Promise<void> {
  try {
    const code = await main();
    if (typeof code === "number") Deno.exitCode = code;
  } catch (error) {
    if (error instanceof HelpRequest) {
      console.log(error.text.trimEnd());
      Deno.exit(0);
    }
    const debug = !["", "0", undefined].includes(readEnv("LATHE_DEBUG"));
    console.error(describeError(error, { debug }));
    Deno.exit(1);
  }
}

/** What to print about an error: one line for an expected one, else the stack and the causes. */
export function describeError(error: unknown, options: { debug: boolean }): string {
  if (options.debug || !(error instanceof Error) || !isExpected(error)) {
    return Deno.inspect(error, { colors: false });
  }
  return `error: ${error.message.trim().replace(/\s*\n\s*/g, " ")}`;
}

function isExpected(error: Error): boolean {
  if (EXPECTED.some((type) => error instanceof type)) return true;
  // A closed file or a lock of our own is a bug, the other errors of Deno are about the machine.
  if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Busy) return false;
  if (Object.values(Deno.errors).some((type) => error instanceof type)) return true;
  // Errors of the system without a class of their own: full disk, read-only file system, …
  return error.constructor === Error && /\(os error \d+\)/.test(error.message);
}

/** An environment variable, undefined when it is not set or may not be read. Never prompts. */
export function readEnv(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}
