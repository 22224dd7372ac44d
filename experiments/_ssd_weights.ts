/** @file Weights for the detector from files: MXNet's under its own names, or any that `nn.io` reads. */

import { nn, type Tensor } from "../mod.ts";
import { FormatError } from "../nn/format_error.ts";

/**
 * Loads the weights of a file into a detector of this shape: `.params` of MXNet, a run folder, or what
 * `nn.io.loadWeights` reads.
 *
 * @throws {FormatError} MXNet's arrays are not those of such a detector, or the file is damaged.
 * @throws {WeightsError} Names or shapes of another file do not fit.
 */
export async function loadDetector(model: nn.models.ToySsd, path: string): Promise<void> {
  if (!path.endsWith(".params")) {
    await nn.io.loadWeights(model, path);
    return;
  }
  const loaded = fromMxnet(await nn.io.loadMxnetParams(path, { stripPrefix: ["arg:", "aux:"] }));
  const fault = (found: string, expected: string) =>
    new FormatError(found, { file: path, offset: 0, expected });
  if (loaded === undefined) {
    throw fault("names that are not ToySSD's", "body, downsamples, class_preds, box_preds");
  }
  const state = model.stateDict();
  for (const [name, { shape }] of Object.entries(state)) {
    // MXNet does not count batches.
    if (name.endsWith("num_batches_tracked")) loaded[name] ??= state[name]!;
    const given = loaded[name]?.shape;
    if (given?.join() === shape.join()) continue;
    const what = given ? `[${given.join(", ")}]` : "nothing";
    throw fault(`${what} for ${name}`, `[${shape.join(", ")}] (flags --width, --classes)`);
  }
  model.loadStateDict(loaded);
}

/** What MXNet calls the parts of a batch norm. */
const NORM: Readonly<Record<string, string>> = {
  gamma: "weight",
  beta: "bias",
  running_mean: "running_mean",
  running_var: "running_var",
};
/** Convolutions and batch norms in the order in which the notebook makes them. */
const CONVOLUTIONS = [
  ...blocks("downsamples", [0, 3]),
  ...[0, 1, 2, 3, 4].flatMap((i) => [`class_preds.${i}`, `box_preds.${i}`]),
  ...blocks("body", [0, 3]),
];
const NORMS = [...blocks("downsamples", [1, 4]), ...blocks("body", [1, 4])];

/** Names of the layers at some places of three blocks. */
function blocks(name: string, places: readonly number[]): string[] {
  return [0, 1, 2].flatMap((block) => places.map((place) => `${name}.${block}.${place}`));
}

/**
 * MXNet's arrays under the names of ToySSD, undefined if they are not those of one. Two ways of naming are
 * known: by place (`body.0.1.gamma`, of `save_parameters`) and by number of the layer in the order of
 * making (`conv16_weight`, `batchnorm6_gamma`, of the older `save_params`), counted from any number.
 */
export function fromMxnet(arrays: Record<string, Tensor>): Record<string, Tensor> | undefined {
  const byPlace = Object.keys(arrays).every((name) => /^[a-z_]+(\.\d+)+\.[a-z_]+$/.test(name));
  const named = byPlace ? Object.entries(arrays) : byNumber(arrays);
  if (!named) return undefined;
  return Object.fromEntries(named.map(([name, array]) => {
    const [, layer, kind] = /^(.*)\.(\w+)$/.exec(name) as unknown as [string, string, string];
    return [`${layer}.${NORM[kind] ?? kind}`, array];
  }));
}

/** The arrays by the places of their layers, whose numbers are ranked. */
function byNumber(arrays: Record<string, Tensor>): [string, Tensor][] | undefined {
  const parsed = Object.entries(arrays).map(([name, array]) => {
    const match = /(conv|batchnorm)(\d+)_(\w+)$/.exec(name);
    return { array, layer: match?.[1], number: Number(match?.[2]), kind: match?.[3] };
  });
  const numbers = (layer: string) =>
    [...new Set(parsed.filter((p) => p.layer === layer).map((p) => p.number))].sort((a, b) =>
      a - b
    );
  const ranks = { conv: numbers("conv"), batchnorm: numbers("batchnorm") };
  const complete = ranks.conv.length === CONVOLUTIONS.length &&
    ranks.batchnorm.length === NORMS.length;
  if (!complete) return undefined;
  const named: [string, Tensor][] = [];
  for (const { array, layer, number, kind } of parsed) {
    if (layer === undefined) return undefined;
    const places = layer === "conv" ? CONVOLUTIONS : NORMS;
    const rank = ranks[layer as keyof typeof ranks].indexOf(number);
    named.push([`${places[rank]}.${kind}`, array]);
  }
  return named;
}
