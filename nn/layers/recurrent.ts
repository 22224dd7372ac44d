/** @file Recurrent nets over whole sequences. */

import { checkOneOf, checkOptions } from "../../engine/arguments.ts";
import {
  arange,
  cat,
  dropout,
  type DType,
  type RecurrentCell,
  recurrentLayer,
  stack,
  Tensor,
  tensor,
  where,
  zeros,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { pythonBool } from "../module_text.ts";
import type { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";
import { GATES, recurrentParameter, stateOfOne } from "./_recurrent.ts";

/** Options of {@linkcode LSTM}, {@linkcode GRU} and {@linkcode RNN}. */
export interface RecurrentOptions {
  /** Layers, each on the outputs of the one before. Default 1. */
  numLayers?: number;
  /** Whether there are learned biases. Default true. */
  bias?: boolean;
  /** Whether inputs and outputs are [N, T, ...] instead of [T, N, ...]. Default false. */
  batchFirst?: boolean;
  /** Probability of a zero in the outputs of all layers but the last, while training. Default 0. */
  dropout?: number;
  /** Whether a second set of weights walks from the last time step to the first. Default false. */
  bidirectional?: boolean;
}

/** Options of {@linkcode RNN}. */
export interface RNNOptions extends RecurrentOptions {
  /** What makes a state of the sum. Default "tanh". */
  nonlinearity?: "tanh" | "relu";
}

/** What a recurrent net takes besides its input; D is 2 if bidirectional, else 1. */
export interface RecurrentInput {
  /** State to start from [numLayers · D, N, H], without N for one sequence. Default zeros. */
  h0?: Tensor;
  /** Time steps of each sequence of a padded batch, 1 to T: numbers, or i32 [N]. Default T. */
  lengths?: Tensor | readonly number[];
}

/** What an LSTM takes besides its input. */
export interface LSTMInput extends RecurrentInput {
  /** Cell state to start from [numLayers · D, N, H], without N for one sequence. Default zeros. */
  c0?: Tensor;
}

/** What a recurrent net gives. */
export interface RecurrentOutput {
  /** The last layer's states at all time steps [T, N, D · H], or [T, D · H]; 0 past a sequence's end. */
  output: Tensor;
  /** Every layer's state after each sequence's last step [numLayers · D, N, H], or [numLayers · D, H]. */
  hn: Tensor;
}

/** What an LSTM gives. */
export interface LSTMOutput extends RecurrentOutput {
  /** Every layer's cell state there [numLayers · D, N, H], or [numLayers · D, H]. */
  cn: Tensor;
}

/**
 * Base of the recurrent nets. Parameters have PyTorch's names: `weight_ih_l0` [G·H, I], `weight_hh_l0`
 * [G·H, H], `bias_ih_l0`, `bias_hh_l0` [G·H], then those with `_reverse`, then `_l1`; all start uniform
 * in ±1 / √H.
 */
export abstract class RecurrentBase extends Module {
  /** Features an input has. */
  readonly inputSize: number;
  /** Features a state has. */
  readonly hiddenSize: number;
  /** Layers. */
  readonly numLayers: number;
  /** Whether inputs and outputs are [N, T, ...]. */
  readonly batchFirst: boolean;
  /** Probability of a zero between layers. */
  readonly dropout: number;
  /** Whether there are two directions. */
  readonly bidirectional: boolean;
  readonly #cell: RecurrentCell;
  readonly #bias: boolean;

  /** @throws {RangeError} If a size is not a whole number of at least 1, or dropout not in [0, 1). */
  constructor(
    cell: RecurrentCell,
    sizes: { inputSize: number; hiddenSize: number },
    options: RecurrentOptions,
  ) {
    super();
    const name = this.constructor.name;
    checkOptions(`make ${name}`, options, `new nn.${name}(8, 16, { numLayers: 2 })`);
    const { numLayers = 1, bias = true, batchFirst = false, bidirectional = false } = options;
    const { inputSize, hiddenSize } = sizes;
    checkSizes(name, { inputSize, hiddenSize, numLayers });
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    this.numLayers = numLayers;
    this.batchFirst = batchFirst;
    this.dropout = options.dropout ?? 0;
    this.bidirectional = bidirectional;
    this.#cell = cell;
    this.#bias = bias;
    if (!(this.dropout >= 0 && this.dropout < 1)) {
      throw new RangeError(
        `Cannot make ${name} with dropout ${this.dropout}: it must be at least 0 and below 1`,
      );
    }
    const rows = GATES[cell] * hiddenSize;
    for (let layer = 0; layer < numLayers; layer++) {
      const features = layer === 0 ? inputSize : hiddenSize * this.#directions.length;
      for (const direction of this.#directions) {
        const suffix = `l${layer}${direction}`;
        this.#add(`weight_ih_${suffix}`, [rows, features]);
        this.#add(`weight_hh_${suffix}`, [rows, hiddenSize]);
        if (!bias) continue;
        this.#add(`bias_ih_${suffix}`, [rows]);
        this.#add(`bias_hh_${suffix}`, [rows]);
      }
    }
  }

  get #directions(): readonly string[] {
    return this.bidirectional ? ["", "_reverse"] : [""];
  }

  #add(name: string, shape: readonly number[]): void {
    const parameter = recurrentParameter(shape, this.hiddenSize);
    (this as unknown as Record<string, Parameter>)[name] = parameter;
  }

  #parameter(name: string): Parameter {
    return (this as unknown as Record<string, Parameter>)[name]!;
  }

  /** All layers and directions over x. */
  protected run(x: Tensor, input: LSTMInput): { output: Tensor; hn: Tensor; cn?: Tensor } {
    const name = this.constructor.name;
    const states = this.#cell === "lstm" ? ["h0", "c0"] : ["h0"];
    const right = `${name.toLowerCase()}.forward(x, { ${states.join(", ")} })`;
    checkOptions(`apply ${name}`, input, right, [...states, "lengths"]);
    if (![2, 3].includes(x.ndim) || x.shape.at(-1) !== this.inputSize) {
      throw new TypeError(
        `Cannot apply ${name} to [${x.shape.join(", ")}]: it must be [${
          this.batchFirst ? "N, T" : "T, N"
        }, ${this.inputSize}] or [T, ${this.inputSize}]`,
      );
    }
    if (x.ndim === 2) return this.#runOne(x, input);
    let layerInput = this.batchFirst ? x.transpose(0, 1) : x;
    const [T, N] = layerInput.shape as readonly [number, number, number];
    const lengths = lengthsOf(input.lengths, { T, N, name });
    if (lengths) layerInput = withoutPadding(layerInput, lengths);
    const count = this.numLayers * this.#directions.length;
    const state = (given: Tensor | undefined, what: string) =>
      this.#states(given, { what, shape: [count, N, this.hiddenSize], dtype: x.dtype });
    const h0 = state(input.h0, "h0");
    const c0 = this.#cell === "lstm" ? state(input.c0, "c0") : null;
    const hn: Tensor[] = [];
    const cn: Tensor[] = [];
    for (let layer = 0; layer < this.numLayers; layer++) {
      const outputs = this.#directions.map((direction, d) => {
        const suffix = `l${layer}${direction}`;
        const place = layer * this.#directions.length + d;
        const { output, h, c } = recurrentLayer(layerInput, {
          cell: this.#cell,
          weights: {
            input: this.#parameter(`weight_ih_${suffix}`),
            hidden: this.#parameter(`weight_hh_${suffix}`),
            inputBias: this.#bias ? this.#parameter(`bias_ih_${suffix}`) : undefined,
            hiddenBias: this.#bias ? this.#parameter(`bias_hh_${suffix}`) : undefined,
          },
          h0: h0.select(0, place),
          c0: c0?.select(0, place),
          reverse: direction !== "",
          lengths,
        });
        hn.push(h);
        if (c) cn.push(c);
        return output;
      });
      layerInput = outputs.length === 1 ? outputs[0]! : cat(outputs, 2);
      const last = layer === this.numLayers - 1;
      if (!last && this.training && this.dropout > 0) {
        layerInput = dropout(layerInput, this.dropout);
      }
    }
    return {
      output: this.batchFirst ? layerInput.transpose(0, 1) : layerInput,
      hn: stack(hn, 0),
      cn: cn.length > 0 ? stack(cn, 0) : undefined,
    };
  }

  /** The same over one sequence x [T, inputSize]. */
  #runOne(
    x: Tensor,
    { h0, c0, lengths }: LSTMInput,
  ): { output: Tensor; hn: Tensor; cn?: Tensor } {
    const name = this.constructor.name;
    if (lengths !== undefined) {
      throw new TypeError(
        `Cannot apply ${name} to [${x.shape.join(", ")}] with lengths: one sequence has no padding`,
      );
    }
    const place = this.batchFirst ? 0 : 1;
    const { output, hn, cn } = this.run(x.unsqueeze(place), {
      h0: stateOfOne(h0, { of: name, what: "h0", ndim: 2 })?.unsqueeze(1),
      c0: stateOfOne(c0, { of: name, what: "c0", ndim: 2 })?.unsqueeze(1),
    });
    return { output: output.squeeze(place), hn: hn.squeeze(1), cn: cn?.squeeze(1) };
  }

  #states(
    given: Tensor | undefined,
    want: { what: string; shape: readonly number[]; dtype: DType },
  ): Tensor {
    if (!given) return zeros(want.shape, { dtype: want.dtype });
    if (given.shape.join() !== want.shape.join()) {
      throw new TypeError(
        `Cannot apply ${this.constructor.name} with ${want.what} [${given.shape.join(", ")}]: it ` +
          `must be [${want.shape.join(", ")}]`,
      );
    }
    return given;
  }

  override extraRepr(): string {
    const words = [`${this.inputSize}, ${this.hiddenSize}`];
    if (this.numLayers > 1) words.push(`num_layers=${this.numLayers}`);
    if (!this.#bias) words.push(`bias=${pythonBool(false)}`);
    if (this.batchFirst) words.push(`batch_first=${pythonBool(true)}`);
    if (this.dropout > 0) words.push(`dropout=${this.dropout}`);
    if (this.bidirectional) words.push(`bidirectional=${pythonBool(true)}`);
    return words.join(", ");
  }
}

/** x [T, N, F] with 0 past each sequence's end: a weight's gradient sums over all steps, and 0 · NaN is NaN. */
function withoutPadding(x: Tensor, lengths: Tensor): Tensor {
  const [T] = x.shape as [number];
  return where(arange(T).reshape(T, 1).lt(lengths).unsqueeze(2), x, 0);
}

function lengthsOf(
  lengths: Tensor | readonly number[] | undefined,
  { T, N, name }: { T: number; N: number; name: string },
): Tensor | undefined {
  if (lengths === undefined || lengths instanceof Tensor) return lengths;
  const wrong = lengths.find((length) => !Number.isInteger(length) || length < 1 || length > T);
  if (lengths.length !== N || wrong !== undefined) {
    throw new RangeError(
      `Cannot apply ${name} with lengths [${
        lengths.join(", ")
      }]: they must be ${N} whole numbers ` +
        `from 1 to ${T}`,
    );
  }
  return tensor([...lengths], { dtype: "i32" });
}

/**
 * Long short-term memory: at each step, with the gates' rows of the weights in the order i f g o,
 *
 *   i, f, o = σ(W x + b + U h + d), g = tanh(W x + b + U h + d);  c ← f·c + i·g;  h ← o·tanh(c)
 *
 * Sources: Hochreiter and Schmidhuber, "Long short-term memory", 1997;
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const lstm = new nn.LSTM(8, 16, { numLayers: 2, bidirectional: true });
 * const { output, hn, cn } = lstm.forward(randn([5, 3, 8]), { lengths: [5, 2, 4] });
 * console.log(output.shape, hn.shape, cn.shape); // [5, 3, 32] [4, 3, 16] [4, 3, 16]
 * ```
 */
export class LSTM extends RecurrentBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1, or dropout not in [0, 1). */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    super("lstm", { inputSize, hiddenSize }, options);
  }

  /** x [T, N, inputSize], or [N, T, inputSize] with batchFirst; or one sequence [T, inputSize]. */
  override forward(x: Tensor, input: LSTMInput = {}): LSTMOutput {
    const { output, hn, cn } = this.run(x, input);
    return { output, hn, cn: cn! };
  }
}

/**
 * Gated recurrent unit: at each step, with the gates' rows of the weights in the order r z n,
 *
 *   r, z = σ(W x + b + U h + d);  n = tanh(W x + b + r·(U h + d));  h ← (1 − z)·n + z·h
 *
 * Sources: Cho et al., "Learning phrase representations", EMNLP 2014;
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
 */
export class GRU extends RecurrentBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1, or dropout not in [0, 1). */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    super("gru", { inputSize, hiddenSize }, options);
  }

  /** x [T, N, inputSize], or [N, T, inputSize] with batchFirst; or one sequence [T, inputSize]. */
  override forward(x: Tensor, input: RecurrentInput = {}): RecurrentOutput {
    const { output, hn } = this.run(x, input);
    return { output, hn };
  }
}

/**
 * Plain recurrent net: h ← tanh(W x + b + U h + d), or max(…, 0) with nonlinearity "relu".
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
 */
export class RNN extends RecurrentBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1, or dropout not in [0, 1). */
  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    const { nonlinearity = "tanh" } = options;
    checkOneOf("make RNN", { nonlinearity }, ["tanh", "relu"]);
    super(nonlinearity, { inputSize, hiddenSize }, options);
  }

  /** x [T, N, inputSize], or [N, T, inputSize] with batchFirst; or one sequence [T, inputSize]. */
  override forward(x: Tensor, input: RecurrentInput = {}): RecurrentOutput {
    const { output, hn } = this.run(x, input);
    return { output, hn };
  }
}
