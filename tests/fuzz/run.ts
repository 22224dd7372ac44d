/**
 * @file `deno task fuzz --seconds N [--reader NAME] [--seed S]`: every reader of files against damaged
 * ones, in turn until the time is over. An input that is neither read nor refused is saved and ends the
 * run with code 1; so does one that a reader does not come back from.
 *
 * The readers run in a worker, which can be stopped where they hang; input N of seed S is always the
 * same, so a finding needs no more than its name.
 */

import { defineFlags, runMain, UsageError } from "../../experiments/_args.ts";
import { allReaders } from "./readers.ts";
import { makeInput, prepare, type Tally } from "./fuzz.ts";

const FLAGS = defineFlags({
  seconds: { type: "number", default: 30, above: 0, help: "How long to go on", unit: "seconds" },
  reader: { type: "string", help: "The one reader to run; all by default" },
  seed: { type: "integer", default: 1, min: 0, help: "Seed of the inputs" },
  input: { type: "integer", min: 0, help: "Run this one input of --reader only" },
  out: {
    type: "path",
    help: "Folder that a failing input is saved to; the current one by default",
  },
}, { command: "deno task fuzz", about: "Runs every reader of files over damaged ones." });

/** Inputs of a turn; then it is the next reader's. */
const TURN = 500;
/** A reader that is at one input for so long hangs, in milliseconds. */
const PATIENCE = 60_000;

/** A turn that a worker is asked for. */
export interface Turn {
  reader: string;
  seed: number;
  from: number;
  to: number;
  /** Where the worker writes the number it is at. */
  at: Int32Array<SharedArrayBuffer>;
}

/** What a worker answers. */
export type Answer = { tally: Tally; fault?: undefined } | { fault: string; tally?: undefined };

interface Totals extends Tally {
  next: number;
  ms: number;
}

async function main(): Promise<number> {
  const { options } = FLAGS.parse(Deno.args);
  const known = allReaders().map(({ name }) => name);
  const { reader, seed, input, seconds } = options;
  if (reader !== undefined && !known.includes(reader)) {
    throw new UsageError(`No reader "${reader}": there is ${known.join(", ")}`);
  }
  const names = reader === undefined ? known : [reader];
  const first = input ?? 0;
  const totals = new Map(names.map((name): [string, Totals] => {
    return [name, { read: 0, refused: 0, next: first, ms: 0 }];
  }));
  const end = performance.now() + 1000 * seconds;
  let worker = startWorker();
  let findings = 0;
  turns: do {
    for (const [name, total] of totals) {
      const at = new Int32Array(new SharedArrayBuffer(4));
      const to = input === undefined ? total.next + TURN : input + 1;
      const start = performance.now();
      const answer = await ask(worker, { reader: name, seed, from: total.next, to, at });
      total.ms += performance.now() - start;
      total.next = to;
      if (answer?.tally) {
        total.read += answer.tally.read;
        total.refused += answer.tally.refused;
      } else {
        findings++;
        const number = Atomics.load(at, 0);
        const what = answer?.fault ?? `hangs: no end after ${PATIENCE} ms or more`;
        await report({ name, seed, number, what, folder: options.out ?? "." });
        total.next = number + 1;
        worker.terminate();
        worker = startWorker();
      }
      if (performance.now() >= end || input !== undefined) break turns;
    }
  } while (true);
  worker.terminate();
  print(totals, seed, findings);
  // The thread of a worker that hangs goes on after it is terminated, and would hold the process.
  if (findings > 0) Deno.exit(1);
  return 0;
}

function startWorker(): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
}

/** The answer to a turn; undefined if the worker hangs. */
function ask(worker: Worker, turn: Turn): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    let last = -1;
    const timer = setInterval(() => {
      const number = Atomics.load(turn.at, 0);
      if (number !== last) last = number;
      else {
        clearInterval(timer);
        resolve(undefined);
      }
    }, PATIENCE);
    worker.onmessage = ({ data }) => {
      clearInterval(timer);
      resolve(data as Answer);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      clearInterval(timer);
      resolve({ fault: `the worker ended: ${event.message}` });
    };
    worker.postMessage(turn);
  });
}

/** Saves a failing input and says how to run it again. */
async function report(
  finding: { name: string; seed: number; number: number; what: string; folder: string },
): Promise<void> {
  const { name, seed, number, what, folder } = finding;
  const reader = allReaders().find((reader) => reader.name === name)!;
  const path = `${folder}/fuzz-${name}-${seed}-${number}.bin`;
  await Deno.writeFile(path, makeInput(await prepare(reader), seed, number));
  console.log(`FOUND ${what}`);
  console.log(
    `  saved to ${path}; again: deno task fuzz --reader ${name} --seed ${seed} --input ${number}`,
  );
}

function print(totals: ReadonlyMap<string, Totals>, seed: number, findings: number): void {
  let all = 0;
  for (const [name, { read, refused, ms }] of totals) {
    const count = read + refused;
    all += count;
    const rate = count === 0 ? 0 : Math.round(1000 * count / ms);
    console.log(
      `${name.padEnd(14)}${String(count).padStart(9)} inputs  ${String(read).padStart(7)} read ` +
        `${String(refused).padStart(9)} refused ${String(rate).padStart(7)}/s`,
    );
  }
  console.log(`${all} inputs of seed ${seed}, ${findings} findings`);
}

if (import.meta.main) await runMain(main);
