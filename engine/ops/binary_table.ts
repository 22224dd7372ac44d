/**
 * Element-by-element ops of two operands, one table row each; see `pointwise_table.ts` for the columns.
 */

import { isFloat } from "../dtype.ts";
import { IS_NAN } from "../kernels/reduce.ts";
import { ATAN, FLOAT_MOD, LOG, LOG1P } from "../kernels/special.ts";
import { ENDLESS, STEP, TRUTH } from "./pointwise_row.ts";
import type { BinaryRow } from "./pointwise_row.ts";

const COMPARISON = { da: TRUTH, db: TRUTH, type: "bool" } as const;

/** Binary ops by name. */
export const BINARY = {
  add: { f: "a + b", da: "dy", db: "dy", ref: (a, b) => a + b, bool: true },
  sub: { f: "a - b", da: "dy", db: "-dy", ref: (a, b) => a - b },
  mul: { f: "a * b", da: "dy * b", db: "dy * a", ref: (a, b) => a * b, bool: true },
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
    integer: "whole_power(a, b)",
    da: "select(dy * b * power(a, b - 1.0), 0.0, b == 0.0)",
    db: "select(dy * y * log(a), 0.0, a == 0.0 && b >= 0.0)",
    ref: cPower,
    check(b, dtype) {
      if (isFloat(dtype) || typeof b !== "number" || b >= 0) return;
      throw new RangeError(
        `Cannot pow whole numbers to ${b}: the exponent must not be negative; convert them with to("f32")`,
      );
    },
    integerRef: wholePower,
    integerModule: (type) => `
fn whole_power(a: ${type}, b: ${type}) -> ${type} {
  if (b < 0) {
    if (a == 1) { return a; }
    return select(0, 1 - 2 * (b & 1), a + 1 == 0);
  }
  var y = ${type}(1);
  var factor = a;
  for (var left = u32(b); left != 0u; left >>= 1u) {
    if ((left & 1u) == 1u) { y *= factor; }
    factor *= factor;
  }
  return y;
}`,
    lowA: 0.2,
    // pow() of a negative base is undefined in WGSL, and of 0 and infinities not what C has, whose rules
    // are wanted. Of small whole exponents it loses 20 ulp, so those are products.
    module: `${IS_NAN}${ENDLESS}
fn power(a: f32, b: f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (is_nan(a) || is_nan(b)) { return a + b; }
  if (b == 1.0) { return a; }
  if (b == 2.0) { return a * a; }
  if (b == 3.0) { return a * a * a; }
  if (b == 0.5 && a >= 0.0) { return sqrt(a); }
  if (b == -1.0) { return 1.0 / a; }
  let size = bitcast<u32>(a) & 0x7fffffffu;
  let steep = (bitcast<u32>(b) & 0x7fffffffu) == 0x7f800000u;
  let at_end = size == 0u || size == 0x7f800000u;
  var m = pow(abs(a), b);
  if (at_end) {
    m = select(0.0, endless(b), (size == 0u) == (b < 0.0));
  } else if (steep) {
    m = select(select(0.0, endless(b), (abs(a) > 1.0) == (b > 0.0)), 1.0, abs(a) == 1.0);
  }
  if ((bitcast<u32>(a) >> 31u) == 0u || steep) { return m; }
  let whole = b == trunc(b);
  if (!whole && !at_end) { return bitcast<f32>(0x7fc00000u | u32(b < 0.0)); }
  return select(m, -m, whole && abs(b - 2.0 * trunc(b / 2.0)) == 1.0);
}`,
  },
  // Integers: 0 where b is 0, as WGSL has it.
  fmod: {
    f: "float_mod(a, b)",
    integer: "a % b",
    da: "dy",
    db: "-dy * round((a - y) / b)",
    ref: (a, b) => a % b,
    lowB: 0.3,
    module: FLOAT_MOD,
  },
  remainder: {
    f: "float_remainder(a, b)",
    integer: "select(a % b, a % b + b, a % b != 0 && (a % b < 0) != (b < 0))",
    da: "dy",
    db: "-dy * round((a - y) / b)",
    ref: floorRemainder,
    lowB: 0.3,
    module: FLOAT_MOD,
  },
  // Integers: a where b is 0, as WGSL has it.
  floorDivide: {
    f: "floor_divide(a, b)",
    integer: "select(a / b, a / b - 1, a % b != 0 && (a % b < 0) != (b < 0))",
    da: STEP,
    db: STEP,
    ref: (a, b) => b === 0 ? a / b : Math.round((a - floorRemainder(a, b)) / b),
    lowB: 0.3,
    // Without the remainder the quotient is whole but for rounding.
    module: `${FLOAT_MOD}
fn floor_divide(a: f32, b: f32) -> f32 {
  if (b == 0.0) { return a / b; }
  let r = float_mod(a, b);
  return round((a - r) / b) - select(0.0, 1.0, r != 0.0 && (r < 0.0) != (b < 0.0));
}`,
  },
  // The quotient as rounded to f32, then its whole part. Adapters may round a / b otherwise, 49 / 49 to below 1,
  // so it is the exact whole part, or the next one where what the quotient lacks of that rounds away; beyond
  // 2^23 as exact as the quotient.
  // Integers: a where b is 0, as WGSL has it.
  truncDivide: {
    f: "trunc_divide(a, b)",
    integer: "a / b",
    da: STEP,
    db: STEP,
    ref: (a, b) => Math.trunc(Math.fround(a / b)),
    lowB: 0.3,
    module: `${FLOAT_MOD}
fn trunc_divide(a: f32, b: f32) -> f32 {
  if (b == 0.0 || abs(a) > 3.4028234e38) { return a / b; }
  let r = float_mod(a, b);
  let whole = round((a - r) / b);
  let next = abs(whole) + 1.0;
  let below = bitcast<f32>(bitcast<u32>(next) - 1u);
  let reaches = (abs(b) - abs(r)) / abs(b) <= 0.5 * (next - below);
  return select(whole, select(next, -next, (a < 0.0) != (b < 0.0)), reaches);
}`,
  },
  hypot: {
    f: "hypotenuse(a, b)",
    da: "select(dy * (a / y), 0.0, y == 0.0)",
    db: "select(dy * (b / y), 0.0, y == 0.0)",
    ref: Math.hypot,
    type: "float",
    // By the larger one, so that no square overflows; infinite where either is, as C's.
    module: `
fn hypotenuse(a: f32, b: f32) -> f32 {
  let p = abs(a);
  let q = abs(b);
  let big = select(q, p, p > q);
  let t = select(p, q, p > q) / big;
  let v = select(big * sqrt(1.0 + t * t), p + q, big == 0.0);
  return select(select(v, p, p > 3.4028234e38), q, q > 3.4028234e38);
}`,
  },
  copysign: {
    f: "with_sign(a, b)",
    da: "select(dy * sign(a) * with_sign(1.0, b), 0.0, a == 0.0)",
    db: STEP,
    ref: (a, b) => Object.is(Math.sign(b), -0) || b < 0 ? -Math.abs(a) : Math.abs(a),
    type: "float",
    distinct: true,
    module: `
fn with_sign(a: f32, b: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(a) & 0x7fffffffu) | (bitcast<u32>(b) & 0x80000000u));
}`,
  },
  // a · log(b), and 0 where a is 0, whatever the log.
  xlogy: {
    f: "select(a * natural_log(b), 0.0, a == 0.0 && !(is_nan(b)))",
    da: "select(dy * natural_log(b), 0.0, a == 0.0 && b <= 0.0)",
    db: "select(dy * a / b, 0.0, a == 0.0 && b == 0.0)",
    ref: (a, b) => a === 0 && !Number.isNaN(b) ? 0 : a * Math.log(b),
    type: "float",
    lowB: 0.3,
    module: `${LOG}${IS_NAN}`,
  },
  // x where positive, else b · x.
  prelu: {
    f: "select(b * a, a, a > 0.0)",
    da: "select(dy * b, dy, a > 0.0)",
    db: "select(dy * a, 0.0, a > 0.0)",
    ref: (a, b) => a > 0 ? a : b * a,
    type: "float",
    distinct: true,
  },
  // log(exp(a) + exp(b)) by the larger one. Equal infinities: themselves, and half the gradient each.
  logaddexp: {
    f: "log_add_exp(a, b)",
    da: "select(dy / (1.0 + exp(b - a)), 0.5 * dy, a == b && abs(a) > 3.4028234e38)",
    db: "select(dy / (1.0 + exp(a - b)), 0.5 * dy, a == b && abs(a) > 3.4028234e38)",
    ref: (a, b) => a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))),
    type: "float",
    module: `${LOG1P}
fn log_add_exp(a: f32, b: f32) -> f32 {
  let less = exp(select(-abs(a - b), 0.0, a == b));
  return select(b, a, a > b || !(a == a)) + log_1_plus(less);
}`,
  },
  atan2: {
    f: "arc_tan2(a, b)",
    da: "select(dy * b / (a * a + b * b), 0.0, a == 0.0 && b == 0.0)",
    db: "select(-dy * a / (a * a + b * b), 0.0, a == 0.0 && b == 0.0)",
    ref: Math.atan2,
    type: "float",
    lowA: 0.3,
    module: ATAN,
  },
  maximum: {
    f: "select(select(b, a, a > b), a, is_nan(a))",
    integer: "select(b, a, a > b)",
    da: "select(select(dy, 0.5 * dy, a == b), 0.0, a < b)",
    db: "select(select(dy, 0.5 * dy, a == b), 0.0, b < a)",
    ref: Math.max,
    bool: true,
    module: IS_NAN,
    distinct: true,
  },
  minimum: {
    f: "select(select(b, a, a < b), a, is_nan(a))",
    integer: "select(b, a, a < b)",
    da: "select(select(dy, 0.5 * dy, a == b), 0.0, a > b)",
    db: "select(select(dy, 0.5 * dy, a == b), 0.0, b > a)",
    ref: Math.min,
    bool: true,
    module: IS_NAN,
    distinct: true,
  },
  eq: { ...COMPARISON, f: "a == b", ref: (a, b) => Number(a === b) },
  // Not a != b: that is false for NaN in some compilers' eyes.
  ne: { ...COMPARISON, f: "!(a == b)", ref: (a, b) => Number(a !== b) },
  lt: { ...COMPARISON, f: "a < b", ref: (a, b) => Number(a < b) },
  le: { ...COMPARISON, f: "a <= b", ref: (a, b) => Number(a <= b) },
  gt: { ...COMPARISON, f: "a > b", ref: (a, b) => Number(a > b) },
  ge: { ...COMPARISON, f: "a >= b", ref: (a, b) => Number(a >= b) },
  logicalAnd: {
    ...COMPARISON,
    f: "!(a == 0.0 || b == 0.0)",
    ref: (a, b) => Number(a !== 0 && b !== 0),
  },
  logicalOr: {
    ...COMPARISON,
    f: "!(a == 0.0 && b == 0.0)",
    ref: (a, b) => Number(a !== 0 || b !== 0),
  },
} satisfies Record<string, BinaryRow>;

/** a^b by C's rules, which JavaScript's differ from where a is 1 or -1 and b is no finite number. */
function cPower(a: number, b: number): number {
  if (a === 1 || (a === -1 && Math.abs(b) === Infinity)) return 1;
  return a ** b;
}

/** a^b of integers, modulo 2^32; of a negative b the whole part. */
function wholePower(a: number, b: number): number {
  if (b < 0) return a === 1 ? 1 : a === -1 ? 1 - 2 * (b & 1) : 0;
  let [y, factor] = [1, a];
  for (let left = b; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) y = Math.imul(y, factor);
    factor = Math.imul(factor, factor);
  }
  return y;
}

function floorRemainder(a: number, b: number): number {
  const r = a % b;
  return r !== 0 && r < 0 !== b < 0 ? r + b : r;
}
