/** Element-by-element ops as functions. Operands broadcast; either one may be a number. */

import { checkOperand } from "./arguments.ts";
import { type DType, isFloat } from "./dtype.ts";
import type { Op } from "./op.ts";
import { fill } from "./ops/fill.ts";
import { binary, type BinaryAttrs, unary } from "./ops/pointwise.ts";
import type { Scalars } from "./ops/pointwise_row.ts";
import { where as whereOp } from "./ops/select.ts";
import { inArena } from "./array.ts";
import { show } from "./shape.ts";
import { apply, type Operand, Tensor } from "./tensor.ts";
import {
  type AlphaOptions,
  combineAny,
  combineScaled,
  divisionOf,
  type RoundingOptions,
} from "./tensor_pointwise.ts";

/** An op on one tensor. */
export type UnaryFunction = (x: Tensor) => Tensor;
/** An op on two operands, at least one of them a tensor. */
export type BinaryFunction = (a: Operand, b: Operand) => Tensor;

function one(op: Op<Scalars>): UnaryFunction {
  return (x) => apply(op, [x], {})[0]!;
}

function two(op: Op<BinaryAttrs>): BinaryFunction {
  return (a, b) => combineAny(op, [a, b]);
}

/** a + alpha · b; alpha (default 1) must be whole where both are. Of two bools it is or. */
export function add(a: Operand, b: Operand, options?: AlphaOptions): Tensor;
/** a + b, as `reduce` of a list of tensors asks for it: `losses.reduce(add)`. */
export function add(a: Operand, b: Operand, index: number, list: readonly Operand[]): Tensor;
export function add(
  a: Operand,
  b: Operand,
  options?: AlphaOptions | number,
  list?: readonly Operand[],
): Tensor {
  return combineScaled(binary.add, [a, b], list ? undefined : options as AlphaOptions);
}
/** a - alpha · b; alpha (default 1) must be whole where both are. */
export function sub(a: Operand, b: Operand, options?: AlphaOptions): Tensor {
  return combineScaled(binary.sub, [a, b], options);
}
/** a / b; integers give f32. With `roundingMode` a whole number, and integers stay so. */
export function div(a: Operand, b: Operand, options?: RoundingOptions): Tensor {
  return combineAny(divisionOf(options), [a, b]);
}
/** a · b; of two bools it is and. */
export const mul: BinaryFunction = two(binary.mul);
/** a to the power of b; whole numbers stay so, and to a negative power are cut to 0 or ±1. */
export const pow: BinaryFunction = two(binary.pow);
/** The larger of both; NaN wins. */
export const maximum: BinaryFunction = two(binary.maximum);
/** The smaller of both; NaN wins. */
export const minimum: BinaryFunction = two(binary.minimum);
/** What is left of a after whole multiples of b, signed as a; exact. */
export const fmod: BinaryFunction = two(binary.fmod);
/** What is left of a after whole multiples of b, signed as b; exact. */
export const remainder: BinaryFunction = two(binary.remainder);
/** Whole number at or below a / b; integers stay so, and are a where b is 0. */
export const floorDivide: BinaryFunction = two(binary.floorDivide);
/** √(a² + b²) without overflow. */
export const hypot: BinaryFunction = two(binary.hypot);
/** |a| with the sign of b, also of a zero. */
export const copysign: BinaryFunction = two(binary.copysign);
/** a · log(b); 0 where a is 0. */
export const xlogy: BinaryFunction = two(binary.xlogy);
/** log(exp(a) + exp(b)) without overflow. */
export const logaddexp: BinaryFunction = two(binary.logaddexp);
/** Angle in radians of the point (b, a), -π to π. */
export const atan2: BinaryFunction = two(binary.atan2);
/** a == b, as bool. */
export const eq: BinaryFunction = two(binary.eq);
/** a != b, as bool. */
export const ne: BinaryFunction = two(binary.ne);
/** a < b, as bool. */
export const lt: BinaryFunction = two(binary.lt);
/** a <= b, as bool. */
export const le: BinaryFunction = two(binary.le);
/** a > b, as bool. */
export const gt: BinaryFunction = two(binary.gt);
/** a >= b, as bool. */
export const ge: BinaryFunction = two(binary.ge);
/** Both true (not 0). */
export const logicalAnd: BinaryFunction = two(binary.logicalAnd);
/** Either true (not 0). */
export const logicalOr: BinaryFunction = two(binary.logicalOr);
/** True where x is 0. */
export const logicalNot: UnaryFunction = one(unary.logicalNot);
/** -x. */
export const neg: UnaryFunction = one(unary.neg);
/** |x|. */
export const abs: UnaryFunction = one(unary.abs);
/** -1, 0 or 1. */
export const sign: UnaryFunction = one(unary.sign);
/** e to the power of x. */
export const exp: UnaryFunction = one(unary.exp);
/** 2 to the power of x. */
export const exp2: UnaryFunction = one(unary.exp2);
/** exp(x) - 1, accurate near 0. */
export const expm1: UnaryFunction = one(unary.expm1);
/** Natural logarithm. */
export const log: UnaryFunction = one(unary.log);
/** log(1 + x), accurate near 0. */
export const log1p: UnaryFunction = one(unary.log1p);
/** Logarithm to base 2. */
export const log2: UnaryFunction = one(unary.log2);
/** Logarithm to base 10, exact for powers of 10. */
export const log10: UnaryFunction = one(unary.log10);
/** Square root. */
export const sqrt: UnaryFunction = one(unary.sqrt);
/** 1 / square root. */
export const rsqrt: UnaryFunction = one(unary.rsqrt);
/** x · x. */
export const square: UnaryFunction = one(unary.square);
/** 1 / x. */
export const reciprocal: UnaryFunction = one(unary.reciprocal);
/** Sine of radians. */
export const sin: UnaryFunction = one(unary.sin);
/** Cosine of radians. */
export const cos: UnaryFunction = one(unary.cos);
/** Tangent of radians. */
export const tan: UnaryFunction = one(unary.tan);
/** Inverse sine in radians; NaN outside [-1, 1]. */
export const asin: UnaryFunction = one(unary.asin);
/** Inverse cosine in radians; NaN outside [-1, 1]. */
export const acos: UnaryFunction = one(unary.acos);
/** Inverse tangent in radians. */
export const atan: UnaryFunction = one(unary.atan);
/** Hyperbolic sine. */
export const sinh: UnaryFunction = one(unary.sinh);
/** Hyperbolic cosine. */
export const cosh: UnaryFunction = one(unary.cosh);
/** Inverse hyperbolic sine. */
export const asinh: UnaryFunction = one(unary.asinh);
/** Inverse hyperbolic cosine; NaN below 1. */
export const acosh: UnaryFunction = one(unary.acosh);
/** Inverse hyperbolic tangent; NaN outside [-1, 1]. */
export const atanh: UnaryFunction = one(unary.atanh);
/** Hyperbolic tangent. */
export const tanh: UnaryFunction = one(unary.tanh);
/** Error function 2/√π ∫₀ˣ exp(-t²) dt. */
export const erf: UnaryFunction = one(unary.erf);
/** 1 - erf(x), accurate where it is tiny. */
export const erfc: UnaryFunction = one(unary.erfc);
/** Inverse of the error function; ±∞ at ±1, NaN outside. */
export const erfinv: UnaryFunction = one(unary.erfinv);
/** Nearest whole number below. Its gradient is 0, as those of `ceil`, `round`, `trunc` and `sign` are. */
export const floor: UnaryFunction = one(unary.floor);
/** Nearest whole number above. */
export const ceil: UnaryFunction = one(unary.ceil);
/** Nearest whole number, halves to even. */
export const round: UnaryFunction = one(unary.round);
/** Whole part. */
export const trunc: UnaryFunction = one(unary.trunc);
/** What is left of x without its whole part, signed as x. */
export const frac: UnaryFunction = one(unary.frac);
/** True where x is NaN. */
export const isnan: UnaryFunction = one(unary.isnan);
/** True where x is +∞ or -∞. */
export const isinf: UnaryFunction = one(unary.isinf);
/** True where x is neither infinite nor NaN. */
export const isfinite: UnaryFunction = one(unary.isfinite);
/** 1 / (1 + exp(-x)). */
export const sigmoid: UnaryFunction = one(unary.sigmoid);
/** log(sigmoid(x)) without overflow. */
export const logSigmoid: UnaryFunction = one(unary.logSigmoid);
/** max(x, 0); NaN stays. */
export const relu: UnaryFunction = one(unary.relu);
/** 1.0507 · elu(x, 1.6733): keeps mean 0 and variance 1. */
export const selu: UnaryFunction = one(unary.selu);
/** x · sigmoid(x). */
export const silu: UnaryFunction = one(unary.silu);
/** x · tanh(softplus(x)). */
export const mish: UnaryFunction = one(unary.mish);
/** x / (1 + |x|). */
export const softsign: UnaryFunction = one(unary.softsign);
/** x / 6 + 1/2 limited to [0, 1]. */
export const hardsigmoid: UnaryFunction = one(unary.hardsigmoid);
/** x · hardsigmoid(x). */
export const hardswish: UnaryFunction = one(unary.hardswish);

/** x where positive, else slope · x. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  return x.leakyRelu(slope);
}

/** x where positive, else alpha · (exp(x) - 1). */
export function elu(x: Tensor, alpha = 1): Tensor {
  return x.elu(alpha);
}

/**
 * x where positive, else alpha · (exp(x / alpha) - 1).
 *
 * @throws {RangeError} if alpha is 0
 */
export function celu(x: Tensor, alpha = 1): Tensor {
  return x.celu(alpha);
}

/** x · Φ(x), Φ the normal distribution function; `tanh` for the approximation by tanh. */
export function gelu(x: Tensor, options: { approximate?: "none" | "tanh" } = {}): Tensor {
  return x.gelu(options);
}

/** log(1 + exp(beta · x)) / beta without overflow; x where beta · x > threshold (20). */
export function softplus(x: Tensor, options: { beta?: number; threshold?: number } = {}): Tensor {
  return x.softplus(options);
}

/** x limited to [min, max] (default -1 and 1); no gradient on the bounds, unlike `clamp`. */
export function hardtanh(x: Tensor, options: { min?: number; max?: number } = {}): Tensor {
  return x.hardtanh(options);
}

/** x drawn towards 0 by lambda; 0 where it is no further than that. */
export function softshrink(x: Tensor, lambda = 0.5): Tensor {
  return x.softshrink(lambda);
}

/** 0 where |x| <= lambda, else x. */
export function hardshrink(x: Tensor, lambda = 0.5): Tensor {
  return x.hardshrink(lambda);
}

/** log(x / (1 - x)), the inverse of the sigmoid; with `eps`, of x limited to [eps, 1 - eps]. */
export function logit(x: Tensor, eps?: number): Tensor {
  return x.logit(eps);
}

/** NaN and infinities of x replaced by numbers: by 0 and the largest of the dtype, unless given. */
export function nanToNum(
  x: Tensor,
  options: { nan?: number; posinf?: number; neginf?: number } = {},
): Tensor {
  return x.nanToNum(options);
}

/** x limited to [min, max]; either may be left out. */
export function clamp(x: Tensor, bounds: { min?: number; max?: number }): Tensor {
  return x.clamp(bounds);
}

/**
 * a where cond is true, else b; all broadcast. A number takes the other operand's dtype, or f32 if it
 * is a fraction and the other an integer, or if both are numbers.
 *
 * @throws {TypeError} if cond is not bool
 *
 * @example
 * ```ts
 * import { init, tensor, where } from "../mod.ts";
 * await init();
 * const x = tensor([-1, 2, -3]);
 * console.log(await where(x.gt(0), x, 0).array()); // [0, 2, 0]
 * ```
 */
export function where(cond: Tensor, a: Operand, b: Operand): Tensor {
  for (const v of [a, b]) if (typeof v !== "number") checkOperand("where", v);
  const [given] = [a, b].filter((v) => typeof v !== "number");
  const dtype = given?.dtype ?? "f32";
  return apply(whereOp, [cond, lifted(a, dtype), lifted(b, dtype)], {})[0]!;
}

function lifted(value: Operand, dtype: DType): Tensor {
  if (typeof value !== "number") return value;
  const whole = Number.isInteger(value);
  const kind = isFloat(dtype) || (whole && dtype !== "bool") ? dtype : whole ? "i32" : "f32";
  return new Tensor(inArena(() => fill({ shape: [], dtype: kind }, value)));
}

/**
 * x where positive, else weight · x, with a weight for each channel of x [N, C, …] or one for all.
 *
 * @throws {TypeError} if the weight is neither [C] nor [1]
 */
export function prelu(x: Tensor, weight: Tensor): Tensor {
  const channels = x.ndim > 1 ? x.shape[1]! : 1;
  if (weight.ndim !== 1 || (weight.size !== 1 && weight.size !== channels)) {
    throw new TypeError(
      `Cannot prelu ${show(x.shape)} with a weight ${show(weight.shape)}: it must be [1] or ` +
        `[${channels}]`,
    );
  }
  const places = x.ndim > 0 ? [-1, ...x.shape.slice(2).map(() => 1)] : [];
  return apply(binary.prelu, [x, weight.reshape(places)], {})[0]!;
}

/**
 * The first half of x along dim times the sigmoid of the second (Dauphin et al. 2017).
 *
 * @throws {RangeError} if the size along dim is odd
 */
export function glu(x: Tensor, dim = -1): Tensor {
  const size = x.shape.at(dim);
  if (size === undefined || size % 2 !== 0) {
    throw new RangeError(
      `Cannot glu ${show(x.shape)} along ${dim}: the dimension must exist and have an even size`,
    );
  }
  const [a, b] = x.chunk(2, dim) as [Tensor, Tensor];
  return a.mul(b.sigmoid());
}
