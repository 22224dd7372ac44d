import { writeAllSync } from "./_files.ts";

/** Where progress and log lines go; the standard output unless a test passes its own. */
export interface Terminal {
  /** Whether a person watches: a line may be redrawn. */
  readonly isTerminal: boolean;
  /** Width in character cells. */
  columns(): number;
  /** Writes text as it is, without a line end of its own. */
  write(text: string): void;
}

const FALLBACK_COLUMNS = 80;

/**
 * The standard output. A reader that goes away (`| head`, a closed window) does not stop a run: the
 * rest is dropped, as the log file still has it.
 */
export function stdoutTerminal(): Terminal {
  const encoder = new TextEncoder();
  let open = true;
  return {
    isTerminal: Deno.stdout.isTerminal(),
    columns() {
      try {
        return Deno.consoleSize().columns || FALLBACK_COLUMNS;
      } catch {
        return FALLBACK_COLUMNS;
      }
    },
    write(text) {
      if (!open) return;
      try {
        writeAllSync(Deno.stdout, encoder.encode(text));
      } catch (error) {
        if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
        open = false;
      }
    },
  };
}
