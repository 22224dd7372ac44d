/** Convolutions by the kernel for few channels, on the records' samples. */

import { assert, assertEquals } from "@std/assert";
import { init } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import "../../engine/ops/conv.ts";
import "../../engine/ops/conv_transpose.ts";
import { onDirect } from "../../engine/ops/conv_direct.ts";
import { checkOp } from "../helpers/check_op.ts";

await init();

for (const name of ["conv2d", "convTranspose2d"]) {
  Deno.test(`${name} of 3 x 3 windows by the kernel for few channels`, async () => {
    const op = allOps().get(name)!;
    // Others go elsewhere, as they do without being forced.
    const only = op.samples.flatMap(({ inputs, attrs }, i) => {
      const { stride, dilation } = attrs as Record<"stride" | "dilation", readonly number[]>;
      const window = inputs[1]!.shape.slice(2);
      const able = window.every((n) => n === 3) && [...stride, ...dilation].every((n) => n === 1);
      return able ? [i] : [];
    });
    assert(only.length > 3);
    const { problems } = await onDirect(() => checkOp(op, { only }));
    assertEquals(problems, []);
  });
}
