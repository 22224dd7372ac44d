/** What a row of the pointwise tables says, and what rows share. */

import type { DType } from "../dtype.ts";
import { type NotDifferentiable, notDifferentiable } from "../op.ts";

/** Scalars of an op, by name. */
export type Scalars = Readonly<Record<string, number>>;

/** A unary op. */
export interface UnaryRow {
  /** WGSL over `x` and the scalars. */
  f: string;
  /** The same for integers, without the module; default: `f` with whole numbers. */
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

/** A binary op. */
export interface BinaryRow {
  f: string;
  /** The same for integers, without the module; default: `f` with whole numbers. */
  integer?: string;
  da: string | NotDifferentiable;
  db: string | NotDifferentiable;
  ref: (a: number, b: number) => number;
  /** The same for integers, where it differs; default: `ref`. */
  integerRef?: (a: number, b: number) => number;
  /** `same`: the promoted dtype; `float`: f32 for integers; `bool`. */
  type?: "same" | "float" | "bool";
  /** Refuses what makes no sense in the dtype that both operands have in common; `b` is the second one. */
  check?: (b: unknown, dtype: DType) => void;
  /** Whether two bools give a bool: the truth of what `integer` makes of 0 and 1. Else they are integers. */
  bool?: boolean;
  module?: string;
  /** Helpers of `integer`. */
  integerModule?: (type: "i32" | "u32") => string;
  lowA?: number;
  lowB?: number;
  distinct?: boolean;
}

/** Infinity, from a number that is not 0 where it is called: as a constant it would not compile. */
export const ENDLESS = `
fn endless(v: f32) -> f32 { return bitcast<f32>(0x7f800000u | u32(v == 0.0)); }`;

/** Why what gives bool has no gradient. */
export const TRUTH: NotDifferentiable = notDifferentiable("gives bool, which has no slope");

/** The gradient of a step function, whose derivative is 0 wherever it exists; zeros, as in PyTorch. */
export const STEP = "0.0";

const readings = new Map<string, Map<string, boolean>>();

/** True if `formula`, of a table's row, reads the variable `name`. Kept, as launches ask for the same ones. */
export function reads(formula: string, name: string): boolean {
  let known = readings.get(formula);
  if (!known) readings.set(formula, known = new Map());
  let read = known.get(name);
  if (read === undefined) known.set(name, read = new RegExp(`\\b${name}\\b`).test(formula));
  return read;
}
