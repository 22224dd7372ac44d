/**
 * Losses of one element of a prediction x and a target t, one table row each: WGSL of the value and of
 * each input's gradient, and the float64 reference. `w` is the weight of positive targets. Scalars are
 * uniforms. Source: torch.nn.functional.
 */

import { EXP, LOG } from "../kernels/special.ts";
import type { Scalars } from "./pointwise_row.ts";

/** A loss by element. */
export interface LossRow {
  /** WGSL over x, t (and w) and the scalars. */
  readonly f: string;
  /** Gradients over x, t, w, dy and the scalars, in the order of the inputs. */
  readonly gradients: readonly string[];
  /** The value in float64, of the inputs in order. */
  readonly ref: (values: readonly number[], s: Scalars) => number;
  readonly module?: string;
  /** Scalars of the generated samples. */
  readonly scalars?: readonly Scalars[];
  /** What the samples draw x and t from; default -2 to 2. */
  readonly x?: { readonly low?: number; readonly high?: number };
  readonly t?: { readonly low?: number; readonly high?: number };
  /** Draws x and t from values that lie apart: no kink is near. */
  readonly distinct?: boolean;
  /** Points [x, t, …] where the formula is delicate; forward only. */
  readonly extremes?: readonly (readonly number[])[];
}

const LOGITS = `${EXP}${LOG}
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exponential(-x)); }
// log(1 + exp(-x))
fn softplus_neg(x: f32) -> f32 { return log_1_plus(exp(-abs(x))) + max(-x, 0.0); }`;

function softplusNeg(x: number): number {
  return Math.log1p(Math.exp(-Math.abs(x))) + Math.max(-x, 0);
}

/** Rows by name of the op. */
export const LOSSES = {
  mseLoss: {
    f: "(x - t) * (x - t)",
    gradients: ["2.0 * dy * (x - t)", "-2.0 * dy * (x - t)"],
    ref: ([x, t]) => (x! - t!) ** 2,
  },
  l1Loss: {
    f: "abs(x - t)",
    gradients: ["dy * sign(x - t)", "-dy * sign(x - t)"],
    ref: ([x, t]) => Math.abs(x! - t!),
    distinct: true,
  },
  // beta = 0 is the L1 loss: the other branch is never taken.
  smoothL1Loss: {
    f: "select(0.5 * (x - t) * (x - t) / beta, abs(x - t) - 0.5 * beta, abs(x - t) >= beta)",
    gradients: [
      "dy * select((x - t) / beta, sign(x - t), abs(x - t) >= beta)",
      "-dy * select((x - t) / beta, sign(x - t), abs(x - t) >= beta)",
    ],
    ref: ([x, t], { beta }) => {
      const d = Math.abs(x! - t!);
      return d < beta! ? d * d / (2 * beta!) : d - beta! / 2;
    },
    scalars: [{ beta: 1.03 }, { beta: 0.51 }],
    extremes: [[1, 1], [2, 1], [1e4, -1e4]],
  },
  huberLoss: {
    f: "select(0.5 * (x - t) * (x - t), delta * (abs(x - t) - 0.5 * delta), abs(x - t) >= delta)",
    gradients: [
      "dy * select(x - t, delta * sign(x - t), abs(x - t) >= delta)",
      "-dy * select(x - t, delta * sign(x - t), abs(x - t) >= delta)",
    ],
    ref: ([x, t], { delta }) => {
      const d = Math.abs(x! - t!);
      return d < delta! ? d * d / 2 : delta! * (d - delta! / 2);
    },
    scalars: [{ delta: 1.03 }],
    extremes: [[1, 1], [2, 1], [1e4, -1e4]],
  },
  // Logarithms are at least -100, and the gradient's divisor at least 1e-12, as in PyTorch.
  bceLoss: {
    f: "-(t * capped_log(x) + (1.0 - t) * capped_log_of_rest(x))",
    gradients: [
      "dy * (x - t) / max((1.0 - x) * x, 1e-12)",
      "dy * (capped_log_of_rest(x) - capped_log(x))",
    ],
    ref: ([x, t]) =>
      -(t! * Math.max(Math.log(x!), -100) + (1 - t!) * Math.max(Math.log1p(-x!), -100)),
    module: `${LOG}
fn capped_log(x: f32) -> f32 {
  if (x == 0.0) { return -100.0; }
  return natural_log(x);
}
fn capped_log_of_rest(x: f32) -> f32 {
  if (x == 1.0) { return -100.0; }
  return log_1_plus(-x);
}`,
    x: { low: 0.05, high: 0.95 },
    t: { low: 0, high: 1 },
    extremes: [[0, 0], [0, 1], [1, 0], [1, 1], [1e-30, 1], [1e-7, 0]],
  },
  bceWithLogitsLoss: {
    f: "softplus_neg(x) + x - x * t",
    gradients: ["dy * (sigmoid(x) - t)", "-dy * x"],
    ref: ([x, t]) => Math.max(x!, 0) - x! * t! + Math.log1p(Math.exp(-Math.abs(x!))),
    module: LOGITS,
    t: { low: 0, high: 1 },
  },
  bceWithLogitsWeighted: {
    f: "(1.0 - t) * x + (1.0 + (w - 1.0) * t) * softplus_neg(x)",
    gradients: [
      "dy * ((1.0 - t) - (1.0 + (w - 1.0) * t) * sigmoid(-x))",
      "dy * ((w - 1.0) * softplus_neg(x) - x)",
      "dy * t * softplus_neg(x)",
    ],
    ref: ([x, t, w]) => (1 - t!) * x! + (1 + (w! - 1) * t!) * softplusNeg(x!),
    module: LOGITS,
    t: { low: 0, high: 1 },
    extremes: [[90, 0, 3], [-90, 1, 3], [20, 0, 3]],
  },
  klDiv: {
    f: "self_log(t) - t * x",
    gradients: ["-dy * t", "dy * (natural_log(t) + 1.0 - x)"],
    ref: ([x, t]) => (t === 0 ? 0 : t! * Math.log(t!)) - t! * x!,
    module: `${LOG}
fn self_log(t: f32) -> f32 {
  if (t == 0.0) { return 0.0; }
  return t * natural_log(t);
}`,
    t: { low: 0.05, high: 1 },
    extremes: [[-3, 0], [-3, 1]],
  },
  klDivLog: {
    f: "exp(t) * (t - x)",
    gradients: ["-dy * exp(t)", "dy * exp(t) * (t - x + 1.0)"],
    ref: ([x, t]) => Math.exp(t!) * (t! - x!),
  },
} satisfies Record<string, LossRow>;
