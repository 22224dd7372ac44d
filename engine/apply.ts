/** The way every op on tensors runs: checked, computed, recorded, watched. */

import { notTensor } from "./arguments.ts";
import { isRecording, Node, runForward } from "./autograd.ts";
import { autocastDType, isAutocasting } from "./autocast.ts";
import { afterOp } from "./check.ts";
import { isFloat } from "./dtype.ts";
import { backwardOf, type Op } from "./op.ts";
import { cast } from "./ops/select.ts";
import type { Tensor } from "./tensor.ts";
import { TensorBase, wrapTensor } from "./tensor_base.ts";
import { traceCall } from "./trace.ts";

/** Runs an op on tensors and records it if an input requires a gradient. */
export function apply<A>(op: Op<A>, given: readonly TensorBase[], attrs: A): Tensor[] {
  for (const t of given) if (!(t instanceof TensorBase)) throw notTensor(op.name, t);
  const inputs = isAutocasting() ? autocasted(op.name, given) : given;
  const arrays = inputs.map((t) => t.device);
  const specs = op.check(arrays, attrs);
  // Of a conversion to integers nothing is recorded: no result would hold the record, and free it.
  const tracked = isRecording() && backwardOf(op) !== null && specs.some((s) => isFloat(s.dtype));
  const needs = inputs.map((t) => tracked && t.requiresGrad);
  const { outputs, saved } = runForward(op, arrays, attrs, specs, needs);
  const node = needs.some(Boolean)
    ? new Node(op as Op<unknown>, {
      attrs,
      edges: inputs.map((t, i) => needs[i] ? t.edge() : null),
      inputs: arrays,
      outputs: specs,
      saved,
    })
    : null;
  const results = outputs.map((array, i) =>
    wrapTensor(array, { source: node && isFloat(array.dtype) ? { node, output: i } : undefined })
  );
  afterOp(op, arrays, outputs, attrs);
  traceCall({
    op: op as Op<unknown>,
    attrs,
    inputs: inputs as readonly Tensor[],
    outputs: results,
  });
  return results;
}

/** The inputs in the dtype that the op has under `autocast`; conversions are recorded like any op. */
function autocasted(name: string, inputs: readonly TensorBase[]): readonly TensorBase[] {
  const dtype = autocastDType(name, inputs.map((t) => t.dtype));
  if (!dtype) return inputs;
  return inputs.map((t) =>
    isFloat(t.dtype) && t.dtype !== dtype ? apply(cast, [t], { dtype })[0]! : t
  );
}
