/** @file One reader against many damaged files, each a function of seed and number. */

import process from "node:process";
import { allocatedBytes, resetAllocated } from "./allocation.ts";
import { HostRandom } from "../../nn/data/rng.ts";
import { FormatError } from "../../nn/format_error.ts";
import { mutate } from "./mutate.ts";
import { type Reader, type Seed, SLACK } from "./readers.ts";

/** Most processor time for a file, whose content is at most 64 KiB, in milliseconds. */
const PATIENCE = 5000;

/** What a reader did with a file that it must not. */
export class Finding extends Error {
  override name = "Finding";
  /** The file. */
  readonly bytes: Uint8Array;

  /**
   * @param message Reader, number of the input and what happened.
   * @param options The file, and the error if there was one.
   */
  constructor(message: string, options: { bytes: Uint8Array; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.bytes = options.bytes;
  }
}

/** A reader and its files, ready to run. */
export interface Target {
  readonly reader: Reader;
  readonly seeds: readonly Seed[];
}

/** Makes the files that a reader starts from. */
export async function prepare(reader: Reader): Promise<Target> {
  return { reader, seeds: await reader.seeds() };
}

/** The damaged file with a number. */
export function makeInput(target: Target, seed: number, number: number): Uint8Array {
  const { seeds } = target;
  const random = new HostRandom(seed, number);
  // A hostile file is refused early, so it is less to start from.
  const good = seeds.filter(({ hostile }) => !hostile);
  const from = random.uniform() < 0.8 ? good : seeds;
  const { content, wrap } = from[random.integer(0, from.length)]!;
  const whole = mutate(content, random, seeds.map((other) => other.content));
  return wrap ? wrap(whole) : whole;
}

/**
 * Runs a reader over one file.
 *
 * @returns Whether it was read; otherwise it was refused with a {@linkcode FormatError}.
 * @throws {Finding} It did anything else, took too long or too much memory.
 */
export async function readOnce(
  reader: Reader,
  bytes: Uint8Array,
  name: string,
): Promise<boolean> {
  const start = processorTime();
  let read = true;
  resetAllocated();
  try {
    await reader.read(bytes);
  } catch (error) {
    read = false;
    const fault = refusalFault(error);
    if (fault) throw new Finding(`${name}: ${fault}`, { bytes, cause: error });
  }
  const taken = allocatedBytes(), most = SLACK + reader.expansion * bytes.length;
  if (taken > most) {
    throw new Finding(`${name}: ${taken} bytes in buffers for a file of ${bytes.length}`, {
      bytes,
    });
  }
  const time = processorTime() - start;
  if (time > PATIENCE) throw new Finding(`${name}: ${Math.round(time)} ms`, { bytes });
  return read;
}

/** Milliseconds that this process has computed, which other work on the machine does not change. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What is wrong with an error that a reader threw, if anything. */
function refusalFault(error: unknown): string | undefined {
  if (!(error instanceof FormatError)) {
    const name = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return `another error than FormatError, ${name.slice(0, 300)}`;
  }
  const { message, file, offset, expected } = error;
  if (/[\p{Cc}]/u.test(message)) return `a message with control characters, ${message}`;
  if (message.length > 1000) return `a message of ${message.length} characters`;
  if (!Number.isSafeInteger(offset) || offset < 0) return `the offset ${offset}`;
  return file === "" || expected === "" ? "a message without file or expectation" : undefined;
}

/** How many files were read and how many refused. */
export interface Tally {
  read: number;
  refused: number;
}

/**
 * Checks the files that a reader starts from: the right ones are read, the hostile ones refused.
 *
 * @throws {Finding} If it is not so.
 */
export async function checkSeeds({ reader, seeds }: Target): Promise<void> {
  for (const [i, { content, wrap, hostile = false }] of seeds.entries()) {
    const bytes = wrap ? wrap(content) : content, name = `${reader.name} seed ${i}`;
    if (await readOnce(reader, bytes, name) === hostile) {
      throw new Finding(`${name}: ${hostile ? "read" : "refused"}`, { bytes });
    }
  }
}

/**
 * Runs a reader over the damaged files from `from` to `to - 1`.
 *
 * @param before Called with the number of a file before it is read.
 * @throws {Finding} At the first that is neither read nor refused.
 */
export async function fuzzRange(
  target: Target,
  range: { seed: number; from: number; to: number },
  before?: (number: number) => void,
): Promise<Tally> {
  const tally = { read: 0, refused: 0 };
  for (let number = range.from; number < range.to; number++) {
    before?.(number);
    const bytes = makeInput(target, range.seed, number);
    const name = `${target.reader.name} seed ${range.seed} input ${number}`;
    if (await readOnce(target.reader, bytes, name)) tally.read++;
    else tally.refused++;
  }
  return tally;
}
