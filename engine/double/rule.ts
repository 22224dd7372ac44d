/** What the rules of gradients of gradients are: functions of tensors, which the tape records. */

import type { DeviceArray, Spec } from "../array.ts";
import { Node } from "../autograd.ts";
import { zeros } from "../creation.ts";
import type { GradientFormulas, Op } from "../op.ts";
import { formulaOp } from "../ops/pointwise_gradients.ts";
import { reads } from "../ops/pointwise_row.ts";
import { apply, Tensor } from "../tensor.ts";

/** What a rule knows of the op it goes back through. */
export interface Recorded<A = unknown> {
  readonly attrs: A;
  /** Which inputs require a gradient, which decided what was saved. */
  readonly needs: readonly boolean[];
  /** Whose gradient is of use in this walk: a rule may spare itself the others. */
  readonly wanted: readonly boolean[];
  readonly inputs: readonly Spec[];
  readonly outputs: readonly Spec[];
  /** What the forward rule saved, in that order. */
  readonly saved: readonly DeviceArray[];
  /** Input i, which was saved as `array`, in its place on the tape; floats as f32. */
  input(i: number, array: DeviceArray): Tensor;
  /** The same in its own dtype. */
  inputAsIs(i: number, array: DeviceArray): Tensor;
  /** Output i, likewise. */
  output(i: number, array: DeviceArray): Tensor;
  /** A saved array that no gradient goes to. */
  constant(array: DeviceArray): Tensor;
  /**
   * Σ outputs · grads by each of `by`, recorded, for rules that compute the op once more from simpler ones. The
   * walk ends at `by`, also where one of them is made of another.
   */
  gradients(
    outputs: readonly Tensor[],
    grads: readonly (Tensor | null)[],
    by: readonly (Tensor | null)[],
  ): (Tensor | null)[];
}

/**
 * The gradient of each input in f32 from those of the outputs, which are f32, too; null where there is none, or
 * none is wanted. What broadcasting repeated is summed by the walk.
 */
export type DoubleRule<A = unknown> = (
  ctx: Recorded<A>,
  grads: readonly (Tensor | null)[],
) => readonly (Tensor | null)[];

/** The value of a gradient's formula, as an op whose gradients follow from the text. */
export function ofFormula(
  name: string,
  { formula, values, scalars, module }:
    & Pick<GradientFormulas, "scalars" | "module">
    & { readonly formula: string; readonly values: Readonly<Record<string, Tensor>> },
): Tensor {
  if (formula === "dy") return values.dy!;
  const inputs = Object.keys(values).filter((v) => reads(formula, v));
  if (inputs.length === 0) return zeros(values.dy!.shape);
  const op = formulaOp(name, { formula, inputs, module });
  return apply(op, inputs.map((v) => values[v]!), scalars)[0]!;
}

/**
 * op(x) where the result is known, so that only the tape learns of it, and the value of x does not matter.
 *
 * @param saved what the op saves for its gradient; the result by default
 */
export function known<A>(
  op: Op<A>,
  x: Tensor,
  { value, attrs, saved = [value] }: {
    readonly value: Tensor;
    readonly attrs: A;
    readonly saved?: readonly Tensor[];
  },
): Tensor {
  if (!x.requiresGrad) return value;
  const { shape, dtype } = value;
  const node = new Node(op as Op<unknown>, {
    attrs,
    edges: [x.edge()],
    inputs: [{ shape, dtype }],
    outputs: [{ shape, dtype }],
    saved: saved.map((t) => t.device.alias()),
  });
  return new Tensor(value.device.alias(), { source: { node, output: 0 } });
}
