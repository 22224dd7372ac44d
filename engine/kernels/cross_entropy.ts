/**
 * Cross entropy of logits [N, C] against class ids [N], with label smoothing s and an ignored id:
 *
 *   loss[n] = lse(x[n]) - (1 - s)·x[n, t] - s·mean(x[n]),   lse = log of the sum of exponentials
 *
 * Three kernels: rows, their reduction, and dx[n, c] = (softmax(x)[n, c] - q[c])·scale with
 * q = (1 - s)·onehot(t) + s/C. A target outside 0..C-1 that is not the ignored id gives NaN.
 */

import { type DType, DTYPES } from "../dtype.ts";
import {
  asFloats,
  asStored,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  storedType,
} from "./kernel.ts";
import {
  eachColumn,
  eachPart,
  partsOf,
  rowElement,
  type RowLayout,
  rowModule,
  rowStart,
  rowVariant,
  rowWorkgroup,
} from "./rows.ts";
import { EXP, LOG } from "./special.ts";

/** What varies between the text of the kernels: ids are of dtype `target`, logits of `dtype`. */
export interface CrossEntropySpec {
  readonly target: DType;
  readonly dtype: "f32" | "f16";
}

const IS_VALID = `
fn is_valid(t: i32) -> bool { return t != p.ignore; }`;
const NAN = `
fn nan() -> f32 { return bitcast<f32>(0x7fc00000u | (p.rows >> 31u)); }`;

/**
 * loss[n] (0 where ignored), and lse[n] in two parts, the largest logit and the rest, since their sum would
 * lose the rest beside a large one; a row belongs to a thread or to a workgroup, see rows.ts.
 */
export const crossEntropyRowsKernel: (spec: CrossEntropySpec & RowLayout) => Kernel = memoized(
  buildRows,
);

function buildRows(spec: CrossEntropySpec & RowLayout): Kernel {
  const x = rowElement("x", "first + c", spec);
  const zero = spec.fours ? "vec4(0.0)" : "0.0";
  const logit = spec.fours ? "x[first + (u32(t) >> 2u)][u32(t) & 3u]" : "x[first + u32(t)]";
  return kernel({
    name: `cross_entropy_rows${rowVariant(spec)}`,
    buffers: [
      { name: "x", access: "read", type: storedType(spec.dtype, spec.fours) },
      { name: "target_ids", access: "read", type: DTYPES[spec.target].storage },
      { name: "loss", access: "write", type: "f32" },
      { name: "shifts", access: "write", type: "f32" },
    ],
    params: { rows: "u32", C: "u32", classes: "u32", ignore: "i32", smoothing: "f32" },
    workgroup: rowWorkgroup(spec),
    module: IS_VALID + NAN + EXP + LOG + rowModule(spec),
    body: `${rowStart(spec)}
  var tops = ${rowElement("x", "first", spec)};
  ${eachColumn(spec, `tops = max(tops, ${x});`)}
  let top = row_max(tops, lane);
  var sums = ${zero};
  var linears = ${zero};
  ${
      eachColumn(
        spec,
        `let v = ${x} - top; sums += ${
          eachPart("v", spec, (part) => `exponential(${part})`)
        }; linears += v;`,
      )
    }
  let log_total = natural_log(row_sum(sums, lane));
  let linear = row_sum(linears, lane);
  if (lane != 0u) { return; }
  shifts[2u * row] = top;
  shifts[2u * row + 1u] = log_total;
  let t = i32(target_ids[row]);
  var value = 0.0;
  if (is_valid(t)) {
    if (t < 0 || u32(t) >= p.classes) {
      value = nan();
    } else {
      value = log_total - (1.0 - p.smoothing) * (${asFloats(logit, spec.dtype)} - top);
      // A logit of -inf makes \`linear\` infinite, which counts with smoothing only.
      if (p.smoothing > 0.0) { value -= p.smoothing * linear / f32(p.classes); }
    }
  }
  loss[row] = value;`,
  });
}

/** What varies between the text of the kernels that reduce the rows. */
export interface CrossEntropyReduceSpec {
  /** Ids of this dtype tell which rows count, or the counts come with the sums, from shares. */
  readonly from: DType | "shares";
  /** A share for each workgroup, or the total of one, the sum or the mean. */
  readonly to: "shares" | "sum" | "mean";
  /** Threads of a workgroup: 1, or a power of two. */
  readonly lanes: number;
}

/**
 * Sums of loss and numbers of rows that count: [2] for each workgroup, whose threads take rows `threads` apart;
 * the mean of one workgroup is divided.
 */
export const crossEntropyReduceKernel: (spec: CrossEntropyReduceSpec) => Kernel = memoized(
  buildReduce,
);

function buildReduce({ from, to, lanes }: CrossEntropyReduceSpec): Kernel {
  const memory = `
var<workgroup> sums: array<f32, ${lanes}>;
var<workgroup> counts: array<f32, ${lanes}>;`;
  const meet = `  sums[lid.x] = sum;
  counts[lid.x] = count;
  workgroupBarrier();
  for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
    if (lid.x < half) {
      sums[lid.x] += sums[lid.x + half];
      counts[lid.x] += counts[lid.x + half];
    }
    workgroupBarrier();
  }
  if (lid.x > 0u) { return; }
  sum = sums[0];
  count = counts[0];`;
  const merges = from === "shares";
  return kernel({
    name: `cross_entropy_${merges ? "merged_" : ""}${to}${lanes === 1 ? "" : `_lanes${lanes}`}`,
    buffers: merges
      ? [
        { name: "partial_sums", access: "read", type: "f32" },
        { name: "total", access: "write", type: "f32" },
      ]
      : [
        { name: "loss", access: "read", type: "f32" },
        { name: "target_ids", access: "read", type: DTYPES[from].storage },
        { name: "total", access: "write", type: "f32" },
      ],
    params: { rows: "u32", threads: "u32", ignore: "i32" },
    workgroup: [lanes, 1, 1],
    module: `${merges ? "" : IS_VALID}${lanes === 1 ? "" : memory}`,
    body: `  var sum = 0.0;
  var count = 0.0;
  for (var row = wid.x * ${lanes}u + lid.x; row < p.rows; row += p.threads) {
    ${
      merges
        ? "sum += partial_sums[2u * row]; count += partial_sums[2u * row + 1u];"
        : "sum += loss[row]; count += select(0.0, 1.0, is_valid(i32(target_ids[row])));"
    }
  }
${lanes === 1 ? "" : meet}
  total[2u * wid.x] = ${to === "mean" ? "sum / count" : "sum"};
  total[2u * wid.x + 1u] = count;`,
  });
}

/** How dy and the number of rows scale the gradient of a row. */
export type CrossEntropyReduction = "mean" | "sum" | "none";

/** What varies between the text of the gradient's kernels. */
export interface CrossEntropyBackwardSpec extends CrossEntropySpec {
  readonly reduction: CrossEntropyReduction;
  /** Whether a row is whole fours, which a thread then owns: params count in them. */
  readonly fours: boolean;
}

/** dx; a thread owns an element, or four neighbours. */
export const crossEntropyBackwardKernel: (spec: CrossEntropyBackwardSpec) => Kernel = memoized(
  buildBackward,
);

function buildBackward(spec: CrossEntropyBackwardSpec): Kernel {
  const scale = { mean: "dy[0] / total[1]", sum: "dy[0]", none: "dy[row]" }[spec.reduction];
  const layout = { ...spec, lanes: 1 };
  const value = (x: string, c: string) =>
    `(exponential(${x}) - q_rest - select(0.0, 1.0 - p.smoothing, ${c} == t)) * scale`;
  const values = partsOf("v", layout).map((x, i) => value(x, i === 0 ? "c" : `c + ${i}`));
  return kernel({
    name: `cross_entropy_backward_${spec.reduction}${rowVariant(layout)}`,
    buffers: [
      { name: "x", access: "read", type: storedType(spec.dtype, spec.fours) },
      { name: "target_ids", access: "read", type: DTYPES[spec.target].storage },
      { name: "shifts", access: "read", type: "f32" },
      ...(spec.reduction === "mean"
        ? [{ name: "total", access: "read", type: "f32" } as const]
        : []),
      { name: "dy", access: "read", type: "f32" },
      { name: "dx", access: "write", type: storedType(spec.dtype, spec.fours) },
    ],
    params: {
      count: "u32",
      C: "u32",
      classes: "u32",
      ignore: "i32",
      smoothing: "f32",
    },
    module: IS_VALID + EXP,
    body: `${linearThread("i", "p.count")}
  let row = i / p.C;
  let c = i32(i % p.C)${spec.fours ? " * 4" : ""};
  let t = i32(target_ids[row]);
  var value = ${spec.fours ? "vec4(0.0)" : "0.0"};
  if (is_valid(t)) {
    let scale = ${scale};
    let q_rest = p.smoothing / f32(p.classes);
    let v = (${rowElement("x", "i", layout)} - shifts[2u * row]) - shifts[2u * row + 1u];
    value = ${spec.fours ? `vec4(\n      ${values.join(",\n      ")},\n    )` : values[0]};
  }
  dx[i] = ${asStored("value", spec.dtype, spec.fours)};`,
  });
}
