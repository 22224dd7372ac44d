/** @file Loaded before tests (`--preload`, or imported first): they run on a device with no more than WebGPU promises, emulated. */

import { emulate, HARDWARE } from "./device.ts";

emulate(HARDWARE.plain!);
