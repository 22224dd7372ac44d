/** @file Runs the letters experiment in a process of its own, as a user does. */

import { decodeSafetensors } from "../../nn/io/safetensors_format.ts";

const SCRIPT = new URL("../../experiments/letters.ts", import.meta.url).href;

/** The smallest run that still has several steps and epochs. */
export const TINY = [
  ...["--letters", "260", "--test-letters", "52", "--size", "63", "--width", "0.125"],
  ...["--batch-size", "16", "--epochs", "3", "--dropout", "0.2"],
];

/** Where and how to run it. */
export interface RunOptions {
  readonly cwd: string;
  /** Default: the repository's letters.ts. */
  readonly script?: string;
  /** Default: what the task grants. */
  readonly permissions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Takes the standard output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** How a run ended. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A run that is going on. */
export interface Running {
  /** Resolves when standard output holds `text`. */
  saw(text: string): Promise<void>;
  kill(signal: Deno.Signal): void;
  readonly outcome: Promise<Outcome>;
}

/** Starts the experiment in `cwd` with the permissions a task has. */
export function startLetters(
  args: readonly string[],
  options: RunOptions,
): Running {
  const child = new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      ...options.permissions ?? [
        "--allow-read",
        "--allow-write",
        "--allow-sys=systemMemoryInfo",
      ],
      options.script ?? SCRIPT,
      ...args,
    ],
    cwd: options.cwd,
    env: { INIT_CWD: options.cwd, NO_COLOR: "1", ...options.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let stdout = "";
  const waiting: { text: string; found: () => void }[] = [];
  const read = (async () => {
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      stdout += part;
      options.onOutput?.(part);
      for (const w of waiting) if (stdout.includes(w.text)) w.found();
    }
  })();
  const errors = new Response(child.stderr).text();
  const outcome = (async () => {
    const [{ code }, stderr] = await Promise.all([child.status, errors, read]);
    return { code, stdout, stderr };
  })();
  return {
    saw: (text) =>
      new Promise((resolve, reject) => {
        if (stdout.includes(text)) return resolve();
        waiting.push({ text, found: resolve });
        outcome.then((o) => reject(new Error(`The run ended without "${text}": ${o.stderr}`)));
      }),
    kill: (signal) => child.kill(signal),
    outcome,
  };
}

/** Tensors of a run's checkpoint, as text; not the times beside them. */
export function savedTensors(dir: string): Record<string, string> {
  const { tensors } = decodeSafetensors(Deno.readFileSync(`${dir}/checkpoint.safetensors`));
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data }]) => [
      name,
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength).toHex(),
    ]),
  );
}

/** Runs the experiment to its end. */
export function runLetters(
  args: readonly string[],
  options: RunOptions,
): Promise<Outcome> {
  return startLetters(args, options).outcome;
}
