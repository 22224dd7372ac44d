/** Element-by-element methods: one line each into the records of `ops/pointwise_table.ts`. */

import { checkOneOf, checkOperand, checkOptions, given } from "./arguments.ts";
import { apply } from "./apply.ts";
import { inArena } from "./array.ts";
import { isFloat, leastOf, mostOf, promote, resultType } from "./dtype.ts";
import type { Op } from "./op.ts";
import { fill } from "./ops/fill.ts";
import { binary, type BinaryAttrs, unary } from "./ops/pointwise.ts";
import type { Scalars } from "./ops/pointwise_row.ts";
import { where } from "./ops/select.ts";
import type { Tensor } from "./tensor.ts";
import { type TensorBase, wrapTensor } from "./tensor_base.ts";
import { TensorShape } from "./tensor_shape.ts";

/** A tensor or a number that broadcasts like one. */
export type Operand = Tensor | number;

/** Options of `add` and `sub`. */
export interface AlphaOptions {
  /** Factor of the second operand. Default 1. */
  alpha?: number;
}

/** Options of `div`. */
export interface RoundingOptions {
  /** How the quotient becomes a whole number. Default: it stays as it is. */
  roundingMode?: "floor" | "trunc" | null;
}

/** Pointwise methods of a tensor. */
export abstract class TensorPointwise extends TensorShape {
  /** this + alpha · other; alpha (default 1) must be whole where both are. Of two bools it is or. */
  add(other: Operand, options?: AlphaOptions): Tensor {
    return combineScaled(binary.add, [this as unknown as Tensor, other], options);
  }
  /** this - alpha · other; alpha (default 1) must be whole where both are. */
  sub(other: Operand, options?: AlphaOptions): Tensor {
    return combineScaled(binary.sub, [this as unknown as Tensor, other], options);
  }
  /** this · other; of two bools it is and. */ mul(other: Operand): Tensor {
    return combine(binary.mul, this, other);
  }
  /**
   * this / other; integers give f32. With `roundingMode` its whole part (`trunc`) or the whole number at or below
   * it (`floor`), whose gradient is 0; integers stay so, and are kept where other is 0.
   */
  div(other: Operand, options?: RoundingOptions): Tensor {
    return combine(divisionOf(options), this, other);
  }
  /**
   * this to the power of other; whole numbers stay so, and to a negative power are cut to 0 or ±1.
   *
   * @throws {RangeError} if whole numbers are raised to a number below 0
   */
  pow(other: Operand): Tensor {
    return combine(binary.pow, this, other);
  }
  /** What is left of this after whole multiples of other, signed as this; exact. */ fmod(
    other: Operand,
  ): Tensor {
    return combine(binary.fmod, this, other);
  }
  /** What is left of this after whole multiples of other, signed as other; exact. */ remainder(
    other: Operand,
  ): Tensor {
    return combine(binary.remainder, this, other);
  }
  /** Whole number at or below this / other; integers stay so, and are kept where other is 0. */
  floorDivide(other: Operand): Tensor {
    return combine(binary.floorDivide, this, other);
  }
  /** √(this² + other²) without overflow. */ hypot(other: Operand): Tensor {
    return combine(binary.hypot, this, other);
  }
  /** |this| with the sign of other, also of a zero. */ copysign(other: Operand): Tensor {
    return combine(binary.copysign, this, other);
  }
  /** this · log(other); 0 where this is 0. */ xlogy(other: Operand): Tensor {
    return combine(binary.xlogy, this, other);
  }
  /** log(exp(this) + exp(other)) without overflow. */ logaddexp(other: Operand): Tensor {
    return combine(binary.logaddexp, this, other);
  }
  /** Angle in radians of the point (other, this), -π to π. */ atan2(other: Operand): Tensor {
    return combine(binary.atan2, this, other);
  }
  /** The larger of both; NaN wins. */ maximum(other: Operand): Tensor {
    return combine(binary.maximum, this, other);
  }
  /** The smaller of both; NaN wins. */ minimum(other: Operand): Tensor {
    return combine(binary.minimum, this, other);
  }
  /** this == other, as bool. */ eq(other: Operand): Tensor {
    return combine(binary.eq, this, other);
  }
  /** this != other, as bool. */ ne(other: Operand): Tensor {
    return combine(binary.ne, this, other);
  }
  /** this < other, as bool. */ lt(other: Operand): Tensor {
    return combine(binary.lt, this, other);
  }
  /** this <= other, as bool. */ le(other: Operand): Tensor {
    return combine(binary.le, this, other);
  }
  /** this > other, as bool. */ gt(other: Operand): Tensor {
    return combine(binary.gt, this, other);
  }
  /** this >= other, as bool. */ ge(other: Operand): Tensor {
    return combine(binary.ge, this, other);
  }
  /** Both true (not 0). */ logicalAnd(other: Operand): Tensor {
    return combine(binary.logicalAnd, this, other);
  }
  /** Either true (not 0). */ logicalOr(other: Operand): Tensor {
    return combine(binary.logicalOr, this, other);
  }
  /** True where this is 0. */ logicalNot(): Tensor {
    return map(unary.logicalNot, this);
  }
  /** -this. */ neg(): Tensor {
    return map(unary.neg, this);
  }
  /** |this|. */ abs(): Tensor {
    return map(unary.abs, this);
  }
  /** -1, 0 or 1. */ sign(): Tensor {
    return map(unary.sign, this);
  }
  /** e to the power of this. */ exp(): Tensor {
    return map(unary.exp, this);
  }
  /** 2 to the power of this. */ exp2(): Tensor {
    return map(unary.exp2, this);
  }
  /** exp(this) - 1, accurate near 0. */ expm1(): Tensor {
    return map(unary.expm1, this);
  }
  /** log(1 + this), accurate near 0. */ log1p(): Tensor {
    return map(unary.log1p, this);
  }
  /** Logarithm to base 2. */ log2(): Tensor {
    return map(unary.log2, this);
  }
  /** Logarithm to base 10, exact for powers of 10. */ log10(): Tensor {
    return map(unary.log10, this);
  }
  /** Natural logarithm. */ log(): Tensor {
    return map(unary.log, this);
  }
  /** Square root. */ sqrt(): Tensor {
    return map(unary.sqrt, this);
  }
  /** 1 / square root. */ rsqrt(): Tensor {
    return map(unary.rsqrt, this);
  }
  /** this · this. */ square(): Tensor {
    return map(unary.square, this);
  }
  /** 1 / this. */ reciprocal(): Tensor {
    return map(unary.reciprocal, this);
  }
  /** Sine of radians. */ sin(): Tensor {
    return map(unary.sin, this);
  }
  /** Cosine of radians. */ cos(): Tensor {
    return map(unary.cos, this);
  }
  /** Tangent of radians. */ tan(): Tensor {
    return map(unary.tan, this);
  }
  /** Inverse sine in radians; NaN outside [-1, 1]. */ asin(): Tensor {
    return map(unary.asin, this);
  }
  /** Inverse cosine in radians; NaN outside [-1, 1]. */ acos(): Tensor {
    return map(unary.acos, this);
  }
  /** Inverse tangent in radians. */ atan(): Tensor {
    return map(unary.atan, this);
  }
  /** Hyperbolic sine. */ sinh(): Tensor {
    return map(unary.sinh, this);
  }
  /** Hyperbolic cosine. */ cosh(): Tensor {
    return map(unary.cosh, this);
  }
  /** Inverse hyperbolic sine. */ asinh(): Tensor {
    return map(unary.asinh, this);
  }
  /** Inverse hyperbolic cosine; NaN below 1. */ acosh(): Tensor {
    return map(unary.acosh, this);
  }
  /** Inverse hyperbolic tangent; NaN outside [-1, 1]. */ atanh(): Tensor {
    return map(unary.atanh, this);
  }
  /** Error function 2/√π ∫₀ˣ exp(-t²) dt. */ erf(): Tensor {
    return map(unary.erf, this);
  }
  /** 1 - erf(this), accurate where it is tiny. */ erfc(): Tensor {
    return map(unary.erfc, this);
  }
  /** Inverse of the error function; ±∞ at ±1, NaN outside. */ erfinv(): Tensor {
    return map(unary.erfinv, this);
  }
  /**
   * log(this / (1 - this)), the inverse of the sigmoid; NaN outside [0, 1].
   *
   * @param eps If given, this is limited to [eps, 1 - eps] first.
   */
  logit(eps?: number): Tensor {
    const limited = eps === undefined ? this : this.clamp({ min: eps, max: 1 - eps });
    return map(unary.logit, limited);
  }
  /** Hyperbolic tangent. */ tanh(): Tensor {
    return map(unary.tanh, this);
  }
  /** 1 / (1 + exp(-this)). */ sigmoid(): Tensor {
    return map(unary.sigmoid, this);
  }
  /** max(this, 0); NaN stays. */ relu(): Tensor {
    return map(unary.relu, this);
  }
  /** this where positive, else slope · this (0.01). */ leakyRelu(slope = 0.01): Tensor {
    return map(unary.leakyRelu, this, { slope });
  }
  /** log(sigmoid(this)) without overflow. */ logSigmoid(): Tensor {
    return map(unary.logSigmoid, this);
  }
  /** this where positive, else alpha · (exp(this) - 1). */ elu(alpha = 1): Tensor {
    return map(unary.elu, this, { alpha });
  }
  /** 1.0507 · elu(this, 1.6733): keeps mean 0 and variance 1. */ selu(): Tensor {
    return map(unary.selu, this);
  }
  /** this where positive, else alpha · (exp(this / alpha) - 1); alpha must not be 0. */
  celu(alpha = 1): Tensor {
    if (alpha === 0) throw new RangeError("Cannot celu with alpha 0: it divides by alpha");
    return map(unary.celu, this, { alpha });
  }
  /** this · Φ(this), Φ the normal distribution function; `tanh` for the approximation by tanh. */
  gelu(options: { approximate?: "none" | "tanh" } = {}): Tensor {
    checkOptions("gelu", options, 'x.gelu({ approximate: "tanh" })');
    const { approximate = "none" } = options;
    if (approximate !== "none" && approximate !== "tanh") {
      throw new RangeError(`Cannot approximate gelu by "${approximate}": it must be none or tanh`);
    }
    return map(approximate === "tanh" ? unary.geluTanh : unary.gelu, this);
  }
  /** this · sigmoid(this). */ silu(): Tensor {
    return map(unary.silu, this);
  }
  /** this · tanh(softplus(this)). */ mish(): Tensor {
    return map(unary.mish, this);
  }
  /** log(1 + exp(beta · this)) / beta without overflow; this where beta · this > threshold. */
  softplus(options: { beta?: number; threshold?: number } = {}): Tensor {
    checkOptions("softplus", options, "x.softplus({ beta: 2 })");
    return map(unary.softplus, this, {
      beta: options.beta ?? 1,
      threshold: options.threshold ?? 20,
    });
  }
  /** this / (1 + |this|). */ softsign(): Tensor {
    return map(unary.softsign, this);
  }
  /** this / 6 + 1/2 limited to [0, 1]. */ hardsigmoid(): Tensor {
    return map(unary.hardsigmoid, this);
  }
  /** this · hardsigmoid(this). */ hardswish(): Tensor {
    return map(unary.hardswish, this);
  }
  /** this limited to [min, max]; no gradient on the bounds, unlike `clamp`. */
  hardtanh(options: { min?: number; max?: number } = {}): Tensor {
    checkOptions("hardtanh", options, "x.hardtanh({ min: 0, max: 6 })");
    return map(unary.hardtanh, this, { lo: options.min ?? -1, hi: options.max ?? 1 });
  }
  /** this drawn towards 0 by lambda; 0 where it is no further than that. */
  softshrink(lambda = 0.5): Tensor {
    return map(unary.softshrink, this, { lambda: widthOf("softshrink", lambda) });
  }
  /** 0 where |this| <= lambda, else this. */ hardshrink(lambda = 0.5): Tensor {
    return map(unary.hardshrink, this, { lambda: widthOf("hardshrink", lambda) });
  }
  /** Nearest whole number below. */ floor(): Tensor {
    return map(unary.floor, this);
  }
  /** Nearest whole number above. */ ceil(): Tensor {
    return map(unary.ceil, this);
  }
  /** Whole part. */ trunc(): Tensor {
    return map(unary.trunc, this);
  }
  /** Nearest whole number, halves to even. */ round(): Tensor {
    return map(unary.round, this);
  }
  /** What is left of this without its whole part, signed as this. */ frac(): Tensor {
    return map(unary.frac, this);
  }
  /** True where this is NaN. */ isnan(): Tensor {
    return map(unary.isnan, this);
  }
  /** True where this is +∞ or -∞. */ isinf(): Tensor {
    return map(unary.isinf, this);
  }
  /** True where this is neither infinite nor NaN. */ isfinite(): Tensor {
    return map(unary.isfinite, this);
  }
  /**
   * NaN and infinities replaced by numbers; they get no gradient.
   *
   * @param options In place of NaN `nan` (default 0), of +∞ `posinf` and of -∞ `neginf` (default: the
   *   largest and the smallest number of the dtype).
   */
  nanToNum(options: { nan?: number; posinf?: number; neginf?: number } = {}): Tensor {
    checkOptions("nanToNum", options, "x.nanToNum({ nan: 0 })");
    const largest = this.dtype === "f16" ? 65504 : 3.4028234663852886e38;
    const { nan = 0, posinf = largest, neginf = -largest } = options;
    return map(unary.replaceNonFinite, this, { nan, positive: posinf, negative: neginf });
  }
  /** this limited to [min, max]; either may be left out, and NaN gives NaN. Integers stay so if the bounds are. */
  clamp(bounds: { min?: number; max?: number }): Tensor {
    checkOptions("clamp", bounds, "x.clamp({ min: 0, max: 1 })", ["min", "max"]);
    const { min = -Infinity, max = Infinity } = bounds;
    if (typeof min !== "number" || typeof max !== "number") {
      throw new TypeError(
        `Cannot clamp from ${given(min)} to ${given(max)}: bounds must be numbers; ` +
          "maximum() and minimum() take tensors",
      );
    }
    if (!isFloat(this.dtype)) {
      // Bounds beyond what the type holds bound nothing.
      const [least, most] = [leastOf(this.dtype), mostOf(this.dtype)];
      if (min <= least) return max >= most ? this.clone() : this.minimum(max);
      const low = this.maximum(min);
      return max >= most ? low : low.minimum(max);
    }
    if (Number.isNaN(min) || Number.isNaN(max)) return this.mul(0).add(NaN);
    return map(unary.clampBetween, this, { lo: min, hi: max });
  }
  /** this where cond, else other. */
  where(cond: Tensor, other: Tensor): Tensor {
    return apply(where, [cond, this, other], {})[0]!;
  }
}

/** `add` or `sub` of a and alpha · b, one of which must be a tensor. */
export function combineScaled(
  op: Op<BinaryAttrs>,
  [a, b]: readonly [Operand, Operand],
  options?: AlphaOptions,
): Tensor {
  if (options === undefined) return combineAny(op, [a, b]);
  const { name } = op;
  const { alpha = 1 } = checkOptions(name, options, `x.${name}(y, { alpha: 2 })`, ["alpha"]);
  if (alpha === 1) return combineAny(op, [a, b]);
  if (typeof alpha !== "number") {
    throw new TypeError(`Cannot ${name} with alpha ${given(alpha)}: it must be a number`);
  }
  for (const value of [a, b]) if (typeof value !== "number") checkOperand(name, value);
  const whole = [a, b].every((v) =>
    typeof v === "number" ? Number.isInteger(v) : !isFloat(v.dtype)
  );
  if (whole && !Number.isInteger(alpha)) {
    throw new TypeError(`Cannot ${name} whole numbers with alpha ${alpha}: it must be whole, too`);
  }
  if (typeof b !== "number") {
    // As wide as the result, so that the product is not rounded first.
    const dtype = typeof a === "number" ? b.dtype : resultType(a, b);
    const term = combine(binary.mul, b.to(promote(b.dtype, dtype)), alpha);
    return combineAny(op, [a, dtype === "bool" && name === "add" ? term.to("bool") : term]);
  }
  if (typeof a === "number") return combineAny(op, [a, b]);
  // The product may be whole where its factors are not.
  return combine(op, whole || isFloat(a.dtype) ? a : a.to("f32"), b * alpha);
}

/** The op of a division. */
export function divisionOf(options?: RoundingOptions): Op<BinaryAttrs> {
  if (options === undefined) return binary.div;
  const right = 'x.div(y, { roundingMode: "floor" })';
  const { roundingMode } = checkOptions("div", options, right, ["roundingMode"]);
  if (roundingMode === undefined || roundingMode === null) return binary.div;
  checkOneOf("div", { roundingMode }, ["floor", "trunc"]);
  return roundingMode === "floor" ? binary.floorDivide : binary.truncDivide;
}

/** a op b, one of which may be a number. */
export function combineAny(op: Op<BinaryAttrs>, [a, b]: readonly [Operand, Operand]): Tensor {
  if (typeof a !== "number") {
    checkOperand(op.name, a);
    return combine(op, a, b);
  }
  if (typeof b === "number") {
    throw new TypeError(`Cannot ${op.name} the numbers ${a} and ${b}: one must be a tensor`);
  }
  checkOperand(op.name, b);
  const mirrored = MIRRORED[op.name as keyof typeof MIRRORED];
  return (mirrored && beyond(binary[mirrored], b, a)) ?? apply(op, [b], { a })[0]!;
}

/** Comparisons by what they are with their operands exchanged. */
const MIRRORED = { eq: "eq", ne: "ne", lt: "gt", le: "ge", gt: "lt", ge: "le" } as const;

/** A comparison of integers with a whole number that their type does not hold: the same for all of them. */
function beyond(op: Op<BinaryAttrs>, x: TensorBase, value: number): Tensor | undefined {
  if (!(op.name in MIRRORED) || !Number.isInteger(value)) return undefined;
  const { shape } = x.device;
  const above = value > mostOf(x.dtype);
  if (!above && value >= leastOf(x.dtype)) return undefined;
  const holds = op.name === "ne" || (above ? /^l/ : /^g/).test(op.name);
  return wrapTensor(inArena(() => fill({ shape, dtype: "bool" }, Number(holds))));
}

/** a op b, where b may be a number. */
export function combine(op: Op<BinaryAttrs>, a: TensorBase, b: Operand): Tensor {
  if (typeof b === "number") return beyond(op, a, b) ?? apply(op, [a], { b })[0]!;
  checkOperand(op.name, b);
  return apply(op, [a, b], {})[0]!;
}

function map(op: Op<Scalars>, x: TensorBase, scalars: Scalars = {}): Tensor {
  return apply(op, [x], scalars)[0]!;
}

function widthOf(name: string, lambda: number): number {
  if (lambda >= 0) return lambda;
  throw new RangeError(`Cannot ${name} with lambda ${lambda}: it must be 0 or more`);
}
