/** What optimizers do to parameters and gradients, in place and without reading anything back. */

import { checkOptions } from "./arguments.ts";
import { DeviceArray, inArena } from "./array.ts";
import { isFloat } from "./dtype.ts";
import type { AdaptiveRule } from "./kernels/adaptive.ts";
import { adaptiveInto } from "./ops/adaptive.ts";
import { clipToNorm, clipToValue, gradientNorm } from "./ops/gradients.ts";
import { Tensor } from "./tensor.ts";

export type { AdaptiveRule } from "./kernels/adaptive.ts";

/** A parameter for {@linkcode adaptiveStep} with its gradient and the rule's state. */
export interface AdaptiveTensors {
  readonly param: Tensor;
  readonly grad: Tensor;
  readonly states: readonly Tensor[];
  /** Place of the parameter in `steps`. */
  readonly index: number;
}

/** Numbers in GPU memory that {@linkcode adaptiveStep} reads. */
export interface AdaptiveNumberTensors {
  /** The rule's numbers: see `ADAPTIVE_HYPER` in kernels/adaptive.ts. */
  readonly hyper: Tensor;
  /** Steps taken, f32 [n]; raised by 1 where `active` is not 0. */
  readonly steps?: Tensor;
  /** f32 [n] */
  readonly active?: Tensor;
  /** Room for what follows from the step counts, f32 [n, 2]. */
  readonly factors?: Tensor;
  /** u32 [1]: nothing changes where it is not 0, as after an overflow. */
  readonly skip?: Tensor;
}

/**
 * One step of Adam, AdamW, RMSprop or Adagrad over all entries, in place and in as few dispatches as
 * the adapter's bindings allow. States, in order: adam m, v and with amsgrad the largest v; rmsprop
 * the mean square, if centered the mean gradient, with momentum its buffer; adagrad the sum of squares.
 *
 * @throws {TypeError} if dtypes (f32), shapes or layouts do not fit; nothing is updated then
 */
export function adaptiveStep(
  rule: AdaptiveRule,
  entries: readonly AdaptiveTensors[],
  numbers: AdaptiveNumberTensors,
): void {
  inArena(() => {
    adaptiveInto(
      rule,
      entries.map((e) => ({
        param: e.param.device,
        grad: e.grad.device,
        states: e.states.map((s) => s.device),
        index: e.index,
      })),
      {
        hyper: numbers.hyper.device,
        steps: numbers.steps?.device,
        active: numbers.active?.device,
        factors: numbers.factors?.device,
        skip: numbers.skip?.device,
      },
    );
    return [];
  });
}

/** Options of {@linkcode clipGradNorm}. */
export interface ClipGradNormOptions {
  /** Largest norm that stays as it is. */
  maxNorm: number;
  /** Order of the norm, above 0; `Infinity` for the largest magnitude. Default 2. */
  normType?: number;
}

/**
 * Scales the gradients of `params` in place so that the norm of all their elements together is at most
 * maxNorm: g ← g · min(1, maxNorm / (norm + 1e-6)). Nothing is read back; NaN stays NaN.
 *
 * @returns the norm before, f32 [], on the GPU
 * @throws {RangeError} if maxNorm is below 0 or normType is not above 0
 * @throws {TypeError} if a gradient is no float tensor
 *
 * Source: torch.nn.utils.clip_grad_norm_
 *
 * @example
 * ```ts
 * import { clipGradNorm, init, tensor } from "../mod.ts";
 * await init();
 * const w = tensor([3, 4], { requiresGrad: true });
 * w.square().sum().backward();
 * const norm = clipGradNorm([w], { maxNorm: 1 });
 * console.log(await norm.item()); // 10
 * ```
 */
export function clipGradNorm(params: Iterable<Tensor>, options: ClipGradNormOptions): Tensor {
  checkOptions("clipGradNorm", options, "clipGradNorm(params, { maxNorm: 1 })");
  const { maxNorm, normType = 2 } = options;
  if (!(maxNorm >= 0)) {
    throw new RangeError(`Cannot clip the gradients' norm to ${maxNorm}: it must be at least 0`);
  }
  if (!(normType > 0)) {
    throw new RangeError(`Cannot take a norm of order ${normType}: it must be above 0`);
  }
  const grads = gradientsOf(params);
  const total = inArena(() => {
    const norm = gradientNorm(grads, normType);
    clipToNorm(grads, norm, maxNorm);
    return norm;
  });
  return new Tensor(total);
}

/**
 * Limits every element of the gradients of `params` to ±clipValue in place; NaN stays NaN.
 *
 * @throws {RangeError} if clipValue is below 0
 */
export function clipGradValue(params: Iterable<Tensor>, clipValue: number): void {
  if (!(clipValue >= 0)) {
    throw new RangeError(`Cannot clip gradients to ±${clipValue}: it must be at least 0`);
  }
  const grads = gradientsOf(params);
  inArena(() => (clipToValue(grads, clipValue), []));
}

/** Each gradient once. */
function gradientsOf(params: Iterable<Tensor>): DeviceArray[] {
  const grads = new Set<Tensor>();
  for (const { grad } of params) if (grad && isFloat(grad.dtype)) grads.add(grad);
  return [...grads].map((g) => g.device);
}
