/** @file Multi-head attention, and dropping whole branches. */

import { checkOptions } from "../../engine/arguments.ts";
import { attention, dropout, noGrad, ones, type Tensor, zeros } from "../../engine/mod.ts";
import { xavierUniform } from "../init.ts";
import { Module } from "../module.ts";
import { Parameter } from "../parameter.ts";
import { checkSizes } from "./_check.ts";
import { Linear } from "./linear.ts";

/** Options of {@linkcode MultiheadAttention}. */
export interface MultiheadAttentionOptions {
  /** Probability that a weight becomes 0 in training. Default 0. */
  dropout?: number;
  /** Whether the projections have a bias. Default true. */
  bias?: boolean;
  /** Whether tensors are [N, L, E] instead of [L, N, E]. Default false. */
  batchFirst?: boolean;
  /** Size of the keys. Default E. */
  kdim?: number;
  /** Size of the values. Default E. */
  vdim?: number;
}

/** Options of {@linkcode MultiheadAttention.forward}. */
export interface MultiheadAttentionCall {
  /** [S, N, kdim], or [S, kdim] beside a query [L, E]. Default: the query. */
  key?: Tensor;
  /** [S, N, vdim], or [S, vdim]. Default: the key. */
  value?: Tensor;
  /** [L, S] or [N · heads, L, S]: bool, true where a query must not see a key; or floats to add. N is 1 without a batch. */
  attnMask?: Tensor;
  /** [N, S], or [S] without a batch, bool: true for keys that no query may see. */
  keyPaddingMask?: Tensor;
  /** Lets query i see keys 0 to i only. Default false. */
  isCausal?: boolean;
}

/**
 * Attention of numHeads heads: queries [L, N, E], keys [S, N, kdim] and values [S, N, vdim] → [L, N, E], or all
 * without N.
 *
 * Names, start and the sense of bool masks (true is hidden) are PyTorch's:
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const layer = new nn.MultiheadAttention(8, 2, { batchFirst: true });
 * console.log(layer.forward(randn([3, 5, 8])).shape); // [3, 5, 8]
 * ```
 */
export class MultiheadAttention extends Module {
  /** Size E of queries, keys, values and outputs. */
  readonly embedDim: number;
  /** Heads the size is cut into. */
  readonly numHeads: number;
  /** Probability that a weight becomes 0 in training. */
  readonly dropout: number;
  /** Whether tensors are [N, L, E]. */
  readonly batchFirst: boolean;
  /** Size of the keys. */
  readonly kdim: number;
  /** Size of the values. */
  readonly vdim: number;
  /** Projection of the queries [E, E], where keys or values have a size of their own. */
  q_proj_weight: Parameter | null = null;
  /** Then that of the keys: [E, kdim] */
  k_proj_weight: Parameter | null = null;
  /** Then that of the values: [E, vdim] */
  v_proj_weight: Parameter | null = null;
  /** Projections of queries, keys and values where all have size E: [3 · E, E] */
  in_proj_weight: Parameter | null = null;
  /** [3 · E] */
  in_proj_bias: Parameter | null;
  /** The output's projection. */
  out_proj: Linear;

  /** @throws {RangeError} If a size is out of range, or the heads do not divide it. */
  constructor(embedDim: number, numHeads: number, options: MultiheadAttentionOptions = {}) {
    checkOptions(
      "make MultiheadAttention",
      options,
      "new nn.MultiheadAttention(64, 8, { batchFirst: true })",
    );
    super();
    const { dropout = 0, bias = true, batchFirst = false, kdim = embedDim, vdim = embedDim } =
      options;
    checkSizes("MultiheadAttention", { embedDim, numHeads, kdim, vdim });
    if (embedDim % numHeads !== 0) {
      throw new RangeError(
        `Cannot make MultiheadAttention of size ${embedDim} with ${numHeads} heads: heads must ` +
          "divide the size",
      );
    }
    checkRate("MultiheadAttention", "dropout", dropout);
    this.embedDim = embedDim;
    this.numHeads = numHeads;
    this.dropout = dropout;
    this.batchFirst = batchFirst;
    this.kdim = kdim;
    this.vdim = vdim;
    const projection = (rows: number, columns: number) => {
      const weight = new Parameter(zeros([rows, columns]));
      xavierUniform(weight);
      return weight;
    };
    if (kdim === embedDim && vdim === embedDim) {
      this.in_proj_weight = projection(3 * embedDim, embedDim);
    } else {
      this.q_proj_weight = projection(embedDim, embedDim);
      this.k_proj_weight = projection(embedDim, kdim);
      this.v_proj_weight = projection(embedDim, vdim);
    }
    this.in_proj_bias = bias ? new Parameter(zeros([3 * embedDim])) : null;
    this.out_proj = new Linear(embedDim, embedDim, { bias });
    noGrad(() => this.out_proj.bias?.zero_());
  }

  /** The output for `query`, which attends to itself unless keys are given. */
  override forward(query: Tensor, options: MultiheadAttentionCall = {}): Tensor {
    return this.attend(query, options).output;
  }

  /** The output, and the weights [N, L, S], or [L, S], averaged over the heads. */
  attend(
    query: Tensor,
    options: MultiheadAttentionCall = {},
  ): { output: Tensor; weights: Tensor } {
    checkOptions("attend", options, "attention.forward(query, { key, value })");
    const { key = query, attnMask, keyPaddingMask, isCausal } = options;
    const value = options.value ?? key;
    if (keyPaddingMask && keyPaddingMask.dtype !== "bool") {
      throw new TypeError(
        `Cannot attend with a keyPaddingMask of dtype ${keyPaddingMask.dtype}: it must be bool, true ` +
          "for keys that no query may see; attnMask takes floats",
      );
    }
    const { embedDim: E, kdim, vdim, batchFirst } = this;
    const one = query.ndim === 2;
    const given = [["queries", query, E], ["keys", key, kdim], ["values", value, vdim]] as const;
    for (const [what, t, size] of given) {
      if (t.ndim === (one ? 2 : 3) && t.shape.at(-1) === size) continue;
      const batch = `${batchFirst ? "[N, L, E]" : "[L, N, E]"}`;
      throw new TypeError(
        `Cannot attend with ${what} [${t.shape.join(", ")}]: they must be ` +
          `${what === "queries" ? `${batch} or [L, E]` : one ? "[L, E]" : batch} with E = ${size}`,
      );
    }
    if (one) {
      if (keyPaddingMask && keyPaddingMask.ndim !== 1) {
        throw new TypeError(
          `Cannot attend with a keyPaddingMask [${
            keyPaddingMask.shape.join(", ")
          }]: it must be [S], ` +
            "as the queries have no batch",
        );
      }
      const place = batchFirst ? 0 : 1;
      const { output, weights } = this.attend(query.unsqueeze(place), {
        ...options,
        key: key.unsqueeze(place),
        value: value.unsqueeze(place),
        keyPaddingMask: keyPaddingMask?.unsqueeze(0),
      });
      return { output: output.squeeze(place), weights: weights.squeeze(0) };
    }
    const first = (t: Tensor) => batchFirst ? t : t.transpose(0, 1);
    const [q, k, v] = this.#project(first(query), first(key), first(value));
    const { output, weights } = attention({ query: q, key: k, value: v }, {
      mask: this.#mask(attnMask, keyPaddingMask),
      causal: isCausal,
      dropout: this.training ? this.dropout : 0,
    });
    const [N, , L] = output.shape as [number, number, number];
    const joined = this.out_proj.forward(output.permute(0, 2, 1, 3).reshape(N, L, E));
    return { output: first(joined), weights: weights.mean(1) };
  }

  /** Queries, keys and values of each head: [N, heads, L, E / heads]. */
  #project(query: Tensor, key: Tensor, value: Tensor): [Tensor, Tensor, Tensor] {
    const { embedDim: E, numHeads, in_proj_weight: whole, in_proj_bias: bias } = this;
    const weights = [this.q_proj_weight, this.k_proj_weight, this.v_proj_weight];
    const heads = (t: Tensor) =>
      t.reshape(t.shape[0]!, t.shape[1]!, numHeads, E / numHeads).permute(0, 2, 1, 3);
    const all = [query, key, value].map((t, i) =>
      heads(t.linear(weights[i] ?? whole!.narrow(0, i * E, E), bias?.narrow(0, i * E, E)))
    );
    return all as [Tensor, Tensor, Tensor];
  }

  /** What attention adds to its scores, broadcast to [N, heads, L, S]. */
  #mask(attnMask?: Tensor, keyPaddingMask?: Tensor): Tensor | undefined {
    const each = attnMask?.ndim === 3
      ? attnMask.reshape(-1, this.numHeads, attnMask.shape[1]!, attnMask.shape[2]!)
      : attnMask;
    const padding = keyPaddingMask?.unsqueeze(1).unsqueeze(1);
    if (!each || !padding) return seen(each ?? padding);
    if (each.dtype === "bool") return each.logicalOr(padding).logicalNot();
    return each.where(padding.logicalNot(), zeros([]).sub(Infinity));
  }
}

/** A mask of what is hidden as a mask of what is seen; floats stay. */
function seen(mask?: Tensor): Tensor | undefined {
  return mask?.dtype === "bool" ? mask.logicalNot() : mask;
}

function checkRate(layer: string, name: string, p: number): void {
  if (!(p >= 0 && p < 1)) {
    throw new RangeError(
      `Cannot make ${layer} with ${name} ${p}: it must be at least 0 and below 1`,
    );
  }
}

/**
 * While training: each sample of x [N, …] is 0 with probability p, else x / (1 − p). In evaluation y = x.
 * On a branch beside a shortcut it drops the whole branch.
 *
 * Source: Huang et al., "Deep networks with stochastic depth", https://arxiv.org/abs/1603.09382
 */
export class DropPath extends Module {
  /** Probability of a zero. */
  readonly p: number;

  /**
   * @param p Probability of a zero, below 1.
   * @throws {RangeError} If p is out of range.
   */
  constructor(p = 0) {
    super();
    checkRate("DropPath", "p", p);
    this.p = p;
  }
  /** Same shape as x; x itself in evaluation and with p = 0. */
  override forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    return x.mul(dropout(ones([x.shape[0] ?? 1, ...x.shape.slice(1).map(() => 1)]), this.p));
  }
  override extraRepr(): string {
    return `drop_prob=${this.p}`;
  }
}
