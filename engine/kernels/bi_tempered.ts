/**
 * The bi-tempered logistic loss of rows of activations a [N, C] and labels y [N, C]:
 *
 *   p = exp_t2(a - norm(a));  loss = Σ_c y·(log_t1(y + 1e-10) - log_t1(p)) - (y^(2-t1) - p^(2-t1)) / (2-t1)
 *
 * with log_t(u) = (u^(1-t) - 1) / (1-t) and exp_t(u) = max(1 + (1-t)·u, 0)^(1 / (1-t)), which are log and
 * exp at t = 1. norm makes p sum to 1: a fixed point for t2 > 1, bisection for t2 < 1. A thread owns a
 * row; traffic: a about 2 + iterations times. Source: Amid et al., NeurIPS 2019,
 * https://github.com/google/bi-tempered-loss
 */

import { asF32, fromF32, type Kernel, kernel, linearThread, memoized } from "./kernel.ts";
import { EXP, LOG } from "./special.ts";

/** How activations, labels and their gradients are stored; all else is f32. */
export interface BiTemperedSpec {
  readonly dtype: "f32" | "f16";
}

const TEMPERED = `${EXP}${LOG}
fn power(u: f32, e: f32) -> f32 {
  if (e == 0.0) { return 1.0; }
  return select(pow(u, e), 0.0, u <= 0.0);
}
fn log_t(u: f32, t: f32) -> f32 {
  if (t == 1.0) { return natural_log(u); }
  return (power(u, 1.0 - t) - 1.0) / (1.0 - t);
}
fn exp_t(u: f32, t: f32) -> f32 {
  if (t == 1.0) { return exponential(u); }
  return power(1.0 + (1.0 - t) * u, 1.0 / (1.0 - t));
}`;

const PARAMS = { rows: "u32", C: "u32", t1: "f32", t2: "f32", iterations: "u32" } as const;

/** loss[n] and norm[n]. */
export const biTemperedKernel: (spec: BiTemperedSpec) => Kernel = memoized(buildBiTempered);

function buildBiTempered({ dtype }: BiTemperedSpec): Kernel {
  const a = (c: string) => asF32(`a[first + ${c}]`, dtype);
  return kernel({
    name: "bi_tempered_rows",
    buffers: [
      { name: "a", access: "read", type: dtype },
      { name: "y", access: "read", type: dtype },
      { name: "loss", access: "write", type: "f32" },
      { name: "norms", access: "write", type: "f32" },
    ],
    params: PARAMS,
    module: TEMPERED,
    body: `${linearThread("row", "p.rows")}
  let first = row * p.C;
  var top = ${a("0u")};
  for (var c = 1u; c < p.C; c++) { top = max(top, ${a("c")}); }
  var norm = 0.0;
  if (p.t2 >= 1.0) {
    // x = (a - top)·Z(x)^(1-t2); at t2 = 1 the first round ends at log Z.
    var scale = 1.0;
    var total = 0.0;
    for (var k = 0u; k <= p.iterations; k++) {
      total = 0.0;
      for (var c = 0u; c < p.C; c++) { total += exp_t((${a("c")} - top) * scale, p.t2); }
      if (k < p.iterations) { scale = power(total, 1.0 - p.t2); }
    }
    norm = top - log_t(1.0 / total, p.t2);
  } else {
    let edge = -1.0 / (1.0 - p.t2);
    var active_count = 0.0;
    for (var c = 0u; c < p.C; c++) { active_count += select(0.0, 1.0, ${a("c")} - top > edge); }
    var low = 0.0;
    var high = -log_t(1.0 / active_count, p.t2);
    for (var k = 0u; k < p.iterations; k++) {
      let middle = 0.5 * (low + high);
      var total = 0.0;
      for (var c = 0u; c < p.C; c++) { total += exp_t(${a("c")} - top - middle, p.t2); }
      if (total < 1.0) { high = middle; } else { low = middle; }
    }
    norm = top + 0.5 * (low + high);
  }
  norms[row] = norm;
  let e = 2.0 - p.t1;
  var sum = 0.0;
  for (var c = 0u; c < p.C; c++) {
    let q = exp_t(${a("c")} - norm, p.t2);
    let label = ${asF32("y[first + c]", dtype)};
    // A label 0 gives q^(2-t1) / (2-t1) alone: 0·log 0 is 0.
    let terms = label * (log_t(label + 1e-10, p.t1) - log_t(q, p.t1));
    sum += select(terms, 0.0, label == 0.0) - (power(label, e) - power(q, e)) / e;
  }
  loss[row] = sum;`,
  });
}

/**
 * da = dy·(d·f - escort·Σ d·f) with d = p - y, f = p^(t2-t1), escort = p^t2 / Σ p^t2, and
 * dl = dy·(log_t1(y + 1e-10) + y·(y + 1e-10)^-t1 - log_t1(p) - y^(1-t1)); p from the saved norm.
 */
export const biTemperedBackwardKernel: (spec: BiTemperedSpec) => Kernel = memoized(
  buildBiTemperedBackward,
);

function buildBiTemperedBackward({ dtype }: BiTemperedSpec): Kernel {
  const a = asF32("a[first + c]", dtype);
  const label = asF32("y[first + c]", dtype);
  return kernel({
    name: "bi_tempered_backward",
    buffers: [
      { name: "a", access: "read", type: dtype },
      { name: "y", access: "read", type: dtype },
      { name: "norms", access: "read", type: "f32" },
      { name: "dy", access: "read", type: "f32" },
      { name: "da", access: "write", type: dtype },
      { name: "dl", access: "write", type: dtype },
    ],
    params: PARAMS,
    module: TEMPERED,
    body: `${linearThread("row", "p.rows")}
  let first = row * p.C;
  let norm = norms[row];
  var escorts = 0.0;
  var moved = 0.0;
  for (var c = 0u; c < p.C; c++) {
    let q = exp_t(${a} - norm, p.t2);
    escorts += power(q, p.t2);
    moved += (q - ${label}) * power(q, p.t2 - p.t1);
  }
  for (var c = 0u; c < p.C; c++) {
    let q = exp_t(${a} - norm, p.t2);
    let label = ${label};
    let escort = power(q, p.t2) / escorts;
    let slope = dy[row] * ((q - label) * power(q, p.t2 - p.t1) - escort * moved);
    da[first + c] = ${fromF32("slope", dtype)};
    let near = label + 1e-10;
    let label_slope = dy[row] * (log_t(near, p.t1) + label * power(near, -p.t1) -
      log_t(q, p.t1) - power(label, 1.0 - p.t1));
    dl[first + c] = ${fromF32("label_slope", dtype)};
  }`,
  });
}
