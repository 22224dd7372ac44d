/** What happens when the device is lost. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { capture } from "../../../engine/capture.ts";
import { ones, randn } from "../../../engine/creation.ts";
import { GpuError } from "../../../engine/errors.ts";
import { gpu, init, reopen } from "../../../engine/gpu/device.ts";
import { manualSeed } from "../../../engine/rng.ts";
import type { Tensor } from "../../../engine/tensor.ts";

await init();

Deno.test("init() after the device was lost opens another, as after reopen()", async () => {
  const old = ones([3]);
  manualSeed(1);
  const before = await randn([4]).data();
  const double = capture((x: Tensor) => ({ y: x.mul(2) }));
  for (let i = 0; i < 3; i++) double(ones([2])).y.dispose();
  const lost = gpu();
  lost.device.destroy();
  await lost.device.lost;
  await assertRejects(() => old.add(1).data(), GpuError, "The GPU device was destroyed");
  const info = await init();
  assert(gpu() !== lost && info.adapter === lost.info.adapter);
  assertEquals(await ones([3]).add(1).array(), [2, 2, 2]);
  for (let i = 0; i < 3; i++) assertEquals(await double(ones([2])).y.array(), [2, 2]);
  manualSeed(1);
  assertEquals(await randn([4]).data(), before, "the generator's state is on the new device");
  assertEquals(await init(), info, "a live one stays");
  await reopen();
});
