/**
 * Checks gradients of gradients of one op record against differences of differences of its float64 reference.
 *
 * With weights w of the outputs and directions v of the inputs, both fixed, the gradient g of Σ w · f(x) is
 * recorded and s = Σ v · g differentiated: by w it must give the derivative of f in the direction v, and by x
 * that of Σ w · (the derivative of f in the direction v). g itself must be the derivative of Σ w · f(x) by x, and
 * what the plain gradient is, which other kernels often make.
 *
 * ## Tolerances
 *
 * Differences of fourth order with step h = 1e-3: their error is h⁴/30 of a fifth derivative, 1e-8 of what they
 * come to, and a few 2^-53/h² of Σ |w · f|. Where a third of the step gives something else, a kink is near, and
 * nothing is compared. The rules compute in f32 (u = 2^-24): a chain of at most `terms` additions of terms
 * about as large as the first gradient or the second, whichever is larger in that input, so K · u · √terms of
 * that, K = 32: twice that of `check_op.ts`, since what is summed has gone through two such rules.
 */

import { grad } from "../../engine/functions_autograd.ts";
import { isFloat } from "../../engine/dtype.ts";
import type { HostArray, Op, Sample } from "../../engine/op.ts";
import { readAll } from "../../engine/read.ts";
import { scope } from "../../engine/scope.ts";
import { coordinatesOf, show, sizeOf } from "../../engine/shape.ts";
import { apply, type Tensor } from "../../engine/tensor.ts";
import { Draw, drawInputs, type Layout, place } from "./draw.ts";
import { poisoned } from "./poison.ts";

const K = 32;
const UNIT = 2 ** -24;
const STEP = 1e-3;
/** Samples of an op that are tried, and the most elements that one may have. */
const MOST_SAMPLES = 8;
const MOST_ELEMENTS = 400;
/** How the tensors of a sample lie where one input alone wants a gradient; by the sample's number. */
const LAYOUTS: readonly Layout[] = ["sliced", "rows", "transposed", "offset"];
/** Elements of an input that are moved. */
const MOST_MOVED = 12;

/** The samples to try: of each kind of attributes the first ones, small enough. */
export function doubleSamples(op: Op<unknown>): number[] {
  const differentiable = [...op.samples.keys()].filter((s) => {
    const { grad, inputs } = op.samples[s]!;
    const size = inputs.reduce((n, i) => n + sizeOf(i.shape), 0);
    return grad !== false && size <= MOST_ELEMENTS && inputs.some((i) =>
      isFloat(i.dtype ?? "f32")
    ) &&
      inputs.some((i) => sizeOf(i.shape) > 1);
  });
  const kinds = new Map<string, number[]>();
  for (const s of differentiable) {
    const kind = JSON.stringify([
      op.samples[s]!.attrs,
      op.samples[s]!.inputs.map((i) => i.shape.length),
    ]);
    kinds.set(kind, [...kinds.get(kind) ?? [], s]);
  }
  const firsts = [...kinds.values()].map((list) => list[0]!);
  const rest = differentiable.filter((s) => !firsts.includes(s));
  // Kinds from all over the list, where there are many.
  const step = Math.max(1, firsts.length / MOST_SAMPLES);
  const spread = Array.from(
    { length: Math.min(firsts.length, MOST_SAMPLES) },
    (_, i) => firsts[Math.floor(i * step)]!,
  );
  return [...spread, ...rest].slice(0, MOST_SAMPLES).sort((a, b) => a - b);
}

interface Expected {
  readonly what: string;
  readonly got: Tensor;
  readonly want: readonly (readonly [index: number, value: number])[];
  readonly tolerance: number;
}

/** Lines about what differs, and the number of samples that were tried. */
export async function checkDouble(
  op: Op<unknown>,
): Promise<{ problems: string[]; tried: number }> {
  const problems: string[] = [];
  const expected: Expected[] = [];
  const samples = doubleSamples(op);
  using _ = poisoned();
  for (const s of samples) {
    const before = expected.length;
    try {
      scope(() => {
        const layout = LAYOUTS[samples.indexOf(s) % LAYOUTS.length]!;
        checkSample(op, op.samples[s]!, { name: `${op.name} ${s}`, layout, expected });
        return expected.slice(before).map((e) => e.got);
      });
    } catch (error) {
      expected.length = before;
      problems.push(`sample ${s}: ${error instanceof Error ? error.stack : error}`);
    }
  }
  const data = await readAll(expected.map((e) => e.got));
  expected.forEach((e, i) => {
    const off = e.want.filter(([j, v]) => !(Math.abs(data[i]![j]! - v) <= e.tolerance));
    if (off.length === 0) return;
    const [j, v] = off[0]!;
    problems.push(
      `${e.what} ${show(e.got.shape)} at ${show(coordinatesOf(e.got.shape, j))}: got ${
        data[i]![j]
      }, want ${v}, ` +
        `tolerance ${e.tolerance.toExponential(2)} (${off.length} of ${e.want.length} differ)`,
    );
  });
  for (const e of expected) e.got.dispose();
  return { problems, tried: samples.length };
}

/** f'(0) by differences of fourth order. */
function slope(f: (t: number) => Float64Array, step: number): Float64Array {
  const [a, b, c, d] = [-2, -1, 1, 2].map((k) => f(k * step)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  return a.map((v, i) => (v - 8 * b[i]! + 8 * c[i]! - d[i]!) / (12 * step));
}

function weighted(values: Float64Array, by: Float64Array): number {
  return values.reduce((n, v, i) => n + v * by[i]!, 0);
}

function largest(values: Iterable<number>): number {
  let most = 0;
  for (const v of values) most = Math.max(most, Math.abs(v));
  return most;
}

/** What differences say of one choice of inputs that want a gradient. */
class Differences {
  readonly #op: Op<unknown>;
  readonly #attrs: unknown;
  readonly #along: readonly (Float64Array | null)[];
  readonly #weights: readonly (Float64Array | null)[];
  readonly weights: Float64Array;

  constructor(op: Op<unknown>, given: {
    readonly attrs: unknown;
    readonly along: readonly (Float64Array | null)[];
    readonly weights: readonly (Float64Array | null)[];
  }) {
    this.#op = op;
    this.#attrs = given.attrs;
    this.#along = given.along;
    this.#weights = given.weights;
    this.weights = Float64Array.from(given.weights.flatMap((w) => w ? [...w] : []));
  }

  /** All float outputs, one behind the other. */
  values(at: readonly HostArray[]): Float64Array {
    const outputs = this.#op.reference!(at, this.#attrs);
    return Float64Array.from(outputs.flatMap((y, o) => this.#weights[o] ? [...y.data] : []));
  }

  /** Their derivative in the direction. */
  along(at: readonly HostArray[], step: number): Float64Array {
    return slope((t) =>
      this.values(at.map((h, i) => {
        const v = this.#along[i];
        return v ? { ...h, data: h.data.map((x, j) => x + t * v[j]!) } : h;
      })), step);
  }

  /** d f / d x[j] of input i. */
  by(
    { at, i, j }: { readonly at: readonly HostArray[]; readonly i: number; readonly j: number },
    step: number,
    f: (at: readonly HostArray[]) => number,
  ): number {
    return slope((t) => {
      const data = at[i]!.data.slice();
      data[j]! += t;
      return Float64Array.of(f(at.map((h, k) => k === i ? { ...h, data } : h)));
    }, step)[0]!;
  }
}

/** Those that a smaller step does not change. */
function steady(
  numbers: readonly number[],
  wide: readonly number[],
  narrow: readonly number[],
  tolerance: number,
): (readonly [number, number])[] {
  const kept = numbers.flatMap((n, k) =>
    Math.abs(wide[k]! - narrow[k]!) <= tolerance ? [[n, wide[k]!] as const] : []
  );
  if (numbers.length > 3 && 2 * kept.length < numbers.length) {
    throw new Error("most of what differences give is near a kink");
  }
  return kept;
}

function checkSample(
  op: Op<unknown>,
  sample: Sample<unknown>,
  { name, layout, expected }: {
    readonly name: string;
    readonly layout: Layout;
    readonly expected: Expected[];
  },
): void {
  const draw = new Draw(`${name} twice`);
  const hosts = drawInputs(sample.inputs, draw);
  const specs = op.check(hosts, sample.attrs);
  const floats = hosts.flatMap((h, i) => isFloat(h.dtype) ? [i] : []);
  const weights = specs.map((s): HostArray | null =>
    isFloat(s.dtype)
      ? { ...s, data: Float64Array.from({ length: sizeOf(s.shape) }, () => draw.weight()) }
      : null
  );
  const along = hosts.map((h) => ({ ...h, data: h.data.map(() => draw.weight()) }));
  for (const chosen of [floats, ...floats.map((i) => [i])]) {
    const together = chosen === floats;
    const alone = together ? "" : `, input ${chosen[0]} alone, ${layout}`;
    const label = `${name} ${hosts.map((h) => show(h.shape)).join(" ")}${alone}`;
    const as = together ? "contiguous" : layout;
    const given = { hosts, weights, along, chosen, layout: as } as const;
    const { first, plain, second } = computed(op, sample, given);
    const differences = new Differences(op, {
      attrs: sample.attrs,
      along: along.map((v, i) => chosen.includes(i) ? v.data : null),
      weights: weights.map((w) => w && w.data),
    });
    const w = differences.weights;
    const terms = Math.max(sample.terms ?? 1, ...hosts.map((h) => h.data.length), w.length);
    const size = weighted(differences.values(hosts).map(Math.abs), w.map(Math.abs));
    const noise = 16 * 2 ** -53 / STEP ** 2 * (Number.isFinite(size) ? size : 0);
    const tolerance = (scale: number) => (K * UNIT * Math.sqrt(terms) + 1e-8) * scale + noise;
    const expect = (
      what: string,
      got: Tensor | null,
      shape: readonly number[],
      limit: number,
      want: Expected["want"],
    ) => {
      if (got && show(got.shape) !== show(shape)) {
        throw new Error(`${what}: it is ${show(got.shape)}`);
      }
      if (got) expected.push({ what: `${label}, ${what}`, got, want, tolerance: limit });
      else if (largest(want.map(([, v]) => v)) > limit) {
        throw new Error(`${label}, ${what}: there is none`);
      }
    };

    const [wide, narrow] = [STEP, STEP / 3].map((step) => [...differences.along(hosts, step)]);
    let start = 0;
    weights.forEach((weight, o) => {
      if (!weight) return;
      const range = [start, start += weight.data.length] as const;
      const limit = tolerance(largest(wide!.slice(...range)));
      const numbers = [...weight.data.keys()];
      const want = steady(numbers, wide!.slice(...range), narrow!.slice(...range), limit);
      expect(`by weights ${o}`, second.byWeights[o]!, weight.shape, limit, want);
    });
    chosen.forEach((i, k) => {
      const moved = draw.shuffled(hosts[i]!.data.length).slice(0, MOST_MOVED);
      const at = (j: number) => ({ at: hosts, i, j });
      const [wide, narrow] = [STEP, STEP / 3].map((step) =>
        moved.map((j) =>
          differences.by(at(j), step, (x) => weighted(differences.along(x, step), w))
        )
      );
      const [firsts, closer] = [STEP, STEP / 3].map((step) =>
        moved.map((j) => differences.by(at(j), step, (x) => weighted(differences.values(x), w)))
      );
      const { shape } = hosts[i]!;
      const close = tolerance(largest(firsts!));
      const want = steady(moved, firsts!, closer!, close);
      expect(`its recorded gradient by input ${i}`, first[k]!, shape, close, want);
      const zeros = [...hosts[i]!.data.keys()].map((j) => [j, 0] as const);
      const apart = first[k]!.sub(plain[k]!).detach();
      expect(`that less the plain one by input ${i}`, apart, shape, close, zeros);
      const limit = tolerance(largest([...firsts!, ...narrow!]));
      expect(
        `by input ${i}`,
        second.byInputs[k]!,
        first[k]!.shape,
        limit,
        steady(moved, wide!, narrow!, limit),
      );
    });
  }
}

/** The recorded gradient of the chosen inputs, the plain one, and the gradients of its sum with the directions. */
function computed(
  op: Op<unknown>,
  sample: Sample<unknown>,
  { hosts, weights, along, chosen, layout }: {
    readonly hosts: readonly HostArray[];
    readonly weights: readonly (HostArray | null)[];
    readonly along: readonly HostArray[];
    readonly chosen: readonly number[];
    readonly layout: Layout;
  },
) {
  const leaves = hosts.map((h, i) => place(h, layout).requiresGrad_(chosen.includes(i)));
  const seeds = weights.map((y) => y && place(y, layout).requiresGrad_(true));
  const outputs = apply(op, leaves, sample.attrs);
  const used = outputs.flatMap((_, o) => seeds[o] ? [o] : []);
  const inputs = chosen.map((i) => leaves[i]!);
  const gradOutputs = used.map((o) => seeds[o]!);
  const of = used.map((o) => outputs[o]!);
  const plain = grad(of, inputs, { gradOutputs, retainGraph: true });
  const first = grad(of, inputs, { gradOutputs, createGraph: true });
  const parts = first.map((g, k) => g!.mul(place(along[chosen[k]!]!, layout)).sum());
  const sum = parts.reduce((a, b) => a.add(b));
  const by = [...inputs, ...used.map((o) => seeds[o]!)];
  // Of a gradient that is 0 wherever it exists there is nothing to differentiate.
  const all = sum.requiresGrad ? grad(sum, by, { allowUnused: true }) : by.map(() => null);
  const byWeights = seeds.map((_, o) =>
    used.includes(o) ? all[inputs.length + used.indexOf(o)]! : null
  );
  return { first, plain, second: { byInputs: all.slice(0, inputs.length), byWeights } };
}
