/** Stochastic gradient descent over many parameters at once, in place. */

import { bindsPlain, type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { SGD_BLOCK, SGD_HYPER, SGD_MOST, sgdKernel } from "../kernels/sgd.ts";
import { sameShape, show } from "../shape.ts";
import { cuts, dispatches, readersApart, shareOut } from "./optim_parts.ts";

/** One parameter's arrays, all f32 of one shape. */
export interface SgdEntry {
  /** Contiguous. */
  readonly param: DeviceArray;
  readonly grad: DeviceArray;
  /** The momentum buffer, contiguous, -0 before its first step; absent for all entries or for none. */
  readonly buffer?: DeviceArray;
}

/**
 * Updates every entry; `hyper` is f32 [5] in the order of `SGD_HYPER`. One dispatch updates as many
 * parameters as the adapter binds buffers for.
 *
 * @param options `skip`: u32 [1]; nothing changes where it is not 0
 * @throws {TypeError} if dtypes, shapes or layouts do not fit; nothing is updated then
 */
export function sgdInto(
  entries: readonly SgdEntry[],
  hyper: DeviceArray,
  { skip }: { skip?: DeviceArray } = {},
): void {
  const { limits, queue, info } = gpu();
  const momentum = entries.some((e) => e.buffer);
  check(entries, hyper);
  const fixed = skip ? [hyper, skip] : [hyper];
  const free = limits.maxStorageBuffersPerShaderStage - fixed.length;
  const room = Math.floor(free / (momentum ? 3 : 2));
  // Software Vulkan runs every branch of the choice between parameters under a mask: 15 parameters a
  // dispatch took 9.4 ms a step where one a dispatch takes 6.0 (AlexNet, 1.8 M parameters, 2026-11).
  const most = info.software ? 1 : Math.max(1, Math.min(room, SGD_MOST));
  const apart = readersApart(entries.flatMap((e) => e.buffer ? [e.param, e.buffer] : [e.param]));
  const pieces = entries.flatMap((e) =>
    cuts(e.param).map((cut): SgdEntry => ({
      param: cut(e.param),
      grad: cut(apart(e.grad)),
      buffer: e.buffer && cut(e.buffer),
    }))
  );
  for (const { part, unit } of dispatches(pieces, most)) {
    const { params, grid, elements } = shareOut(part.map((e) => e.param), {
      unit,
      block: SGD_BLOCK,
    });
    queue.launch({
      kernel: sgdKernel({
        count: part.length,
        momentum,
        skip: skip !== undefined,
        fours: unit === 4,
      }),
      buffers: [
        ...fixed.map((a) => operand(a).binding),
        ...part.flatMap((e) =>
          [e.grad, e.param, ...(e.buffer ? [e.buffer] : [])].map((a) => operand(a).binding)
        ),
      ],
      params,
      grid,
      cost: { flops: elements * 7, bytes: elements * 4 * (momentum ? 5 : 3) },
    });
  }
  for (const e of entries) {
    e.param.storage.version++;
    if (e.buffer) e.buffer.storage.version++;
  }
}

/** The kernel reads every array from its first element on, without strides. */
function check(entries: readonly SgdEntry[], hyper: DeviceArray): void {
  for (const { param, grad, buffer } of entries) {
    for (const a of buffer ? [param, grad, buffer] : [param, grad]) {
      if (a.dtype !== "f32" || !sameShape(a.shape, param.shape)) {
        throw new TypeError(
          `Cannot step ${show(param.shape)} ${param.dtype} by SGD with ${show(a.shape)} ` +
            `${a.dtype}: parameter, gradient and buffer must be f32 of one shape`,
        );
      }
    }
    for (const a of buffer ? [param, buffer] : [param]) {
      if (!bindsPlain(a)) {
        throw new TypeError(
          `Cannot step ${
            show(param.shape)
          } by SGD: parameter and buffer must be contiguous, from an ` +
            "aligned place in their memory on",
        );
      }
    }
  }
  if (entries.some((e) => e.buffer) && !entries.every((e) => e.buffer)) {
    throw new TypeError("Cannot step by SGD: give buffers for all of them or for none");
  }
  if (hyper.dtype !== "f32" || hyper.size !== SGD_HYPER.length || !bindsPlain(hyper)) {
    throw new TypeError(
      `Cannot step by SGD with ${show(hyper.shape)} ${hyper.dtype}: it must be the ` +
        `${SGD_HYPER.length} numbers ${SGD_HYPER.join(", ")} in f32`,
    );
  }
}
