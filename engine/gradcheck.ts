/**
 * Checks gradients against central differences that are computed in float64 on the host.
 *
 * `fn` runs once on the GPU. The ops it ran are then replayed through their float64 references with
 * one element moved at a time, so the differences carry no f32 rounding: what is left between them
 * and `backward` is the rounding of the GPU, or a wrong rule.
 */

import { checkOptions } from "./arguments.ts";
import type { DeviceArray } from "./array.ts";
import { addAndRelease, type GradientSink, type Root, walkBack } from "./autograd.ts";
import { CheckError } from "./errors.ts";
import type { HostArray } from "./op.ts";
import { philox4x32 } from "./philox.ts";
import { readAll } from "./read.ts";
import { keep, scope } from "./scope.ts";
import { coordinatesOf, show } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { tensor } from "./creation.ts";
import { type Call, trace } from "./trace.ts";

/** Options of {@linkcode gradcheck}. */
export interface GradcheckOptions {
  /**
   * Step of the differences for elements up to 1, in proportion above; default 1e-5. Its own error is
   * about eps² · f‴ / 6 + 2^-53 · |f| / eps.
   */
  eps?: number;
  /**
   * Largest difference, as a share of the largest gradient of the same input (of at least 1e-3);
   * default 1e-4, about 1700 roundings of f32.
   */
  tolerance?: number;
}

/** Gradients of this size and below count as noise of size 1e-3: a sum may cancel to nothing. */
const SMALLEST_SCALE = 1e-3;

/**
 * Compares the gradients that `backward` gives with central differences of the float64 references.
 *
 * Every input with `requiresGrad` is checked, element by element: keep inputs small, 2 · size runs of
 * the references each. Outputs are weighted by fixed random numbers. Gradients already collected stay
 * as they are. A tensor that `fn` uses besides its inputs counts as constant, and so does the result
 * of `detach()`.
 *
 * @param fn from the inputs to a tensor or several; it must run the same ops every time
 * @throws {CheckError} at the worst element, with its coordinates and both values
 * @throws {TypeError} if no input requires a gradient, or no output depends on one
 * @throws {Error} if an op of `fn` has no float64 reference (it draws random numbers), or a tensor
 *   was changed in place
 *
 * @example
 * ```ts
 * import { gradcheck, init, randn } from "../mod.ts";
 * await init();
 * const x = randn([2, 3], { requiresGrad: true });
 * await gradcheck((x) => x!.softmax(1).square().sum(), [x]);
 * ```
 */
export async function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<void> {
  checkOptions("gradcheck", options, "gradcheck(fn, [x], { eps: 1e-2 })");
  const { eps = 1e-5, tolerance = 1e-4 } = options;
  if (!inputs.some((x) => x.requiresGrad)) {
    throw new TypeError("Cannot gradcheck: no input requires a gradient");
  }
  const constants = new Map<Tensor, Tensor>();
  const leaves = inputs.map((x) => keep(x.detach().requiresGrad_(x.requiresGrad)));
  try {
    let tape!: Tape;
    let weights: (Float64Array | null)[] = [];
    // The scope frees all that `fn` made; the handles in `constants` are kept.
    const gradients = scope(() => {
      tape = record(fn, leaves, constants);
      weights = tape.outputs.map((y, o) => y.requiresGrad ? drawWeights(y.size, o) : null);
      if (weights.every((w) => w === null)) {
        throw new TypeError(
          "Cannot gradcheck: no output depends on an input that requires a gradient",
        );
      }
      return leafGradients(tape.outputs, weights, leaves);
    });
    const [values, analytical] = await readHost([
      [...constants.values()],
      gradients.filter((g) => g !== null),
    ]);
    for (const g of gradients) g?.dispose();
    checkVersions(tape);
    const known = new Map([...constants.keys()].map((t, i) => [t, values![i]!]));
    const points = leaves.map((t) => known.get(t)!);
    const numerical = differences((at) => replay(tape, leaves, at, known), points, weights, {
      eps,
      wanted: leaves.map((t) => t.requiresGrad),
    });
    let next = 0;
    const found = gradients.map((g) => g && analytical![next++]!.data);
    compare(points, found, numerical.map((n) => n?.gradient ?? null), tolerance);
  } finally {
    for (const t of [...constants.values(), ...leaves]) t.dispose();
  }
}

/** What `fn` did. */
interface Tape {
  readonly calls: readonly Call[];
  readonly outputs: readonly Tensor[];
  readonly versions: readonly { readonly tensor: Tensor; readonly version: number }[];
}

/** Runs `fn`; `constants` gets a handle on every tensor that none of its ops made. */
function record(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  leaves: readonly Tensor[],
  constants: Map<Tensor, Tensor>,
): Tape {
  const calls: Call[] = [];
  const made = new Set<Tensor>();
  const versions: { tensor: Tensor; version: number }[] = [];
  const meet = (t: Tensor) => {
    if (made.has(t) || constants.has(t)) return;
    const handle = keep(t.detach());
    constants.set(t, handle);
    versions.push({ tensor: handle, version: handle.device.storage.version });
  };
  leaves.forEach(meet);
  const result = trace(() => fn(...leaves), (call) => {
    call.inputs.forEach(meet);
    calls.push(call);
    for (const t of call.outputs) made.add(t);
  });
  const outputs = result instanceof Tensor ? [result] : result;
  if (!Array.isArray(outputs) || !outputs.every((t) => t instanceof Tensor)) {
    throw new TypeError(
      "Cannot gradcheck: the function must return a tensor or an array of tensors",
    );
  }
  outputs.forEach(meet);
  return { calls, outputs, versions };
}

function checkVersions(tape: Tape): void {
  const changed = tape.versions.find((v) => v.tensor.device.storage.version !== v.version);
  if (!changed) return;
  throw new Error(
    `Cannot gradcheck: a tensor ${show(changed.tensor.shape)} was changed in place, which the ` +
      "float64 references do not follow",
  );
}

/** Fixed numbers of size 0.5 to 1.5 with random signs, exact in f32. */
function drawWeights(size: number, stream: number): Float64Array {
  return Float64Array.from({ length: size }, (_, i) => {
    const [bits] = philox4x32([i, stream, 0, 0], [0x67726164, 0]);
    return (0.5 + (bits >>> 9) / 2 ** 23) * (bits & 1 ? 1 : -1);
  });
}

/** Gradients of Σ weights · outputs, by the tape; nothing is added to any `grad`. */
function leafGradients(
  outputs: readonly Tensor[],
  weights: readonly (Float64Array | null)[],
  leaves: readonly Tensor[],
): (Tensor | null)[] {
  const sums = new Map<GradientSink, DeviceArray>();
  const roots: Root[] = [];
  outputs.forEach((y, i) => {
    if (!weights[i]) return;
    using seed = tensor(weights[i], { shape: y.shape, dtype: y.dtype });
    roots.push({ edge: y.edge(), grad: seed.device.alias() });
  });
  walkBack(roots, {
    retainGraph: false,
    collect(edge, grad) {
      if (!("leaf" in edge)) return;
      const before = sums.get(edge.leaf);
      sums.set(edge.leaf, before ? addAndRelease(before, grad.alias()) : grad.alias());
    },
  });
  const gradients = leaves.map((leaf) => {
    const sum = sums.get(leaf);
    sums.delete(leaf);
    return sum ? new Tensor(sum) : null;
  });
  for (const other of sums.values()) other.release();
  return gradients;
}

/** Groups of tensors as float64 arrays, in one wait. */
async function readHost(groups: readonly (readonly Tensor[])[]): Promise<HostArray[][]> {
  const flat = groups.flat();
  const data = await readAll(flat);
  let next = 0;
  return groups.map((group) =>
    group.map(({ shape, dtype }) => ({ shape, dtype, data: Float64Array.from(data[next++]!) }))
  );
}

/** The outputs of the recorded ops in float64, with the leaves at `points`. */
function replay(
  tape: Tape,
  leaves: readonly Tensor[],
  points: readonly HostArray[],
  constants: ReadonlyMap<Tensor, HostArray>,
): HostArray[] {
  const values = new Map(constants);
  leaves.forEach((leaf, i) => values.set(leaf, points[i]!));
  for (const { op, attrs, inputs, outputs } of tape.calls) {
    if (!op.reference) {
      throw new Error(
        `Cannot gradcheck through ${op.name}: it has no float64 reference, as what draws random numbers and ` +
          "gradients of gradients have not",
      );
    }
    const results = op.reference(inputs.map((t) => values.get(t)!), attrs);
    outputs.forEach((t, i) => values.set(t, { ...results[i]!, dtype: t.dtype }));
  }
  return tape.outputs.map((t) => values.get(t)!);
}

/** Central differences of one input. */
export interface Differences {
  /** Derivative of Σ weights · outputs by each element; 0 for elements that `only` leaves out. */
  readonly gradient: Float64Array;
  /** Σ |weight · derivative of the output|: what rounding errors are in proportion to. */
  readonly magnitude: Float64Array;
}

/**
 * Central differences of Σ weights · f(inputs) by the wanted inputs; null for the others.
 *
 * @param options.only which elements of input i to move; all by default
 */
export function differences(
  f: (inputs: readonly HostArray[]) => readonly HostArray[],
  inputs: readonly HostArray[],
  weights: readonly (Float64Array | null)[],
  options: {
    eps: number;
    wanted: readonly boolean[];
    only?: (input: number) => Iterable<number>;
  },
): (Differences | null)[] {
  return inputs.map((input, i) => {
    if (!options.wanted[i]) return null;
    const gradient = new Float64Array(input.data.length);
    const magnitude = new Float64Array(input.data.length);
    const moved = Float64Array.from(input.data);
    const point = inputs.map((x, k) => k === i ? { ...x, data: moved } : x);
    // A copy: some references return their input.
    const values = () => f(point).map((y) => Float64Array.from(y.data));
    for (const j of options.only?.(i) ?? moved.keys()) {
      const at = input.data[j]!;
      const step = options.eps * Math.max(1, Math.abs(at));
      const [above, below] = [at + step, at - step];
      moved[j] = above;
      const high = values();
      moved[j] = below;
      const low = values();
      moved[j] = at;
      weights.forEach((weight, o) =>
        weight?.forEach((w, p) => {
          const slope = w * (high[o]![p]! - low[o]![p]!) / (above - below);
          gradient[j]! += slope;
          magnitude[j]! += Math.abs(slope);
        })
      );
    }
    return { gradient, magnitude };
  });
}

/** Throws at the element that is furthest over its tolerance. */
function compare(
  inputs: readonly HostArray[],
  analytical: readonly (Float64Array | null)[],
  numerical: readonly (Float64Array | null)[],
  tolerance: number,
): void {
  let worst = { excess: 1, message: "" };
  numerical.forEach((want, i) => {
    if (!want) return;
    const { shape } = inputs[i]!;
    const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), SMALLEST_SCALE);
    const allowed = tolerance * largest;
    want.forEach((n, j) => {
      const a = analytical[i]?.[j] ?? 0;
      const off = Math.abs(a - n);
      const excess = Number.isFinite(off) ? off / allowed : Infinity;
      if (!(excess > worst.excess)) return;
      worst = {
        excess,
        message: `Gradient of input ${i} ${show(shape)} at ${show(coordinatesOf(shape, j))}: ` +
          `backward gives ${a}, central differences ${n}, ${off} apart, tolerance ${allowed}`,
      };
    });
  });
  if (worst.message) throw new CheckError(worst.message);
}
