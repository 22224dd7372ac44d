/** The gradient of images read at positions: the op once more, made of `gather`, and the gradient of that. */

import { zeros } from "../creation.ts";
import { type GridSampleAttrs, mapping } from "../ops/grid_sample.ts";
import type { Tensor } from "../tensor.ts";
import type { DoubleRule } from "./rule.ts";

/** y[n, c, oh, ow] = x[n, c] at position grid[n, oh, ow]. */
export const gridSample: DoubleRule<GridSampleAttrs> = (ctx, [dy]) => {
  const { mode, padding, alignCorners } = ctx.attrs;
  const [grid, image] = ctx.saved;
  const [N, C, H, W] = ctx.inputs[0]!.shape as [number, number, number, number];
  const [, , OH, OW] = ctx.outputs[0]!.shape as [number, number, number, number];
  // An image that was not saved is not needed: what comes out is linear in it.
  const given = image ?? zeros([N, C, H, W], { dtype: ctx.inputs[0]!.dtype }).device;
  const x = ctx.input(0, given);
  const at = ctx.input(1, grid!);
  const position = (k: number, size: number): Tensor => {
    const { scale, shift } = mapping(size, alignCorners);
    const free = at.select(3, k).mul(scale).add(shift);
    return padding === "border" ? free.clamp({ min: 0, max: size - 1 }) : free;
  };
  const [across, down] = [position(0, W), position(1, H)];
  const planes = x.reshape([N, C, H * W]);
  /** The pixels at whole positions; 0 outside of the image. */
  const pixels = (w: Tensor, h: Tensor): Tensor => {
    const inside = w.ge(0).logicalAnd(w.lt(W)).logicalAnd(h.ge(0)).logicalAnd(h.lt(H)).to("f32");
    const place = h.clamp({ min: 0, max: H - 1 }).mul(W).add(w.clamp({ min: 0, max: W - 1 }));
    const index = place.to("i32").reshape([N, 1, OH * OW]).expand([N, C, OH * OW]);
    return planes.gather(2, index).reshape([N, C, OH, OW]).mul(inside.unsqueeze(1));
  };
  if (mode === "nearest") {
    const y = pixels(across.detach().round(), down.detach().round());
    const [dx] = ctx.gradients([y], [dy!], [x]);
    return [dx!, ctx.needs[1] ? zeros(ctx.inputs[1]!.shape) : null];
  }
  const [w, h] = [across.detach().floor(), down.detach().floor()];
  const [a, b] = [across.sub(w).unsqueeze(1), down.sub(h).unsqueeze(1)];
  const row = (h: Tensor) => pixels(w, h).mul(a.neg().add(1)).add(pixels(w.add(1), h).mul(a));
  const y = row(h).mul(b.neg().add(1)).add(row(h.add(1)).mul(b));
  return ctx.gradients([y], [dy!], [x, at]);
};
