/**
 * @file Says what adapter there is and what it can do: `deno task doctor`, or on Dawn `deno task doctor:dawn`.
 *
 * Features are found by trying them, rates by measuring, and the product that is timed is compared with
 * a float64 reference first. Exits with 1 where there is no adapter or a result is wrong.
 */

import {
  type DeviceInfo,
  init,
  type Limits,
  manualSeed,
  rand,
  readAll,
  scope,
  synchronize,
} from "../engine/mod.ts";
import { gpu, type Provider } from "../engine/gpu/device.ts";
import { defineFlags, GPU_FLAG, runMain } from "../experiments/_args.ts";
import { matricesDetail } from "../engine/gpu/matrices.ts";
import {
  type AdapterFacts,
  adapterFacts,
  type Backend,
  backendOf,
  dispatchCost,
  readbackMs,
  type Tried,
  tryF16,
  trySubgroups,
  tryTimestamps,
  vendorName,
} from "../engine/gpu/probe.ts";

/** A titled block of aligned lines: name, value, remark. */
export interface Section {
  readonly title: string;
  readonly rows: readonly (readonly [name: string, value: string, remark?: string])[];
}

/** How text is coloured; without colours each function gives its argument back. */
interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
}

function paint(colours: boolean): Paint {
  const code = (n: number) => (text: string) => colours ? `\x1b[${n}m${text}\x1b[0m` : text;
  return { bold: code(1), dim: code(2), good: code(32), bad: code(33) };
}

/** Sections as lines, with columns aligned over all of them. */
export function formatSections(
  sections: readonly Section[],
  { colours = false }: { colours?: boolean } = {},
): string[] {
  const { bold, dim, good, bad } = paint(colours);
  const rows = sections.flatMap((s) => s.rows);
  const width = Math.max(...rows.map(([name]) => name.length));
  const values = Math.max(...rows.filter((r) => r[2]).map(([, value]) => value.length));
  return sections.flatMap(({ title, rows }) => [
    "",
    bold(title),
    ...rows.map(([name, value, remark]) => {
      const shown = remark ? value.padEnd(values) : value;
      const painted = value === "yes" ? good(shown) : value === "no" ? bad(shown) : shown;
      return `  ${name.padEnd(width)}  ${painted}${remark ? `  ${dim(remark)}` : ""}`;
    }),
  ]).slice(1);
}

/** `text` in lines of at most `width` characters, the first one marked as an item of a list. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "-";
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > width) {
      lines.push(line);
      line = " ";
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

/** Bytes in the largest unit that leaves a whole number, e.g. `128 MiB`; limits are 1 short at times. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [bytes % 1024 === 1023 ? bytes + 1 : bytes, 0];
  while (value >= 1024 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return value < 10000 ? `${value} ${units[unit]}` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** The adapter in words. */
export function adapterSection(info: DeviceInfo, facts: AdapterFacts, backend: Backend): Section {
  return {
    title: "Adapter",
    rows: [
      ["name", info.adapter],
      ["vendor", vendorName(facts.vendor)],
      ...(facts.architecture ? [["architecture", facts.architecture] as const] : []),
      ["backend", backend],
      ["kind", info.software ? "software: a program on the CPU" : "hardware"],
    ],
  };
}

/** The limits that decide how large tensors and kernels may be. */
export function limitsSection(limits: Limits): Section {
  return {
    title: "Limits",
    rows: [
      [
        "binding",
        bytesText(limits.maxStorageBufferBindingSize),
        "largest window on a tensor that a kernel sees",
      ],
      ["buffer", bytesText(limits.maxBufferSize), "largest tensor"],
      ["buffers", `${limits.maxStorageBuffersPerShaderStage}`, "that one kernel binds"],
      [
        "grid",
        `${limits.maxComputeWorkgroupsPerDimension}`,
        "workgroups a dimension; larger work is folded",
      ],
      ["workgroup", `${limits.maxComputeInvocationsPerWorkgroup}`, "threads"],
      ["workgroup memory", bytesText(limits.maxComputeWorkgroupStorageSize)],
    ],
  };
}

/** What is worth doing about this adapter, as sentences; empty where all is well. */
export function advice(
  found: { software: boolean; backend: Backend; buffers: number; os: string; provider?: Provider },
): string[] {
  const lines: string[] = [];
  if (found.backend === "OpenGL") {
    lines.push(
      "Deno reached this adapter through OpenGL, which it falls back to where no Vulkan driver is " +
        "found: f16 and subgroups are missing and work is slower.",
      "Install a Vulkan driver: `deno task setup` does it on Debian and Ubuntu and says how elsewhere.",
    );
  }
  if (found.software) {
    lines.push(
      "This adapter is software: results are right, but training runs at the speed of the CPU. The " +
        "quick presets of the experiments are sized for it.",
    );
    // Dawn gives no more than 16 of any driver.
    if (found.backend === "Vulkan" && found.provider !== "dawn" && found.buffers < 48) {
      lines.push(
        `Its Mesa is older than 25 (${found.buffers} storage buffers, not 48): a newer one is 4 to 5 ` +
          "times faster. `deno task setup` says how to get it.",
      );
    }
    if (found.os === "linux") {
      lines.push(
        "If this machine has a GPU, install its Vulkan driver: for AMD and Intel the package " +
          "mesa-vulkan-drivers, for NVIDIA its own driver. `vulkaninfo --summary` lists what is found.",
      );
    }
  }
  return lines;
}

/** Rate of C = A · B for square matrices of size `n`, after its result was checked. */
async function gemm(n: number): Promise<{ gflops: number; ms: number; worst: number }> {
  const [a, b] = [rand([n, n]), rand([n, n])];
  try {
    const c = a.matmul(b);
    const [x, y, z] = await readAll([a, b, c]);
    c.dispose();
    const worst = worstError(n, { a: x!, b: y!, c: z! });
    const time = async (runs: number) => {
      const start = performance.now();
      scope(() => {
        for (let i = 0; i < runs; i++) a.matmul(b).dispose();
      });
      await synchronize();
      return performance.now() - start;
    };
    // Waiting costs 10 ms in Deno, so the time of one product is the difference of two stretches.
    let runs = 2;
    while (await time(runs) < 60 && runs < 1 << 14) runs *= 2;
    const samples: number[] = [];
    for (let i = 0; i < 3; i++) samples.push((await time(2 * runs) - await time(runs)) / runs);
    const ms = Math.max(samples.sort((p, q) => p - q)[1]!, 1e-6);
    return { gflops: 2 * n ** 3 / ms / 1e6, ms, worst };
  } finally {
    a.dispose();
    b.dispose();
  }
}

/** Largest error of C = A · B against float64, as a share of what rounding allows. */
export function worstError(
  n: number,
  { a, b, c }: Record<"a" | "b" | "c", ArrayLike<number>>,
): number {
  // n additions of products that are all positive: 16 · u · sqrt(n) · Σ|t|.
  const unit = 16 * 2 ** -24 * Math.sqrt(n);
  const row = new Float64Array(n);
  let worst = 0;
  for (let i = 0; i < n; i++) {
    row.fill(0);
    for (let k = 0; k < n; k++) {
      const left = a[i * n + k]!;
      for (let j = 0; j < n; j++) row[j]! += left * b[k * n + j]!;
    }
    for (let j = 0; j < n; j++) {
      const share = Math.abs(c[i * n + j]! - row[j]!) / (unit * row[j]!);
      worst = Math.max(worst, Number.isNaN(share) ? Infinity : share);
    }
  }
  return worst;
}

function triedRow(name: string, { works, detail }: Tried): [string, string, string] {
  return [name, works ? "yes" : "no", detail];
}

/** Runs every check and prints as it goes; gives the exit status. */
export async function doctor(
  write: (line: string) => void,
  { colours = false, os = Deno.build.os as string, provider = "native" }: {
    colours?: boolean;
    os?: string;
    provider?: Provider;
  } = {},
): Promise<number> {
  const facts = await adapterFacts({ provider });
  if (!facts) {
    write(
      "No WebGPU adapter was found: install a Vulkan driver (`deno task setup` says how, or does it " +
        "on Debian and Ubuntu)",
    );
    return 1;
  }
  const info = await init({ provider });
  const { device, limits } = gpu();
  const backend = backendOf(facts, os);
  const features: Section = {
    title: "Features, by trying",
    rows: [
      triedRow("shader-f16", await tryF16(device)),
      triedRow("subgroups", await trySubgroups(device)),
      triedRow("timestamp-query", await tryTimestamps(device)),
      triedRow("subgroup matrices", {
        works: info.matrixShapes.length > 0,
        detail: matricesDetail(info.matrixShapes),
      }),
    ],
  };
  const readback = await readbackMs(device, { runs: 9 });
  const cost = await dispatchCost(device, { dispatches: 1000, runs: 5 });
  manualSeed(0);
  const products = [{ n: 256, ...await gemm(256) }, { n: 512, ...await gemm(512) }];
  const speed: Section = {
    title: "Speed",
    rows: [
      ["readback", `${readback.toFixed(2)} ms`, "of 4 bytes, median of 9"],
      [
        "dispatch",
        `${cost.totalUs.toFixed(1)} µs`,
        `of an almost empty kernel, ${cost.encodeUs.toFixed(1)} µs of it to encode`,
      ],
      ...products.map(({ n, gflops, ms, worst }): [string, string, string] => [
        `matmul ${n}`,
        `${gflops.toFixed(gflops < 100 ? 1 : 0)} GFLOP/s`,
        worst <= 1
          ? `${ms.toFixed(2)} ms in f32; equal to float64 but for rounding`
          : "WRONG: its elements differ from float64 by more than rounding explains",
      ]),
    ],
  };
  const sections = [adapterSection(info, facts, backend), limitsSection(limits), features, speed];
  for (const line of formatSections(sections, { colours })) write(line);
  const buffers = facts.maxStorageBuffersPerShaderStage;
  const lines = advice({ software: info.software, backend, buffers, os, provider });
  if (lines.length > 0) write(`\n${paint(colours).bold("What this means")}`);
  for (const line of lines.flatMap((text) => wrap(text, 96))) write(`  ${line}`);
  return products.every(({ worst }) => worst <= 1) ? 0 : 1;
}

const FLAGS = defineFlags({ gpu: GPU_FLAG }, {
  command: "deno task doctor",
  about: "Says what adapter there is and what it can do.",
});

if (import.meta.main) {
  await runMain(async () => {
    const { options: { gpu: provider } } = FLAGS.parse(Deno.args);
    const colours = Deno.stdout.isTerminal() && !Deno.noColor;
    const code = await doctor((line) => console.log(line), { colours, provider });
    // Dawn's threads would keep the process.
    await synchronize().catch(() => {});
    Deno.exit(code);
  });
}
