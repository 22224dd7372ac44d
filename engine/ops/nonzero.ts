/** Coordinates of the elements that are not 0. The number of them must be read, so this is no op. */

import { DeviceArray } from "../array.ts";
import {
  CHUNK,
  chunkScanKernel,
  chunkSumsKernel,
  countNonzeroKernel,
  writeNonzeroKernel,
} from "../kernels/nonzero.ts";
import { fill } from "./fill.ts";
import { launchLinear } from "./launch_linear.ts";
import { plain } from "./launch_pointwise.ts";

/** Where each chunk's rows start, and their total [1], as u32. */
export function nonzeroStarts(x: DeviceArray): { starts: DeviceArray; total: DeviceArray } {
  const chunks = Math.max(Math.ceil(x.size / CHUNK), 1);
  const counts = DeviceArray.empty({ shape: [chunks], dtype: "u32" }, "nonzero counts");
  launchLinear(countNonzeroKernel({ dtype: x.dtype }), [plain(x), counts], {
    params: { count: x.size, chunks },
    threads: chunks,
  });
  return prefixSums(counts);
}

/** Exclusive prefix sums of x [n] and its total [1]. */
function prefixSums(x: DeviceArray): { starts: DeviceArray; total: DeviceArray } {
  const chunks = Math.ceil(x.size / CHUNK);
  const sums = DeviceArray.empty({ shape: [chunks], dtype: "u32" }, "chunk sums");
  const run = { params: { count: x.size, chunks }, threads: chunks };
  launchLinear(chunkSumsKernel(), [x, sums], run);
  const above = chunks > 1
    ? prefixSums(sums)
    : { starts: fill({ shape: [1], dtype: "u32" }, 0), total: sums };
  const starts = DeviceArray.empty(x, "chunk starts");
  launchLinear(chunkScanKernel(), [x, above.starts, starts], run);
  return { starts, total: above.total };
}

/** Coordinates [found, rank] (i32) of the elements that are not 0. */
export function nonzeroCoordinates(
  x: DeviceArray,
  { starts, found }: { starts: DeviceArray; found: number },
): DeviceArray {
  const rank = x.shape.length;
  const y = DeviceArray.empty({ shape: [found, rank], dtype: "i32" }, "nonzero");
  if (y.size === 0) return y;
  const sizes = Object.fromEntries(x.shape.map((s, d) => [`s${d}`, s]));
  const chunks = starts.size;
  launchLinear(writeNonzeroKernel({ dtype: x.dtype, rank }), [plain(x), starts, y], {
    params: { count: x.size, chunks, ...sizes },
    threads: chunks,
  });
  return y;
}
