/** Records whose kernels a discrete GPU shares out otherwise than software does, with its choices. */

import { assertEquals } from "@std/assert";
import { init } from "../../engine/mod.ts";
import { allOps } from "../../engine/op.ts";
import { asHardware } from "../helpers/as_hardware.ts";
import { checkOp } from "../helpers/check_op.ts";

await init();

for (const name of "sum mean max min any argmax argmin cumsum cumprod topk".split(" ")) {
  Deno.test(`${name} gives on a GPU what its reference and its differences give`, async () => {
    // Everything is recorded before the first wait.
    const { problems } = await asHardware(() => checkOp(allOps().get(name)!));
    assertEquals(problems, []);
  });
}
