/** Damaged copies of files for tests of readers, by a fixed seed. */

import { HostRandom } from "../../nn/data/rng.ts";
import { FormatError } from "../../nn/format_error.ts";

/** A damaged file and how it was made. */
export interface Mutant {
  bytes: Uint8Array;
  how: string;
}

/** The file cut at every length below its own. */
export function* truncations(bytes: Uint8Array): Generator<Mutant> {
  for (let length = 0; length < bytes.length; length++) {
    yield { bytes: bytes.slice(0, length), how: `cut at ${length}` };
  }
}

/** The file with each of its bits flipped, one at a time. */
export function* bitFlips(bytes: Uint8Array): Generator<Mutant> {
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const copy = bytes.slice();
    copy[bit >> 3]! ^= 1 << (bit & 7);
    yield { bytes: copy, how: `bit ${bit & 7} of byte ${bit >> 3} flipped` };
  }
}

/** The file with up to 8 random edits: bytes set, removed, inserted, repeated. */
export function* edits(
  bytes: Uint8Array,
  options: { seed: number; count: number },
): Generator<Mutant> {
  const random = new HostRandom(options.seed);
  const extremes = [0x00, 0x7f, 0x80, 0xff];
  for (let n = 0; n < options.count; n++) {
    const values = [...bytes];
    for (let edit = random.integer(1, 9); edit > 0; edit--) {
      const at = random.integer(0, values.length + 1);
      const value = random.uniform() < 0.5
        ? random.integer(0, 256)
        : extremes[random.integer(0, 4)]!;
      const length = random.integer(1, 5);
      const kind = random.integer(0, 4);
      if (kind === 0) values.fill(value, at, at + length);
      else if (kind === 1) values.splice(at, length);
      else if (kind === 2) values.splice(at, 0, value);
      else values.splice(at, 0, ...values.slice(at, at + length));
    }
    yield { bytes: Uint8Array.from(values), how: `edit ${n} of seed ${options.seed}` };
  }
}

/**
 * Runs a reader over damaged files. Each must be read or refused with a {@linkcode FormatError} on one
 * line; anything else is thrown, with how the file was made.
 *
 * @returns The results of those that were read, and how many were refused.
 */
export async function readAll<T>(
  mutants: Iterable<Mutant>,
  read: (bytes: Uint8Array) => T | Promise<T>,
): Promise<{ accepted: (Mutant & { result: T })[]; refused: number }> {
  const accepted: (Mutant & { result: T })[] = [];
  let refused = 0;
  for (const mutant of mutants) {
    try {
      accepted.push({ ...mutant, result: await read(mutant.bytes) });
    } catch (error) {
      if (!(error instanceof FormatError) || /\n/.test(error.message)) {
        throw new Error(
          `Reader failed with another error than one line of FormatError: ${mutant.how}`,
          {
            cause: error,
          },
        );
      }
      refused++;
    }
  }
  return { accepted, refused };
}
