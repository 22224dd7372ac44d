/**
 * One dispatch of stochastic gradient descent over many parameters.
 *
 *   g ← grad + weightDecay·p;  b ← momentum·b + (1 - dampening)·g (b ← g the first time)
 *   p ← p - lr·(nesterov ? g + momentum·b : b)
 *
 * A workgroup owns 4·64 consecutive elements of one parameter, found by comparing its number with
 * the first workgroup of each; a thread's four lie together, as one load, where all parameters are whole
 * fours. Hyperparameters are read from GPU memory, so that schedules work under
 * replay. Traffic: 5 words an element. Source: PyTorch's torch.optim.SGD.
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
  "first",
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
      ? `    let b = select(h.momentum * buf${i}[e] + (1.0 - h.dampening) * g, g, h.first > 0.0);
    buf${i}[e] = b;
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
  lr: f32, momentum: f32, dampening: f32, weight_decay: f32, nesterov: f32, first: f32,
}
${updates.join("\n")}`,
    body: `  let group = wid.y * nwg.x + wid.x;
  if (group >= p.groups${spec.skip ? " || skip[0] != 0u" : ""}) { return; }
  let h = Hyper(hyper[0], hyper[1], hyper[2], hyper[3], hyper[4], hyper[5]);
  ${cases.join("\n  else ")}`,
  });
}
