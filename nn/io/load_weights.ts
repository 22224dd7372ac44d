/** @file Loads the weights of a file into a model and says what does not fit. */

import { checkOptions } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import type { Module } from "../module.ts";
import { describeMisfits, type Misfits } from "../state_dict.ts";
import { readWeights, type ReadWeightsOptions, type WeightFormat } from "./any_weights.ts";
import type { HostArray } from "./host_array.ts";
import { type EngineArray, fromEngine, toEngine } from "./safetensors.ts";
import type { ByteSource } from "./source.ts";

/** Options of {@linkcode loadWeights}. */
export interface LoadWeightsOptions extends ReadWeightsOptions {
  /**
   * Modules whose weights need not fit, e.g. `"fc"` for another number of classes: what is missing,
   * unexpected or of another shape there is left as the model has it. Default none.
   */
  except?: string | readonly string[];
  /** Text to remove from the front of names that begin with it. Default `module.` and `_orig_mod.`. */
  stripPrefix?: string | readonly string[];
}

/** What {@linkcode loadWeights} did. */
export interface WeightsReport extends Misfits {
  /** The file that was read. */
  file: string;
  /** Its format. */
  format: WeightFormat;
  /** Names of the tensors that were loaded. */
  loaded: string[];
}

/** The weights of a file do not fit a model. */
export class WeightsError extends TypeError {
  override name = "WeightsError";
}

/** What DataParallel and torch.compile put in front of every name. */
const WRAPPERS = ["module.", "_orig_mod."];

/**
 * Loads weights into a model by name: from any file that {@linkcode readWeights} reads, or the best ones of
 * a run folder. Dtypes become the model's. Nothing changes unless everything fits, `except` aside.
 * `num_batches_tracked`, which files of old versions lack, may be missing.
 *
 * @param model The model.
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `except` for layers that are to be trained anew, `key` and `stripPrefix` for names.
 * @returns What was loaded, and the names under `except` that were not.
 * @throws {WeightsError} If names are missing or unexpected or shapes differ; the message lists them.
 * @throws {FormatError} If the file is damaged or a value fits no dtype of the engine.
 *
 * @example
 * ```ts
 * import { init, nn } from "../../mod.ts";
 *
 * await init();
 * const model = nn.models.resnet50({ numClasses: 10 });
 * const { missing } = await nn.io.loadWeights(model, "resnet50-11ad3fa6.pth", { except: "fc" });
 * ```
 */
export async function loadWeights(
  model: Module,
  source: ByteSource,
  options: LoadWeightsOptions = {},
): Promise<WeightsReport> {
  checkOptions("loadWeights", options, 'loadWeights(model, source, { except: "fc" })');
  const { file, format, arrays } = await readWeights(source, options);
  const state = model.stateDict();
  const given = stripNames(arrays, { state, prefixes: options.stripPrefix ?? WRAPPERS });
  const misfits = compare(state, given);
  const excused = (name: string) => list(options.except ?? []).some((m) => isUnder(name, m));
  const faults: Misfits = {
    missing: misfits.missing.filter((n) => !excused(n) && !n.endsWith("num_batches_tracked")),
    unexpected: misfits.unexpected.filter((name) => !excused(name)),
    mismatched: misfits.mismatched.filter(({ name }) => !excused(name)),
  };
  const text = describeMisfits(faults);
  if (text.length > 0) {
    throw new WeightsError(
      `Cannot load ${file} into ${model.constructor.name}:\n  ${text.join("\n  ")}`,
    );
  }
  const skipped = new Set([...misfits.missing, ...misfits.mismatched.map(({ name }) => name)]);
  const loaded = Object.keys(state).filter((name) => !skipped.has(name));
  const converted = loaded.map((name): [string, EngineArray] => {
    return [name, toModelDtype(given[name]!, state[name]!, { name, file })];
  });
  const tensors = converted.map(([name, array]): [string, Tensor] => [name, fromEngine(array)]);
  try {
    model.loadStateDict(Object.fromEntries(tensors), { strict: false });
  } finally {
    for (const [, tensor] of tensors) tensor.dispose();
  }
  return { file, format, loaded, ...misfits };
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}

function isUnder(name: string, module: string): boolean {
  return name === module || name.startsWith(`${module}.`);
}

/** The arrays without the prefixes that all of them share and the model does not have. */
function stripNames(
  arrays: Record<string, HostArray>,
  options: { state: Readonly<Record<string, Tensor>>; prefixes: string | readonly string[] },
): Record<string, HostArray> {
  let entries = Object.entries(arrays);
  const own = Object.keys(options.state);
  for (let again = true; again;) {
    again = false;
    for (const prefix of list(options.prefixes)) {
      const all = entries.length > 0 && entries.every(([name]) => name.startsWith(prefix));
      if (prefix === "" || !all || own.some((name) => name.startsWith(prefix))) continue;
      entries = entries.map(([name, array]) => [name.slice(prefix.length), array]);
      again = true;
    }
  }
  return Object.fromEntries(entries);
}

function compare(
  state: Readonly<Record<string, Tensor>>,
  given: Readonly<Record<string, HostArray>>,
): Misfits {
  const own = Object.keys(state);
  return {
    missing: own.filter((name) => !Object.hasOwn(given, name)),
    unexpected: Object.keys(given).filter((name) => !Object.hasOwn(state, name)),
    mismatched: own.flatMap((name) => {
      if (!Object.hasOwn(given, name)) return [];
      const [expected, found] = [state[name]!.shape, given[name]!.shape];
      const same = expected.length === found.length && expected.every((n, d) => n === found[d]);
      return same ? [] : [{ name, found: [...found], expected: [...expected] }];
    }),
  };
}

/** An array in the dtype of the tensor it is for. */
function toModelDtype(
  array: HostArray,
  { dtype }: Tensor,
  at: { name: string; file: string },
): EngineArray {
  if (array.dtype === "F16" && dtype === "f32") {
    return { dtype, shape: array.shape, data: Float32Array.from(array.data as Float16Array) };
  }
  const own = toEngine(array, at);
  if (own.dtype === "f32" && dtype === "f16") {
    return { dtype, shape: own.shape, data: Float16Array.from(own.data) };
  }
  return own;
}
