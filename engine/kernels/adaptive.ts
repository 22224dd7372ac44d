/**
 * One dispatch of Adam, AdamW, RMSprop or Adagrad over many parameters, and the small dispatch before
 * it that counts steps.
 *
 * As in `sgd.ts`, a workgroup owns 4·64 consecutive elements of one parameter, found by comparing its
 * number with the first workgroup of each; a thread's four are one load where all are whole fours.
 * Hyperparameters, step counts and what follows from them
 * are read from GPU memory, so that a recorded step can be replayed. Traffic of Adam: 7 words an
 * element. Sources: PyTorch's torch.optim, formula by formula.
 */

import {
  type BufferDecl,
  type Kernel,
  kernel,
  LINEAR,
  linearThread,
  memoized,
  type Param,
} from "./kernel.ts";

/** Elements of a parameter that a workgroup updates. */
export const ADAPTIVE_BLOCK = LINEAR * 4;
/** Largest number of parameters of one dispatch. */
export const ADAPTIVE_MOST = 8;

/** A rule with the switches that change its text. */
export type AdaptiveRule =
  | { readonly name: "adam"; readonly decoupled: boolean; readonly amsgrad: boolean }
  | { readonly name: "rmsprop"; readonly centered: boolean; readonly momentum: boolean }
  | { readonly name: "adagrad" };

/** Numbers of a rule in the order of its `hyper` buffer. */
export const ADAPTIVE_HYPER = {
  adam: ["lr", "beta1", "beta2", "1 - beta1", "1 - beta2", "ln beta1", "ln beta2", "eps", "decay"],
  rmsprop: ["lr", "alpha", "1 - alpha", "eps", "decay", "momentum"],
  adagrad: ["lr", "lrDecay", "eps", "decay"],
} as const;

/** Number of state arrays of a parameter. */
export function adaptiveStates(rule: AdaptiveRule): number {
  if (rule.name === "adam") return rule.amsgrad ? 3 : 2;
  if (rule.name === "adagrad") return 1;
  return 1 + Number(rule.centered) + Number(rule.momentum);
}

/** True if the update depends on the number of steps taken. */
export function countsSteps(rule: AdaptiveRule): boolean {
  return rule.name !== "rmsprop";
}

/** Statements that update parameter value `w` with gradient `g0`; `s0`, `s1`, `s2` are the states. */
function updateText(rule: AdaptiveRule, i: number, fours: boolean): string {
  if (rule.name === "adam") {
    // s0 = m, s1 = v, s2 = max v; factors = [lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)]
    const decayed = rule.decoupled
      ? "let g = g0;\n    w = w * (1.0 - hyper[0] * hyper[8]);"
      : "let g = g0 + hyper[8] * w;";
    const second = rule.amsgrad
      ? `let top = max(s2_${i}[e], v);\n    s2_${i}[e] = top;`
      : "let top = v;";
    return `${decayed}
    let m_old = s0_${i}[e];
    let m = m_old + hyper[3] * (g - m_old);
    let v = hyper[2] * s1_${i}[e] + hyper[4] * g * g;
    s0_${i}[e] = m;
    s1_${i}[e] = v;
    ${second}
    w -= factors[2u * p.index${i}] * m / (sqrt(top) * factors[2u * p.index${i} + 1u] + hyper[7]);`;
  }
  if (rule.name === "adagrad") {
    return `let g = g0 + hyper[3] * w;
    let total = s0_${i}[e] + g * g;
    s0_${i}[e] = total;
    w -= factors[2u * p.index${i}] * g / (sqrt(total) + hyper[2]);`;
  }
  // s0 = mean of squares, then the mean gradient if centered, then the momentum buffer.
  const mean = rule.centered
    ? `let mean = s1_${i}[e] + hyper[2] * (g - s1_${i}[e]);
    s1_${i}[e] = mean;
    let spread = max(square - mean * mean, ${fours ? "vec4(0.0)" : "0.0"});`
    : "let spread = square;";
  const buffer = `s${rule.centered ? 2 : 1}_${i}`;
  const step = rule.momentum
    ? `let b = hyper[5] * ${buffer}[e] + g / (sqrt(spread) + hyper[3]);
    ${buffer}[e] = b;
    w -= hyper[0] * b;`
    : "w -= hyper[0] * g / (sqrt(spread) + hyper[3]);";
  return `let g = g0 + hyper[4] * w;
    let square = hyper[1] * s0_${i}[e] + hyper[2] * g * g;
    s0_${i}[e] = square;
    ${mean}
    ${step}`;
}

/** What varies between the kernels. */
export interface AdaptiveSpec {
  readonly rule: AdaptiveRule;
  readonly count: number;
  /** Binds a flag; the dispatch changes nothing where it is not 0. */
  readonly skip: boolean;
  /** Whether every parameter is whole fours, which are then one load: params count in fours. */
  readonly fours: boolean;
}

/** Builds the kernel for `count` parameters. */
export const adaptiveKernel: (spec: AdaptiveSpec) => Kernel = memoized(buildAdaptive);

function buildAdaptive({ rule, count, skip, fours }: AdaptiveSpec): Kernel {
  const type = fours ? "vec4<f32>" : "f32";
  const states = adaptiveStates(rule);
  const steps = countsSteps(rule);
  const buffers: BufferDecl[] = [{ name: "hyper", access: "read", type: "f32" }];
  if (steps) buffers.push({ name: "factors", access: "read", type: "f32" });
  if (skip) buffers.push({ name: "skip", access: "read", type: "u32" });
  const params: Record<string, Param["type"]> = {};
  const updates: string[] = [];
  const cases: string[] = [];
  for (let i = 0; i < count; i++) {
    buffers.push({ name: `grad${i}`, access: "read", type });
    buffers.push({ name: `param${i}`, access: "write", type });
    for (let s = 0; s < states; s++) {
      buffers.push({ name: `s${s}_${i}`, access: "write", type });
    }
    params[`first${i}`] = "u32";
    params[`count${i}`] = "u32";
    if (steps) params[`index${i}`] = "u32";
    updates.push(`
fn update${i}(e: u32) {
  if (e < p.count${i}) {
    let g0 = grad${i}[e];
    var w = param${i}[e];
    ${updateText(rule, i, fours)}
    param${i}[e] = w;
  }
}`);
    const lanes = fours
      ? `update${i}(e);`
      : `for (var v = 0u; v < 4u; v++) { update${i}(e + v * ${LINEAR}u); }`;
    const test = i + 1 < count ? `if (group < p.first${i + 1}) ` : "";
    const block = ADAPTIVE_BLOCK / (fours ? 4 : 1);
    cases.push(
      `${test}{ let e = (group - p.first${i}) * ${block}u + lid.x; ${lanes} }`,
    );
  }
  const variant = Object.entries(rule).filter(([, on]) => on === true).map(([name]) => `_${name}`);
  return kernel({
    name: `${rule.name}${variant.join("")}${skip ? "_skip" : ""}_x${count}${fours ? "_fours" : ""}`,
    buffers,
    params: { ...params, groups: "u32" },
    module: updates.join("\n"),
    body: `  let group = wid.y * nwg.x + wid.x;
  if (group >= p.groups${skip ? " || skip[0] != 0u" : ""}) { return; }
  ${cases.join("\n  else ")}`,
  });
}

/**
 * Adds 1 to steps[i] where active[i] is not 0, and writes what the update needs of it to
 * factors[2i], factors[2i + 1]. A thread owns a parameter.
 *
 * Adam: lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t); Adagrad: lr / (1 + (t - 1)·lrDecay).
 */
export const countStepsKernel: (
  spec: { name: "adam" | "adagrad"; skip: boolean },
) => Kernel = memoized(buildCountSteps);

function buildCountSteps(
  { name, skip }: { name: "adam" | "adagrad"; skip: boolean },
): Kernel {
  const factors = name === "adam"
    ? `  factors[2u * i] = hyper[0] / one_minus_exp(t * hyper[5]);
  factors[2u * i + 1u] = inverseSqrt(one_minus_exp(t * hyper[6]));`
    : "  factors[2u * i] = hyper[0] / (1.0 + (t - 1.0) * hyper[1]);";
  return kernel({
    name: `count_steps_${name}`,
    buffers: [
      { name: "hyper", access: "read", type: "f32" },
      { name: "active_of", access: "read", type: "f32" },
      { name: "steps", access: "write", type: "f32" },
      { name: "factors", access: "write", type: "f32" },
      ...(skip ? [{ name: "skip", access: "read", type: "u32" } as const] : []),
    ],
    params: { count: "u32" },
    // 1 - exp(x) for x <= 0: the series where exp(x) is close to 1 (next term below 2^-24 of the sum).
    module: name === "adam"
      ? `
fn one_minus_exp(x: f32) -> f32 {
  let y = -x;
  let series = y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0 * (1.0 - y / 5.0 *
    (1.0 - y / 6.0 * (1.0 - y / 7.0))))));
  return select(1.0 - exp(x), series, y < 0.5);
}`
      : "",
    body: `${linearThread("i", "p.count")}
${
      skip
        ? "  if (skip[0] != 0u) { return; }\n"
        : ""
    }  let t = steps[i] + select(0.0, 1.0, active_of[i] != 0.0);
  steps[i] = t;
${factors}`,
  });
}
