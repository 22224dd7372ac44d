/**
 * What an op is: one record with its check, forward, gradient, float64 reference and test domain.
 *
 * Tests, gradient checks, `LATHE_CHECK` and the table of ops are generated from the records, so a
 * public op without a reference or a gradient (or a stated reason for none) does not type-check.
 */

import type { DeviceArray, Spec } from "./array.ts";
import type { DType } from "./dtype.ts";

/** Float64 array on the host that references compute on. */
export interface HostArray {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Elements in row-major order. */
  readonly data: Float64Array;
}

/** What a forward rule may do besides computing. */
export interface ForwardContext {
  /** Which inputs will want a gradient; all false when nothing is recorded. */
  readonly needs: readonly boolean[];
  /** Keeps arrays for the backward rule; they live until it has run. */
  save(...arrays: DeviceArray[]): void;
}

/** What a backward rule knows. */
export interface BackwardContext {
  /** Which inputs require a gradient, which decided what was saved: return null for the others. */
  readonly needs: readonly boolean[];
  /** What the forward rule saved, in that order. */
  readonly saved: readonly DeviceArray[];
  /** Shapes and dtypes of the inputs. */
  readonly inputs: readonly Spec[];
  /**
   * The dtypes in which the gradients are used: the inputs', but f32 for an f16 that was made from f32, so that
   * the gradients of weights are not rounded, and converted twice, under `autocast`. The tape converts what comes
   * otherwise. Null for a gradient that leads nowhere in this walk, though the input needs one: a rule may spare
   * itself the work.
   */
  readonly wanted: readonly (DType | null)[];
}

/** One gradient an input, shaped like the output or like the input: the tape sums what broadcast. */
export type BackwardRule<A> = (
  ctx: BackwardContext,
  grads: readonly DeviceArray[],
  attrs: A,
) => (DeviceArray | null)[];

/**
 * A rule that does without gradients that did not arrive: null for an output that nothing used, where
 * other rules are given zeros.
 */
export interface PartialRule<A> {
  readonly partial: (
    ctx: BackwardContext,
    grads: readonly (DeviceArray | null)[],
    attrs: A,
  ) => (DeviceArray | null)[];
}

/** Gradients of an op that works element by element, as text. */
export interface GradientFormulas {
  /** Names of the inputs in the formulas. */
  readonly inputs: readonly string[];
  /** Names of what was saved, in that order: inputs, or `y`, the output. */
  readonly saved: readonly string[];
  /** WGSL of each input's gradient over what was saved, `dy` and the scalars. */
  readonly gradients: readonly string[];
  readonly scalars: Readonly<Record<string, number>>;
  /** WGSL of the functions they call. */
  readonly module?: string;
}

/** States that an op has no gradient, and why. */
export interface NotDifferentiable {
  readonly notDifferentiable: string;
}

/** An input the generated tests draw. */
export interface SampleInput {
  readonly shape: readonly number[];
  /** Default f32. */
  readonly dtype?: DType;
  /** Uniform draw between `low` (default -2) and `high` (default 2); integers are floored. */
  readonly low?: number;
  readonly high?: number;
  /** Exact values instead of a draw. */
  readonly values?: readonly number[];
  /** Values at least 0.05 apart in random order, for ops with ties or kinks. */
  readonly distinct?: boolean;
}

/** One case the generated tests run, forward and (where the op has one) backward. */
export interface Sample<A> {
  readonly inputs: readonly SampleInput[];
  readonly attrs: A;
  /** False skips the gradient check, for points where the derivative does not exist. */
  readonly grad?: boolean;
  /** Rounding steps of the longest chain of additions; default: the largest input's size. */
  readonly terms?: number;
}

/** The record of an op. `A` is the type of its attributes. */
export interface Op<A> {
  /** Name in messages, traces and the table of ops. */
  readonly name: string;
  /** Checks inputs before anything is allocated; gives the outputs' shapes and dtypes. */
  check(inputs: readonly Spec[], attrs: A): readonly Spec[];
  /** Computes the outputs that `check` described. */
  forward(
    ctx: ForwardContext,
    inputs: readonly DeviceArray[],
    attrs: A,
    out: readonly Spec[],
  ): DeviceArray[];
  /** Gradient of each input, or why there is none. */
  readonly backward: BackwardRule<A> | PartialRule<A> | NotDifferentiable;
  /** The gradients as text, where they are formulas of each element: those of them follow from it. */
  formulas?(needs: readonly boolean[], attrs: A): GradientFormulas;
  /**
   * Present where the output is linear in all the float inputs together, for given others, so that the gradient
   * rule is as well and has the op itself as its gradient. Nothing that is saved may depend on the float inputs.
   */
  readonly linear?: {
    /** Which input each saved array is; null for one that is made of those. Default: nothing is saved. */
    readonly given?: readonly (number | null)[];
    /** Attributes without what is added to the linear part. */
    attrs?(attrs: A): A;
  };
  /** The same in float64 on the host, written for clarity; null when the op draws random numbers. */
  readonly reference: ((inputs: readonly HostArray[], attrs: A) => HostArray[]) | null;
  /**
   * True where rounding a position can pick another element, so that float32 and float64 may rightly
   * differ by more than rounding; `LATHE_CHECK=1` then passes the op over.
   */
  readonly discontinuous?: (attrs: A) => boolean;
  /**
   * Factors of the longest product that makes an output: each may add a rounding of relative size
   * 2^-24, in whatever order they are multiplied. `LATHE_CHECK=1` allows for them.
   */
  readonly factors?: (inputs: readonly Spec[], attrs: A) => number;
  /**
   * Attributes without what is applied to the sums in the end, which may saturate: the reference at |inputs|
   * is taken with them, to tell how much is added up.
   */
  readonly sumsOf?: (attrs: A) => A;
  /** Test domain. */
  readonly samples: readonly Sample<A>[];
}

const registry = new Map<string, Op<unknown>>();

/** Registers a record and returns it. */
export function defineOp<A>(op: Op<A>): Op<A> {
  if (registry.has(op.name)) throw new Error(`Op ${op.name} is defined twice`);
  registry.set(op.name, op as Op<unknown>);
  return op;
}

/** Every op, by name. */
export function allOps(): ReadonlyMap<string, Op<unknown>> {
  return registry;
}

/** States that an op has no gradient. */
export function notDifferentiable(reason: string): NotDifferentiable {
  return { notDifferentiable: reason };
}

/** The gradient rule, or null where there is none. */
export function backwardOf<A>(op: Op<A>): BackwardRule<A> | PartialRule<A> | null {
  return "notDifferentiable" in op.backward ? null : op.backward;
}

const detached: ForwardContext = { needs: [], save() {} };

/** Runs an op inside another op's rule: checked, unrecorded, owned by the caller's arena. */
export function run<A>(op: Op<A>, inputs: readonly DeviceArray[], attrs: A): DeviceArray {
  const out = op.check(inputs, attrs);
  return op.forward(detached, inputs, attrs, out)[0]!;
}
