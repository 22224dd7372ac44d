/** Max pooling to a given output size. */

import { checkWhole } from "../arguments.ts";
import { DeviceArray, operand, type Spec } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import {
  adaptiveMaxPoolBackwardKernel,
  adaptiveMaxPoolKernel,
} from "../kernels/adaptive_max_pool.ts";
import { type Kernel, linearGrid } from "../kernels/kernel.ts";
import { defineOp, type Op } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import { show } from "../shape.ts";
import { floatOf, plain } from "./launch_pointwise.ts";
import type { AdaptiveAttrs } from "./pool.ts";

function launch(
  kernel: Kernel,
  arrays: readonly DeviceArray[],
  { x, y, count }: { x: Spec; y: Spec; count: number },
): void {
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: { count, H: x.shape[2]!, W: x.shape[3]!, OH: y.shape[2]!, OW: y.shape[3]! },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: arrays[0]!.size, bytes: arrays.reduce((n, a) => n + a.bytes, 0) },
  });
}

/** Largest element over windows chosen so that the output has the given size. */
export const adaptiveMaxPool2d: Op<AdaptiveAttrs> = defineOp<AdaptiveAttrs>({
  name: "adaptiveMaxPool2d",
  check([x], { size }) {
    if (!isFloat(x!.dtype) || x!.shape.length !== 4) {
      throw new TypeError(
        `Cannot adaptiveMaxPool2d ${show(x!.shape)} ${
          x!.dtype
        }: it must be [N, C, H, W] or [C, H, W] floats`,
      );
    }
    checkWhole("adaptiveMaxPool2d", { size }, 1);
    if (x!.shape[2] === 0 || x!.shape[3] === 0) {
      throw new RangeError(
        `Cannot adaptiveMaxPool2d ${show(x!.shape)} to ${show(size)}: it has no elements there`,
      );
    }
    return [{ shape: [x!.shape[0]!, x!.shape[1]!, ...size], dtype: x!.dtype }];
  },
  forward(ctx, [x], _attrs, [out]) {
    const source = plain(x!);
    const y = DeviceArray.empty(out!, "adaptiveMaxPool2d");
    const places = DeviceArray.empty({ shape: y.shape, dtype: "u32" }, "adaptiveMaxPool2d places");
    launch(adaptiveMaxPoolKernel(floatOf(y)), [source, y, places], { x: source, y, count: y.size });
    ctx.save(places);
    return [y];
  },
  backward(ctx, [dy]) {
    const dx = DeviceArray.empty(ctx.inputs[0]!, "adaptiveMaxPool2d dx");
    const arrays = [plain(dy!), ctx.saved[0]!, dx];
    launch(adaptiveMaxPoolBackwardKernel(floatOf(dx)), arrays, { x: dx, y: dy!, count: dx.size });
    return [dx];
  },
  reference: ([x], { size }) => {
    const [B, C, H, W] = x!.shape as [number, number, number, number];
    return [
      hostFrom([B, C, ...size], ([b, c, oh, ow]) => {
        let best = -Infinity;
        for (let h = Math.floor(oh! * H / size[0]); h < Math.ceil((oh! + 1) * H / size[0]); h++) {
          for (let w = Math.floor(ow! * W / size[1]); w < Math.ceil((ow! + 1) * W / size[1]); w++) {
            best = Math.max(best, hostAt(x!, [b!, c!, h, w]));
          }
        }
        return best;
      }),
    ];
  },
  samples: [
    { inputs: [{ shape: [2, 3, 6, 6], distinct: true }], attrs: { size: [1, 1] }, terms: 1 },
    { inputs: [{ shape: [1, 2, 7, 5], distinct: true }], attrs: { size: [3, 2] }, terms: 4 },
    { inputs: [{ shape: [1, 2, 3, 2], distinct: true }], attrs: { size: [6, 6] }, terms: 36 },
    { inputs: [{ shape: [0, 2, 3, 2] }], attrs: { size: [2, 2] }, terms: 1 },
    {
      inputs: [{ shape: [1, 1, 2, 3], values: [-Infinity, -Infinity, NaN, 1, 1, 2] }],
      attrs: { size: [1, 2] },
      grad: false,
    },
  ],
});
