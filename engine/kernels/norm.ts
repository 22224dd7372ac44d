/**
 * Mean and variance of groups, and the two sums that the gradient of a normalisation needs.
 *
 * x is contiguous and seen as [A, G, S]; a group is all elements of one index along G. Batch
 * normalisation has A = batch, G = channels, S = positions; normalisation of rows has A = 1. A thread
 * owns one of `splits` interleaved shares of a group, so that neighbouring threads read neighbouring
 * elements; a second kernel merges the shares in a fixed order. No atomics.
 *
 * Each share takes its mean first and its squared deviations after (two reads, the second from cache); what
 * the mean was rounded by is what the deviations add up to, and is made good. Shares merge by Chan's formula,
 * and their means by differences, so that a mean far from 0 costs no digits but its own last one. Source: Chan, Golub
 * and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
 */

import type { DType } from "../dtype.ts";
import type { Epilogue } from "./epilogue.ts";
import {
  asFloats,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  type Param,
  storedType,
} from "./kernel.ts";
import { rowModule, rowWorkgroup } from "./rows.ts";

const LAYOUT: Readonly<Record<string, Param["type"]>> = {
  threads: "u32",
  A: "u32",
  G: "u32",
  S: "u32",
  splits: "u32",
  // A step of `splits` elements inside a group: rows of S, and the rest.
  step_a: "u32",
  step_s: "u32",
};

/** Group, share and the place of the share's first element. */
const SHARE = `${linearThread("t", "p.threads")}
  let g = t / p.splits;
  let share = t % p.splits;
  let length = p.A * p.S;
  let a0 = share / p.S;
  let s0 = share % p.S;`;

/** Runs `body` for each element of the share; `at` is its index. */
function eachElement(body: string): string {
  return `{
    var a = a0;
    var s = s0;
    for (var e = share; e < length; e += p.splits) {
      let at = (a * p.G + g) * p.S + s;
      ${body}
      a += p.step_a;
      s += p.step_s;
      if (s >= p.S) { s -= p.S; a += 1u; }
    }
  }`;
}

/** What varies between the text of kernels that take moments. */
export interface MomentSharesSpec {
  readonly input: DType;
  /** False: moments about 0. */
  readonly centred: boolean;
  /** Whether rows are whole fours, which are then one load: params count elements in fours. */
  readonly fours: boolean;
}

/** WGSL of the sum of four, or of one. */
function total(name: string, fours: boolean): string {
  return fours ? `((${name}.x + ${name}.y) + (${name}.z + ${name}.w))` : name;
}

/** partial[g, share] = mean and sum of squared deviations from it; `centred` false: from 0. */
export const momentSharesKernel: (spec: MomentSharesSpec) => Kernel = memoized(buildMomentShares);

function buildMomentShares({ input, centred, fours }: MomentSharesSpec): Kernel {
  const load = asFloats("x[at]", input, fours);
  const zero = fours ? "vec4(0.0)" : "0.0";
  const mean = centred
    ? `var sum = ${zero};
  ${eachElement(`sum += ${load};`)}
  // Shares are never empty: splits is at most the length.
  let n = ${fours ? "4.0 * " : ""}f32((length - share + p.splits - 1u) / p.splits);
  let mean = ${total("sum", fours)} / n;
  var rest = ${zero};`
    : "let mean = 0.0;";
  const off = `${total("rest", fours)} / n`;
  return kernel({
    name: `${centred ? "moment" : "square"}_shares_${input}${fours ? "_fours" : ""}`,
    buffers: [
      { name: "x", access: "read", type: storedType(input, fours) },
      { name: "partial_sums", access: "write", type: "f32" },
    ],
    params: LAYOUT,
    body: `${SHARE}
  ${mean}
  var squares = ${zero};
  ${
      eachElement(
        `let d = ${load} - mean; squares = fma(d, d, squares);${centred ? " rest += d;" : ""}`,
      )
    }
  partial_sums[2u * t] = mean${centred ? ` + ${off}` : ""};
  partial_sums[2u * t + 1u] = ${total("squares", fours)}${
      centred ? ` - ${total("rest", fours)} * (${off})` : ""
    };`,
  });
}

/** First lines of a merge: the group `g`, and the `lane` of the thread, where a workgroup shares a group. */
function mergeStart(lanes: number): string {
  return lanes === 1
    ? `${linearThread("g", "p.G")}
  let lane = 0u;`
    : `  let g = wid.y * nwg.x + wid.x;
  if (g >= p.G) { return; }
  let lane = lid.x;`;
}

/** What a merge's name tells of its lanes. */
function mergeVariant(lanes: number): string {
  return lanes === 1 ? "" : `_lanes${lanes}`;
}

/**
 * stats = [mean of each group; biased variance of each group]: [2, G]. A thread owns a group, or a workgroup
 * of `lanes`. The length counts elements in units of what one read of a share is.
 */
export const momentMergeKernel: (lanes: number) => Kernel = memoized((lanes: number) => {
  const layout = { lanes, fours: false };
  const each = (body: string) =>
    `for (var i = lane; i < p.splits; i += ${lanes}u) {
    let n = p.unit * f32((p.length - i + p.splits - 1u) / p.splits);
    ${body}
  }`;
  return kernel({
    name: `moment_merge${mergeVariant(lanes)}`,
    buffers: [
      { name: "partial_sums", access: "read", type: "f32" },
      { name: "stats", access: "write", type: "f32" },
    ],
    params: { G: "u32", splits: "u32", length: "u32", unit: "f32" },
    workgroup: rowWorkgroup(layout),
    module: rowModule(layout),
    body: `${mergeStart(lanes)}
  let first = g * p.splits;
  let all = p.unit * f32(p.length);
  let start = partial_sums[2u * first];
  var apart = 0.0;
  ${each("apart = fma(n, partial_sums[2u * (first + i)] - start, apart);")}
  let mean = start + row_sum(apart, lane) / all;
  var squares = 0.0;
  ${
      each(`let d = partial_sums[2u * (first + i)] - mean;
    squares += partial_sums[2u * (first + i) + 1u] + n * d * d;`)
    }
  let total = row_sum(squares, lane);
  if (lane > 0u) { return; }
  stats[g] = mean;
  stats[p.G + g] = total / all;`,
  });
});

/** WGSL that reads a weight or bias of the group, `<name>_of`. */
function perGroup(name: string, dtype: DType): string {
  return `let ${name}_of = ${asFloats(`${name}[p.${name}_off + g]`, dtype)};`;
}

/** What varies between the text of kernels that sum gradients. */
export interface GradSharesSpec {
  readonly input: DType;
  readonly grad: DType;
  /** The activation that follows the normalisation: u is what its gradient makes of the one given. */
  readonly epilogue?: Epilogue;
  /** Types of weight and bias, one a group, that the activation's input is made with. */
  readonly weight?: DType;
  readonly bias?: DType;
  /** Whether rows are whole fours, which are then one load: params count elements in fours. */
  readonly fours: boolean;
}

/** partial = [sum of u; sum of u·(x - mean)/√(variance + eps)] of each share: [2, G, splits]. */
export const gradSharesKernel: (spec: GradSharesSpec) => Kernel = memoized(buildGradShares);

function buildGradShares(spec: GradSharesSpec): Kernel {
  const { epilogue, weight, bias, fours } = spec;
  const z = `h${weight ? " * weight_of" : ""}${bias ? " + bias_of" : ""}`;
  const through = fours
    ? `vec4(${
      ["x", "y", "z", "w"].map((c) => `activation_gradient(z.${c}, given.${c})`).join(", ")
    })`
    : "activation_gradient(z, given)";
  const name = ["norm_grad_shares", epilogue?.name, weight && "w", bias && "b"];
  const zero = fours ? "vec4(0.0)" : "0.0";
  return kernel({
    name: `${name.filter(Boolean).join("_")}_${spec.input}_${spec.grad}${fours ? "_fours" : ""}`,
    buffers: [
      { name: "u", access: "read", type: storedType(spec.grad, fours) },
      { name: "x", access: "read", type: storedType(spec.input, fours) },
      { name: "stats", access: "read", type: "f32" },
      ...(weight ? [{ name: "weight", access: "read", type: storedType(weight) } as const] : []),
      ...(bias ? [{ name: "bias", access: "read", type: storedType(bias) } as const] : []),
      { name: "partial_sums", access: "write", type: "f32" },
    ],
    params: {
      ...LAYOUT,
      eps: "f32",
      ...(weight ? { weight_off: "u32" } as const : {}),
      ...(bias ? { bias_off: "u32" } as const : {}),
    },
    module: epilogue?.module,
    body: `${SHARE}
  let mean = stats[g];
  let scale = inverseSqrt(stats[p.G + g] + p.eps);
  ${weight ? perGroup("weight", weight) : ""}
  ${bias ? perGroup("bias", bias) : ""}
  var plain = ${zero};
  var scaled = ${zero};
  ${
      eachElement(`let h = (${asFloats("x[at]", spec.input, fours)} - mean) * scale;
      let given = ${asFloats("u[at]", spec.grad, fours)};
      ${epilogue ? `let z = ${z};\n      let v = ${through};` : "let v = given;"}
      plain += v;
      scaled = fma(v, h, scaled);`)
    }
  partial_sums[t] = ${total("plain", fours)};
  partial_sums[p.threads + t] = ${total("scaled", fours)};`,
  });
}

/** What varies between the text of kernels that finish a gradient's sums. */
export interface GradMergeSpec {
  /** Threads of a group: 1, or a workgroup. */
  readonly lanes: number;
  /** Types of weight and bias, one a group, where there are any. */
  readonly weight?: DType;
  readonly bias?: DType;
  /** Whether the mean and the variance have gradients of their own: rows of [2, G]. */
  readonly statistics?: boolean;
}

/** The rows of one number a group that {@linkcode gradMergeKernel} makes for dx. */
export const GRAD_ROWS = { mean: 0, scale: 1, slope: 2, shift: 3, bias: 4 };

/**
 * Adds the shares of each group, to Σu and Σu·x̂, [G] each, and makes of the sums what
 * dx = scale·u + slope·(x - mean) + shift needs, [5, G]: mean, scale = rstd·w,
 * slope = (2·dvariance - scale·rstd·Σu·x̂) / n, shift = (dmean - scale·Σu) / n, and the bias.
 * A thread owns a group, or a workgroup.
 */
export const gradMergeKernel: (spec: GradMergeSpec) => Kernel = memoized(buildGradMerge);

function buildGradMerge({ lanes, weight, bias, statistics }: GradMergeSpec): Kernel {
  const layout = { lanes, fours: false };
  const given = Object.entries({ ...(weight ? { weight } : {}), ...(bias ? { bias } : {}) });
  const values = given.map(([name, dtype]) => perGroup(name, dtype));
  const row = (name: keyof typeof GRAD_ROWS) => `rows[${GRAD_ROWS[name]}u * p.G + g]`;
  return kernel({
    name: [
      "norm_grad_merge",
      weight && `weight_${weight}`,
      bias && `bias_${bias}`,
      statistics && "statistics",
    ].filter(Boolean).join("_") + mergeVariant(lanes),
    buffers: [
      { name: "partial_sums", access: "read", type: "f32" },
      { name: "stats", access: "read", type: "f32" },
      ...given.map(([name, dtype]) => ({
        name,
        access: "read",
        type: storedType(dtype),
      } as const)),
      ...(statistics ? [{ name: "stats_grad", access: "read", type: "f32" } as const] : []),
      { name: "sums", access: "write", type: "f32" },
      { name: "scaled_sums", access: "write", type: "f32" },
      { name: "rows", access: "write", type: "f32" },
    ],
    params: {
      G: "u32",
      splits: "u32",
      threads: "u32",
      eps: "f32",
      inverse_n: "f32",
      ...Object.fromEntries(given.map(([name]) => [`${name}_off`, "u32" as const])),
    },
    workgroup: rowWorkgroup(layout),
    module: rowModule(layout),
    body: `${mergeStart(lanes)}
  ${values.join("\n  ")}
  var plain = 0.0;
  var by_place = 0.0;
  for (var i = lane; i < p.splits; i += ${lanes}u) {
    plain += partial_sums[g * p.splits + i];
    by_place += partial_sums[p.threads + g * p.splits + i];
  }
  let total = row_sum(plain, lane);
  let scaled = row_sum(by_place, lane);
  if (lane > 0u) { return; }
  let rstd = inverseSqrt(stats[p.G + g] + p.eps);
  let scale = rstd${weight ? " * weight_of" : ""};
  sums[g] = total;
  scaled_sums[g] = scaled;
  ${row("mean")} = stats[g];
  ${row("scale")} = scale;
  ${row("slope")} = p.inverse_n * (${
      statistics ? "2.0 * stats_grad[p.G + g] " : ""
    }- scale * scaled * rstd);
  ${row("shift")} = p.inverse_n * (${statistics ? "stats_grad[g] " : ""}- scale * total);
  ${bias ? `${row("bias")} = bias_of;` : ""}`,
  });
}

/**
 * Moves the running statistics of channels towards a batch's: r += momentum · (v - r), the variance made
 * unbiased first, and counts the batch where something counts.
 */
export const runningKernel: (spec: { counts: boolean }) => Kernel = memoized(buildRunning);

function buildRunning({ counts }: { counts: boolean }): Kernel {
  return kernel({
    name: `batch_norm_running${counts ? "_counted" : ""}`,
    buffers: [
      { name: "mean", access: "read", type: "f32" },
      { name: "variance", access: "read", type: "f32" },
      { name: "running_mean", access: "write", type: "f32" },
      { name: "running_var", access: "write", type: "f32" },
      ...(counts ? [{ name: "batches", access: "write", type: "i32" } as const] : []),
    ],
    params: {
      G: "u32",
      mean_off: "u32",
      variance_off: "u32",
      momentum: "f32",
      unbiased: "f32",
    },
    body: `${linearThread("g", "p.G")}
  let mean_before = running_mean[g];
  running_mean[g] = mean_before + (mean[p.mean_off + g] - mean_before) * p.momentum;
  let var_before = running_var[g];
  running_var[g] = var_before + (variance[p.variance_off + g] * p.unbiased - var_before) * p.momentum;${
      counts ? "\n  if (g == 0u) { batches[0] += 1; }" : ""
    }`,
  });
}
