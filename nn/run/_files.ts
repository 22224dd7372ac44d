import { temporaryPath } from "../io/atomic.ts";
import { RunError } from "./run_error.ts";

/** What went wrong with a file, in words that say what to do about it. */
function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.NotCapable) {
    return "Deno does not allow it: run with --allow-read and --allow-write for that folder";
  }
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  if (error instanceof Deno.errors.NotFound) return "no such file or folder";
  if (error instanceof Deno.errors.AlreadyExists) return "a file of that name is in the way";
  if (error instanceof Deno.errors.NotADirectory) {
    return "a part of the path is a file, not a folder";
  }
  const message = error instanceof Error ? error.message : String(error);
  // Deno has no class of its own for a full disk (ENOSPC) or a read-only file system (EROFS).
  if (message.includes("os error 28")) return "no space left on the disk";
  if (message.includes("os error 30")) return "the file system is read-only";
  return message;
}

/**
 * The {@linkcode RunError} for a failed file operation.
 *
 * @param action What could not be done, e.g. `create the run folder runs/a`.
 */
export function ioError(action: string, error: unknown): RunError {
  return new RunError(`Cannot ${action}: ${reasonOf(error)}`, { cause: error });
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // The disk that failed before may fail again.
  }
}

interface SyncWriter {
  writeSync(bytes: Uint8Array): number;
}

/** Writes all of `bytes`; a single `writeSync` may stop early. */
export function writeAllSync(file: SyncWriter, bytes: Uint8Array): void {
  for (let start = 0; start < bytes.length;) start += file.writeSync(bytes.subarray(start));
}

/**
 * Replaces the file at `path` in one step: a temporary file beside it, fsync, rename. A reader or a
 * killed process finds the old content or the new, never a part; of two processes that write at once the
 * last one's content stays.
 *
 * @throws {RunError} The file cannot be written.
 */
export function writeFileAtomicSync(path: string, content: string | Uint8Array): void {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const temporary = temporaryPath(path);
  let made = false;
  try {
    {
      using file = Deno.openSync(temporary, { write: true, createNew: true });
      made = true;
      writeAllSync(file, bytes);
      file.syncDataSync();
    }
    Deno.renameSync(temporary, path);
  } catch (error) {
    if (made) removeIfThere(temporary);
    throw ioError(`write ${path}`, error);
  }
}
