/**
 * @file `deno task bench:compiled`: what a GPU's compiler makes of the kernels, without the GPU. Mesa's driver for
 * NVIDIA GPUs (NVK) runs here on a device that does nothing, so nothing can be timed and results are wrong, but
 * every kernel is compiled as for an RTX 3080, and the driver prints the machine code:
 *
 *   kernel      registers  warps  spills  instructions  loop  multiplies
 *
 * Of a training step it also says what a replay and a plain step cost the host: JavaScript, wgpu and the driver,
 * with nothing to wait for.
 *
 * Registers are of a thread; warps those that fit on a multiprocessor (48 at most); spills go to memory; loop is
 * the instructions of the innermost loop with the most multiplications, and what share of it multiplies. NVIDIA's
 * own driver compiles otherwise, so take it for what grows and what shrinks, not for a speed.
 *
 * It needs Mesa 26 with its shim for DRM. Where the system's is older, another Debian in a folder will do:
 *
 *   debootstrap --variant=minbase --include=mesa-vulkan-drivers,mesa-drm-shim,libvulkan1,ca-certificates sid DIR
 *
 * with this project, a `deno` and `~/.cache/deno` in it, and the task run by `chroot DIR`.
 */

import { defineFlags, GPU_FLAG, runMain, UsageError } from "../experiments/_args.ts";
import { nameOf } from "./work.ts";
import { steps } from "./workloads.ts";

const FLAGS = defineFlags({
  filter: {
    type: "string",
    default: "gemm 2048",
    help: "Workloads of `deno task bench` whose name or origin has this text",
  },
  batch: {
    type: "integer",
    min: 1,
    default: 64,
    help: "Images in a batch, and at most in that of a training step",
  },
  chip: {
    type: "string",
    default: "172",
    help:
      "The chip in hexadecimal, as the kernel's driver numbers it: 162 Turing, 172 Ampere, 192 Ada",
  },
  gpu: GPU_FLAG,
}, {
  command: "deno task bench:compiled",
  about: "Shows what Mesa's compiler for NVIDIA GPUs makes of the kernels, without a GPU.",
});

const SHIM = "/usr/lib/x86_64-linux-gnu/libnouveau_noop_drm_shim.so";
const DRIVER = "/usr/share/vulkan/icd.d/nouveau_icd.json";
/** What the driver writes before the code of a kernel, and after it. */
const BEGIN = "NAK IR after calc_instr_deps:";
const END = "Encoded shader:";
/** Lines of a process that are shown if it ends early. */
const LAST_LINES = 20;
/** What the process that runs the work writes before a kernel is compiled. */
const KERNEL = "LATHE KERNEL ";

/** A kernel's machine code in numbers. */
export interface Compiled {
  readonly registers: number;
  readonly warps: number;
  readonly spills: number;
  readonly instructions: number;
  /** Instructions of the loop that multiplies most, and those that multiply; zeros where none does. */
  readonly loop: number;
  readonly multiplies: number;
}

interface Block {
  readonly instructions: number;
  readonly multiplies: number;
  readonly next: readonly number[];
}

/** The blocks of a kernel in what the driver prints. */
function blocksOf(text: string): Map<number, Block> {
  const blocks = new Map<number, Block>();
  for (
    const match of text.matchAll(/^block(?:\.u)? (\d+)[^\n]*\{\n([\s\S]*?)^\} -> \[([^\]]*)\]/gm)
  ) {
    const names = match[2]!.split("\n").flatMap((line) =>
      /^\s*(?:@\S+\s+)?(?:[^=/]*=\s*)?([a-z][\w.]*)/.exec(line)?.[1] ?? []
    );
    blocks.set(Number(match[1]), {
      instructions: names.length,
      multiplies: names.filter((n) => /^(ffma|hmma|hfma)/.test(n)).length,
      next: match[3]!.split(",").filter((n) => n.trim() !== "").map(Number),
    });
  }
  return blocks;
}

/** The blocks of the natural loop that ends with a jump back from `last` to `first`. */
function loopOf(blocks: ReadonlyMap<number, Block>, first: number, last: number): Set<number> {
  const loop = new Set([first, last]);
  const open = last === first ? [] : [last];
  while (open.length > 0) {
    const at = open.pop()!;
    for (const [id, { next }] of blocks) {
      if (!next.includes(at) || loop.has(id)) continue;
      loop.add(id);
      open.push(id);
    }
  }
  return loop;
}

/** Reads what the driver prints of a kernel, from its last form to its statistics. */
export function compiledOf(text: string): Compiled {
  const number = (label: string) => Number(new RegExp(`^${label}: (\\d+)`, "m").exec(text)?.[1]);
  const blocks = blocksOf(text);
  let best = { loop: 0, multiplies: 0 };
  for (const [last, { next }] of blocks) {
    for (const first of next.filter((n) => n <= last)) {
      const parts = [...loopOf(blocks, first, last)].map((id) => blocks.get(id)!);
      const multiplies = parts.reduce((n, b) => n + b.multiplies, 0);
      const loop = parts.reduce((n, b) => n + b.instructions, 0);
      const tighter = multiplies === best.multiplies && loop < best.loop;
      if (multiplies > best.multiplies || multiplies > 0 && tighter) best = { loop, multiplies };
    }
  }
  return {
    registers: number("Num GPRs"),
    warps: number("Max warps/SM"),
    spills: number("Spills to mem"),
    instructions: number("Instruction count"),
    ...best,
  };
}

/** A line of the table. */
export function compiledLine(name: string, c: Compiled): string {
  const share = c.loop === 0 ? "" : `${Math.round(100 * c.multiplies / c.loop)} %`;
  const numbers = [c.registers, c.warps, c.spills, c.instructions, c.loop || "", share];
  return `${name.padEnd(56)} ${numbers.map((n) => `${n}`.padStart(11)).join(" ")}`;
}

/**
 * Kernels in what the two processes write, as they come; a text that no kernel was named for is left out. `other`
 * gets the lines between.
 */
export async function* kernelsIn(
  lines: AsyncIterable<string>,
  other: (line: string) => void = () => {},
): AsyncGenerator<{ name: string; compiled: Compiled }> {
  let name = "";
  let text: string[] | null = null;
  for await (const line of lines) {
    if (line.startsWith(KERNEL)) name = line.slice(KERNEL.length);
    else if (line.startsWith(BEGIN)) text = [];
    else if (line.startsWith(END) && text) {
      if (name) yield { name, compiled: compiledOf(text.join("\n")) };
      [name, text] = ["", null];
    } else if (text) text.push(line);
    else other(line);
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const part of stream.pipeThrough(new TextDecoderStream() as never)) {
    const lines = (rest + part).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** Whether a file is there. */
async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Starts the process that runs the work, on the device that does nothing. */
function run(args: string[], chip: string): Deno.ChildProcess {
  const file = new URL("./compiled_run.ts", import.meta.url).href;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-lock", "-A", file, ...args],
    env: {
      LD_PRELOAD: SHIM,
      NOUVEAU_CHIPSET: chip,
      NVK_I_WANT_A_BROKEN_VULKAN_DRIVER: "1",
      NAK_DEBUG: "print",
      MESA_SHADER_CACHE_DISABLE: "1",
      VK_ICD_FILENAMES: DRIVER,
      VK_DRIVER_FILES: DRIVER,
    },
    stdin: "null",
    stdout: "inherit",
    stderr: "piped",
  }).spawn();
}

async function main(): Promise<void> {
  const { options } = FLAGS.parse(Deno.args);
  for (const path of [SHIM, DRIVER]) {
    if (!await exists(path)) {
      throw new UsageError(
        `Cannot compile for a GPU that is not here: there is no ${path}. Debian's packages mesa-drm-shim and ` +
          "mesa-vulkan-drivers have it, from Mesa 26 on; bench/compiled.ts says how to run them beside this system",
      );
    }
  }
  const titles = ["registers", "warps", "spills", "instr.", "loop", "multiplies"];
  console.log(`${"kernel".padEnd(56)} ${titles.map((t) => t.padStart(11)).join(" ")}`);
  const lines = new Set<string>();
  // Steps have a process each: the device has 3 GiB, and a process gives nothing back.
  const names = steps(false).filter(({ work, from }) =>
    `${nameOf(work)} ${from}`.includes(options.filter)
  ).map(({ work }) => nameOf(work));
  let failed = 0;
  for (const name of ["", ...names]) {
    const child = run([options.filter, `${options.batch}`, options.gpu, name], options.chip);
    const last: string[] = [];
    const keep = (line: string) => last.push(line) > LAST_LINES && last.shift();
    for await (const { name, compiled } of kernelsIn(linesOf(child.stderr), keep)) {
      const line = compiledLine(name, compiled);
      if (!lines.has(line)) console.log(line);
      lines.add(line);
    }
    if ((await child.status).success) continue;
    failed++;
    console.error(`The process that runs ${name || "the work"} ended early:\n${last.join("\n")}`);
  }
  if (failed > 0) throw new Error(`${failed} of ${names.length + 1} processes ended early`);
  if (lines.size === 0) {
    throw new UsageError(
      `No kernel was compiled: no workload may have "${options.filter}" in its name or origin`,
    );
  }
}

if (import.meta.main) await runMain(main);
