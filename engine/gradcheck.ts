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
import { grad } from "./functions_autograd.ts";
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
    compare(points, found, numerical.map((n) => n?.gradient ?? null), { tolerance });
  } finally {
    for (const t of [...constants.values(), ...leaves]) t.dispose();
  }
}

/**
 * Compares gradients of gradients with differences of differences of the float64 references: for fixed weights w of
 * the outputs and directions v of the inputs, the gradient g of Σ w · fn(x) is recorded and Σ v · g differentiated,
 * by the inputs and by w.
 *
 * Keep inputs small: 32 runs of the references for each element. Otherwise as {@linkcode gradcheck}.
 *
 * @param options `eps`: step of the differences, which are of fourth order; default 1e-3. `tolerance` as there
 * @throws {CheckError} at the worst element, with its coordinates and both values
 * @throws {TypeError} if no input requires a gradient, or no output depends on one
 * @throws {Error} as {@linkcode gradcheck}, and if an op of `fn` has no gradient of its gradient
 *
 * @example
 * ```ts
 * import { gradgradcheck, init, randn } from "../mod.ts";
 * await init();
 * const x = randn([2, 3], { requiresGrad: true });
 * await gradgradcheck((x) => x!.softmax(1).square().sum(), [x]);
 * ```
 */
export async function gradgradcheck(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<void> {
  checkOptions("gradgradcheck", options, "gradgradcheck(fn, [x], { eps: 1e-2 })");
  const { eps = 1e-3, tolerance = 1e-4 } = options;
  if (!inputs.some((x) => x.requiresGrad)) {
    throw new TypeError("Cannot gradgradcheck: no input requires a gradient");
  }
  const constants = new Map<Tensor, Tensor>();
  const leaves = inputs.map((x) => keep(x.detach().requiresGrad_(x.requiresGrad)));
  const along = leaves.map((t, i) => t.requiresGrad ? drawWeights(t.size, 1000 + i) : null);
  try {
    let tape!: Tape;
    let weights: (Float64Array | null)[] = [];
    const second = scope(() => {
      tape = record(fn, leaves, constants);
      weights = tape.outputs.map((y, o) => y.requiresGrad ? drawWeights(y.size, o) : null);
      if (weights.every((w) => w === null)) {
        throw new TypeError(
          "Cannot gradgradcheck: no output depends on an input that requires a gradient",
        );
      }
      return secondGradients(tape.outputs, weights, { leaves, along });
    });
    const [values, analytical] = await readHost([
      [...constants.values()],
      second.filter((g) => g !== null),
    ]);
    for (const g of second) g?.dispose();
    checkVersions(tape);
    const known = new Map([...constants.keys()].map((t, i) => [t, values![i]!]));
    const points = leaves.map((t) => known.get(t)!);
    let next = 0;
    const found = second.map((g) => g && analytical![next++]!.data);
    const slopes = (at: readonly HostArray[]) =>
      directional((x) => replay(tape, leaves, x, known), at, { along, eps });
    const byInputs = points.map((point, i) =>
      leaves[i]!.requiresGrad
        ? Float64Array.from(point.data, (_, j) => {
          const one = points.map((p, k) =>
            k === i ? Float64Array.from(p.data, (_, m) => Number(m === j)) : null
          );
          const weighted = (at: readonly HostArray[]) => [{
            shape: [],
            dtype: "f32" as const,
            data: Float64Array.of(dot(slopes(at), weights)),
          }];
          return directional(weighted, points, { along: one, eps })[0]!.data[0]!;
        })
        : null
    );
    const labels = { tolerance, what: "Gradient of the gradient", from: "grad" };
    compare(points, found.slice(0, leaves.length), byInputs, labels);
    const byWeights = slopes(points);
    compare(
      byWeights,
      found.slice(leaves.length),
      byWeights.map((y, o) => weights[o] ? y.data : null),
      { ...labels, by: "the seed of output" },
    );
  } finally {
    for (const t of [...constants.values(), ...leaves]) t.dispose();
  }
}

/** Gradients of Σ along · (gradients of Σ weights · outputs), by the leaves and then by the weights. */
function secondGradients(
  outputs: readonly Tensor[],
  weights: readonly (Float64Array | null)[],
  { leaves, along }: {
    readonly leaves: readonly Tensor[];
    readonly along: readonly (Float64Array | null)[];
  },
): (Tensor | null)[] {
  const seeds = outputs.map(({ shape, dtype }, o) =>
    weights[o] && tensor(weights[o], { shape, dtype, requiresGrad: true })
  );
  const [used, by] = [seeds, along].map((list) => [...list.keys()].filter((i) => list[i]));
  const first = grad(used!.map((o) => outputs[o]!), by!.map((i) => leaves[i]!), {
    gradOutputs: used!.map((o) => seeds[o]!),
    createGraph: true,
    allowUnused: true,
  });
  const parts = first.flatMap((g, k) => {
    const { shape } = leaves[by![k]!]!;
    return g ? [g.mul(tensor(along[by![k]!]!, { shape })).sum()] : [];
  });
  const sum = parts.reduce((a, b) => a.add(b));
  const all = [...by!.map((i) => leaves[i]!), ...used!.map((o) => seeds[o]!)];
  const made = sum.requiresGrad ? grad(sum, all, { allowUnused: true }) : all.map(() => null);
  return [
    ...leaves.map((_, i) => made[by!.indexOf(i)] ?? null),
    ...outputs.map((_, o) => used!.includes(o) ? made[by!.length + used!.indexOf(o)]! : null),
  ];
}

/** The derivative of the outputs as the inputs move in a direction, by differences of fourth order. */
function directional(
  f: (at: readonly HostArray[]) => readonly HostArray[],
  at: readonly HostArray[],
  { along, eps }: { readonly along: readonly (Float64Array | null)[]; readonly eps: number },
): HostArray[] {
  const [a, b, c, d] = [-2, -1, 1, 2].map((k) =>
    f(at.map((x, i) => {
      const v = along[i];
      return v ? { ...x, data: x.data.map((e, j) => e + k * eps * v[j]!) } : x;
    })).map((y) => ({ ...y, data: Float64Array.from(y.data) }))
  ) as [HostArray[], HostArray[], HostArray[], HostArray[]];
  return a.map((y, o) => ({
    ...y,
    data: y.data.map((e, j) =>
      (e - 8 * b[o]!.data[j]! + 8 * c[o]!.data[j]! - d[o]!.data[j]!) / (12 * eps)
    ),
  }));
}

function dot(ys: readonly HostArray[], weights: readonly (Float64Array | null)[]): number {
  return weights.reduce(
    (n, w, o) => w ? w.reduce((m, e, j) => m + e * ys[o]!.data[j]!, n) : n,
    0,
  );
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
  { tolerance, what = "Gradient", by = "input", from = "backward" }: {
    readonly tolerance: number;
    readonly what?: string;
    readonly by?: string;
    readonly from?: string;
  },
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
        message: `${what} of ${by} ${i} ${show(shape)} at ${show(coordinatesOf(shape, j))}: ` +
          `${from} gives ${a}, central differences ${n}, ${off} apart, tolerance ${allowed}`,
      };
    });
  });
  if (worst.message) throw new CheckError(worst.message);
}
