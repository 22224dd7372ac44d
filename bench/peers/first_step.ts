/**
 * @file A program of its own: the time of the first training steps of the MoCo ConvNet in a process that
 * has compiled nothing yet. `first_step.ts lathe|tfjs` prints milliseconds as JSON.
 */

import { init, manualSeed, readAll } from "../../mod.ts";
import { drawSpecs } from "../lathe.ts";
import { convNetInputs } from "./conv_net.ts";
import { lathe } from "./lathe.ts";
import type { HostInput, Library } from "./library.ts";
import { tensorflow } from "./tfjs.ts";

/** Milliseconds of the first step, compilation included, and of the third. */
export interface FirstSteps {
  readonly first: number;
  readonly third: number;
}

/** Images in a batch. */
const N = 64;

/** Runs `library` in a new process with the shader cache of Mesa off. */
export async function firstSteps(library: "lathe" | "tfjs"): Promise<FirstSteps> {
  const { success, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      `--lock=${new URL("../deno.lock", import.meta.url).pathname}`,
      import.meta.url,
      library,
    ],
    env: { MESA_SHADER_CACHE_DISABLE: "true" },
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(decoder.decode(stderr).trim().split("\n").at(-1));
  return JSON.parse(decoder.decode(stdout).trim().split("\n").at(-1)!) as FirstSteps;
}

async function main(name: string): Promise<void> {
  await init();
  manualSeed(1);
  const specs = convNetInputs(N);
  const data = await readAll(drawSpecs(specs));
  const inputs = specs.map(({ shape }, i) => ({ shape, data: data[i] as HostInput["data"] }));
  const library: Library = name === "tfjs" ? await tensorflow() : lathe();
  const job = (await library.prepare(
    { op: "step", model: "MoCo ConvNet", n: N, side: 32 },
    inputs,
  ))!;
  await library.synchronize();
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await job.run();
    await library.synchronize();
    times.push(performance.now() - start);
  }
  console.log(JSON.stringify({ first: times[0], third: times[2] }));
}

if (import.meta.main) {
  await main(Deno.args[0]!);
  Deno.exit(0);
}
