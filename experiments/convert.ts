/**
 * @file `deno task convert FROM TO`: weights from one format to another.
 *
 *   deno task convert resnet50-11ad3fa6.pth resnet50.safetensors
 *   deno task convert checkpoint.pth weights.npz --key state_dict --strip-prefix module.
 *
 * Reads safetensors, checkpoints and run folders, PyTorch's .pth and .pt, .npz, .npy and MXNet's .params;
 * writes safetensors and .npz. Needs no GPU: elements keep their bits and dtype.
 */

import { nn } from "../mod.ts";
import { safetensorsParts } from "../nn/io/safetensors_format.ts";
import { defineFlags, runMain, UsageError, userPath } from "./_args.ts";
import { formatBytes, splitArguments } from "./_files.ts";

const COMMAND = "deno task convert";
const NAMES = ["FROM", "TO"] as const;

const FLAGS = defineFlags({
  key: { type: "string", help: "Where a PyTorch file has its tensors, e.g. state_dict" },
  stripPrefix: { type: "string", help: "Text to remove from names that begin with it" },
  compress: { type: "boolean", default: false, help: "Deflate the arrays of an .npz file" },
}, {
  command: `${COMMAND} ${NAMES.join(" ")}`,
  about: "Converts weights: TO ends in .safetensors or .npz, FROM is anything that can be read.",
});

/** Runs it. */
export async function main(args: readonly string[]): Promise<number> {
  const { files, flags } = splitArguments(args, { names: NAMES, command: COMMAND });
  const { options } = FLAGS.parse(flags);
  const [from, to] = files.map(userPath) as [string, string];
  const write = to.endsWith(".safetensors") ? toSafetensors : to.endsWith(".npz") ? toNpz : null;
  if (!write) throw new UsageError(`Cannot write ${to}: its name must end in .safetensors or .npz`);
  const weights = await nn.io.readWeights(from, { key: options.key });
  const arrays = stripNames(weights.arrays, options.stripPrefix ?? "");
  const parts = await write({ ...weights, arrays }, options.compress);
  await nn.io.writeFileAtomic(to, parts);
  const size = parts.reduce((total, part) => total + part.length, 0);
  const count = Object.keys(arrays).length;
  console.log(
    `${weights.file} (${weights.format}) → ${to}: ${count} tensors, ${formatBytes(size)}`,
  );
  return 0;
}

/** What other readers take to be made by PyTorch names its format so. */
const METADATA = { format: "pt" };

function toSafetensors({ arrays, format, metadata }: nn.io.HostWeights): Uint8Array[] {
  return safetensorsParts(arrays, format === "safetensors" ? metadata : METADATA);
}

async function toNpz({ arrays }: nn.io.HostWeights, compress: boolean): Promise<Uint8Array[]> {
  const known = Object.entries(arrays).map(([name, array]): [string, nn.io.HostArray] => {
    if (array.dtype !== "BF16") return [name, array];
    // NumPy has no bf16; f32 holds each of its values.
    const bits = Uint32Array.from(array.data as Uint16Array, (word) => word << 16);
    return [name, { dtype: "F32", shape: array.shape, data: new Float32Array(bits.buffer) }];
  });
  const refused = known.find(([, { dtype }]) => /^(F4|F6|F8)/.test(dtype));
  if (refused) {
    throw new UsageError(`Cannot write "${refused[0]}" as npz: NumPy has no ${refused[1].dtype}`);
  }
  return [await nn.io.encodeNpz(Object.fromEntries(known), { compress })];
}

function stripNames(
  arrays: Record<string, nn.io.HostArray>,
  prefix: string,
): Record<string, nn.io.HostArray> {
  const renamed = new Map<string, nn.io.HostArray>();
  for (const [full, array] of Object.entries(arrays)) {
    const name = full.startsWith(prefix) ? full.slice(prefix.length) : full;
    if (renamed.has(name)) {
      throw new UsageError(`Cannot strip "${prefix}": two tensors would be named "${name}"`);
    }
    renamed.set(name, array);
  }
  return Object.fromEntries(renamed);
}

if (import.meta.main) await runMain(() => main(Deno.args));
