/** @file Single steps of recurrent nets, for loops of one's own. */

import { checkOneOf, checkOptions, notTensor } from "../../engine/arguments.ts";
import { type RecurrentCell, recurrentLayer, Tensor, zeros } from "../../engine/mod.ts";
import { Module } from "../module.ts";
import type { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";
import { GATES, recurrentParameter, stateOfOne } from "./_recurrent.ts";

/** Options of {@linkcode LSTMCell} and {@linkcode GRUCell}. */
export interface RecurrentCellOptions {
  /** Whether there are learned biases. Default true. */
  bias?: boolean;
}

/** Options of {@linkcode RNNCell}. */
export interface RNNCellOptions extends RecurrentCellOptions {
  /** What makes a state of the sum. Default "tanh". */
  nonlinearity?: "tanh" | "relu";
}

/** State of an LSTM. */
export interface LSTMState {
  /** [N, hiddenSize] or [hiddenSize] */
  h: Tensor;
  /** [N, hiddenSize] or [hiddenSize] */
  c: Tensor;
}

/** Base of the cells. Parameters have PyTorch's names and start uniform in ±1 / √hiddenSize. */
export abstract class RecurrentCellBase extends Module {
  /** Features an input has. */
  readonly inputSize: number;
  /** Features a state has. */
  readonly hiddenSize: number;
  /** [G · hiddenSize, inputSize] for G gates. */
  weight_ih: Parameter;
  /** [G · hiddenSize, hiddenSize] */
  weight_hh: Parameter;
  /** [G · hiddenSize] */
  bias_ih: Parameter | null = null;
  /** [G · hiddenSize] */
  bias_hh: Parameter | null = null;
  readonly #cell: RecurrentCell;

  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(
    cell: RecurrentCell,
    sizes: { inputSize: number; hiddenSize: number },
    options: RecurrentCellOptions,
  ) {
    checkOptions(
      `make ${new.target.name}`,
      options,
      `new nn.${new.target.name}(8, 16, { bias: false })`,
    );
    super();
    const { inputSize, hiddenSize } = sizes;
    checkSizes(this.constructor.name, { inputSize, hiddenSize });
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    this.#cell = cell;
    const rows = GATES[cell] * hiddenSize;
    const make = (shape: readonly number[]) => recurrentParameter(shape, hiddenSize);
    this.weight_ih = make([rows, inputSize]);
    this.weight_hh = make([rows, hiddenSize]);
    if (!(options.bias ?? true)) return;
    this.bias_ih = make([rows]);
    this.bias_hh = make([rows]);
  }

  /** One step on x [N, inputSize] or [inputSize]. */
  protected run(x: Tensor, h: Tensor | undefined, c?: Tensor): { h: Tensor; c?: Tensor } {
    if (h !== undefined && !(h instanceof Tensor)) {
      throw notTensor(`apply ${this.constructor.name}`, h);
    }
    if (![1, 2].includes(x.ndim) || x.shape.at(-1) !== this.inputSize) {
      throw new TypeError(
        `Cannot apply ${this.constructor.name} to [${x.shape.join(", ")}]: it must be [N, ` +
          `${this.inputSize}] or [${this.inputSize}]`,
      );
    }
    if (x.ndim === 1) {
      const of = this.constructor.name;
      const [h0, c0] = ([["h", h], ["c", c]] as const).map(([what, state]) =>
        stateOfOne(state, { of, what, ndim: 1 })?.unsqueeze(0)
      );
      const next = this.run(x.unsqueeze(0), h0, c0);
      return { h: next.h.squeeze(0), c: next.c?.squeeze(0) };
    }
    const start = () => zeros([x.shape[0]!, this.hiddenSize], { dtype: x.dtype });
    return recurrentLayer(x.unsqueeze(0), {
      cell: this.#cell,
      weights: {
        input: this.weight_ih,
        hidden: this.weight_hh,
        inputBias: this.bias_ih ?? undefined,
        hiddenBias: this.bias_hh ?? undefined,
      },
      h0: h ?? start(),
      c0: this.#cell === "lstm" ? c ?? start() : undefined,
    });
  }

  override extraRepr(): string {
    const bias = this.bias_ih ? "" : ", bias=False";
    return `${this.inputSize}, ${this.hiddenSize}${bias}`;
  }
}

/**
 * One step of {@linkcode LSTM}.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const cell = new nn.LSTMCell(8, 16);
 * let state = cell.forward(randn([3, 8]));
 * state = cell.forward(randn([3, 8]), state);
 * console.log(state.h.shape); // [3, 16]
 * ```
 */
export class LSTMCell extends RecurrentCellBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super("lstm", { inputSize, hiddenSize }, options);
  }

  /** x [N, inputSize], or [inputSize] → the next state. The state starts as zeros. */
  override forward(x: Tensor, state: Partial<LSTMState> = {}): LSTMState {
    checkOptions("apply LSTMCell", state, "cell.forward(x, { h, c })", ["h", "c"]);
    const { h, c } = this.run(x, state.h, state.c);
    return { h, c: c! };
  }
}

/** One step of {@linkcode GRU}. */
export class GRUCell extends RecurrentCellBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super("gru", { inputSize, hiddenSize }, options);
  }

  /** x [N, inputSize], h [N, hiddenSize] (default zeros), or both without N → the next h. */
  override forward(x: Tensor, h?: Tensor): Tensor {
    return this.run(x, h).h;
  }
}

/** One step of {@linkcode RNN}. */
export class RNNCell extends RecurrentCellBase {
  /** @throws {RangeError} If a size is not a whole number of at least 1. */
  constructor(inputSize: number, hiddenSize: number, options: RNNCellOptions = {}) {
    const { nonlinearity = "tanh" } = options;
    checkOneOf("make RNNCell", { nonlinearity }, ["tanh", "relu"]);
    super(nonlinearity, { inputSize, hiddenSize }, options);
  }

  /** x [N, inputSize], h [N, hiddenSize] (default zeros), or both without N → the next h. */
  override forward(x: Tensor, h?: Tensor): Tensor {
    return this.run(x, h).h;
  }
}
