/** The gradient of a recurrent layer: its steps once more, one op after the other, and the gradient of those. */

import { stack, zeros } from "../creation.ts";
import { where } from "../functions_pointwise.ts";
import { reshape } from "../ops/movement.ts";
import { unary } from "../ops/pointwise.ts";
import type { RecurrentAttrs } from "../ops/recurrent.ts";
import type { Tensor } from "../tensor.ts";
import { type DoubleRule, known } from "./rule.ts";

/** A step's state, and the cell of an LSTM. */
interface State {
  readonly h: Tensor;
  readonly c?: Tensor;
}

/** What a step adds up, for all gates [N, G·H]: the input's shares and those of the last state. */
interface Sums {
  readonly fromX: Tensor;
  readonly fromH: Tensor;
}

/**
 * Gates are known, as the op saved them; what they were made of is not, and need not be: it is put in its place
 * on the tape with zeros for gx and the bias, which only add.
 */
export const recurrent: DoubleRule<RecurrentAttrs> = (ctx, grads) => {
  const { cell, reverse, bias, masked } = ctx.attrs;
  const lstm = cell === "lstm";
  const [w, states, kept, ...rest] = ctx.saved;
  const hs = ctx.constant(states!).to("f32"); // [T + 1, N, H]
  const gates = ctx.constant(kept!); // [T, N, K·H]
  const cells = lstm ? ctx.constant(rest.shift()!) : null;
  const lengths = masked ? ctx.constant(rest.shift()!) : null;
  const T = ctx.inputs[0]!.shape[0]!;
  const H = hs.shape[2]!;
  const [start, biasAt] = [reverse ? T : 0, lstm ? 4 : 3];
  const inPlace = (i: number, value: Tensor) => ctx.input(i, value.to(ctx.inputs[i]!.dtype).device);
  const gx = inPlace(0, zeros(ctx.inputs[0]!.shape));
  const weight = ctx.input(1, w!);
  const h0 = inPlace(2, hs.select(0, start));
  const c0 = cells && inPlace(3, cells.select(0, start));
  const b = bias ? inPlace(biasAt, zeros(ctx.inputs[biasAt]!.shape)) : null;

  const outputs: Tensor[] = new Array(T);
  let state: State = { h: h0, c: c0 ?? undefined };
  for (let i = 0; i < T; i++) {
    const t = reverse ? T - 1 - i : i;
    const product = state.h.matmul(weight.transpose(0, 1));
    const sums = { fromX: gx.select(0, t), fromH: b ? product.add(b) : product };
    const after = hs.select(0, reverse ? t : t + 1);
    const next = step(ctx.attrs, sums, state, { after, kept: gates.select(0, t), H });
    if (lengths) {
      const live = lengths.gt(t).unsqueeze(1);
      outputs[t] = where(live, next.h, 0);
      const { h, c } = state;
      state = { h: where(live, next.h, h), c: next.c && where(live, next.c, c!) };
    } else {
      outputs[t] = next.h;
      state = next;
    }
  }
  const made = ctx.gradients(
    [stack(outputs), state.h, ...(state.c ? [state.c] : [])],
    grads,
    [gx, weight, h0, ...(c0 ? [c0] : []), ...(b ? [b] : [])],
  );
  return masked ? [...made, null] : made;
};

function step(
  { cell }: RecurrentAttrs,
  { fromX, fromH }: Sums,
  state: State,
  given: { readonly after: Tensor; readonly kept: Tensor; readonly H: number },
): State {
  const { after, kept, H } = given;
  const part = (t: Tensor, k: number) => t.narrow(1, k * H, H);
  const gate = (k: number) => part(fromX, k).add(part(fromH, k));
  const { sigmoid, tanh, relu } = unary;
  const value = (k: number) => part(kept, k).contiguous();
  switch (cell) {
    case "lstm": {
      const [i, f, g, o] = [sigmoid, sigmoid, tanh, sigmoid].map((op, k) =>
        known(op, gate(k), { value: value(k), attrs: {} })
      ) as [Tensor, Tensor, Tensor, Tensor];
      const c = f.mul(state.c!).add(i.mul(g));
      return { h: o.mul(c.tanh()), c };
    }
    case "gru": {
      const [r, z] = [0, 1].map((k) => known(sigmoid, gate(k), { value: value(k), attrs: {} })) as [
        Tensor,
        Tensor,
      ];
      const last = value(3);
      const hidden = known(reshape, part(fromH, 2), {
        value: last,
        attrs: { shape: last.shape },
        saved: [],
      });
      const n = known(tanh, part(fromX, 2).add(r.mul(hidden)), { value: value(2), attrs: {} });
      return { h: n.add(z.mul(state.h.sub(n))) };
    }
    case "tanh":
      return { h: known(tanh, gate(0), { value: after, attrs: {} }) };
    case "relu":
      // Its gradient asks for the sign of the sum alone, which is that of the result.
      return { h: known(relu, gate(0), { value: after, attrs: {} }) };
  }
}
