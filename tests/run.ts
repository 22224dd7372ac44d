/**
 * @file `deno task test`: each test file in a process of its own, as many at a time as the machine has cores
 * (`DENO_JOBS` sets the number), and the examples in the docs of engine and `mod.ts` in one more.
 *
 * Processes, not `deno test --parallel`: that runs files as threads of one process, which once broke off in
 * the middle and left nothing to say where. Here a crash takes one file with it; that file runs again, once,
 * and the output says so.
 *
 * Arguments pick the files whose paths hold one of them; those that begin with `-` go to `deno test`.
 * Of a single file all output is shown, of several that of the failed ones. Ends with `N passed, N failed`.
 *
 * @example
 * ```sh
 * deno task test                       # all
 * deno task test nn/optim sgd          # files with either in their paths
 * deno task test sgd --filter=momentum # those of its tests whose names hold the word
 * ```
 */

import { ROOT } from "./helpers/source.ts";

/** Minutes after which a file is given up: the longest takes five on two busy cores. */
const LIMIT = 30;
/** Lines shown of a process that broke off. */
const LAST_LINES = 40;

/** What `deno test` may do. Types are checked once, before. */
const OPTIONS = [
  "--quiet",
  "--no-check",
  "--v8-flags=--expose-gc",
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env=LATHE_DEBUG,LATHE_CHECK,INIT_CWD,NO_COLOR",
  "--allow-net=127.0.0.1,localhost",
  "--allow-run=deno",
  "--allow-sys=systemMemoryInfo",
];

/** What one process runs. */
interface Job {
  name: string;
  args: string[];
}

/** The name of the job that runs the examples. */
const DOCS = "examples in docs";

/** How a process of `deno test` ended. */
export interface Ending {
  /** Everything it wrote, without colours. */
  output: string;
  /** Exit status. */
  code: number;
  /** The signal that ended it, if one did. */
  signal: string | null;
  /** Whether it was given up, after {@linkcode LIMIT} minutes. */
  late?: boolean;
}

/** What is made of it. */
export interface Verdict {
  passed: number;
  /** Tests that failed, or 1 where the run itself did. */
  failed: number;
  ignored: number;
  /** Whether it ended without a verdict of its own because something crashed. */
  crashed: boolean;
  /** What is worth saying beside the numbers. */
  remark?: string;
}

/** The counts in Deno's last line, or why there is none. */
export function judge({ output, code, signal, late = false }: Ending): Verdict {
  const last = [...output.matchAll(/^(ok|FAILED) \| (\d+) passed.*$/gm)].at(-1);
  const how = signal === null ? `status ${code}` : signal;
  if (last === undefined && late) {
    const remark = `given up after ${LIMIT} minutes`;
    return { passed: 0, failed: 1, ignored: 0, crashed: false, remark };
  }
  if (last === undefined) {
    // Deno gives 1 for code that does not load or compile; a crash is a signal, a panic or a driver's exit.
    const crashed = code !== 0 && code !== 1;
    return { passed: 0, failed: 1, ignored: 0, crashed, remark: `ended without a result: ${how}` };
  }
  const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(last[0])?.[1] ?? 0);
  const counts = { passed: count("passed"), failed: count("failed"), ignored: count("ignored") };
  if (last[1] === "FAILED") {
    return { ...counts, failed: Math.max(counts.failed, 1), crashed: false };
  }
  if (code === 0) return { ...counts, crashed: false };
  // Seen with Mesa 25.0.7: the main thread is in exit(0), in the destructors of the driver's libraries, while
  // a test's thread frees what it kept in one of them (a pthread key's value). No code of ours runs any more.
  const aborted = signal !== null || code > 128;
  return {
    ...counts,
    failed: aborted ? 0 : 1,
    crashed: false,
    remark: aborted
      ? `the driver crashed while the process ended (${how})`
      : `passed, then ended with ${how}`,
  };
}

/** The test files under `tests/`, sorted by path. */
export function testFiles(): string[] {
  const files: string[] = [];
  const visit = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(new URL(`${folder}/`, ROOT))) {
      const path = `${folder}/${name}`;
      if (isDirectory) visit(path);
      else if (name.endsWith("_test.ts")) files.push(path);
    }
  };
  visit("tests");
  return files.sort();
}

/** Runs one process to its end. */
async function run(args: readonly string[]): Promise<Ending> {
  const child = new Deno.Command("deno", {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    try {
      child.kill("SIGKILL");
    } catch { /* it ended by itself */ }
  }, LIMIT * 60_000);
  // Both streams into one text, as they come.
  let output = "";
  const collect = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) output += text;
  };
  try {
    const [status] = await Promise.all([
      child.status,
      collect(child.stdout),
      collect(child.stderr),
    ]);
    return { output, code: status.code, signal: status.signal, late };
  } finally {
    clearTimeout(timer);
  }
}

/** What the type checker has against the code that some jobs run; `undefined` where all is well. */
async function check(jobs: readonly Job[]): Promise<string | undefined> {
  const files = jobs.filter(({ name }) => name !== DOCS).flatMap(({ args }) => args);
  const docs = jobs.filter(({ name }) => name === DOCS).map(({ args }) => args);
  for (const args of [...(files.length > 0 ? [files] : []), ...docs]) {
    const { code, output } = await run(["check", "--quiet", ...args]);
    if (code !== 0) return output;
  }
}

/** A line of the log. */
function line(job: Job, verdict: Verdict, seconds: number): string {
  const ignored = verdict.ignored > 0 ? `, ${verdict.ignored} ignored` : "";
  const remark = verdict.remark ? `; ${verdict.remark}` : "";
  return `${job.name}: ${verdict.passed} passed, ${verdict.failed} failed${ignored} ` +
    `(${seconds.toFixed(1)} s)${remark}`;
}

/** The end of a text. */
function ending(text: string): string {
  return text.trimEnd().split("\n").slice(-LAST_LINES).map((l) => `    ${l}`).join("\n");
}

/** Runs a job, a second time where the first crashed, and writes its line. */
async function settle(
  job: Job,
  { flags, whole }: { flags: readonly string[]; whole: boolean },
): Promise<{ verdict: Verdict; output: string; again: boolean }> {
  for (let attempt = 1;; attempt++) {
    const start = performance.now();
    const result = await run(["test", ...OPTIONS, ...flags, ...job.args]);
    const verdict = judge(result);
    console.log(line(job, verdict, (performance.now() - start) / 1000));
    if (whole) console.log(result.output);
    if (!verdict.crashed || attempt === 2) {
      return { verdict, output: result.output, again: attempt === 2 };
    }
    console.log(`${ending(result.output)}\n${job.name}: runs again, after a crash`);
  }
}

async function main(): Promise<number> {
  const flags = Deno.args.filter((arg) => arg.startsWith("-"));
  const words = Deno.args.filter((arg) => !arg.startsWith("-"));
  const jobs: Job[] = testFiles().map((name) => ({ name, args: [name] }));
  jobs.push({ name: DOCS, args: ["--doc", "engine/", "mod.ts"] });
  const picked = jobs.filter(({ name }) =>
    words.length === 0 || words.some((w) => name.includes(w))
  );
  if (picked.length === 0) {
    console.error(`No test file's path has ${words.join(" or ")} in it`);
    return 1;
  }
  const limit = Number(Deno.env.get("DENO_JOBS") ?? navigator.hardwareConcurrency);
  if (!Number.isInteger(limit) || limit < 1) {
    console.error(`DENO_JOBS must be a whole number from 1, got ${Deno.env.get("DENO_JOBS")}`);
    return 1;
  }
  const checked = await check(picked);
  if (checked !== undefined) {
    console.log(`${checked.trimEnd()}\n\nTypes or modules are wrong: no test ran`);
    console.log("0 passed, 1 failed");
    return 1;
  }
  console.log(`${picked.length} to run, ${Math.min(limit, picked.length)} at a time`);
  const total = { passed: 0, failed: 0, ignored: 0 };
  const failures: { job: Job; output: string }[] = [];
  const repeated: string[] = [];
  const queue = [...picked];
  const work = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      const { verdict, output, again } = await settle(job, { flags, whole: picked.length === 1 });
      total.passed += verdict.passed;
      total.failed += verdict.failed;
      total.ignored += verdict.ignored;
      if (verdict.failed > 0) failures.push({ job, output });
      if (again) repeated.push(job.name);
    }
  };
  await Promise.all(Array.from({ length: limit }, work));
  for (const { job, output } of picked.length === 1 ? [] : failures) {
    console.log(`\n${job.name}\n${output.trimEnd()}`);
  }
  console.log(`\n${total.ignored} ignored`);
  if (repeated.length > 0) console.log(`Crashed and ran again: ${repeated.join(", ")}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
