/**
 * @file The records of the ops, and what only a GPU's plans run, on an emulated discrete GPU: subgroups of 32, matrix
 * units of 16 x 16 x 16, and an error for each race. `deno task test:emulated` runs all tests of the engine there.
 */

import "./on_discrete.ts";
import "../engine/ops_test.ts";
import "../engine/hardware_test.ts";
import "../engine/hardware_ops_test.ts";
import "../engine/gemm_matrices_test.ts";
import "../engine/depthwise_columns_test.ts";
import "../engine/sgd_test.ts";
import "../engine/transpose_test.ts";
import "../engine/adaptive_test.ts";
