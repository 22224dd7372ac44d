/** @file Parameters and states of recurrent nets and cells. */

import { type RecurrentCell, type Tensor, zeros } from "../../engine/mod.ts";
import { uniform } from "../init.ts";
import { Parameter } from "../parameter.ts";

/** Gates of a cell: rows of its weights, in units of the hidden size. */
export const GATES: Readonly<Record<RecurrentCell, number>> = { lstm: 4, gru: 3, tanh: 1, relu: 1 };

/** A parameter uniform in ±1 / √hiddenSize: PyTorch's start of all of them. */
export function recurrentParameter(shape: readonly number[], hiddenSize: number): Parameter {
  const bound = 1 / Math.sqrt(hiddenSize);
  const parameter = new Parameter(zeros(shape));
  uniform(parameter, { low: -bound, high: bound });
  return parameter;
}

/**
 * A state given with an input that has no batch.
 *
 * @throws {TypeError} If it has one.
 */
export function stateOfOne(
  given: Tensor | undefined,
  { of, what, ndim }: { of: string; what: string; ndim: number },
): Tensor | undefined {
  if (given === undefined || given.ndim === ndim) return given;
  throw new TypeError(
    `Cannot apply ${of} with ${what} [${given.shape.join(", ")}]: it must have ${ndim} ` +
      `dimension${ndim === 1 ? "" : "s"}, as the input has no batch`,
  );
}
