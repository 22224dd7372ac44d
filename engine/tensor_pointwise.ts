/** Element-by-element methods: one line each into the records of `ops/pointwise_table.ts`. */

import { apply } from "./apply.ts";
import type { Op } from "./op.ts";
import { binary, type BinaryAttrs, unary } from "./ops/pointwise.ts";
import type { Scalars } from "./ops/pointwise_table.ts";
import { where } from "./ops/select.ts";
import type { Tensor } from "./tensor.ts";
import type { TensorBase } from "./tensor_base.ts";
import { TensorShape } from "./tensor_shape.ts";

/** A tensor or a number that broadcasts like one. */
export type Operand = Tensor | number;

/** Pointwise methods of a tensor. */
export abstract class TensorPointwise extends TensorShape {
  /** this + other. */ add(other: Operand): Tensor {
    return combine(binary.add, this, other);
  }
  /** this - other. */ sub(other: Operand): Tensor {
    return combine(binary.sub, this, other);
  }
  /** this · other. */ mul(other: Operand): Tensor {
    return combine(binary.mul, this, other);
  }
  /** this / other; integers give f32. */ div(other: Operand): Tensor {
    return combine(binary.div, this, other);
  }
  /** this to the power of other. */ pow(other: Operand): Tensor {
    return combine(binary.pow, this, other);
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
  /** True where this is NaN. */ isnan(): Tensor {
    return map(unary.isnan, this);
  }
  /** this limited to [min, max]; either may be left out. */
  clamp(bounds: { min?: number; max?: number }): Tensor {
    const { min = -Infinity, max = Infinity } = bounds;
    return map(unary.clampBetween, this, { lo: min, hi: max });
  }
  /** this where cond, else other. */
  where(cond: Tensor, other: Tensor): Tensor {
    return apply(where, [cond, this, other], {})[0]!;
  }
}

/** a op b, where b may be a number. */
export function combine(op: Op<BinaryAttrs>, a: TensorBase, b: Operand): Tensor {
  return typeof b === "number" ? apply(op, [a], { b })[0]! : apply(op, [a, b], {})[0]!;
}

function map(op: Op<Scalars>, x: TensorBase, scalars: Scalars = {}): Tensor {
  return apply(op, [x], scalars)[0]!;
}
