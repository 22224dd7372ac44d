/**
 * Checks one op record: forward against its float64 reference, backward against central differences
 * of that reference, in every memory layout and in every dtype that the op takes.
 *
 * ## Tolerances
 *
 * u is the unit roundoff of f32, 2^-24 (of f16, 2^-11); K = 16.
 *
 * Forward. An output is a chain of `terms` rounded additions of terms t, each computed with a few
 * roundings. Rounding errors are independent of each other, so their sum grows as sqrt(terms) · u ·
 * Σ|t| (worst case: terms · u · Σ|t|). For a multilinear op Σ|t| is the reference at |inputs|. The
 * terms themselves come from WGSL functions; the least accurate one used here, exp, is allowed 3 + 2|x|
 * ulp (1 ulp = 2u), which is 14 u |y| at |x| = 2 and grows like the condition |x · dy/dx|, taken from the
 * reference at inputs · (1 + 2^-20). Hence
 *
 *     tolerance[i] = K · u · (sqrt(terms) · (|y[i]| + Σ|t|[i] + |x · dy/dx|[i]) + floor)
 *
 * log, sin, cos, tanh have absolute errors near their zeros: `floor` is the largest |y| of a drawn
 * sample, and with additions at least the largest |input|. For values written in the sample (extremes)
 * of a pointwise op it is 0, so that a value near 0 must be right, too. Below 2^-126 (2^-14 for
 * f16) a result may be flushed to 0.
 *
 * Backward. Differences of a float64 function with step 1e-5 are exact to about 1e-8 of the gradient.
 * The gradient of input j is a sum over outputs of |weight · dy/dx|, whose size the differences give
 * as well; its errors are K · u · sqrt(terms) · the largest such sum in that input. Of inputs with more
 * than MOST_MOVED elements that many are moved one by one, and all of them together in one random
 * direction v, where the errors of n elements add up to sqrt(n) · 1.5 times that (|v| <= 1.5).
 *
 * Every comparison must be able to fail: one that would accept all its values 1 % too large is
 * reported as a problem.
 *
 * Integers and bool must be equal.
 *
 * Buffers are poisoned before kernels write them; see `poison.ts`.
 */

import { type Root, walkBack } from "../../engine/autograd.ts";
import { type DType, isFloat } from "../../engine/dtype.ts";
import { type Differences, differences } from "../../engine/gradcheck.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { backwardOf, type HostArray, type Op, type Sample } from "../../engine/op.ts";
import { readAll } from "../../engine/read.ts";
import { coordinatesOf, sameShape, show, sizeOf } from "../../engine/shape.ts";
import { scope } from "../../engine/scope.ts";
import { apply, type Tensor } from "../../engine/tensor.ts";
import { poisoned } from "./poison.ts";
import { Draw, drawInputs, type Layout, layoutsOf, place, placeExpanded } from "./draw.ts";

const K = 16;
const UNIT = { f32: 2 ** -24, f16: 2 ** -11 } as const;
const TINY = { f32: 2 ** -126, f16: 2 ** -14 } as const;

/** What was checked. */
export interface Counts {
  samples: number;
  forward: number;
  gradients: number;
  dtypes: number;
}

/** One array to compare once it has been read. */
interface Expectation {
  readonly what: string;
  readonly got: Tensor;
  readonly want: HostArray;
  /** Elements to compare; all by default. */
  readonly only?: readonly number[];
  /** Compares the sum of element · direction instead, with the one element of `want`. */
  readonly direction?: Float64Array;
  readonly tolerance: (index: number) => number;
}

/** The dtypes besides f32 in which ops are tried; f16 only where the adapter has it. */
const OTHER_DTYPES: readonly DType[] = ["f16", "i32", "u32", "bool"];

/**
 * Runs the samples of `op`, or `only` those of the given numbers, and one in all other dtypes; gives a
 * line for each array that differs.
 */
export async function checkOp(
  op: Op<unknown>,
  { only, dtypes = true }: { only?: readonly number[]; dtypes?: boolean } = {},
): Promise<{ problems: string[]; counts: Counts }> {
  const counts = { samples: 0, forward: 0, gradients: 0, dtypes: 0 };
  const expected: Expectation[] = [];
  const problems: string[] = [];
  using _ = poisoned();
  for (const [s, sample] of op.samples.entries()) {
    if (!op.reference) break;
    if (only && !only.includes(s)) continue;
    const where = `sample ${s} ${sample.inputs.map((i) => show(i.shape)).join(" ")}`;
    const before = expected.length;
    try {
      counts.samples++;
      scope(() => {
        checkSample(op, sample, { name: `${op.name} ${s}`, where, expected, counts });
        return expected.slice(before).map((e) => e.got);
      });
    } catch (error) {
      expected.length = before; // the scope has freed them
      problems.push(`${where}: ${error instanceof Error ? error.stack : error}`);
    }
  }
  if (op.reference && dtypes) checkDTypes(op, { expected, counts, problems });
  try {
    const data = await readAll(expected.map((e) => e.got));
    expected.forEach((e, i) => {
      const problem = compare(e, Float64Array.from(data[i]!));
      if (problem) problems.push(problem);
    });
  } finally {
    for (const e of expected) e.got.dispose();
  }
  return { problems, counts };
}

interface Run {
  readonly name: string;
  readonly where: string;
  readonly expected: Expectation[];
  readonly counts: Counts;
}

function checkSample(op: Op<unknown>, sample: Sample<unknown>, run: Run): void {
  const draw = new Draw(run.name);
  const hosts = drawInputs(sample.inputs, draw);
  const forward = forwardPlan(op, sample, hosts);
  const gradient = gradientPlan(op, sample, { hosts, draw, forward });
  for (const layout of layoutsOf(hosts.map((h) => h.shape))) {
    const label = `${run.where}, ${layout}`;
    const needs = hosts.map((h) => gradient !== null && isFloat(h.dtype));
    const masks = [needs];
    // Each input alone, too: rules save less then.
    if (layout === "contiguous" && needs.filter(Boolean).length > 1) {
      needs.forEach((n, i) => n && masks.push(needs.map((_, k) => k === i)));
    }
    for (const mask of masks) {
      const leaves = hosts.map((h, i) => place(h, layout).requiresGrad_(mask[i]));
      const outputs = apply(op, leaves, sample.attrs);
      if (mask === needs) {
        expectOutputs(forward, outputs, { ...run, where: label });
        run.counts.forward++;
      }
      if (gradient) {
        expectGradients(gradient, { leaves, outputs, layout }, { ...run, where: label });
      }
    }
  }
  if (sample.inputs.every((i) => !i.values)) {
    const expanded = hosts.map(placeExpanded);
    const plan = forwardPlan(op, sample, expanded.map((e) => e.host));
    const outputs = apply(op, expanded.map((e) => e.tensor), sample.attrs);
    expectOutputs(plan, outputs, { ...run, where: `${run.where}, expanded` });
    run.counts.forward++;
  }
}

/** Most elements of a sample that is run in the other dtypes. */
const DTYPE_SIZE = 200;

/**
 * Numbers of the samples that are run in the other dtypes: with small numbers written out, and the
 * largest drawn one of at most DTYPE_SIZE elements.
 */
function dtypeSamples(op: Op<unknown>): number[] {
  const size = (s: number) => op.samples[s]!.inputs.reduce((n, i) => n + sizeOf(i.shape), 0);
  const small = [...op.samples.keys()].filter((s) =>
    size(s) <= DTYPE_SIZE && op.samples[s]!.inputs.some((i) => !i.dtype)
  );
  const written = small.filter((s) => op.samples[s]!.inputs.some((i) => i.values));
  const drawn = small.filter((s) => !written.includes(s));
  return [
    ...written.filter((s) =>
      op.samples[s]!.inputs.every((i) => i.values?.every((v) => Math.abs(v) <= 10) ?? true)
    ),
    ...drawn.length > 0 ? [drawn.reduce((a, b) => size(b) > size(a) ? b : a)] : [],
  ];
}

/** The one of them whose f16 gradients are checked: the first drawn one with more than an element. */
function gradientSample(op: Op<unknown>): Sample<unknown> | undefined {
  return op.samples.find((s) =>
    s.inputs.some((i) => !i.dtype) && s.inputs.every((i) => !i.values) &&
    s.inputs.every((i) => sizeOf(i.shape) > 1)
  );
}

interface DTypeRun {
  readonly expected: Expectation[];
  readonly counts: Counts;
  readonly problems: string[];
}

/** The same op on its small samples, in every other dtype that its check takes. */
function checkDTypes(op: Op<unknown>, run: DTypeRun): void {
  const differentiated = gradientSample(op);
  for (const dtype of OTHER_DTYPES) {
    if (dtype === "f16" && !gpu().info.features.has("shader-f16")) continue;
    for (const s of dtypeSamples(op)) {
      const sample = op.samples[s]!;
      if (sample === differentiated) continue;
      // Written numbers are chosen to be told apart; a second drawn sample is forward only.
      const gradient = dtype === "f16" && sample.inputs.some((i) => i.values);
      checkDType(op, { dtype, sample, name: `${op.name} ${s}`, gradient, run });
    }
    const last = { dtype, name: op.name, gradient: dtype === "f16", run };
    if (differentiated) checkDType(op, { ...last, sample: differentiated });
  }
}

function checkDType(
  op: Op<unknown>,
  given: {
    dtype: DType;
    sample: Sample<unknown>;
    name: string;
    gradient?: boolean;
    run: DTypeRun;
  },
): void {
  const { dtype, sample } = given;
  const { expected, counts, problems } = given.run;
  const name = `${given.name} ${dtype}`;
  const draw = new Draw(name);
  const unsigned = dtype === "u32" || dtype === "bool";
  const inputs = sample.inputs.map((i) =>
    !unsigned || i.dtype
      ? i
      : i.values
      ? { ...i, values: i.values.map(Math.abs) }
      : (i.low ?? -2) < 0
      ? { ...i, low: 0 }
      : i
  );
  const hosts = drawInputs(inputs, draw, dtype);
  try {
    op.check(hosts, sample.attrs);
  } catch (error) {
    if (error instanceof TypeError) return;
    throw error;
  }
  const where = `as ${dtype} ${hosts.map((h) => show(h.shape)).join(" ")}`;
  const forward = forwardPlan(op, sample, hosts);
  const gradient = given.gradient
    ? gradientPlan(op, sample, { hosts, draw, forward, coarse: true })
    : null;
  counts.dtypes++;
  const before = expected.length;
  const compute = () => {
    const run = { name, where, expected, counts };
    const leaves = hosts.map((h) =>
      place(h, "offset").requiresGrad_(gradient !== null && isFloat(h.dtype))
    );
    const outputs = apply(op, leaves, sample.attrs);
    expectOutputs(forward, outputs, run);
    if (gradient) expectGradients(gradient, { leaves, outputs, layout: "offset" }, run);
    return expected.slice(before).map((e) => e.got);
  };
  try {
    scope(compute);
  } catch (error) {
    expected.length = before; // the scope has freed them
    problems.push(`${where}: ${error instanceof Error ? error.stack : error}`);
  }
}

interface ForwardPlan {
  readonly want: readonly HostArray[];
  readonly tolerances: readonly Float64Array[];
}

function magnitude(array: HostArray): number {
  return array.data.reduce((m, v) => Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m, 0);
}

function mapFloats(hosts: readonly HostArray[], f: (v: number) => number): HostArray[] {
  return hosts.map((h) => isFloat(h.dtype) ? { ...h, data: h.data.map(f) } : h);
}

function termsOf(sample: Sample<unknown>): number {
  return sample.terms ?? Math.max(1, ...sample.inputs.map((i) => sizeOf(i.shape)));
}

/** What the op must give, and how far off each element may be; see the top of this file. */
function forwardPlan(
  op: Op<unknown>,
  sample: Sample<unknown>,
  hosts: readonly HostArray[],
): ForwardPlan {
  const specs = op.check(hosts, sample.attrs);
  const terms = termsOf(sample);
  const drawn = sample.inputs.every((i) => !i.values);
  const want = op.reference!(hosts, sample.attrs).map((y, o) => {
    if (!specs[o] || !sameShape(y.shape, specs[o].shape)) {
      throw new Error(
        `the reference's output ${o} is ${show(y.shape)}, check says ${
          show(specs[o]?.shape ?? [])
        }`,
      );
    }
    return { shape: y.shape, dtype: specs[o].dtype, data: y.data };
  });
  const sums = terms > 1
    ? op.reference!(mapFloats(hosts, Math.abs), op.sumsOf?.(sample.attrs) ?? sample.attrs)
    : null;
  // Integers that are all there is are numbers, too; beside floats they may be indices. Of 0 and 1 there is no more.
  const numbers = hosts.some((h) => isFloat(h.dtype) || h.dtype === "bool")
    ? hosts
    : hosts.map((h) => ({ ...h, dtype: "f32" as const }));
  const nudged = backwardOf(op)
    ? op.reference!(mapFloats(numbers, (v) => v * (1 + 2 ** -20)), sample.attrs)
    : null;
  const largestInput = Math.max(0, ...hosts.filter((h) => isFloat(h.dtype)).map(magnitude));
  const tolerances = want.map((y, o) => {
    if (!isFloat(y.dtype)) return new Float64Array(y.data.length);
    const floor = terms > 1
      ? Math.max(magnitude(y), magnitude(sums![o]!), largestInput)
      : drawn
      ? magnitude(y)
      : 0;
    return y.data.map((v, i) => {
      const condition = nudged ? Math.abs(nudged[o]!.data[i]! - v) * 2 ** 20 : 0;
      const sum = sums ? Math.abs(sums[o]!.data[i]!) : 0;
      const scale = [v, sum, condition].reduce(
        (n, t) => Number.isFinite(t) ? n + Math.abs(t) : n,
        0,
      );
      const computed = K * UNIT.f32 * (Math.sqrt(terms) * scale + floor) + TINY.f32;
      // Values are kept in f16 but computed in f32: one rounding for the result and one for each
      // array that an op keeps on the way.
      return y.dtype === "f16"
        ? computed + 2 * UNIT.f16 * Math.abs(v) + TINY.f16 * UNIT.f16
        : computed;
    });
  });
  return { want, tolerances };
}

function expectOutputs(plan: ForwardPlan, outputs: readonly Tensor[], run: Run): void {
  plan.want.forEach((want, o) => {
    const what = `${run.where}, output ${o}`;
    expectSpec(what, outputs[o]!, want);
    const tolerance = plan.tolerances[o]!;
    run.expected.push({ what, got: outputs[o]!, want, tolerance: (i) => tolerance[i]! });
  });
  if (outputs.length !== plan.want.length) {
    throw new Error(`${outputs.length} outputs, the reference gives ${plan.want.length}`);
  }
}

function expectSpec(what: string, got: Tensor, want: HostArray): void {
  if (sameShape(got.shape, want.shape) && got.dtype === want.dtype) return;
  throw new Error(
    `${what}: got ${show(got.shape)} ${got.dtype}, want ${show(want.shape)} ${want.dtype}`,
  );
}

interface GradientPlan {
  readonly weights: readonly (HostArray | null)[];
  readonly wanted: readonly (Differences | null)[];
  /** Elements that were moved one at a time, by input. */
  readonly moved: readonly (readonly number[])[];
  /** The derivative in one direction of all elements, of large inputs. */
  readonly directions: readonly ({ along: Float64Array; slope: number } | null)[];
  readonly tolerances: readonly number[];
}

/** Elements whose derivatives are taken one by one; more would make large samples slow. */
const MOST_MOVED = 40;

/** Central differences of the reference, or null where the sample is not to be differentiated. */
function gradientPlan(
  op: Op<unknown>,
  sample: Sample<unknown>,
  given: {
    hosts: readonly HostArray[];
    draw: Draw;
    forward: ForwardPlan;
    coarse?: boolean;
  },
): GradientPlan | null {
  const { hosts, draw, forward } = given;
  if (!backwardOf(op) || sample.grad === false) return null;
  const weights = forward.want.map((y) =>
    isFloat(y.dtype) ? { ...y, data: y.data.map(() => draw.weight()) } : null
  );
  if (weights.every((w) => w === null) || !hosts.some((h) => isFloat(h.dtype))) return null;
  const moved = hosts.map((h) => draw.shuffled(h.data.length).slice(0, MOST_MOVED));
  const wanted = differences(
    (at) => op.reference!(at, sample.attrs),
    hosts,
    weights.map((w) => w && w.data),
    { eps: 1e-5, wanted: hosts.map((h) => isFloat(h.dtype)), only: (i) => moved[i]! },
  );
  const outputs = forward.want.reduce((n, y) => n + y.data.length, 1);
  const terms = Math.max(termsOf(sample), outputs);
  const conditions = gradientConditions(op, sample, { hosts, weights, wanted });
  const tolerances = wanted.map((d, i) => {
    const scale = d ? d.magnitude.reduce((m, v) => Math.max(m, v), conditions[i]!) : 0;
    const rounding = K * UNIT.f32 * Math.sqrt(terms) + 1e-8;
    // In f16 the outputs and gradients that the rule reads and writes are rounded to 11 bits.
    return scale * (given.coarse ? rounding + 4 * UNIT.f16 : rounding) + TINY.f32;
  });
  const directions = hosts.map((h, i) => {
    // In f16 the rounding of many terms hides more than 1 % of a slope that has cancelled.
    if (!wanted[i] || given.coarse || h.data.length <= MOST_MOVED) return null;
    const along = Float64Array.from(h.data, () => draw.weight());
    const at = (step: number) => {
      const data = h.data.map((v, j) => v + step * along[j]!);
      const outputs = op.reference!(
        hosts.map((x, k) => k === i ? { ...x, data } : x),
        sample.attrs,
      );
      return weights.reduce(
        (n, w, o) => w ? w.data.reduce((m, c, p) => m + c * outputs[o]!.data[p]!, n) : n,
        0,
      );
    };
    return { along, slope: (at(1e-5) - at(-1e-5)) / 2e-5 };
  });
  return { weights, wanted, moved, directions, tolerances };
}

/**
 * How far a gradient moves with the inputs, relative to them: rounding on the way moves it as much. Only of
 * samples of single elements; others have elements whose gradients are large enough to tell.
 */
function gradientConditions(
  op: Op<unknown>,
  sample: Sample<unknown>,
  { hosts, weights, wanted }: {
    hosts: readonly HostArray[];
    weights: readonly (HostArray | null)[];
    wanted: readonly (Differences | null)[];
  },
): number[] {
  if (!sample.inputs.every((i) => sizeOf(i.shape) === 1)) return hosts.map(() => 0);
  const NUDGE = 2 ** -10;
  const nudged = differences(
    (at) => op.reference!(at, sample.attrs),
    mapFloats(hosts, (v) => v * (1 + NUDGE)),
    weights.map((w) => w && w.data),
    { eps: 1e-5, wanted: wanted.map((d) => d !== null) },
  );
  return wanted.map((d, i) => {
    const move = d ? Math.abs(nudged[i]!.gradient[0]! - d.gradient[0]!) / NUDGE : 0;
    return Number.isFinite(move) ? move : 0;
  });
}

function expectGradients(
  plan: GradientPlan,
  at: { leaves: readonly Tensor[]; outputs: readonly Tensor[]; layout: Layout },
  run: Run,
): void {
  const roots: Root[] = [];
  plan.weights.forEach((weight, o) => {
    if (!weight) return;
    const seed = place(weight, at.layout);
    roots.push({ edge: at.outputs[o]!.edge(), grad: seed.device.alias() });
  });
  walkBack(roots, { retainGraph: false });
  const alone = at.leaves.filter((l) => l.requiresGrad).length === 1 ? " alone" : "";
  at.leaves.forEach((leaf, i) => {
    if (!leaf.requiresGrad) return;
    const what = `${run.where}, gradient of input ${i}${alone}`;
    if (!leaf.grad) throw new Error(`${what} is missing`);
    const want = { shape: leaf.shape, dtype: leaf.dtype, data: plan.wanted[i]!.gradient };
    expectSpec(what, leaf.grad, want);
    const got = leaf.grad.detach();
    const tolerance = plan.tolerances[i]!;
    run.expected.push({ what, got, want, only: plan.moved[i]!, tolerance: () => tolerance });
    run.counts.gradients++;
    const direction = plan.directions[i];
    if (!direction) return;
    run.expected.push({
      what: `${what}, all elements in one direction`,
      got: leaf.grad.detach(),
      want: { shape: [], dtype: leaf.dtype, data: Float64Array.of(direction.slope) },
      direction: direction.along,
      tolerance: () => 1.5 * Math.sqrt(leaf.size) * tolerance,
    });
  });
}

/** A line about the elements that are too far off, or null. */
function compare(e: Expectation, read: Float64Array): string | null {
  const { shape, dtype, data: want } = e.want;
  const { direction } = e;
  const got = direction
    ? Float64Array.of(read.reduce((n, v, i) => n + v * direction[i]!, 0))
    : read;
  const elements = e.only ?? [...want.keys()];
  let count = 0;
  let first = "";
  let largest = 0;
  let blind = isFloat(dtype);
  for (const i of elements) {
    const expected = storable(want[i]!, dtype);
    const allowed = e.tolerance(i);
    if (Number.isFinite(expected)) {
      largest = Math.max(largest, Math.abs(expected));
      if (Math.abs(expected) > 100 * allowed) blind = false;
    }
    const off = Math.abs(got[i]! - expected);
    if (Object.is(got[i], expected) || got[i] === expected || off <= allowed) continue;
    if (count++ > 0) continue;
    first = `at ${show(coordinatesOf(shape, i))}: got ${got[i]}, want ${expected}, ` +
      `${off.toExponential(2)} apart, tolerance ${allowed.toExponential(2)}`;
  }
  if (count > 0) return `${e.what} ${show(shape)} ${first} (${count} of ${elements.length} differ)`;
  return blind && largest > 1e-6 ? `${e.what} ${show(shape)} would accept 1 % more` : null;
}

/** Integers wrap as the GPU's do. */
function storable(value: number, dtype: DType): number {
  return dtype === "u32" ? value >>> 0 : dtype === "i32" ? value | 0 : value;
}
