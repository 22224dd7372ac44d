/** Builds the op records of the pointwise table. */

import type { DeviceArray, Spec } from "../array.ts";
import { type DType, DTYPES, isFloat, requireRange, resultType } from "../dtype.ts";
import {
  defineOp,
  type GradientFormulas,
  type NotDifferentiable,
  type Op,
  type Sample,
} from "../op.ts";
import { hostMap } from "../reference.ts";
import { broadcastShapes, sizeOf } from "../shape.ts";
import { BINARY } from "./binary_table.ts";
import { inDType, pointwise, type PointwiseArgument } from "./launch_pointwise.ts";
import { runFormulas } from "./pointwise_gradients.ts";
import { type BinaryRow, reads, type Scalars, type UnaryRow } from "./pointwise_row.ts";
import { UNARY } from "./pointwise_table.ts";

/** A number standing for one operand of a binary op. */
export interface BinaryAttrs {
  readonly a?: number;
  readonly b?: number;
}

/** Unary ops by name. */
export const unary = build(UNARY, defineUnary);
/** Binary ops by name: two tensors, or one tensor and a number in the attributes. */
export const binary = build(BINARY, defineBinary);

function build<K extends string, R, O>(
  table: Record<K, R>,
  define: (name: string, row: R) => O,
): Record<K, O> {
  const ops = {} as Record<K, O>;
  for (const name of Object.keys(table) as K[]) ops[name] = define(name, table[name]);
  return ops;
}

/** The text with float literals turned into integers, for integer tensors. */
function asInteger(formula: string): string {
  return formula.replace(/(\d)\.0\b/g, "$1");
}

function scalarArguments(scalars: Scalars): Record<string, PointwiseArgument> {
  const out: Record<string, PointwiseArgument> = {};
  for (const [name, value] of Object.entries(scalars)) out[name] = { value, type: "f32" };
  return out;
}

function defineUnary(name: string, row: UnaryRow): Op<Scalars> {
  const type = row.type ?? "float";
  const outputType = (x: DType): DType =>
    type === "bool" ? "bool" : type === "same" && x !== "bool" ? x : isFloat(x) ? x : "f32";
  const compute = (x: DType) =>
    type === "float" || isFloat(x) || (type === "same" && x === "bool") ? "f32" : DTYPES[x].compute;
  const { dx } = row;
  const formulas = typeof dx !== "string" ? undefined : (_needs: unknown, scalars: Scalars) => ({
    inputs: ["x"],
    saved: ["x", "y"].filter((v) => reads(dx, v)),
    gradients: [dx],
    scalars,
    module: row.module,
  });
  return defineOp<Scalars>({
    name,
    check: ([x]) => [{ shape: x!.shape, dtype: outputType(x!.dtype) }],
    forward(ctx, [x], scalars, [out]) {
      const kind = compute(x!.dtype);
      const y = pointwise({
        name,
        inputs: { x: x!, ...scalarArguments(scalars) },
        expression: kind === "f32" ? row.f : row.integer ?? asInteger(row.f),
        compute: kind,
        result: type === "bool" ? "bool" : kind,
        module: kind === "f32" ? row.module : undefined,
      }, out!);
      for (const name of formulas?.(ctx.needs, scalars).saved ?? []) {
        ctx.save(name === "x" ? x! : y);
      }
      return [y];
    },
    formulas,
    backward: typeof row.dx !== "string"
      ? row.dx
      : (ctx, [dy], scalars) =>
        runFormulas(formulas!(ctx.needs, scalars), ctx, dy!, {
          name: () => `${name}_backward`,
          out: () => ctx.inputs[0]!,
          flops: 2,
        }),
    reference: ([x], scalars) => [
      hostMap(x!.shape, [x!], (v) => row.ref(v, scalars), outputType(x!.dtype)),
    ],
    samples: unarySamples(row),
  });
}

function unarySamples(row: UnaryRow): Sample<Scalars>[] {
  const attrs = row.scalars ?? {};
  const domain = { low: row.low, high: row.high, distinct: row.distinct };
  const samples: Sample<Scalars>[] = [[], [1], [7], [3, 5], [9, 8], [64], [257]].map((shape) => ({
    inputs: [{ shape, ...domain }],
    attrs,
    terms: 1,
  }));
  if (row.extremes) {
    const values = row.extremes;
    samples.push({ inputs: [{ shape: [values.length], values }], attrs, grad: false, terms: 1 });
    if (row.type === "bool") {
      // Fours of which each differs from the next, also where they lie apart.
      for (const shape of [[24], [6, 8]]) {
        const of = mixed(sizeOf(shape), values.length).map((i) => values[i]!);
        samples.push({ inputs: [{ shape, values: of }], attrs, grad: false, terms: 1 });
      }
    }
  }
  if (row.type === "same") {
    samples.push({ inputs: [{ shape: [5], dtype: "i32", low: -9, high: 9 }], attrs, grad: false });
  }
  return samples;
}

/** `size` numbers from 0 to `kinds` - 1 in an order that does not repeat soon. */
function mixed(size: number, kinds: number): number[] {
  return Array.from({ length: size }, (_, i) => (i * i + (i >> 2)) % kinds);
}

function binaryDType(row: BinaryRow, a: Spec | number, b: Spec | number): DType {
  const promoted = typeof a === "number"
    ? withNumber(b as Spec, a)
    : typeof b === "number"
    ? withNumber(a, b)
    : resultType(a, b);
  if (row.type === "float" && !isFloat(promoted)) return "f32";
  return promoted === "bool" && row.type !== "bool" && !row.bool ? "i32" : promoted;
}

/** A whole number takes the tensor's dtype, but with a bool it is an i32; a fraction makes integers floats. */
function withNumber({ dtype }: Spec, value: number): DType {
  if (isFloat(dtype)) return dtype;
  return !Number.isInteger(value) ? "f32" : dtype === "bool" ? "i32" : dtype;
}

/** Both operands in order, numbers included. */
function operands<T>(inputs: readonly T[], attrs: BinaryAttrs): [T | number, T | number] {
  if (attrs.a !== undefined) return [attrs.a, inputs[0]!];
  if (attrs.b !== undefined) return [inputs[0]!, attrs.b];
  return [inputs[0]!, inputs[1]!];
}

function defineBinary(name: string, row: BinaryRow): Op<BinaryAttrs> {
  const formulas = (needs: readonly boolean[], { a, b }: BinaryAttrs): GradientFormulas => {
    // With a number on the left, the only input is operand b.
    const inputs = a !== undefined ? ["b"] : b !== undefined ? ["a"] : ["a", "b"];
    const gradients = inputs.map((v) => v === "a" ? row.da : row.db);
    const wanted = gradients.filter((_, i) => needs[i]).map(text).join(" ");
    const scalars = { ...(a !== undefined ? { a } : {}), ...(b !== undefined ? { b } : {}) };
    return {
      inputs,
      saved: [...inputs, "y"].filter((v) => reads(wanted, v)),
      gradients: gradients.map(text),
      scalars,
      module: row.module,
    };
  };
  return defineOp<BinaryAttrs>({
    name,
    check(inputs, attrs) {
      const [a, b] = operands(inputs, attrs);
      const shape = broadcastShapes(name, ...inputs.map((i) => i.shape));
      const dtype = binaryDType(row, a, b);
      row.check?.(b, dtype);
      return [{ shape, dtype: row.type === "bool" ? "bool" : dtype }];
    },
    forward(ctx, inputs, attrs, [out]) {
      const [a, b] = operands<DeviceArray>(inputs, attrs);
      const dtype = binaryDType(row, a, b);
      const kind = DTYPES[dtype].compute;
      const argument = (value: DeviceArray | number) =>
        argumentOf(name, row.type === "bool" ? compared(value, dtype) : value, kind);
      const y = pointwise({
        name,
        inputs: { a: argument(a), b: argument(b) },
        expression: kind === "f32" ? row.f : row.integer ?? asInteger(row.f),
        compute: kind,
        result: row.type === "bool" ? "bool" : kind,
        module: kind === "f32" ? row.module : row.integerModule?.(kind),
      }, out!);
      for (const variable of formulas(ctx.needs, attrs).saved) {
        ctx.save(variable === "y" ? y : (variable === "a" ? a : b) as DeviceArray);
      }
      return [y];
    },
    formulas: typeof row.da === "string" ? formulas : undefined,
    backward: typeof row.da !== "string" ? row.da : (ctx, [dy], attrs) => {
      const found = formulas(ctx.needs, attrs);
      return runFormulas(found, ctx, dy!, {
        name: (i) => `${name}_backward_${found.inputs[i]}`,
        // Of an f32 that was beside f16: its gradient is a sum, whose terms are not rounded.
        out: (i) => ({
          shape: dy!.shape,
          dtype: ctx.inputs[i]!.dtype === "f32" ? "f32" : dy!.dtype,
        }),
        flops: 2,
      });
    },
    reference: (inputs, attrs) => {
      const shape = broadcastShapes(name, ...inputs.map((i) => i.shape));
      const ref = referenceOf(row, binaryDType(row, ...operands<Spec>(inputs, attrs)));
      const f = attrs.a !== undefined
        ? (v: number) => ref(attrs.a!, v)
        : attrs.b !== undefined
        ? (v: number) => ref(v, attrs.b!)
        : ref;
      return [
        hostMap(
          shape,
          inputs,
          f as (...v: number[]) => number,
          row.type === "bool" ? "bool" : "f32",
        ),
      ];
    },
    samples: binarySamples(row),
  });
}

/** The reference where both operands are of `dtype` together. */
function referenceOf(row: BinaryRow, dtype: DType): BinaryRow["ref"] {
  if (isFloat(dtype)) {
    const rounds = row.type === "bool" && dtype === "f16";
    return rounds ? (a, b) => row.ref(Math.f16round(a), Math.f16round(b)) : row.ref;
  }
  const ref = row.integerRef ?? row.ref;
  return dtype === "bool" ? (a, b) => Number(ref(a, b) !== 0) : ref;
}

function text(formula: string | NotDifferentiable): string {
  return typeof formula === "string" ? formula : "";
}

/** Of which a negative number makes sense beside u32: it wraps around and back. */
const WRAPS: ReadonlySet<string> = new Set(["add", "sub", "mul"]);

/** An operand of a comparison, in the dtype in which both are compared: f16 rounds what is wider. */
function compared(value: DeviceArray | number, dtype: DType): DeviceArray | number {
  if (dtype !== "f16") return value;
  return typeof value === "number" ? Math.f16round(value) : inDType(value, dtype);
}

function argumentOf(
  name: string,
  value: DeviceArray | number,
  kind: "f32" | "i32" | "u32",
): PointwiseArgument {
  if (typeof value !== "number") return value;
  if (kind !== "f32") {
    const signed = kind === "u32" && value < 0 && WRAPS.has(name);
    requireRange(`${name} the number`, value, signed ? "i32" : kind);
  }
  return { value, type: kind };
}

function binarySamples(row: BinaryRow): Sample<BinaryAttrs>[] {
  // From 68 on by fours: all of them, a row and a column repeated.
  const shapes = [
    [[3], [3]],
    [[2, 3], [3]],
    [[4, 1, 3], [5, 1]],
    [[], [2, 2]],
    [[65], [65]],
    [[0, 3], [3]],
    [[68], [68]],
    [[3, 8], [8]],
    [[3, 8], [3, 1]],
    // And with one number for all of them.
    [[], [3, 8]],
    [[3, 8], []],
  ];
  const a = { low: row.lowA, distinct: row.distinct };
  const b = { low: row.lowB, distinct: row.distinct };
  const samples: Sample<BinaryAttrs>[] = shapes.map(([sa, sb]) => ({
    inputs: [{ shape: sa!, ...a }, { shape: sb!, ...b }],
    attrs: {},
    terms: 1,
  }));
  samples.push({ inputs: [{ shape: [6], ...a }], attrs: { b: 1.5 }, terms: 1 });
  samples.push({ inputs: [{ shape: [6], ...b }], attrs: { a: 1.5 }, terms: 1 });
  if (row.type === "bool") {
    // Numbers drawn at random are never equal. Each of three kinds of pairs is the last one once.
    const pairs = [[1, 1], [1, 2], [2, 1], [1, 3], [0, 1], [2, 2], [2, 0], [0, 0], [3, 1], [0, 2]];
    for (const turn of [1, 2, 3]) {
      const turned = [...pairs.slice(turn), ...pairs.slice(0, turn)];
      const inputs = [0, 1].map((o) => ({ shape: [10], values: turned.map((p) => p[o]!) }));
      samples.push({ inputs, attrs: {}, grad: false, terms: 1 });
    }
    // Fours of which each differs from the next, alone, in rows, and against one number.
    const few = (shape: readonly number[], kinds: number, single: number) => ({
      shape,
      values: shape.length === 0 ? [single] : mixed(sizeOf(shape), kinds),
    });
    for (const [sa, sb] of [[[24], [24]], [[6, 8], [8]], [[], [24]], [[24], []]]) {
      for (const single of sa!.length * sb!.length === 0 ? [0, 1] : [0]) {
        const inputs = [few(sa!, 3, single), few(sb!, 2, single)];
        samples.push({ inputs, attrs: {}, grad: false, terms: 1 });
      }
    }
  }
  return samples;
}
