/**
 * y = exp(x - max) / sum exp(x - max) over rows of [rows, C], or its logarithm; and the gradients.
 *
 * A row belongs to a thread or to a workgroup; see rows.ts. Traffic: x three times (the second and third
 * from cache), y once. Source: ours.
 */

import { asStored, type Kernel, kernel, memoized, storedType } from "./kernel.ts";
import {
  eachColumn,
  eachPart,
  rowElement,
  type RowLayout,
  rowModule,
  rowStart,
  rowVariant,
  rowWorkgroup,
} from "./rows.ts";
import { EXP, LOG } from "./special.ts";

/** What varies between the text of softmax kernels; sums are f32. */
export interface SoftmaxSpec extends RowLayout {
  /** The logarithm of the softmax. */
  readonly log: boolean;
  readonly dtype: "f32" | "f16";
}

/** Forward, shifted by the row's maximum so that exp cannot overflow. */
export const softmaxKernel: (spec: SoftmaxSpec) => Kernel = memoized(buildSoftmax);

function buildSoftmax(spec: SoftmaxSpec): Kernel {
  const x = rowElement("x", "first + c", spec);
  const zero = spec.fours ? "vec4(0.0)" : "0.0";
  const exps = eachPart("v", spec, (part) => `exponential(${part})`);
  // The maximum first: beside a large one the logarithm would be rounded away.
  const result = spec.log ? `(${x} - top) - log_total` : `${exps} * scale`;
  return kernel({
    name: `${spec.log ? "log_softmax" : "softmax"}${rowVariant(spec)}`,
    buffers: [
      { name: "x", access: "read", type: storedType(spec.dtype, spec.fours) },
      { name: "y", access: "write", type: storedType(spec.dtype, spec.fours) },
    ],
    params: { rows: "u32", C: "u32" },
    workgroup: rowWorkgroup(spec),
    module: `${EXP}${spec.log ? LOG : ""}${rowModule(spec)}`,
    body: `${rowStart(spec)}
  var tops = ${rowElement("x", "first", spec)};
  ${eachColumn(spec, `tops = max(tops, ${x});`)}
  let top = row_max(tops, lane);
  var sums = ${zero};
  ${eachColumn(spec, `let v = ${x} - top; sums += ${exps};`)}
  let total = row_sum(sums, lane);
  ${spec.log ? "let log_total = natural_log(total);" : "let scale = 1.0 / total;"}
  ${
      eachColumn(
        spec,
        `${spec.log ? "" : `let v = ${x} - top; `}y[first + c] = ${
          asStored(result, spec.dtype, spec.fours)
        };`,
      )
    }`,
  });
}

/** softmax: dx = y (dy - sum dy y); log softmax: dx = dy - exp(y) sum dy. */
export const softmaxBackwardKernel: (spec: SoftmaxSpec) => Kernel = memoized(buildBackward);

function buildBackward(spec: SoftmaxSpec): Kernel {
  const y = rowElement("y", "first + c", spec);
  const dy = rowElement("dy", "first + c", spec);
  const zero = spec.fours ? "vec4(0.0)" : "0.0";
  const exps = eachPart("v", spec, (part) => `exponential(${part})`);
  const result = spec.log ? `${dy} - ${exps} * total` : `v * (${dy} - total)`;
  return kernel({
    name: `${spec.log ? "log_softmax_backward" : "softmax_backward"}${rowVariant(spec)}`,
    buffers: [
      { name: "y", access: "read", type: storedType(spec.dtype, spec.fours) },
      { name: "dy", access: "read", type: storedType(spec.dtype, spec.fours) },
      { name: "dx", access: "write", type: storedType(spec.dtype, spec.fours) },
    ],
    params: { rows: "u32", C: "u32" },
    workgroup: rowWorkgroup(spec),
    module: `${spec.log ? EXP : ""}${rowModule(spec)}`,
    body: `${rowStart(spec)}
  var sums = ${zero};
  ${eachColumn(spec, `sums += ${dy}${spec.log ? "" : ` * ${y}`};`)}
  let total = row_sum(sums, lane);
  ${
      eachColumn(spec, `let v = ${y}; dx[first + c] = ${asStored(result, spec.dtype, spec.fours)};`)
    }`,
  });
}
