/**
 * @file `deno task inspect FILE`: what a file of weights or a run folder holds.
 *
 *   deno task inspect resnet50-11ad3fa6.pth
 *   deno task inspect https://example.org/model.safetensors
 *   deno task inspect runs/letters-20260504-133700
 *
 * Of safetensors files and PyTorch's only the headers are read, or fetched, whatever their size. Needs no GPU.
 */

import { nn } from "../mod.ts";
import { printable } from "../nn/format_error.ts";
import { openParts } from "../nn/io/parts.ts";
import { isSafetensors } from "../nn/io/safetensors_format.ts";
import { remoteUrl } from "../nn/io/source.ts";
import { isZip, readZipDirectory } from "../nn/io/zip.ts";
import { decodeMetrics } from "../nn/run/metrics_csv.ts";
import { defineFlags, runMain, userPath } from "./_args.ts";
import { formatBytes, splitArguments } from "./_files.ts";

const COMMAND = "deno task inspect";
const NAMES = ["FILE"] as const;

const FLAGS = defineFlags({
  key: { type: "string", help: "Where a PyTorch file has its tensors, e.g. state_dict" },
  names: { type: "string", help: "Only tensors whose names hold this text" },
}, {
  command: `${COMMAND} ${NAMES.join(" ")}`,
  about:
    "Lists names, types, shapes and sizes of the tensors in a file, or what a run folder holds.",
});

/** What a file of weights holds. */
interface Listing {
  readonly format: string;
  /** Bytes of the file. */
  readonly size: number;
  readonly tensors: readonly (readonly [string, nn.io.WeightInfo])[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** Runs it. */
export async function main(args: readonly string[]): Promise<number> {
  const { files, flags } = splitArguments(args, { names: NAMES, command: COMMAND });
  const { options } = FLAGS.parse(flags);
  const path = remoteUrl(files[0]!)?.href ?? userPath(files[0]!);
  const isFolder = (await Deno.stat(path).catch(() => undefined))?.isDirectory ?? false;
  if (isFolder) { for (const line of await describeRun(path)) console.log(line); }
  const file = isFolder ? weightsOf(path) : path;
  if (file === undefined) return 0;
  for (const line of describe(file, await list(file, options.key), options.names ?? "")) {
    console.log(line);
  }
  return 0;
}

/** The tensors of a file, by its header where the format has one. */
async function list(path: string, key: string | undefined): Promise<Listing> {
  const { kind, size } = await kindOf(path);
  if (kind !== undefined) {
    using file = await nn.io.openWeights(path, { key });
    const isCheckpoint = file.metadata["lathe.checkpoint"] !== undefined;
    return { format: isCheckpoint ? "checkpoint" : kind, size, ...infos(file) };
  }
  const { format, arrays, metadata } = await nn.io.readWeights(path, { key });
  const tensors = Object.entries(arrays).map(([name, { dtype, shape, data }]) =>
    [name, { dtype, shape, byteLength: data.byteLength }] as const
  );
  return { format, size, tensors, metadata };
}

function infos(file: nn.io.WeightFile): Pick<Listing, "tensors" | "metadata"> {
  return {
    tensors: file.names.map((name) => [name, file.info(name)]),
    metadata: file.metadata,
  };
}

/** Which of the formats with a header a file has, and its size. */
async function kindOf(
  path: string,
): Promise<{ kind?: "safetensors" | "torch"; size: number }> {
  using parts = await openParts(path);
  const { range, file } = parts, size = range.length;
  return await parts.read(() => {
    if (isSafetensors(range)) return { kind: "safetensors", size };
    if (!isZip(range.subarray(0, 4))) return { size };
    const names = [...readZipDirectory(range, { file }).keys()];
    return names.some((name) => name.endsWith("/data.pkl")) ? { kind: "torch", size } : { size };
  });
}

/** The lines for a file of weights. */
function describe(
  path: string,
  { format, size, tensors, metadata }: Listing,
  part: string,
): string[] {
  const total = tensors.reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
  const shown = tensors.filter(([name]) => name.includes(part)).map(([name, info]) => [
    printable(name),
    info.dtype,
    `[${info.shape.join(", ")}]`,
    grouped(info.byteLength),
  ]);
  // A checkpoint has the optimizer's tensors as well.
  const own = format === "checkpoint"
    ? tensors.filter(([name]) => name.startsWith("model."))
    : tensors;
  const learned = own.filter(([name]) => !isStatistic(name));
  const numbers = learned.reduce((sum, [, { shape }]) => sum + count(shape), 0);
  const dtypes = [...new Set(tensors.map(([, { dtype }]) => dtype))].join(", ");
  return [
    `${path}: ${format}, ${formatBytes(size)}`,
    "",
    ...columns([["Name", "Type", "Shape", "Bytes"], ...shown]),
    "",
    `${tensors.length} tensors of ${dtypes || "nothing"}, ${formatBytes(total)}`,
    `${grouped(numbers)} parameters` +
    (learned.length < own.length ? ", statistics of normalisations aside" : ""),
    ...Object.entries(metadata).map(([key, value]) => `${printable(key)}: ${printable(value)}`),
  ];
}

/** Whether a name is that of what a normalisation counts, not learns. */
function isStatistic(name: string): boolean {
  return /(^|\.)(running_mean|running_var|num_batches_tracked)$/.test(name);
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** `1,234,567` */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Rows of cells in columns as wide as their widest; the last one is aligned to the right. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row.map((cell, i) => i === row.length - 1 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))
      .join("  ")
  );
}

/** The lines for a run folder. */
async function describeRun(dir: string): Promise<string[]> {
  const config = nn.run.readConfig(dir);
  const { experiment, preset, seed, adapter, created, versions, options } = config;
  const files = [...Deno.readDirSync(dir)].filter(({ isFile }) => isFile).map(({ name }) => name);
  const metrics = `${dir}/metrics.csv`;
  const table = files.includes("metrics.csv")
    ? await decodeMetrics(await Deno.readFile(metrics), { file: metrics })
    : undefined;
  const last = table === undefined || table.count === 0
    ? ["none"]
    : table.columns.map((name) => `${name} ${table.values[name]![table.count - 1]}`);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return [
    `${dir}: a run of ${experiment}${preset === undefined ? "" : `, preset ${preset}`}`,
    `Seed: ${seed}`,
    `Adapter: ${adapter ?? "unknown"}`,
    `Created: ${created}`,
    `Versions: ${Object.entries(versions).map(([name, v]) => `${name} ${v}`).join(", ")}`,
    `Options: ${given.map(([name, value]) => `${name} ${value}`).join(", ")}`,
    `Epochs: ${table?.count ?? 0}`,
    `Last row: ${last.join(", ")}`,
    `Files: ${
      files.toSorted().map((name) =>
        `${name} (${formatBytes(Deno.statSync(`${dir}/${name}`).size)})`
      )
        .join(", ")
    }`,
    "",
  ].map((line) => line === "" ? line : printableLine(line));
}

/** A line without what a terminal obeys, at its full length. */
function printableLine(line: string): string {
  return line.replace(/.{1,250}/gsu, printable);
}

/** The weights that a run folder has, the best first. */
function weightsOf(dir: string): string | undefined {
  const names = ["best.safetensors", "last.safetensors", "checkpoint.safetensors"];
  return names.map((name) => `${dir}/${name}`).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

if (import.meta.main) await runMain(() => main(Deno.args));
