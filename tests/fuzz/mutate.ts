/** @file Damaged copies of valid files, each a function of a seed and a number. */

import type { HostRandom } from "../../nn/data/rng.ts";

/** Numbers that readers trip over, as they stand in length fields. */
const LENGTHS: readonly bigint[] = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** Texts that readers trip over. */
const TEXTS: readonly string[] = [
  "9223372036854775807",
  "9223372036854775808",
  "18446744073709551615",
  "4294967296",
  "-1",
  "-0",
  "1e999",
  "1.5",
  "NaN",
  "Infinity",
  "-Infinity",
  "null",
  "true",
  "[]",
  "{}",
  '""',
  '"',
  "'",
  "\\",
  "\\u0000",
  "\\ud800",
  "__proto__",
  "constructor",
  "../../../etc/passwd",
  "/etc/passwd",
  "C:\\x",
  "\r\n",
  "\n",
  "\t",
  ",",
  "\u0000",
  "\ufeff",
  "é\u{1f600}",
];

/** Longest file that mutations grow to. */
const MAX_LENGTH = 1 << 16;

type Edit = (bytes: Uint8Array, random: HostRandom, others: readonly Uint8Array[]) => Uint8Array;

/** Puts `middle` in place of the bytes from `start` to `end`. */
function splice(
  bytes: Uint8Array,
  [start, end]: readonly [number, number],
  middle: Uint8Array,
): Uint8Array {
  const result = new Uint8Array(start + middle.length + bytes.length - end);
  result.set(bytes.subarray(0, start));
  result.set(middle, start);
  result.set(bytes.subarray(end), start + middle.length);
  return result;
}

/** A position, more often near the front, where headers are. */
function position(bytes: Uint8Array, random: HostRandom): number {
  const near = random.uniform() < 0.5 ? Math.min(bytes.length, 64) : bytes.length;
  return random.integer(0, near + 1);
}

/** A part of at most `most` bytes. */
function range(bytes: Uint8Array, random: HostRandom, most: number): readonly [number, number] {
  const start = position(bytes, random);
  return [start, Math.min(bytes.length, start + random.integer(1, most + 1))];
}

function pick<T>(list: readonly T[], random: HostRandom): T {
  return list[random.integer(0, list.length)]!;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** A number of 1, 2, 4 or 8 bytes, of either byte order. */
function field(value: bigint, random: HostRandom): Uint8Array {
  const width = pick([1, 2, 4, 8], random), little = random.uniform() < 0.5;
  const bytes = new Uint8Array(8), view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, value), little);
  return little ? bytes.subarray(0, width) : bytes.subarray(8 - width);
}

const EDITS: readonly Edit[] = [
  /** Cuts the end off. */
  (bytes, random) => bytes.slice(0, random.integer(0, bytes.length + 1)),
  /** Flips a bit. */
  function flip(bytes, random) {
    if (bytes.length === 0) return bytes;
    const copy = bytes.slice();
    copy[Math.min(position(bytes, random), bytes.length - 1)]! ^= 1 << random.integer(0, 8);
    return copy;
  },
  /** Sets some bytes. */
  function fill(bytes, random) {
    const value = random.uniform() < 0.5
      ? random.integer(0, 256)
      : pick([0, 0x7f, 0x80, 0xff], random);
    return bytes.slice().fill(value, ...range(bytes, random, 8));
  },
  /** Removes bytes. */
  (bytes, random) => splice(bytes, range(bytes, random, 16), new Uint8Array(0)),
  /** Inserts bytes. */
  function insert(bytes, random) {
    const at = position(bytes, random);
    const some = Uint8Array.from({ length: random.integer(1, 9) }, () => random.integer(0, 256));
    return splice(bytes, [at, at], some);
  },
  /** Repeats a part, sometimes very often. */
  function repeat(bytes, random) {
    const [start, end] = range(bytes, random, pick([1, 4, 32, 256], random));
    const part = bytes.subarray(start, end);
    const most = Math.floor(MAX_LENGTH / Math.max(1, part.length));
    const count = Math.min(most, random.uniform() < 0.05 ? 20_000 : random.integer(1, 5));
    const many = new Uint8Array(part.length * count);
    for (let i = 0; i < count; i++) many.set(part, i * part.length);
    return splice(bytes, [start, start], many);
  },
  /** Moves a part elsewhere. */
  function move(bytes, random) {
    const [start, end] = range(bytes, random, 32), at = position(bytes, random);
    return splice(bytes, [at, at], bytes.slice(start, end));
  },
  /** Overwrites a number with one of its size that is extreme, or with a length near the file's. */
  function length(bytes, random) {
    const value = random.uniform() < 0.7
      ? pick(LENGTHS, random)
      : BigInt(bytes.length + random.integer(-8, 9));
    const number = field(value, random), at = position(bytes, random);
    return splice(bytes, [at, Math.min(bytes.length, at + number.length)], number);
  },
  /** Adds a little to a number. */
  function add(bytes, random) {
    if (bytes.length === 0) return bytes;
    const copy = bytes.slice();
    copy[Math.min(position(bytes, random), bytes.length - 1)]! += random.integer(-4, 5);
    return copy;
  },
  /** Puts a text in, or in place of a word or number. */
  function text(bytes, random) {
    const word = encode(pick(TEXTS, random));
    const start = position(bytes, random);
    let end = start;
    if (random.uniform() < 0.6) {
      while (/[\w.-]/.test(String.fromCharCode(bytes[end] ?? 0))) {
        end++;
      }
    }
    return splice(bytes, [start, end], word);
  },
  /** Takes a part of another file. */
  function cross(bytes, random, others) {
    const other = pick(others, random);
    const from = range(other, random, pick([8, 64, 4096], random));
    return splice(bytes, range(bytes, random, 64), other.subarray(...from));
  },
];

/**
 * A copy with one edit, or more.
 *
 * @param bytes The file.
 * @param random Where the edits are drawn from.
 * @param others Files of the same kind to take parts of.
 */
export function mutate(
  bytes: Uint8Array,
  random: HostRandom,
  others: readonly Uint8Array[],
): Uint8Array {
  let result = bytes;
  // One edit as often as more: many damage what a reader looks at first.
  do {
    result = pick(EDITS, random)(result, random, others);
    if (result.length > MAX_LENGTH) result = result.slice(0, MAX_LENGTH);
  } while (random.uniform() < 0.5);
  return result;
}
