/**
 * `LATHE_CHECK`: every op is compared with its float64 reference, or its output searched for NaN and
 * Inf. Reading back is asynchronous, so the first failure is thrown at the next `await`, naming
 * the op and the modules it ran in.
 */

import { DeviceArray, inArena, operand } from "./array.ts";
import { hostView, isFloat } from "./dtype.ts";
import { CheckError } from "./errors.ts";
import { debug } from "./gpu/debug.ts";
import { gpu } from "./gpu/device.ts";
import type { HostArray, Op } from "./op.ts";
import { copyOf } from "./ops/launch_pointwise.ts";
import { coordinatesOf, show } from "./shape.ts";

interface Pending {
  readonly op: Op<unknown>;
  readonly attrs: unknown;
  readonly where: string;
  readonly inputs: DeviceArray[];
  readonly outputs: DeviceArray[];
}

let pending: Pending[] = [];
const modules: { name: string }[] = [];

/**
 * Runs `fn` with `name` added to the module path that messages give.
 *
 * @example
 * ```ts
 * import { init, inModule, zeros } from "../mod.ts";
 * await init();
 * inModule("encoder", () => zeros([2]).add(1));
 * ```
 */
export function inModule<T>(name: string, fn: () => T): T {
  modules.push({ name });
  try {
    return fn();
  } finally {
    modules.pop();
  }
}

/** Path of the modules being run, e.g. `AlexNet.features.0`. */
export function modulePath(): string {
  return modules.map((m) => m.name).join(".");
}

/** Takes copies of what the check needs; called after every op. Costs nothing when checks are off. */
export function afterOp<A>(
  op: Op<A>,
  inputs: readonly DeviceArray[],
  outputs: readonly DeviceArray[],
  attrs: A,
): void {
  const mode = debug().check;
  if (mode === "off" || (mode === "reference" && !op.reference)) return;
  const own = (arrays: readonly DeviceArray[]) => arrays.map((a) => inArena(() => copyOf(a)));
  pending.push({
    op: op as Op<unknown>,
    attrs,
    where: modulePath(),
    inputs: mode === "reference" ? own(inputs) : [],
    outputs: own(outputs.filter((o) => mode === "reference" || isFloat(o.dtype))),
  });
}

/**
 * Compares everything run since the last call.
 *
 * @throws {CheckError} at the first op that differs from its reference or is not finite
 */
export async function failedChecks(): Promise<void> {
  const list = pending;
  pending = [];
  try {
    for (const item of list) {
      const inputs = await Promise.all(item.inputs.map(toHost));
      const outputs = await Promise.all(item.outputs.map(toHost));
      const problem = debug().check === "nan"
        ? notFinite(outputs)
        : difference(item.op, inputs, outputs, item.attrs);
      if (problem) {
        const where = item.where ? ` in ${item.where}` : "";
        throw new CheckError(`Op ${item.op.name}${where}: ${problem}`);
      }
    }
  } finally {
    for (const item of list) for (const a of [...item.inputs, ...item.outputs]) a.release();
  }
}

async function toHost(array: DeviceArray): Promise<HostArray> {
  const { binding } = operand(array);
  const [bytes] = await gpu().queue.read([{
    ...binding,
    byteEnd: binding.byteOffset + array.bytes,
  }]);
  const data = Float64Array.from(hostView(array.dtype, bytes!, array.size));
  return { shape: array.shape, dtype: array.dtype, data };
}

function notFinite(outputs: readonly HostArray[]): string | null {
  for (const [o, output] of outputs.entries()) {
    const at = output.data.findIndex((v) => !Number.isFinite(v));
    if (at >= 0) {
      return `output ${o} ${show(output.shape)} is ${output.data[at]} at ${
        show(coordinatesOf(output.shape, at))
      }, ` +
        "the first value that is not finite";
    }
  }
  return null;
}

/** The first element further from the reference than rounding explains. */
function difference(
  op: Op<unknown>,
  inputs: readonly HostArray[],
  outputs: readonly HostArray[],
  attrs: unknown,
): string | null {
  const expected = op.reference!(inputs, attrs);
  const terms = Math.max(1, ...inputs.map((i) => i.data.length));
  for (const [o, want] of expected.entries()) {
    const got = outputs[o]!;
    const scale = Math.max(1, ...inputs.map(largest)) ** 2;
    const tolerance = 64 * 2 ** -24 * Math.sqrt(terms) * scale;
    for (let i = 0; i < want.data.length; i++) {
      const [a, b] = [got.data[i]!, want.data[i]!];
      if (Object.is(a, b) || a === b) continue;
      if (Math.abs(a - b) <= tolerance + tolerance * Math.abs(b)) continue;
      return `output ${o} ${show(got.shape)} is ${a} at ${
        show(coordinatesOf(got.shape, i))
      }, the float64 ` +
        `reference gives ${b}`;
    }
  }
  return null;
}

function largest(array: HostArray): number {
  return array.data.reduce((m, v) => Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m, 0);
}
