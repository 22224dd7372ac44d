/** Arrays of one value. */

import { DeviceArray, type Spec } from "../array.ts";
import { DTYPES } from "../dtype.ts";
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
  pointwiseInto({
    name: "fill",
    inputs: { value: { value: y.dtype === "bool" ? Number(value !== 0) : value, type } },
    expression: "value",
    compute: type,
    result: type,
    flops: 0,
  }, y);
}
