/**
 * Errors that carry data. Wrong types and shapes are plain `TypeError`s, values out of range plain
 * `RangeError`s: see the ops' `check` functions.
 */

/** The GPU refused or failed a piece of work; `label` names the kernel or buffer. */
export class GpuError extends Error {
  override name = "GpuError";
  /** Kernel or buffer the message is about. */
  readonly label: string;
  constructor(message: string, options: { label: string; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.label = options.label;
  }
}

/** No usable adapter was found, or it lacks what the engine needs. */
export class NoAdapterError extends Error {
  override name = "NoAdapterError";
}

/**
 * A check failed: under `LATHE_CHECK` an op gave other numbers than its reference, or NaN; in
 * `gradcheck` a gradient differs from central differences.
 */
export class CheckError extends Error {
  override name = "CheckError";
}
