/**
 * Cross entropy of logits [N, C] against class ids [N], with label smoothing s and an ignored id:
 *
 *   loss[n] = lse(x[n]) - (1 - s)·x[n, t] - s·mean(x[n]),   lse = log of the sum of exponentials
 *
 * Three kernels: rows, their reduction, and dx[n, c] = (softmax(x)[n, c] - q[c])·scale with
 * q = (1 - s)·onehot(t) + s/C. A target outside 0..C-1 that is not the ignored id gives NaN.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { asF32, fromF32, type Kernel, kernel, LINEAR, linearThread } from "./kernel.ts";
import { EXP, LOG } from "./special.ts";

/** What varies between the text of the kernels: ids are of dtype `target`, logits of `dtype`. */
export interface CrossEntropySpec {
  readonly target: DType;
  readonly dtype: "f32" | "f16";
}

const CLASS = `
fn is_valid(t: i32) -> bool { return t != p.ignore; }
fn nan() -> f32 { return bitcast<f32>(0x7fc00000u | (p.C >> 31u)); }`;

/** loss[n] (0 where ignored) and lse[n]; a thread owns a row. */
export function crossEntropyRowsKernel(spec: CrossEntropySpec): Kernel {
  const x = (c: string) => asF32(`x[first + ${c}]`, spec.dtype);
  return kernel({
    name: "cross_entropy_rows",
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "target_ids", access: "read", type: DTYPES[spec.target].storage },
      { name: "loss", access: "write", type: "f32" },
      { name: "lse", access: "write", type: "f32" },
    ],
    params: { rows: "u32", C: "u32", ignore: "i32", smoothing: "f32" },
    module: CLASS + EXP + LOG,
    body: `${linearThread("row", "p.rows")}
  let first = row * p.C;
  var top = ${x("0u")};
  for (var c = 1u; c < p.C; c++) { top = max(top, ${x("c")}); }
  var total = 0.0;
  var linear = 0.0;
  for (var c = 0u; c < p.C; c++) {
    let v = ${x("c")} - top;
    total += exponential(v);
    linear += v;
  }
  let log_total = natural_log(total);
  lse[row] = top + log_total;
  let t = i32(target_ids[row]);
  var value = 0.0;
  if (is_valid(t)) {
    if (t < 0 || u32(t) >= p.C) {
      value = nan();
    } else {
      value = log_total - (1.0 - p.smoothing) * (${x("u32(t)")} - top);
      // A logit of -inf makes \`linear\` infinite, which counts with smoothing only.
      if (p.smoothing > 0.0) { value -= p.smoothing * linear / f32(p.C); }
    }
  }
  loss[row] = value;`,
  });
}

/** out = [sum of loss (divided by the rows that count, for the mean), rows that count]; one workgroup. */
export function crossEntropyReduceKernel(spec: { target: DType; mean: boolean }): Kernel {
  const steps = [];
  for (let half = LINEAR / 2; half >= 1; half /= 2) {
    steps.push(`  if (lid.x < ${half}u) {
    sums[lid.x] += sums[lid.x + ${half}u];
    counts[lid.x] += counts[lid.x + ${half}u];
  }
  workgroupBarrier();`);
  }
  return kernel({
    name: spec.mean ? "cross_entropy_mean" : "cross_entropy_sum",
    buffers: [
      { name: "loss", access: "read", type: "f32" },
      { name: "target_ids", access: "read", type: DTYPES[spec.target].storage },
      { name: "total", access: "write", type: "f32" },
    ],
    params: { rows: "u32", C: "u32", ignore: "i32" },
    module: `${CLASS}
var<workgroup> sums: array<f32, ${LINEAR}>;
var<workgroup> counts: array<f32, ${LINEAR}>;`,
    body: `  var sum = 0.0;
  var count = 0.0;
  for (var row = lid.x; row < p.rows; row += ${LINEAR}u) {
    sum += loss[row];
    count += select(0.0, 1.0, is_valid(i32(target_ids[row])));
  }
  sums[lid.x] = sum;
  counts[lid.x] = count;
  workgroupBarrier();
${steps.join("\n")}
  if (lid.x == 0u) {
    total[0] = ${spec.mean ? "sums[0] / counts[0]" : "sums[0]"};
    total[1] = counts[0];
  }`,
  });
}

/** How dy and the number of rows scale the gradient of a row. */
export type CrossEntropyReduction = "mean" | "sum" | "none";

/** dx; a thread owns an element. */
export function crossEntropyBackwardKernel(
  spec: CrossEntropySpec & { readonly reduction: CrossEntropyReduction },
): Kernel {
  const scale = { mean: "dy[0] / total[1]", sum: "dy[0]", none: "dy[row]" }[spec.reduction];
  return kernel({
    name: `cross_entropy_backward_${spec.reduction}`,
    buffers: [
      { name: "x", access: "read", type: spec.dtype },
      { name: "target_ids", access: "read", type: DTYPES[spec.target].storage },
      { name: "lse", access: "read", type: "f32" },
      ...(spec.reduction === "mean"
        ? [{ name: "total", access: "read", type: "f32" } as const]
        : []),
      { name: "dy", access: "read", type: "f32" },
      { name: "dx", access: "write", type: spec.dtype },
    ],
    params: { count: "u32", C: "u32", ignore: "i32", smoothing: "f32" },
    module: CLASS + EXP,
    body: `${linearThread("i", "p.count")}
  let row = i / p.C;
  let c = i32(i % p.C);
  let t = i32(target_ids[row]);
  var value = 0.0;
  if (is_valid(t)) {
    let q = select(0.0, 1.0 - p.smoothing, c == t) + p.smoothing / f32(p.C);
    value = (exponential(${asF32("x[i]", spec.dtype)} - lse[row]) - q) * ${scale};
  }
  dx[i] = ${fromF32("value", spec.dtype)};`,
  });
}
