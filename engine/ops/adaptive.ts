/** Adam, AdamW, RMSprop and Adagrad over many parameters at once, in place. */

import { bindsPlain, type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import {
  ADAPTIVE_BLOCK,
  ADAPTIVE_HYPER,
  ADAPTIVE_MOST,
  adaptiveKernel,
  type AdaptiveRule,
  adaptiveStates,
  countsSteps,
  countStepsKernel,
} from "../kernels/adaptive.ts";
import { linearGrid, numbered } from "../kernels/kernel.ts";
import { sameShape, show } from "../shape.ts";
import { cuts, dispatches, readersApart, shareOut } from "./optim_parts.ts";

/** One parameter's arrays, all f32 of one shape. */
export interface AdaptiveEntry {
  /** Contiguous. */
  readonly param: DeviceArray;
  readonly grad: DeviceArray;
  /** Contiguous; how many and which is the rule's. */
  readonly states: readonly DeviceArray[];
  /** Place of the parameter in `steps`. */
  readonly index: number;
}

/** Numbers in GPU memory that a step reads. */
export interface AdaptiveNumbers {
  /** f32 in the order of `ADAPTIVE_HYPER`. */
  readonly hyper: DeviceArray;
  /** Rules that count steps: f32 [n] steps taken, [n] not 0 where a step is taken now, [n, 2]. */
  readonly steps?: DeviceArray;
  readonly active?: DeviceArray;
  readonly factors?: DeviceArray;
  /** u32 [1]: nothing changes where it is not 0. */
  readonly skip?: DeviceArray;
}

/**
 * Updates every entry. One dispatch updates as many parameters as the adapter binds buffers for.
 *
 * @throws {TypeError} if dtypes, shapes or layouts do not fit; nothing is updated then
 */
export function adaptiveInto(
  rule: AdaptiveRule,
  entries: readonly AdaptiveEntry[],
  numbers: AdaptiveNumbers,
): void {
  const { limits, queue, info } = gpu();
  check(rule, entries, numbers);
  const states = adaptiveStates(rule);
  const skipped = numbers.skip ? [numbers.skip] : [];
  const skip = skipped.length > 0;
  const fixed = [numbers.hyper, ...(countsSteps(rule) ? [numbers.factors!] : []), ...skipped];
  if (rule.name !== "rmsprop") {
    const { hyper, active, steps, factors } = numbers;
    queue.launch({
      kernel: countStepsKernel({ name: rule.name, skip }),
      buffers: [hyper, active!, steps!, factors!, ...skipped].map((a) => operand(a).binding),
      params: { count: steps!.size },
      grid: linearGrid(steps!.size, limits.maxComputeWorkgroupsPerDimension),
      cost: { flops: steps!.size * 20, bytes: steps!.size * 20 },
    });
    steps!.storage.version++;
    factors!.storage.version++;
  }
  const room = Math.floor((limits.maxStorageBuffersPerShaderStage - fixed.length) / (states + 2));
  // See sgd.ts: software Vulkan runs every branch of the choice between parameters.
  const most = info.software ? 1 : Math.max(1, Math.min(room, ADAPTIVE_MOST));
  const apart = readersApart(entries.flatMap((e) => [e.param, ...e.states]));
  const pieces = entries.flatMap((e) =>
    cuts(e.param).map((cut): AdaptiveEntry => ({
      param: cut(e.param),
      grad: cut(apart(e.grad)),
      states: e.states.map(cut),
      index: e.index,
    }))
  );
  for (const { part, unit } of dispatches(pieces, most)) {
    const { params, grid, elements } = shareOut(part.map((e) => e.param), {
      unit,
      block: ADAPTIVE_BLOCK,
    });
    if (countsSteps(rule)) part.forEach(({ index }, i) => params[numbered("index", i)] = index);
    queue.launch({
      kernel: adaptiveKernel({ rule, count: part.length, skip, fours: unit === 4 }),
      buffers: [...fixed, ...part.flatMap((e) => [e.grad, e.param, ...e.states])]
        .map((a) => operand(a).binding),
      params,
      grid,
      cost: { flops: elements * 15, bytes: elements * 4 * (3 + 2 * states) },
    });
  }
  for (const e of entries) for (const a of [e.param, ...e.states]) a.storage.version++;
}

/** The kernel reads every array from its first element on, without strides. */
function check(
  rule: AdaptiveRule,
  entries: readonly AdaptiveEntry[],
  { hyper, steps, active, factors }: AdaptiveNumbers,
): void {
  const wanted = adaptiveStates(rule);
  for (const { param, grad, states, index } of entries) {
    if (states.length !== wanted) {
      throw new TypeError(
        `Cannot step by ${rule.name} with ${states.length} states: it has ${wanted}`,
      );
    }
    for (const a of [param, grad, ...states]) {
      if (a.dtype !== "f32" || !sameShape(a.shape, param.shape)) {
        throw new TypeError(
          `Cannot step ${show(param.shape)} ${param.dtype} by ${rule.name} with ` +
            `${show(a.shape)} ${a.dtype}: parameter, gradient and state must be f32 of one shape`,
        );
      }
    }
    for (const a of [param, ...states]) {
      if (!bindsPlain(a)) {
        throw new TypeError(
          `Cannot step ${show(param.shape)} by ${rule.name}: parameter and state must be ` +
            "contiguous, from an aligned place in their memory on",
        );
      }
    }
    if (steps && !(index >= 0 && index < steps.size)) {
      throw new RangeError(
        `Cannot step by ${rule.name} at place ${index}: there are ${steps.size} step counts`,
      );
    }
  }
  const names = ADAPTIVE_HYPER[rule.name];
  if (hyper.dtype !== "f32" || hyper.size !== names.length || !bindsPlain(hyper)) {
    throw new TypeError(
      `Cannot step by ${rule.name} with ${show(hyper.shape)} ${hyper.dtype}: it must be the ` +
        `${names.length} numbers ${names.join(", ")} in f32`,
    );
  }
  if (!countsSteps(rule)) return;
  const counts = [steps, active, factors];
  if (
    counts.some((a) => !a || a.dtype !== "f32" || !bindsPlain(a)) ||
    active!.size !== steps!.size || factors!.size !== 2 * steps!.size
  ) {
    throw new TypeError(
      `Cannot step by ${rule.name} with steps ${show(steps?.shape ?? [])}, active ` +
        `${show(active?.shape ?? [])} and factors ${
          show(factors?.shape ?? [])
        }: they must be f32 ` +
        "[n], [n] and [n, 2]",
    );
  }
}
