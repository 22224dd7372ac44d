/**
 * Indices out of range, found on the GPU and thrown on the host.
 *
 * A kernel cannot throw, so an indexing op that meets a bad index writes it into a word of its own
 * in a small buffer. Every read takes that buffer along; the first bad index becomes a RangeError at
 * that `await`. Until then a gather gives NaN (0 for integers) and a scatter leaves the value out.
 */

import { DeviceArray } from "./array.ts";
import { gpu } from "./gpu/device.ts";
import type { Binding } from "./gpu/queue.ts";
import { Storage } from "./gpu/storage.ts";

/** Words of the buffer: kinds of use (op and size) that are told apart. */
const WORDS = 1024;

interface Uses {
  readonly owner: unknown;
  readonly storage: Storage;
  readonly words: Map<string, number>;
  readonly named: { readonly op: string; readonly size: number }[];
}

let uses: Uses | null = null;

/** A word for op `op` on indices below `size`, and the buffer it lies in. Uses beyond the last share it. */
export function indexFlag(op: string, size: number): { flags: DeviceArray; word: number } {
  if (uses?.owner !== gpu()) {
    const storage = Storage.outside(4 * WORDS, "index flags");
    uses = { owner: gpu(), storage, words: new Map(), named: [] };
  }
  const key = `${op} ${size}`;
  let word = uses.words.get(key);
  if (word === undefined) {
    word = Math.min(uses.named.length, WORDS - 1);
    if (uses.named.length < WORDS) uses.named.push({ op, size });
    uses.words.set(key, word);
  }
  return { flags: new DeviceArray(uses.storage.retain(), "u32", [WORDS]), word };
}

/** What a read must take along: the words in use, or nothing before the first indexing op. */
export function indexWindows(): Binding[] {
  if (!uses || uses.owner !== gpu() || uses.named.length === 0) return [];
  return [{ storage: uses.storage, byteOffset: 0, byteEnd: 4 * uses.named.length }];
}

/**
 * Looks at the words that {@linkcode indexWindows} named.
 *
 * @throws {RangeError} if one holds a bad index; all are cleared
 */
export function throwBadIndex(bytes: ArrayBuffer): void {
  const found = new Int32Array(bytes);
  const word = found.findIndex((v) => v !== 0);
  if (word < 0 || !uses) return;
  uses.storage.write(new Uint8Array(4 * WORDS));
  const { op, size } = uses.named[word]!;
  throw new RangeError(
    `Cannot ${op} with index ${found[word]}: indices must be 0 to ${size - 1}`,
  );
}
