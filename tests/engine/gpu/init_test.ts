/** Which device `init` opens, and which it keeps. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { capture } from "../../../engine/capture.ts";
import { ones } from "../../../engine/creation.ts";
import { GpuError } from "../../../engine/errors.ts";
import { gpu, init, type InitOptions, reopen } from "../../../engine/gpu/device.ts";
import type { Tensor } from "../../../engine/tensor.ts";

const { provider } = await init();

/** As it was before the test, also where all tests run on Dawn. */
async function restore(): Promise<void> {
  await reopen({ provider: provider === "dawn" ? "dawn" : "native" });
}

async function anotherDevice(): Promise<GPUDevice> {
  const adapter = await navigator.gpu.requestAdapter();
  return await adapter!.requestDevice();
}

Deno.test("init() right after destroy() opens another device, and once for two calls", async () => {
  const lost = gpu();
  lost.device.destroy();
  const [one, other] = await Promise.all([init(), init()]);
  assert(one === other && gpu().info === one);
  assert(gpu() !== lost && !gpu().lost);
  assertEquals(await ones([2]).add(1).array(), [2, 2]);
  await restore();
});

Deno.test("init() opens the device it is given, also while it opens one of its own", async () => {
  gpu().device.destroy();
  const device = await anotherDevice();
  const [own, given] = await Promise.all([init(), init({ device })]);
  assertEquals([own.provider, given.provider], [provider, "caller"]);
  assert(gpu().device === device);
  const held = ones([2]), opened = gpu();
  assert(await init({ device }) === given && gpu() === opened, "the same device stays open");
  assert(await init() === given);
  assertEquals(await held.add(1).array(), [2, 2]);
  await restore();
});

Deno.test("init() refuses a device that is lost, and what is none", async () => {
  const open = gpu();
  const device = await anotherDevice();
  device.destroy();
  await assertRejects(
    () => init({ device }),
    GpuError,
    "Cannot open the GPU: the device given was lost or destroyed",
  );
  const adapter = await navigator.gpu.requestAdapter();
  const wrong: [unknown, string][] = [
    [{ device: adapter }, "with device a GPUAdapter: it must be a GPUDevice"],
    [{ device: Promise.resolve(device) }, "with device a Promise: it must be a GPUDevice"],
    [device, "with a device as options: write init({ device })"],
    ["low-power", 'with options "low-power": write init({ powerPreference: "low-power" })'],
    [{ power_preference: "low-power" }, "with power_preference: it is powerPreference"],
  ];
  for (const [options, message] of wrong) {
    await assertRejects(() => init(options as InitOptions), TypeError, message);
  }
  assert(gpu() === open);
});

Deno.test("tensors of an earlier device are refused, and the new one works on", async () => {
  const step = capture((x: Tensor) => ({ y: x.mul(2) }));
  const old = ones([2]);
  for (let i = 0; i < 3; i++) step(old).y.dispose();
  await reopen();
  const refusal = "Cannot use a tensor [2] of an earlier device: init() has opened another since";
  const uses = [() => old.add(1), () => ones([2]).add(old), () => step(old), () => old.add_(1)];
  for (const use of uses) assertThrows(use, Error, refusal);
  await assertRejects(async () => await old.array(), Error, refusal);
  for (let i = 0; i < 3; i++) assertEquals(await step(ones([2])).y.array(), [2, 2]);
  old.dispose();
});
