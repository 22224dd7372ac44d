/** What is done to many gradients at once, in place and without reading anything back. */

import { bindsPlain, DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import {
  clipNormKernel,
  clipValueKernel,
  GRADIENT_BLOCK,
  gradientNormKernel,
  GRADIENTS_MOST,
  type GradientSpec,
  type NormTerm,
  unscaleKernel,
} from "../kernels/gradients.ts";
import { type Kernel, LINEAR } from "../kernels/kernel.ts";
import { run } from "../op.ts";
import { fill } from "./fill.ts";
import { plain, pointwise, pointwiseInto } from "./launch_pointwise.ts";
import { cat, reshape } from "./movement.ts";
import { cuts, dispatches, shareOut } from "./optim_parts.ts";
import { max, sum } from "./reduce.ts";

/** One dispatch over some of the arrays. */
interface Walk extends ReturnType<typeof shareOut> {
  readonly arrays: readonly DeviceArray[];
  readonly fours: boolean;
}

/** Whether the kernels can walk over the array where it lies: f32, contiguous, at an aligned place. */
function isPlain(array: DeviceArray): boolean {
  return array.dtype === "f32" && bindsPlain(array);
}

/** Dispatches over the arrays, as many in each as the adapter binds besides `fixed` buffers. */
function walks(list: readonly DeviceArray[], fixed: number): Walk[] {
  const { limits, info } = gpu();
  const room = limits.maxStorageBuffersPerShaderStage - fixed;
  // See sgd.ts: software Vulkan runs every branch of the choice between arrays.
  const most = info.software ? 1 : Math.max(1, Math.min(room, GRADIENTS_MOST));
  const pieces = list.flatMap((a) => cuts(a).map((cut) => ({ param: cut(a) })));
  return dispatches(pieces, most).map(({ part, unit }) => {
    const arrays = part.map((e) => e.param);
    return { arrays, fours: unit === 4, ...shareOut(arrays, { unit, block: GRADIENT_BLOCK }) };
  });
}

/** Launches one of them; `traffic` is the bytes an element moves. */
function launch(
  kernelOf: (spec: GradientSpec) => Kernel,
  { arrays, fours, params, grid, elements }: Walk,
  given: {
    fixed: readonly DeviceArray[];
    params?: Record<string, number>;
    traffic: 4 | 8;
  },
): void {
  gpu().queue.launch({
    kernel: kernelOf({ count: arrays.length, fours }),
    buffers: [...given.fixed, ...arrays].map((a) => operand(a).binding),
    params: { ...params, ...given.params },
    grid,
    cost: { flops: 2 * elements, bytes: given.traffic * elements },
  });
}

/** (Σ |g|^order)^(1 / order) over all elements of all arrays, f32 []. */
export function gradientNorm(grads: readonly DeviceArray[], order: number): DeviceArray {
  const filled = grads.filter((g) => g.size > 0);
  if (filled.length === 0) return fill({ shape: [], dtype: "f32" }, 0);
  if (order === Infinity) return largest(filled);
  const term: NormTerm = order === 1 ? "abs" : order === 2 ? "square" : "power";
  const sums = walks(filled.map(inF32), 1).map((each) => {
    const shape = [each.params.groups! * LINEAR];
    const parts = DeviceArray.empty({ shape, dtype: "f32" }, "gradient norm");
    launch((spec) => gradientNormKernel({ ...spec, term }), each, {
      fixed: [parts],
      params: term === "power" ? { order } : {},
      traffic: 4,
    });
    return parts;
  });
  const total = run(sum, [sums.length === 1 ? sums[0]! : run(cat, sums, { dim: 0 })], {});
  if (order === 1) return total;
  return pointwise({
    name: "norm_root",
    inputs: { x: total, order: { value: order, type: "f32" } },
    expression: order === 2 ? "sqrt(x)" : "pow(x, 1.0 / order)",
    compute: "f32",
    result: "f32",
  }, { shape: [], dtype: "f32" });
}

/** The largest magnitude; NaN if there is one. */
function largest(grads: readonly DeviceArray[]): DeviceArray {
  const parts = grads.map((g) => {
    const sizes = pointwise({
      name: "norm_terms",
      inputs: { x: g },
      expression: "abs(x)",
      compute: "f32",
      result: "f32",
    }, { shape: g.shape, dtype: "f32" });
    return run(max, [run(reshape, [sizes], { shape: [g.size] })], { dim: 0, keepdim: true });
  });
  return run(max, [parts.length === 1 ? parts[0]! : run(cat, parts, { dim: 0 })], {});
}

function inF32(array: DeviceArray): DeviceArray {
  if (isPlain(array)) return array;
  const copy = plain(array);
  if (copy.dtype === "f32") return copy;
  return pointwise({
    name: "gradient_f32",
    inputs: { x: copy },
    expression: "x",
    compute: "f32",
    result: "f32",
  }, { shape: copy.shape, dtype: "f32" });
}

/** Scales all of them by min(1, most / (norm + 1e-6)). */
export function clipToNorm(grads: readonly DeviceArray[], norm: DeviceArray, most: number): void {
  for (const each of walks(grads.filter(isPlain), 1)) {
    launch(clipNormKernel, each, { fixed: [norm], params: { most }, traffic: 8 });
  }
  for (const x of grads.filter((g) => !isPlain(g))) {
    pointwiseInto({
      name: "clip_grad_norm",
      inputs: { x, norm, most: { value: most, type: "f32" } },
      expression: "x * limited(most / (norm + 1e-6))",
      module: "fn limited(c: f32) -> f32 { return select(c, 1.0, c > 1.0); }",
      compute: "f32",
      result: "f32",
      flops: 2,
    }, x);
  }
  for (const g of grads) g.storage.version++;
}

/** Limits every element to ±most. */
export function clipToValue(grads: readonly DeviceArray[], most: number): void {
  for (const each of walks(grads.filter(isPlain), 0)) {
    launch(clipValueKernel, each, { fixed: [], params: { most }, traffic: 8 });
  }
  for (const x of grads.filter((g) => !isPlain(g))) {
    pointwiseInto({
      name: "clip_grad_value",
      inputs: { x, most: { value: most, type: "f32" } },
      expression: "select(select(x, -most, x < -most), most, x > most)",
      compute: "f32",
      result: "f32",
      flops: 2,
    }, x);
  }
  for (const g of grads) g.storage.version++;
}

/** Divides each gradient (contiguous f32) by state[0] and sets found[0] where one is not finite. */
export function unscaleInto(
  grads: readonly DeviceArray[],
  state: DeviceArray,
  found: DeviceArray,
): void {
  for (const each of walks(grads, 2)) {
    launch(unscaleKernel, each, { fixed: [state, found], traffic: 8 });
  }
  for (const g of grads) g.storage.version++;
}
