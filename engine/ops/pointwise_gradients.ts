/**
 * Gradients of pointwise ops from their formulas: the rule that runs them, and the op that a formula is itself
 * where gradients of gradients are wanted.
 */

import type { DeviceArray, Spec } from "../array.ts";
import type { BackwardContext, GradientFormulas, Op } from "../op.ts";
import { broadcastShapes } from "../shape.ts";
import { ZERO } from "./chain.ts";
import { derivative, parse, print, product, substitute } from "./formula.ts";
import { pointwise, type PointwiseArgument } from "./launch_pointwise.ts";
import { reads, type Scalars, STEP } from "./pointwise_row.ts";

/** How the kernels of the gradients are called and counted, and what they give. */
export interface GradientKernels {
  /** The kernel of input i. */
  readonly name: (i: number) => string;
  /** Shape and dtype of the gradient of input i. */
  readonly out: (i: number) => Spec;
  readonly flops: number;
}

/** The gradients that are wanted, a kernel each. */
export function runFormulas(
  { gradients, saved, scalars, module }: GradientFormulas,
  ctx: BackwardContext,
  dy: DeviceArray,
  kernels: GradientKernels,
): (DeviceArray | null)[] {
  const values: Record<string, PointwiseArgument> = { dy };
  saved.forEach((name, k) => values[name] = ctx.saved[k]!);
  for (const [name, value] of Object.entries(scalars)) values[name] = { value, type: "f32" };
  return gradients.map((formula, i) => {
    if (!ctx.wanted[i]) return null;
    if (formula === "dy") return dy;
    // Zeros that nothing has to write: while they are put off, what reads them is a kernel that knows.
    if (formula === STEP) {
      return pointwise(ZERO, { shape: ctx.inputs[i]!.shape, dtype: ctx.wanted[i]! });
    }
    const inputs: Record<string, PointwiseArgument> = {};
    for (const [name, value] of Object.entries(values)) {
      // A kernel's y is what it writes.
      if (reads(formula, name)) inputs[name === "y" ? "y_" : name] = value;
    }
    return pointwise({
      name: kernels.name(i),
      inputs,
      expression: formula.replace(/\by\b/g, "y_"),
      compute: "f32",
      result: "f32",
      module,
      flops: kernels.flops,
    }, kernels.out(i));
  });
}

const derived = new Map<string, Op<Scalars>>();

/**
 * The op y = formula over `inputs` and scalars, f32 for floats of any dtype. Its gradients are derivatives of
 * the text, which is what makes gradients of any order of the ops in the tables.
 *
 * @param name the op whose gradient it is, for kernels and messages
 */
export function formulaOp(
  name: string,
  given: { readonly formula: string; readonly inputs: readonly string[]; readonly module?: string },
): Op<Scalars> {
  const key = [name, given.formula, ...given.inputs].join("\n");
  let op = derived.get(key);
  if (!op) derived.set(key, op = define(name, given));
  return op;
}

function define(
  name: string,
  { formula, inputs, module }: {
    readonly formula: string;
    readonly inputs: readonly string[];
    readonly module?: string;
  },
): Op<Scalars> {
  // Names of one's own, so that dy is free for the gradient of this op.
  const names = inputs.map((_, i) => `v${i}`);
  const renamed = new Map(
    inputs.map((input, i) => [input, { kind: "name", name: names[i]! }] as const),
  );
  const tree = substitute(parse(formula), renamed);
  const expression = print(tree);
  const gradients = names.map((v) =>
    print(product({ kind: "name", name: "dy" }, derivative(tree, v, module)))
  );
  const formulas = (needs: readonly boolean[], scalars: Scalars): GradientFormulas => {
    const wanted = gradients.filter((_, i) => needs[i]).join(" ");
    return {
      inputs: names,
      saved: names.filter((v) => reads(wanted, v)),
      gradients,
      scalars,
      module,
    };
  };
  return {
    name: `${name} gradient`,
    check: (
      given,
    ) => [{ shape: broadcastShapes(name, ...given.map((i) => i.shape)), dtype: "f32" }],
    forward(ctx, arrays, scalars, [out]) {
      const values: Record<string, PointwiseArgument> = {};
      arrays.forEach((array, i) => values[names[i]!] = array);
      for (const v of formulas(ctx.needs, scalars).saved) {
        ctx.save(arrays[names.indexOf(v)]!);
      }
      for (const [s, value] of Object.entries(scalars)) values[s] = { value, type: "f32" };
      return [
        pointwise({
          name: `${name}_gradient`,
          inputs: values,
          expression,
          compute: "f32",
          result: "f32",
          module,
          flops: 4,
        }, out!),
      ];
    },
    formulas,
    backward: (ctx, [dy], scalars) =>
      runFormulas(formulas(ctx.needs, scalars), ctx, dy!, {
        name: () => `${name}_gradient_backward`,
        out: () => dy!,
        flops: 8,
      }),
    reference: null,
    samples: [],
  };
}
