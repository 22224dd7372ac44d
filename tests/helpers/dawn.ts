/**
 * @file Loaded before each test file by `deno task test:dawn` (`--preload`): opens the GPU with Dawn, so
 * that the test's own `init()` finds it open.
 */

import { init } from "../../engine/gpu/device.ts";

await init({ provider: "dawn" });
