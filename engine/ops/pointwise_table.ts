/**
 * Element-by-element ops of one operand (two: `binary_table.ts`), one table row each: WGSL of the value, WGSL of the gradient, the float64
 * reference and the domain the generated tests draw from. A new pointwise op is a row here and a
 * method in `tensor.ts`.
 *
 * In `dx`, `da`, `db`: `x` or `a`, `b` are the inputs, `y` the output, `dy` the incoming gradient;
 * only the arrays a formula names are saved. Scalars (a slope, a bound) are uniforms.
 */

import { erf, erfc, erfInverse } from "../host_math.ts";
import { IS_NAN } from "../kernels/reduce.ts";
import {
  AREA,
  ASIN,
  ATAN,
  ERF,
  ERFC,
  ERFINV,
  EXP,
  EXP2,
  EXPM1,
  HYPERBOLIC,
  LOG,
  LOG10,
  LOG1P,
  TANH,
} from "../kernels/special.ts";
import { TRIG } from "../kernels/trig.ts";
import { ACTIVATIONS } from "./activation_table.ts";
import { ENDLESS, STEP, TRUTH, type UnaryRow } from "./pointwise_row.ts";

/** Unary ops by name. */
export const UNARY = {
  // u32 has no minus and naga has no sign() of it.
  neg: { f: "-x", integer: "0 - x", dx: "-dy", ref: (x) => -x, type: "same" },
  abs: { f: "abs(x)", dx: "dy * sign(x)", ref: Math.abs, type: "same", distinct: true },
  sign: {
    // Not sign(x), which may be anything for NaN: 0, as PyTorch has it.
    f: "f32(x > 0.0) - f32(x < 0.0)",
    integer: "select(x / abs(x), 0, x == 0)",
    dx: STEP,
    ref: (x) => Number(x > 0) - Number(x < 0),
    extremes: [NaN, -0.0, 0, 1e-30, -1e-30, Infinity],
    type: "same",
  },
  exp: {
    f: "exponential(x)",
    dx: "dy * y",
    ref: Math.exp,
    module: EXP,
    extremes: [-100, 88, 0, NaN],
  },
  exp2: {
    f: "binary_power(x)",
    dx: "dy * y * 0.69314718056",
    ref: (x) => 2 ** x,
    module: EXP2,
    extremes: [-140, 127, 0, 10, NaN],
  },
  expm1: {
    f: "exp_minus_1(x)",
    dx: "dy * (y + 1.0)",
    ref: Math.expm1,
    module: EXPM1,
    extremes: [-100, -1e-6, 0, 1e-30, 1e-6, 0.49, 0.51, 88],
  },
  log1p: {
    f: "log_1_plus(x)",
    dx: "dy / (1.0 + x)",
    ref: Math.log1p,
    module: LOG1P,
    low: -0.9,
    high: 4,
    extremes: [NaN, -2, -1, -0.999, -0.3, -1e-6, 0, 1e-30, 1e-6, 0.41, 0.42, 1e30],
  },
  log2: {
    f: "binary_log(x)",
    dx: "dy / (x * 0.69314718056)",
    ref: Math.log2,
    module: LOG,
    low: 0.1,
    high: 4,
    extremes: [1e-30, 1, 1024, 1e30],
  },
  log10: {
    f: "common_log(x)",
    dx: "dy / (x * 2.30258509299)",
    ref: Math.log10,
    module: LOG10,
    low: 0.1,
    high: 4,
    extremes: [1e-30, 0.9999, 1, 1.0001, 1000, 1e30, Infinity, 0, -1, NaN],
  },
  log: {
    f: "natural_log(x)",
    dx: "dy / x",
    ref: Math.log,
    module: LOG,
    low: 0.1,
    high: 4,
    extremes: [1e-30, 0.9999, 1, 1.0001, 1e30, 0, -1, NaN],
  },
  sqrt: { f: "sqrt(x)", dx: "0.5 * dy / y", ref: Math.sqrt, low: 0.1, high: 4, extremes: [0] },
  // |x|^p with the gradient 0 at 0, for norms.
  absPower: {
    f: "select(pow(abs(x), p), select(0.0, endless(p), p < 0.0), x == 0.0)",
    dx: "select(dy * p * sign(x) * pow(abs(x), p - 1.0), 0.0, x == 0.0)",
    ref: (x, s) => Math.abs(x) ** s.p!,
    module: ENDLESS,
    distinct: true,
    scalars: { p: 2.5 },
  },
  // x^(1/p) of x >= 0 with the gradient 0 at 0, where norms and deviations have a kink.
  rootOrZero: {
    f: "select(select(pow(x, 1.0 / p), 0.0, p < 0.0 && x > 3.4e38), sqrt(x), p == 2.0)",
    dx: "select(dy * y / (p * x), 0.0, x == 0.0)",
    ref: (x, s) => x ** (1 / s.p!),
    low: 0.1,
    high: 4,
    scalars: { p: 3 },
  },
  rsqrt: {
    f: "inverseSqrt(x)",
    dx: "-0.5 * dy * y * y * y",
    ref: (x) => 1 / Math.sqrt(x),
    low: 0.1,
    high: 4,
  },
  square: { f: "x * x", dx: "2.0 * dy * x", ref: (x) => x * x, type: "same" },
  reciprocal: { f: "1.0 / x", dx: "-dy * y * y", ref: (x) => 1 / x, low: 0.2, high: 3 },
  sin: {
    f: "sine(x)",
    dx: "dy * cosine(x)",
    ref: Math.sin,
    module: TRIG,
    extremes: [-30000, -100, 1e-30, 1.5707964, 3.1415927, 32768, 1e8, -3e38],
  },
  cos: {
    f: "cosine(x)",
    dx: "-dy * sine(x)",
    ref: Math.cos,
    module: TRIG,
    extremes: [-30000, -100, 1e-30, 1.5707964, 3.1415927, 32768, 1e8, -3e38],
  },
  tan: {
    f: "tangent(x)",
    dx: "dy * (1.0 + y * y)",
    ref: Math.tan,
    module: TRIG,
    low: -1.2,
    high: 1.2,
    extremes: [-30000, -100, 1e-30, 1.5707964, 3.1415927, 32768, 1e8, -3e38],
  },
  asin: {
    f: "arc_sin(x)",
    dx: "dy * inverseSqrt((1.0 - x) * (1.0 + x))",
    ref: Math.asin,
    module: ASIN,
    low: -0.95,
    high: 0.95,
    extremes: [-1, -1e-6, 0, 1e-6, 0.5, 1],
  },
  acos: {
    f: "arc_cos(x)",
    dx: "-dy * inverseSqrt((1.0 - x) * (1.0 + x))",
    ref: Math.acos,
    module: ASIN,
    low: -0.95,
    high: 0.95,
    extremes: [-1, -0.5, 0, 0.5, 0.9999, 1],
  },
  atan: {
    f: "arc_tan(x)",
    dx: "dy / (1.0 + x * x)",
    ref: Math.atan,
    module: ATAN,
    extremes: [-1e30, -3, -1e-6, 0, 1e-6, 1, 1e30],
  },
  sinh: {
    f: "hyperbolic_sine(x)",
    dx: "dy * hyperbolic_cosine(x)",
    ref: Math.sinh,
    module: HYPERBOLIC,
    extremes: [-89, -1e-6, 0, 1e-6, 79, 81, 89],
  },
  cosh: {
    f: "hyperbolic_cosine(x)",
    dx: "dy * hyperbolic_sine(x)",
    ref: Math.cosh,
    module: HYPERBOLIC,
    extremes: [-89, 0, 79, 81, 89],
  },
  asinh: {
    f: "area_sine(x)",
    dx: "dy * inverseSqrt(x * x + 1.0)",
    ref: Math.asinh,
    module: AREA,
    extremes: [-1e30, -3, -1e-6, 0, 1e-6, 1, 0.9e9, 1.1e9, 1e30, NaN],
  },
  acosh: {
    f: "area_cosine(x)",
    dx: "dy * inverseSqrt((x - 1.0) * (x + 1.0))",
    ref: Math.acosh,
    module: AREA,
    low: 1.1,
    high: 4,
    extremes: [1, 1.000001, 1.5, 0.9e9, 1.1e9, 1e30, 0.5, -3, NaN],
  },
  atanh: {
    f: "area_tangent(x)",
    dx: "dy / ((1.0 - x) * (1.0 + x))",
    ref: Math.atanh,
    module: AREA,
    low: -0.9,
    high: 0.9,
    extremes: [-1, -1e-6, 0, 1e-6, 0.5, 0.999, 1, 1.5, -2, NaN],
  },
  tanh: {
    f: "hyperbolic_tangent(x)",
    dx: "dy * (1.0 - y) * (1.0 + y)",
    ref: Math.tanh,
    module: TANH,
    extremes: [-500, -1e-6, 0, 1e-6, 0.25, 500],
  },
  erf: {
    f: "error_function(x)",
    dx: "dy * 1.1283791671 * exp(-x * x)",
    ref: erf,
    module: ERF,
    extremes: [-6, -4.1, -1e-6, 0, 1e-6, 3.9, 6],
  },
  erfc: {
    f: "error_complement(x)",
    dx: "-dy * 1.1283791671 * exp(-x * x)",
    ref: erfc,
    module: ERFC,
    extremes: [-6, -4.1, -1e-6, 0, 1e-6, 3.9, 6],
  },
  erfinv: {
    f: "inverse_error_function(x)",
    dx: "dy * 0.88622692545 * exp(y * y)",
    ref: erfInverse,
    module: ERFINV,
    low: -0.9,
    high: 0.9,
    extremes: [-1, -0.999, -1e-6, 0, 1e-6, 0.4999, 0.5001, 0.9999, 1, 1.5, NaN],
  },
  // log(x / (1 - x)), near ½ by the log of 1 + (2x - 1) / (1 - x), whose numerator is exact.
  logit: {
    f: "select(natural_log(x / (1.0 - x)), log_1_plus((2.0 * x - 1.0) / (1.0 - x)), " +
      "x > 0.42 && x < 0.58)",
    dx: "dy / (x * (1.0 - x))",
    ref: (x) => Math.abs(x - 0.5) < 0.1 ? 2 * Math.atanh(2 * x - 1) : Math.log(x / (1 - x)),
    module: LOG,
    low: 0.1,
    high: 0.9,
    extremes: [0, 1e-30, 0.4199, 0.4201, 0.4999999, 0.5, 0.5000001, 0.5799, 1, -1, 2, NaN],
  },
  ...ACTIVATIONS,
  clampBetween: {
    // Not clamp(x, lo, hi): NaN must stay NaN; hi wins where the bounds cross.
    f: "select(select(x, lo, x < lo), hi, x > hi || lo > hi)",
    dx: "select(0.0, dy, x >= lo && x <= hi)",
    ref: (x, s) => Math.min(Math.max(x, s.lo!), s.hi!),
    distinct: true,
    scalars: { lo: -0.72, hi: 1.03 },
  },
  floor: { f: "floor(x)", integer: "x", dx: STEP, ref: Math.floor, type: "same" },
  ceil: { f: "ceil(x)", integer: "x", dx: STEP, ref: Math.ceil, type: "same" },
  trunc: { f: "trunc(x)", integer: "x", dx: STEP, ref: Math.trunc, type: "same" },
  round: { f: "round(x)", integer: "x", dx: STEP, ref: roundHalfEven, type: "same" },
  frac: { f: "x - trunc(x)", dx: "dy", ref: (x) => x - Math.trunc(x) },
  // Finite numbers stay; the gradient is theirs alone.
  replaceNonFinite: {
    f: "select(select(select(x, negative, x < -3.4028234e38), positive, x > 3.4028234e38), " +
      "nan, is_nan(x))",
    integer: "x",
    dx: "select(0.0, dy, abs(x) <= 3.4028234e38)",
    ref: (x, s) =>
      Number.isNaN(x) ? s.nan! : x === Infinity ? s.positive! : x < -3.5e38 ? s.negative! : x,
    type: "same",
    module: IS_NAN,
    scalars: { nan: 0.5, positive: 7, negative: -8 },
    extremes: [NaN, 0, 3e38, Infinity, -Infinity, NaN, -3.4028234e38],
  },
  isfinite: {
    f: "is_finite(x)",
    integer: "true",
    dx: TRUTH,
    ref: (x) => Number(Number.isFinite(x)),
    type: "bool",
    module: `
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) < 0x7f800000u; }`,
    extremes: [Infinity, 0, -Infinity, 3.4028234e38, NaN, Infinity],
  },
  isnan: {
    f: "is_nan(x)",
    integer: "false",
    dx: TRUTH,
    ref: (x) => Number(Number.isNaN(x)),
    type: "bool",
    module: IS_NAN,
    extremes: [NaN, 0, 3e38, Infinity, -Infinity, NaN],
  },
  isinf: {
    f: "is_inf(x)",
    integer: "false",
    dx: TRUTH,
    ref: (x) => Number(Math.abs(x) === Infinity),
    type: "bool",
    module: `
fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }`,
    extremes: [Infinity, 0, -Infinity, 3e38, NaN, Infinity],
  },
  logicalNot: {
    f: "x == 0.0",
    dx: TRUTH,
    ref: (x) => Number(x === 0),
    type: "bool",
    extremes: [0, 1, -0, NaN, -2, 0],
  },
} satisfies Record<string, UnaryRow>;

function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}
