/** @file Loaded before tests (`--preload`, or imported first): they run on a GPU with subgroups of 64 and no matrix units, emulated. */

import { emulate, HARDWARE } from "./device.ts";

emulate(HARDWARE.wide!);
