/**
 * Element-by-element ops, one table row each: WGSL of the value, WGSL of the gradient, the float64
 * reference and the domain the generated tests draw from. A new pointwise op is a row here and a
 * method in `tensor.ts`.
 *
 * In `dx`, `da`, `db`: `x` or `a`, `b` are the inputs, `y` the output, `dy` the incoming gradient;
 * only the arrays a formula names are saved. Scalars (a slope, a bound) are uniforms.
 */

import { IS_NAN } from "../kernels/reduce.ts";
import { type NotDifferentiable, notDifferentiable } from "../op.ts";

/** Scalars of an op, by name. */
export type Scalars = Readonly<Record<string, number>>;

/** A unary op. */
export interface UnaryRow {
  /** WGSL over `x` and the scalars. */
  f: string;
  /** The same for integers; default: `f` with whole numbers. */
  integer?: string;
  /** WGSL over `x`, `y`, `dy` and the scalars. */
  dx: string | NotDifferentiable;
  ref: (x: number, s: Scalars) => number;
  /** `float`: integers become f32; `same`: any dtype stays; `bool`: any dtype gives bool. */
  type?: "float" | "same" | "bool";
  module?: string;
  low?: number;
  high?: number;
  /** Points where the formula is delicate; forward only. */
  extremes?: readonly number[];
  /** Draw values away from each other and from kinks. */
  distinct?: boolean;
  scalars?: Scalars;
}

const STEP = notDifferentiable("piecewise constant: the derivative is 0 wherever it exists");

/** Unary ops by name. */
export const UNARY = {
  // u32 has no minus and naga has no sign() of it.
  neg: { f: "-x", integer: "0 - x", dx: "-dy", ref: (x) => -x, type: "same" },
  abs: { f: "abs(x)", dx: "dy * sign(x)", ref: Math.abs, type: "same", distinct: true },
  sign: {
    f: "sign(x)",
    integer: "select(x / abs(x), 0, x == 0)",
    dx: STEP,
    ref: Math.sign,
    type: "same",
  },
  exp: { f: "exp(x)", dx: "dy * y", ref: Math.exp, extremes: [-100, 88, 0] },
  log: { f: "log(x)", dx: "dy / x", ref: Math.log, low: 0.1, high: 4, extremes: [1e-30, 1e30] },
  sqrt: { f: "sqrt(x)", dx: "0.5 * dy / y", ref: Math.sqrt, low: 0.1, high: 4, extremes: [0] },
  rsqrt: {
    f: "inverseSqrt(x)",
    dx: "-0.5 * dy * y * y * y",
    ref: (x) => 1 / Math.sqrt(x),
    low: 0.1,
    high: 4,
  },
  square: { f: "x * x", dx: "2.0 * dy * x", ref: (x) => x * x },
  reciprocal: { f: "1.0 / x", dx: "-dy * y * y", ref: (x) => 1 / x, low: 0.2, high: 3 },
  sin: { f: "sin(x)", dx: "dy * cos(x)", ref: Math.sin },
  cos: { f: "cos(x)", dx: "-dy * sin(x)", ref: Math.cos },
  tanh: {
    // Beyond 20 tanh is 1 to the last bit; some drivers give inf/inf there.
    f: "tanh(clamp(x, -20.0, 20.0))",
    dx: "dy * (1.0 - y * y)",
    ref: Math.tanh,
    extremes: [-500, 500, 0],
  },
  sigmoid: {
    f: "1.0 / (1.0 + exp(-x))",
    dx: "dy * y * (1.0 - y)",
    ref: (x) => 1 / (1 + Math.exp(-x)),
    extremes: [-80, 80, 0],
  },
  relu: {
    // Not max(x, 0): NaN must stay NaN.
    f: "select(x, 0.0, x < 0.0)",
    dx: "select(0.0, dy, x > 0.0)",
    ref: (x) => Math.max(x, 0),
    distinct: true,
  },
  leakyRelu: {
    f: "select(x, slope * x, x < 0.0)",
    dx: "select(dy, slope * dy, x < 0.0)",
    ref: (x, s) => x < 0 ? s.slope! * x : x,
    distinct: true,
    scalars: { slope: 0.1 },
  },
  clampBetween: {
    f: "clamp(x, lo, hi)",
    dx: "select(0.0, dy, x >= lo && x <= hi)",
    ref: (x, s) => Math.min(Math.max(x, s.lo!), s.hi!),
    distinct: true,
    scalars: { lo: -0.72, hi: 1.03 },
  },
  floor: { f: "floor(x)", dx: STEP, ref: Math.floor },
  ceil: { f: "ceil(x)", dx: STEP, ref: Math.ceil },
  trunc: { f: "trunc(x)", dx: STEP, ref: Math.trunc },
  round: { f: "round(x)", dx: STEP, ref: roundHalfEven },
  isnan: {
    f: "is_nan(x)",
    integer: "false",
    dx: STEP,
    ref: (x) => Number(Number.isNaN(x)),
    type: "bool",
    module: IS_NAN,
  },
  logicalNot: { f: "x == 0.0", dx: STEP, ref: (x) => Number(x === 0), type: "bool" },
} satisfies Record<string, UnaryRow>;

/** A binary op. */
export interface BinaryRow {
  f: string;
  da: string | NotDifferentiable;
  db: string | NotDifferentiable;
  ref: (a: number, b: number) => number;
  /** `same`: the promoted dtype; `float`: f32 for integers; `bool`. */
  type?: "same" | "float" | "bool";
  module?: string;
  lowA?: number;
  lowB?: number;
  distinct?: boolean;
}

const COMPARISON = { da: STEP, db: STEP, type: "bool" } as const;

/** Binary ops by name. */
export const BINARY = {
  add: { f: "a + b", da: "dy", db: "dy", ref: (a, b) => a + b },
  sub: { f: "a - b", da: "dy", db: "-dy", ref: (a, b) => a - b },
  mul: { f: "a * b", da: "dy * b", db: "dy * a", ref: (a, b) => a * b },
  div: {
    f: "a / b",
    da: "dy / b",
    db: "-dy * y / b",
    ref: (a, b) => a / b,
    type: "float",
    lowB: 0.3,
  },
  pow: {
    f: "power(a, b)",
    da: "select(dy * b * power(a, b - 1.0), 0.0, b == 0.0)",
    db: "select(dy * y * log(a), 0.0, a == 0.0)",
    ref: (a, b) => a ** b,
    type: "float",
    lowA: 0.2,
    // pow() of a negative base is undefined in WGSL; C's rule is wanted.
    module: `
fn power(a: f32, b: f32) -> f32 {
  if (b == 0.0) { return 1.0; }
  let m = pow(abs(a), b);
  if (a >= 0.0) { return m; }
  if (b != trunc(b)) { return bitcast<f32>(0x7fc00000u | u32(b < 0.0)); }
  return select(m, -m, abs(b - 2.0 * trunc(b / 2.0)) == 1.0);
}`,
  },
  maximum: {
    f: "select(select(b, a, a > b), a, is_nan(a))",
    da: "select(select(0.0, dy, a > b), 0.5 * dy, a == b)",
    db: "select(select(0.0, dy, b > a), 0.5 * dy, a == b)",
    ref: Math.max,
    module: IS_NAN,
    distinct: true,
  },
  minimum: {
    f: "select(select(b, a, a < b), a, is_nan(a))",
    da: "select(select(0.0, dy, a < b), 0.5 * dy, a == b)",
    db: "select(select(0.0, dy, b < a), 0.5 * dy, a == b)",
    ref: Math.min,
    module: IS_NAN,
    distinct: true,
  },
  eq: { ...COMPARISON, f: "a == b", ref: (a, b) => Number(a === b) },
  ne: { ...COMPARISON, f: "a != b", ref: (a, b) => Number(a !== b) },
  lt: { ...COMPARISON, f: "a < b", ref: (a, b) => Number(a < b) },
  le: { ...COMPARISON, f: "a <= b", ref: (a, b) => Number(a <= b) },
  gt: { ...COMPARISON, f: "a > b", ref: (a, b) => Number(a > b) },
  ge: { ...COMPARISON, f: "a >= b", ref: (a, b) => Number(a >= b) },
  logicalAnd: { ...COMPARISON, f: "a != 0.0 && b != 0.0", ref: (a, b) => Number(!!a && !!b) },
  logicalOr: { ...COMPARISON, f: "a != 0.0 || b != 0.0", ref: (a, b) => Number(!!a || !!b) },
} satisfies Record<string, BinaryRow>;

function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}
