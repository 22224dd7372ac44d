/** @file The part of the fuzzer that may hang: runs a turn and answers. */

import { allReaders } from "./readers.ts";
import { fuzzRange, prepare, type Target } from "./fuzz.ts";
import type { Answer, Turn } from "./run.ts";

interface Scope {
  onmessage: (event: MessageEvent<Turn>) => void;
  postMessage(answer: Answer): void;
}

const scope = globalThis as unknown as Scope;
const targets = new Map<string, Target>();

async function target(name: string): Promise<Target> {
  const reader = allReaders().find((reader) => reader.name === name)!;
  const made = targets.get(name) ?? await prepare(reader);
  targets.set(name, made);
  return made;
}

async function run({ reader, seed, from, to, at }: Turn): Promise<Answer> {
  try {
    const tally = await fuzzRange(await target(reader), { seed, from, to }, (number) => {
      Atomics.store(at, 0, number);
    });
    return { tally };
  } catch (error) {
    return { fault: error instanceof Error ? error.stack ?? error.message : String(error) };
  }
}

scope.onmessage = async ({ data }) => scope.postMessage(await run(data));
