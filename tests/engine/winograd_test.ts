/** Convolutions by Winograd's filtering, which plans take for many channels only, on the records' samples. */

import { assert, assertEquals } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import "../../engine/ops/conv.ts";
import "../../engine/ops/conv_transpose.ts";
import { onTiledCore } from "../../engine/ops/conv_core.ts";
import { onWinograd } from "../../engine/ops/conv_winograd.ts";
import { conv2d, convTranspose2d, profile, randn, readAll, scope } from "../../engine/mod.ts";
import { asSoftware } from "../helpers/as_hardware.ts";
import { checkOp } from "../helpers/check_op.ts";
import { assertClose } from "../helpers/close.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

for (const name of ["conv2d", "convTranspose2d"]) {
  // All images in one turn, two in a turn, one.
  for (const scratch of [1 << 20, 3840, 1]) {
    Deno.test(`${name} by Winograd's filtering, ${scratch} bytes at a time`, async () => {
      const { problems } = await onWinograd(() => checkOp(allOps().get(name)!), scratch);
      assertEquals(problems, []);
    });
  }
}

Deno.test("convolutions of many channels go by Winograd's filtering, and give what the core gives", async () => {
  // From the plan: forward of 128 channels, and dX of 64; sums of 9 · channels products.
  const [N, C, O, side] = [2, 128, 64, 50];
  const x = randn([N, C, side, side]).requiresGrad_();
  const w = randn([O, C, 3, 3]).requiresGrad_();
  const dy = randn([N, O, side, side]);
  const run = () =>
    scope(() => {
      const y = conv2d(x, w, { padding: 1 });
      y.backward(dy);
      const back = x.grad!.clone();
      x.grad = null;
      return [y.detach(), back, convTranspose2d(dy, w, { padding: 1 }).detach()];
    });
  // The plan takes it on software only.
  const { dispatches } = await profile(() => void asSoftware(run));
  const names = dispatches.map((d) => d.kernel);
  for (
    const part of ["winograd_weight", "winograd_weight_turned", "winograd_input", "winograd_output"]
  ) {
    assert(names.includes(part), `${part} in ${names}`);
  }
  const [own, core] = [asSoftware(run), onTiledCore(run)];
  const [a, b] = [await readAll(own), await readAll(core)];
  a.forEach((values, i) => {
    // Terms of size 1; the transforms add up to 16 of them before the sum and 9 after it.
    const terms = 9 * (i === 0 ? C : O);
    assertClose(values, [...b[i]!], { atol: 16 * U * Math.sqrt(terms) * 9, what: `${i}` });
  });
  for (const t of [x, w, dy, ...own, ...core]) t.dispose();
});
