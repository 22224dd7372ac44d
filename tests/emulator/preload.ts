/**
 * @file Loaded before each test file by `deno task test:emulated` (`--preload`): the tests run on an emulated
 * discrete GPU, and each fails if a kernel raced, parted from a barrier or wrote outside.
 */

import { DISCRETE, emulatedGpu } from "./device.ts";

const { gpu, devices } = emulatedGpu(DISCRETE);
Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });

Deno.test.afterEach(() => {
  const faults = devices.flatMap(({ faults }) => [...faults]);
  for (const { faults } of devices) faults.clear();
  if (faults.length > 0) throw new Error(`the emulated GPU met faults:\n  ${faults.join("\n  ")}`);
});
