/** Arrays of one value. */

import { DeviceArray, type Spec } from "../array.ts";
import { type DType, DTYPES, isFloat, requireRange } from "../dtype.ts";
import { pointwiseInto } from "./launch_pointwise.ts";

/** A contiguous array whose elements are all `value`. */
export function fill(spec: Spec, value: number): DeviceArray {
  const y = DeviceArray.empty(spec, "fill");
  fillInto(y, value);
  return y;
}

/** Sets every element of `y`, whatever its layout. */
export function fillInto(y: DeviceArray, value: number): void {
  const type = DTYPES[y.dtype].compute;
  requireRange("fill with", value, y.dtype);
  pointwiseInto({
    name: "fill",
    inputs: { value: { value: wordOf(value, y.dtype), type } },
    expression: "value",
    compute: type,
    result: type,
    flops: 0,
  }, y);
}

/** The number that an element becomes. */
function wordOf(value: number, dtype: DType): number {
  if (dtype === "bool") return Number(value !== 0);
  return isFloat(dtype) ? value : Math.trunc(value);
}
