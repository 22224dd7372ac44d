/** Activations that other ops apply to what they store, so that it is not read and written once more. */

import { checkOneOf } from "../arguments.ts";
import type { DeviceArray } from "../array.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import { pointwise, pointwiseInto } from "./launch_pointwise.ts";
import type { UnaryRow } from "./pointwise_row.ts";
import { UNARY } from "./pointwise_table.ts";

/** An activation that has no settings. */
export type Activation = OutputActivation | "silu" | "gelu" | "hardswish";

/** An activation whose gradient follows from its output. */
export type OutputActivation = "relu" | "sigmoid" | "tanh";

const ROWS: Readonly<Record<Activation, UnaryRow>> = {
  relu: UNARY.relu,
  silu: UNARY.silu,
  gelu: UNARY.gelu,
  sigmoid: UNARY.sigmoid,
  tanh: UNARY.tanh,
  hardswish: UNARY.hardswish,
};

/** Gradients dx over y = f(x) and dy alone, for ops that keep their output and not what it was made of. */
export const FROM_OUTPUT: Readonly<Record<OutputActivation, string>> = {
  relu: "select(dy, 0.0, y <= 0.0)", // y > 0 where x > 0
  sigmoid: UNARY.sigmoid.dx,
  tanh: UNARY.tanh.dx,
};

/** Every activation. */
export const ACTIVATIONS: readonly Activation[] = Object.keys(ROWS) as Activation[];

/** The activations whose gradient follows from their output. */
export const OUTPUT_ACTIVATIONS: readonly OutputActivation[] = Object.keys(
  FROM_OUTPUT,
) as OutputActivation[];

/**
 * Checks the name of an activation.
 *
 * @throws {TypeError} if it is not one of `allowed`
 */
export function checkActivation(
  op: string,
  activation: string | undefined,
  allowed: readonly Activation[] = ACTIVATIONS,
): void {
  checkOneOf(op, { activation }, allowed);
}

const EPILOGUES: ReadonlyMap<Activation, Epilogue> = new Map(
  ACTIVATIONS.map((name) => {
    const { f, dx, module = "" } = ROWS[name];
    const y = /\by\b/.test(dx as string) ? `let y = ${f}; ` : "";
    return [name, {
      name,
      module: `${module}
fn activation(x: f32) -> f32 { return ${f}; }
fn activation_gradient(x: f32, dy: f32) -> f32 { ${y}return ${dx}; }`,
    }];
  }),
);

/** WGSL of an activation; none without one. */
export function epilogueOf(activation: Activation | undefined): Epilogue | undefined {
  return activation && EPILOGUES.get(activation);
}

/** y ← f(y). */
export function activate(activation: Activation, y: DeviceArray): void {
  const { f, module } = ROWS[activation];
  pointwiseInto({
    name: `${activation}_in_place`,
    inputs: { x: y },
    expression: f,
    compute: "f32",
    result: "f32",
    module,
  }, y);
}

/** dx = dy · f'(x), given y = f(x). */
export function gradientFromOutput(
  activation: OutputActivation,
  y: DeviceArray,
  dy: DeviceArray,
): DeviceArray {
  return pointwise({
    name: `${activation}_from_output`,
    inputs: { y_: y, dy },
    expression: FROM_OUTPUT[activation].replace(/\by\b/g, "y_"),
    compute: "f32",
    result: "f32",
    flops: 2,
  }, dy);
}

/** The same in float64. */
export function hostActivation(activation: Activation | undefined): (x: number) => number {
  return activation === undefined ? (x) => x : (x) => ROWS[activation].ref(x, {});
}
