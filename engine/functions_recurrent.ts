/** Recurrent layers as functions; the modules around them are in `nn/layers/recurrent.ts`. */

import type { RecurrentCell } from "./kernels/recurrent.ts";
import { recurrent } from "./ops/recurrent.ts";
import { apply, type Tensor } from "./tensor.ts";

export type { RecurrentCell } from "./kernels/recurrent.ts";

/** Parameters of {@linkcode recurrentLayer}, with G gates: LSTM i f g o, GRU r z n, RNN one. */
export interface RecurrentWeights {
  /** [G·H, I] */
  readonly input: Tensor;
  /** [G·H, H] */
  readonly hidden: Tensor;
  /** [G·H] */
  readonly inputBias?: Tensor;
  /** [G·H]; GRU's third part lies inside the product with r. */
  readonly hiddenBias?: Tensor;
}

/** What {@linkcode recurrentLayer} takes besides the input. */
export interface RecurrentLayerOptions {
  /** Kind of cell; `tanh` and `relu` are plain recurrent nets. */
  readonly cell: RecurrentCell;
  readonly weights: RecurrentWeights;
  /** State to start from [N, H]. */
  readonly h0: Tensor;
  /** Cell state to start from [N, H], for an LSTM. */
  readonly c0?: Tensor;
  /** Walks from the last time step to the first. Default false. */
  readonly reverse?: boolean;
  /** Time steps of each sequence, i32 [N]; what lies past them changes nothing and gets no
   * gradient, but must be finite. */
  readonly lengths?: Tensor;
}

/** Output of {@linkcode recurrentLayer}. */
export interface RecurrentLayerResult {
  /** States at all time steps [T, N, H]; 0 past a sequence's end. */
  readonly output: Tensor;
  /** State after each sequence's last step [N, H]; without `lengths` a view of `output`. */
  readonly h: Tensor;
  /** Cell state there, for an LSTM. */
  readonly c?: Tensor;
}

/**
 * One direction of one recurrent layer over x [T, N, I]: one product for the input gates of all time
 * steps, then a product and a kernel a step. All tensors are f32, or all f16 (`lengths` apart): the cell
 * state and all sums are f32 inside then, too, and gradients f16.
 *
 * @throws {TypeError} if shapes or dtypes do not fit, or T is 0
 */
export function recurrentLayer(x: Tensor, options: RecurrentLayerOptions): RecurrentLayerResult {
  const { cell, weights, h0, c0, reverse = false, lengths } = options;
  if ((cell === "lstm") !== (c0 !== undefined)) {
    throw new TypeError(
      `Cannot run ${cell} ${c0 ? "with" : "without"} c0: an LSTM has a cell state, others none`,
    );
  }
  const gx = x.linear(weights.input, weights.inputBias);
  const inputs = [gx, weights.hidden, h0];
  if (c0) inputs.push(c0);
  if (weights.hiddenBias) inputs.push(weights.hiddenBias);
  if (lengths) inputs.push(lengths);
  const [output, h, c] = apply(recurrent, inputs, {
    cell,
    reverse,
    bias: weights.hiddenBias !== undefined,
    masked: lengths !== undefined,
  });
  return { output: output!, h: h!, c };
}
