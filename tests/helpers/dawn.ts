/**
 * @file Loaded before each test file by `deno task test:dawn` (`--preload`): opens the GPU with Dawn, so
 * that the test's own `init()` finds it open.
 */

import { gpu, init } from "../../engine/gpu/device.ts";

await init({ provider: "dawn" });

// Dawn ends the process when a promise of its own is still open as a test file's isolate is taken down.
Deno.test.afterAll(async () => {
  await gpu().queue.synchronize().catch(() => {});
});
