/**
 * @file Initialisers: they overwrite a tensor with the engine's random numbers and return it.
 *
 * Formulas and fans: https://docs.pytorch.org/docs/stable/nn.init.html
 */

import { checkOneOf, checkOptions } from "../engine/arguments.ts";
import { noGrad, type Tensor, tensor } from "../engine/mod.ts";
import { fillNormal, fillUniform, hostNormals } from "../engine/random_fill.ts";

/** What follows the weights, for the gain. */
export type Nonlinearity =
  | "linear"
  | "conv1d"
  | "conv2d"
  | "sigmoid"
  | "tanh"
  | "relu"
  | "leakyRelu"
  | "selu";

const NONLINEARITIES: readonly Nonlinearity[] = [
  "linear",
  "conv1d",
  "conv2d",
  "sigmoid",
  "tanh",
  "relu",
  "leakyRelu",
  "selu",
];

/** Which fan keeps its variance: the forward pass's or the backward pass's. */
export type FanMode = "fanIn" | "fanOut";

/** Options of the Kaiming initialisers. */
export interface KaimingOptions {
  /** Slope below 0 of the leaky rectifier that follows; only for `leakyRelu`. Default 0. */
  a?: number;
  /** Default "fanIn". */
  mode?: FanMode;
  /** Default "leakyRelu". */
  nonlinearity?: Nonlinearity;
}

/**
 * Inputs and outputs that meet in one weight [out, in, ...window]: in · window and out · window.
 *
 * @throws {TypeError} If the tensor has fewer than 2 dimensions.
 */
export function fans(t: Tensor): { fanIn: number; fanOut: number } {
  const [out, inside, ...window] = t.shape;
  if (out === undefined || inside === undefined) {
    throw new TypeError(
      `Cannot tell the fans of [${t.shape.join(", ")}]: weights have at least 2 dimensions`,
    );
  }
  const area = window.reduce((n, size) => n * size, 1);
  return { fanIn: inside * area, fanOut: out * area };
}

/**
 * Factor by which weights before a nonlinearity are larger than before none.
 *
 * @param slope Slope below 0, for `leakyRelu`.
 * @throws {TypeError} If there is no such nonlinearity.
 */
export function calculateGain(nonlinearity: Nonlinearity, slope = 0.01): number {
  checkOneOf("calculate the gain", { nonlinearity }, NONLINEARITIES);
  switch (nonlinearity) {
    case "tanh":
      return 5 / 3;
    case "relu":
      return Math.SQRT2;
    case "leakyRelu":
      return Math.sqrt(2 / (1 + slope ** 2));
    case "selu":
      return 3 / 4;
    case "linear":
    case "conv1d":
    case "conv2d":
    case "sigmoid":
      return 1;
  }
}

/** Uniform numbers in [low, high). */
export function uniform(t: Tensor, options: { low?: number; high?: number } = {}): Tensor {
  checkOptions("uniform", options, "init.uniform(t, { low: -1, high: 1 })");
  return fillUniform(t, { low: options.low ?? 0, high: options.high ?? 1 });
}

/** Normal numbers. */
export function normal(t: Tensor, options: { mean?: number; std?: number } = {}): Tensor {
  checkOptions("normal", options, "init.normal(t, { mean: 0, std: 0.02 })");
  return fillNormal(t, { mean: options.mean ?? 0, std: options.std ?? 1 });
}

/** `value` everywhere. */
export function constant(t: Tensor, value: number): Tensor {
  return noGrad(() => t.fill_(value));
}

/**
 * Uniform in ±gain · √(6 / (fanIn + fanOut)).
 *
 * Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
 * networks", AISTATS 2010.
 */
export function xavierUniform(t: Tensor, options: { gain?: number } = {}): Tensor {
  checkOptions("xavierUniform", options, "init.xavierUniform(t, { gain: 2 })");
  return symmetric(t, Math.sqrt(3) * xavierStd(t, options.gain));
}

/** Normal with deviation gain · √(2 / (fanIn + fanOut)); source as {@linkcode xavierUniform}. */
export function xavierNormal(t: Tensor, options: { gain?: number } = {}): Tensor {
  checkOptions("xavierNormal", options, "init.xavierNormal(t, { gain: 2 })");
  return normal(t, { std: xavierStd(t, options.gain) });
}

/**
 * Uniform in ±gain · √(3 / fan).
 *
 * Source: He et al., "Delving deep into rectifiers", ICCV 2015, https://arxiv.org/abs/1502.01852
 */
export function kaimingUniform(t: Tensor, options: KaimingOptions = {}): Tensor {
  checkOptions("kaimingUniform", options, 'init.kaimingUniform(t, { nonlinearity: "relu" })');
  return symmetric(t, Math.sqrt(3) * kaimingStd(t, options));
}

/** Normal with deviation gain / √fan; source as {@linkcode kaimingUniform}. */
export function kaimingNormal(t: Tensor, options: KaimingOptions = {}): Tensor {
  checkOptions("kaimingNormal", options, 'init.kaimingNormal(t, { nonlinearity: "relu" })');
  return normal(t, { std: kaimingStd(t, options) });
}

/**
 * gain times a random orthogonal matrix [rows, the other sizes together]: its rows are orthonormal if
 * they are at most as many as its columns, else its columns are. Computed on the host in float64, in
 * about 2 · rows · columns · min(rows, columns) steps.
 *
 * Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning", ICLR 2014,
 * https://arxiv.org/abs/1312.6120
 *
 * @throws {TypeError} If the tensor has fewer than 2 dimensions.
 */
export function orthogonal(t: Tensor, options: { gain?: number } = {}): Tensor {
  checkOptions("orthogonal", options, "init.orthogonal(t, { gain: 2 })");
  const { gain = 1 } = options;
  if (t.ndim < 2) {
    throw new TypeError(
      `Cannot make [${t.shape.join(", ")}] orthogonal: it must have at least 2 dimensions`,
    );
  }
  const rows = t.shape[0]!;
  const columns = rows === 0 ? 0 : t.size / rows;
  const [count, length] = rows < columns ? [rows, columns] : [columns, rows];
  const numbers = hostNormals(t.size);
  const vectors = Array.from(
    { length: count },
    (_, k) => numbers.subarray(k * length, (k + 1) * length),
  );
  orthonormalize(vectors);
  const values = Float64Array.from({ length: t.size }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return gain * (rows < columns ? vectors[row]![column]! : vectors[column]![row]!);
  });
  using fresh = tensor(values, { shape: t.shape });
  return noGrad(() => t.copy_(fresh));
}

/** Gram-Schmidt, each vector twice: what rounding left of the others goes the second time. */
function orthonormalize(vectors: readonly Float64Array[]): void {
  const dot = (a: Float64Array, b: Float64Array) => {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
    return sum;
  };
  vectors.forEach((v, k) => {
    for (const other of [...vectors.slice(0, k), ...vectors.slice(0, k)]) {
      const share = dot(v, other);
      for (let i = 0; i < v.length; i++) v[i]! -= share * other[i]!;
    }
    const norm = Math.sqrt(dot(v, v));
    for (let i = 0; i < v.length; i++) v[i]! /= norm;
  });
}

/** Options of {@linkcode mxnetXavier}. */
export interface MxnetXavierOptions {
  /** Squared scale of the numbers, before the division by the fan. Default 3. */
  magnitude?: number;
  /** Default "uniform". */
  distribution?: "uniform" | "normal";
  /** The fan that divides the magnitude; "avg" is the mean of both. Default "avg". */
  factor?: "avg" | "in" | "out";
}

/**
 * MXNet's `Xavier`: uniform in ±s, or normal with deviation s, for s = √(magnitude / fan).
 *
 * Source: https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/initializer/index.html
 */
export function mxnetXavier(t: Tensor, options: MxnetXavierOptions = {}): Tensor {
  checkOptions("mxnetXavier", options, "init.mxnetXavier(t, { magnitude: 3 })");
  const { magnitude = 3, distribution = "uniform", factor = "avg" } = options;
  checkOneOf("initialise", { distribution }, ["uniform", "normal"]);
  checkOneOf("initialise", { factor }, ["avg", "in", "out"]);
  const { fanIn, fanOut } = fans(t);
  const divisor = { avg: (fanIn + fanOut) / 2, in: fanIn, out: fanOut }[factor];
  const scale = Math.sqrt(magnitude / divisor);
  return distribution === "uniform" ? symmetric(t, scale) : normal(t, { std: scale });
}

function symmetric(t: Tensor, bound: number): Tensor {
  return uniform(t, { low: -bound, high: bound });
}

function xavierStd(t: Tensor, gain = 1): number {
  const { fanIn, fanOut } = fans(t);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}

function kaimingStd(t: Tensor, options: KaimingOptions): number {
  const { a = 0, mode = "fanIn", nonlinearity = "leakyRelu" } = options;
  checkOneOf("initialise", { mode }, ["fanIn", "fanOut"]);
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(t)[mode]);
}
