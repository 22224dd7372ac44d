/** Activations that other ops apply to what they store, so that it is not read and written once more. */

import type { DeviceArray } from "../array.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import { show } from "../shape.ts";
import { pointwise, pointwiseInto } from "./launch_pointwise.ts";
import type { UnaryRow } from "./pointwise_row.ts";
import { UNARY } from "./pointwise_table.ts";

/** An activation that has no settings. */
export type Activation = "relu" | "silu" | "gelu" | "sigmoid" | "tanh" | "hardswish";

const ROWS: Readonly<Record<Activation, UnaryRow>> = {
  relu: UNARY.relu,
  silu: UNARY.silu,
  gelu: UNARY.gelu,
  sigmoid: UNARY.sigmoid,
  tanh: UNARY.tanh,
  hardswish: UNARY.hardswish,
};

/** Every activation. */
export const ACTIVATIONS: readonly Activation[] = Object.keys(ROWS) as Activation[];

/** Gradients dx over y = f(x) and dy alone, for ops that keep their output and not what it was made of. */
const FROM_OUTPUT: Readonly<Partial<Record<Activation, string>>> = {
  relu: "select(0.0, dy, y > 0.0)", // y > 0 where x > 0
  sigmoid: UNARY.sigmoid.dx,
  tanh: UNARY.tanh.dx,
};

/** The activations whose gradient follows from their output. */
export const FROM_OUTPUT_ACTIVATIONS: readonly Activation[] = Object.keys(
  FROM_OUTPUT,
) as Activation[];

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
  if (activation === undefined || (allowed as readonly string[]).includes(activation)) return;
  throw new TypeError(
    `Cannot ${op} with activation ${JSON.stringify(activation)}: it must be ${allowed.join(", ")}`,
  );
}

/** WGSL of an activation; none without one. */
export function epilogueOf(activation: Activation | undefined): Epilogue | undefined {
  if (activation === undefined) return undefined;
  const { f, dx, module = "" } = ROWS[activation];
  const y = /\by\b/.test(dx as string) ? `let y = ${f}; ` : "";
  return {
    name: activation,
    module: `${module}
fn activation(x: f32) -> f32 { return ${f}; }
fn activation_gradient(x: f32, dy: f32) -> f32 { ${y}return ${dx}; }`,
  };
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
  activation: Activation,
  y: DeviceArray,
  dy: DeviceArray,
): DeviceArray {
  const formula = FROM_OUTPUT[activation];
  if (!formula) throw new Error(`No gradient of ${activation} from its output ${show(y.shape)}`);
  return pointwise({
    name: `${activation}_from_output`,
    inputs: { y_: y, dy },
    expression: formula.replace(/\by\b/g, "y_"),
    compute: "f32",
    result: "f32",
    flops: 2,
  }, dy);
}

/** The same in float64. */
export function hostActivation(activation: Activation | undefined): (x: number) => number {
  return activation === undefined ? (x) => x : (x) => ROWS[activation].ref(x, {});
}
