/** Attention, made of matrix products and a softmax. */

import { checkOptions } from "./arguments.ts";
import { arange, full } from "./creation.ts";
import { dropout as dropoutOf } from "./functions.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** Queries [..., L, E], keys [..., S, E] and values [..., S, V]. */
export interface AttentionInputs {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
}

/** Options of {@linkcode scaledDotProductAttention}. */
export interface AttentionOptions {
  /** Broadcast to [..., L, S]: bool, true where a query may see a key; or floats added to the scores. */
  mask?: Tensor;
  /** Lets query i see keys 0 to i only. Default false. */
  causal?: boolean;
  /** Probability that a weight becomes 0. Default 0; pass 0 in evaluation. */
  dropout?: number;
  /** Factor of the scores. Default 1 / √E. */
  scale?: number;
}

/** True where query i may see key j: [L, S] bool, on and below the diagonal. */
function causalMask(L: number, S: number): Tensor {
  return arange(L).unsqueeze(1).ge(arange(S).unsqueeze(0));
}

/** The output of attention [..., L, V] and its weights [..., L, S], after dropout. */
export function attention(
  { query, key, value }: AttentionInputs,
  options: AttentionOptions = {},
): { output: Tensor; weights: Tensor } {
  checkOptions(
    "attend",
    options,
    "scaledDotProductAttention({ query, key, value }, { causal: true })",
  );
  const { mask, causal = false, dropout = 0 } = options;
  const [L, E] = query.shape.slice(-2);
  const [S, keySize] = key.shape.slice(-2);
  const fits = query.ndim >= 2 && key.ndim >= 2 && value.ndim >= 2 && E === keySize &&
    S === value.shape.at(-2);
  if (!fits) {
    throw new TypeError(
      `Cannot attend from ${show(query.shape)} to keys ${show(key.shape)} and values ` +
        `${show(value.shape)}: they must be [..., L, E], [..., S, E] and [..., S, V]`,
    );
  }
  const scale = options.scale ?? 1 / Math.sqrt(E!);
  const scores = query.mul(scale).matmul(key.transpose(-2, -1));
  let weights = mask
    ? masked(scores, causal ? both(mask, causalMask(L!, S!)) : mask)
    : (causal ? chosen(scores, causalMask(L!, S!), -Infinity) : scores).softmax(-1);
  if (dropout > 0) weights = dropoutOf(weights, dropout);
  return { output: weights.matmul(value), weights };
}

/** x where `cond`, else `value`. */
function chosen(x: Tensor, cond: Tensor, value: number): Tensor {
  return x.where(cond, full([], value, { dtype: x.dtype }));
}

/** The mask, which also hides what is not `seen`. */
function both(mask: Tensor, seen: Tensor): Tensor {
  return mask.dtype === "bool" ? mask.logicalAnd(seen) : chosen(mask, seen, -Infinity);
}

/**
 * The softmax of scores under a mask, 0 for queries that may see no key. These see all keys until then: a softmax of
 * nothing but -∞ is NaN, and so are its gradients.
 */
function masked(scores: Tensor, mask: Tensor): Tensor {
  const isBool = mask.dtype === "bool";
  const some = (isBool ? mask : mask.detach().ne(-Infinity)).any(-1, { keepdim: true });
  const under = isBool
    ? chosen(scores, mask.logicalOr(some.logicalNot()), -Infinity)
    : scores.add(chosen(mask, some, 0));
  return chosen(under.softmax(-1), some, 0);
}

/**
 * softmax(scale · query · keyᵀ + mask) · value.
 *
 * A query that may see no key at all gives 0, as PyTorch's since 2.5.
 * Source: Vaswani et al., "Attention is all you need", https://arxiv.org/abs/1706.03762
 *
 * @returns [..., L, V]
 * @throws {TypeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { init, randn, scaledDotProductAttention } from "../mod.ts";
 * await init();
 * const [query, key, value] = [randn([2, 4, 8]), randn([2, 6, 8]), randn([2, 6, 3])];
 * console.log(scaledDotProductAttention({ query, key, value }).shape); // [2, 4, 3]
 * ```
 */
export function scaledDotProductAttention(
  inputs: AttentionInputs,
  options: AttentionOptions = {},
): Tensor {
  return attention(inputs, options).output;
}
