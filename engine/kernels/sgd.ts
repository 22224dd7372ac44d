/**
 * One dispatch of stochastic gradient descent over many parameters.
 *
 *   g ← grad + weightDecay·p;  b ← momentum·b + (1 - dampening)·g (b ← g where b is -0)
 *   p ← p - lr·(nesterov ? g + momentum·b : b)
 *
 * A workgroup owns 4·64 consecutive elements of one parameter, found by comparing its number with
 * the first workgroup of each; a thread's four lie together, as one load, where all parameters are whole
 * fours. Hyperparameters are read from GPU memory, so that schedules work under
 * replay. Traffic: 5 words an element. Source: PyTorch's torch.optim.SGD.
 *
 * The first step of a momentum differs, and only the GPU knows whether a step before was skipped. So a momentum
 * that has not begun is -0, and one that has is never: it is looked at as bits, since WGSL lets a compiler
 * ignore the sign of a zero in arithmetic.
 */

import { type BufferDecl, type Kernel, kernel, LINEAR, memoized, type Param } from "./kernel.ts";

/** Elements of a parameter that a workgroup updates. */
export const SGD_BLOCK = LINEAR * 4;
/** Largest number of parameters of one dispatch. */
export const SGD_MOST = 16;

/** Hyperparameters in the order of the `hyper` buffer. */
export const SGD_HYPER = [
  "lr",
  "momentum",
  "dampening",
  "weightDecay",
  "nesterov",
] as const;

/** What varies between SGD kernels. */
export interface SgdSpec {
  readonly count: number;
  readonly momentum: boolean;
  /** Binds a flag; the dispatch changes nothing where it is not 0. */
  readonly skip: boolean;
  /** Whether every parameter is whole fours, which are then one load: params count in fours. */
  readonly fours: boolean;
}

/** Builds the kernel for `count` parameters. */
export const sgdKernel: (spec: SgdSpec) => Kernel = memoized(buildSgd);

function buildSgd(spec: SgdSpec): Kernel {
  const type = spec.fours ? "vec4<f32>" : "f32";
  const bits = spec.fours ? "vec4<u32>" : "u32";
  const buffers: BufferDecl[] = [{ name: "hyper", access: "read", type: "f32" }];
  if (spec.skip) buffers.push({ name: "skip", access: "read", type: "u32" });
  const params: Record<string, Param["type"]> = {};
  const updates: string[] = [];
  const cases: string[] = [];
  for (let i = 0; i < spec.count; i++) {
    buffers.push({ name: `grad${i}`, access: "read", type });
    buffers.push({ name: `param${i}`, access: "write", type });
    if (spec.momentum) buffers.push({ name: `buf${i}`, access: "write", type });
    params[`first${i}`] = "u32";
    params[`count${i}`] = "u32";
    const step = spec.momentum
      ? `    let old = buf${i}[e];
    let b = select(h.momentum * old + (1.0 - h.dampening) * g, g, is_minus_zero(old));
    buf${i}[e] = select(b, ${type}(0.0), is_minus_zero(b));
    let d = select(b, g + h.momentum * b, h.nesterov > 0.0);`
      : "    let d = g;";
    updates.push(`
fn update${i}(e: u32, h: Hyper) {
  if (e < p.count${i}) {
    let g = grad${i}[e] + h.weight_decay * param${i}[e];
${step}
    param${i}[e] -= h.lr * d;
  }
}`);
    // A loop, since the text of many parameters compiles long.
    const lanes = spec.fours
      ? `update${i}(e, h);`
      : `for (var v = 0u; v < 4u; v++) { update${i}(e + v * ${LINEAR}u, h); }`;
    const test = i + 1 < spec.count ? `if (group < p.first${i + 1}) ` : "";
    const block = SGD_BLOCK / (spec.fours ? 4 : 1);
    cases.push(`${test}{ let e = (group - p.first${i}) * ${block}u + lid.x; ${lanes} }`);
  }
  return kernel({
    name: `sgd${spec.momentum ? "_momentum" : ""}${spec.skip ? "_skip" : ""}_x${spec.count}${
      spec.fours ? "_fours" : ""
    }`,
    buffers,
    params: { ...params, groups: "u32" },
    module: `
struct Hyper {
  lr: f32, momentum: f32, dampening: f32, weight_decay: f32, nesterov: f32,
}
${
      spec.momentum
        ? `
fn is_minus_zero(x: ${type}) -> ${spec.fours ? "vec4<bool>" : "bool"} {
  return bitcast<${bits}>(x) == ${bits}(0x80000000u);
}`
        : ""
    }
${updates.join("\n")}`,
    body: `  let group = wid.y * nwg.x + wid.x;
  if (group >= p.groups${spec.skip ? " || skip[0] != 0u" : ""}) { return; }
  let h = Hyper(hyper[0], hyper[1], hyper[2], hyper[3], hyper[4]);
  ${cases.join("\n  else ")}`,
  });
}
