/** @file Loaded before tests (`--preload`, or imported first): they run on a discrete GPU with the largest errors that WGSL allows, emulated. */

import { emulate, HARDWARE } from "./device.ts";

emulate(HARDWARE.coarse!);
