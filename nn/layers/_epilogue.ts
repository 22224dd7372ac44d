/** @file Which layers apply the activation that follows them while they store their output. */

import type { Activation, OutputActivation, Tensor } from "../../engine/mod.ts";
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

/** Layers by class: those that take any activation and a residual, and those that take some activations. */
const NORMS: ReadonlySet<unknown> = new Set([BatchNorm1d, BatchNorm2d, SplitBatchNorm2d]);
const PRODUCTS: ReadonlySet<unknown> = new Set([Linear, Conv2d, Conv2dSame]);
const AFTER_PRODUCTS: Readonly<Record<OutputActivation, true>> = {
  relu: true,
  sigmoid: true,
  tanh: true,
};

/** The activation that a layer is, if it is one of those. */
function activationOf(layer: Layer): Activation | undefined {
  if (!passesThrough(layer)) return undefined;
  if (layer instanceof GELU && layer.constructor === GELU) {
    return layer.approximate === "none" ? "gelu" : undefined;
  }
  return ACTIVATIONS.get(layer.constructor);
}

/**
 * Whether a layer's own forward does more than its own work: not where the user gave it another one, and not
 * while somebody is to be told of every module that runs.
 */
function fuses(layer: Layer, { activation, residual }: NormThen): boolean {
  if (isWatched() || !passesThrough(layer)) return false;
  if (NORMS.has(layer.constructor)) return true;
  return PRODUCTS.has(layer.constructor) && !residual &&
    (!activation || activation in AFTER_PRODUCTS);
}

/** What follows a layer. */
export interface Then {
  /** Added first. Called after the layer where that does not add it itself. */
  readonly residual?: () => Tensor;
  /** Applied last: a layer, or the name of a tensor's method. */
  readonly next?: Layer | Activation;
}

/**
 * next(layer(x) + residual()), in one pass over memory where the layer can. A profile counts what it does
 * then as the layer's.
 */
export function then(layer: Layer, x: Tensor, { residual, next }: Then): Tensor {
  const activation = typeof next === "object" ? activationOf(next) : next;
  const known = next === undefined || activation !== undefined;
  let added: Tensor | undefined;
  if (known && fuses(layer, { activation, residual: residual && x })) {
    added = residual?.();
    // Batch norm gives what it is given; a sum with another type has the wider one.
    if (!added || added.dtype === x.dtype) {
      return (layer as Fusing).forward(x, { residual: added, activation });
    }
  }
  let y = layer.forward(x);
  if (residual) y = y.add(added ?? residual());
  if (next === undefined) return y;
  return typeof next === "string" ? y[next]() : next.forward(y);
}

/** Whether {@linkcode then} would make one pass of a layer and an activation after it. */
export function fusible(layer: Layer, next: Layer): boolean {
  const activation = activationOf(next);
  return activation !== undefined && fuses(layer, { activation });
}

/** Whether a layer that drops nothing may be left out: not where it is the user's, or watched. */
export function mayBeLeftOut(layer: Layer): boolean {
  return !isWatched() && passesThrough(layer);
}
