/** Rows of the pointwise table for activation functions; see `pointwise_table.ts` for the columns. */

import { normalCdf } from "../host_math.ts";
import { EXP, EXPM1, LOG1P, NORMAL_CDF } from "../kernels/special.ts";
import type { UnaryRow } from "./pointwise_row.ts";

/** Constants of self-normalising networks (Klambauer et al. 2017), to double precision. */
const SELU_ALPHA = 1.6732632423543772;
const SELU_SCALE = 1.0507009873554805;

/** Activations by name. */
export const ACTIVATIONS = {
  sigmoid: {
    f: "1.0 / (1.0 + exponential(-x))",
    module: EXP,
    dx: "dy * y * (1.0 - y)",
    ref: sigmoid,
    extremes: [-80, 80, 0],
  },
  // log(sigmoid(x)) without overflow on either side.
  logSigmoid: {
    f: "select(x, 0.0, x > 0.0) - log_1_plus(exp(-abs(x)))",
    dx: "dy / (1.0 + exp(x))",
    ref: (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x))),
    module: LOG1P,
    extremes: [-1000, -90, 20, 80, 0],
  },
  relu: {
    // Not max(x, 0): NaN must stay NaN.
    f: "select(x, 0.0, x < 0.0)",
    dx: "select(dy, 0.0, x <= 0.0)",
    ref: (x) => Math.max(x, 0),
    type: "same",
    distinct: true,
  },
  leakyRelu: {
    f: "select(x, slope * x, x < 0.0)",
    dx: "select(slope * dy, dy, x > 0.0)",
    ref: (x, s) => x < 0 ? s.slope! * x : x,
    distinct: true,
    scalars: { slope: 0.1 },
  },
  elu: {
    f: "select(alpha * exp_minus_1(x), x, x > 0.0)",
    dx: "select(dy * alpha * exp(x), dy, x > 0.0)",
    ref: (x, s) => x > 0 ? x : s.alpha! * Math.expm1(x),
    module: EXPM1,
    distinct: true,
    scalars: { alpha: 1.3 },
    extremes: [-1000, -1e-6, 0, 1e-6, 1000],
  },
  selu: {
    f: `${SELU_SCALE} * select(${SELU_ALPHA} * exp_minus_1(x), x, x > 0.0)`,
    dx: `${SELU_SCALE} * select(dy * ${SELU_ALPHA} * exp(x), dy, x > 0.0)`,
    ref: (x) => SELU_SCALE * (x > 0 ? x : SELU_ALPHA * Math.expm1(x)),
    module: EXPM1,
    distinct: true,
    extremes: [-1000, -1e-6, 0, 1e-6, 1000],
  },
  celu: {
    f: "select(alpha * exp_minus_1(x / alpha), x, x > 0.0)",
    dx: "select(dy * exp(x / alpha), dy, x > 0.0)",
    ref: (x, s) => x > 0 ? x : s.alpha! * Math.expm1(x / s.alpha!),
    module: EXPM1,
    distinct: true,
    scalars: { alpha: 0.7 },
    extremes: [-1000, -1e-6, 0, 1e-6, 1000],
  },
  gelu: {
    f: "x * normal_cdf(x)",
    dx: "dy * (normal_cdf(x) + x * 0.3989422804 * exp(-0.5 * x * x))",
    ref: (x) => x * normalCdf(x),
    module: NORMAL_CDF,
    extremes: [-8, -5, -1e-6, 0, 1e-6, 5, 100],
  },
  // ½(1 + tanh(u)) is the sigmoid of 2u, which does not cancel on the negative side.
  geluTanh: {
    f: "x / (1.0 + exp(-gelu_inner(x)))",
    dx: "gelu_tanh_gradient(x, dy)",
    ref: (x) => x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)),
    module: `
fn gelu_inner(x: f32) -> f32 { return 1.5957691216 * (x + 0.044715 * x * x * x); }
fn gelu_tanh_gradient(x: f32, dy: f32) -> f32 {
  let s = 1.0 / (1.0 + exp(-gelu_inner(x)));
  return dy * (s + x * s * (1.0 - s) * 1.5957691216 * (1.0 + 0.134145 * x * x));
}`,
    extremes: [-4, -1e-6, 0, 1e-6, 5, 100],
  },
  silu: {
    f: "x / (1.0 + exp(-x))",
    dx: "silu_gradient(x, dy)",
    ref: (x) => x * sigmoid(x),
    module: `
fn silu_gradient(x: f32, dy: f32) -> f32 {
  let s = 1.0 / (1.0 + exp(-x));
  return dy * s * (1.0 + x * (1.0 - s));
}`,
    extremes: [-200, -80, -1e-6, 0, 1e-6, 100],
  },
  // tanh(log(1 + n)) = w / (w + 2) with n = exp(x) and w = n (n + 2); 1 beyond 20.
  mish: {
    f: "mish(x)",
    dx: "mish_gradient(x, dy)",
    ref: (x) => x * Math.tanh(Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
    module: `
fn mish(x: f32) -> f32 {
  let n = exp(select(x, 20.0, x > 20.0));
  let w = n * (n + 2.0);
  return select(x * (w / (w + 2.0)), x, x > 20.0);
}
fn mish_gradient(x: f32, dy: f32) -> f32 {
  let n = exp(select(x, 20.0, x > 20.0));
  let w = n * (n + 2.0);
  let v = w + 2.0;
  return select(dy * (w / v + x * (4.0 * n * (n + 1.0) / (v * v))), dy, x > 20.0);
}`,
    extremes: [-80, -20, -1e-6, 0, 1e-6, 19, 21, 1e30],
  },
  // As PyTorch: linear where beta · x is over the threshold.
  softplus: {
    f: "softplus(x, beta, threshold)",
    dx: "select(dy / (1.0 + exp(-beta * x)), dy, beta * x > threshold)",
    ref: (x, s) => {
      const z = s.beta! * x;
      if (z > s.threshold!) return x;
      return (Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)))) / s.beta!;
    },
    module: `${LOG1P}
fn softplus(x: f32, beta: f32, threshold: f32) -> f32 {
  let z = beta * x;
  return select((select(z, 0.0, z < 0.0) + log_1_plus(exp(-abs(z)))) / beta, x, z > threshold);
}`,
    scalars: { beta: 1.5, threshold: 20 },
    extremes: [-50, -20, 0, 13, 14, 1000],
  },
  softsign: {
    f: "x / (1.0 + abs(x))",
    dx: "dy / ((1.0 + abs(x)) * (1.0 + abs(x)))",
    ref: (x) => x / (1 + Math.abs(x)),
    extremes: [-1e30, -1e-6, 0, 1e30],
  },
  hardsigmoid: {
    f: "limited(x / 6.0 + 0.5)",
    dx: "select(0.0, dy / 6.0, x > -3.0 && x < 3.0)",
    ref: (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1),
    module: `
fn limited(v: f32) -> f32 { return select(select(v, 0.0, v < 0.0), 1.0, v > 1.0); }`,
    distinct: true,
    low: -4,
    high: 4,
    extremes: [-1e30, -3, 0, 3, 1e30],
  },
  hardswish: {
    f: "select(select(x * (x + 3.0) / 6.0, 0.0, x <= -3.0), x, x >= 3.0)",
    dx: "select(select(dy * (x / 3.0 + 0.5), 0.0, x <= -3.0), dy, x >= 3.0)",
    ref: (x) => x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6,
    distinct: true,
    low: -4,
    high: 4,
    extremes: [-Infinity, -1e30, -3, 0, 3, 1e30, Infinity, NaN],
  },
  softshrink: {
    f: "x - select(select(x, lambda, x > lambda), -lambda, x < -lambda)",
    dx: "select(dy, 0.0, x >= -lambda && x <= lambda)",
    ref: (x, s) => x - Math.min(Math.max(x, -s.lambda!), s.lambda!),
    distinct: true,
    scalars: { lambda: 0.37 },
    extremes: [-1e30, 0, 1e30],
  },
  hardshrink: {
    f: "select(x, 0.0, x >= -lambda && x <= lambda)",
    dx: "select(dy, 0.0, x >= -lambda && x <= lambda)",
    ref: (x, s) => Math.abs(x) <= s.lambda! ? 0 : x,
    distinct: true,
    scalars: { lambda: 0.37 },
    extremes: [-1e30, 0, 1e30],
  },
  hardtanh: {
    f: "select(select(x, lo, x < lo), hi, x > hi)",
    dx: "select(dy, 0.0, x <= lo || x >= hi)",
    ref: (x, s) => Math.min(Math.max(x, s.lo!), s.hi!),
    distinct: true,
    scalars: { lo: -0.72, hi: 1.03 },
  },
} satisfies Record<string, UnaryRow>;

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
