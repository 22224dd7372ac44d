/**
 * @file Loaded before each test file by `deno task test:emulated` (`--preload`): the tests run on an emulated
 * discrete GPU, and each fails if a kernel raced, parted from a barrier or wrote outside.
 */

import { emulatedGpu, HARDWARE } from "./device.ts";

const name = Deno.env.get("LATHE_HARDWARE") ?? "discrete", hardware = HARDWARE[name];
if (!hardware) throw new Error(`No hardware ${name}: it must be one of ${Object.keys(HARDWARE)}`);
const { gpu, devices } = emulatedGpu(hardware);
Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });

Deno.test.afterEach(() => {
  const faults = devices.flatMap(({ faults }) => [...faults]);
  for (const { faults } of devices) faults.clear();
  if (faults.length > 0) throw new Error(`the emulated GPU met faults:\n  ${faults.join("\n  ")}`);
});
