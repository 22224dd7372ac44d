/** @file Errors of the command line. */

/** The command line asks for something that does not exist. The message is one line for the user. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** `--help` was given; `text` is what to print. `runMain` prints it and ends with code 0. */
export class HelpRequest extends Error {
  override name = "HelpRequest";
  /** The help, with a line end. */
  readonly text: string;

  /** @param text The help, with a line end. */
  constructor(text: string) {
    super("Help was asked for");
    this.text = text;
  }
}
