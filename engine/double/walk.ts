/**
 * Gradients that are recorded in turn, for gradients of gradients: the walk back over the tape once more, with
 * tensors in place of arrays and rules made of ops. All of it is f32; the ends of the walk get their own dtype.
 *
 * A rule may use only what the forward rule saved: an input or output is put back in its place on the tape,
 * so that the second gradient reaches it. What it does with them decides the second gradient, and since that
 * is made of ops, too, gradients of any order follow.
 */

import type { DeviceArray, Spec } from "../array.ts";
import { afterBackward, inBackward } from "../check.ts";
import {
  type Edge,
  enableGrad,
  likeInput,
  Node,
  nodesToward,
  type Root,
  type Walk,
  walk,
} from "../autograd.ts";
import { autocast } from "../autocast.ts";
import { isFloat } from "../dtype.ts";
import { backwardOf, type BackwardRule, type Op } from "../op.ts";
import { fill } from "../ops/fill.ts";
import { reshape } from "../ops/movement.ts";
import { tidy } from "../scope.ts";
import { sameShape } from "../shape.ts";
import { apply, Tensor } from "../tensor.ts";
import { type DoubleRule, ofFormula, type Recorded } from "./rule.ts";
import { REFUSED, RULES } from "./rules.ts";

/** How gradients of an op's gradients are made; null where there are none, and no reason why. */
export function doubleOf(
  op: Op<unknown>,
): "rule" | "formulas" | "linear" | { readonly refused: string } | null {
  if (op.name in RULES) return "rule";
  if (op.formulas) return "formulas";
  if (op.linear) return "linear";
  return op.name in REFUSED ? { refused: REFUSED[op.name]! } : null;
}

/**
 * Σ outputs · grads by each of `by`, recorded, in f32; null where none arrives. Nothing that was saved is freed.
 * The caller's scope frees what is made on the way.
 *
 * @param options.ends whether the walk ends at each of `by`, and nothing else may be at its ends
 * @throws {Error} at an op whose gradient has no gradient
 */
export function recordedGradients(
  outputs: readonly Tensor[],
  grads: readonly (Tensor | null)[],
  by: readonly (Tensor | null)[],
  { ends = false }: { readonly ends?: boolean } = {},
): (Tensor | null)[] {
  const sums: (Tensor | null)[] = by.map(() => null);
  const places = by.map((t) => t?.requiresGrad ? t.edge() : null);
  const chosen = (edge: Edge) => places.some((place) => place !== null && same(place, edge));
  const roots: Root<Tensor>[] = outputs.flatMap((t, i) => {
    const grad = grads[i];
    return grad && t.requiresGrad ? [{ edge: t.edge(), grad }] : [];
  });
  const through = ends ? undefined : nodesToward(roots.map(({ edge }) => edge), chosen);
  const asked = (edge: Edge) =>
    !through || chosen(edge) || ("node" in edge && through.has(edge.node));
  const steps: Walk<Tensor> = {
    arrive(edge, grad) {
      places.forEach((place, i) => {
        if (place && same(place, edge)) sums[i] = sums[i]?.add(grad) ?? grad;
      });
      if (!ends) return "leaf" in edge;
      if (chosen(edge)) return true;
      if ("leaf" in edge) {
        throw new Error(
          "Cannot run backward through checkpoint: the function used a tensor that it did not use " +
            "at first",
        );
      }
      return false;
    },
    back: (node, grads) => back(node, grads, asked),
    add: (a, b) => a.add(b),
    release() {},
    through,
  };
  autocast({ enabled: false }, () => enableGrad(() => walk(roots, steps)));
  return sums;
}

function same(a: Edge, b: Edge): boolean {
  if ("leaf" in a) return "leaf" in b && a.leaf === b.leaf;
  return "node" in b && a.node === b.node && a.output === b.output;
}

/** Gradients of a node's inputs, recorded, in their shapes. */
function back(
  node: Node,
  grads: readonly (Tensor | null)[],
  asked: (edge: Edge) => boolean,
): (Tensor | null)[] {
  const ctx = recorded(node, asked);
  const results = inBackward(node.where, () =>
    tidy(() => {
      const made = ruleOf(node)(ctx, grads);
      return node.edges.map((edge, i) =>
        edge && asked(edge) && made[i] ? summedTo(made[i], node.inputs[i]!.shape) : null
      );
    }));
  afterBackward(node.op.name, results.map((t) => t && t.device), node.where);
  return results;
}

function ruleOf({ op }: Node): DoubleRule {
  const rule = RULES[op.name];
  if (rule) return rule as DoubleRule;
  if (op.formulas) return throughFormulas(op);
  if (op.linear) return throughLinear(op);
  throw new Error(
    `Cannot take gradients of the gradients of ${op.name}: ${REFUSED[op.name] ?? "it has none"}`,
  );
}

function recorded(node: Node, asked: (edge: Edge) => boolean): Recorded {
  const { attrs, edges, inputs, outputs, saved } = node;
  const inputAsIs = (i: number, array: DeviceArray) => {
    const edge = edges[i];
    if (!edge) return new Tensor(array.alias());
    // The same values by a node that leads where the input came from.
    const { shape, dtype } = array;
    const pass = new Node(reshape as Op<unknown>, {
      attrs: { shape },
      edges: [edge],
      inputs: [{ shape, dtype }],
      outputs: [{ shape, dtype }],
      saved: [],
    });
    return new Tensor(array.alias(), { source: { node: pass, output: 0 } });
  };
  return {
    attrs,
    needs: edges.map((edge) => edge !== null),
    wanted: edges.map((edge) => edge !== null && asked(edge)),
    inputs,
    outputs,
    saved,
    input: (i, array) => asFloat(inputAsIs(i, array)),
    inputAsIs,
    output: (output, array) => asFloat(new Tensor(array.alias(), { source: { node, output } })),
    constant: (array) => new Tensor(array.alias()),
    gradients: (outputs, grads, by) => recordedGradients(outputs, grads, by, { ends: true }),
  };
}

/** Floats as f32. */
function asFloat(t: Tensor): Tensor {
  return isFloat(t.dtype) && t.dtype !== "f32" ? t.to("f32") : t;
}

/** The sum over what broadcasting repeated. */
function summedTo(t: Tensor, shape: readonly number[]): Tensor {
  if (sameShape(t.shape, shape)) return t;
  const lead = t.ndim - shape.length;
  const dims = t.shape.flatMap((s, d) => d < lead || (shape[d - lead] === 1 && s !== 1) ? [d] : []);
  return t.sum(dims, { keepdim: true }).reshape(shape);
}

/** Zeros in place of gradients that did not arrive. */
function allOf(grads: readonly (Tensor | null)[], outputs: readonly Spec[]): Tensor[] {
  return grads.map((g, i) => g ?? new Tensor(fill({ shape: outputs[i]!.shape, dtype: "f32" }, 0)));
}

// ---- pointwise ops: the formulas of their gradients ----

function throughFormulas(op: Op<unknown>): DoubleRule {
  return (ctx, [dy]) => {
    const formulas = op.formulas!(ctx.needs, ctx.attrs);
    const values: Record<string, Tensor> = { dy: dy! };
    formulas.saved.forEach((name, k) => {
      const array = ctx.saved[k]!;
      const i = formulas.inputs.indexOf(name);
      values[name] = i < 0 ? ctx.output(0, array) : ctx.input(i, array);
    });
    return formulas.gradients.map((formula, i) =>
      ctx.wanted[i] ? ofFormula(op.name, { ...formulas, formula, values }) : null
    );
  };
}

// ---- linear ops: their gradient is linear, and its gradient the op ----

function throughLinear(op: Op<unknown>): DoubleRule {
  return (ctx, grads) => {
    const given = (op.linear!.given ?? []).map((_, k) => ctx.constant(ctx.saved[k]!));
    const made = apply(adjoint(op, ctx), [...allOf(grads, ctx.outputs), ...given], null);
    let next = 0;
    return ctx.needs.map((need) => need ? made[next++]! : null);
  };
}

/** The gradient rule of a linear op as an op: from the outputs' gradients and what is given to the inputs'. */
function adjoint(op: Op<unknown>, { attrs, inputs, outputs, needs }: Recorded): Op<null> {
  const rule = backwardOf(op) as BackwardRule<unknown>;
  const whole = inputs.map(inF32);
  const wanted = whole.filter((_, i) => needs[i]);
  const given = op.linear!.given ?? [];
  return {
    name: `${op.name} gradient`,
    check: () => wanted,
    forward(ctx, arrays) {
      const saved = arrays.slice(outputs.length);
      ctx.save(...saved);
      const ofRule = { needs, saved, inputs: whole, wanted: whole.map((s) => s.dtype) };
      return rule(ofRule, arrays.slice(0, outputs.length), attrs).flatMap((g, i) =>
        needs[i] ? [likeInput(g!, whole[i]!.shape, "f32")] : []
      );
    },
    linear: { given: given.map((_, k) => outputs.length + k) },
    backward(ctx, grads) {
      let next = 0;
      const arrays = whole.map((spec, i) => {
        if (needs[i]) return grads[next++]!;
        const k = given.indexOf(i);
        return k < 0 ? fill(spec, 0) : ctx.saved[k]!;
      });
      const linear = op.linear!.attrs?.(attrs) ?? attrs;
      const detached = { needs: [], save() {} };
      return [
        ...op.forward(detached, arrays, linear, outputs.map(inF32)),
        ...given.map(() => null),
      ];
    },
    reference: null,
    samples: [],
  };
}

function inF32({ shape, dtype }: Spec): Spec {
  return { shape, dtype: isFloat(dtype) ? "f32" : dtype };
}
