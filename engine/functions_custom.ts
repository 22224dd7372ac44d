/** Gradients of one's own: a function of tensors with the rule that goes back through it. */

import { given, notTensor } from "./arguments.ts";
import { isRecording, Node, noGrad } from "./autograd.ts";
import { modulePath } from "./check.ts";
import { isFloat } from "./dtype.ts";
import type { BackwardRule, Op } from "./op.ts";
import { cast } from "./ops/select.ts";
import { scope } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { traceCall } from "./trace.ts";

/** What the function of {@linkcode customGrad} gives. */
export interface CustomResult {
  /** The result: a float tensor. */
  readonly value: Tensor;
  /**
   * The gradient of each input, in order, of the one of the result; null for those that have none. It is called
   * by `backward`, and may use tensors of the forward pass that have not been freed by then. It must not write
   * into dy, which others may read.
   */
  gradient(dy: Tensor): Tensor | readonly (Tensor | null)[];
}

/** The rule, for walks back that are recorded as well. */
export interface CustomAttrs {
  gradient(dy: Tensor): readonly (Tensor | null)[];
}

/**
 * Makes a function whose gradient is not that of the ops it is made of but a rule of its own: PyTorch's
 * `autograd.Function`. Nothing inside is recorded. Only the inputs get gradients, not other tensors that `fn`
 * uses. Gradients of gradients are those of the ops in the rule, for which the inputs are what they were made
 * of, but the value and all else that `fn` made is constant.
 *
 * @throws {TypeError} when called, if `fn` gives no such result; in `backward`, if the rule's gradients do not
 *   have the inputs' number and shapes
 *
 * @example
 * ```ts
 * import { customGrad, init, tensor } from "../mod.ts";
 * await init();
 * // Rounds, but lets the gradient through as if it did not.
 * const quantize = customGrad((x) => ({ value: x!.round(), gradient: (dy) => dy }));
 * const w = tensor([0.3, 1.6], { requiresGrad: true });
 * quantize(w).square().sum().backward();
 * console.log(await w.grad!.array()); // [0, 4]
 * ```
 */
export function customGrad(
  fn: (...inputs: Tensor[]) => CustomResult,
): (...inputs: Tensor[]) => Tensor {
  if (typeof fn !== "function") {
    throw new TypeError(`Cannot make a function of ${given(fn)}: write ${EXAMPLE}`);
  }
  return (...inputs) => {
    for (const t of inputs) if (!(t instanceof Tensor)) throw notTensor("customGrad", t);
    const result = noGrad(() => fn(...inputs));
    const { value, gradient } = checked(result);
    if (!isRecording() || !inputs.some((t) => t.requiresGrad)) return value;
    const where = modulePath();
    const shapes = inputs.map((t) => t.shape);
    const attrs: CustomAttrs = {
      gradient(dy) {
        const made = gradient.call(result, dy);
        const list = made instanceof Tensor ? [made] : made;
        checkGradients(list, shapes, where);
        return list;
      },
    };
    const rule: BackwardRule<CustomAttrs> = (ctx, [dy], { gradient }) =>
      scope(() => {
        const handed = new Tensor(dy!.alias());
        return noGrad(() => gradient(handed)).map((t, i) => {
          if (!t || !ctx.needs[i]) return null;
          return (t.dtype === ctx.inputs[i]!.dtype ? t : t.to(ctx.inputs[i]!.dtype)).device.alias();
        });
      });
    const node = new Node(asOp(rule as BackwardRule<unknown>), {
      attrs,
      edges: inputs.map((t) => t.requiresGrad ? t.edge() : null),
      inputs: inputs.map((t) => t.device),
      outputs: [{ shape: value.shape, dtype: value.dtype }],
      saved: [],
    });
    const wrapper = new Tensor(value.device.alias(), { source: { node, output: 0 } });
    traceCall({
      op: cast as Op<unknown>,
      attrs: { dtype: value.dtype },
      inputs: [value],
      outputs: [wrapper],
    });
    return wrapper;
  };
}

const EXAMPLE = "customGrad((x) => ({ value: x.round(), gradient: (dy) => dy }))";

function checked(result: CustomResult): CustomResult {
  const { value, gradient } = result ?? {};
  if (!(value instanceof Tensor) || typeof gradient !== "function") {
    throw new TypeError(
      `Cannot take a gradient through ${given(result)}: the function must give its value and ` +
        `gradient, as in ${EXAMPLE}`,
    );
  }
  if (!isFloat(value.dtype)) {
    throw new TypeError(
      `Cannot take a gradient through a value of dtype ${value.dtype}: it must be a float`,
    );
  }
  return result;
}

function checkGradients(
  list: readonly (Tensor | null)[],
  shapes: readonly (readonly number[])[],
  where: string,
): void {
  const place = where === "" ? "" : ` in ${where}`;
  if (!Array.isArray(list) || list.length !== shapes.length) {
    throw new TypeError(
      `Cannot go back through customGrad${place} with ${
        given(list)
      }: its gradient must give a list of ` +
        `${shapes.length}, a tensor or null for each input`,
    );
  }
  list.forEach((t, i) => {
    if (t === null) return;
    if (t instanceof Tensor && isFloat(t.dtype) && sameShape(t.shape, shapes[i]!)) return;
    throw new TypeError(
      `Cannot go back through customGrad${place} with ${
        given(t)
      } for input ${i}: it must be a float ` +
        `tensor ${show(shapes[i]!)}, or null`,
    );
  });
}

/** A record for the tape alone: it is run by {@linkcode customGrad}, not by `apply`. */
function asOp(backward: BackwardRule<unknown>): Op<unknown> {
  return {
    name: "customGrad",
    check: () => [],
    forward: () => [],
    backward,
    reference: null,
    samples: [],
  };
}
