/**
 * A run cannot start, continue or write its files for a reason outside the program: a folder that is
 * read-only, a full disk, a run folder of another program. The message is one line for the user.
 */
export class RunError extends Error {
  override name = "RunError";
}
