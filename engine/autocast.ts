/**
 * Mixed precision: which ops run in f16 while `autocast` is on. The lists are PyTorch's (CUDA op
 * reference, https://docs.pytorch.org/docs/stable/amp.html); an op that is on no list runs in f32, so
 * that a new op is slow rather than wrong.
 */

import { checkOneOf, checkOptions } from "./arguments.ts";
import type { DType } from "./dtype.ts";
import { gpu } from "./gpu/device.ts";
import { Mode } from "./mode.ts";

/** Products and recurrent nets: half the traffic, and f32 accumulators inside. */
const HALF: ReadonlySet<string> = new Set([
  "matmul",
  "linear",
  "conv2d",
  "convTranspose2d",
  "recurrent",
]);

/**
 * Ops that take what they are given: moves, pointwise ops that are safe in f16, and batch norm, whose
 * statistics are f32 whatever x is.
 */
const AS_GIVEN: ReadonlySet<string> = new Set([
  "to",
  "reshape",
  "permute",
  "expand",
  "slice",
  "flip",
  "roll",
  "tril",
  "triu",
  "diagonal",
  "unfold",
  "fold",
  "padConstant",
  "neg",
  "abs",
  "sign",
  "relu",
  "leakyRelu",
  "clampBetween",
  "sigmoid",
  "tanh",
  "silu",
  "hardswish",
  "hardsigmoid",
  "hardtanh",
  "elu",
  "selu",
  "celu",
  "gelu",
  "geluTanh",
  "mish",
  "softsign",
  "floor",
  "ceil",
  "trunc",
  "round",
  "isnan",
  "isinf",
  "isfinite",
  "frac",
  "copysign",
  "prelu",
  "replaceNonFinite",
  "softshrink",
  "hardshrink",
  "logicalNot",
  "add",
  "sub",
  "mul",
  "div",
  "maximum",
  "minimum",
  "eq",
  "ne",
  "lt",
  "le",
  "gt",
  "ge",
  "logicalAnd",
  "logicalOr",
  "where",
  "max",
  "min",
  "any",
  "all",
  "mean",
  "argmax",
  "argmin",
  "topk",
  "dropout",
  "batchNorm",
  "batchNormEval",
  "maxPool2d",
  "avgPool2d",
  "adaptiveAvgPool2d",
  "adaptiveMaxPool2d",
]);

/** Ops whose inputs must have one dtype: the widest of them. */
const WIDEST: ReadonlySet<string> = new Set([
  "cat",
  "atan2",
  "hypot",
  "gridSample",
  "scatterAdd",
]);

const casting = new Mode<boolean>(false);

/** Options of {@linkcode autocast}. */
export interface AutocastOptions {
  /** The narrow type. */
  dtype?: "f16";
  /** False switches it off inside an outer `autocast`. Default true. */
  enabled?: boolean;
}

/**
 * Runs `fn` with matrix products, convolutions and recurrent nets in f16 and everything delicate in f32;
 * parameters stay f32 and get f32 gradients. Combine it with a `GradScaler`, since small gradients vanish in f16.
 *
 * @throws {TypeError} if the adapter has no `shader-f16`, or an option is none of these
 *
 * @example
 * ```ts
 * import { autocast, init, randn } from "../mod.ts";
 * const info = await init();
 * if (info.features.has("shader-f16")) {
 *   const y = autocast({ dtype: "f16" }, () => randn([4, 8]).matmul(randn([8, 2])));
 *   console.log(y.dtype); // f16
 * }
 * ```
 */
export function autocast<T>(options: AutocastOptions, fn: () => T): T {
  checkOptions("autocast", options, 'autocast({ dtype: "f16" }, () => …)', ["dtype", "enabled"]);
  checkOneOf("autocast", { dtype: options.dtype }, ["f16"]);
  const { enabled = true } = options;
  if (enabled && !gpu().info.features.has("shader-f16")) {
    throw new TypeError(
      "Cannot autocast to f16: this adapter has no shader-f16; train in f32 without autocast",
    );
  }
  return casting.during(enabled, fn);
}

/** True while ops choose their dtype by the lists. */
export function isAutocasting(): boolean {
  return casting.value;
}

/** The dtype the op's float inputs are converted to, or null to leave them. */
export function autocastDType(op: string, inputs: readonly DType[]): DType | null {
  if (!casting.value || AS_GIVEN.has(op)) return null;
  if (HALF.has(op)) return "f16";
  if (WIDEST.has(op)) return inputs.includes("f32") ? "f32" : null;
  return "f32";
}

/** Names on the lists, for the test that each is an op. */
export function autocastLists(): { half: string[]; asGiven: string[]; widest: string[] } {
  return { half: [...HALF], asGiven: [...AS_GIVEN], widest: [...WIDEST] };
}
