/**
 * @file Kills runs with SIGKILL at random moments, resumes them, and compares the ends bit by bit with
 * the run that was let alone. The long form is
 *
 *   deno run --allow-read --allow-write --allow-env --allow-run=deno tests/experiments/kill.ts --kills 100
 */

import { HostRandom } from "../../nn/data/rng.ts";
import { defineFlags, runMain } from "../../experiments/_args.ts";
import { decodeCheckpoint } from "../../nn/io/checkpoint.ts";
import { type Outcome, type Running, startLetters } from "./letters_run.ts";

const SCRIPT = new URL("./tiny_run.ts", import.meta.url).href;
const CHECKPOINT = "checkpoint.safetensors";

/** What was done and seen. */
export interface KillReport {
  /** Runs killed. */
  kills: number;
  /** Kills between the begin and the end of a save. */
  insideSaves: number;
  /** Kills that left the temporary file of a checkpoint behind. */
  leftovers: number;
  /** Kills before the first checkpoint. */
  beforeFirst: number;
  /** Runs that came to their end, all with the same bits. */
  finished: number;
}

interface Watched {
  running: Running;
  /** How often the output holds a line. */
  count(line: string): number;
}

function start(args: readonly string[], cwd: string): Watched {
  let output = "";
  const running = startLetters(args, {
    cwd,
    script: SCRIPT,
    permissions: ["--allow-read", "--allow-write"],
    onOutput: (text) => output += text,
  });
  return { running, count: (line) => output.split(`${line}\n`).length - 1 };
}

/** What an ended run left that must not depend on how it came there. */
function remains(dir: string): string {
  const state = readState(dir) as Record<string, unknown>;
  const csv = Deno.readTextFileSync(`${dir}/metrics.csv`);
  const weights = Deno.readFileSync(`${dir}/last.safetensors`);
  return JSON.stringify([{ ...state, seconds: 0 }, csv, weights.toHex()], (_, value) => {
    return ArrayBuffer.isView(value)
      ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength).toHex()
      : value;
  });
}

/** The state in the checkpoint of a run, which must be whole; undefined if there is none yet. */
function readState(dir: string): unknown {
  const path = `${dir}/${CHECKPOINT}`;
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return decodeCheckpoint(bytes, { file: path, tensor: ({ shape, data }) => ({ shape, data }) });
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Fails unless a run ended as it should. */
function checkEnd({ code, stderr }: Outcome): void {
  if (code !== 0 || stderr !== "") throw new Error(`A run ended with code ${code}: ${stderr}`);
}

/**
 * Kills runs until there were `kills`. Half of the kills come at any time, half while a checkpoint is
 * written.
 *
 * @throws {Error} A checkpoint is damaged, a run does not go on, or ends with other bits.
 */
export async function killRuns(
  options: { kills: number; seed: number; log?: (line: string) => void },
): Promise<KillReport> {
  const { kills, seed, log = () => {} } = options;
  const random = new HostRandom(seed);
  const cwd = await Deno.makeTempDir();
  const report = { kills: 0, insideSaves: 0, leftovers: 0, beforeFirst: 0, finished: 0 };
  try {
    const begun = performance.now();
    checkEnd(await start(["--out", `${cwd}/whole`], cwd).running.outcome);
    const time = performance.now() - begun;
    const expected = remains(`${cwd}/whole`);
    for (let life = 0; report.kills < kills; life++) {
      const dir = `${cwd}/run-${life}`;
      while (true) {
        const resumes = exists(`${dir}/config.json`);
        const run = start(resumes ? ["--resume", dir] : ["--out", dir], cwd);
        const done = report.kills >= kills || await kill(run, { random, time });
        const outcome = await run.running.outcome;
        if (done) {
          checkEnd(outcome);
          if (remains(dir) !== expected) throw new Error(`Run ${life} ended with other bits`);
          report.finished++;
          break;
        }
        report.kills++;
        if (run.count("saving") > run.count("saved")) report.insideSaves++;
        if (readState(dir) === undefined) report.beforeFirst++;
        const names = exists(dir) ? [...Deno.readDirSync(dir)].map(({ name }) => name) : [];
        if (names.some((name) => /checkpoint.*tmp/.test(name))) report.leftovers++;
        log(`${report.kills} kills, ${report.insideSaves} in saves, ${report.finished} runs ended`);
      }
    }
    return report;
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}

/** Kills a run; true if it ended before. */
async function kill(
  { running, count }: Watched,
  { random, time }: { random: HostRandom; time: number },
): Promise<boolean> {
  let ended = false;
  const end = running.outcome.then(() => ended = true);
  if (random.uniform() < 0.5) await Promise.race([end, sleep(random.uniform(0, time))]);
  else {
    const save = random.integer(1, 5);
    while (!ended && count("saving") < save) await Promise.race([end, sleep(1)]);
    const until = performance.now() + random.uniform(0, 12);
    while (!ended && performance.now() < until) await Promise.race([end, sleep(0)]);
  }
  if (ended) return true;
  try {
    running.kill("SIGKILL");
  } catch (error) {
    // It ended just now, and its last output is still on the way.
    if (!(error instanceof TypeError)) throw error;
  }
  return (await running.outcome).code === 0;
}

const FLAGS = defineFlags({
  kills: { type: "integer", default: 100, min: 1, help: "How often to kill" },
  seed: { type: "integer", default: 1, min: 0, help: "Seed of the moments" },
}, { command: "kill.ts", about: "Kills runs at random moments and resumes them." });

if (import.meta.main) {
  await runMain(async () => {
    const { options } = FLAGS.parse(Deno.args);
    console.log(await killRuns({ ...options, log: (line) => console.log(line) }));
  });
}
