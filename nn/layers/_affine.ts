/** @file The parameters of linear and convolution layers. */

import { zeros } from "../../engine/mod.ts";
import { fans, kaimingUniform, uniform } from "../init.ts";
import { Parameter } from "../parameter.ts";

/**
 * A weight [out, in, ...window] and a bias [out], uniform in ±1 / √fanIn: PyTorch's start.
 *
 * @param shape Shape of the weight.
 * @param options Whether there is a bias (default true), and its size if it is not `out`.
 */
export function affineParameters(
  shape: readonly number[],
  options: { bias?: boolean; biasSize?: number },
): { weight: Parameter; bias: Parameter | null } {
  const weight = new Parameter(zeros(shape));
  kaimingUniform(weight, { a: Math.sqrt(5) });
  if (!(options.bias ?? true)) return { weight, bias: null };
  const bias = new Parameter(zeros([options.biasSize ?? shape[0]!]));
  const bound = 1 / Math.sqrt(fans(weight).fanIn);
  uniform(bias, { low: -bound, high: bound });
  return { weight, bias };
}
