/**
 * `LATHE_CHECK`: every op is compared with its float64 reference, or its output searched for NaN and
 * Inf. Reading back is asynchronous, so the first failure is thrown at the next `await`, naming
 * the op and the modules it ran in.
 */

import { DeviceArray, inArena, operand, outsideArenas } from "./array.ts";
import { hostView, isFloat } from "./dtype.ts";
import { CheckError } from "./errors.ts";
import { debug } from "./gpu/debug.ts";
import { gpu } from "./gpu/device.ts";
import type { HostArray, Op } from "./op.ts";
import { copyOf } from "./ops/launch_pointwise.ts";
import { coordinatesOf, show } from "./shape.ts";

interface Pending {
  /** The op, or the op whose gradient was computed, and the modules it ran in. */
  readonly what: string;
  /** What the arrays are called in messages: outputs of an op, inputs of a gradient. */
  readonly role: string;
  /** Set when the outputs are compared with the reference. */
  readonly reference: { readonly op: Op<unknown>; readonly attrs: unknown } | null;
  readonly inputs: readonly DeviceArray[];
  readonly outputs: readonly (DeviceArray | null)[];
}

let pending: Pending[] = [];
const modules: { name: string }[] = [];
let tracking = false;
let walkingBack = false;

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

/**
 * Whether modules are to say when they run: while something asks where work comes from. Turned on by
 * `profile`, and before a step is captured that is to be profiled as it is replayed.
 *
 * @returns whether it was on before
 */
export function trackModules(on: boolean): boolean {
  const before = tracking;
  tracking = on;
  if (on) gpu().queue.where = whereNow;
  return before;
}

/** Whether modules run inside {@linkcode inModule}. */
export function tracksModules(): boolean {
  return tracking || debug().check !== "off";
}

/** Runs the gradient of an op under the module path of its forward. */
export function inBackward<T>(where: string, fn: () => T): T {
  if (!tracking) return fn();
  const outer = walkingBack;
  walkingBack = true;
  modules.push({ name: where });
  try {
    return fn();
  } finally {
    modules.pop();
    walkingBack = outer;
  }
}

/** Where work comes from: the modules, and whether a gradient asked for it. Undefined if not tracked. */
function whereNow(): { readonly module: string; readonly backward: boolean } | undefined {
  return tracking ? { module: modulePath(), backward: walkingBack } : undefined;
}

/** Path of the modules being run, e.g. `AlexNet.features.0`. */
export function modulePath(): string {
  if (modules.length === 0) return "";
  return modules.map((m) => m.name).filter((name) => name !== "").join(".");
}

/** Takes copies of what the check needs; called after every op. Costs nothing when checks are off. */
export function afterOp<A>(
  op: Op<A>,
  inputs: readonly DeviceArray[],
  outputs: readonly DeviceArray[],
  attrs: A,
): void {
  const mode = debug().check;
  if (mode === "off" || mode === "anomaly") return;
  const compared = mode === "reference";
  if (compared && (!op.reference || op.discontinuous?.(attrs))) return;
  pending.push({
    what: `Op ${op.name}${whereText(modulePath())}`,
    role: "output",
    reference: compared ? { op: op as Op<unknown>, attrs } : null,
    inputs: compared ? inputs.map(ownCopy) : [],
    outputs: outputs.map((o) => compared || isFloat(o.dtype) ? ownCopy(o) : null),
  });
}

/** The same for the gradients that an op's rule gave; `where` is the module path of its forward. */
export function afterBackward(
  name: string,
  gradients: readonly (DeviceArray | null)[],
  where: string,
): void {
  const mode = debug().check;
  if (mode !== "nan" && mode !== "anomaly") return;
  pending.push({
    what: `Gradient of ${name}${whereText(where)}`,
    role: "input",
    reference: null,
    inputs: [],
    outputs: gradients.map((g) => g && ownCopy(g)),
  });
}

function whereText(where: string): string {
  return where ? ` in ${where}` : "";
}

function ownCopy(array: DeviceArray): DeviceArray {
  // Checked later: a backward rule's arena would free it when the rule has ended.
  return outsideArenas(() => inArena(() => copyOf(array)));
}

/**
 * Checks everything run since the last call, with one readback.
 *
 * @throws {CheckError} at the first op that differs from its reference or is not finite
 */
export async function failedChecks(): Promise<void> {
  const list = pending;
  pending = [];
  const arrays = list.flatMap((p) => [...p.inputs, ...p.outputs.filter((o) => o !== null)]);
  try {
    if (arrays.length === 0) return;
    const bytes = await gpu().queue.read(arrays.map((a) => {
      const { binding } = operand(a);
      return { ...binding, byteEnd: binding.byteOffset + a.bytes };
    }));
    let next = 0;
    const toHost = ({ shape, dtype, size }: DeviceArray): HostArray => {
      return { shape, dtype, data: Float64Array.from(hostView(dtype, bytes[next++]!, size)) };
    };
    for (const { what, role, reference, inputs, outputs } of list) {
      const given = inputs.map(toHost);
      const results = outputs.map((o) => o && toHost(o));
      const problem = reference
        ? difference(reference.op, given, results as HostArray[], reference.attrs)
        : notFinite(results, role);
      if (problem) throw new CheckError(`${what}: ${problem}`);
    }
  } finally {
    for (const a of arrays) a.release();
  }
}

function notFinite(results: readonly (HostArray | null)[], role: string): string | null {
  for (const [o, result] of results.entries()) {
    const at = result?.data.findIndex((v) => !Number.isFinite(v)) ?? -1;
    if (result && at >= 0) {
      const { shape, data } = result;
      return `${role} ${o} ${show(shape)} is ${data[at]} at ${show(coordinatesOf(shape, at))}, ` +
        "the first value that is not finite";
    }
  }
  return null;
}

/**
 * The first element further from the reference than rounding explains. With u = 2^-24, an element y
 * that sums terms t may be off by 256 u (|y| + Σ|t|), Σ|t| being the reference at |inputs|, and by
 * 64 u (max|y| + min(1, max|x|)) for what cancels; in f16 by two roundings of 2^-11 more, and a product of
 * n factors by n u |y| more. Integers must be equal.
 */
function difference(
  op: Op<unknown>,
  inputs: readonly HostArray[],
  outputs: readonly HostArray[],
  attrs: unknown,
): string | null {
  const u = 2 ** -24;
  const expected = op.reference!(inputs, attrs);
  const sums = op.reference!(inputs.map(magnitudes), op.sumsOf?.(attrs) ?? attrs);
  const input = Math.min(1, Math.max(0, ...inputs.map(largest)));
  const factors = op.factors?.(inputs, attrs) ?? 0;
  for (const [o, want] of expected.entries()) {
    const { shape, dtype, data } = outputs[o]!;
    const floor = 64 * u * (largest(want) + input);
    const relative = (256 + factors) * u + (dtype === "f16" ? 2 ** -10 : 0);
    for (let i = 0; i < want.data.length; i++) {
      const a = data[i]!;
      const b = stored(want.data[i]!, dtype);
      if (Object.is(a, b) || a === b) continue;
      const sum = Math.abs(sums[o]!.data[i]!);
      const scale = Math.abs(b) + (Number.isFinite(sum) ? sum : 0);
      if (isFloat(dtype) && Math.abs(a - b) <= relative * scale + floor) continue;
      return `output ${o} ${show(shape)} is ${a} at ${
        show(coordinatesOf(shape, i))
      }, the float64 ` +
        `reference gives ${b}`;
    }
  }
  return null;
}

/** What `dtype` makes of a float64: integers wrap, floats overflow to Inf. Rounding is left to the tolerance. */
function stored(value: number, dtype: HostArray["dtype"]): number {
  if (dtype === "u32") return value >>> 0;
  if (dtype === "i32") return value | 0;
  const rounded = dtype === "f16" ? Math.f16round(value) : Math.fround(value);
  return Number.isFinite(rounded) ? value : rounded;
}

function magnitudes(array: HostArray): HostArray {
  return isFloat(array.dtype) ? { ...array, data: array.data.map(Math.abs) } : array;
}

function largest(array: HostArray): number {
  return array.data.reduce((m, v) => Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m, 0);
}
