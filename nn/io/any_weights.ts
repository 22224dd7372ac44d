/** @file The weights in a file of any format, told by its content. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { joinState, StateFault } from "./checkpoint_state.ts";
import type { HostArray } from "./host_array.ts";
import { quote } from "./json_scan.ts";
import { decodeMxnetParams } from "./mxnet.ts";
import { decodeNpy, decodeNpz } from "./npy.ts";
import { decodeSafetensors, isSafetensors } from "./safetensors_format.ts";
import { type ByteSource, hasFiles, pathOf, readSource, remoteUrl } from "./source.ts";
import { decodeTorch, selectTensors } from "./torch.ts";
import { isZip, readZip } from "./zip.ts";

/** What a file of weights is. */
export type WeightFormat =
  | "safetensors"
  | "checkpoint"
  | "torch"
  | "torch (before 1.6)"
  | "npy"
  | "npz"
  | "mxnet";

/** The weights of a file, on the host and in its dtypes. */
export interface HostWeights {
  /** The format, by the content. */
  format: WeightFormat;
  /** The file that was read: for a run folder, the one in it. */
  file: string;
  /** Arrays by name. */
  arrays: Record<string, HostArray>;
  /** Strings that the file keeps beside them. */
  metadata: Record<string, string>;
}

/** Options of {@linkcode readWeights}. */
export interface ReadWeightsOptions {
  /**
   * Where a PyTorch file has its tensors, as the option of `loadTorch`. Default: the dict under
   * `state_dict`, `model_state_dict` or `model` if there is one, else the file's value.
   */
  key?: string | readonly string[];
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/** Where training scripts put the weights among other things. */
const KEYS = ["state_dict", "model_state_dict", "model"];
/** What a run folder has weights in, the best first. */
const RUN_FILES = ["best.safetensors", "last.safetensors", "checkpoint.safetensors"];
const CHECKPOINT_KEY = "lathe.checkpoint";

/**
 * Reads the weights of a file: safetensors, a checkpoint (its `model`), PyTorch's `.pth` of both forms,
 * `.npz`, `.npy` (as `array`), MXNet's `.params` (without `arg:` and `aux:`), or of a run folder, whose best
 * weights are taken. The content tells the format, not the name.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `key` for the state dict in a PyTorch file.
 * @throws {FormatError} If the file is of no such format, or damaged.
 * @throws {Deno.errors.NotFound} If there is no such file.
 */
export async function readWeights(
  source: ByteSource,
  options: ReadWeightsOptions = {},
): Promise<HostWeights> {
  checkOptions("readWeights", options, 'readWeights(source, { key: "model" })');
  const { bytes, file } = await readSource(await weightSource(source), options.file);
  if (isSafetensors(bytes)) return readSafetensors(bytes, file);
  if (isZip(bytes)) return await readArchive(bytes, { ...options, file });
  const magic = bytes.subarray(0, 8);
  if (magic[0] === 0x93) {
    return { format: "npy", file, arrays: { array: decodeNpy(bytes, { file }) }, metadata: {} };
  }
  if (magic[0] === 0x80) return await readTorch(bytes, { ...options, file });
  if (magic[0] === 0x12 && magic[1] === 1 && magic.subarray(2).every((byte) => byte === 0)) {
    const stripPrefix = ["arg:", "aux:"];
    const arrays = decodeMxnetParams(bytes, { file, stripPrefix });
    return { format: "mxnet", file, arrays, metadata: {} };
  }
  throw new FormatError("no weights of a known format", {
    file,
    offset: 0,
    expected: "safetensors, PyTorch's .pth, .npz, .npy or MXNet's .params",
  });
}

function readSafetensors(bytes: Uint8Array, file: string): HostWeights {
  const { tensors, metadata } = decodeSafetensors(bytes, { file });
  if (metadata[CHECKPOINT_KEY] === undefined) {
    return { format: "safetensors", file, arrays: tensors, metadata };
  }
  return {
    format: "checkpoint",
    file,
    arrays: modelOf(tensors, { file, state: metadata.state }),
    metadata,
  };
}

/** The source itself, or the best weights in a run folder. */
export async function weightSource(source: ByteSource): Promise<ByteSource> {
  const named = typeof source === "string" || source instanceof URL;
  if (!named || !hasFiles() || remoteUrl(source)) return source;
  const name = pathOf(source);
  const stat = await Deno.stat(source).catch(() => undefined);
  if (!stat?.isDirectory) return source; // reading says what is wrong with it
  for (const file of RUN_FILES) {
    const inside = `${name.replace(/\/$/, "")}/${file}`;
    if ((await Deno.stat(inside).catch(() => undefined))?.isFile) return inside;
  }
  throw new Deno.errors.NotFound(
    `Cannot read ${name}: the folder has none of ${RUN_FILES.join(", ")}`,
  );
}

async function readArchive(
  bytes: Uint8Array,
  options: ReadWeightsOptions & { file: string },
): Promise<HostWeights> {
  const { file } = options;
  const names = [...readZip(bytes, { file }).keys()];
  if (names.some((name) => name.endsWith("/data.pkl"))) return await readTorch(bytes, options);
  return { format: "npz", file, arrays: await decodeNpz(bytes, { file }), metadata: {} };
}

async function readTorch(
  bytes: Uint8Array,
  options: ReadWeightsOptions & { file: string },
): Promise<HostWeights> {
  const { file } = options;
  const root = await decodeTorch(bytes, { file });
  const tensors = selectTensors(root, { file, key: options.key ?? findKey(root) });
  const format = isZip(bytes) ? "torch" : "torch (before 1.6)";
  const arrays = Object.fromEntries(tensors.map(([name, tensor]) => [name, tensor.host()]));
  return { format, file, arrays, metadata: {} };
}

/** Where the state dict is in a PyTorch file's value. One that is the value itself holds no dicts. */
export function findKey(root: unknown): string[] {
  if (!(root instanceof Map)) return [];
  const key = KEYS.find((key) => root.get(key) instanceof Map);
  return key === undefined ? [] : [key, ...findKey(root.get(key))];
}

/** The model's part of a checkpoint: the arrays under every name that its state has for them. */
function modelOf(
  arrays: Record<string, HostArray>,
  { file, state }: { file: string; state: string | undefined },
): Record<string, HostArray> {
  const fault = (what: string, expected: string) =>
    new FormatError(what, { file, offset: 8, expected });
  const part = (name: string): HostArray => {
    if (Object.hasOwn(arrays, name)) return arrays[name]!;
    throw new StateFault(`no array ${quote(name)}`);
  };
  let root: unknown;
  try {
    root = joinState(JSON.parse(state ?? "null"), { tensor: part, array: part });
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof StateFault)) throw error;
    throw fault(`a checkpoint with ${error.message}`, "the state that saveCheckpoint wrote");
  }
  const own = new Map<string, HostArray>();
  collect(isRecord(root) ? root.model : undefined, "", own);
  if (own.size === 0) throw fault("a checkpoint without model", 'the model\'s state under "model"');
  return Object.fromEntries(own);
}

/** Arrays inside records, by their dotted path. */
function collect(value: unknown, path: string, into: Map<string, HostArray>): void {
  if (!isRecord(value)) return;
  if (ArrayBuffer.isView(value.data)) {
    into.set(path, value as unknown as HostArray);
    return;
  }
  for (const [name, inner] of Object.entries(value)) {
    collect(inner, path === "" ? name : `${path}.${name}`, into);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
