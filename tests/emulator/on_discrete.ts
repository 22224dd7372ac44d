/** @file Loaded before tests (`--preload`, or imported first): they run on what a discrete GPU tells of itself, emulated. */

import { emulate, HARDWARE } from "./device.ts";

emulate(HARDWARE.discrete!);
