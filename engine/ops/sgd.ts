/** Stochastic gradient descent over many parameters at once, in place. */

import { type DeviceArray, operand } from "../array.ts";
import { gpu } from "../gpu/device.ts";
import { SGD_BLOCK, SGD_MOST, sgdKernel } from "../kernels/sgd.ts";

/** One parameter's arrays, all contiguous f32 of one size. */
export interface SgdEntry {
  readonly param: DeviceArray;
  readonly grad: DeviceArray;
  /** The momentum buffer; absent for all entries or for none. */
  readonly buffer?: DeviceArray;
}

/**
 * Updates every entry; `hyper` is f32 [6] in the order of `SGD_HYPER`. One dispatch updates as many
 * parameters as the adapter binds buffers for.
 */
export function sgdInto(entries: readonly SgdEntry[], hyper: DeviceArray): void {
  const { limits, queue } = gpu();
  const momentum = entries.some((e) => e.buffer);
  const room = Math.floor((limits.maxStorageBuffersPerShaderStage - 1) / (momentum ? 3 : 2));
  const most = Math.max(1, Math.min(room, SGD_MOST));
  const pieces = entries.flatMap((e) => inPieces(e, limits.maxStorageBufferBindingSize));
  for (let start = 0; start < pieces.length; start += most) {
    const part = pieces.slice(start, start + most);
    const params: Record<string, number> = {};
    let groups = 0;
    part.forEach((e, i) => {
      params[`first${i}`] = groups;
      params[`count${i}`] = e.param.size;
      groups += Math.ceil(e.param.size / SGD_BLOCK);
    });
    const side = limits.maxComputeWorkgroupsPerDimension;
    const y = Math.max(1, Math.ceil(groups / side));
    const elements = part.reduce((n, e) => n + e.param.size, 0);
    queue.launch({
      kernel: sgdKernel({ count: part.length, momentum }),
      buffers: [
        operand(hyper).binding,
        ...part.flatMap((e) =>
          [e.grad, e.param, ...(e.buffer ? [e.buffer] : [])].map((a) => operand(a).binding)
        ),
      ],
      params: { ...params, groups },
      grid: [Math.ceil(groups / y), y, 1],
      cost: { flops: elements * 7, bytes: elements * 4 * (momentum ? 5 : 3) },
    });
  }
  for (const e of entries) {
    e.param.storage.version++;
    if (e.buffer) e.buffer.storage.version++;
  }
}

/** The entry cut into windows that one binding can hold. */
function inPieces(entry: SgdEntry, limit: number): SgdEntry[] {
  const { size, bytes } = entry.param;
  if (bytes <= limit) return [entry];
  const step = Math.floor(limit / 4 / 256) * 256;
  const pieces: SgdEntry[] = [];
  for (let start = 0; start < size; start += step) {
    const cut = (a: DeviceArray) => a.view([Math.min(step, size - start)], [1], a.offset + start);
    pieces.push({
      param: cut(entry.param),
      grad: cut(entry.grad),
      buffer: entry.buffer && cut(entry.buffer),
    });
  }
  return pieces;
}
