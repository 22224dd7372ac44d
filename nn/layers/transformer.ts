/** @file Transformer layers and stacks of them; names, settings and text as PyTorch's. */

import type { Tensor } from "../../engine/mod.ts";
import { checkOneOf, checkOptions } from "../../engine/arguments.ts";
import { Module } from "../module.ts";
import { MultiheadAttention } from "./attention.ts";
import { checkSizes } from "./_check.ts";
import { ModuleList } from "./container.ts";
import { Linear } from "./linear.ts";
import { LayerNorm } from "./norm.ts";
import { Dropout } from "./shape.ts";

/** Options of {@linkcode TransformerEncoderLayer} and {@linkcode TransformerDecoderLayer}. */
export interface TransformerLayerOptions {
  /** Size between the two linear layers. Default 2048. */
  dimFeedforward?: number;
  /** Probability of a zero, of attention's weights and after each part. Default 0.1. */
  dropout?: number;
  /** Between the two linear layers. Default "relu". */
  activation?: "relu" | "gelu";
  /** Added to variances. Default 1e-5. */
  layerNormEps?: number;
  /** Whether tensors are [N, L, E] instead of [L, N, E]. Default false. */
  batchFirst?: boolean;
  /** Whether each part normalises its input (pre-norm) instead of its output. Default false. */
  normFirst?: boolean;
  /** Whether linear layers and norms have a bias. Default true. */
  bias?: boolean;
}

/** Options of {@linkcode TransformerEncoderLayer.forward}. */
export interface EncoderMasks {
  /** [L, L] or [N · heads, L, L]: bool, true where a place must not see another; or floats to add. */
  mask?: Tensor;
  /** [N, L] bool: true for places that no other may see. */
  keyPaddingMask?: Tensor;
  /** Lets place i see 0 to i only. Default false. */
  isCausal?: boolean;
}

/** Options of {@linkcode TransformerDecoderLayer.forward}. */
export interface DecoderMasks extends EncoderMasks {
  /** [L, S]: which places must not see which of the memory. */
  memoryMask?: Tensor;
  /** [N, S] bool: true for places of the memory that none may see. */
  memoryKeyPaddingMask?: Tensor;
}

const ENCODER_MASKS = ["mask", "keyPaddingMask", "isCausal"];
const DECODER_MASKS = [...ENCODER_MASKS, "memoryMask", "memoryKeyPaddingMask"];

type Settings = Readonly<Required<TransformerLayerOptions>>;

/** What layers of encoder and decoder share. */
abstract class TransformerLayer extends Module {
  /** Size E of a place. */
  readonly dModel: number;
  /** Heads of attention. */
  readonly nhead: number;
  /** The settings, with what was left out. */
  readonly settings: Settings;

  constructor(dModel: number, nhead: number, options: TransformerLayerOptions) {
    super();
    const name = this.constructor.name;
    checkOptions(`make ${name}`, options, `new nn.${name}(512, 8, { batchFirst: true })`);
    const settings: Settings = {
      dimFeedforward: options.dimFeedforward ?? 2048,
      dropout: options.dropout ?? 0.1,
      activation: options.activation ?? "relu",
      layerNormEps: options.layerNormEps ?? 1e-5,
      batchFirst: options.batchFirst ?? false,
      normFirst: options.normFirst ?? false,
      bias: options.bias ?? true,
    };
    const { dimFeedforward, activation } = settings;
    checkSizes(name, { dModel, nhead, dimFeedforward });
    checkOneOf(`make ${name}`, { activation }, ["relu", "gelu"]);
    this.dModel = dModel;
    this.nhead = nhead;
    this.settings = settings;
  }

  /** x + part(norm(x)), or norm(x + part(x)). */
  protected around(x: Tensor, norm: LayerNorm, part: (x: Tensor) => Tensor): Tensor {
    return this.settings.normFirst ? x.add(part(norm.forward(x))) : norm.forward(x.add(part(x)));
  }
}

function attentionOf(dModel: number, nhead: number, settings: Settings): MultiheadAttention {
  const { dropout, bias, batchFirst } = settings;
  return new MultiheadAttention(dModel, nhead, { dropout, bias, batchFirst });
}

function normOf(dModel: number, { layerNormEps: eps, bias }: Settings): LayerNorm {
  return new LayerNorm([dModel], { eps, bias });
}

/** Layers of equal sizes that start as `layer` does, which becomes the first. */
function repeated<L extends TransformerLayer>(
  layer: L,
  count: number,
  make: new (dModel: number, nhead: number, options: TransformerLayerOptions) => L,
): ModuleList<L> {
  checkSizes("a Transformer", { numLayers: count });
  if (layer.constructor !== make) {
    throw new TypeError(
      `Cannot repeat a ${layer.constructor.name}: only a ${make.name} itself; put layers of your own into a ` +
        "ModuleList",
    );
  }
  const parameters = layer.parameters();
  const layers = Array.from({ length: count }, (_, i) => {
    if (i === 0) return layer;
    const other = new make(layer.dModel, layer.nhead, layer.settings).to(parameters[0]!.dtype);
    other.loadStateDict(layer.stateDict());
    other.parameters().forEach((p, k) => p.requiresGrad_(parameters[k]!.requiresGrad));
    return other.train(layer.training);
  });
  return new ModuleList(layers);
}

/**
 * Self-attention, then a feed-forward part, each with a shortcut and a norm: x [L, N, E] → y [L, N, E],
 * or both without N.
 *
 * Source: Vaswani et al., "Attention is all you need", https://arxiv.org/abs/1706.03762, and
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoderLayer.html
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const layer = new nn.TransformerEncoderLayer(16, 4, { dimFeedforward: 32, batchFirst: true });
 * const encoder = new nn.TransformerEncoder(layer, 2);
 * console.log(encoder.forward(randn([3, 5, 16]), { isCausal: true }).shape); // [3, 5, 16]
 * ```
 */
export class TransformerEncoderLayer extends TransformerLayer {
  /** Attention among the places. */
  self_attn: MultiheadAttention;
  /** E → dimFeedforward */
  linear1: Linear;
  /** After the activation. */
  dropout: Dropout;
  /** dimFeedforward → E */
  linear2: Linear;
  /** Of the attention. */
  norm1: LayerNorm;
  /** Of the feed-forward part. */
  norm2: LayerNorm;
  /** After the attention. */
  dropout1: Dropout;
  /** After the feed-forward part. */
  dropout2: Dropout;

  /**
   * @param dModel Size E of a place.
   * @param nhead Heads of attention.
   * @param options The other settings.
   * @throws {RangeError} If a size is out of range, or the heads do not divide E.
   */
  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super(dModel, nhead, options);
    const { dimFeedforward, dropout, bias } = this.settings;
    this.self_attn = attentionOf(dModel, nhead, this.settings);
    this.linear1 = new Linear(dModel, dimFeedforward, { bias });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias });
    this.norm1 = normOf(dModel, this.settings);
    this.norm2 = normOf(dModel, this.settings);
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
  }

  /** x [L, N, E], or [N, L, E] with batchFirst → the same shape. */
  override forward(x: Tensor, masks: EncoderMasks = {}): Tensor {
    checkOptions("encode", masks, "layer.forward(x, { mask })", ENCODER_MASKS);
    const { mask: attnMask, keyPaddingMask, isCausal } = masks;
    const y = this.around(
      x,
      this.norm1,
      (t) =>
        this.dropout1.forward(this.self_attn.forward(t, { attnMask, keyPaddingMask, isCausal })),
    );
    return this.around(y, this.norm2, (t) => {
      const wide = this.linear1.forward(t);
      const active = this.settings.activation === "gelu" ? wide.gelu() : wide.relu();
      return this.dropout2.forward(this.linear2.forward(this.dropout.forward(active)));
    });
  }
}

/**
 * Self-attention, attention to a memory, then a feed-forward part, each with a shortcut and a norm: x
 * [L, N, E] and memory [S, N, E] → y [L, N, E], or all without N.
 *
 * Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerDecoderLayer.html
 */
export class TransformerDecoderLayer extends TransformerLayer {
  /** Attention among the places. */
  self_attn: MultiheadAttention;
  /** Attention to the memory. */
  multihead_attn: MultiheadAttention;
  /** E → dimFeedforward */
  linear1: Linear;
  /** After the activation. */
  dropout: Dropout;
  /** dimFeedforward → E */
  linear2: Linear;
  /** Of the self-attention. */
  norm1: LayerNorm;
  /** Of the attention to the memory. */
  norm2: LayerNorm;
  /** Of the feed-forward part. */
  norm3: LayerNorm;
  /** After the self-attention. */
  dropout1: Dropout;
  /** After the attention to the memory. */
  dropout2: Dropout;
  /** After the feed-forward part. */
  dropout3: Dropout;

  /**
   * @param dModel Size E of a place.
   * @param nhead Heads of attention.
   * @param options The other settings.
   * @throws {RangeError} If a size is out of range, or the heads do not divide E.
   */
  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super(dModel, nhead, options);
    const { dimFeedforward, dropout, bias } = this.settings;
    this.self_attn = attentionOf(dModel, nhead, this.settings);
    this.multihead_attn = attentionOf(dModel, nhead, this.settings);
    this.linear1 = new Linear(dModel, dimFeedforward, { bias });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias });
    this.norm1 = normOf(dModel, this.settings);
    this.norm2 = normOf(dModel, this.settings);
    this.norm3 = normOf(dModel, this.settings);
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
    this.dropout3 = new Dropout(dropout);
  }

  /** x [L, N, E] and memory [S, N, E], or [N, …, E] with batchFirst → the shape of x. */
  override forward(x: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    checkOptions("decode", masks, "layer.forward(x, memory, { mask })", DECODER_MASKS);
    const { mask: attnMask, keyPaddingMask, isCausal } = masks;
    const seen = { attnMask: masks.memoryMask, keyPaddingMask: masks.memoryKeyPaddingMask };
    const own = this.around(
      x,
      this.norm1,
      (t) =>
        this.dropout1.forward(this.self_attn.forward(t, { attnMask, keyPaddingMask, isCausal })),
    );
    const both = this.around(
      own,
      this.norm2,
      (t) => this.dropout2.forward(this.multihead_attn.forward(t, { key: memory, ...seen })),
    );
    return this.around(both, this.norm3, (t) => {
      const wide = this.linear1.forward(t);
      const active = this.settings.activation === "gelu" ? wide.gelu() : wide.relu();
      return this.dropout3.forward(this.linear2.forward(this.dropout.forward(active)));
    });
  }
}

/** Encoder layers one after the other, and a norm where one is given. */
export class TransformerEncoder extends Module {
  /** The layers, first to last. */
  layers: ModuleList<TransformerEncoderLayer>;
  /** After the last layer. */
  norm: LayerNorm | null;

  /**
   * @param layer The first layer; the others start as it does.
   * @param numLayers How many layers.
   * @param norm Norm after the last one: what `normFirst` needs.
   */
  constructor(layer: TransformerEncoderLayer, numLayers: number, norm: LayerNorm | null = null) {
    super();
    this.layers = repeated(layer, numLayers, TransformerEncoderLayer);
    this.norm = norm;
  }
  /** x [L, N, E], or [N, L, E] with batchFirst → the same shape. */
  override forward(x: Tensor, masks: EncoderMasks = {}): Tensor {
    let y = x;
    for (const layer of this.layers) y = layer.forward(y, masks);
    return this.norm ? this.norm.forward(y) : y;
  }
}

/** Decoder layers one after the other, and a norm where one is given. */
export class TransformerDecoder extends Module {
  /** The layers, first to last. */
  layers: ModuleList<TransformerDecoderLayer>;
  /** After the last layer. */
  norm: LayerNorm | null;

  /**
   * @param layer The first layer; the others start as it does.
   * @param numLayers How many layers.
   * @param norm Norm after the last one: what `normFirst` needs.
   */
  constructor(layer: TransformerDecoderLayer, numLayers: number, norm: LayerNorm | null = null) {
    super();
    this.layers = repeated(layer, numLayers, TransformerDecoderLayer);
    this.norm = norm;
  }
  /** x [L, N, E] and memory [S, N, E], or [N, …, E] with batchFirst → the shape of x. */
  override forward(x: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    let y = x;
    for (const layer of this.layers) y = layer.forward(y, memory, masks);
    return this.norm ? this.norm.forward(y) : y;
  }
}
