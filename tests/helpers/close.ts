/** Compares numbers with a stated tolerance and names the worst one. */

/** Options of {@linkcode assertClose}. */
export interface CloseOptions {
  /** Allowed difference. */
  atol?: number;
  /** Allowed difference as a share of the expected value. */
  rtol?: number;
  /** Words before the message. */
  what?: string;
}

/**
 * Asserts |actual − expected| ≤ atol + rtol · |expected| for every element.
 *
 * @throws {Error} With the worst element's index, both values and what was allowed.
 */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  options: CloseOptions,
): void {
  const { atol = 0, rtol = 0, what = "values" } = options;
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} numbers where ${expected.length} were expected`);
  }
  let worst = { excess: 1, message: "" };
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (a === e) continue;
    const allowed = atol + rtol * Math.abs(e);
    const excess = Math.abs(a - e) / allowed;
    if (excess <= worst.excess) continue;
    worst = { excess, message: `${what}: ${a} at ${i}, expected ${e} ± ${allowed}` };
    if (Number.isNaN(excess)) break;
  }
  if (worst.message) throw new Error(worst.message);
}

/**
 * Asserts that two arrays of numbers are of one kind and have the same elements. Unlike `assertEquals` it says
 * only where they first differ: the difference of tens of thousands of numbers takes minutes and gigabytes.
 *
 * @throws {Error} With the index of the first difference and both values.
 */
export function assertSame(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  what = "values",
): void {
  const [kind, wanted] = [actual, expected].map((a) => a.constructor.name);
  if (kind !== wanted || actual.length !== expected.length) {
    throw new Error(
      `${what}: ${kind} of ${actual.length}, expected ${wanted} of ${expected.length}`,
    );
  }
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i])) {
      throw new Error(`${what}: ${actual[i]} at ${i}, expected ${expected[i]}`);
    }
  }
}
