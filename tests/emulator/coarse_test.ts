/** @file The records of the ops where every function is as far off as WGSL allows: tolerances must hold on any GPU. */

import "./on_coarse.ts";
import "../engine/ops_test.ts";
