/** @file Which layers apply the activation that follows them while they store their output. */

import type { Activation, Tensor } from "../../engine/mod.ts";
import { isWatched, passesThrough } from "../forward.ts";
import type { Layer, Module } from "../module.ts";
import { ReLU, Sigmoid, Tanh } from "./activation.ts";
import { GELU, Hardswish, SiLU } from "./activation_more.ts";
import { Conv2d, Conv2dSame } from "./conv.ts";
import { Linear } from "./linear.ts";
import { BatchNorm1d, BatchNorm2d, type NormThen, SplitBatchNorm2d } from "./norm.ts";

/** A layer whose forward takes a second argument. */
type Fusing = Module & { forward(x: Tensor, then?: NormThen): Tensor };

/** Activations by class. A subclass may be another function, so only these count. */
const ACTIVATIONS: ReadonlyMap<unknown, Activation> = new Map<unknown, Activation>([
  [ReLU, "relu"],
  [Sigmoid, "sigmoid"],
  [Tanh, "tanh"],
  [SiLU, "silu"],
  [Hardswish, "hardswish"],
]);

/** Layers by class: any activation, or those whose gradient follows from the output. */
const NORMS: ReadonlySet<unknown> = new Set([BatchNorm1d, BatchNorm2d, SplitBatchNorm2d]);
const PRODUCTS: ReadonlySet<unknown> = new Set([Linear, Conv2d, Conv2dSame]);
const AFTER_PRODUCTS: ReadonlySet<Activation> = new Set(["relu", "sigmoid", "tanh"]);

/** The activation that a layer is, if it is one of those. */
function activationOf(layer: Layer | undefined): Activation | undefined {
  if (!layer || !passesThrough(layer)) return undefined;
  if (layer instanceof GELU && layer.constructor === GELU) {
    return layer.approximate === "none" ? "gelu" : undefined;
  }
  return ACTIVATIONS.get(layer.constructor);
}

/**
 * The activation that `layer` can apply in the place of `next`: none where either has a forward of the
 * user's own, or where somebody is to be told of every module that runs.
 */
export function fusible(layer: Layer, next: Layer | undefined): Activation | undefined {
  const activation = activationOf(next);
  if (!activation || isWatched() || !passesThrough(layer)) return undefined;
  if (NORMS.has(layer.constructor)) return activation;
  return PRODUCTS.has(layer.constructor) && AFTER_PRODUCTS.has(activation) ? activation : undefined;
}

/** next(layer(x)), in one pass where {@linkcode fusible} allows. */
export function thenActivation(layer: Layer, x: Tensor, next: Layer): Tensor {
  const activation = fusible(layer, next);
  return activation ? (layer as Fusing).forward(x, { activation }) : next.forward(layer.forward(x));
}

/** next(norm(x) + residual()), in one pass where the layers allow. */
export function addThenActivation(
  norm: Layer,
  x: Tensor,
  { residual, next }: { residual: () => Tensor; next: Layer },
): Tensor {
  const activation = fusible(norm, next);
  if (!activation || !NORMS.has(norm.constructor)) {
    return next.forward(norm.forward(x).add(residual()));
  }
  const added = residual();
  return added.dtype === x.dtype
    ? (norm as Fusing).forward(x, { residual: added, activation })
    : next.forward(norm.forward(x).add(added));
}
