/** @file Modules, layers and all that trains them. */

import { freeOnTheWay } from "./forward.ts";
import * as layers from "./layers/mod.ts";
import * as models from "./models/mod.ts";

export * as data from "./data/mod.ts";
export * as init from "./init.ts";
export * as io from "./io/mod.ts";
export * as metrics from "./metrics.ts";
export * as models from "./models/mod.ts";
export * as optim from "./optim/mod.ts";
export * as run from "./run/mod.ts";
export * as vision from "./vision/mod.ts";
export { FormatError } from "./format_error.ts";
export * from "./layers/mod.ts";
export { type Layer, Module } from "./module.ts";
export { Parameter, type ParameterOptions } from "./parameter.ts";
export type { LoadReport, LoadStateOptions } from "./state_dict.ts";

freeOnTheWay([...Object.values(layers), ...Object.values(models)]);
