/**
 * One time step of an LSTM, GRU or plain recurrent cell, forward and backward. The products with the
 * recurrent weights are GEMMs; these kernels do the rest of a step in one dispatch.
 *
 * A thread owns one unit h of one sequence n. Buffers hold all time steps and are bound whole; params
 * say where this step's part lies. `gx` [N, G·H] are the input's shares of the G gates, `gh` those of
 * the last state. Gates lie in PyTorch's order: LSTM i f g o; GRU r z n.
 *
 *   LSTM  i, f, o = σ(gx + gh), g = tanh(gx + gh);  c' = f·c + i·g;  h' = o·tanh(c')
 *   GRU   r, z = σ(gx + gh), n = tanh(gx_n + r·gh_n);  h' = (1 - z)·n + z·h
 *   RNN   h' = tanh(gx + gh), or max(gx + gh, 0)
 *
 * With lengths, a sequence past its end keeps its state, gives output 0 and takes no gradient.
 * Products, cell states, gates and the gradients of states are f32; inputs, weights, states, outputs and
 * their gradients may be f16. Traffic of an LSTM step: about 16 words a unit. Source: ours, from
 * PyTorch's formulas.
 */

import {
  asF32,
  type BufferDecl,
  fromF32,
  type Kernel,
  kernel,
  linearThread,
  memoized,
} from "./kernel.ts";
import { EXP, TANH } from "./special.ts";

/** Kinds of cell. */
export type RecurrentCell = "lstm" | "gru" | "tanh" | "relu";

/** What varies between the kernels. */
export interface RecurrentSpec {
  readonly cell: RecurrentCell;
  /** Reads each sequence's length. */
  readonly masked: boolean;
  /** How inputs, states and outputs are stored. */
  readonly dtype: "f32" | "f16";
}

/** Gates of a cell. */
export const RECURRENT_GATES: Readonly<Record<RecurrentCell, number>> = {
  lstm: 4,
  gru: 3,
  tanh: 1,
  relu: 1,
};
/** Values a step keeps for backward, in units of H: LSTM its gates, GRU r, z, n and gh_n. */
export const RECURRENT_KEPT: Readonly<Record<RecurrentCell, number>> = {
  lstm: 4,
  gru: 4,
  tanh: 0,
  relu: 0,
};

// Exponentials of negative numbers only: no intermediate is infinite, and NaN stays NaN.
const FUNCTIONS = `${EXP}${TANH}
fn sigmoid(x: f32) -> f32 {
  let e = exponential(select(-x, x, x < 0.0));
  return select(1.0, e, x < 0.0) / (1.0 + e);
}`;

const COMMON = {
  count: "u32",
  H: "u32",
  time: "u32",
  gx_at: "u32",
  kept_at: "u32",
  before_at: "u32",
  after_at: "u32",
  y_at: "u32",
} as const;

const THREAD = `${linearThread("u", "p.count")}
  let n = u / p.H;
  let h = u % p.H;`;

const MASK = "  let live = p.time < u32(max(lengths[n], 0));";

/** The forward kernel of a step. */
export const recurrentForwardKernel: (spec: RecurrentSpec) => Kernel = memoized(buildForward);

function buildForward({ cell, masked, dtype }: RecurrentSpec): Kernel {
  const lstm = cell === "lstm";
  const G = RECURRENT_GATES[cell];
  const buffers: BufferDecl[] = [
    { name: "gx", access: "read", type: dtype },
    { name: "gh", access: "read", type: "f32" },
    { name: "hs", access: "write", type: dtype },
  ];
  if (lstm) buffers.push({ name: "cs", access: "write", type: "f32" });
  if (RECURRENT_KEPT[cell] > 0) buffers.push({ name: "kept", access: "write", type: "f32" });
  if (masked) {
    buffers.push({ name: "y", access: "write", type: dtype });
    buffers.push({ name: "lengths", access: "read", type: "i32" });
  }
  const x = (gate: number) => asF32(`gx[gx_row + ${gate}u * p.H]`, dtype);
  const r = (gate: number) => `gh[gh_row + ${gate}u * p.H]`;
  const hBefore = asF32("hs[p.before_at + u]", dtype);
  const both = (gate: number) => `${x(gate)} + ${r(gate)}`;
  const keep = (...values: string[]) =>
    values.map((v, k) => `  kept[kept_row + ${k}u * p.H] = ${v};`).join("\n");
  const text = {
    lstm: `  let gate_i = sigmoid(${both(0)});
  let gate_f = sigmoid(${both(1)});
  let gate_g = hyperbolic_tangent(${both(2)});
  let gate_o = sigmoid(${both(3)});
  var c_new = gate_f * cs[p.before_at + u] + gate_i * gate_g;
  var h_new = gate_o * hyperbolic_tangent(c_new);
${keep("gate_i", "gate_f", "gate_g", "gate_o")}`,
    gru: `  let gh_n = ${r(2)};
  let gate_r = sigmoid(${both(0)});
  let gate_z = sigmoid(${both(1)});
  let gate_n = hyperbolic_tangent(${x(2)} + gate_r * gh_n);
  var h_new = (1.0 - gate_z) * gate_n + gate_z * ${hBefore};
${keep("gate_r", "gate_z", "gate_n", "gh_n")}`,
    tanh: `  var h_new = hyperbolic_tangent(${both(0)});`,
    // Not max(): NaN must stay NaN.
    relu: `  let sum = ${both(0)};
  var h_new = select(sum, 0.0, sum < 0.0);`,
  }[cell];
  return kernel({
    name: `${cell}_step${masked ? "_masked" : ""}`,
    buffers,
    params: COMMON,
    module: FUNCTIONS,
    body: `${THREAD}
  let gx_row = p.gx_at + n * ${G}u * p.H + h;
  let gh_row = n * ${G}u * p.H + h;
${
      RECURRENT_KEPT[cell] > 0
        ? `  let kept_row = p.kept_at + n * ${RECURRENT_KEPT[cell]}u * p.H + h;`
        : ""
    }
${text}
${
      masked
        ? `${MASK}
  y[p.y_at + u] = ${fromF32("select(0.0, h_new, live)", dtype)};
  h_new = select(${hBefore}, h_new, live);${
          lstm ? "\n  c_new = select(cs[p.before_at + u], c_new, live);" : ""
        }`
        : ""
    }
  hs[p.after_at + u] = ${fromF32("h_new", dtype)};
${lstm ? "  cs[p.after_at + u] = c_new;" : ""}`,
  });
}

/**
 * The backward kernel of a step. dh = dy + `dh_product` + `dh_direct`, where dh_product is the later
 * step's gate gradients times the recurrent weights and dh_direct what reached the state past them;
 * dh_direct and dc are replaced by what the earlier step receives. GRU writes the gradients of gx and
 * of gh, which differ in n; the others write those of both at once.
 */
export const recurrentBackwardKernel: (spec: RecurrentSpec) => Kernel = memoized(buildBackward);

function buildBackward({ cell, masked, dtype }: RecurrentSpec): Kernel {
  const lstm = cell === "lstm";
  const gru = cell === "gru";
  const G = RECURRENT_GATES[cell];
  const buffers: BufferDecl[] = [
    { name: "dy", access: "read", type: dtype },
    { name: "dh_product", access: "read", type: "f32" },
  ];
  if (!lstm) buffers.push({ name: "hs", access: "read", type: dtype });
  if (RECURRENT_KEPT[cell] > 0) buffers.push({ name: "kept", access: "read", type: "f32" });
  if (lstm) buffers.push({ name: "cs", access: "read", type: "f32" });
  if (masked) buffers.push({ name: "lengths", access: "read", type: "i32" });
  // Past a sequence's end, and in a GRU, part of dh goes on without the weights.
  const passes = masked || gru;
  if (passes) buffers.push({ name: "dh_direct", access: "write", type: "f32" });
  if (lstm) buffers.push({ name: "dc", access: "write", type: "f32" });
  buffers.push({ name: "dgx", access: "write", type: dtype });
  if (gru) buffers.push({ name: "dgh", access: "write", type: dtype });
  const kept = (k: number) => `kept[kept_row + ${k}u * p.H]`;
  const store = (target: string, ...values: string[]) =>
    values.map((v, k) => {
      const value = masked ? `select(0.0, ${v}, live)` : v;
      return `  ${target}[gx_row + ${k}u * p.H] = ${fromF32(value, dtype)};`;
    }).join("\n");
  const stateAt = (at: string) => asF32(`hs[${at} + u]`, dtype);
  const text = {
    lstm: `  let gate_i = ${kept(0)};
  let gate_f = ${kept(1)};
  let gate_g = ${kept(2)};
  let gate_o = ${kept(3)};
  let c_tanh = hyperbolic_tangent(cs[p.after_at + u]);
  let dc_old = dc[u];
  let dc_new = dc_old + dh * gate_o * (1.0 - c_tanh * c_tanh);
  let d_i = dc_new * gate_g * gate_i * (1.0 - gate_i);
  let d_f = dc_new * cs[p.before_at + u] * gate_f * (1.0 - gate_f);
  let d_g = dc_new * gate_i * (1.0 - gate_g * gate_g);
  let d_o = dh * c_tanh * gate_o * (1.0 - gate_o);
${store("dgx", "d_i", "d_f", "d_g", "d_o")}
  dc[u] = ${masked ? "select(dc_old, dc_new * gate_f, live)" : "dc_new * gate_f"};`,
    gru: `  let gate_r = ${kept(0)};
  let gate_z = ${kept(1)};
  let gate_n = ${kept(2)};
  let gh_n = ${kept(3)};
  let d_n = dh * (1.0 - gate_z) * (1.0 - gate_n * gate_n);
  let d_z = dh * (${stateAt("p.before_at")} - gate_n) * gate_z * (1.0 - gate_z);
  let d_r = d_n * gh_n * gate_r * (1.0 - gate_r);
  let d_hn = d_n * gate_r;
${store("dgx", "d_r", "d_z", "d_n")}
${store("dgh", "d_r", "d_z", "d_hn")}`,
    tanh: `  let h_new = ${stateAt("p.after_at")};
  let d_sum = dh * (1.0 - h_new * h_new);
${store("dgx", "d_sum")}`,
    relu: `  let d_sum = select(0.0, dh, ${stateAt("p.after_at")} > 0.0);
${store("dgx", "d_sum")}`,
  }[cell];
  const dy = asF32("dy[p.y_at + u]", dtype);
  const direct = gru ? "dh * gate_z" : "0.0";
  return kernel({
    name: `${cell}_step_backward${masked ? "_masked" : ""}`,
    buffers,
    params: COMMON,
    module: FUNCTIONS,
    body: `${THREAD}
  let gx_row = p.gx_at + n * ${G}u * p.H + h;
${
      RECURRENT_KEPT[cell] > 0
        ? `  let kept_row = p.kept_at + n * ${RECURRENT_KEPT[cell]}u * p.H + h;`
        : ""
    }
  let state = dh_product[u]${passes ? " + dh_direct[u]" : ""};
${masked ? `${MASK}\n  let dh = state + select(0.0, ${dy}, live);` : `  let dh = state + ${dy};`}
${text}
${passes ? `  dh_direct[u] = ${masked ? `select(state, ${direct}, live)` : direct};` : ""}`,
  });
}
